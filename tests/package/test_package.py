"""The package as a packager makes and uses it: configured without our presets and with gcc, built, installed, moved
elsewhere; then a project that knows only the package finds it with CMake and with pkg-config, and its programs run.

usage: test_package.py --source folder --work folder [--compiler gcc] [--arch x86_64|i686 --runner wine-run --minject tool]

With --arch the toolchain is mingw-w64's gcc alone, as MSYS2 and MXE have it, and the programs run under Wine; one of
them knows nothing of us and is redirected by its build. Exit codes: 0 good, 1 failed, 77 skipped.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys


# Linux distributions build with these.
DISTRIBUTION_FLAGS = "-O2 -flto=auto -ffat-lto-objects -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fcf-protection"


class Failed(Exception):
    pass


def run(*words, cwd=None, env=None):
    done = subprocess.run([str(w) for w in words], cwd=cwd, env=env, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=600, check=False)
    if done.returncode == 77:
        print("skipped: no Wine for these programs")
        sys.exit(77)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def toolchain(args, folder):
    """What a mingw-w64 cross toolchain is to CMake; nothing of ours."""
    if not args.arch:
        return [f"-DCMAKE_C_COMPILER={args.compiler}", f"-DCMAKE_CXX_COMPILER={args.compiler.replace('gcc', 'g++')}"]
    prefix = f"{args.arch}-w64-mingw32"
    file = folder / "toolchain.cmake"
    file.write_text(f"set(CMAKE_SYSTEM_NAME Windows)\nset(CMAKE_SYSTEM_PROCESSOR {args.arch})\n"
                    f"set(CMAKE_C_COMPILER {prefix}-gcc-win32)\nset(CMAKE_CXX_COMPILER {prefix}-g++-win32)\n"
                    f"set(CMAKE_RC_COMPILER {prefix}-windres)\nset(CMAKE_EXE_LINKER_FLAGS_INIT -static-libstdc++\\ -static-libgcc)\n"
                    "set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)\n")
    return [f"-DCMAKE_TOOLCHAIN_FILE={file}"]


def build(source, folder, *options, target="all"):
    run("cmake", "-G", "Ninja", "-S", source, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", *options)
    run("cmake", "--build", folder, "--target", target)


def try_program(args, folder, name, prefix, *words):
    path = folder / (f"{name}.exe" if args.arch else name)
    if not path.exists():
        raise Failed(f"{path} was not built")
    if args.arch:
        for dll in (prefix / "bin").glob("*.dll"):
            shutil.copy(dll, folder)
    env = {k: v for k, v in os.environ.items() if not k.startswith("MIMALLOC_")}
    out = run(*([args.runner] if args.arch else []), path, *words, env=env)
    if not out.startswith("good: "):
        raise Failed(f"{name} says: {out}")
    print(f"{name}: {out.strip()}")


def with_pkg_config(args, prefix, folder):
    env = dict(os.environ, PKG_CONFIG_PATH=str(prefix / "lib" / "pkgconfig"))
    if "3.4" not in run("pkg-config", "--modversion", "mimalloc", env=env):
        raise Failed("pkg-config gives another version")
    flags = run("pkg-config", "--cflags", "--libs", "mimalloc", env=env).split()
    source = args.source / "tests" / "package" / "consumer" / "use.c"
    run(args.compiler, source, "-o", folder / "use-pc", *flags, f"-Wl,-rpath,{prefix / 'lib'}")
    try_program(args, folder, "use-pc", prefix, "malloc")


def uses(args, folder, tools):
    prefix, built = folder / "moved", folder / "consumer-build"
    options = [f"-DCMAKE_PREFIX_PATH={prefix}", f"-DMINJECT_EXECUTABLE={args.minject}"]
    if args.arch:  # a cross toolchain looks below its own root
        options += ["-DCMAKE_FIND_ROOT_PATH_MODE_PACKAGE=BOTH"]
    build(args.source / "tests" / "package" / "consumer", built, *tools, *options)
    if not args.arch:  # the variants share a prefix
        build(args.source / "tests" / "package" / "consumer", folder / "secure", *tools, *options, "-DCONSUMER_SUFFIX=-secure")
        try_program(args, folder / "secure", "use-mimalloc", prefix, "malloc")
        if "libmimalloc-secure.so.3" not in run("ldd", folder / "secure" / "use-mimalloc"):
            raise Failed("find_package(mimalloc-secure) links another variant")
        # Of a program that is optimised as a whole the linker does not hear that it needs a malloc until it is too late.
        build(args.source / "tests" / "package" / "consumer", folder / "lto", *tools, *options, "-DCMAKE_C_FLAGS=-O2 -flto")
        for name in ("use-mimalloc", "use-mimalloc-static", "use-mimalloc-obj"):
            try_program(args, folder / "lto", name, prefix, "malloc")
    own_malloc = () if args.arch else ("malloc",)
    for name in ("use-mimalloc", "use-mimalloc-static"):
        try_program(args, built, name, prefix, *own_malloc)
    try_program(args, built, "use-cxx", prefix)
    if args.arch:
        try_program(args, built, "redirected", prefix)
    else:
        try_program(args, built, "use-mimalloc-obj", prefix, "malloc")
        with_pkg_config(args, prefix, folder)


def installed(args, folder, tools):
    linux = [["-DMI_SECURE=1", "-DCMAKE_C_FLAGS_RELEASE=-O0"], ["-DCMAKE_C_FLAGS_RELEASE=-O3 -DNDEBUG", f"-DCMAKE_C_FLAGS={DISTRIBUTION_FLAGS}"]]
    for variant in ([[]] if args.arch else linux):
        build(args.source, folder / "build", "-DMI_BUILD_TESTS=OFF", "-DMI_SECURE=0", *variant, *tools)
        run("cmake", "--install", folder / "build", "--prefix", folder / "installed")
    (folder / "installed").rename(folder / "moved")
    for name in ("minject.1", "minject"):
        there = list((folder / "moved" / "share").rglob(name))
        if not args.arch and (not there or there[0].stat().st_size < 500):
            raise Failed(f"{name} is not installed")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", required=True, type=pathlib.Path)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--compiler", default="gcc")
    parser.add_argument("--arch")
    parser.add_argument("--runner")
    parser.add_argument("--minject", default="minject")
    args = parser.parse_args()
    args.source = args.source.resolve()
    folder = args.work.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        tools = toolchain(args, folder)
        installed(args, folder, tools)
        uses(args, folder, tools)
        if not args.arch:
            build(args.source / "tests" / "package" / "consumer", folder / "inside", *tools,
                  f"-DCONSUMER_SUBDIRECTORY={args.source}", "-DCMAKE_C_FLAGS_RELEASE=-O0", target="use-mimalloc")
            try_program(args, folder / "inside", "use-mimalloc", folder / "moved", "malloc")
    except Failed as failure:
        print("failed:", failure)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
