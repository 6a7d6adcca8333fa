#!/usr/bin/env python3
"""Every function that a public header declares has documentation right above it, a contract test that calls it, and
an export in each shared library given.

usage: check_declared.py --include DIR --tests DIR [--nm PROGRAM] [LIBRARY ...]
Exit code 0: all is there; 1: something is missing, each in a line; 2: wrong arguments.
"""
import argparse
import pathlib
import re
import subprocess
import sys

DECLARATION = re.compile(r"\bmi_decl_export\b([^;{}]*?)\b(_?mi_[a-z0-9_]+)\s*\(", re.S)
TESTS_BY_NAME = ("*.c", "*.cpp", "*.h", "*.hpp")


def declared(header):
    """Yields (name, line number, is documented) of each exported function of one header."""
    text = header.read_text()
    lines = text.split("\n")
    for match in DECLARATION.finditer(text):
        if text[: match.start()].rsplit("\n", 1)[-1].lstrip().startswith(("#", "//")):
            continue  # the macro's own definition, or a comment
        start = text.count("\n", 0, match.start())
        above = lines[start - 1].strip() if start > 0 else ""
        yield match.group(2), start + 1, above.startswith("//") and len(above) > 3


def exported(library, nm):
    pattern = re.compile(r"\s[TVW]\s+_?(mi_\w+)")
    if str(library).endswith(".dll"):
        out = subprocess.run([nm.replace("nm", "readobj"), "--coff-exports", library], capture_output=True, text=True, check=True)
        return set(re.findall(r"Name: (\w+)", out.stdout))
    out = subprocess.run([nm, "-D", "--defined-only", library], capture_output=True, text=True, check=True)
    return set(re.findall(r"\s[TVW]\s+(\w+)", out.stdout))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--include", type=pathlib.Path, required=True)
    parser.add_argument("--tests", type=pathlib.Path, required=True)
    parser.add_argument("--nm", default="llvm-nm-19")
    parser.add_argument("libraries", nargs="*")
    args = parser.parse_args()
    test_text = "\n".join(f.read_text() for p in TESTS_BY_NAME for f in sorted(args.tests.glob(p)))
    exports = {lib: exported(lib, args.nm) for lib in args.libraries}
    broken = []
    names = set()
    for header in sorted(args.include.glob("*.h")):
        for name, line, is_documented in declared(header):
            names.add(name)
            place = f"{header.name}:{line}: {name}"
            if not is_documented:
                broken.append(f"{place} has no documentation above it")
            if not re.search(rf"\b{name}\b", test_text):
                broken.append(f"{place} has no contract test")
            for lib, symbols in exports.items():
                if name not in symbols:
                    broken.append(f"{place} is not exported from {pathlib.Path(lib).name}")
    print("\n".join(broken + [f"{len(names)} functions declared, {len(broken)} faults"]))
    return 1 if broken or len(names) < 100 else 0


if __name__ == "__main__":
    sys.exit(main())
