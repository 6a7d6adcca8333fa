#!/usr/bin/env python3
"""minject check on made programs: the verdict, the finding behind it, and JSON that is JSON.

  test_check.py --minject build/linux-release/minject
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import make_pe

parser = argparse.ArgumentParser()
parser.add_argument("--minject", required=True)
args = parser.parse_args()
TOOL = str(pathlib.Path(args.minject).resolve())
passed = failed = 0
CRT = (("msvcrt.dll", ("malloc", "free", "printf")),)
OURS = (("mimalloc-redirect.dll", ("mi_allocator_init",)), ("mimalloc.dll", ("mi_version",)))
OURS_X86 = (("mimalloc-redirect32.dll", ("mi_allocator_init",)), ("mimalloc.dll", ("mi_version",)))
STATIC = (("KERNEL32.dll", ("HeapAlloc", "HeapFree", "HeapReAlloc", "HeapSize", "GetProcessHeap", "FlsAlloc", "LCMapStringW",
                            "GetStringTypeW", "GetStartupInfoW", "GetCPInfo", "WriteConsoleW")),)
REDIRECT = make_pe.make(dll=True, imports=make_pe.KERNEL, exports=("mi_allocator_init",))
ALLOCATOR = make_pe.make(dll=True, imports=make_pe.KERNEL, exports=("mi_version", "_mi_redirect_entry"))
BOTH = {"mimalloc-redirect.dll": REDIRECT, "mimalloc.dll": ALLOCATOR}


def check(fact, what):
    global passed, failed
    if fact:
        passed += 1
    else:
        failed += 1
        print(f"failed: {what}", file=sys.stderr)


def verdict(name, program, files, code, findings, absent=(), late=None):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="minject-check-"))
    try:
        (folder / "p.exe").write_bytes(program)
        for file, data in files.items():
            (folder / file).write_bytes(data)
        text = subprocess.run([TOOL, "check", "p.exe"], cwd=folder, capture_output=True, text=True)
        r = subprocess.run([TOOL, "check", "--json", "p.exe"], cwd=folder, capture_output=True, text=True)
        check(text.returncode == r.returncode == code, f"{name}: exit code {r.returncode}, not {code}\n{text.stdout}{text.stderr}")
        try:
            answer = json.loads(r.stdout)
        except json.JSONDecodeError as e:
            check(False, f"{name}: JSON: {e}")
            return
        check(answer["schema"] == 1 and answer["verdict"] == {0: "redirected", 30: "partly", 31: "not"}[code], f"{name}: verdict")
        codes = [f["code"] for f in answer["findings"]]
        for want in findings:
            check(want in codes, f"{name}: finding {want} is in {codes}")
        for unwanted in absent:
            check(unwanted not in codes, f"{name}: finding {unwanted} is not in {codes}")
        for f in answer["findings"]:
            check(f["text"] and f["text"] in text.stdout, f"{name}: the text says the same")
            check(f["level"] not in ("warning", "bad") or f["cure"] or f["code"] in ("no-use", "hybrid"), f"{name}: {f['code']} has a cure")
        check([m["order"] for m in answer["modules"]] == list(range(1, len(answer["modules"]) + 1)), f"{name}: order")
        check(late is None or answer["late"] == late, f"{name}: late is {answer['late']}")
    finally:
        shutil.rmtree(folder)


def main():
    make = make_pe.make
    verdict("injected", make(imports=OURS + CRT), BOTH, 0, ["early", "dll"], ["no-use", "dll-missing"], late=False)
    verdict("not injected", make(imports=CRT), BOTH, 31, ["not-injected"])
    verdict("wrong order", make(imports=CRT + OURS), BOTH, 0, ["late"], ["early"], late=True)
    verdict("early through a DLL", make(imports=(("helper.dll", ("f",)),) + OURS + CRT),
            dict(BOTH, **{"helper.dll": make(dll=True, imports=CRT, exports=("f",))}), 0, ["late"], late=True)
    verdict("injected in a DLL", make(imports=(("helper.dll", ("f",)),) + CRT),
            dict(BOTH, **{"helper.dll": make(dll=True, imports=OURS, exports=("f",))}), 0, ["early"], late=False)
    verdict("redirect missing", make(imports=OURS + CRT), {"mimalloc.dll": ALLOCATOR}, 31, ["dll-missing"])
    verdict("allocator missing", make(imports=OURS + CRT), {"mimalloc-redirect.dll": REDIRECT}, 31, ["dll-missing"])
    verdict("wrong machine", make(imports=OURS + CRT), dict(BOTH, **{"mimalloc.dll": make(machine="x86", dll=True, exports=("mi_version",))}),
            31, ["dll-machine"])
    verdict("wrong DLL", make(imports=OURS + CRT), dict(BOTH, **{"mimalloc.dll": make(dll=True, exports=("something",))}), 31, ["dll-exports"])
    verdict("broken DLL", make(imports=OURS + CRT), dict(BOTH, **{"mimalloc.dll": b"MZ nothing"}), 31, ["dll-machine"])
    verdict("linked, redirect beside", make(imports=OURS[1:] + CRT), BOTH, 0, ["redirect-beside", "early"], late=False)
    verdict("linked, no redirect", make(imports=OURS[1:] + CRT), {"mimalloc.dll": ALLOCATOR}, 31, ["redirect-missing"])
    verdict("static runtime", make(imports=OURS + STATIC), BOTH, 30, ["static-crt"])
    verdict("static runtime in a DLL", make(imports=OURS + CRT + (("helper.dll", ("f",)),)),
            dict(BOTH, **{"helper.dll": make(dll=True, imports=STATIC, exports=("f",))}), 30, ["static-crt"])
    verdict("no runtime", make(imports=OURS + make_pe.KERNEL), BOTH, 30, ["no-use"], ["static-crt"])
    verdict("two runtimes", make(imports=OURS + CRT + (("helper.dll", ("f",)),)),
            dict(BOTH, **{"helper.dll": make(dll=True, imports=(("api-ms-win-crt-heap-l1-1-0.dll", ("malloc",)),), exports=("f",))}),
            0, ["crt-mix"])
    verdict("debug and release", make(imports=OURS + CRT + (("helper.dll", ("f",)),)),
            dict(BOTH, **{"helper.dll": make(dll=True, imports=(("ucrtbased.dll", ("malloc",)),), exports=("f",))}),
            30, ["crt-mix", "debug-release-mix"])
    verdict("second allocator", make(imports=OURS + CRT + (("tbbmalloc_proxy.dll", ("f",)),)), BOTH, 30, ["second-allocator", "not-found"])
    verdict(".NET", make(imports=OURS + CRT, clr=1), BOTH, 31, ["dotnet"])
    verdict("mixed .NET", make(imports=OURS + CRT, clr=0), BOTH, 0, ["dotnet"])
    verdict("hybrid", make(imports=OURS + CRT, chpe=True), BOTH, 31, ["hybrid"])
    verdict("signed", make(imports=OURS + CRT, cert=make_pe.CERT), BOTH, 0, ["signed"])
    verdict("overlay", make(imports=OURS + CRT, overlay=make_pe.ZIP_TAIL), BOTH, 0, ["overlay"])
    verdict("delay", make(imports=OURS + CRT, delay=True), BOTH, 0, ["delay"])
    verdict("guard", make(imports=OURS + CRT, dll_flags=0xC160), BOTH, 0, ["cfg"])
    verdict("x86", make(machine="x86", imports=OURS_X86 + CRT), {
        "mimalloc-redirect32.dll": make(machine="x86", dll=True, exports=("mi_allocator_init",)),
        "mimalloc.dll": make(machine="x86", dll=True, exports=("mi_version", "_mi_redirect_entry"))}, 0, ["early"])
    print(f"{passed} checks passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
