#!/usr/bin/env python3
"""minject run, and minject check's prediction against what then happens, with the real DLLs.

  test_live.py --tools build/windows-x64-release --samples FOLDER --runner scripts/wine-run [--native build/linux-release/minject]
"""
import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import make_pe

parser = argparse.ArgumentParser()
parser.add_argument("--tools", required=True)
parser.add_argument("--samples", required=True)
parser.add_argument("--runner", required=True)
parser.add_argument("--native")
args = parser.parse_args()
TOOLS, SAMPLES = pathlib.Path(args.tools).resolve(), pathlib.Path(args.samples).resolve()
args.runner = str(pathlib.Path(args.runner).resolve())
MINJECT = [args.runner, str(TOOLS / "minject.exe")]
REDIRECT_NAME = next(p.name for p in TOOLS.glob("mimalloc-redirect*.dll") if "fault" not in p.name)
passed = failed = 0


def check(fact, what):
    global passed, failed
    if fact:
        passed += 1
    else:
        failed += 1
        print(f"failed: {what}", file=sys.stderr)


def run(command, cwd, text="a line\n", **env):
    """(exit code, stdout, stderr), through files: Wine's background processes keep pipes open."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        source.write(text.encode())
        source.seek(0)
        code = subprocess.run([str(c) for c in command], cwd=cwd, stdin=source, stdout=out, stderr=err, timeout=120,
                              env={**os.environ, **env}).returncode
        out.seek(0), err.seek(0)
        return code, out.read().decode("utf-8", "replace"), err.read().decode("utf-8", "replace")


def report_of(text):
    """{crt: (redirected, late)} from the redirection's own report."""
    found = {}
    for line in text.splitlines():
        m = re.match(r"mimalloc-redirect: (\S+\.dll) .*?: (redirected|not redirected|left alone|refused)(.*)", line)
        if m:
            found[m[1].lower()] = (m[2] == "redirected", ", late" in m[3])
    return found


def place(folder, sample, dlls=True):
    shutil.copy(SAMPLES / sample, folder / "p.exe")
    if dlls:
        for name in ("mimalloc.dll", REDIRECT_NAME):
            shutil.copy(TOOLS / name, folder)


WORDS = ["a b", 'c"d', "", "e\\", "f\\ g\\", "ü"]
ECHO = "".join(f"[{w}]" for w in WORDS[:-1])


def test_run(folder, tool):
    place(folder, "sample_msvcrt.exe", dlls=False)
    digest = hashlib.sha256((folder / "p.exe").read_bytes()).digest()
    more = {} if tool == MINJECT else {"WINELOADER": args.runner}  # the native tool starts Wine itself
    code, out, err = run(tool + ["run", "p.exe"] + WORDS, folder, MIMALLOC_VERBOSE="1", **more)
    check(code == 77, f"run: exit code {code}: {err}")
    check(ECHO in out and "input: a line" in out, f"run: arguments and standard input: {out!r}")
    check("to standard error" in err, "run: standard error")
    check(any(ok for ok, _ in report_of(err).values()), f"run: redirected, by the report: {report_of(err)}")
    check(hashlib.sha256((folder / "p.exe").read_bytes()).digest() == digest and len(list(folder.iterdir())) == 1,
          "run: no file is touched")
    code, out, err = run(tool + ["run", "p.exe"], folder, MIMALLOC_VERBOSE="1", MIMALLOC_DISABLE_REDIRECT="1", **more)
    check(code == 77 and not any(ok for ok, _ in report_of(err).values()), "run: the switch works")
    code, _, err = run(tool + ["run", "--dll-folder=.", "p.exe"], folder, **more)
    check(code == 3 and "was not found in" in err, f"run: DLLs missing: {code} {err}")
    began = "mimalloc-redirect: version"
    for words, count in ((["run", "p.exe", "--spawn", "y"], 1), (["run", "--children", "p.exe", "--spawn", "y"], 2),
                         (["run", "--children", "p.exe", "--spawn", "--spawn", "y"], 3)):
        code, out, err = run(tool + words, folder, MIMALLOC_VERBOSE="1", **more)
        check(code == 77 and "[y]input: a line" in out, f"{words}: {code} {out} {err[-300:]}")
        check(err.count(began) == count, f"{words}: {err.count(began)} processes redirected, not {count}")
    (folder / "mimalloc.dll").write_bytes(make_pe.make(dll=True, machine="arm64", exports=("mi_version",)))
    (folder / REDIRECT_NAME).write_bytes((folder / "mimalloc.dll").read_bytes())
    code, out, err = run(tool + ["run", "p.exe"], folder, **more)
    check(code == 77, f"run: DLLs for another machine beside the program are passed over: {code} {err}")
    code, _, err = run(tool + ["run", "absent.exe"], folder)
    check(code == 3 and "no such file" in err, f"run: program missing: {code} {err}")
    code, _, err = run(tool + ["run", TOOLS / "mimalloc.dll"] if tool == MINJECT else tool + ["run", str(TOOLS / "mimalloc.dll")], folder)
    check(code == 22 and "is a DLL" in err, f"run: a DLL: {code} {err}")


