#!/usr/bin/env python3
"""The PE reader against llvm-readobj, on synthetic images and on Wine's own DLLs, as a file and as a mapped image.

  test_reader.py --dump build/linux-release/tests/pe_dump
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "minject"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import make_pe
import tally
from tally import check
import wine_dlls

parser = argparse.ArgumentParser()
parser.add_argument("--dump", required=True)
args = parser.parse_args()
READOBJ = shutil.which("llvm-readobj-19") or shutil.which("llvm-readobj")


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, errors="replace").stdout


def readobj(path):
    """(exports, imports, function starts) as llvm-readobj sees them."""
    exports, imports, name = set(), [], None
    text = output(READOBJ, "--coff-exports", "--coff-imports", path)
    for block in re.findall(r"^Export \{(.*?)^\}", text, re.S | re.M):
        fields = dict(re.findall(r"^  (\w+): ?(.*)$", block, re.M))
        if fields.get("Name"):
            where = fields.get("ForwardedTo") or f"{int(fields['RVA'], 16):#x}"
            exports.add((int(fields["Ordinal"]), fields["Name"], where))
    for kind, block in re.findall(r"^(Import|DelayImport) \{(.*?)^\}", text, re.S | re.M):
        name = re.search(r"Name: (.*)", block)[1]
        symbols = [f"#{n}" if not s else s for s, n in re.findall(r"Symbol: (.*) \((\d+)\)", block)]
        imports.append((kind, name, tuple(symbols)))
    text = output(READOBJ, "--unwind", path)
    starts = {int(n, 16) for n in re.findall(r"StartAddress: \(?(0x[0-9A-F]+)\)?", text)}
    return exports, imports, starts


def ours(text):
    exports, imports, starts = set(), [], set()
    for line in text.splitlines():
        words = line.split()
        if words[0] == "export":
            exports.add((int(words[1]), words[2], words[-1]))
        elif words[0] in ("import", "delay"):
            imports.append(("Import" if words[0] == "import" else "DelayImport", words[1], []))
        elif line.startswith("  "):
            imports[-1][2].append(words[0])
        elif words[0] == "function":
            starts.add(int(words[1], 16))
    return exports, [(k, n, tuple(s)) for k, n, s in imports], starts


def compare(path, name):
    text = output(args.dump, path)
    check(text == output(args.dump, path, "mapped"), f"{name}: the file and the mapped image read the same")
    check("not found by name" not in text, f"{name}: exports are found by name")
    if not READOBJ:
        return
    theirs, mine = readobj(path), ours(text)
    check(theirs[0] == mine[0], f"{name}: exports, {len(theirs[0])} and {len(mine[0])}: {sorted(theirs[0] ^ mine[0])[:3]}")
    check(theirs[1] == mine[1], f"{name}: imports {theirs[1][:2]} {mine[1][:2]}")
    if len(theirs[2]) > 1:  # llvm-readobj 19 stops early in some of Wine's DLLs
        low = {s & 0xFFFFFF for s in theirs[2]}
        check(low == {s & 0xFFFFFF for s in mine[2]}, f"{name}: functions, {len(theirs[2])} and {len(mine[2])}")


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pe-test-"))
    try:
        for name, data in make_pe.corpus().items():
            path = folder / f"{name}.exe"
            path.write_bytes(data)
            text = output(args.dump, path)
            mapped = output(args.dump, path, "mapped")
            # Without a lookup table the names are gone from a mapped image.
            check(text == mapped or name == "no-lookup", f"{name}: the file and the mapped image read the same")
            if READOBJ and name not in ("no-lookup", "delay", "everything"):
                check(readobj(path)[:2] == ours(text)[:2], f"{name}: exports and imports")
    finally:
        shutil.rmtree(folder)
    for folder in wine_dlls.folders("x86_64"):
        for dll in ("ucrtbase", "msvcrt", "kernel32", "kernelbase", "ntdll", "advapi32", "shell32", "msvcr120"):
            compare(f"{folder}/{dll}.dll", dll + ".dll")
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
