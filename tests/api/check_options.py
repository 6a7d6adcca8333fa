#!/usr/bin/env python3
"""Every option of mimalloc.h either does something or says that it does not.

    check_options.py --header include/mimalloc.h --table src/diag/options.c --sources src

An option whose comment in the header says "no effect" must have the mark IDLE in the table (the list of options that
the library prints says so then), and nothing in the sources may ask for it. Any other option must be asked for
somewhere in the sources. The comment must say something at all.
"""
import argparse
import pathlib
import re
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--header", type=pathlib.Path, required=True)
parser.add_argument("--table", type=pathlib.Path, required=True)
parser.add_argument("--sources", type=pathlib.Path, required=True)
args = parser.parse_args()

enumeration = re.search(r"typedef enum mi_option_e \{(.*?)_mi_option_last", args.header.read_text(), re.S).group(1)
comments = {}
current = None
for line in enumeration.splitlines():
    named = re.match(r"\s*mi_option_(\w+)\s*,?\s*(?://\s*(.*))?$", line)
    if named:
        current = named.group(1)
        comments[current] = named.group(2) or ""
    elif current and re.match(r"\s*//", line):
        comments[current] += " " + line.strip().lstrip("/ ")

table = args.table.read_text()
rows = dict(re.findall(r"\[mi_option_(\w+)\] =\s*\{(.*?)\}", table, re.S))
used = set()
for source in args.sources.rglob("*.[ch]"):
    if source != args.table:
        used |= set(re.findall(r"\bmi_option_(\w+)\b", source.read_text()))

faults = []
if set(rows) != set(comments):
    faults.append(f"the header and the table differ in {sorted(set(rows) ^ set(comments))}")
for name, comment in comments.items():
    says_idle = "no effect" in comment
    is_idle = "IDLE" in rows.get(name, "")
    if not comment:
        faults.append(f"{name}: the header does not say what it does")
    if says_idle != is_idle:
        faults.append(f"{name}: the header {'says' if says_idle else 'does not say'} \"no effect\", the table "
                      f"{'marks' if is_idle else 'does not mark'} it IDLE")
    if is_idle == (name in used):
        faults.append(f"{name}: " + ("marked IDLE, and yet the sources ask for it" if is_idle
                                     else "nothing in the sources asks for it"))
for fault in faults:
    print(fault)
print(f"{len(comments)} options, {sum('no effect' in c for c in comments.values())} without effect, "
      f"{len(faults)} faults")
sys.exit(1 if faults or len(comments) < 40 else 0)
