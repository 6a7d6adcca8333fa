"""The list of live blocks at the end of a process: asked for in the debug build, and nowhere else.

usage: run_leaks.py --program leaks --debug 0|1 [--runner wine-run]
Exit codes: 0 good, 1 failed, 77 skipped: no Wine.
"""
import argparse
import os
import re
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--program", required=True)
parser.add_argument("--debug", type=int, required=True)
parser.add_argument("--runner")
args = parser.parse_args()
failed = []


def check(fact, text):
    if not fact:
        failed.append(text)
        print("failed:", text)


def run(level, *words, option="MIMALLOC_SHOW_STATS"):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MIMALLOC_")}
    env[option] = str(level)
    done = subprocess.run([*([args.runner] if args.runner else []), args.program, *words], env=env, capture_output=True,
                          text=True, stdin=subprocess.DEVNULL, timeout=100, check=False)
    if done.returncode == 77:
        print("skipped: no Wine")
        sys.exit(77)
    check(done.returncode == 0, f"exit code {done.returncode}: {done.stderr}")
    return done.stdout, done.stderr


def number(text):
    return int(text, 16)


out, err = run(2)
head = re.search(r"^mimalloc: (\d+) blocks of (\d+) bytes are live at the end$", err, re.M)
listed = {number(p): int(size) for p, size in re.findall(r"^  (?:0x)?([0-9a-fA-F]+): (\d+) bytes$", err, re.M)}
kept = {number(p.replace("0x", "")): int(size) for p, size in re.findall(r"^kept (\S+) (\d+)", out, re.M)}
check(len(kept) == 3, f"the program says what it keeps: {out}")
if args.debug:
    check(head is not None and int(head[1]) == len(listed) and int(head[2]) == sum(listed.values()),
          f"the head is the sum of the lines: {err}")
    # Linked into a program that has a C library, that library's own blocks are listed, too.
    for p, size in kept.items():
        near = [listed[q] for q in listed if q <= p < q + listed[q]]  # an aligned block begins in front of its address
        check(near and near[0] >= size, f"a block of {size} bytes is listed: {err}")
    freed = [number(p.replace("0x", "")) for p in re.findall(r"^freed (\S+)", out, re.M)]
    check(len(freed) == 13, f"the program says what it freed: {out}")
    for i, p in enumerate(freed):
        check(p not in listed, f"freed block {i} is listed: {err}")
    check(min(size for p, size in listed.items() if p in kept) == 111, f"sizes are those asked for: {listed}")
    out, err = run(2, "1000")
    lines = re.findall(r"^  (?:0x)?[0-9a-fA-F]+: \d+ bytes$", err, re.M)
    head = re.search(r"^mimalloc: (\d+) blocks", err, re.M)
    check(len(lines) == 200 and head and int(head[1]) >= 1003 and f"... and {int(head[1]) - 200} more" in err,
          f"at most 200 lines, and how many more: {err[-500:]}")
    err = run(2, "0", "damaged")[1]
    damaged = re.findall(r"^  (?:0x)?[0-9a-fA-F]+: (\d+) bytes, its end was overwritten$", err, re.M)
    check(sorted(damaged, key=int) == ["111", "70000"], f"damaged blocks are listed as such: {err}")
else:
    check(head is None and not listed, f"only the debug build lists blocks: {err}")
check("live at the end" not in run(1)[1], "listed without being asked for")
for level, count in (0, 0), (1, 0), (2, 1):
    said = run(level, option="MIMALLOC_VERBOSE")[1]
    check(said.count("mimalloc statistics") == count, f"verbose {level} prints them {count} times: {said}")
said = run(1, "0", "damaged", "-", "done")[1]
check(said.count("mimalloc statistics") == 1, f"a program that ends the allocator itself has them once: {said}")
if not args.runner:
    check("mimalloc statistics" in run(1, "0", "damaged", "closed")[1],
          "a program that closes stderr at its end hides the statistics")
sys.exit(1 if failed else 0)
