"""The redirection on genuine Microsoft C runtimes (msvcr110, msvcr120), which scripts/genuine.py fetches: the whole
family, blocks of before, wild pointers, what the CRTs allocate inside, failing steps, threads at work meanwhile.

usage: test_genuine.py --build folder --runner wine-run --bits "" | 32 [--rounds n]

Each program must have had Microsoft's code in its process: the status names the versions, which Wine's own CRTs
do not have. Exit codes: 0 good, 1 failed, 77 skipped: the DLLs cannot be had, or no Wine for this architecture.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))
from harness import FAILED, check, run  # noqa: E402  (the path is set above)
import genuine  # noqa: E402  (the path is set above)

CRTS = ("msvcr110.dll", "msvcr120.dll")


class Genuine:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.redirect = f"mimalloc-redirect{args.bits}.dll"
        self.faults = f"mimalloc-redirect-faults{args.bits}.dll"
        self.allocators = [f"standin{args.bits}.dll", f"standin-original{args.bits}.dll"]
        if os.path.exists(os.path.join(folder, "mimalloc.dll")):
            self.allocators.append("mimalloc.dll")

    def run(self, *words, seconds=300, rung=None):
        env = {"WINEDLLOVERRIDES": "msvcr110,msvcr120=n,b"}
        if rung:
            env["MIMALLOC_REDIRECT_RUNG"] = rung
        code, out, err = run(self.args.runner, words, self.folder, env, seconds)
        check(code == 0 and re.search(r"^[1-9]\d* checks passed, 0 failed$", out, re.M),
              f"{' '.join(words)}: exit code {code}\n{out[-3000:]}{err[-1000:]}")
        return out, err


def plan(g):
    """The planner's answer for the files alone, by the tool's own door."""
    for crt in CRTS:
        done = subprocess.run([g.args.runner, os.path.join(g.args.build, "minject.exe"), "check", "--plan", crt],
                              cwd=g.folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=100, check=False)
        out = done.stdout.decode("utf-8", "replace")
        check(done.returncode == 0 and re.search(r"(29|30) functions would be patched", out) and "refuse" not in out,
              f"the plan of {crt}:\n{out}")


def behaviour(g):
    for allocator, order in zip(g.allocators, ("load-redirect", "load-allocator", "load-redirect")):
        if allocator:
            out, _ = g.run("family.exe", order, g.redirect, allocator, *CRTS, "ucrtbase.dll")
            for version in ("11.0.50727.1", "12.0.21005.1"):
                line = re.search(rf"^msvcr1\d0\.dll {re.escape(version)} at .*: redirected, (\d+) functions by entry patch, "
                                 r"late, proof: (\d+) of", out, re.M)
                check(line and line[1] == line[2] and int(line[1]) >= 29, f"no genuine CRT of version {version}:\n{out}")
        out, err = g.run("foreign.exe", g.redirect, allocator, *CRTS)
        check(err.count("reason 43") == len(CRTS), "unknown pointers are not reported once:\n" + err)
        out, _ = g.run("inside.exe", g.redirect, allocator, *CRTS)
        check(not re.search(r"\b(theirs|NULL|stub)\b", out), "a function of Microsoft's does not end in ours:\n" + out)
    for order, owner in (("redirect_first", "ours"), ("last", "theirs")):
        g.run(f"orders_{order}.exe", owner, *CRTS, "ucrtbase.dll")
    if "mimalloc.dll" in g.allocators:
        g.run("survey.exe", g.redirect, "mimalloc.dll", "2", "links", *CRTS)
        for crt in CRTS:
            out, _ = g.run("life.exe", g.redirect, "mimalloc.dll", "5", "reload", crt, "ucrtbase.dll")
            check("still there" in out, f"the heap of {crt} is gone with it:\n{out}")
        g.run("leave.exe", g.redirect, "mimalloc.dll", *CRTS, "ucrtbase.dll")
    for crt in CRTS:
        out, _ = g.run("transaction.exe", "faults", g.faults, g.allocators[0], crt, rung="entry")
        print(crt, [line for line in out.splitlines() if "steps failed" in line])


def storms(g):
    out, _ = g.run("storm.exe", "install", g.redirect, g.allocators[0], str(g.args.rounds), *CRTS, seconds=3000)
    print(f"{g.args.rounds} installations:", [line for line in out.splitlines() if "rounds by" in line])
    g.run("storm.exe", "come-and-go", g.redirect, g.allocators[0], "20", *CRTS)


def stage(args, source, folder):
    for crt in CRTS:
        shutil.copy(os.path.join(source, "x86" if args.bits else "x64", crt), folder)
    shutil.copy(os.path.join(args.build, f"mimalloc-redirect{args.bits}.dll"), folder)
    if os.path.exists(os.path.join(args.build, "mimalloc.dll")):
        shutil.copy(os.path.join(args.build, "mimalloc.dll"), folder)
    tests = os.path.join(args.build, "tests")
    for name in os.listdir(tests):
        if re.match(r"(standin|standin-original|mimalloc-redirect-faults)(32)?\.dll$|"
                    r"((orders_maker|last)\.dll|(family|foreign|inside|leave|life|orders_.*|storm|survey|transaction)\.exe)$", name):
            shutil.copy(os.path.join(tests, name), folder)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--runner", required=True)
    parser.add_argument("--bits", default="")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    args.build, args.runner = os.path.abspath(args.build), os.path.abspath(args.runner)
    source, problem = genuine.fetch()
    if problem:
        print(f"skipped: Microsoft's CRT DLLs cannot be had: {problem}")
        return 77
    with tempfile.TemporaryDirectory(dir=args.build) as folder:
        stage(args, source, folder)
        g = Genuine(args, folder)
        for group in (plan, behaviour, storms):
            group(g)
    print(f"{len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
