"""Processes end within a second although their threads were killed inside locks, or anywhere.

usage: test_kill.py --build folder --runner wine-run --bits "" | 32 [--rounds n]

A program that says nothing for HANG_SECONDS hangs; the limit is generous, since machines are loaded. The slowest end is
printed, and how many took more than a second. Exit codes: 0 good, 1 failed, 77 skipped: no Wine for this architecture.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from harness import FAILED, arguments, check, clean_environment, skip_if_no_wine, text_of, was_stillborn

HANG_SECONDS = 30


def watch(child):
    hang = threading.Timer(HANG_SECONDS, child.kill)
    hang.start()
    return hang


class Kill:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.ends = []  # seconds from the last line before ExitProcess to the end

    def run_once(self, words):
        """(exit code, output, seconds from the last line before ExitProcess to the end, None = it did not come so far)."""
        child = subprocess.Popen([self.args.runner, *words], cwd=self.folder, env=clean_environment(), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        out, leaving = "", None
        hang = watch(child)
        for line in child.stdout:
            hang.cancel()
            hang = watch(child)
            out += text_of(line)
            if "leaving" in out and leaving is None:
                leaving = time.monotonic()
        code = child.wait()
        hang.cancel()
        return code, out, None if leaving is None else time.monotonic() - leaving

    def run(self, mode, number, crt="ucrtbase.dll"):
        """The output; measures the end."""
        words = ["kill.exe", mode, str(number), f"mimalloc-redirect{self.args.bits}.dll", "mimalloc-locks.dll", crt]
        code, out, end = self.run_once(words)
        if was_stillborn(words, code, out, most=1 + len(self.ends) // 500):
            code, out, end = self.run_once(words)
        skip_if_no_wine(code)
        if end is not None:
            self.ends.append(end)
        check(code == 0 and end is not None and "late" in out.split("leaving")[-1],
              f"{mode} {number}: exit code {code}{' (said nothing for too long)' if code == -9 else ''}\n{out}")
        return out


def stage(args, folder):
    tests = os.path.join(args.build, "tests")
    shutil.copy(os.path.join(args.build, f"mimalloc-redirect{args.bits}.dll"), folder)
    for name in ("kill.exe", "late.dll", "mimalloc-locks.dll"):
        shutil.copy(os.path.join(tests, name), folder)


def main():
    parser = arguments()
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    args.build, args.runner = os.path.abspath(args.build), os.path.abspath(args.runner)
    with tempfile.TemporaryDirectory(dir=args.build) as folder:
        stage(args, folder)
        k = Kill(args, folder)
        found = re.search(r"locks: (\d+)", k.run("count", 0))
        locks = int(found[1]) if found else 0
        check(locks >= 4, f"only {locks} locks were met")
        for _ in range(args.rounds):
            for n in range(locks):
                k.run("locked", n)
        for n in range(4 * args.rounds):
            k.run("random", n)
            k.run("changing", 1 + 7 * n)
        # A thread that dies in the middle of a malloc leaves its pages frozen, some 40 MB here: 32 bits of address
        # space hold only so many.
        left, most = 15 * args.rounds, 30 if args.bits else 1000
        while left > 0:
            k.run("outside", min(left, most))
            left -= most
    print(f"{locks} locks, {args.rounds} times each; {len(k.ends)} ends, the slowest took {max(k.ends, default=0):.2f} s, "
          f"{sum(s > 1 for s in k.ends)} more than a second; {len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
