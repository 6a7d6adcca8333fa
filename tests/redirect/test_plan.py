"""The planner over the synthetic CRTs, whose every verdict is known, and over all CRTs that Wine ships.

usage: test_plan.py plan_dump llvm-readobj synth-folder wine-folder ...
"""
import glob
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))
from harness import FAILED, check  # noqa: E402  (the path is set above)
import genuine  # noqa: E402  (the path is set above)


def plans(dump, files):
    out = subprocess.run([dump, *files], capture_output=True, text=True, check=True).stdout
    result, now = {}, None
    for line in out.splitlines():
        words = line.split()
        if words[0] == "file":
            now = {"words": words[2:], "sites": {}}
            result[os.path.basename(words[1])] = now
        else:
            now["sites"][words[1]] = {"rva": int(words[2], 16), "verdict": words[3], "reason": words[4],
                                      "whole": int(words[5]), "movable": words[6] == "movable"}
    return result


# DLL: (state, kind, reason, {function: (verdict, reason)})
X64 = {
    "synth_ucrt_old.dll": ("good", "release", "none", {
        "malloc": ("patch", "none"), "_free_base": ("patch", "none"), "_recalloc": ("patch", "none"),
        "_recalloc!": ("patch", "none"), "_expand!": ("patch", "none"), "_o_malloc": ("patch", "none"),
        "_aligned_malloc": ("patch", "none"), "_aligned_offset_malloc!": ("patch", "none")}),
    "synth_ucrt_mid.dll": ("good", "release", "none", {
        "malloc": ("patch", "none"), "_malloc_base": ("patch", "none"), "free": ("patch", "none"),
        "_msize": ("patch", "none"), "_msize!": ("patch", "none"), "_o_free": ("patch", "none")}),
    "synth_ucrt_hash.dll": ("good", "release", "none", {
        "malloc": ("patch", "none"), "_msize!": ("patch", "none"), "_recalloc!": ("patch", "none")}),
    "synth_msvcrt.dll": ("good", "release", "none", {
        "??_U@YAPEAX_K@Z": ("alias", "none"), "??_V@YAXPEAX@Z": ("covered", "none"),
        "??3@YAXPEAX@Z": ("patch", "none"), "_aligned_malloc_dbg": ("alias", "none")}),
    "synth_debug.dll": ("good", "debug", "none", {
        "malloc": ("patch", "none"), "_free_dbg": ("patch", "none"), "_free_base": ("left", "none"),
        "_CrtIsValidHeapPointer": ("patch", "none"), "_CrtDumpMemoryLeaks": ("patch", "none"),
        "_recalloc_dbg": ("patch", "none")}),
    "synth_hazard1.dll": ("refused", "release", "branch-into", {"free": ("refused", "branch-into")}),
    "synth_hazard2.dll": ("refused", "release", "too-short", {"free": ("refused", "too-short")}),
    "synth_hazard3.dll": ("refused", "release", "unknown-instruction", {"free": ("refused", "unknown-instruction")}),
    "synth_hazard4.dll": ("refused", "release", "call-in-range", {"free": ("refused", "call-in-range")}),
    "synth_hazard5.dll": ("refused", "release", "overlap", {"free": ("refused", "overlap")}),
    "synth_hazard6.dll": ("refused", "release", "alias-conflict", {"_msize": ("refused", "alias-conflict")}),
    "synth_hazard7.dll": ("refused", "release", "core-missing", {"free": ("forwarded", "forwarded")}),
    "synth_hazard8.dll": ("refused", "release", "not-a-crt", {}),
    "synth_stubs.dll": ("good", "release", "none", {
        "_free_dbg": ("left", "alias-conflict"), "_msize_dbg": ("left", "alias-conflict"), "free": ("patch", "none")}),
    "synth_hazard9.dll": ("good", "release", "none", {"_malloc_base": ("left", "too-short")}),
}
X86 = {
    "synth_ucrt.dll": ("good", "release", "none", {
        "malloc": ("patch", "none"), "_free_base": ("patch", "none"), "_msize!": ("patch", "none"),
        "_recalloc!": ("patch", "none"), "_expand!": ("patch", "none")}),
    "synth_msvcr.dll": ("good", "release", "none", {
        "??_V@YAXPAX@Z": ("covered", "none"), "??_U@YAPAXI@Z": ("alias", "none"), "free": ("patch", "none")}),
    "synth_debug.dll": ("good", "debug", "none", {
        "malloc": ("patch", "none"), "_free_dbg": ("patch", "none"), "_free_base": ("left", "none"),
        "_CrtMemCheckpoint": ("patch", "none"), "_CrtCheckMemory": ("patch", "none")}),
    "synth_seh.dll": ("good", "release", "none", {"free": ("patch", "none"), "realloc": ("patch", "none")}),
}


