#!/usr/bin/env python3
"""Makes the table of test_contract.c from the public headers: a row for every function that returns a pointer and takes
a size, with a call of it by the meaning of its parameters. So no such function can be declared without being tested.

    contract_table.py --include DIR --out FILE

A parameter whose meaning is not known here is an error, and so is a header in which few functions are found.
"""
import argparse
import pathlib
import re
import sys

VALUE = {"size": "a->size", "newsize": "a->size", "count": "a->count", "newcount": "a->count", "p": "a->p",
         "alignment": "a->align", "offset": "a->offset", "heap": "a->heap", "theap": "mi_theap_get_default()",
         "block_size": "&a->usable", "block_size_pre": "&a->usable_before", "block_size_post": "&a->usable"}
# Functions that take a size and are no allocation by that size: test_contract_made.c.
OTHERS = {"mi_strndup", "mi_heap_strndup", "mi_stats_get_json", "mi_stats_as_json", "mi_heap_stats_get_json",
          "mi_subproc_stats_get_json"}


def functions(folder):
    for header in sorted(folder.glob("*.h")):
        text = re.sub(r"//[^\n]*", "", header.read_text())
        for m in re.finditer(r"\bmi_decl_export\b([^;{}()]*?)\b(_?mi_\w+)\s*\(([^()]*)\)", text):
            if "*" in m.group(1) and re.search(r"\bsize_t \w", m.group(3)):
                yield m.group(2), [p.strip() for p in m.group(3).split(",")]


def flags_of(name, parameters):
    words = {"count": "HAS_COUNT", "newcount": "HAS_COUNT", "alignment": "HAS_ALIGN", "offset": "HAS_OFFSET",
             "p": "RESIZES", "block_size": "TELLS_USABLE", "block_size_post": "TELLS_USABLE"}
    flags = {words[p] for p in parameters if p in words}
    if re.search(r"zalloc|calloc", name):
        flags.add("ZEROES")
    if name.endswith("_small"):
        flags.add("IS_SMALL")
    if name.endswith("expand"):
        flags.add("STAYS")
    if name.endswith("reallocf"):
        flags.add("FREES_ON_FAILURE")
    if re.search(r"_new(_|$)", name) and "nothrow" not in name:
        flags.add("THROWS")
    return flags


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--include", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    calls, rows = [], []
    for name, declared in functions(args.include):
        if name in OTHERS:
            continue
        parameters = [re.search(r"(\w+)$", p).group(1) for p in declared]
        unknown = [p for p in parameters if p not in VALUE]
        if unknown:
            sys.exit(f"{name}: what is {', '.join(unknown)}?")
        calls.append(f"static void *call_{name}(args_t *a) {{\n    return {name}({', '.join(VALUE[p] for p in parameters)});\n}}")
        rows.append(f'    {{"{name}", call_{name}, {" | ".join(sorted(flags_of(name, parameters))) or "0"}}},')
    if len(rows) < 75:
        sys.exit(f"only {len(rows)} functions found")
    args.out.write_text("\n".join(calls) + "\nstatic const row_t rows[] = {\n" + "\n".join(rows) + "\n};\n")


if __name__ == "__main__":
    main()
