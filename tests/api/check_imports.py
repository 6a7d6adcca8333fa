#!/usr/bin/env python3
"""What a DLL of ours imports exists on Windows 8.1: only kernel32 and ntdll, and of them only these functions.

usage: check_imports.py [--readobj PROGRAM] DLL ...
Exit code 0: all of it; 1: an import is not on the list, each in a line.

The list holds what Microsoft documents as there by Windows 8.1 ("Minimum supported client"); a new import of ours is
looked up there before it is added. The functions of ntdll are exported by every version since Windows 7; those that
have no documentation page are marked.
"""
import argparse
import re
import subprocess
import sys

ALLOWED = {
    # Windows XP or earlier, unless the comment says otherwise
    "kernel32.dll": """
        CloseHandle CreateFileW DebugBreak FlushInstructionCache GetCurrentProcess GetCurrentProcessId
        FreeEnvironmentStringsW GetCurrentThreadId GetEnvironmentStringsW GetEnvironmentVariableA GetEnvironmentVariableW
        GetFullPathNameA GetLastError
        GetModuleFileNameW GetModuleHandleExW GetModuleHandleW GetNumaHighestNodeNumber GetProcAddress GetProcessHeap
        GetProcessHeaps GetProcessTimes GetStdHandle GetSystemInfo GetSystemTimeAsFileTime GetThreadContext
        GlobalMemoryStatusEx HeapAlloc HeapFree HeapReAlloc HeapSize HeapValidate IsDebuggerPresent LoadLibraryExW
        MultiByteToWideChar OpenProcess OpenThread OutputDebugStringA QueryPerformanceCounter QueryPerformanceFrequency ReadProcessMemory
        ResumeThread SetLastError Sleep SuspendThread SwitchToThread TerminateProcess TlsAlloc TlsFree TlsGetValue TlsSetValue
        VirtualAlloc VirtualFree VirtualProtect VirtualQuery
        WaitForSingleObject WriteFile lstrlenW
        AcquireSRWLockExclusive GetThreadId GetTickCount64 ReleaseSRWLockExclusive VirtualAllocExNuma
        GetCurrentProcessorNumberEx GetNumaProcessorNodeEx K32GetProcessMemoryInfo
    """,  # the last two lines: Vista, and Windows 7
    "ntdll.dll": """
        LdrAddRefDll LdrLockLoaderLock LdrRegisterDllNotification LdrUnlockLoaderLock LdrUnregisterDllNotification
        NtGetNextThread NtQueryInformationProcess NtYieldExecution RtlAdjustPrivilege RtlDllShutdownInProgress
        RtlGetCurrentPeb RtlQueryEnvironmentVariable_U memcpy memmove memset
    """,
}


def imports(dll, readobj):
    out = subprocess.run([readobj, "--coff-imports", dll], capture_output=True, text=True, check=True).stdout
    library = ""
    for kind, name in re.findall(r"^\s*(Name|Symbol): (\S*)", out, re.M):
        if kind == "Name":
            library = name.lower()
        else:
            yield library, name


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--readobj", default="llvm-readobj-19")
    parser.add_argument("dlls", nargs="+")
    args = parser.parse_args()
    broken = []
    for dll in args.dlls:
        found = list(imports(dll, args.readobj))
        if not found:
            broken.append(f"{dll}: no imports were read")
        for library, name in found:
            if name not in ALLOWED.get(library, "").split():
                broken.append(f"{dll}: {library} {name or 'by ordinal'} is not known to be on Windows 8.1")
    print("\n".join(broken) or f"{len(args.dlls)} DLLs import only what Windows 8.1 has")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
