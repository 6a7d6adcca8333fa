#!/usr/bin/env python3
"""Proves the house rules of docs/design.md on the source tree.

  layers     an include of ours goes to a lower rank or to the same folder, and only along the allowed arrows
  paths      includes of ours are spelled from src/ ("core/page.h"); x.c includes x.h first; no .c is included
  compile    every header of src/ and include/ compiles alone (with --compile)
  sizes      no product file over 800 lines, no function over 70 lines
  dangers    system headers only in os/, redirect/ and the files that may have them; thread-local storage only
             in os/os_thread.h; inline assembly and code patching only where they belong

Exit code 0 = all hold, 1 = a rule is broken (one line for each), 2 = wrong use.
"""
import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RANK = {"base": 0, "os": 1, "pe": 1, "diag": 2, "redirect": 2, "core": 3, "minject": 3, "entry": 4}
# Who may include whom, besides its own folder. Anything not listed is a broken arrow.
ALLOWED = {
    "base": set(),
    "os": {"base"},
    "pe": {"base"},
    "diag": {"base", "os"},
    "redirect": {"base", "pe"},
    "core": {"base", "os", "diag"},
    "minject": {"base", "pe"},
    "entry": {"base", "os", "diag", "core"},
}
FREESTANDING_C = {"assert.h", "stdbool.h", "stddef.h", "stdint.h", "stdarg.h", "stdatomic.h", "limits.h",
                  "string.h", "errno.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
MAX_FILE, MAX_FUNCTION = 800, 70


def product_files():
    for base in (ROOT / "src", ROOT / "tools"):
        for path in sorted(base.rglob("*")):
            if path.suffix in (".c", ".h", ".cpp", ".S"):
                yield path


def folder_of(path):
    parts = path.relative_to(ROOT).parts
    return parts[1]


def check_includes(path, text, broken):
    here = folder_of(path)
    name = path.relative_to(ROOT)
    ours = []
    for kind, target in INCLUDE.findall(text):
        if target.endswith(".c"):
            broken.append(f"{name}: includes the source file {target}")
        if kind == "<":
            free = here in ("os", "redirect", "minject", "entry") or target in FREESTANDING_C
            # The compiler's own headers for the processor's SHA instructions.
            is_intrinsic = path.name == "pe_sha256_cpu.c" and target in ("cpuid.h", "immintrin.h")
            # What the allocator and the redirect DLL, neither above the other, ask Windows alike.
            is_shared = path.name in ("privilege_windows.c", "variable_windows.c") and target == "windows.h"
            if not free and not is_intrinsic and not is_shared and not (here == "base" and target == "intrin.h"):
                broken.append(f"{name}: system header <{target}> does not belong in {here}/")
            continue
        if target.startswith("mimalloc"):
            if here not in ("entry", "diag", "core"):
                broken.append(f"{name}: the public header {target} does not belong in {here}/")
            continue
        ours.append(target)
        to = target.split("/")[0]
        if to not in RANK or "/" not in target:
            broken.append(f'{name}: "{target}" is not spelled from src/')
        elif to != here and to not in ALLOWED[here]:
            broken.append(f"{name}: {here} (rank {RANK[here]}) may not include {target} (rank {RANK[to]})")
        elif not (ROOT / "src" / target).exists() and not (ROOT / "tools" / target).exists():
            broken.append(f"{name}: {target} does not exist")
    if path.suffix == ".c":
        own = path.with_suffix(".h")
        if own.exists() and ours and ours[0] != f"{here}/{own.name}":
            broken.append(f"{name}: {here}/{own.name} must be its first include")


def strip(text):
    """Comments and strings blanked, line structure kept, so that braces can be counted."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', blank, text, flags=re.S)


def check_sizes(path, text, broken):
    name = path.relative_to(ROOT)
    lines = text.count("\n")
    if lines > MAX_FILE:
        broken.append(f"{name}: {lines} lines, at most {MAX_FILE}")
    if path.suffix != ".c":
        return
    depth, start = 0, 0
    for number, line in enumerate(strip(text).split("\n"), 1):
        if line.lstrip().startswith("#"):
            continue
        for c in line:
            if c == "{":
                if depth == 0:
                    start, head = number, line
                depth += 1
            elif c == "}":
                depth -= 1
                is_function = ")" in head or head.strip() == "{"
                if depth == 0 and is_function and number - start + 1 > MAX_FUNCTION:
                    broken.append(f"{name}:{start}: a function of {number - start + 1} lines, "
                                  f"at most {MAX_FUNCTION}")


def check_dangers(path, text, broken):
    here, name, code = folder_of(path), path.relative_to(ROOT), strip(text)
    if path.name != "os_thread.h" and re.search(r"\b(_Thread_local|__thread|thread_local|TlsAlloc)\b", code):
        if not (here == "os" or here == "minject" or (here == "redirect" and path.name == "turn.c")):
            broken.append(f"{name}: thread-local storage belongs in os/os_thread.h, of the redirect DLL in redirect/turn.c")
    if here in ("core", "diag", "pe") and re.search(r"\b_WIN32\b", code):
        broken.append(f"{name}: _WIN32 belongs in os/, redirect/, entry/ or base/")
    if here == "redirect" and "NtProtectVirtualMemory" in code and path.name not in (
            "patch.c", "patch.h", "sys.c", "sys.h"):
        broken.append(f"{name}: code patching belongs in redirect/patch.c")


def check_compile(broken):
    headers = [p for p in product_files() if p.suffix == ".h"] + sorted((ROOT / "include").glob("*.h"))
    for header in headers:
        text = header.read_text()
        if folder_of(header) in ("redirect",) or "windows.h" in text or header.name == "mimalloc-new-delete.h":
            continue  # compiled for Windows or C++ by the builds themselves
        run = subprocess.run(
            ["clang-19", "-std=gnu11", "-fsyntax-only", "-Wall", "-Wextra", "-x", "c", "-I", ROOT / "src", "-I",
             ROOT / "include", "-I", ROOT / "tools", "-include", "stddef.h", str(header)],
            capture_output=True, text=True)
        if run.returncode != 0:
            first = (run.stderr.strip().splitlines() or ["?"])[0]
            broken.append(f"{header.relative_to(ROOT)} does not compile alone: {first}")
    return len(headers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--compile", action="store_true", help="also compile every header alone")
    parser.add_argument("--root", type=pathlib.Path, help="another tree to check (for the check's own test)")
    args = parser.parse_args()
    if args.root:
        global ROOT
        ROOT = args.root.resolve()
    broken, count = [], 0
    for path in product_files():
        text = path.read_text()
        count += 1
        check_includes(path, text, broken)
        check_sizes(path, text, broken)
        check_dangers(path, text, broken)
    if count == 0:
        print(f"no product files below {ROOT}")
        return 2
    headers = check_compile(broken) if args.compile else 0
    for line in broken:
        print(line)
    print(f"{count} product files, {headers} headers compiled alone, {len(broken)} broken rules")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
