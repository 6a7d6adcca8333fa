#!/usr/bin/env python3
"""Where Wine's own DLLs lie, for the tests that read them as files: prints the folders, a line each.

    wine_dlls.py [x86_64 | i386]

Debian, Fedora, Arch, WineHQ's packages, builds of one's own; the 32-bit root that scripts/wine32-root makes; and beside
the wine that is called.
"""
import glob
import os
import shutil
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PREFIXES = ("usr", "usr/local", "opt/wine*")
FOLDERS = ("lib/wine", "lib32/wine", "lib64/wine", "lib/*/wine")


def folders(arch="*", top="/", wine=None):
    """Those of one architecture (x86_64, i386), or of all, each once."""
    wine = wine or shutil.which("wine64") or shutil.which("wine")
    tops = [os.path.join(top, prefix) for prefix in PREFIXES]
    if wine:
        tops.append(os.path.dirname(os.path.dirname(os.path.realpath(wine))))
    found = {os.path.realpath(path) for prefix in tops for folder in FOLDERS
             for path in glob.glob(os.path.join(prefix, folder, f"{arch}-windows"))}
    if arch in ("*", "i386"):  # that root has the same 64-bit DLLs as the system
        found |= set(glob.glob(os.path.join(ROOT, ".cache/wine32/root/usr/lib/*/wine/i386-windows")))
    return sorted(path for path in found if os.path.exists(os.path.join(path, "ntdll.dll")))


if __name__ == "__main__":
    print("\n".join(folders(*sys.argv[1:2])))
