"""Debug CRTs: debugcrt.exe early and late, with the debug, the release, the stand-in and the original's allocator, and
what the CRT prints by itself at the end of the process.

usage: test_debugcrt.py --build folder --runner wine-run --bits "" | 32 --debug dll --release dll ("-" = not built)
"""
import argparse
import json
import re
import sys

from harness import FAILED, check, run


def status_of(out, crt):
    found = [line for line in out.splitlines() if line.startswith("{\"redirect\"")]
    crts = json.loads(found[-1])["crts"] if found else []
    rows = [c for c in crts if c["file"].lower() == crt]
    check(len(rows) == 1, f"no state of {crt} in\n{out}")
    return rows[0] if rows else {"state": "", "debug": None, "debug_heap": None, "late": None, "note": {"code": -1}}


def debugcrt(args, order, kind, allocator, program="debugcrt", crt="synth_debug.dll"):
    words = [f"tests/{program}.exe", order, kind, f"mimalloc-redirect{args.bits}.dll", allocator, "tests/" + crt,
             "ucrtbase.dll"]
    code, out, err = run(args.runner, words, args.build)
    what = f"{program}, {order}, {kind} ({allocator}), {crt}"
    check(code == 0, f"{what}: exit code {code}\n{out}{err}")
    print(what + ":", *re.findall(r"^\d+ checks passed, \d+ failed$", out, re.M))
    state = status_of(out, crt)
    check(state["state"] == "redirected" and state["debug"] and state["late"] == (order == "late"), f"{what}: {state}")
    check(state["debug_heap"] == (kind == "debug"), f"{what}: {state}")
    lost = err.count("debug-heap-lost")
    check(state["note"]["code"] == (0 if kind == "debug" else 45), f"{what}: {state}")
    check(lost == (0 if kind == "debug" else 1), f"{what}: the loss is said {lost} times:\n{err}")
    other = status_of(out, "ucrtbase.dll")
    check(other["state"] == "redirected" and not other["debug"] and other["note"]["code"] == 0, f"{what}: {other}")
    # The CRT's own check at exit.
    end = out.split(" checks passed")[-1]
    if kind == "debug":
        check(re.search(r"Detected memory leaks!\nDumping objects ->\nlast\.c\(99\) : \{\d+\} normal block at "
                        r"0x[0-9A-F]+, 11 bytes long\.\n Data: <           > (CD ){11}\nObject dump complete\.\n", end),
              f"{what}: no leak report at exit:\n{end}")
        check(end.count(" block at ") == 1, f"{what}: other leaks at exit:\n{end}")
    else:
        check(" normal block at" not in end, f"{what}: leaks of ours are claimed at exit:\n{end}")


def main():
    parser = argparse.ArgumentParser()
    for name in ("build", "runner", "bits", "debug", "release"):
        parser.add_argument("--" + name, default="")
    args = parser.parse_args()
    for order in ("early", "late"):
        for kind, allocator in (("debug", args.debug), ("release", args.release),
                                ("release", f"tests/standin{args.bits}.dll")):
            if allocator != "-":
                debugcrt(args, order, kind, allocator)
        if args.debug != "-":
            debugcrt(args, order, "debug", args.debug, crt="synth_debug_old.dll")
    if args.debug != "-":
        debugcrt(args, "early", "debug", args.debug, "debugcrt_static")
    print(f"{len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
