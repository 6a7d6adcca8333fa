#!/usr/bin/env python3
"""Genuine Microsoft C runtimes for the tests, from npm packages that carry them, into .cache/crt/dlls.

    genuine.py            fetches what is missing (58 MB in all) and prints the folder
    genuine.py --large    also what comes in packages of more than 30 MB

Each set of CRTs has a folder of its own, since a version of ucrtbase.dll can lie there only once. Nothing of a package
is run. A file whose SHA-256 is not the recorded one is not kept.
Exit codes: 0 all are there, 2 wrong use, 4 some could not be fetched (no npm, no network).
"""
import fcntl
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import namedtuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.path.join(ROOT, ".cache", "crt")
FOLDER = os.path.join(CACHE, "dlls")
# A file of a package: the set it belongs to, its name there, and what it must be. It may be a part of a member, as in
# an executable that has its DLLs appended to it.
File = namedtuple("File", "set name hash offset length", defaults=(0, None))
PACKAGES = {
    "edge@0.7.14": {
        "lib/native/win32/x64/msvcr110.dll":
            File("x64", "msvcr110.dll", "0cbbd9691f08434da3617874f99c6dd87538cbd65b5d8bc39fce378d4ed29eed"),
        "lib/native/win32/ia32/msvcr110.dll":
            File("x86", "msvcr110.dll", "8a06500612ce1bb0aecf052dcccce619c85be7732cbaeac4d6b26b6ae2cc7f7b"),
    },
    "edge@4.0.0": {
        "lib/native/win32/x64/msvcr120.dll":
            File("x64", "msvcr120.dll", "ad32240bb1de55c3f5fcac8789f583a17057f9d14914c538c2a7a5ad346b341c"),
        "lib/native/win32/ia32/msvcr120.dll":
            File("x86", "msvcr120.dll", "86e39b5995af0e042fcdaa85fe2aefd7c9ddc7ad65e6327bd5e7058bc3ab615f"),
    },
    "dotnet-2.0.0-win@1.0.5": {
        "shared/Microsoft.NETCore.App/2.0.0/ucrtbase.dll":
            File("x64-ucrt-14393", "ucrtbase.dll", "a0b9e4ca04e89c311105d24bb8b9262ea3c00fa2967539eef94ccbdee5b4664c"),
    },
    "dotnet-2.1-win-ia32@2.1.1007": {
        "shared/Microsoft.NETCore.App/2.1.8/ucrtbase.dll":
            File("x86-ucrt-17134", "ucrtbase.dll", "6f8f05993b8a25cadf5e301e58194c4d23402e467229b12e40956e4f128588b3"),
    },
}
LARGE_PACKAGES = {
    "@microsoft/sarif-multitool-win32@2.2.2": {
        "Sarif.Multitool.exe":
            File("x64-ucrt-17134", "ucrtbase.dll", "8a91052ef261b5fbf3223ae9ce789af73dfe1e9b0ba5bdbc4d564870a24f2bae",
                 15944228, 1016584),
    },
}
# What the tests know of a set: its architecture, and the version that each of its CRTs reports. Microsoft's UCRT has
# another version than Wine's, so that a test sees which of the two it has in its process.
CrtSet = namedtuple("CrtSet", "name arch versions")
SETS = (
    CrtSet("x64", "x64", {"msvcr110.dll": "11.0.50727.1", "msvcr120.dll": "12.0.21005.1"}),
    CrtSet("x86", "x86", {"msvcr110.dll": "11.0.50727.1", "msvcr120.dll": "12.0.21005.1"}),
    CrtSet("x64-ucrt-14393", "x64", {"ucrtbase.dll": "10.0.14393.33"}),
    CrtSet("x64-ucrt-17134", "x64", {"ucrtbase.dll": "10.0.17134.12"}),
    CrtSet("x86-ucrt-17134", "x86", {"ucrtbase.dll": "10.0.17134.12"}),
)


def hash_of(path):
    try:
        with open(path, "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()
    except OSError:
        return None


def place(file):
    return os.path.join(FOLDER, file.set, file.name)


def is_there(files):
    return all(hash_of(place(file)) == file.hash for file in files)


def folder_of(crt_set):
    return os.path.join(FOLDER, crt_set.name)


def sets(arch=None):
    """The sets (of x64 or x86) whose files are all in the cache, whole."""
    wanted = [file for files in {**PACKAGES, **LARGE_PACKAGES}.values() for file in files.values()]
    return [s for s in SETS if arch in (None, s.arch) and is_there([f for f in wanted if f.set == s.name])]


def overrides(crt_set):
    """WINEDLLOVERRIDES for Microsoft's DLLs beside the program; a child process elsewhere has Wine's."""
    return ",".join(name.removesuffix(".dll") for name in crt_set.versions) + "=n,b"


def take_file(archive, package, member, file):
    """One file out of the archive; why not, otherwise None."""
    try:
        stream = archive.extractfile("package/" + member)
    except KeyError:
        return f"{package} has no {member}"
    stream.seek(file.offset)
    data = stream.read() if file.length is None else stream.read(file.length)
    if hashlib.sha256(data).hexdigest() != file.hash:
        return f"{member} of {package} is not the file that was recorded"
    target = place(file)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target + ".new", "wb") as f:
        f.write(data)
    os.replace(target + ".new", target)
    return None


def fetch_package(package, files):
    """One archive by npm's own client; takes out the files that are wanted."""
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        done = subprocess.run(["npm", "pack", "--silent", "--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=60000",
                               package], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        archives = [name for name in os.listdir(folder) if name.endswith(".tgz")]
        if done.returncode != 0 or len(archives) != 1:
            return f"npm cannot fetch {package}"
        with tarfile.open(os.path.join(folder, archives[0])) as archive:
            for member, file in files.items():
                problem = take_file(archive, package, member, file)
                if problem:
                    return problem
    return None


def fetch(is_large=False):
    """What could not be fetched, a sentence each. One package's failure does not keep the others away."""
    problems = []
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        for package, files in {**PACKAGES, **(LARGE_PACKAGES if is_large else {})}.items():
            if is_there(files.values()):
                continue
            try:
                problem = fetch_package(package, files)
            except (OSError, subprocess.TimeoutExpired, tarfile.TarError) as e:
                problem = f"{package}: {e}"
            if problem:
                problems.append(problem)
    return problems


def main():
    words = sys.argv[1:]
    if words not in ([], ["--large"]):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    problems = fetch(bool(words))
    for problem in problems:
        print("genuine.py:", problem, file=sys.stderr)
    print(FOLDER)
    return 4 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
