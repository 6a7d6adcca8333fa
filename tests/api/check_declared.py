#!/usr/bin/env python3
"""Every function that a public header declares has documentation right above it, a contract test that calls it, a
place in exactly one table of contracts, and an export in each shared library given. The tables are the allocating
functions by size (contract_table.py), those that are told something else (the rows of test_contract_made.c), and those
that give the program no memory, which are named here; so a new function is in none, and that is a fault.

usage: check_declared.py --include DIR --tests DIR [--nm PROGRAM] [LIBRARY ...]
Exit code 0: all is there; 1: something is missing, each in a line; 2: wrong arguments.
"""
import argparse
import pathlib
import re
import subprocess
import sys

import contract_table

# Give the program no memory; the test of each is by hand.
GIVE_NOTHING = """
    mi_abandoned_visit_blocks mi_any_heap_contains mi_arena_area mi_arena_contains mi_arena_min_alignment
    mi_arena_min_size mi_arena_reload mi_arena_unload mi_arenas_print mi_cfree mi_check_owned mi_collect
    mi_collect_reduce mi_debug_show_arenas mi_free mi_free_aligned mi_free_size mi_free_size_aligned
    mi_free_small mi_good_size mi_heap_check_owned mi_heap_collect mi_heap_contains mi_heap_contains_block
    mi_heap_delete mi_heap_destroy mi_heap_get_backing mi_heap_get_default mi_heap_guarded_set_sample_rate
    mi_heap_guarded_set_size_bound mi_heap_main mi_heap_of mi_heap_set_default mi_heap_set_numa_affinity
    mi_heap_stats_get mi_heap_stats_merge_to_subproc mi_heap_stats_print_out mi_heap_visit_abandoned_blocks mi_heap_visit_blocks
    mi_is_in_heap_region mi_is_redirected mi_malloc_good_size mi_malloc_size mi_malloc_usable_size
    mi_manage_memory mi_manage_os_memory mi_manage_os_memory_ex mi_option_disable mi_option_enable
    mi_option_get mi_option_get_clamp mi_option_get_size mi_option_is_enabled mi_option_set
    mi_option_set_default mi_option_set_enabled mi_option_set_enabled_default mi_options_print
    mi_options_print_out mi_process_done mi_process_info mi_process_info_print mi_process_info_print_out
    mi_process_init mi_register_deferred_free mi_register_error mi_register_output mi_reserve_huge_os_pages
    mi_reserve_huge_os_pages_at mi_reserve_huge_os_pages_at_ex mi_reserve_huge_os_pages_interleave
    mi_stats_get mi_stats_get_bin_size mi_stats_merge mi_stats_print mi_stats_print_out mi_stats_reset
    mi_subproc_add_current_thread mi_subproc_current mi_subproc_delete mi_subproc_destroy mi_subproc_main
    mi_subproc_heap_stats_print_out mi_subproc_stats_get mi_subproc_stats_print_out mi_subproc_visit_heaps mi_theap_collect
    mi_theap_get_default mi_theap_guarded_set_sample_rate mi_theap_guarded_set_size_bound mi_theap_set_default
    mi_thread_done mi_thread_init mi_thread_set_in_threadpool mi_thread_stats_print_out mi_ufree
    mi_unsafe_heap_page_is_under_utilized mi_usable_size mi_version
""".split()

DECLARATION = re.compile(r"\bmi_decl_export\b([^;{}]*?)\b(_?mi_[a-z0-9_]+)\s*\(", re.S)
TESTS_BY_NAME = ("*.c", "*.cpp", "*.h", "*.hpp")


def declared(header):
    """Yields (name, line number, is documented) of each exported function of one header."""
    text = header.read_text()
    lines = text.split("\n")
    for match in DECLARATION.finditer(text):
        if text[: match.start()].rsplit("\n", 1)[-1].lstrip().startswith(("#", "//")):
            continue  # the macro's own definition, or a comment
        start = text.count("\n", 0, match.start())
        above = lines[start - 1].strip() if start > 0 else ""
        yield match.group(2), start + 1, above.startswith("//") and len(above) > 3


def exported(library, nm):
    pattern = re.compile(r"\s[TVW]\s+_?(mi_\w+)")
    if str(library).endswith(".dll"):
        out = subprocess.run([nm.replace("nm", "readobj"), "--coff-exports", library], capture_output=True, text=True, check=True)
        return set(re.findall(r"Name: (\w+)", out.stdout))
    out = subprocess.run([nm, "-D", "--defined-only", library], capture_output=True, text=True, check=True)
    return set(re.findall(r"\s[TVW]\s+(\w+)", out.stdout))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--include", type=pathlib.Path, required=True)
    parser.add_argument("--tests", type=pathlib.Path, required=True)
    parser.add_argument("--nm", default="llvm-nm-19")
    parser.add_argument("libraries", nargs="*")
    args = parser.parse_args()
    test_text = "\n".join(f.read_text() for p in TESTS_BY_NAME for f in sorted(args.tests.glob(p)))
    exports = {lib: exported(lib, args.nm) for lib in args.libraries}
    broken = []
    tables = {"contract_table.py": {n for n, _ in contract_table.functions(args.include)} - set(contract_table.OTHERS),
              "test_contract_made.c": set(re.findall(r"\bROW\((mi_\w+)", (args.tests / "test_contract_made.c").read_text())),
              "GIVE_NOTHING": set(GIVE_NOTHING)}
    names = set()
    for header in sorted(args.include.glob("*.h")):
        for name, line, is_documented in declared(header):
            names.add(name)
            place = f"{header.name}:{line}: {name}"
            if not is_documented:
                broken.append(f"{place} has no documentation above it")
            if not re.search(rf"\b{name}\b", test_text):
                broken.append(f"{place} has no contract test")
            places = [t for t, members in tables.items() if name in members]
            if len(places) != 1:
                broken.append(f"{place} is in {len(places)} tables of contracts: {' '.join(places)}")
            for lib, symbols in exports.items():
                if name not in symbols:
                    broken.append(f"{place} is not exported from {pathlib.Path(lib).name}")
    for table, members in tables.items():
        broken += [f"{table}: {name} is not declared" for name in sorted(members - names)]
    print("\n".join(broken + [f"{len(names)} functions declared, {len(broken)} faults"]))
    return 1 if broken or len(names) < 100 else 0


if __name__ == "__main__":
    sys.exit(main())