def predict(folder):
    code, out, err = run(MINJECT + ["check", "--json", "p.exe"], folder)
    check(out.startswith("{"), f"check answers: {code} {err}")
    return code, json.loads(out)


def compare(folder, name, want):
    """The doctor's verdict is what happens."""
    code, answer = predict(folder)
    rc, _, err = run([args.runner, "p.exe"], folder, MIMALLOC_VERBOSE="1")
    happened = report_of(err)
    crt = next((m["malloc_of"].lower() for m in answer["modules"] if m["name"].lower() == "p.exe"), "")
    redirected = happened.get(crt, (False, False))
    check(answer["verdict"] == want, f"{name}: predicted {answer['verdict']}, expected {want}")
    check((answer["verdict"] == "redirected") == redirected[0], f"{name}: predicted {answer['verdict']}, happened {happened} {err[:300]}")
    if redirected[0]:
        check(rc == 77, f"{name}: exit code {rc}")
        check(answer["late"] == redirected[1], f"{name}: predicted late {answer['late']}, happened {happened}")
        sites = {m["name"].lower(): m["crt_functions"] for m in answer["modules"] if m["role"] == "crt"}
        told = {m[1].lower(): int(m[2]) for m in re.finditer(r"redirect: (\S+\.dll) .*redirected, (\d+) functions", err)}
        check(told.get(crt) == sites.get(crt), f"{name}: functions predicted {sites}, redirected {told}")


def live(folder, name, code, late=False, tool=MINJECT, **more):
    """check --live says itself whether its prediction came true."""
    rc, out, err = run(tool + ["check", "--json", "--live", "p.exe", "--json", "x"], folder, **more)
    check(rc == code and out.startswith("{"), f"{name}: live: exit code {rc}: {out[-300:]} {err}")
    check("[--json][x]input: a line" in err, f"{name}: live: the program got its arguments and input: {err}")
    rows = json.loads(out)["live"] if out.startswith("{") else []
    check(any(r["happened"] and r["happened_late"] == late for r in rows) == (code == 0), f"{name}: live: {rows}")
    check(all(r["predicted"] == r["happened"] and r["predicted_late"] == r["happened_late"] for r in rows if r["foretold"]),
          f"{name}: live: as foretold: {rows}")


def test_differing(folder):
    """When something else happens than was foretold, the exit code says so."""
    place(folder, "sample_msvcrt.exe")
    run(MINJECT + ["--inplace", "--no-backup", "p.exe"], folder)
    rc, out, err = run(MINJECT + ["check", "--live", "p.exe"], folder, MIMALLOC_DISABLE_REDIRECT="1")
    check(rc == 32 and "NOT as foretold" in out, f"differing: {rc} {out} {err}")


def test_predictions(folder):
    for sample in ("sample_msvcrt.exe", "sample_ucrt.exe"):
        if not (SAMPLES / sample).exists():
            continue
        place(folder, sample)
        compare(folder, f"{sample}, not injected", "not")
        code, _, err = run(MINJECT + ["--inplace", "--no-backup", "p.exe"], folder)
        check(code == 0, f"inject: {err}")
        compare(folder, f"{sample}, injected", "redirected")
        live(folder, sample, 0)
        if args.native and pathlib.Path(args.native).exists():
            live(folder, sample, 0, tool=[str(pathlib.Path(args.native).resolve())], WINELOADER=args.runner)
        (folder / REDIRECT_NAME).unlink()
        code, answer = predict(folder)
        check(code == 31 and answer["verdict"] == "not", f"{sample}: without the redirection's DLL")
    place(folder, "sample_linked.exe")
    compare(folder, "linked with the allocator", "redirected")
    live(folder, "linked with the allocator", 0, late=True)


def main():
    tests = [(test_run, (MINJECT,)), (test_predictions, ()), (test_differing, ())]
    if args.native and pathlib.Path(args.native).exists():
        tests.append((test_run, ([str(pathlib.Path(args.native).resolve())],)))
    for test, more in tests:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="minject-live-"))
        try:
            test(folder, *more)
        finally:
            shutil.rmtree(folder)
    print(f"{passed} checks passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
