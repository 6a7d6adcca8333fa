"""What is shipped for Windows tells nothing of the machine and the moment that made it: the same sources give the same bytes.

usage: check_binaries.py llvm-readobj file ...
"""
import re
import subprocess
import sys

FAILED = []


def check(fact, text):
    if not fact:
        FAILED.append(text)
        print("failed:", text)


def main():
    readobj, *files = sys.argv[1:]
    for path in files:
        out = subprocess.run([readobj, "--file-headers", "--coff-debug-directory", path], capture_output=True, text=True, check=True).stdout
        stamps = set(re.findall(r"TimeDateStamp: .*\((0x[0-9A-F]+)\)", out))
        # lld: one hash of the contents in all of them, which it says; GNU ld: none.
        check(len(stamps) == 1 and (stamps == {"0x0"} or "Type: Repro" in out), f"{path}: the time of linking: {stamps}")
        for pdb in re.findall(r"PDBFileName: (.*)", out):
            check(not re.search(r"[/\\]", pdb), f"{path}: names the folder {pdb}")
        check("IMAGE_DLL_CHARACTERISTICS_NX_COMPAT" in out and "IMAGE_DLL_CHARACTERISTICS_DYNAMIC_BASE" in out, f"{path}: not hardened")
    print(f"{len(files)} files, {len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
