"""Which test provokes which reason code. Each of the three tests fails when it does not provoke all of its own; test_images.py
also fails when a code of the table is nobody's, or is here and not in the table."""
import os
import re

# test_images.py, on files: these bar a CRT before a process has it, or are no matter of a running program.
PLANNER = {1: "not-a-crt", 3: "hybrid", 4: "malformed", 5: "core-missing", 6: "not-code",
           7: "unknown-instruction", 8: "too-short", 9: "overlap", 10: "branch-into", 11: "call-in-range",
           12: "alias-conflict", 13: "too-many", 15: "not-relocatable", 16: "forwarded", 17: "too-long"}
# test_modes.py, in processes. Synthetic CRTs with these faults are made for x64 only:
X64_ONLY = {7, 8, 9, 10, 11, 12, 15}
PROCESS = X64_ONLY | {0, 14, 20, 21, 22, 23, 24, 25, 26, 27, 28, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 43, 44, 45, 47,
                      50, 51}
# test_com.py, in processes that redirect COM's task memory.
COM = {60, 61, 62, 63, 64, 65}


def table():
    """{code: name} as src/pe/plan_reason.c and .h have it."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/pe")
    codes = dict(re.findall(r"(MI_REASON_\w+) = (\d+)", open(os.path.join(folder, "plan_reason.h"), encoding="ascii").read()))
    rows = re.findall(r'\{(MI_REASON_\w+), "([\w-]+)"', open(os.path.join(folder, "plan_reason.c"), encoding="ascii").read())
    return {int(codes[constant]): name for constant, name in rows}
