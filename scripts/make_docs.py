#!/usr/bin/env python3
"""Writes the tables of the documents from the source they describe, between marker lines.

  make_docs.py           brings docs/*.md up to date
  make_docs.py --check   exit code 1 when one of them is not

A marker is a line `<!-- made from SOURCE: NAME -->`; the table goes on to `<!-- end -->`.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
STRING = r'"((?:\\.|[^"\\])*)"'


def read(name):
    return (ROOT / name).read_text()


def enum_values(text, type_name):
    """The enumerators of a C enum with their numbers, also where the source leaves them to the compiler."""
    body = re.search(r"typedef enum \w*\s*\{(.*?)\}\s*" + type_name, text, re.S).group(1)
    values, number = {}, -1
    for name, value in re.findall(r"^\s*(MI_\w+)\s*(?:=\s*(\d+))?", re.sub(r"//[^\n]*", "", body), re.M):
        number = int(value) if value else number + 1
        values[name] = number
    return values


def reasons():
    numbers = enum_values(read("src/pe/plan_reason.h"), "mi_reason_t")
    rows = re.findall(r"\{(MI_REASON_\w+),\s*" + r",\s*".join([STRING] * 3) + r"\}",
                      read("src/pe/plan_reason.c").split("mi_reason_count")[0])
    out = ["| code | name | cause | cure |", "|---|---|---|---|"]
    for key, name, cause, cure in sorted(rows, key=lambda row: numbers[row[0]]):
        out.append(f"| {numbers[key]} | `{name}` | {cause} | {cure} |")
    return out, len(rows), len(numbers)


def functions():
    source = read("src/pe/crt_table.c")
    shown = dict(re.findall(r"\[(MI_CRT_\w+)\]\s*=\s*\{" + STRING, source))
    names = re.findall(r"\{" + STRING + r",\s*(MI_CRT_\w+),\s*([A-Z_| ]+)\}", source)
    out = ["| function | exported names that are redirected to its replacement |", "|---|---|"]
    for key, public in shown.items():
        listed = ", ".join("`" + n.replace("?\\?", "??") + "`" for n, fn, _ in names if fn == key)
        out.append(f"| {public} | {listed} |")
    return out, len(names), source.split("left_alone[]")[0].count('\n    {"')


def exit_codes():
    rows = re.findall(r"X\((\w+),\s*(\d+),\s*" + STRING + r"\)", read("tools/minject/exit_codes.h"))
    out = ["| exit code | meaning |", "|---|---|"]
    out += [f"| {number} | {text} |" for _, number, text in rows]
    return out, len(rows), len(rows)


TABLES = {"reasons": reasons, "functions": functions, "exit codes": exit_codes}


def renew(text, where):
    def replace(match):
        head, name = match.group(1), match.group(2)
        if name not in TABLES:
            sys.exit(f"{where}: nobody makes the table {name!r}")
        lines, found, expected = TABLES[name]()
        if found != expected or found == 0:
            sys.exit(f"{name}: {found} rows were read but the source seems to have {expected}; "
                     f"its layout has changed, teach this script")
        return head + "\n" + "\n".join(lines) + "\n<!-- end -->"
    return re.sub(r"(<!-- made from [^:>]+: ([^>]+?) -->).*?<!-- end -->", replace, text, flags=re.S)


def main():
    is_check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not is_check:
        sys.exit(__doc__)
    stale = tables = 0
    for path in sorted((ROOT / "docs").glob("*.md")):
        old = path.read_text()
        new = renew(old, path.name)
        tables += new.count("<!-- made from ")
        if new != old and is_check:
            print(f"{path.relative_to(ROOT)} is out of date: run scripts/make_docs.py")
            stale += 1
        elif new != old:
            path.write_text(new)
            print(f"{path.relative_to(ROOT)} written")
    if tables == 0:
        sys.exit("no document has a table that is made from the source")
    print(f"{tables} tables made from the source, {stale} documents out of date")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
