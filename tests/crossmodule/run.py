#!/usr/bin/env python3
"""Stages and runs one mode of the cross-module test.

    run.py --mode plain|early|order|load|off --exe xm_gcc_msvcrt_exe --build build/windows-x64-release
           --redirect mimalloc-redirect.dll --wine-run scripts/wine-run [--crt x64-ucrt-14393]

The program's own counts decide, and beyond them: each of the eight DLLs must have said goodbye with the number
of blocks it was given to free, and what the mode is about must have been so (import order, report).
With --crt, which names a set of scripts/genuine.py, the program's CRT is Microsoft's, by the names of the api sets.
Exit codes: 0 good, 1 failed or a part is not built, 2 wrong use, 77 no Wine for this architecture or no such CRT.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))
import genuine  # noqa: E402  (the path is set above)

DLLS = 8
EXIT_BLOCKS = 4
SECONDS = 240


def fail(text, output=""):
    print(output[-6000:])
    print("run.py:", text)
    sys.exit(1)


def stage(args):
    """A folder with the program, its DLLs, and what the mode needs of ours."""
    source = os.path.join(args.build, "tests", "crossmodule")
    folder = os.path.join(source, f"run-{args.mode}-{args.exe}{'-' + args.crt if args.crt else ''}")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    names = [n for n in os.listdir(source) if n.startswith("xm_") and n.endswith(".dll")]
    for name in names + [args.exe + ".exe"]:
        shutil.copy(os.path.join(source, name), folder)
    if args.mode != "plain":
        stage_allocator(args, folder)
        path = os.path.join(args.build, args.redirect)
        if not os.path.exists(path):
            fail(f"{args.redirect} is not built")
        shutil.copy(path, folder)
    if args.crt_set:
        for name in args.crt_set.versions:
            shutil.copy(os.path.join(genuine.folder_of(args.crt_set), name), folder)
    return folder


def stage_allocator(args, folder):
    """The preset's allocator DLL, under the name that the programs import; its own may say debug or secure."""
    paths = [os.path.join(args.build, f"mimalloc{suffix}.dll") for suffix in ("", "-debug", "-secure")]
    built = [path for path in paths if os.path.exists(path)]
    if not built:
        fail("no mimalloc.dll is built")
    shutil.copy(built[0], os.path.join(folder, "mimalloc.dll"))


def wine(args, folder, command, extra=None):
    env = dict(os.environ, XM_VALUE="a value to be copied")
    for name in list(env):
        if name.startswith(("MIMALLOC_", "MI_")) and not name.startswith("MI_WINE"):
            del env[name]
    env.update(extra or {})
    done = subprocess.run([args.wine_run, *command], cwd=folder, env=env, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=SECONDS, check=False)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def inject(args, folder):
    """Our own minject.exe, in the same Wine."""
    tool = os.path.join(args.build, "minject.exe")
    if not os.path.exists(tool):
        fail("minject.exe is not built")
    code, out, err = wine(args, folder, [tool, "inject", args.exe + ".exe"])
    if code != 0 or not os.path.exists(os.path.join(folder, args.exe + "-mi.exe")):
        fail(f"minject ended with {code}", out + err)
    return args.exe + "-mi.exe"


def find_crt(args):
    """The set of that name; fetched when it is not there."""
    for problem in genuine.fetch():
        print(f"not had: {problem}")
    found = [s for s in genuine.sets() if s.name == args.crt]
    if not found:
        print(f"skipped: {args.crt} cannot be had")
        sys.exit(77)
    return found[0]


def check_crt(args, out):
    """Microsoft's own code, redirected: the status that the program prints names its version."""
    for crt, version in args.crt_set.versions.items():
        line = re.search(rf"^mimalloc-redirect: {re.escape(crt)} {re.escape(version)} at .*: redirected, (\d+) functions .*, proof: (\d+) of",
                         out, re.M)
        if not line or line[1] != line[2]:
            fail(f"no redirected {crt} of version {version}", out)


def check_import_order(args, folder, exe, is_first):
    done = subprocess.run(["llvm-readobj-19", "--coff-imports", os.path.join(folder, exe)],
                          capture_output=True, text=True, check=True)
    names = re.findall(r"^\s*Name: (\S+)$", done.stdout, re.M)
    places = [i for i, name in enumerate(names) if name.lower().startswith("mimalloc")]
    wanted = list(range(len(places))) if is_first else [len(names) - 1]
    if not places or places != wanted:
        fail(f"the import order is not what {args.mode} needs: {names}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", required=True, choices=["plain", "early", "order", "load", "off"])
    for name in ("--exe", "--build", "--redirect", "--wine-run"):
        parser.add_argument(name, required=True)
    parser.add_argument("--crt", default="")
    args = parser.parse_args()
    args.build, args.wine_run = os.path.abspath(args.build), os.path.abspath(args.wine_run)
    args.crt_set = find_crt(args) if args.crt else None
    folder = stage(args)
    exe = args.exe + ".exe"
    env = {"MIMALLOC_VERBOSE": "1"}
    if args.crt_set:
        env["WINEDLLOVERRIDES"] = genuine.overrides(args.crt_set)
    if args.mode in ("early", "off"):
        exe = inject(args, folder)
        check_import_order(args, folder, exe, True)
    elif args.mode == "order":
        check_import_order(args, folder, exe, False)
    if args.mode == "off":
        env["MIMALLOC_DISABLE_REDIRECT"] = "1"
    try:
        code, out, err = wine(args, folder, [exe, args.mode], env)
    except subprocess.TimeoutExpired as e:
        fail(f"the program hangs in mode {args.mode}", ((e.stdout or b"") + (e.stderr or b"")).decode())
    if code == 77 and "skipped" in err:
        print(err)
        sys.exit(77)
    if code != 0:
        fail(f"exit code {code}", out + err)
    if not re.search(r"^[1-9]\d* checks passed, 0 failed\r?$", out, re.M):
        fail("no counts", out + err)
    good = re.findall(rf"^\w+: atexit freed {EXIT_BLOCKS}, bad 0\r?$", out, re.M)
    if len(good) != DLLS:
        fail(f"{len(good)} of {DLLS} DLLs freed their blocks at exit", out + err)
    if args.crt_set:
        check_crt(args, (out + err).replace("\r", ""))
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
