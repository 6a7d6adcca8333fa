#!/usr/bin/env python3
"""A variable of ours is found in the environment by either name and in any place, alone or among others; without one nothing
is said, whatever else begins like ours.

usage: check_environment.py libmimalloc.so
"""
import subprocess
import sys

OTHERS = {f"VARIABLE_{i}": "MI_SHOW_STATS=1" for i in range(500)} | {"M": "1", "MI": "1", "MIMALLOC": "1", "MIX_SHOW_STATS": "1",
                                                                    "MALLOC_SHOW_STATS": "1", "XMI_SHOW_STATS": "1"}


def says_something(library, *environments):
    env = {"LD_PRELOAD": library}
    for environment in environments:
        env |= environment
    run = subprocess.run(["/bin/true"], env=env, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"/bin/true ended with {run.returncode}: {run.stderr}")
    return "mimalloc statistics" in run.stderr


def main():
    library, failures, cases = sys.argv[1], 0, 0
    for name in ("MI_SHOW_STATS", "MIMALLOC_SHOW_STATS"):
        for environments in ([{name: "1"}], [OTHERS, {name: "1"}], [{name: "1"}, OTHERS]):
            cases += 1
            if not says_something(library, *environments):
                failures += 1
                print(f"{name} among {sum(map(len, environments))} variables is not found", file=sys.stderr)
    for environments in ([], [OTHERS], [{"MI_SHOW_STATS": "0"}], [{"MI_OTHER": "1"}]):
        cases += 1
        if says_something(library, *environments):
            failures += 1
            print(f"statistics without being asked for, by {environments}", file=sys.stderr)
    print(f"{cases} environments tried, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
