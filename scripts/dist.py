#!/usr/bin/env python3
"""Makes one archive per platform in build/dist: licence, headers, libraries, the tool.

The same commit in the same folder gives the same archives, byte for byte: the linkers write no times (cmake/windows.cmake),
names are sorted, owners and modes are fixed, and all times are the commit's. Exit codes: 0 good, 1 something does not build
or is missing.
"""
import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DIST = os.path.join(ROOT, "build", "dist")
DOCUMENTS = ["LICENSE", "README.md", "README.zh-CN.md", "CHANGELOG.md"]
# Platform: [(preset, files of its build folder)]; a missing file is an error.
WINDOWS = ["mimalloc.dll", "mimalloc.lib", "mimalloc-static.lib"]
# Made from the help of the tool (cmake/packaging.cmake), the same for every platform.
PLACES = {"minject.1": "share/man/man1/minject.1", "minject.bash": "share/bash-completion/completions/minject",
          "minject.ps1": "share/minject.ps1"}
WINDOWS_HELP = ("linux-release", ["minject.ps1"])
PLATFORMS = {
    "linux-x64": [
        ("linux-release", ["libmimalloc.so", "libmimalloc.a", "mimalloc.o", "minject", "minject.1", "minject.bash"]),
        ("linux-debug", ["libmimalloc-debug.so"]),
        ("linux-secure", ["libmimalloc-secure.so"]),
    ],
    "windows-x64": [
        ("windows-x64-release", WINDOWS + ["mimalloc-redirect.dll", "minject.exe"]),
        ("windows-x64-debug", ["mimalloc-debug.dll"]),
        ("windows-x64-secure", ["mimalloc-secure.dll"]),
        WINDOWS_HELP,
    ],
    "windows-x86": [("windows-x86-release", WINDOWS + ["mimalloc-redirect32.dll", "minject.exe"]), WINDOWS_HELP],
    "windows-arm64": [("windows-arm64-release", WINDOWS + ["mimalloc-redirect-arm64.dll", "minject.exe"]), WINDOWS_HELP],
}


def git(*args):
    return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def version():
    with open(os.path.join(ROOT, "CMakeLists.txt"), encoding="utf-8") as f:
        return re.search(r"project\(\w+ VERSION ([\d.]+)", f.read()).group(1)


def headers():
    top = os.path.join(ROOT, "include")
    return sorted(os.path.relpath(os.path.join(folder, name), ROOT)
                  for folder, _, names in os.walk(top) for name in names if name.endswith(".h"))


CMAKE_HELPER = ["cmake/MimallocRedirect.cmake", "docs/minject.md"]


def members(parts):
    """(name in the archive, path), and the names that are missing."""
    found, missing = [], []
    for name in DOCUMENTS + CMAKE_HELPER + headers():
        found.append((name, os.path.join(ROOT, name)))
    for preset, names in parts:
        for name in names:
            path = os.path.join(ROOT, "build", preset, name)
            folder = "bin" if name.endswith((".dll", ".exe")) or name == "minject" else "lib"
            found.append((PLACES.get(name, f"{folder}/{name}"), path))
    missing = [path for _, path in found if not os.path.isfile(path)]
    return found, missing


def write_archive(path, top, files, when):
    """The SHA-256 of the archive with these (name in it, path), under the folder top."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, source in sorted(files):
            with open(source, "rb") as f:
                data = f.read()
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size, info.mtime = len(data), when
            info.mode = 0o755 if name.startswith("bin/") or name.endswith(".so") else 0o644
            tar.addfile(info, io.BytesIO(data))
    packed = gzip.compress(out.getvalue(), 9, mtime=0)
    with open(path, "wb") as f:
        f.write(packed)
    return hashlib.sha256(packed).hexdigest()


def main():
    presets = sorted({preset for parts in PLATFORMS.values() for preset, _ in parts})
    helps = ["cmake", "--build", os.path.join(ROOT, "build", "linux-release"), "--target", "minject-help"]
    if subprocess.call([os.path.join(ROOT, "scripts", "build.sh"), *presets]) != 0 or \
            subprocess.call(helps, stdout=subprocess.DEVNULL) != 0:
        return 1
    when = int(git("log", "-1", "--format=%ct"))
    os.makedirs(DIST, exist_ok=True)
    sums = []
    for platform, parts in PLATFORMS.items():
        files, missing = members(parts)
        if missing:
            print("dist.py: missing:", " ".join(os.path.relpath(p, ROOT) for p in missing), file=sys.stderr)
            return 1
        top = f"mimalloc-{version()}-{platform}"
        name = top + ".tar.gz"
        sums.append(f"{write_archive(os.path.join(DIST, name), top, files, when)}  {name}")
        print("made build/dist/" + name, flush=True)
    with open(os.path.join(DIST, "SHA256SUMS"), "w", encoding="utf-8") as f:
        f.write("\n".join(sums) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
