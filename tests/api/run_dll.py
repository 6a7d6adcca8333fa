#!/usr/bin/env python3
"""What mimalloc.dll is and does as a file: imports, ordinal 1, version, its partner missing, wrong or there.

usage: run_dll.py --dll MIMALLOC.DLL --user dll_user.exe --late dll_late.exe --runner WINE-RUN --work DIR
                  [--redirect MIMALLOC-REDIRECT.DLL]
"""
import argparse
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys

passed = failed = 0


def check(fact, what, detail=""):
    global passed, failed
    if fact:
        passed += 1
    else:
        failed += 1
        print(f"failed: {what}\n{detail}")


def readobj(*args):
    return subprocess.run(["llvm-readobj-19", *args], capture_output=True, text=True, check=True).stdout


def check_file(dll):
    imports = set(re.findall(r"^  Name: (\S+)$", readobj("--coff-imports", dll), re.M))
    check({i.lower() for i in imports} == {"ntdll.dll", "kernel32.dll"}, "imports ntdll and kernel32 only", str(imports))
    exports = readobj("--coff-exports", dll)
    check(re.search(r"Ordinal: 1\n\s+Name: mi_version\n", exports), "mi_version is export 1", exports[:500])
    for name in ("_mi_redirect_entry", "_mi_redirect_allocator", "mi_malloc", "mi_is_redirected"):
        check(re.search(rf"Name: {name}\n", exports), f"{name} is exported")
    check("malloc" not in re.findall(r"Name: (\S+)", exports), "malloc itself is not exported")
    headers = readobj("--file-headers", dll)
    check(re.search(r"TLSTableRVA: 0x0\n", headers), "no compiler-made TLS", headers)
    check("IMAGE_DLL_CHARACTERISTICS_NX_COMPAT" in headers and "DYNAMIC_BASE" in headers, "hardening flags", headers)
    check("3.4.0".encode("utf-16-le") in pathlib.Path(dll).read_bytes(), "version resource")


class Folder:
    def __init__(self, args):
        self.args = args
        self.path = args.work
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        for f in (args.dll, args.user, args.late):
            shutil.copy(f, self.path)
        name = args.redirect.name if args.redirect else "mimalloc-redirect.dll"
        self.partner = self.path / name

    def run(self, program, *words, **env):
        clean = {k: v for k, v in os.environ.items() if k.startswith("MI_WINE") or not k.startswith(("MIMALLOC_", "MI_"))}
        clean.update(env)
        result = subprocess.run([str(self.args.runner), str(self.path / program.name), *words], capture_output=True, cwd=self.path,
                                env=clean, timeout=120)
        if result.returncode == 77:
            print("no Wine for this architecture")
            sys.exit(77)
        lines = result.stderr.decode(errors="replace").replace("\r", "").splitlines(keepends=True)
        err = "".join(line for line in lines if not line.startswith("wine-run:"))  # it may have made its prefix just now
        return result.returncode, result.stdout.decode(errors="replace"), err


def check_runs(f):
    user, late = f.args.user, f.args.late
    off = {"MIMALLOC_DISABLE_REDIRECT": "1"}
    code, out, err = f.run(user)
    check(code == 0 and " 0 failed" in out, "runs without its partner", out + err)
    check(err.count("\n") == 1 and "malloc is not redirected" in err and "it is not there" in err and f.partner.name in err
          and "MIMALLOC_DISABLE_REDIRECT=1" in err, "one sentence about the missing partner", err)
    for name in ("MIMALLOC_DISABLE_REDIRECT", "MI_DISABLE_REDIRECT"):
        code, out, err = f.run(user, **{name: "1"})
        check(code == 0 and err == "", f"silent with {name}=1", err)
    for name, value in (("MIMALLOC_ENABLE_REDIRECT", "0"), ("MIMALLOC_REDIRECT", "off")):
        code, out, err = f.run(user, **{name: value})
        check(code == 0 and err == "", f"silent with {name}={value}", err)
    code, out, err = f.run(user, MIMALLOC_REDIRECT="required")
    check(code == 120 and "required" in err and " passed" not in out, "the policy required ends the program", f"{code} {out} {err}")
    image = bytearray(f.args.dll.read_bytes())
    machine = struct.unpack_from("<I", image, 0x3C)[0] + 4
    struct.pack_into("<H", image, machine, 0x01C4)  # ARM Thumb-2: no architecture of ours
    f.partner.write_bytes(image)
    code, out, err = f.run(user)
    check(code == 0 and "no DLL for this processor architecture" in err and err.count("\n") == 1, "a partner for another machine", err)
    shutil.copy(f.path / late.name, f.partner)
    code, out, err = f.run(user)
    check(code == 0 and "is another DLL of that name" in err, "a stranger with the partner's name", err)
    f.partner.unlink()
    code, out, err = f.run(user, "threads", **off)
    check(code == 0 and " 0 failed" in out, "threads that come and go", out + err)
    code, out, err = f.run(late, f.args.dll.name, **off)
    check(code == 0 and " 0 failed" in out, "loaded and freed 1000 times", out + err)
    code, out, err = f.run(user, MIMALLOC_SHOW_STATS="1", **off)
    served = re.search(r"^ +allocations +(\d+)", err, re.M)
    check(served and int(served.group(1)) > 0, "statistics at exit", err)
    for name in ("MIMALLOC_VERBOSE", "MI_VERBOSE"):
        code, out, err = f.run(user, **{name: "1"}, **off)
        check("version 3.4.0" in err and "option verbose: 1 (set)" in err, f"{name}=1 prints version and options", err)


def check_redirected(f):
    shutil.copy(f.args.redirect, f.partner)
    code, out, err = f.run(f.args.user, "redirected")
    check(code == 0 and " 0 failed" in out, "malloc of the program is ours", out + err)
    code, out, err = f.run(f.args.user, "redirected", MIMALLOC_REDIRECT="required", MIMALLOC_VERBOSE="1")
    check(code == 0 and "redirect" in err, "required and fulfilled", out + err)
    code, out, err = f.run(f.args.user, MIMALLOC_DISABLE_REDIRECT="1")
    check(code == 0, "not redirected when it is switched off", out + err)
    code, out, err = f.run(f.args.late, f.args.dll.name)
    check(code == 0 and " 0 failed" in out, "loaded late 1000 times, redirected", out + err)


def main():
    parser = argparse.ArgumentParser()
    for name in ("dll", "user", "late", "runner", "work"):
        parser.add_argument("--" + name, type=pathlib.Path, required=True)
    parser.add_argument("--redirect", type=pathlib.Path)
    args = parser.parse_args()
    check_file(args.dll)
    folder = Folder(args)
    check_runs(folder)
    if args.redirect:
        check_redirected(folder)
    shutil.rmtree(args.work, ignore_errors=True)
    print(f"{passed} checks passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
