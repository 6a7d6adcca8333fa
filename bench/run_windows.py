#!/usr/bin/env python3
"""The micro patterns on Windows or under Wine: the C runtime's own heap, mi_malloc called directly, and malloc through
the redirection; interleaved, medians of the rounds.

usage: run_windows.py [--rounds N] [--ms N] [--only WORD[,WORD]] [--preset NAME]
Exit code 2: something that is needed is missing. Each pattern runs in a process of its own; its start is not timed.
"""
import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

import run as linux

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS = ("own heap", "mi_ direct", "redirected")


def command(program, *args):
    prefix = [] if os.name == "nt" else [str(ROOT / "scripts" / "wine-run")]
    return subprocess.run(prefix + [str(program), *args], capture_output=True, text=True)


def prepare(build, work):
    """A folder for each column: the programs find the DLLs that lie beside them."""
    for column, program in zip(COLUMNS, ("micro.exe", "micro-mi.exe", "micro.exe")):
        folder = work / column.replace(" ", "-")
        folder.mkdir()
        shutil.copy(build / "bench" / program, folder / "micro.exe")
        if column != "own heap":
            shutil.copy(build / "mimalloc.dll", folder)
        if column == "redirected":
            shutil.copy(build / "mimalloc-redirect.dll", folder)
            injected = command(build / "minject.exe", "inject", "--inplace", str(folder / "micro.exe"))
            if injected.returncode != 0:
                raise SystemExit(f"minject failed: {injected.stdout}{injected.stderr}")
        yield column, folder / "micro.exe"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ms", type=int, default=60)
    parser.add_argument("--only", default="")
    parser.add_argument("--preset", default="windows-x64-release")
    args = parser.parse_args()
    build = ROOT / "build" / args.preset
    needed = [build / name for name in ("bench/micro.exe", "bench/micro-mi.exe", "minject.exe", "mimalloc.dll",
                                        "mimalloc-redirect.dll")]
    missing = [str(f) for f in needed if not f.exists()]
    if missing:
        print("missing: " + ", ".join(missing), file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as work:
        programs = dict(prepare(build, pathlib.Path(work)))
        names = command(programs["own heap"], "list").stdout.split()
        names = [n for n in names if not args.only or any(w in n for w in args.only.split(","))]
        cells = {}
        for _ in range(args.rounds):
            for name in names:
                for column, program in programs.items():
                    done = command(program, name, str(args.ms))
                    if done.returncode != 0:
                        raise SystemExit(f"{name}, {column}: exit code {done.returncode}: {done.stderr[-400:]}")
                    cells.setdefault((name, column), []).append(float(done.stdout.split()[1]))
    print("| ns per operation | " + " | ".join(COLUMNS) + " |\n|---|" + "---|" * len(COLUMNS))
    ratios = {column: [] for column in COLUMNS}
    for name in names:
        base = statistics.median(cells[(name, COLUMNS[0])])
        row = []
        for column in COLUMNS:
            value = statistics.median(cells[(name, column)])
            ratios[column].append(value / base)
            row.append(f"{value:.6g} ({value / base:.2f})")
        print(f"| {name} | " + " | ".join(row) + " |")
    print("| geometric mean | " + " | ".join(f"{linux.geomean(ratios[c]):.3f}" for c in COLUMNS) + " |")
    spread = [(max(v) - min(v)) / statistics.median(v) for v in cells.values() if len(v) > 1]
    if spread:
        print(f"\nnoise floor {100 * statistics.median(spread):.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
