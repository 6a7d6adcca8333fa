#!/usr/bin/env python3
"""What a small process touches of libmimalloc.so: the loader's tables, the constants and the code that each process needs lie in the
first 64 KiB, which the kernel maps at one page fault, and what each process writes shares as few OS pages as it can.

usage: check_layout.py libmimalloc.so src/entry/first.txt [PROGRAM ARGUMENT...]

The file shows it, since kernels differ in how much they map at a fault. PROGRAM is run under valgrind, where there is one: a function of
the library that it runs must be among the first, too.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

PAGE = 4096
AT_ONCE = 16 * PAGE
# Written by each process.
WRITTEN = """option_now mi_page_map_offset arena_first arena_lock arena_count mi_arena_all meta_next life_all mi_life_lock
mi_heap_main_state mi_entry_is_ready init_began start_ms clock_fun os_exit_key_ready""".split()
# Texts that each process reads, or each with threads.
READ = [b"__register_atfork\0"] + [b"__vdso_clock_gettime\0"] * (os.uname().machine == "x86_64")


def output(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=True, **more).stdout


def functions_run(library, command):
    """Names of the library's functions that the program runs, by callgrind's file: objects and functions have numbers,
    and a name the first time."""
    # As a program without variables of ours, which would run the code that reads them.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MI")}
    with tempfile.NamedTemporaryFile("r", suffix=".callgrind") as profile:
        output("valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={profile.name}", *command,
               env=dict(plain, LD_PRELOAD=library))
        names, found, place = {}, set(), None
        for line in profile:
            known = re.match(r"(c?(?:ob|fn))=(\(\d+\))(?: (.*))?$", line.rstrip("\n"))
            if not known:
                continue
            kind, number, name = known.groups()
            key = kind[-2:] + number
            names[key] = name or names[key]
            if kind == "ob":
                place = names[key]
            elif kind == "fn" and place is not None and os.path.realpath(place) == library:
                found.add(re.sub(r"'\d+$", "", names[key]))
    return found


def main():
    library, wanted = os.path.realpath(sys.argv[1]), []
    for line in pathlib.Path(sys.argv[2]).read_text().splitlines():
        if not line.startswith("#") and "CONSTANTS" not in line:
            wanted += line.split()
    symbols, ends, sections = {}, {}, output("readelf", "-SW", library)
    for line in output("nm", "-S", library).splitlines():
        words = line.split()
        if len(words) == 4:
            symbols[words[3]] = int(words[0], 16)
            ends[words[3]] = int(words[0], 16) + int(words[1], 16)
    segments = re.findall(r"(\w+)\s+0x\w+ 0x(\w+) 0x\w+ 0x\w+ 0x(\w+) ([RWE ]{3})", output("readelf", "-lW", library))
    loaded = [(int(start, 16), flags) for kind, start, _, flags in segments if kind == "LOAD"]
    failures = [f"{name}: there is no such symbol" for name in WRITTEN if name not in symbols]
    print("no such symbols, or inlined: " + " ".join(name for name in wanted if name not in symbols))
    failures += [f"{name} ends at {ends[name]}, behind the first {AT_ONCE} bytes" for name in wanted if ends.get(name, 0) > AT_ONCE]
    if len(loaded) != 2 or loaded[0] != (0, "R E"):
        failures.append(f"tables, constants and code are not one segment, or there are others than that and the data: {loaded}")
    for name in (".dynsym", ".dynstr", ".gnu.hash", ".rela.dyn", ".rela.plt"):
        where = re.search(rf" {re.escape(name)} +\w+ +(\w+) +\w+ +(\w+)", sections)
        if where is None or int(where.group(1), 16) + int(where.group(2), 16) > AT_ONCE:
            failures.append(f"{name} is not in the first {AT_ONCE} bytes")
    code_end = max((int(size, 16) for kind, start, size, _ in segments if kind == "LOAD" and int(start, 16) == 0), default=0)
    content = pathlib.Path(library).read_bytes()[:code_end]
    failures += [f"{text} is not in the first {AT_ONCE} bytes only" for text in READ
                 if text not in content[:AT_ONCE] or text in content[AT_ONCE:]]
    relro = [(int(start, 16), int(size, 16)) for kind, start, size, _ in segments if kind == "GNU_RELRO"]
    if len(relro) != 1 or relro[0][0] // PAGE != (relro[0][0] + relro[0][1] - 1) // PAGE:
        failures.append(f"what the loader fills in is on several pages: {relro}")
    pages = {}
    for name in WRITTEN:
        pages.setdefault(symbols.get(name, 0) // PAGE, []).append(name)
    if len(pages) > 1:
        failures.append("the variables that each process writes are on several pages: " +
                        "; ".join(f"{page:#x}: {' '.join(names)}" for page, names in sorted(pages.items())))
    # The start files' last function lies behind all code.
    if "(FINI)" in output("readelf", "-dW", library):
        failures.append("the dynamic section has a function for the end (DT_FINI)")
    run = set()
    if len(sys.argv) > 3 and shutil.which("valgrind"):
        run = functions_run(library, sys.argv[3:])
        failures += [f"{name} is run by {' '.join(sys.argv[3:])} and lies behind the first {AT_ONCE} bytes: {sys.argv[2]} lacks it"
                     for name in sorted(run) if ends.get(name, 0) > AT_ONCE]
        if "malloc" not in run:
            failures.append("valgrind saw no call of malloc")
    for failure in failures:
        print(f"check_layout: {library}: {failure}", file=sys.stderr)
    print(f"{len(wanted)} functions and constants, {len(WRITTEN)} variables and {len(run)} functions that were run looked at, "
          f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