def check_synthetic(dump, folder, expected):
    found = plans(dump, [os.path.join(folder, name) for name in expected])
    for name, (state, kind, reason, sites) in expected.items():
        words = found[name]["words"]
        check(words[1] == state and words[2] == kind and words[3] == "reason=" + reason, f"{name}: {words}")
        for site, (verdict, why) in sites.items():
            got = found[name]["sites"].get(site)
            check(got is not None and (got["verdict"], got["reason"]) == (verdict, why), f"{name} {site}: {got}")
        if state == "good":
            check_no_overlap(name, found[name]["sites"])


def check_no_overlap(name, sites):
    places = sorted(s["rva"] for s in sites.values() if s["verdict"] == "patch")
    for a, b in zip(places, places[1:]):
        check(b - a >= 5, f"{name}: patches at {a:x} and {b:x} overlap")


# Names that look like allocation; everything else an export table may hold is none of our business.
ALLOCATION = re.compile(r"^(_o_)?(_*(aligned_)?(offset_)?(m|c|re|rec|s)alloc|_*free(_|$)|_*aligned_|_*m?size($|_)|_*expand"
                        r"|_*heap|\?\?[23_][23UV]?@YA|_*callnewh|_(set|query)_new|_CrtIs|\?.*alloc.*@@YA)", re.I)
KNOWN = re.compile(r'^    \{"((?:[^"\\]|\\.)*)", MI_CRT', re.M)
LEFT = re.compile(r'^    \{"((?:[^"\\]|\\.)*)", "', re.M)


def check_names(readobj, files, source):
    text = open(source, encoding="ascii").read().replace("?\\?", "??")
    known, left = set(KNOWN.findall(text)), LEFT.findall(text)
    check(len(known) > 80 and len(left) > 10, "the table of names was not found")
    for path in files:
        out = subprocess.run([readobj, "--coff-exports", path], capture_output=True, text=True, check=True).stdout
        for name in re.findall(r"^\s*Name: (\S+)$", out, re.M):
            bare = name.removeprefix("_o_")
            if ALLOCATION.match(name) and name not in known and not any(bare.startswith(p) for p in left):
                check(False, f"{os.path.basename(path)} exports {name}, which the table does not know")


def check_com(dump, folder):
    """Wine's combase owns COM's task memory, ole32 hands on."""
    out = subprocess.run([dump, os.path.join(folder, "ole32.dll"), os.path.join(folder, "combase.dll")], capture_output=True,
                         text=True, check=True).stdout
    owners = re.findall(r"^com \S+/(\S+) (\S+) reason=(\S+) patches=(\d)$", out, re.M)
    check(owners == [("combase.dll", "good", "none", "6")], f"{folder}: {owners}")


def main():
    dump, readobj, synth, *folders = sys.argv[1:]
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/pe/crt_table.c")
    check_synthetic(dump, os.path.join(synth, "x86_64"), X64)
    check_synthetic(dump, os.path.join(synth, "i686"), X86)
    wine = 0
    theirs = [os.path.join(genuine.folder_of(s), crt) for s in genuine.sets() for crt in s.versions]
    check_names(readobj, theirs, source)
    for path in theirs:
        plan = plans(dump, [path])[os.path.basename(path)]
        check(plan["words"][1] == "good", f"{path}: {plan['words']}")
        check_no_overlap(path, plan["sites"])
        check(all(plan["sites"][n]["verdict"] in ("patch", "alias", "covered") for n in plan["sites"]), f"{path}: {plan}")
    for folder in folders:
        files = [f for f in glob.glob(os.path.join(folder, "*.dll"))
                 if re.match(r"(ucrtbase|msvcr[t0-9]*d?|crtdll)\.dll$", os.path.basename(f))]
        if not files:
            continue
        check_names(readobj, files, source)
        check_com(dump, folder)
        for name, plan in plans(dump, files).items():
            if plan["words"][0] != "crt":
                continue
            wine += 1
            check(plan["words"][1] == "good", f"{folder}/{name}: {plan['words']}")
            check_no_overlap(name, plan["sites"])
    print(f"{len(X64) + len(X86)} synthetic CRTs, {wine} CRTs of Wine, {len(theirs)} of Microsoft, {len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
