#!/usr/bin/env python3
"""The CMake helper in its example project, cross-built with mingw gcc, with clang, and in Microsoft's manner with
clang-cl and lld-link, then run. For the last, headers of mingw-w64 and generated import libraries stand in for
Microsoft's SDK, which cannot be had here.

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

import tally
from tally import check

parser = argparse.ArgumentParser()
parser.add_argument("--source", required=True)
parser.add_argument("--tools", required=True)
parser.add_argument("--runner", required=True)
parser.add_argument("--native")
args = parser.parse_args()
SOURCE, TOOLS, RUNNER = (pathlib.Path(p).resolve() for p in (args.source, args.tools, args.runner))
EXAMPLE = SOURCE / "examples" / "cmake"


def run(command, **more):
    """Files, not pipes: Wine's background processes keep pipes open."""
    with tempfile.TemporaryFile() as out:
        code = subprocess.run([str(c) for c in command], stdout=out, stderr=subprocess.STDOUT, timeout=300, **more).returncode
        out.seek(0)
        return code, out.read().decode("utf-8", "replace")


def build(folder, toolchain, dlls, *more, source=EXAMPLE, tool=None, configures=True, **env):
    native = args.native and pathlib.Path(args.native).exists()
    tool = tool or (pathlib.Path(args.native).resolve() if native else f"{RUNNER};{TOOLS / 'minject.exe'}")
    env = {**os.environ, **env}
    code, text = run(["cmake", "-G", "Ninja", "-S", source, "-B", folder, f"-DCMAKE_TOOLCHAIN_FILE={toolchain}",
                      f"-DMIMALLOC_DIR={dlls}", f"-DMINJECT_EXECUTABLE={tool}", *more], env=env)
    check((code == 0) == configures, f"configure: {text}")
    if not configures:
        return code, text
    return run(["cmake", "--build", folder], env=env)


HEADERS = pathlib.Path("/usr/x86_64-w64-mingw32/include")
# clang-cl says that it is Microsoft's compiler; mingw's headers know gcc. So each is included as gcc would.
AS_GCC = """#ifdef _MSC_VER
#undef _MSC_VER
#define _UCRT 1
#define __GNUC__ 4
#define __GNUC_MINOR__ 2
#define __MINGW32__ 1
#define __MINGW64__ 1
#define __MSVCRT__ 1
#endif
#include_next <{}>
"""
CRT_NAMES = """abort exit malloc calloc realloc free strlen strcmp strcpy memcpy memset __acrt_iob_func __stdio_common_vfprintf
__stdio_common_vfscanf _configure_narrow_argv __p___argc __p___argv""".split()
# What CMake links each program of Microsoft's compilers with, and what their objects ask for.
NAMED_ONLY = "kernel32 user32 gdi32 winspool shell32 ole32 oleaut32 uuid comdlg32 advapi32 oldnames vcruntime".split()


def make_libraries(folder):
    """msvcrt.lib with the start-up code, ucrt.lib, and the others that are only named."""
    folder.mkdir()
    source = pathlib.Path(__file__).resolve().parent / "msvc_runtime.c"
    (folder / "ucrt.def").write_text("LIBRARY ucrtbase.dll\nEXPORTS\n" + "\n".join(CRT_NAMES) + "\n")
    (folder / "none.c").write_text("int nothing_of_this_is_used;\n")
    commands = [["llvm-lib-19", "/def:ucrt.def", "/machine:x64", "/out:ucrt.lib"]]
    for name, file in (("msvcrt", source), ("none", folder / "none.c")):
        commands.append(["clang-cl-19", "--target=x86_64-pc-windows-msvc", "-c", "-MD", "-O1", "-GS-", "-Wno-everything",
                         f"-Fo{name}.obj", "--", file])
    commands.append(["llvm-lib-19", "/out:msvcrt.lib", "msvcrt.obj"])
    commands += [["llvm-lib-19", f"/out:{name}.lib", "none.obj"] for name in NAMED_ONLY]
    for command in commands:
        code, text = run(command, cwd=folder)
        check(code == 0, f"{command}: {text}")
    (folder / "msvcrt.obj").unlink()
    for name in ("stdio.h", "stdlib.h", "string.h"):
        (folder / name).write_text(AS_GCC.format(name))


def runs_redirected(name, folder):
    (folder / "in.txt").write_text("one two two three\n" * 100)
    with open(folder / "in.txt") as source:
        code, text = run([RUNNER, folder / "words.exe"], stdin=source, env={**os.environ, "MIMALLOC_VERBOSE": "1"})
    check(code == 0 and "3 different words" in text, f"{name}: runs: {code} {text[-300:]}")
    check("redirected, " in text and "early" in text, f"{name}: is redirected: {text[-600:]}")


