#!/usr/bin/env python3
"""What the fast paths of a built DLL are made of: no call, and of the thread's own storage one or two loads from the TEB.

usage: check_fast_path.py --dll mimalloc.dll [--pdb mimalloc.pdb] [--objdump PROGRAM] [--pdbutil PROGRAM] [OTHER.dll ...]

Each function is disassembled and walked, branch by branch. A way through it is fast when it returns without leaving the
function: that goes to the slow twin, by a jump. Of each function below there must be such ways, and each of them has
  - no call before the free list has its new head, and of some ways none at all (on x86 a free that empties its page
    calls, for want of a jump with other arguments),
  - one or two loads relative to gs (x64), fs (x86) or x18 (ARM64), and no other use of these,
  - a store, not to the stack, behind the last of the loads: the free list's new head.
The DLL has no TLS directory, so that no compiler-made TLS can hide in it, and does not import TlsGetValue.
Neither it nor the others claim to have control flow guard tables: patched entries, import and export cells lead into them,
and a table that lacks one function would make each guarded call to it end the process.
Functions that are not exported, those bound to a CRT, are found by the debug information.
"""
import argparse
import collections
import re
import subprocess
import sys

GUARD_CF = 0x4000  # of DllCharacteristics
FUNCTIONS = ["mi_malloc", "mi_free"] + [f"bound_{f}_{i}" for f in ("malloc", "free", "new") for i in range(4)]
TEB = re.compile(r"%[gf]s:|\bx18\b|\bw18\b")
# Nothing but a plain load of a register from there.
TEB_LOAD = re.compile(r"^(mov[lq]\s+%[gf]s:\S+, %\w+|ldr\s+x\d+, \[x18, x\d+\])")
CALL = re.compile(r"^(call|bl\b|blr|syscall|sysenter|int\b|svc)")
RETURN = re.compile(r"^ret")
JUMP = re.compile(r"^(jmp\w*|b)\s")
BRANCH = re.compile(r"^(j\w+|b\.\w+|cbn?z|tbn?z)\s")
STORE = re.compile(r"^(mov[lq]\s+%\w+, (?!.*%[er]sp\))[^%]*\(|(str|stp)\s(?!.*\[sp))")
WAYS_MAX = 10000

Way = collections.namedtuple("Way", "at calls late_calls loads odd stored")


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class Dll:
    def __init__(self, args):
        self.args = args
        self.headers = output(args.objdump, "-p", args.dll)
        self.text = None
        for line in output(args.objdump, "-h", args.dll).splitlines():
            found = re.match(r"\s*\d+ (\.text)\s+[0-9a-f]+ ([0-9a-f]+)", line)
            if found:
                self.text = int(found[2], 16)
        self.places = self.read_places()

    def read_places(self):
        """{function: (address, bytes)} of section 1, which is .text."""
        lines = output(self.args.pdbutil, "dump", "--symbols", self.args.pdb or self.args.dll[:-3] + "pdb")
        found = re.findall(r"S_[GL]PROC32 \[[^]]*\] `(\w+)`\n.*?addr = 0001:(\d+), code size = (\d+)", lines)
        return {name: (self.text + int(at), int(size)) for name, at, size in found}

    def code(self, name):
        """[(address, instruction)], without padding behind the end."""
        at, size = self.places[name]
        lines = output(self.args.objdump, "-d", "--no-show-raw-insn", f"--start-address={at}",
                       f"--stop-address={at + size}", self.args.dll)
        found = re.findall(r"^\s*([0-9a-f]+):\s+(\S.*?)\s*$", lines, re.M)
        return [(int(a, 16), re.sub(r"\s+", " ", re.split(r"\s+(?:#|//|<)", text)[0])) for a, text in found]


def target_of(text):
    found = re.search(r"0x([0-9a-f]+)$", text)
    return int(found[1], 16) if found else None


def step(way, text):
    is_load = TEB_LOAD.match(text) is not None
    is_call = CALL.match(text) is not None
    return way._replace(calls=way.calls + (is_call and not way.stored),
                        late_calls=way.late_calls + (is_call and way.stored), loads=way.loads + is_load,
                        odd=way.odd + (TEB.search(text) is not None and not is_load),
                        stored=(False if is_load else way.stored or STORE.match(text) is not None))


def fast_ways(code):
    """Each way from the beginning to a return, as far as it has been counted; no way goes through a place twice."""
    index = {at: i for i, (at, _) in enumerate(code)}
    ways, open_ways = set(), [(Way(0, 0, 0, 0, 0, False), frozenset())]
    steps = 0
    while open_ways:
        way, seen = open_ways.pop()
        if way.at >= len(code) or way.at in seen:
            continue
        steps += 1
        if steps > 100 * WAYS_MAX or len(ways) > WAYS_MAX:
            raise ValueError("too many ways: this is no fast path")
        text = code[way.at][1]
        way = step(way, text)
        if RETURN.match(text):
            ways.add(way._replace(at=0))
            continue
        nexts = []
        if BRANCH.match(text) or JUMP.match(text):
            nexts.append(index.get(target_of(text)))  # None: out of the function
        if not JUMP.match(text):
            nexts.append(way.at + 1)
        seen = seen | {way.at} if len(nexts) > 1 or JUMP.match(text) else seen
        open_ways += [(way._replace(at=n), seen) for n in nexts if n is not None]
    return ways


def faults_of(dll, name):
    if name not in dll.places:
        return [f"{name}: not in the debug information"]
    code = dll.code(name)
    ways = fast_ways(code)
    text = "\n".join(f"    {at:x}: {text}" for at, text in code)
    faults = []
    if not ways:
        faults.append("no way returns")
    if any(w.calls for w in ways):
        faults.append("a call on a fast path")
    if all(w.late_calls for w in ways):
        faults.append("no way without a call")
    if any(w.odd for w in ways):
        faults.append("another use of the TEB")
    if any(w.loads not in (1, 2) for w in ways):
        faults.append(f"loads from the TEB: {sorted({w.loads for w in ways})}")
    if not all(w.stored for w in ways):
        faults.append("a way returns and changes no list")
    return [f"{name}: {fault}\n{text}" for fault in faults]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dll", required=True)
    parser.add_argument("--pdb")
    parser.add_argument("--objdump", default="llvm-objdump-19")
    parser.add_argument("--pdbutil", default="llvm-pdbutil-19")
    parser.add_argument("others", nargs="*")
    args = parser.parse_args()
    dll = Dll(args)
    faults = [fault for name in FUNCTIONS for fault in faults_of(dll, name)]
    if re.search(r"^The TLS|TLS Table|\bTlsGetValue\b", dll.headers, re.M):
        faults.append("the DLL has a TLS directory, or imports TlsGetValue")
    if "DLL name" not in dll.headers and "DLL Name" not in dll.headers:
        faults.append("the headers were not read")
    for path in [args.dll, *args.others]:
        flags = re.search(r"^DllCharacteristics\s+([0-9a-fA-F]+)", output(args.objdump, "-p", path), re.M)
        if flags is None or int(flags[1], 16) & GUARD_CF:
            faults.append(f"{path}: claims to have control flow guard tables")
    print("\n".join(faults) or f"{len(FUNCTIONS)} fast paths without a call, with one or two loads from the TEB")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
