#!/usr/bin/env python3
"""What api_stats_json writes is JSON, fits docs/stats.schema.json, and says the figures of the structure.

usage: check_json.py --schema stats.schema.json --program api_stats_json [--runner wine-run]
Exit codes: 0 good, 1 failed, 77 skipped: no Wine.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "minject"))
import json_schema  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--schema", type=pathlib.Path, required=True)
parser.add_argument("--program", required=True)
parser.add_argument("--runner")
args = parser.parse_args()
schema = json.loads(args.schema.read_text())
failed = checked = 0


def check(fact, text):
    global failed, checked
    checked += 1
    if not fact:
        failed += 1
        print("failed:", text)


def once(pairs):
    names = [k for k, _ in pairs]
    check(len(names) == len(set(names)), f"a name comes twice: {names}")
    return dict(pairs)


env = dict(os.environ, MIMALLOC_DISABLE_REDIRECT="1")
done = subprocess.run([*([args.runner] if args.runner else []), args.program], env=env, capture_output=True, text=True,
                      stdin=subprocess.DEVNULL, timeout=100, check=False)
if done.returncode == 77:
    print("skipped: no Wine")
    sys.exit(77)
check(done.returncode == 0 and done.stdout.rstrip().endswith("== end 0"), f"exit code {done.returncode}: {done.stderr}")
documents = re.findall(r"^== (\w+)\n(.*?)^== figures\n(.*?)(?=^== )", done.stdout, re.M | re.S)
check([name for name, _, _ in documents] == ["heap", "given", "process", "subprocess", "extreme", "empty"],
      f"documents: {[name for name, _, _ in documents]}")
for name, text, figures in documents:
    text.encode("ascii")  # there is no text of anybody's in it: names of fields and numbers only
    said = json.loads(text, object_pairs_hook=once, parse_constant=lambda x: sys.exit(f"{x} is no JSON"))
    for fault in json_schema.faults(said, schema):
        check(False, f"{name}: {fault}")
    check(said["process"]["rss_current"] > 100000 and said["process"]["rss_peak"] > 100000, f"{name}: {said['process']}")
    expected = {"malloc_bins": [], "page_bins": []}
    for line in figures.splitlines():
        kind, field, *numbers = line.split()
        numbers = [int(n) for n in numbers]
        if kind == "count":
            expected[field] = dict(zip(("total", "peak", "current"), numbers))
        elif kind == "counter":
            expected[field] = {"total": numbers[0]}
        elif any(numbers[2:]):
            expected[field].append(dict(zip(("bin", "size", "total", "peak", "current"), numbers)))
    for field, value in expected.items():
        check(not figures or said[field] == value, f"{name}: {field} is {said[field]}, the structure has {value}")
    if name == "heap":
        check(sum(b["current"] for b in said["malloc_bins"]) == 2000, f"{name}: 2000 blocks live, {said['malloc_bins']}")
        check(all(b["current"] == 0 or b["size"] > 0 for b in said["malloc_bins"]), f"{name}: bins without a size")
print(f"{checked} checks passed, {failed} failed")
sys.exit(1 if failed else 0)
