#!/usr/bin/env python3
"""minject run: exit codes, streams, shells, servers with workers, and programs of another machine than minject's.

  test_run.py --tools build/windows-x64-release --other build/windows-x86-release --runner scripts/wine-run
"""
import argparse
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

import tally
from tally import check

parser = argparse.ArgumentParser()
parser.add_argument("--tools", required=True)
parser.add_argument("--other", required=True)
parser.add_argument("--runner", required=True)
args = parser.parse_args()
TOOLS, OTHER = pathlib.Path(args.tools).resolve(), pathlib.Path(args.other).resolve()
RUNNER = pathlib.Path(args.runner).resolve()
SAMPLE = pathlib.Path("tests") / "minject" / "sample_msvcrt.exe"
MINJECT = [RUNNER, TOOLS / "minject.exe", "run"]
CMD = "C:\\windows\\system32\\cmd.exe"


def run(command, cwd, data=b"", **env):
    return tally.run_bytes(command, cwd, data, timeout=180, MIMALLOC_VERBOSE="1", **env)


def redirected(err):
    """The machines of the processes that the redirection reported itself in, with malloc redirected, in order."""
    return re.findall(r"mimalloc: version [^\n]* Windows (\w+)", err) if ": redirected, " in err else []


def test_exit_codes(folder):
    """All 32 bits of them, as a program sees them that starts minject."""
    for words, codes in (([], ("0", "ff", "80000003", "c0000005")), (["--children"], ("0", "ffffffff"))):
        for code in codes:
            rc, out, err = run([RUNNER, "p.exe", "--code", TOOLS / "minject.exe", "run"] + words + ["p.exe", "--exit", code], folder)
            check(rc == 81 and out.decode().strip() == f"ended with {int(code, 16):08x}", f"{words} {code}: {rc} {out} {err[-200:]}")


def test_status(folder):
    """The program's own imports count, although their list does not lie in its image: it knows that it is redirected, may
    require it, and the tables can be changed."""
    for env in ({}, {"MIMALLOC_REDIRECT": "required"}, {"MIMALLOC_REDIRECT_RUNG": "tables"},
                {"MIMALLOC_REDIRECT_RUNG": "tables", "MIMALLOC_REDIRECT": "required"}):
        rc, _, err = run(MINJECT + ["p.exe", "--owner"], folder, **env)
        check(rc == 91, f"{env}: {rc} {err[-400:]}")
    rc, _, err = run(MINJECT + ["p.exe", "--owner"], folder, MIMALLOC_REDIRECT_RUNG="none", MIMALLOC_REDIRECT="required")
    check(rc == 120 and "reason 28" in err, f"required, and no rung allowed: {rc} {err[-400:]}")


def test_streams(folder):
    """Each byte comes through, and the program sees its end."""
    data = random.Random(1).randbytes(1 << 20)
    for words in ([], ["--children"]):
        rc, out, err = run(MINJECT + words + ["p.exe", "--cat"], folder, data)
        check(rc == 82 and out == data, f"{words}: {rc}, {len(out)} bytes of {len(data)} {err[-200:]}")


def test_shell(folder):
    """A shell, what it starts, a batch file with a pipe: all are redirected, and all of it works as without."""
    (folder / "all.bat").write_text("@echo off\r\np.exe --cat < in.txt | p.exe --cat > out.txt\r\np.exe y < in.txt\r\nexit /b %ERRORLEVEL%\r\n")
    (folder / "in.txt").write_bytes(b"one line\n")
    rc, out, err = run(MINJECT + ["--children", CMD, "/c", "p.exe y < in.txt & p.exe z < in.txt"], folder)
    check(rc == 77 and out == b"[y]input: one line\r\n[z]input: one line\r\n", f"shell: {rc} {out} {err[-200:]}")
    check(len(redirected(err)) == 3, f"shell: itself and two programs: {redirected(err)}")
    rc, out, err = run(MINJECT + ["--children", CMD, "/c", "all.bat"], folder)
    check(rc == 77 and out == b"[y]input: one line\r\n" and (folder / "out.txt").read_bytes() == b"one line\n", f"batch file: {rc} {out} {err[-200:]}")
    check(len(redirected(err)) >= 4, f"batch file: itself and three programs at least: {redirected(err)}")
    rc, out, err = run(MINJECT + [CMD, "/c", "p.exe y < in.txt"], folder)
    check(rc == 77 and len(redirected(err)) == 1, f"without --children, the shell alone: {redirected(err)}")


