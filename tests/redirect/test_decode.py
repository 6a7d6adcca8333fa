"""Compares our decoder with llvm-objdump over whole DLLs: every instruction that objdump prints must have the same
length, the same flow and the same target. usage: test_decode.py decode_dump llvm-objdump file.dll ..."""
import os
import re
import subprocess
import sys

# What objdump calls the instructions whose flow we tell apart.
JUMP = re.compile(r"^(notrack |bnd |data16 )*jmp[wlq]?$")
CALL = re.compile(r"^(notrack |bnd |data16 |rex64 )*call[wlq]?$")
BRANCH = re.compile(r"^(j(?!mp)[a-z]+|loop[a-z]*)$")
END = re.compile(r"^(rep[a-z]* )?(ret[wlqf]*|int3|ud2|hlt|iret[a-z]*|lret[a-z]*)$")
A64 = {"b": "J", "bl": "C", "cbz": "B", "cbnz": "B", "tbz": "B", "tbnz": "B", "br": "I", "blr": "D", "ret": "E",
       "brk": "E", "udf": "E", "hlt": "E", "eret": "E", "retaa": "E", "retab": "E", "eretaa": "E", "eretab": "E",
       "braa": "I", "brab": "I", "braaz": "I", "brabz": "I", "blraa": "D", "blrab": "D", "blraaz": "D", "blrabz": "D"}


def flow_of(mnemonic, operands, is_arm):
    if is_arm:
        if mnemonic.startswith(("b.", "bc.")):
            return "B"
        return A64.get(mnemonic, "N")
    is_direct = not operands.startswith("*")
    if JUMP.match(mnemonic):
        return "J" if is_direct else "I"
    if CALL.match(mnemonic):
        return "C" if is_direct else "D"
    if BRANCH.match(mnemonic):
        return "B"
    return "E" if END.match(mnemonic) else "N"


def listing(objdump, path):
    """(address, bytes, mnemonic, operands) of every instruction that objdump believes in."""
    out = subprocess.run([objdump, "-d", path], capture_output=True, text=True, check=True).stdout
    row = re.compile(r"^\s*([0-9a-f]+):((?: [0-9a-f]{2})+|\s[0-9a-f]{8})\s+(\S+)\s*(.*)$")
    prefixes = {"lock", "rep", "repe", "repne", "repz", "repnz", "notrack", "bnd", "data16", "rex64", "xacquire", "xrelease"}
    held = None  # a prefix that objdump prints as an instruction of its own
    for line in out.splitlines():
        m = row.match(line)
        if not m or "(bad)" in line or "<unknown>" in line:
            continue
        code = m.group(2).strip()
        data = bytes.fromhex(code) if " " in code or len(code) == 2 else bytes.fromhex(code)[::-1]
        mnemonic, operands = m.group(3), m.group(4).split("#")[0].strip()
        address = int(m.group(1), 16)
        if mnemonic in prefixes and not operands:
            held = (address if held is None else held[0], (b"" if held is None else held[1]) + data)
            continue
        if held is not None:
            address, data, held = held[0], held[1] + data, None
        while mnemonic in prefixes and operands:
            mnemonic, _, operands = operands.partition("\t") if "\t" in operands else operands.partition(" ")
            operands = operands.strip()
        yield address, data, mnemonic, operands


def main():
    dump, objdump, *paths = sys.argv[1:]
    total = wrong = unread = 0
    met = {}  # flows seen, by processor
    for path in paths:
        if not os.path.exists(path):
            continue
        header = subprocess.run([objdump, "-f", path], capture_output=True, text=True, check=True).stdout
        cpu = "arm64" if "aarch64" in header else "x86" if "i386" in header else "x64"
        rows = list(listing(objdump, path))
        feed = "".join(f"{address:x} {data.hex()}\n" for address, data, _, _ in rows)
        answers = subprocess.run([dump, cpu], input=feed, capture_output=True, text=True, check=True).stdout.splitlines()
        assert len(answers) == len(rows), "the decoder did not answer every line"
        for (address, data, mnemonic, operands), answer in zip(rows, answers):
            total += 1
            if answer == "?":
                unread += 1
                if unread <= 20:
                    print(f"{path} {address:x}: {data.hex()} {mnemonic} {operands}: not decoded")
                continue
            length, flow, target = answer.split()
            met.setdefault(cpu, set()).add(flow)
            wanted = flow_of(mnemonic, operands, cpu == "arm64")
            is_good = int(length) == len(data) and flow == wanted
            if flow in "JBC" and re.match(r"^(0x)?[0-9a-f]+( |$)", operands.split(",")[-1].strip()):
                there = operands.split(",")[-1].strip().split()[0].removeprefix("0x")
                is_good = is_good and int(there, 16) == int(target, 16)
            if not is_good:
                wrong += 1
                if wrong <= 20:
                    print(f"{path} {address:x}: {data.hex()} {mnemonic} {operands}: decoded as {answer}")
    print(f"{total} instructions, {wrong} wrong, {unread} not decoded")
    if any(met.get(cpu) != set("NJBCDIE") for cpu in ("x86", "x64", "arm64")):
        print("not every flow on every processor:", {cpu: "".join(sorted(flows)) for cpu, flows in met.items()})
        return 1
    # objdump also prints data between functions as if it were code: a handful cannot be read.
    return 0 if total > 1000 and wrong == 0 and unread <= total // 2000 else 1


if __name__ == "__main__":
    sys.exit(main())
