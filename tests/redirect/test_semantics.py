"""The CRTs' own functions against the redirected ones: what semantics.exe prints must be the same line by line.

Here with Wine's CRTs; test_genuine.py does the same with Microsoft's.

usage: test_semantics.py --build folder --runner wine-run --bits "" | 32 --allocator mimalloc.dll
"""
import argparse
import os
import shutil
import sys
import tempfile
from collections import namedtuple

from harness import run as run_program

# What may differ: (beginning of the line, reason). In Wine's own CRTs, which are not Microsoft's everywhere; Microsoft's
# DLLs, compared where they are at hand, agree with us in each of these.
WINE = [
    ("malloc(0) _msize", "Wine makes a block of 0 bytes, Microsoft one of 1"),
    ("calloc(0, 5) _msize", "the same"),
    ("calloc too much", "Wine's calloc leaves errno alone when memory runs out, against its documentation"),
    ("realloc(max): 1", "so does its realloc"),
    ("_expand too much: 1", "and its _expand"),
    ("_expand(NULL)", "Wine does not check the pointer"),
    ("_recalloc to 0", "Wine takes the freed block for a failure"),
    ("aligned realloc to 0", "Wine's msvcrt takes it for a wrong argument, after freeing the block"),
    ("aligned not a power of two", "Wine sets errno without calling the handler of invalid parameters"),
    ("aligned offset beyond size", "the same"),
    ("aligned realloc too much", "nor does this one set errno"),
    ("calloc with handler", "Wine's calloc and realloc ask no new-handler ..."),
    ("realloc with handler", "... nor set errno then"),
    ("handler calls: 0", "... so that it is not called"),
    # The same of blocks of before.
    ("before: realloc too much: 1", "its realloc leaves errno alone"),
    ("before: realloc max: 1", "the same"),
    ("before: _expand too much: 1", "and its _expand"),
    ("before: _expand to 0 _msize", "Wine makes a block of 0 bytes, Microsoft one of 1"),
    ("before: _recalloc to 0", "Wine takes the freed block for a failure"),
    ("before: aligned too much: 1", "its aligned realloc leaves errno alone"),
    ("before: aligned realloc to 0", "Wine's msvcrt takes it for a wrong argument, after freeing the block"),
]


Answers = namedtuple("Answers", "runner bits allocator")  # how semantics.exe is run


def run(args, words, env, folder):
    code, out, err = run_program(args.runner, ["semantics.exe", *words], folder, env)
    lines = out.split("\n")
    if code != 0 or lines[-2:] != ["end", ""]:
        sys.stderr.write(err)
        return lines + [f"exit code {code}, after {len(lines)} lines"]
    return lines


def is_allowed(line):
    return any(line.startswith(start) for start, _ in WINE)


def compare(args, crt, order, env, folder, is_genuine=False):
    """How many lines are the same, and how many are not."""
    words = [f"mimalloc-redirect{args.bits}.dll", args.allocator, order, crt, *(["genuine"] if is_genuine else [])]
    off = run(args, words, {**env, "MIMALLOC_DISABLE_REDIRECT": "1"}, folder)
    on = run(args, words, env, folder)
    good, bad = 0, []
    if off[0] != "redirected: no" or on[0] != "redirected: yes":
        bad.append(f"{off[0]} / {on[0]}")
    if off[-2:] != ["end", ""] or on[-2:] != ["end", ""] or len(off) != len(on):
        bad.append(f"{len(off)} lines without, {len(on)} with: {off[-1]} / {on[-1]}")
    for number, (a, b) in enumerate(zip(off[1:], on[1:])):
        if a == b or (is_allowed(a) and not is_genuine):
            good += 1
        else:
            bad.append(f"line {number + 2}: without: {a}   with: {b}")
    for text in bad[:40]:
        print(f"{crt} {order}: {text}")
    return good, len(bad)


def main():
    p = argparse.ArgumentParser()
    for name in ("build", "runner", "bits", "allocator"):
        p.add_argument("--" + name, default="")
    args = p.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory(dir=args.build) as folder:
        for name in (f"mimalloc-redirect{args.bits}.dll", args.allocator, "tests/semantics.exe"):
            shutil.copy(os.path.join(args.build, name), folder)
        for crt in ("ucrtbase.dll", "msvcrt.dll", "msvcr120.dll"):
            for order in ("early", "late"):
                good, bad = compare(args, crt, order, {}, folder)
                passed += good
                failed += bad
    print(f"{passed} checks passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
