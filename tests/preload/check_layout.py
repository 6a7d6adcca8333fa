#!/usr/bin/env python3
"""What a small process touches of libmimalloc.so: the code that each process runs lies in the first 64 KiB of the code, which
the kernel maps at one page fault, and the variables that each process writes share as few OS pages as they can.

usage: check_layout.py libmimalloc.so

Not measured, since kernels differ in how much they map at a fault: the file shows it. The order comes from src/entry/CMakeLists.txt.
"""
import re
import subprocess
import sys

PAGE = 4096
AT_ONCE = 16 * PAGE
# From the first call to the last, of a process that allocates, resizes and frees blocks of a few sizes.
RUN = """entry_construct mi_entry_init mi_entry_options_changed mi_guarded_configure mi_option_value mi_text_str mi_core_process_init
mi_os_on_thread_exit mi_os_on_fork malloc calloc realloc free posix_memalign malloc_usable_size _Znwm _ZdlPv mi_malloc_slow
mi_free_slow mi_request_alloc mi_request_realloc mi_core_theap mi_life_obtain mi_core_malloc mi_core_free mi_core_usable
mi_core_heap_resize mi_core_malloc_aligned mi_arena_alloc mi_arena_free mi_arena_purge mi_arena_lay_out mi_meta_alloc
mi_page_map_init mi_page_map_set mi_page_new mi_page_extend mi_page_release mi_theap_reset mi_theap_alloc mi_theap_retire
mi_theap_tick mi_theap_trim mi_os_reserve mi_os_purge mi_os_clock_ms mi_core_thread_done mi_remote_free mi_guest_make
entry_destruct mi_entry_exit""".split()
# Written by each process.
WRITTEN = """option_now mi_page_map_base arena_first arena_lock arena_count mi_arena_all meta_next life_all mi_life_lock
mi_heap_main_state mi_entry_is_ready init_began start_ms clock_fun os_exit_key_ready""".split()


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main():
    library = sys.argv[1]
    symbols, code_end = {}, {}
    for line in output("nm", "-S", library).splitlines():
        words = line.split()
        if len(words) == 4:
            symbols[words[3]] = int(words[0], 16)
            code_end[words[3]] = int(words[0], 16) + int(words[1], 16)
    segment = re.search(r"LOAD\s+0x\w+ 0x(\w+) 0x\w+ 0x\w+ 0x\w+ R E", output("readelf", "-lW", library))
    start = int(segment.group(1), 16)
    failures = [f"{name}: there is no such symbol" for name in RUN + WRITTEN if name not in symbols]
    failures += [f"{name} ends at {code_end[name] - start} of the code, behind the first {AT_ONCE} bytes"
                 for name in RUN if code_end.get(name, 0) > start + AT_ONCE]
    pages = {}
    for name in WRITTEN:
        pages.setdefault(symbols.get(name, 0) // PAGE, []).append(name)
    if len(pages) > 1:
        failures.append("the variables that each process writes are on several pages: " +
                        "; ".join(f"{page:#x}: {' '.join(names)}" for page, names in sorted(pages.items())))
    # The start files' last function lies behind all code.
    if "(FINI)" in output("readelf", "-dW", library):
        failures.append("the dynamic section has a function for the end (DT_FINI)")
    for failure in failures:
        print(f"check_layout: {library}: {failure}", file=sys.stderr)
    print(f"{len(RUN)} functions and {len(WRITTEN)} variables looked at, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
