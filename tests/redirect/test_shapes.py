"""Every way in which a function of a real C runtime begins (shapes.txt), as a function of a made-up CRT: with the
smallest length and the smallest distance to the next function that were ever seen. The planner must accept each, and
where it moves the first instructions they must do the same at their new place.

usage: test_shapes.py plan_dump clang llvm-mc
"""
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import FAILED, check  # noqa: E402  (the path is set above)
from make_image import CORE, Image  # noqa: E402  (the path is set above)

JCC = {"jo": 0, "jb": 2, "jae": 3, "je": 4, "jne": 5, "jbe": 6, "ja": 7}
# What an assembler would encode in another way.
EXACT = {"mov edi,edi": "8bff", "lea rsp,[rsp]": "488da42400000000"}
IN_TABLE = re.compile(r"_?(malloc|calloc|realloc|free|msize|expand|recalloc)|_(malloc|calloc|realloc|free)_base|_aligned_\w+")
SRC, DST = 0x10000000, 0x10400000  # where plan_dump says that the code is, and where it goes


def shapes():
    folder = os.path.dirname(os.path.abspath(__file__))
    for line in open(os.path.join(folder, "shapes.txt"), encoding="ascii"):
        m = re.match(r"(x64|x86) (\d+) (\d+) (\S+) \| (.*)$", line)
        if m:
            yield m[1], int(m[2]), int(m[3]), m[4], m[5]


def assembly(n, insn):
    """One instruction of a shape in the assembler's language."""
    m = re.match(r"(\w+) (rel8|rel32)$", insn)
    if m and m[1] in ("jmp", "call"):
        op = {"jmp rel8": 0xEB, "jmp rel32": 0xE9, "call rel32": 0xE8}[insn]
        return f".byte {op}; " + (f".byte tail_{n} - . - 1" if m[2] == "rel8" else f".long elsewhere_{n} - . - 4")
    if m:
        if m[2] == "rel8":
            return f".byte {0x70 + JCC[m[1]]}, tail_{n} - . - 1"
        return f".byte 0x0f, {0x80 + JCC[m[1]]}; .long tail_{n} - . - 4"
    if insn in EXACT:
        return ".byte " + ", ".join(f"0x{b:02x}" for b in bytes.fromhex(EXACT[insn]))
    text = re.sub(r"\bi\b", "0x20", insn)
    text = text.replace("+d]", "+8]").replace("[rip]", "[rip+0x1234]").replace("[abs]", "ds:[0x10002000]")
    if "[" in text and (re.match(r"(push|mul|nop) ", text) or text.endswith("0x20")):
        at = text.index("ds:[") if "ds:[" in text else text.index("[")
        text = text[:at] + "dword ptr " + text[at:]
    return text


def assemble(clang, cpu, rows, folder):
    """Code of all shapes, and where each one, its successor and its neighbour are."""
    lines = [".intel_syntax noprefix", ".text"]
    for n, (_, least, room, _, shape) in enumerate(rows):
        lines += [".p2align 4, 0xcc", f"elsewhere_{n}: ret", ".p2align 4, 0xcc", f"shape_{n}:"]
        lines += [assembly(n, insn) for insn in shape.split("; ")]
        filler = f"({least} - 1 - (. - shape_{n}))"
        lines += [f".if {filler} > 0", f".fill {filler}, 1, 0x90", ".endif", f"tail_{n}:"]
        lines += [f".if . - shape_{n} < {least}", "ret", ".endif"]
        lines += [f".if . - shape_{n} < {room}", f".fill {room} - (. - shape_{n}), 1, 0xcc", ".endif", f"next_{n}: ret"]
    source, obj = os.path.join(folder, "shapes.s"), os.path.join(folder, "shapes.o")
    with open(source, "w", encoding="ascii") as f:
        f.write("\n".join(lines) + "\n")
    target = {"x64": "x86_64-linux-gnu", "x86": "i686-linux-gnu"}[cpu]
    subprocess.run([clang, f"--target={target}", "-c", source, "-o", obj], check=True)
    text = os.path.join(folder, "shapes.bin")
    subprocess.run([clang.replace("clang", "llvm-objcopy"), "-O", "binary", "-j", ".text", obj, text], check=True)
    out = subprocess.run([clang.replace("clang", "llvm-nm"), obj], capture_output=True, text=True, check=True).stdout
    symbols = {line.split()[2]: int(line.split()[0], 16) for line in out.splitlines() if len(line.split()) == 3}
    return open(text, "rb").read(), symbols


