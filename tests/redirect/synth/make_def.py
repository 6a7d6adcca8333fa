"""Writes the .def file of a synthetic CRT: exports every global of the entries object, and the helpers of impl.c.

usage: make_def.py llvm-nm entries.obj out.def [-name ...] [+name=target ...]
"""
import subprocess
import sys

HELPERS = {"_errno": "crt_errno", "_get_heap_handle": "crt_get_heap_handle", "_callnewh": "crt_callnewh",
           "_query_new_mode": "crt_query_new_mode", "_set_new_mode": "crt_set_new_mode",
           "_set_new_handler": "crt_set_new_handler", "_initterm": "crt_initterm",
           "synth_is_over": "crt_is_over", "synth_set_thread_bytes": "crt_set_thread_bytes",
           "synth_set_errno_hook": "crt_set_errno_hook", "synth_early_calls": "crt_early_calls"}
INSIDE = ("_base", "malloc_near", "malloc_far", "next_function", "free_again", "free_cold")


def main():
    nm, obj, out, *changes = sys.argv[1:]
    text = subprocess.run([nm, "--defined-only", "-g", "--format=just-symbols", obj], check=True,
                          capture_output=True, text=True).stdout
    is_x86 = "_malloc" in text.split() and "malloc" not in text.split()
    lines = []
    for name in sorted(set(text.split())):
        if is_x86 and name.startswith("_"):
            name = name[1:]
        exported = name in ("_malloc_base", "_calloc_base", "_realloc_base", "_free_base")
        if name.startswith("pointer_") or (name.endswith(INSIDE) and not exported):
            continue
        lines.append(name)
    lines += [f"{public}={target}" for public, target in HELPERS.items()]
    for change in changes:
        if change.startswith("-"):
            lines = [line for line in lines if line.split("=")[0] != change[1:]]
        else:
            lines.append(change[1:])
    with open(out, "w", encoding="ascii") as f:
        f.write("EXPORTS\n" + "".join(f'    {quote(line)}\n' for line in lines))


def quote(line):
    return f'"{line}"' if "?" in line else line


if __name__ == "__main__":
    main()
