#!/usr/bin/env python3
"""The CMake helper in its example project, cross-built with mingw gcc and with clang, then run.

  test_cmake_helper.py --source SOURCE_TREE --tools build/windows-x64-release --runner scripts/wine-run
      [--native build/linux-release/minject]      the tool for this machine; without it minject.exe under Wine, slowly
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("--source", required=True)
parser.add_argument("--tools", required=True)
parser.add_argument("--runner", required=True)
parser.add_argument("--native")
args = parser.parse_args()
SOURCE, TOOLS, RUNNER = (pathlib.Path(p).resolve() for p in (args.source, args.tools, args.runner))
EXAMPLE = SOURCE / "examples" / "cmake"
passed = failed = 0


def check(fact, what):
    global passed, failed
    if fact:
        passed += 1
    else:
        failed += 1
        print(f"failed: {what}", file=sys.stderr)


def run(command, **more):
    """Files, not pipes: Wine's background processes keep pipes open."""
    with tempfile.TemporaryFile() as out:
        code = subprocess.run([str(c) for c in command], stdout=out, stderr=subprocess.STDOUT, timeout=300, **more).returncode
        out.seek(0)
        return code, out.read().decode("utf-8", "replace")


def build(folder, toolchain, dlls):
    native = args.native and pathlib.Path(args.native).exists()
    tool = pathlib.Path(args.native).resolve() if native else f"{RUNNER};{TOOLS / 'minject.exe'}"
    code, text = run(["cmake", "-G", "Ninja", "-S", EXAMPLE, "-B", folder, f"-DCMAKE_TOOLCHAIN_FILE={toolchain}",
                      f"-DMIMALLOC_DIR={dlls}", f"-DMINJECT_EXECUTABLE={tool}"])
    check(code == 0, f"configure: {text}")
    return run(["cmake", "--build", folder])


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="minject-cmake-"))
    try:
        for name, toolchain in (("mingw", EXAMPLE / "toolchain-mingw.cmake"), ("clang", SOURCE / "cmake" / "toolchain-windows.cmake")):
            code, text = build(folder / name, toolchain, TOOLS)
            check(code == 0, f"{name}: build: {text}")
            (folder / "in.txt").write_text("one two two three\n" * 100)
            with open(folder / "in.txt") as source:
                code, text = run([RUNNER, folder / name / "words.exe"], stdin=source, env={**os.environ, "MIMALLOC_VERBOSE": "1"})
            check(code == 0 and "3 different words" in text, f"{name}: runs: {text[-300:]}")
            check("redirected, " in text and "early" in text, f"{name}: is redirected: {text[-600:]}")
            code, text = run(["cmake", "--build", folder / name])
            check(code == 0, f"{name}: a second build has nothing to do: {text}")
        empty = folder / "dlls"
        empty.mkdir()
        shutil.copy(TOOLS / "mimalloc.dll", empty)
        code, text = build(folder / "without", EXAMPLE / "toolchain-mingw.cmake", empty)
        check(code != 0 and "mimalloc-redirect.dll" in text and "MIMALLOC_DIR" in text, f"a missing DLL fails the build: {text}")
        shutil.copy(TOOLS / "mimalloc.dll", empty / "mimalloc-redirect.dll")
        code, text = build(folder / "without", EXAMPLE / "toolchain-mingw.cmake", empty)
        check(code != 0 and "does not export mi_allocator_init" in text, f"a wrong DLL fails the build: {text}")
    finally:
        shutil.rmtree(folder)
    print(f"{passed} checks passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