def test_toolchains(folder):
    libraries = folder / "libraries"
    make_libraries(libraries)
    microsoft = dict(INCLUDE=f"{libraries};{HEADERS}", LIB=str(libraries))
    for name, toolchain, more, env in (
            ("mingw", EXAMPLE / "toolchain-mingw.cmake", [], {}), ("clang", SOURCE / "cmake" / "toolchain-windows.cmake", [], {}),
            ("clang-cl", EXAMPLE / "toolchain-clang-cl.cmake", ["-DCMAKE_BUILD_TYPE=RelWithDebInfo"], microsoft)):
        code, text = build(folder / name, toolchain, TOOLS, *more, **env)
        check(code == 0, f"{name}: build: {text}")
        runs_redirected(name, folder / name)
        code, text = run(["cmake", "--build", folder / name], env={**os.environ, **env})
        check(code == 0, f"{name}: a second build has nothing to do: {text}")
    check((folder / "clang-cl" / "words.pdb").exists(), "clang-cl: debug information in a PDB")
    code, text = run(["cmake", "-G", "Ninja", "-S", EXAMPLE, "-B", folder / "no-sdk", f"-DCMAKE_TOOLCHAIN_FILE={EXAMPLE / 'toolchain-clang-cl.cmake'}"],
                     env={k: v for k, v in os.environ.items() if k not in ("INCLUDE", "LIB")})
    check(code != 0 and "INCLUDE is not set" in text, f"without an SDK it is said: {text}")


def test_refusals(folder):
    """What check says no to does not get built."""
    empty = folder / "dlls"
    empty.mkdir()
    mingw = EXAMPLE / "toolchain-mingw.cmake"
    shutil.copy(TOOLS / "mimalloc.dll", empty)
    code, text = build(folder / "without", mingw, empty)
    check(code != 0 and "mimalloc-redirect.dll" in text and "MIMALLOC_DIR" in text, f"a missing DLL fails the build: {text}")
    shutil.copy(TOOLS / "mimalloc.dll", empty / "mimalloc-redirect.dll")
    code, text = build(folder / "without", mingw, empty)
    check(code != 0 and "does not export mi_allocator_init" in text, f"a wrong DLL fails the build: {text}")
    shutil.copy(TOOLS / "mimalloc-redirect.dll", empty)
    code, text = build(folder / "without", mingw, empty)
    check(code == 0, f"the right one repairs it: {text}")


BARE_PROJECT = """cmake_minimum_required(VERSION 3.17)
project(bare C)
list(APPEND CMAKE_MODULE_PATH "@SOURCE@/cmake")
include(MimallocRedirect)
add_executable(bare bare.c)
target_link_options(bare PRIVATE -nostdlib -Wl,--entry=begin)
mimalloc_redirect(bare ${WORDS})
"""


def test_words(folder):
    """What may stand behind the target, and the DLLs beside the tool when nobody says where they are. The program uses no C
    runtime, so the verdict is "only partly"."""
    source, mingw = folder / "source", EXAMPLE / "toolchain-mingw.cmake"
    source.mkdir()
    (source / "CMakeLists.txt").write_text(BARE_PROJECT.replace("@SOURCE@", str(SOURCE)))
    (source / "bare.c").write_text("int begin(void);\nint begin(void) { return 0; }\n")
    code, text = build(folder / "partly", mingw, TOOLS, source=source)
    check(code != 0 and "minject check says no" in text and "only partly" in text, f"only partly, not asked for: {text}")
    code, text = build(folder / "partly-ok", mingw, TOOLS, "-DWORDS=PARTLY_OK", source=source)
    check(code == 0, f"only partly, as asked for: {text}")
    secure = folder / "dlls"
    secure.mkdir()
    shutil.copy(TOOLS / "mimalloc-redirect.dll", secure)
    shutil.copy(TOOLS / "mimalloc.dll", secure / "mimalloc-secure.dll")
    code, text = build(folder / "variant", mingw, secure, "-DWORDS=VARIANT;secure;PARTLY_OK", source=source)
    found = sorted(p.name for p in (folder / "variant").glob("*.dll"))
    check(code == 0 and found == ["mimalloc-redirect.dll", "mimalloc-secure.dll"], f"a variant: {code} {found} {text}")
    code, text = build(folder / "unknown", mingw, TOOLS, "-DWORDS=VARIANTS;secure", source=source, configures=False)
    check(code != 0 and "unknown argument VARIANTS" in text, f"an unknown word: {text}")
    code, text = build(folder / "no-dir", mingw, "", "-DWORDS=PARTLY_OK", source=source, tool=f"{RUNNER};{TOOLS / 'minject.exe'}")
    check(code == 0 and (folder / "no-dir" / "mimalloc.dll").exists(), f"the DLLs beside the tool: {text}")


def main():
    for test in (test_toolchains, test_refusals, test_words):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="minject-cmake-"))
        try:
            test(folder)
        finally:
            shutil.rmtree(folder)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
