"""The archives of scripts/dist.py: what lies where, and that nothing of the machine that made them gets in.

usage: test_dist.py
"""
import gzip
import hashlib
import os
import pathlib
import sys
import tarfile
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import dist  # noqa: E402  (the path is set above)

FAILED = []
WHEN = 1700000000


def check(fact, text):
    if not fact:
        FAILED.append(text)
        print("failed:", text)


def test_places():
    """Every platform: each file once, where programs and people look for it."""
    wanted = {"linux-x64": {"bin/minject", "lib/libmimalloc.so", "lib/libmimalloc-debug.so", "lib/libmimalloc-secure.so", "lib/mimalloc.o",
                            "share/man/man1/minject.1", "share/bash-completion/completions/minject"}}
    for arch, bits in (("x64", ""), ("x86", "32"), ("arm64", "-arm64")):
        wanted["windows-" + arch] = {"bin/minject.exe", "bin/mimalloc.dll", f"bin/mimalloc-redirect{bits}.dll", "lib/mimalloc.lib",
                                     "lib/mimalloc-static.lib", "share/minject.ps1", "cmake/MimallocRedirect.cmake"}
    wanted["windows-x64"] |= {"bin/mimalloc-debug.dll", "bin/mimalloc-secure.dll"}
    check(set(wanted) == set(dist.PLATFORMS), f"platforms: {sorted(dist.PLATFORMS)}")
    for platform, parts in dist.PLATFORMS.items():
        names = [name for name, _ in dist.members(parts)[0]]
        check(len(names) == len(set(names)), f"{platform}: a name comes twice")
        lacking = (wanted.get(platform, set()) | {"LICENSE", "include/mimalloc.h", "include/mimalloc-override.h"}) - set(names)
        check(not lacking, f"{platform}: lacks {sorted(lacking)}")
    found, missing = dist.members([("no-such-preset", ["a.dll"])])
    check([p for _, p in found if p.endswith("a.dll")] == missing, f"what is missing is said: {missing}")


def test_archive(folder):
    """The same files give the same bytes, whoever packs them, when, and in which order they are named."""
    files = []
    for name, data in (("lib/libz.so", b"1"), ("bin/tool", b"22"), ("include/a.h", b"333")):
        path = folder / name.replace("/", "-")
        path.write_bytes(data)
        files.append((name, str(path)))
    sums = set()
    for order, mode, age in ((files, 0o600, 1), (files[::-1], 0o755, 10000)):
        for _, path in files:
            os.chmod(path, mode)
            os.utime(path, (WHEN + age, WHEN + age))
        out = folder / f"archive-{age}.tar.gz"
        told = dist.write_archive(str(out), "top", list(order), WHEN)
        check(told == hashlib.sha256(out.read_bytes()).hexdigest(), "the sum is that of the archive")
        sums.add(told)
    check(len(sums) == 1, "two archives of the same files differ")
    data = out.read_bytes()
    check(data[4:8] == bytes(4), "the time of packing is in it")
    (folder / "plain.tar").write_bytes(gzip.decompress(data))
    with tarfile.open(folder / "plain.tar") as tar:
        rows = [(m.name, m.mode, m.mtime, m.uid, m.gid, m.uname, m.gname, tar.extractfile(m).read()) for m in tar.getmembers()]
    check(rows == [("top/bin/tool", 0o755, WHEN, 0, 0, "", "", b"22"), ("top/include/a.h", 0o644, WHEN, 0, 0, "", "", b"333"),
                   ("top/lib/libz.so", 0o755, WHEN, 0, 0, "", "", b"1")], f"the members: {rows}")


def main():
    test_places()
    with tempfile.TemporaryDirectory() as folder:
        test_archive(pathlib.Path(folder))
    print(f"{len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