def test_server(folder):
    """A server that starts workers, and they answer over pipes."""
    rc, out, err = run(MINJECT + ["--children", "p.exe", "--serve", "5"], folder)
    check(rc == 84 and out.decode().split("\r\n")[:-1] == [f"REQUEST {i}" for i in range(5)], f"server: {rc} {out} {err[-200:]}")
    check(len(redirected(err)) == 6, f"server: itself and five workers: {redirected(err)}")


def test_machines(folder):
    """Under a Wine that runs both: the 64-bit minject starts 32-bit programs, the 32-bit one 64-bit programs, by the
    64-bit one that lies with their DLLs; and --children follows from one machine to the other and back."""
    root = RUNNER.parent / "wine32-root"
    if subprocess.run([root, "there"]).returncode != 0 or not (OTHER / "minject.exe").exists() or not (OTHER / SAMPLE).exists():
        print("left out: programs of two machines: needs the 32-bit Wine and both builds")
        return
    shutil.copy(OTHER / SAMPLE, folder / "q.exe")
    tool, other = [root, "run", TOOLS / "minject.exe", "run"], [root, "run", OTHER / "minject.exe", "run"]
    both = [f"--dll-folder={TOOLS}", f"--dll-folder={OTHER}"]
    for what, words, machines in (("x64 starts x86", tool + both + ["q.exe", "w"], ["x86"]),
                                  ("x86 starts x64", other + both + ["p.exe", "w"], ["x64"]),
                                  ("x86 starts x86", other + ["q.exe", "w"], ["x86"]),
                                  ("there and back", tool + both + ["--children", "p.exe", "--start", "q.exe", "--start", "p.exe", "w"],
                                   ["x64", "x86", "x64"]),
                                  ("only one kind of DLLs", tool + ["--children", "--verbose", "p.exe", "--start", "q.exe", "w"], ["x64"])):
        rc, out, err = run(words, folder, b"a line\n")
        # What a program starts that is for another machine, Wine gives its standard output as standard error, too.
        both_streams = out.decode("utf-8", "replace") + err
        check(rc == 77 and b"[w]input: a line\r\n" in out and "to standard error" in both_streams, f"{what}: {rc} {out[-300:]} {err[-300:]}")
        check(sorted(redirected(both_streams)) == sorted(machines), f"{what}: {redirected(both_streams)}")
    check("there are no DLLs for x86 at hand" in err, f"only one kind of DLLs: said: {err[-300:]}")
    for name in ("mimalloc.dll", "mimalloc-redirect.dll"):
        shutil.copy(TOOLS / name, folder)
    rc, _, err = run(other + ["p.exe", "w"], folder)
    check(rc == 22 and "it is a 64-bit program and this is the 32-bit minject.exe" in err, f"no 64-bit minject at hand: {rc} {err[-300:]}")


def main():
    is_x86 = (TOOLS / "mimalloc-redirect32.dll").exists()
    # On x86 what its own code does: there is less of it, and a Wine root to enter for each program.
    tests = [test_exit_codes, test_status, test_server] if is_x86 else [test_exit_codes, test_status, test_streams, test_shell, test_server, test_machines]
    for test in tests:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="minject-run-"))
        try:
            shutil.copy(TOOLS / SAMPLE, folder / "p.exe")
            test(folder)
        finally:
            shutil.rmtree(folder)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
