#!/usr/bin/env python3
"""minject on real installers and self-extracting programs, which are then run: NSIS (built here), a program with its own
data behind it, and 7-Zip's and Inno Setup's where they lie in .cache/installers.

  test_installers.py --tools build/windows-x64-release --samples FOLDER --runner scripts/wine-run
      [--native build/linux-release/minject] [--packages .cache/installers/node_modules]
"""
import argparse
import pathlib
import re
import shutil
import sys
import tempfile

import tally
from tally import check, run

parser = argparse.ArgumentParser()
parser.add_argument("--tools", required=True)
parser.add_argument("--samples", required=True)
parser.add_argument("--runner", required=True)
parser.add_argument("--native")
parser.add_argument("--packages")
args = parser.parse_args()
TOOLS, SAMPLES = pathlib.Path(args.tools).resolve(), pathlib.Path(args.samples).resolve()
RUNNER = str(pathlib.Path(args.runner).resolve())
PACKAGES = pathlib.Path(args.packages).resolve() if args.packages else None
WINDOWS_TOOL = [RUNNER, str(TOOLS / "minject.exe")]
MINJECT = [str(pathlib.Path(args.native).resolve())] if args.native and pathlib.Path(args.native).exists() else WINDOWS_TOOL
REDIRECT = next(p.name for p in TOOLS.glob("mimalloc-redirect*.dll") if "fault" not in p.name)
IS_X86 = REDIRECT == "mimalloc-redirect32.dll"
skipped = []


def copy_dlls(folder):
    for name in ("mimalloc.dll", REDIRECT):
        shutil.copy(TOOLS / name, folder)


def remove_restores(folder, name, original):
    code, _, err = run(MINJECT + ["remove", name], folder)
    check(code == 0 and (folder / name).read_bytes() == original, f"{name}: remove gives the original: {err}")


SCRIPT = """Unicode true
{target}
{crc}
OutFile "setup.exe"
SilentInstall silent
RequestExecutionLevel user
InstallDir "$EXEDIR\\out"
Section
SetOutPath $INSTDIR
File payload.txt
SectionEnd
"""


def make_nsis(folder, crc):
    (folder / "payload.txt").write_text("what is installed\n")
    target = "Target x86-unicode" if IS_X86 else "Target amd64-unicode"
    (folder / "setup.nsi").write_text(SCRIPT.format(target=target, crc=crc))
    code, out, err = run(["makensis", "-V2", "setup.nsi"], folder)
    return check(code == 0, f"makensis: {out} {err}")


def installs(folder, command, **env):
    """(exit code, whether the payload arrived, standard error); the place is empty before."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    code, _, err = run(command, folder, **env)
    place = folder / "out" / "payload.txt"
    return code, place.exists() and place.read_text() == "what is installed\n", err


def test_nsis(folder):
    """It checks itself: refused; forced, it refuses to start, as foretold, but for its own option; run redirects it."""
    if not shutil.which("makensis"):
        skipped.append("NSIS: no makensis here")
        return
    if not make_nsis(folder, ""):
        return
    original = (folder / "setup.exe").read_bytes()
    check(installs(folder, [RUNNER, "setup.exe", "/S"])[:2] == (0, True), "NSIS: the original installs")
    code, _, err = run(MINJECT + ["inject", "setup.exe"], folder)
    check(code == 23 and "NSIS" in err and not (folder / "setup-mi.exe").exists(), f"NSIS: refused: {code} {err}")
    code, _, err = run(MINJECT + ["inject", "--force", "setup.exe"], folder)
    check(code == 0 and "/NCRC" in err, f"NSIS: forced: {code} {err}")
    copy_dlls(folder)
    code, arrived, _ = installs(folder, [RUNNER, "setup-mi.exe", "/S"])
    check(code != 0 and not arrived, f"NSIS: the foretold refusal to start: {code}")
    code, out, _ = run(MINJECT + ["check", "setup-mi.exe"], folder)
    check(code == 31 and "will refuse to start" in out, f"NSIS: check foretells it: {code} {out}")
    code, arrived, err = installs(folder, [RUNNER, "setup-mi.exe", "/NCRC", "/S"], MIMALLOC_VERBOSE="1")
    check(code == 0 and arrived and ": redirected, " in err, f"NSIS: with its option: {code} {arrived} {err[-300:]}")
    remove_restores(folder, "setup-mi.exe", original)
    code, arrived, err = installs(folder, WINDOWS_TOOL + ["run", "setup.exe", "/S"], MIMALLOC_VERBOSE="1")
    check(code == 0 and arrived and ": redirected, " in err, f"NSIS: run: {code} {arrived} {err[-300:]}")
    check((folder / "setup.exe").read_bytes() == original, "NSIS: run touches nothing")


def test_nsis_free(folder):
    """One that was built without the checksum is injected with a word about its data, and installs."""
    if not shutil.which("makensis") or not make_nsis(folder, "CRCCheck off"):
        return
    original = (folder / "setup.exe").read_bytes()
    code, _, err = run(MINJECT + ["inject", "setup.exe"], folder)
    check(code == 0 and "moves by" in err, f"NSIS without checksum: {code} {err}")
    copy_dlls(folder)
    code, arrived, err = installs(folder, [RUNNER, "setup-mi.exe", "/S"], MIMALLOC_VERBOSE="1")
    check(code == 0 and arrived and ": redirected, " in err, f"NSIS without checksum: {code} {arrived} {err[-300:]}")
    remove_restores(folder, "setup-mi.exe", original)


def test_own(folder):
    """Data found from the end is found afterwards, data at a fixed place has moved by as much as was said."""
    data = (SAMPLES / "sample_msvcrt.exe").read_bytes()
    payload = b"the payload, sixty-four bytes of it, which nothing in it repeats"
    assert len(payload) == 64
    (folder / "sfx.exe").write_bytes(data + payload)
    check(run([RUNNER, "sfx.exe", "--payload", str(-len(data))], folder)[:1] == (80,), "own: the original runs")
    code, _, err = run(MINJECT + ["inject", "sfx.exe"], folder)
    moved = re.search(r"moves by (\d+) bytes", err)
    if not check(code == 0 and moved, f"own: injected with a warning: {code} {err}"):
        return
    copy_dlls(folder)
    for at, found in ((64, True), (-len(data), False), (-len(data) - int(moved[1]), True)):
        code, out, err = run([RUNNER, "sfx-mi.exe", "--payload", str(at)], folder, MIMALLOC_VERBOSE="1")
        check(code == 80 and (payload.decode() in out) == found, f"own: payload at {at}: {code} {out!r}")
        check(": redirected, " in err, f"own: redirected: {err[-300:]}")
    remove_restores(folder, "sfx-mi.exe", data + payload)


def test_7zip(folder):
    """7-Zip's console module (on msvcrt.dll): the archive behind it is found by searching."""
    stubs = PACKAGES / "7zip" / "7zip-lite" if PACKAGES else None
    if not IS_X86 or stubs is None or not stubs.exists() or not shutil.which("7zz"):
        skipped.append("7-Zip SFX: needs a 32-bit Wine, 7zz, and .cache/installers")
        return
    (folder / "payload.txt").write_text("what is packed\n")
    run(["7zz", "a", "-bd", "payload.7z", "payload.txt"], folder)
    archive = (folder / "payload.7z").read_bytes()
    copy_dlls(folder)
    for stub in ("7zCon.sfx", "7z.sfx"):
        original = (stubs / stub).read_bytes() + archive
        (folder / "sfx.exe").write_bytes(original)
        code, _, err = run(MINJECT + ["inject", "--force", "sfx.exe"], folder)
        check(code == 0 and "moves by" in err, f"{stub}: injected: {code} {err}")
        code, out, _ = run(MINJECT + ["check", "sfx-mi.exe"], folder)
        check("msvcrt.dll" in out.lower() and "will refuse" not in out, f"{stub}: check: {code} {out}")
        if stub == "7zCon.sfx":  # the other one wants a window
            (folder / "payload.txt").unlink()
            code, _, err = run([RUNNER, "sfx-mi.exe", "-y"], folder, MIMALLOC_VERBOSE="1")
            arrived = (folder / "payload.txt").exists() and (folder / "payload.txt").read_text() == "what is packed\n"
            check(code == 0 and arrived and "msvcrt.dll" in err and ": redirected, " in err, f"{stub}: runs: {code} {err[-300:]}")
        remove_restores(folder, "sfx-mi.exe", original)


