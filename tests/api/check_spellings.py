#!/usr/bin/env python3
"""Every option can be set by every spelling of its name: as it is now and as it once was, after MIMALLOC_ and after MI_;
an old name is accepted with a warning that tells the new one. An option without effect says so when it is printed.

usage: check_spellings.py --table options.c --program PROGRAM [--runner wine-run]
The program is any that uses the library. Exit codes: 0 good, 1 failed, 77 skipped: no Wine.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--table", type=pathlib.Path, required=True)
parser.add_argument("--program", required=True)
parser.add_argument("--runner")
args = parser.parse_args()
table = args.table.read_text()
olds_of = {option: re.findall(r"\w+", olds) for option, olds in re.findall(r'\{(mi_option_\w+),\s*"([^"]*)"\}', table)}
rows = {name: (olds_of.pop(option, []), kind)
        for option, name, kind in re.findall(r'\[(mi_option_\w+)\] =\s*\{[^,{}]+,\s*"(\w+)",\s*(\w+)\}', table)}
# With which the program still runs and says everything.
VALUES = {"show_errors": 1, "show_stats": 0, "verbose": 1, "max_errors": 200, "max_warnings": 200, "disallow_os_alloc": 0,
          "reserve_huge_os_pages": 0, "guarded_sample_rate": 0, "allow_large_os_pages": 0, "guarded_max": 70, "retry_on_oom": 3}
failed = 0


def check(fact, text):
    global failed
    if not fact:
        failed += 1
        print("failed:", text)


def run(settings):
    # wine-run takes away what is meant for it.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MIMALLOC_", "MI_")) or args.runner and k.startswith("MI_WINE")}
    env.update(settings, MIMALLOC_DISABLE_REDIRECT="1")
    done = subprocess.run([*([args.runner] if args.runner else []), args.program], env=env, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=100, check=False)
    if done.returncode == 77:
        print("skipped: no Wine")
        sys.exit(77)
    return done.stderr


def check_all(prefix, old):
    """Each option by its name (old: None), or by its old name of that number where it has one."""
    settings, spelled = {}, {}
    for name, (olds, kind) in rows.items():
        spelled[name] = name if old is None or len(olds) <= old else olds[old]
        value = VALUES.get(name, 9)
        settings[prefix + spelled[name].upper()] = f"{value}K" if kind == "KIB" else str(value)
    said = run(settings)
    for name, (olds, kind) in rows.items():
        line = f"mimalloc: option {name}: {VALUES.get(name, 9)}{' KiB' if kind == 'KIB' else ''} (set)"
        line += " (no effect)\n" if kind == "IDLE" else "\n"
        check(line in said, f"{prefix}{spelled[name].upper()}: expected {line!r} in\n{said}")
        warning = f"mimalloc: warning: option {spelled[name]} is deprecated, its name is now {name}\n"
        check((warning in said) == (spelled[name] != name), f"{warning!r} in\n{said}")


def check_value(text, expected, option="guarded_sample_seed", prefixes=("MIMALLOC_",)):
    """What the option's value is said to be when the variable has this text. None: it is not understood, and stays."""
    settings = {prefix + option.upper(): text for prefix in prefixes}
    said = run({"MIMALLOC_VERBOSE": "1", **settings})
    unit = " KiB" if rows[option][1] == "KIB" else ""
    default = int(re.search(rf"^mimalloc: option {option}: (\d+)", run({"MIMALLOC_VERBOSE": "1"}), re.M)[1])
    line = f"option {option}: {default if expected is None else expected}{unit}{'' if expected is None else ' (set)'}\n"
    check(line in said, f"{settings}: expected {line!r} in\n{said}")
    if len(text) < 60:
        warning = f'option {option}: value "{text}" not understood, it stays {default}\n'
        check((warning in said) == (expected is None), f"{settings}: {warning!r} in\n{said}")


SIZE_OPTION = "arena_max_object_size"
for text, expected in {"": 1, "on": 1, "YES": 1, "True": 1, "off": 0, "No": 0, "FALSE": 0, "+7": 7, "-7": -7, "maybe": None,
                       "7x": None, "--7": None, "1K": 1024, "2kB": 2048, "3KiB": 3072, "18446744073709551616": None,
                       "99999999999999999999": None, "0" * 60 + "1234567": None}.items():
    check_value(text, expected)
for text, expected in {"1": 1, "1024": 1, "1025": 2, "3m": 3072, "3MB": 3072, "3MiB": 3072, "2G": 2 << 20, "-5": None,
                       "-5K": None, "3MX": None, "3iB": None, "1 ": None}.items():
    check_value(text, expected, SIZE_OPTION)
if not args.runner: # a long has 64 bits
    check_value("9223372036854775808", (1 << 63) - 1)
    check_value("-9223372036854775808", -(1 << 63) + 1)
    check_value("99999999999T", (1 << 63) - 1)
    check_value("2T", 2 << 30, SIZE_OPTION)
    check_value("1tib", None, SIZE_OPTION)
    check_value("1t", 1 << 30, SIZE_OPTION)
    check_value("99999999999T", 1 << 54, SIZE_OPTION)
settings = {"MIMALLOC_VERBOSE": "1", "MIMALLOC_GUARDED_SAMPLE_SEED": "3", "MI_GUARDED_SAMPLE_SEED": "4"}
check("option guarded_sample_seed: 3 (set)" in run(settings), "MIMALLOC_ goes before MI_")

for prefix in ("MIMALLOC_", "MI_"):
    check_all(prefix, None)
    for old in range(max(len(olds) for olds, _ in rows.values())):
        check_all(prefix, old)
print(f"{len(rows)} options, {sum(len(olds) for olds, _ in rows.values())} old names, {failed} faults")
sys.exit(1 if failed or olds_of or len(rows) < 40 else 0)
