#!/usr/bin/env python3
"""Genuine Microsoft C runtimes for the tests, from npm packages that carry them, into .cache/crt/dlls/{x64,x86}.

    genuine.py            fetches what is missing and prints the folder

Nothing of a package is run. A file whose SHA-256 is not the recorded one is not kept.
Exit codes: 0 all are there, 4 they could not be fetched (no npm, no network).
"""
import fcntl
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.path.join(ROOT, ".cache", "crt")
FOLDER = os.path.join(CACHE, "dlls")
# Package and version, and for each of its files: where it goes, and what it must be.
PACKAGES = {
    "edge@0.7.14": {
        "lib/native/win32/x64/msvcr110.dll": ("x64", "0cbbd9691f08434da3617874f99c6dd87538cbd65b5d8bc39fce378d4ed29eed"),
        "lib/native/win32/ia32/msvcr110.dll": ("x86", "8a06500612ce1bb0aecf052dcccce619c85be7732cbaeac4d6b26b6ae2cc7f7b"),
    },
    "edge@4.0.0": {
        "lib/native/win32/x64/msvcr120.dll": ("x64", "ad32240bb1de55c3f5fcac8789f583a17057f9d14914c538c2a7a5ad346b341c"),
        "lib/native/win32/ia32/msvcr120.dll": ("x86", "86e39b5995af0e042fcdaa85fe2aefd7c9ddc7ad65e6327bd5e7058bc3ab615f"),
    },
}


def hash_of(path):
    try:
        with open(path, "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()
    except OSError:
        return None


def place(member, arch):
    return os.path.join(FOLDER, arch, os.path.basename(member))


def is_there(files):
    return all(hash_of(place(member, arch)) == wanted for member, (arch, wanted) in files.items())


def fetch_package(package, files):
    """One archive by npm's own client; takes out the files that are wanted."""
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        done = subprocess.run(["npm", "pack", "--silent", "--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=60000",
                               package], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        archives = [name for name in os.listdir(folder) if name.endswith(".tgz")]
        if done.returncode != 0 or len(archives) != 1:
            return f"npm cannot fetch {package}"
        with tarfile.open(os.path.join(folder, archives[0])) as archive:
            for member, (arch, wanted) in files.items():
                try:
                    data = archive.extractfile("package/" + member).read()
                except KeyError:
                    return f"{package} has no {member}"
                if hashlib.sha256(data).hexdigest() != wanted:
                    return f"{member} of {package} is not the file that was recorded"
                target = place(member, arch)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target + ".new", "wb") as f:
                    f.write(data)
                os.replace(target + ".new", target)
    return None


def fetch():
    """The folder, or None and why not."""
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        for package, files in PACKAGES.items():
            if is_there(files):
                continue
            try:
                problem = fetch_package(package, files)
            except (OSError, subprocess.TimeoutExpired, tarfile.TarError) as e:
                problem = f"{package}: {e}"
            if problem:
                return None, problem
    return FOLDER, None


def main():
    folder, problem = fetch()
    if problem:
        print("genuine.py:", problem, file=sys.stderr)
        return 4
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