def test_inno(folder):
    """Inno Setup: refused with its name; forced, it does not get as far as its log; run does."""
    compiler = PACKAGES / "innosetup" / "bin" if PACKAGES else None
    if not IS_X86 or compiler is None or not compiler.exists():
        skipped.append("Inno Setup: needs a 32-bit Wine and .cache/installers")
        return
    shutil.copytree(compiler, folder / "bin")
    (folder / "payload.txt").write_text("what is installed\n")
    (folder / "setup.iss").write_text("[Setup]\nAppName=T\nAppVersion=1\nDefaultDirName={src}\\out\nOutputDir=.\n"
                                      "OutputBaseFilename=setup\nPrivilegesRequired=lowest\nUninstallable=no\n"
                                      "[Files]\nSource: \"payload.txt\"; DestDir: \"{app}\"\n")
    code, out, err = run([RUNNER, "bin/ISCC.exe", "setup.iss"], folder)
    if not check(code == 0, f"Inno Setup's compiler: {code} {out} {err}"):
        return
    original = (folder / "setup.exe").read_bytes()
    code, _, err = run(MINJECT + ["inject", "setup.exe"], folder)
    check(code == 23 and "Inno Setup" in err, f"Inno Setup: refused: {code} {err}")
    code, _, err = run(MINJECT + ["inject", "--force", "setup.exe"], folder)
    check(code == 0 and "refuse to start" in err, f"Inno Setup: forced: {code} {err}")
    copy_dlls(folder)
    silent = ["/VERYSILENT", "/SUPPRESSMSGBOXES", "/LOG=log.txt"]
    # Without a display it stops in the middle, but after it has read its data and begun its log.
    for command, starts in (([RUNNER, "setup.exe"], True), ([RUNNER, "setup-mi.exe"], False),
                            (WINDOWS_TOOL + ["run", "--children", "setup.exe"], True)):
        (folder / "log.txt").unlink(missing_ok=True)
        code, _, err = run(command + silent, folder, MIMALLOC_VERBOSE="1", DISPLAY="")
        check((folder / "log.txt").exists() == starts, f"Inno Setup: {command[1:]}: {code} {err[-300:]}")
    check(err.count("mimalloc-redirect: version") == 2, "Inno Setup: the loader and the setup that it unpacks are redirected")
    remove_restores(folder, "setup-mi.exe", original)


def main():
    for test in (test_nsis, test_nsis_free, test_own, test_7zip, test_inno):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="minject-installers-"))
        try:
            test(folder)
        finally:
            shutil.rmtree(folder)
    for what in skipped:
        print(f"left out: {what}")
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
