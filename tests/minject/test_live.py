#!/usr/bin/env python3
"""minject run, and minject check's prediction against what then happens, with the real DLLs.

  test_live.py --tools build/windows-x64-release --samples FOLDER --runner scripts/wine-run [--native build/linux-release/minject]
"""
import argparse
import hashlib
import json
import os
import pathlib
import pty
import re
import shutil
import sys
import tempfile

import make_pe
import tally
from tally import check

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


def run(command, cwd, text="a line\n", **more):
    return tally.run(command, cwd, text, **more)


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


def on_terminal(command, cwd, awaited, then):
    """(exit code, what was shown): the command on a terminal of its own, which is sent `then` after `awaited`. Wine's
    console writes letter by letter, with sequences in between."""
    shown, sent = b"", False
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execv(command[0], [str(c) for c in command])
    try:
        while True:
            shown += os.read(fd, 65536)
            text = re.sub(rb"\x1b\[[0-9?;]*[A-Za-z]", b"", shown)
            if awaited in text and not sent:
                os.write(fd, then)
                sent = True
    except OSError:
        pass
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text.decode("utf-8", "replace")


def test_console(folder):
    """Ctrl-C is the program's affair: it hears it, minject waits for what it makes of it."""
    place(folder, "sample_msvcrt.exe")
    for words in (["run"], ["run", "--children"]):
        code, text = on_terminal(MINJECT + words + ["p.exe", "--control"], folder, b"waiting", b"\x03")
        check(code == 78 and "waiting" in text, f"Ctrl-C, {words}: {code} {text!r}")


def test_surroundings(folder):
    """The program runs in the folder and with the environment of whoever starts minject, and its arguments arrive as
    they were: spaces, quotes, backslashes, empty ones."""
    place(folder, "sample_msvcrt.exe")
    (folder / "below").mkdir()
    code, out, err = run(MINJECT + ["run", "..\\p.exe", "--where"], folder / "below", MI_SAMPLE="given on")
    check(code == 79 and out.strip().endswith("MI_SAMPLE is given on") and "\\below," in out, f"surroundings: {code} {out} {err}")
    words = ["", " ", '"', "\\", '\\"', 'a\\\\"b c\\', "\\\\server\\share name\\", "tab\there", "--flag=a b", "*", "%PATH%", "^&|<>"]
    code, out, err = run(MINJECT + ["run", "p.exe"] + words, folder)
    plain_code, plain, _ = run([args.runner, "p.exe"] + words, folder)
    check(code == plain_code == 77 and out == plain and out.startswith("[][ ]"), f"arguments: {out!r}, without minject {plain!r}")


def test_policies(folder):
    """What the system's settings do to this program is told: execution options, AppInit_DLLs, compatibility layers."""
    place(folder, "sample_msvcrt.exe")
    (folder / "p.exe").rename(folder / "minject_policy_test.exe")
    nt = "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion"
    full = "Z:" + str(folder / "minject_policy_test.exe").replace("/", "\\")

    def settings(flags, spy, on, layer, mark=""):
        text = (f'Windows Registry Editor Version 5.00\r\n\r\n[{mark}HKEY_LOCAL_MACHINE\\{nt}\\Image File Execution Options\\'
                f'minject_policy_test.exe]\r\n{flags}\r\n[HKEY_LOCAL_MACHINE\\{nt}\\Windows]\r\n"AppInit_DLLs"={spy}\r\n'
                f'"LoadAppInit_DLLs"={on}\r\n\r\n[HKEY_CURRENT_USER\\{nt}\\AppCompatFlags\\Layers]\r\n'
                + '"' + full.replace("\\", "\\\\") + f'"={layer}\r\n')
        (folder / "settings.reg").write_text(text, newline="")
        code, out, err = run([args.runner, "reg", "import", "settings.reg"], folder)
        check(code == 0, f"reg import: {out} {err}")

    def codes():
        answer = json.loads(run(MINJECT + ["check", "--json", "minject_policy_test.exe"], folder)[1])
        return {f["code"]: f["text"] for f in answer["findings"]}

    check(not {"ifeo", "appinit", "shim"} & set(codes()), "no settings, no word")
    try:
        settings('"GlobalFlag"=dword:00000100\r\n', '"spy.dll"', "dword:00000001", '"WINXPSP3"')
        found = codes()
        check("GlobalFlag to 0x100" in found.get("ifeo", ""), f"execution options: {found}")
        check("spy.dll" in found.get("appinit", ""), f"AppInit_DLLs: {found}")
        check("WINXPSP3" in found.get("shim", ""), f"compatibility layers: {found}")
    finally:
        settings("", "-", "-", "-", "-")
    check(not {"ifeo", "appinit", "shim"} & set(codes()), "the settings are gone")


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
            # Where its log lies while the program runs, told by who starts it.
            (folder / "temporary").mkdir(exist_ok=True)
            teller = folder / "teller"
            teller.write_text(f'#!/bin/sh\nprintf %s "$MIMALLOC_LOG" > "{folder}/told"\nexec "{args.runner}" "$@"\n')
            teller.chmod(0o755)
            run([str(pathlib.Path(args.native).resolve()), "check", "--live", "p.exe"], folder, WINELOADER=str(teller),
                TMPDIR=str(folder / "temporary"))
            told = (folder / "told").read_text()
            check(told.startswith(f"Z:{folder}/temporary/minject-log-"), f"{sample}: the log is in TMPDIR: {told}")
            left = list((folder / "temporary").glob("minject-*"))
            check(not left, f"{sample}: and no longer there: {left}")
        (folder / REDIRECT_NAME).unlink()
        code, answer = predict(folder)
        check(code == 31 and answer["verdict"] == "not", f"{sample}: without the redirection's DLL")
    # A C runtime whose entries cannot be patched.
    made = TOOLS / "tests"
    if (made / "probe_tables.exe").exists():
        shutil.copy(made / "probe_tables.exe", folder / "p.exe")
        for name in ("synth_hazard2.dll", REDIRECT_NAME):
            shutil.copy((made if name.startswith("synth") else TOOLS) / name, folder)
        run(MINJECT + ["--inplace", "--no-backup", "p.exe"], folder)
        rc, out, err = run(MINJECT + ["check", "--json", "--live", "p.exe", "malloc", "synth_hazard2.dll"], folder)
        answer = json.loads(out) if out.startswith("{") else {"verdict": "", "live": []}
        rows = [r for r in answer["live"] if r["name"].lower() == "synth_hazard2.dll"]
        check(rc == 0 and answer["verdict"] == "redirected" and len(rows) == 1 and rows[0]["predicted"] and rows[0]["happened"],
              f"by tables: {rc} {rows} {out[:300]} {err}")
        check("malloc of synth_hazard2.dll: ours" in err, f"by tables: {err}")
    place(folder, "sample_linked.exe")
    compare(folder, "linked with the allocator", "redirected")
    live(folder, "linked with the allocator", 0, late=True)


def main():
    tests = [(test_run, (MINJECT,)), (test_predictions, ()), (test_differing, ())]
    # 32-bit programs run in a root with a Wine of its own, whose terminal and registry are not those of the runner.
    if REDIRECT_NAME == "mimalloc-redirect.dll":
        tests += [(test_console, ()), (test_surroundings, ()), (test_policies, ())]
    if args.native and pathlib.Path(args.native).exists():
        tests.append((test_run, ([str(pathlib.Path(args.native).resolve())],)))
    for test, more in tests:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="minject-live-"))
        try:
            test(folder, *more)
        finally:
            shutil.rmtree(folder)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