def disassemble(mc, cpu, pieces):
    """For each (bytes, address) its instructions as texts that do not depend on where they stand."""
    # llvm-mc counts what it would encode itself, which is shorter here: another instruction of that length instead.
    filler = (bytes.fromhex(EXACT["lea rsp,[rsp]"]), bytes.fromhex("488da42411223344"))
    feed = "".join(" ".join(f"0x{b:02x}" for b in data.replace(*filler) + b"\x0f\x0b") + "\n" for data, _ in pieces)
    triple = {"x64": "x86_64", "x86": "i686"}[cpu]
    out = subprocess.run([mc, "--disassemble", f"--triple={triple}", "--show-encoding"], input=feed, capture_output=True,
                         text=True, check=True).stdout
    result, now, places = [], [], [address for _, address in pieces] + [0]
    address = places[0]
    for line in out.splitlines():
        m = re.match(r"\s+(\S.*?)\s*(?:#|##) encoding: \[(.*?)\]", line)
        if not m:
            continue
        address += len(m[2].split(","))
        text = m[1].replace("\t", " ")
        if text == "ud2":
            result.append(now)
            now, address = [], places[len(result)]
            continue
        flow = re.match(r"(j\w+|call)[lq]? (-?\w+)$", text)
        if flow:
            text = f"{flow[1]} {(address + int(flow[2], 0)) & 0xFFFFFFFF:x}"
        now.append(re.sub(r"(-?\w+)\(%rip\)", lambda r: f"{address + int(r[1], 0):x}(%rip)", text))
    assert len(result) == len(pieces), "llvm-mc did not read every piece"
    return result


def check_moved(mc, cpu, moves, text):
    """The moved instructions, then the way back. moves: (rva, whole bytes, moved bytes, shape)."""
    src = disassemble(mc, cpu, [(text[rva - 0x1000:rva - 0x1000 + whole], SRC + rva) for rva, whole, _, _ in moves])
    dst = disassemble(mc, cpu, [(bytes.fromhex(moved), DST) for _, _, moved, _ in moves])
    for (rva, whole, _, shape), here, there in zip(moves, src, dst):
        back = [] if here[-1].startswith(("jmp", "ret")) else [f"jmp {SRC + rva + whole:x}"]
        check(there == here + back, f"{cpu} {shape}: moved {here} to {there}")


def check_cpu(dump, clang, mc, cpu, folder):
    rows = [row for row in shapes() if row[0] == cpu]
    text, symbols = assemble(clang, cpu, rows, folder)
    paths, moves = [], []
    for n, (_, _, _, name, _) in enumerate(rows):
        image = Image(cpu)
        image.text = bytearray(text)
        name = name if IN_TABLE.fullmatch(name) else "_msize"
        image.exports = {name: 0x1000 + symbols[f"shape_{n}"], "neighbour": 0x1000 + symbols[f"next_{n}"]}
        image.add_core([name] if name in CORE else [])
        paths.append(os.path.join(folder, f"shape{n}.dll"))
        with open(paths[-1], "wb") as f:
            f.write(image.bytes())
    out = subprocess.run([dump, "--moved", *paths], capture_output=True, text=True, check=True).stdout
    for n, part in enumerate(out.split("file ")[1:]):
        shape, wanted = rows[n][4], symbols[f"shape_{n}"] + 0x1000
        site = re.search(rf"^site \S+ {wanted:x} (\S+) (\S+) (\d+) (\S+)(?: (\w+))?$", part, re.M)
        check(site and site[1] == "patch", f"{cpu} {shape}: {part}")
        if site and site[5]:
            moves.append((wanted, int(site[3]), site[5], shape))
        else:
            check(not site or site[4] == "fixed", f"{cpu} {shape}: movable, but not moved")
    check_moved(mc, cpu, moves, text)
    print(f"{cpu}: {len(rows)} shapes, {len(moves)} of them moved")
    check(len(rows) >= 60 and len(moves) == len(rows), f"{cpu}: {len(moves)} of {len(rows)} moved")


def main():
    dump, clang, mc = sys.argv[1:]
    for cpu in ("x64", "x86"):
        with tempfile.TemporaryDirectory() as folder:
            check_cpu(dump, clang, mc, cpu, folder)
    print(f"{len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
