#!/usr/bin/env python3
"""What the redirection adds to a start with many modules, under Wine: interleaved runs with and without it.

  bench/startup.py [--modules 200] [--rounds 15] [--build build/windows-x64-release]

Prints, for our DLLs before and after the modules, the medians of the time that loading ours and loading the modules
took inside the process, with MIMALLOC_DISABLE_REDIRECT=1 and without, and their difference. Exit code 2 = not built.
"""
import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "windows-x64-release")
    args = parser.parse_args()
    bench = args.build / "bench"
    program, module = bench / "startup.exe", bench / "startup-module.dll"
    redirect = "mimalloc-redirect32.dll" if "x86" in args.build.name else "mimalloc-redirect.dll"
    for need in (program, module, args.build / "mimalloc.dll", args.build / redirect):
        if not need.exists():
            print(f"{need} is missing: build the preset first", file=sys.stderr)
            return 2
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.modules):
            shutil.copy(module, pathlib.Path(folder) / f"module{i:03}.dll")
        for source in (program, args.build / "mimalloc.dll", args.build / redirect):
            shutil.copy(source, folder)
        for _ in range(args.rounds):
            for order in ("early", "late"):
                for off in ("1", "0"):
                    run = subprocess.run([ROOT / "scripts" / "wine-run", pathlib.Path(folder) / program.name, ".",
                                          str(args.modules), order], cwd=folder, capture_output=True, text=True,
                                         env=dict(os.environ, MIMALLOC_DISABLE_REDIRECT=off))
                    if run.returncode != 0:
                        print(f"startup {order}: exit code {run.returncode}: {run.stderr[-300:]}", file=sys.stderr)
                        return 1
                    _, ours, modules = run.stdout.split()
                    times.setdefault((order, off), []).append((float(ours), float(modules)))
    print(f"{args.modules} modules, medians of {args.rounds}, milliseconds: without redirection, with it, added")
    for order in ("early", "late"):
        for index, what in enumerate(("loading ours", "loading the modules")):
            off, on = (statistics.median(t[index] for t in times[(order, o)]) for o in ("1", "0"))
            spread = max(max(t[index] for t in times[(order, o)]) - min(t[index] for t in times[(order, o)])
                         for o in ("1", "0"))
            print(f"  {order:6s} {what:20s} {off:8.2f} {on:8.2f} {on - off:+8.2f}   (widest spread {spread:.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
