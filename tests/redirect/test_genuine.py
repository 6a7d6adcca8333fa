"""The redirection on genuine Microsoft C runtimes (msvcr110, msvcr120, ucrtbase), which scripts/genuine.py fetches: the
whole family, blocks of before, wild pointers, what the CRTs allocate inside, failing steps, threads at work meanwhile,
and every answer beside the CRT's own.

usage: test_genuine.py --build folder --runner wine-run --bits "" | 32 [--rounds n]

Each program must have had Microsoft's code in its process: the status names the versions, which Wine's own CRTs
do not have. Exit codes: 0 good, 1 failed, 77 skipped: the DLLs cannot be had, or no Wine for this architecture.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))
from harness import FAILED, arguments, check, run  # noqa: E402  (the path is set above)
from test_semantics import Answers, compare  # noqa: E402  (the path is set above)
import genuine  # noqa: E402  (the path is set above)

class Genuine:
    """One set of Microsoft's CRTs, in a folder with the programs."""

    def __init__(self, args, crt_set, folder):
        self.args, self.folder, self.set = args, folder, crt_set
        self.crts = tuple(crt_set.versions)
        # A CRT of Wine's for what needs a second one.
        self.other = "msvcrt.dll" if "ucrtbase.dll" in self.crts else "ucrtbase.dll"
        self.redirect = f"mimalloc-redirect{args.bits}.dll"
        self.faults = f"mimalloc-redirect-faults{args.bits}.dll"
        self.allocators = [f"standin{args.bits}.dll", f"standin-original{args.bits}.dll"]
        if os.path.exists(os.path.join(folder, "mimalloc.dll")):
            self.allocators.append("mimalloc.dll")

    def run(self, *words, seconds=300, rung=None):
        env = {"WINEDLLOVERRIDES": genuine.overrides(self.set)}
        if rung:
            env["MIMALLOC_REDIRECT_RUNG"] = rung
        code, out, err = run(self.args.runner, words, self.folder, env, seconds)
        check(code == 0 and re.search(r"^[1-9]\d* checks passed, 0 failed$", out, re.M),
              f"{self.set.name}: {' '.join(words)}: exit code {code}\n{out[-3000:]}{err[-1000:]}")
        return out, err


def plan(g):
    """The planner's answer for the files alone, by the tool's own door."""
    for crt in g.crts:
        done = subprocess.run([g.args.runner, os.path.join(g.args.build, "minject.exe"), "check", "--plan", crt],
                              cwd=g.folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=100, check=False)
        out = done.stdout.decode("utf-8", "replace")
        count = re.search(r": (\d+) functions would be patched", out)
        check(done.returncode == 0 and count and int(count[1]) >= 29 and "refuse" not in out,
              f"the plan of {g.set.name} {crt}:\n{out}")


def check_status(g, out, how, rung):
    """Microsoft's own code was in the process, and each of its functions ends in ours."""
    for crt, version in g.set.versions.items():
        line = re.search(rf"^{re.escape(crt)} {re.escape(version)} at .*: redirected, (\d+) functions by {rung}, {how}, "
                         r"proof: (\d+) of", out, re.M)
        check(line and line[1] == line[2] and int(line[1]) >= 29, f"no genuine {crt} of version {version}:\n{out}")


