#!/usr/bin/env python3
"""The static library in Microsoft's manner: static_windows.c by clang-cl, linked by lld-link into a program that has no
thread-local variable and names nothing of that file's sections. The program must have a TLS directory with our
callback, and our initialiser. Microsoft's headers and libraries are not there: a few declarations, and a runtime's
_tls_used between its sections, stand in for them.

usage: check_static_msvc.py
Exit code 77: no clang-cl-19 or lld-link-19.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WINDOWS_H = """
#pragma once
#define NTAPI __stdcall
#define GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS 4
#define GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT 2
#define DLL_PROCESS_ATTACH 1
#define DLL_THREAD_DETACH 3
#define DLL_PROCESS_DETACH 0
typedef void *PVOID, *HMODULE;
typedef unsigned long DWORD;
typedef const unsigned short *LPCWSTR;
typedef void(NTAPI *PIMAGE_TLS_CALLBACK)(PVOID, DWORD, PVOID);
int __stdcall GetModuleHandleExW(DWORD, LPCWSTR, HMODULE *);
HMODULE __stdcall GetModuleHandleW(LPCWSTR);
"""
STDLIB_H = "int atexit(void(__cdecl *f)(void));\n"
# What the runtime brings: the TLS directory, in a library, so that only who asks for it has it.
RUNTIME = """
#pragma section(".CRT$XLA", read)
#pragma section(".CRT$XLZ", read)
#pragma section(".rdata$T", read)
typedef void *pointer;
unsigned _tls_index;
__declspec(allocate(".CRT$XLA")) pointer __xl_a = 0;
__declspec(allocate(".CRT$XLZ")) pointer __xl_z = 0;
struct directory { pointer start, end, *index, *callbacks; unsigned zero, flags; };
__declspec(allocate(".rdata$T")) const struct directory _tls_used = {
    0, 0, (pointer *)&_tls_index, &__xl_a + 1, 0, 0};
"""
PROGRAM = """
typedef unsigned char bool_t;
void *mi_redirect_foreign(void);
void mi_entry_init(void) {}
void mi_entry_exit(void) {}
void mi_entry_unload(bool_t end) { (void)end; }
void mi_core_thread_done(void) {}
bool_t mi_os_is_exiting(void) { return 0; }
int atexit(void (*f)(void)) { (void)f; return 0; }
int __stdcall GetModuleHandleExW(unsigned long a, const void *b, void **c) { (void)a; (void)b; (void)c; return 0; }
void *__stdcall GetModuleHandleW(const void *a) { (void)a; return 0; }
int start(void) { return mi_redirect_foreign() != 0; }
"""


def run(*command, cwd):
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


def check(target, machine, prefix, work):
    work.mkdir()
    for name, text in (("windows.h", WINDOWS_H), ("stdlib.h", STDLIB_H),
                       ("assert.h", "#define static_assert _Static_assert\n"), ("runtime.c", RUNTIME), ("program.c", PROGRAM)):
        (work / name).write_text(text)
    compiler = ["clang-cl-19", f"--target={target}", "-c", "-O2", "-GS-", "-Zl",
                "-std:c11", "-clang:-ffreestanding"]
    run(*compiler, "-DMI_DEBUG=0", "-DMI_SECURE=0", "-I", work, "-I", ROOT / "src", "-I", ROOT / "include",
        "-Foours.obj", "--",
        ROOT / "src" / "entry" / "static_windows.c", cwd=work)
    run(*compiler, "-w", "-Foruntime.obj", "--", "runtime.c", cwd=work)
    run(*compiler, "-w", "-Foprogram.obj", "--", "program.c", cwd=work)
    for name in ("ours", "runtime"):
        run("llvm-lib-19", f"/out:{name}.lib", f"{name}.obj", cwd=work)
    run("lld-link-19", f"/machine:{machine}", "/entry:start", "/subsystem:console", "/nodefaultlib", "/opt:ref",
        "/opt:icf", "/safeseh:no", "/map:program.map", "/out:program.exe", "program.obj", "ours.lib", "runtime.lib", cwd=work)
    headers = run("llvm-readobj-19", "--file-headers", "program.exe", cwd=work)
    size = int(re.search(r"TLSTableSize: (0x[0-9A-F]+)", headers)[1], 16)
    where = {name: int(at, 16) for name, at in
             re.findall(r"^ [0-9a-f]{4}:[0-9a-f]{8} +(\S+) +([0-9a-f]{8,16}) ", (work / "program.map").read_text(), re.M)}
    callback, begins, first, last = (where.get(prefix + n)
                                     for n in ("mi_tls_callback", "mi_module_begins", "__xl_a", "__xl_z"))
    print(f"{target}: TLS directory of {size} bytes; callback {callback} of {first} to {last}; initialiser {begins}")
    return size != 0 and None not in (callback, begins, first, last) and first < callback < last


def main():
    if not all(shutil.which(tool) for tool in ("clang-cl-19", "lld-link-19", "llvm-lib-19", "llvm-readobj-19")):
        print("no clang-cl-19, lld-link-19, llvm-lib-19 or llvm-readobj-19 (scripts/setup.sh test)")
        return 77
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        good = [check("x86_64-pc-windows-msvc", "x64", "", work / "x64"),
                check("i686-pc-windows-msvc", "x86", "_", work / "x86"),
                check("aarch64-pc-windows-msvc", "arm64", "", work / "arm64")]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
