#!/usr/bin/env python3
"""A program that imports mimalloc.dll meets a bad partner where the redirect DLL should be.

    environment.py --build build/windows-x64-release --redirect mimalloc-redirect.dll --wine-run scripts/wine-run

In each case the program must run to its end, unredirected, and say so, and stderr must hold one sentence that
names the DLL, the reason and the cure; with MIMALLOC_REDIRECT=required it must not run at all. Exit codes: 0 good, 1 failed, 77 no Wine for this architecture.
"""
import argparse
import os
import re
import shutil
import sys

from run import fail, stage_allocator, wine

PROGRAM = "xm_last_exe"
EXIT_REQUIRED = 120


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


# What lies where the redirect DLL should be, and what the sentence has to say.
CASES = {
    "missing": (None, r"not there"),
    "empty": (lambda path, args: write(path, b""), r"architecture|damaged|no DLL"),
    "text": (lambda path, args: write(path, b"this is no DLL\n" * 100), r"architecture|damaged|no DLL"),
    "other-machine": (lambda path, args: shutil.copy(built(args, "other_machine.dll"), path), r"architecture"),
    "other-dll": (lambda path, args: shutil.copy(built(args, "xm_churn_msvcrt.dll"), path), r"another DLL"),
}


def built(args, name):
    return os.path.join(args.build, "tests", "crossmodule", name)


def stage(args, case):
    folder = built(args, "environment-" + case)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    names = [n for n in os.listdir(built(args, "")) if n.startswith("xm_") and n.endswith(".dll")]
    for name in names + [PROGRAM + ".exe"]:
        shutil.copy(built(args, name), folder)
    stage_allocator(args, folder)
    make = CASES[case][0]
    if make is not None:
        make(os.path.join(folder, args.redirect), args)
    return folder


def play(args, case):
    folder = stage(args, case)
    code, out, err = wine(args, folder, [PROGRAM + ".exe", "off", "brief"])
    if code == 77 and "skipped" in err:
        print(err)
        sys.exit(77)
    if code != 0 or not re.search(r"^[1-9]\d* checks passed, 0 failed\r?$", out, re.M):
        fail(f"{case}: exit code {code}", out + err)
    lines = [line for line in err.splitlines() if args.redirect in line]
    if len(lines) != 1 or "not redirected" not in lines[0] or not re.search(CASES[case][1], lines[0]):
        fail(f"{case}: not one clear sentence on stderr", err)
    print(f"{case}: {lines[0]}")
    # Told to do without, it has nothing to complain about.
    code, out, err = wine(args, folder, [PROGRAM + ".exe", "off", "brief"], {"MIMALLOC_DISABLE_REDIRECT": "1"})
    if code != 0 or args.redirect in err:
        fail(f"{case}: exit code {code} with MIMALLOC_DISABLE_REDIRECT=1", out + err)
    # Told that it must not run unredirected, it ends before main, with the reason and the documented exit code.
    code, out, err = wine(args, folder, [PROGRAM + ".exe", "off", "brief"], {"MIMALLOC_REDIRECT": "required"})
    if code != EXIT_REQUIRED or "checks passed" in out or args.redirect not in err or "required" not in err:
        fail(f"{case}: exit code {code} with MIMALLOC_REDIRECT=required", out + err)


def main():
    parser = argparse.ArgumentParser()
    for name in ("--build", "--redirect", "--wine-run"):
        parser.add_argument(name, required=True)
    parser.add_argument("--case", required=True, choices=sorted(CASES))
    args = parser.parse_args()
    args.build, args.wine_run = os.path.abspath(args.build), os.path.abspath(args.wine_run)
    play(args, args.case)
    return 0


if __name__ == "__main__":
    sys.exit(main())
