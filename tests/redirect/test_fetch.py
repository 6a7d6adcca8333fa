"""What the tests take from elsewhere. scripts/genuine.py with an npm of ours: only the file that was recorded is kept, whole and from its place in the package,
a damaged one is fetched again, and what one package lacks does not keep the others away. scripts/wine_dlls.py in the
layouts that there are.

usage: test_fetch.py
"""
import hashlib
import io
import os
import pathlib
import stat
import sys
import tarfile
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))
from harness import FAILED, check  # noqa: E402  (the path is set above)
import genuine  # noqa: E402  (the path is set above)
import wine_dlls  # noqa: E402  (the path is set above)

# npm pack PACKAGE: copies the archive of that name into the current folder, and counts.
NPM = """#!/bin/sh
for word; do package=$word; done
echo "$package" >> "@FOLDER@/asked"
[ -f "@FOLDER@/$package.tgz" ] && cp "@FOLDER@/$package.tgz" .
"""
DLL, PART = b"MZ" + bytes(range(256)) * 40, b"MZ the part that is wanted"


def sha(data):
    return hashlib.sha256(data).hexdigest()


def make_package(folder, name, members):
    with tarfile.open(folder / f"{name}.tgz", "w:gz") as tar:
        for member, data in members.items():
            info = tarfile.TarInfo("package/" + member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def wines(folder):
    """Each layout once, by itself; a folder without DLLs is none."""
    wine_dlls.ROOT = str(folder / "source")
    rows = [(place, arch) for place in ("usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64", "usr/local/lib", "opt/wine-stable/lib64",
                                        "own/lib") for arch in ("x86_64", "i386")]
    rows.append(("source/.cache/wine32/root/usr/lib/i386-linux-gnu", "i386"))
    for k, (place, arch) in enumerate(rows):
        top = folder / str(k)
        wine_dlls.ROOT = str(top / "source")
        dlls = top / place / "wine" / f"{arch}-windows"
        dlls.mkdir(parents=True)
        (top / "own" / "bin").mkdir(parents=True)
        wine = top / "own" / "bin" / "wine"
        wine.touch()
        check(wine_dlls.folders(top=str(top), wine=str(wine)) == [], f"{place}: an empty folder")
        (dlls / "ntdll.dll").touch()
        for wanted in ("*", "x86_64", "i386"):
            found = wine_dlls.folders(wanted, str(top), str(wine))
            check(found == ([str(dlls)] if wanted in ("*", arch) else []), f"{place}, {wanted}: {found}")


def main():
    with tempfile.TemporaryDirectory() as name:
        wines(pathlib.Path(name).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "npm").write_text(NPM.replace("@FOLDER@", name), encoding="ascii")
        (folder / "npm").chmod(stat.S_IRWXU)
        os.environ["PATH"] = name + os.pathsep + os.environ["PATH"]
        genuine.CACHE, genuine.FOLDER = name + "/cache", name + "/cache/dlls"
        file = genuine.File
        genuine.PACKAGES = {
            "changed@1": {"a.dll": file("x64", "changed.dll", sha(b"another"))},
            "good@1": {"lib/b.dll": file("x64", "b.dll", sha(DLL))},
            "absent@1": {"c.dll": file("x86", "c.dll", sha(DLL))},
            "part@1": {"big.exe": file("part", "d.dll", sha(PART), 1000, len(PART))},
            "lacks@1": {"e.dll": file("lacks", "e.dll", sha(DLL))},
        }
        genuine.LARGE_PACKAGES = {"large@1": {"f.dll": file("large", "f.dll", sha(DLL))}}
        genuine.SETS = tuple(genuine.CrtSet(s, "x64", {}) for s in ("x64", "part", "lacks", "large"))
        make_package(folder, "changed@1", {"a.dll": DLL})
        make_package(folder, "good@1", {"lib/b.dll": DLL, "b.dll": b"not this one"})
        make_package(folder, "part@1", {"big.exe": bytes(1000) + PART + bytes(5)})
        make_package(folder, "lacks@1", {"other.dll": DLL})
        make_package(folder, "large@1", {"f.dll": DLL})
        problems = genuine.fetch()
        check(len(problems) == 3, f"what is wrong: {problems}")
        for what in ("a.dll of changed@1 is not the file that was recorded", "npm cannot fetch absent@1", "lacks@1 has no e.dll"):
            check(what in problems, f"not said: {what}: {problems}")
        there = {str(p.relative_to(genuine.FOLDER)): p.read_bytes() for p in pathlib.Path(genuine.FOLDER).rglob("*") if p.is_file()}
        check(there == {"x64/b.dll": DLL, "part/d.dll": PART}, f"kept: {sorted(there)}")
        check([s.name for s in genuine.sets()] == ["part"], f"whole sets: {genuine.sets()}")
        check(genuine.sets("x86") == [], "a set of another architecture")
        # What is there is not asked for again, unless it was changed.
        asked = folder / "asked"
        asked.unlink()
        pathlib.Path(genuine.FOLDER, "part", "d.dll").write_bytes(PART + b"!")
        check(genuine.sets() == [], "a damaged file counts")
        genuine.fetch(is_large=True)
        words = asked.read_text(encoding="ascii").split()
        check("good@1" not in words and "part@1" in words and "large@1" in words, f"asked for: {words}")
        check([s.name for s in genuine.sets()] == ["part", "large"], f"whole sets afterwards: {genuine.sets()}")
    print(f"{len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