def behaviour(g):
    for allocator, order in zip(g.allocators, ("load-redirect", "load-allocator", "load-redirect")):
        out, _ = g.run("family.exe", order, g.redirect, allocator, *g.crts, g.other)
        check_status(g, out, "late", "entry patch")
        out, err = g.run("foreign.exe", g.redirect, allocator, *g.crts)
        check(err.count("reason 43") == len(g.crts), "unknown pointers are not reported once:\n" + err)
        out, _ = g.run("inside.exe", g.redirect, allocator, *g.crts)
        check(not re.search(r"\b(theirs|NULL|stub)\b", out), "a function of Microsoft's does not end in ours:\n" + out)
    for order, owner in (("redirect_first", "ours"), ("last", "theirs")):
        g.run(f"orders_{order}.exe", owner, *g.crts, g.other)
    out, _ = g.run("family.exe", "load-redirect", g.redirect, g.allocators[0], *g.crts, rung="tables")
    check_status(g, out, "late", r"tables \(.*\)")
    if "mimalloc.dll" in g.allocators:
        g.run("survey.exe", g.redirect, "mimalloc.dll", "2", "links", *g.crts)
        for crt in g.crts:
            out, _ = g.run("life.exe", g.redirect, "mimalloc.dll", "5", "reload", crt, g.other)
            check("still there" in out, f"the heap of {crt} is gone with it:\n{out}")
        g.run("leave.exe", g.redirect, "mimalloc.dll", *g.crts, g.other)
    for crt in g.crts:
        out, _ = g.run("transaction.exe", "faults", g.faults, g.allocators[0], crt, rung="entry")
        print(crt, [line for line in out.splitlines() if "steps failed" in line])


def from_the_start(g):
    """A program whose own CRT is Microsoft's, and which has the halves before it: nothing is late then."""
    if "ucrtbase.dll" in g.crts:
        out, _ = g.run("family_early_ucrtbase.exe", "early", *g.crts, g.other)
        check_status(g, out, "early", "entry patch")


def answers(g):
    """Whatever the CRT answers without the redirection it answers with it."""
    if "mimalloc.dll" not in g.allocators:
        return
    for crt in g.crts:
        for order, rung in (("early", "entry"), ("late", "entry"), ("late", "tables")):
            good, bad = compare(Answers(g.args.runner, g.args.bits, "mimalloc.dll"), crt, order,
                                {"WINEDLLOVERRIDES": genuine.overrides(g.set), "MIMALLOC_REDIRECT_RUNG": rung}, g.folder,
                                is_genuine=True)
            check(good > 1000 and bad == 0, f"{g.set.name}: {crt}, {rung}: {bad} of {good + bad} lines are otherwise")


def storms(g):
    out, _ = g.run("storm.exe", "install", g.redirect, g.allocators[0], str(g.args.rounds), *g.crts, seconds=3000)
    print(f"{g.args.rounds} installations:", [line for line in out.splitlines() if "rounds by" in line])
    g.run("storm.exe", "come-and-go", g.redirect, g.allocators[0], "20", *g.crts)


def stage(args, source, folder):
    for name in os.listdir(source):
        shutil.copy(os.path.join(source, name), folder)
    shutil.copy(os.path.join(args.build, f"mimalloc-redirect{args.bits}.dll"), folder)
    if os.path.exists(os.path.join(args.build, "mimalloc.dll")):
        shutil.copy(os.path.join(args.build, "mimalloc.dll"), folder)
    tests = os.path.join(args.build, "tests")
    for name in os.listdir(tests):
        if re.match(r"(standin|standin-original|mimalloc-redirect-faults)(32)?\.dll$|"
                    r"((orders_maker|last)\.dll|(family|family_early_ucrtbase|foreign|inside|leave|life|orders_.*|semantics|"
                    r"storm|survey|transaction)\.exe)$", name):
            shutil.copy(os.path.join(tests, name), folder)


def main():
    parser = arguments()
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    args.build, args.runner = os.path.abspath(args.build), os.path.abspath(args.runner)
    for problem in genuine.fetch():
        print(f"not tested: {problem}")
    crt_sets = genuine.sets("x86" if args.bits else "x64")
    if not crt_sets:
        print("skipped: Microsoft's CRT DLLs cannot be had")
        return 77
    for crt_set in crt_sets:
        print(f"{crt_set.name}: {', '.join(f'{crt} {version}' for crt, version in crt_set.versions.items())}")
        with tempfile.TemporaryDirectory(dir=args.build) as folder:
            stage(args, genuine.folder_of(crt_set), folder)
            g = Genuine(args, crt_set, folder)
            for group in (plan, behaviour, from_the_start, answers, storms):
                group(g)
    print(f"{len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
