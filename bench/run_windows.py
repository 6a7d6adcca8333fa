#!/usr/bin/env python3
"""The micro patterns on Windows or under Wine: the C runtime's own heap, mi_malloc called directly, and malloc through
the redirection; interleaved, the least of the rounds (the machine may do other things, too).

usage: run_windows.py [--rounds N] [--ms N] [--limit SECONDS] [--only WORD[,WORD]] [--preset NAME]
Each pattern runs in a process of its own; its start is not timed. One that takes longer than the limit (default 6) is
ended, is shown as "> limit" and is not run again; the means are of the other patterns.
Exit code 2: something that is needed is missing.
"""
import argparse
import contextlib
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import run as linux

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS = ("own heap", "mi_ direct", "redirected")


RUNNER = [] if os.name == "nt" else [str(ROOT / "scripts" / "wine-run")]


def command(program, *args):
    return subprocess.run(RUNNER + [str(program), *args], capture_output=True, text=True)


@contextlib.contextmanager
def wine_kept(work):
    """Wine stays up, by a program that waits, in a prefix of this run: to start it for each pattern is most of the time."""
    if not RUNNER:
        yield
        return
    os.environ["MI_WINE_RUN_PREFIX"] = str(work / "prefix")
    command("cmd", "/c", "exit")
    keeper = subprocess.Popen([*RUNNER, "cmd", "/c", "set", "/p", "x="], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ["MI_WINE_KEPT"] = "1"
    try:
        yield
    finally:
        keeper.stdin.close()
        keeper.wait()


def measure(program, name, ms, limit):
    """Nanoseconds per operation; None = it took longer than the limit."""
    # The program ends itself: what is killed here is the runner, not what it started.
    done = command(program, name, str(ms), f"limit={limit}")
    if done.returncode == 3:
        return None
    if done.returncode != 0:
        raise SystemExit(f"{name}, {program}: exit code {done.returncode}: {done.stderr[-400:]}")
    return float(done.stdout.split()[1])


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


def show(names, cells, limit):
    print("| ns per operation | " + " | ".join(COLUMNS) + " |\n|---|" + "---|" * len(COLUMNS))
    ratios = {column: [] for column in COLUMNS}
    for name in names:
        values = [None if None in cells[name, c] else min(cells[name, c]) for c in COLUMNS]
        row = [f"> {limit} s" if v is None else f"{v:.4g}" for v in values]
        if values[0] is not None:
            row = [text if v is None else f"{text} ({v / values[0]:.2f})" for text, v in zip(row, values)]
        if None not in values:
            for column, v in zip(COLUMNS, values):
                ratios[column].append(v / values[0])
        print(f"| {name} | " + " | ".join(row) + " |")
    if ratios[COLUMNS[0]]:
        print("| geometric mean | " + " | ".join(f"{linux.geomean(ratios[c]):.3f}" for c in COLUMNS) + " |")
    spread = [(max(v) - min(v)) / statistics.median(v) for v in cells.values() if len(v) > 1 and None not in v]
    if spread:
        print(f"\nnoise floor {100 * statistics.median(spread):.1f} %")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ms", type=int, default=20)
    parser.add_argument("--limit", type=int, default=6)
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
    start = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work, wine_kept(pathlib.Path(work)):
        programs = dict(prepare(build, pathlib.Path(work)))
        names = command(programs["own heap"], "list").stdout.split()
        names = [n for n in names if not args.only or any(w in n for w in args.only.split(","))]
        cells = {}
        for _ in range(args.rounds):
            for name in names:
                for column, program in programs.items():
                    cell = cells.setdefault((name, column), [])
                    if None not in cell:
                        cell.append(measure(program, name, args.ms, args.limit))
    show(names, cells, args.limit)
    print(f"{args.rounds} rounds in {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
