#!/usr/bin/env python3
"""What check foretells for every program of this build is what then happens: as it was built, and injected.

  test_every.py --tools build/windows-x64-release --runner scripts/wine-run --native build/linux-release/minject
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import sys
import tempfile

import tally
from tally import check

parser = argparse.ArgumentParser()
parser.add_argument("--tools", required=True)
parser.add_argument("--runner", required=True)
parser.add_argument("--native", required=True)
args = parser.parse_args()
TOOLS, NATIVE = pathlib.Path(args.tools).resolve(), pathlib.Path(args.native).resolve()
RUNNER = str(pathlib.Path(args.runner).resolve())
# No Linux build here: minject.exe does it, slowly.
MINJECT = [str(NATIVE)] if NATIVE.exists() else [RUNNER, str(TOOLS / "minject.exe")]


def run(command, cwd):
    return tally.run(command, cwd, timeout=180, WINELOADER=RUNNER)


def place(folder, program):
    """The program with the DLLs that lie beside it, and ours."""
    for dll in list(program.parent.glob("*.dll")) + [TOOLS / "mimalloc.dll", TOOLS / "mimalloc-redirect.dll"]:
        if not (folder / dll.name).exists():
            os.symlink(dll, folder / dll.name)
    shutil.copy(program, folder / "p.exe")


def live(folder, *words):
    code, out, err = run(MINJECT + ["check", "--json", "--live", "p.exe", *words], folder)
    try:
        return code, json.loads(out)
    except json.JSONDecodeError:
        return code, {"verdict": f"none: {out[-200:]} {err[-200:]}", "live": []}


def try_program(program):
    """[(fact, what)]: the prediction holds as it is and injected; injected, whatever C runtime there is is redirected early."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="minject-every-"))
    facts = []
    try:
        place(folder, program)
        for way in ("as built", "injected"):
            if way == "injected":
                code, _, err = run(MINJECT + ["inject", "--inplace", "--no-backup", "--force", "p.exe"], folder)
                facts.append((code == 0, f"{program.name}: inject: {code} {err}"))
            code, answer = live(folder)
            rows = [r for r in answer["live"] if r["foretold"]]
            agree = all(r["predicted"] == r["happened"] and r["predicted_late"] == r["happened_late"] for r in rows)
            verdict = {"redirected": 0, "partly": 30, "not": 31}.get(answer["verdict"], -1)
            facts.append((agree and code == verdict, f"{program.name}, {way}: {answer['verdict']}, exit code {code}: {rows}"))
        facts.append((all(r["happened"] and not r["happened_late"] for r in rows), f"{program.name}, injected: early: {rows}"))
        return facts, len(rows)
    finally:
        shutil.rmtree(folder)


def test_owner(folder):
    """The program itself says whose its malloc is. A runtime of its own is foretold, and stays."""
    for sample, code, verdict in (("sample_msvcrt.exe", 91, "redirected"), ("sample_ucrt.exe", 91, "redirected"), ("sample_static.exe", 90, "partly")):
        for f in folder.iterdir():
            f.unlink()
        place(folder, TOOLS / "tests" / "minject" / sample)
        rc, _, _ = run([RUNNER, "p.exe", "--owner"], folder)
        check(rc == 90, f"{sample}: not injected, its malloc is its own: {rc}")
        run(MINJECT + ["inject", "-i", "--no-backup", "p.exe"], folder)
        rc, _, _ = run([RUNNER, "p.exe", "--owner"], folder)
        _, answer = live(folder)
        codes = [f["code"] for f in answer["findings"]]
        check(rc == code and answer["verdict"] == verdict, f"{sample}: {rc}, foretold {answer['verdict']} {codes}")
        check((verdict == "partly") == ("static-crt" in codes), f"{sample}: a static runtime is told: {codes}")


def main():
    tests = TOOLS / "tests"
    # micro-mi.exe is an injected micro.exe.
    programs = [p for folder in (tests, tests / "crossmodule", tests / "minject", TOOLS / "bench") for p in sorted(folder.glob("*.exe"))
                if p.name != "micro-mi.exe"]
    check(len(programs) >= 25, f"there are programs: {len(programs)}")
    count = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for facts, rows in pool.map(try_program, programs):
            count += rows
            for fact, what in facts:
                check(fact, what)
    check(count >= 20, f"runtimes that were foretold: {count}")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="minject-every-"))
    try:
        test_owner(folder)
    finally:
        shutil.rmtree(folder)
    print(f"{len(programs)} programs, {count} runtimes in them")
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
