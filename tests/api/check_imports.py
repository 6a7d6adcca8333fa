#!/usr/bin/env python3
"""What our DLLs and minject.exe import exists on Windows 8.1: only these functions, and for the DLLs only kernel32 and ntdll.

usage: check_imports.py [--readobj PROGRAM] [--headers FOLDER] [--cc PROGRAM] [--tool minject.exe] DLL ...
Exit code 0: all of it; 1: an import is not on the list, or the headers contradict the list, each in a line.

Where the knowledge comes from:
  kernel32, advapi32, shell32: the headers of mingw-w64 declare a function only from the version of Windows on that has it
      (_WIN32_WINNT). With them at hand each name must be declared at its level, and those of a level above the first not
      at the level before, so that the headers really say something about them.
  msvcrt (the tool only): the system's msvcrt.dll of Windows XP and later, which mingw-w64's own start code relies on; its
      functions are in the C standard, or in Microsoft's documentation of Visual C++ 6. No level in the headers.
  ntdll: Microsoft documents LdrRegisterDllNotification, LdrUnregisterDllNotification (both Vista),
      NtQueryInformationProcess, NtQueryInformationThread, RtlGetCurrentPeb, RtlDllShutdownInProgress and memcpy's kind. LdrAddRefDll,
      LdrLockLoaderLock, LdrUnlockLoaderLock, NtGetNextThread (Vista), NtYieldExecution, RtlAdjustPrivilege, RtlImageNtHeader and
      RtlQueryEnvironmentVariable_U have no page. No header has a level for either kind; that every version since Windows 7
      exports them is common knowledge, and not shown by anything on this machine.
"""
import argparse
import os
import re
import subprocess
import sys

LEVELS = {  # by _WIN32_WINNT, hexadecimal: Windows XP, Vista, 7. The first also holds what is older.
    "0501": """
        CloseHandle ContinueDebugEvent CreateFileMappingW CreateFileW CreateProcessW DebugBreak
        DebugSetProcessKillOnExit DeleteCriticalSection DeleteFileW EnterCriticalSection FindClose
        FindFirstFileW FindNextFileW FlushFileBuffers FlushInstructionCache FormatMessageW FreeEnvironmentStringsW FreeLibrary
        GetCommandLineW GetCurrentProcess GetCurrentProcessId GetCurrentThread GetCurrentThreadId GetEnvironmentVariableA
        GetEnvironmentStringsW GetEnvironmentVariableW GetExitCodeProcess GetFileAttributesW GetFileInformationByHandle GetFileSizeEx
        GetFileTime GetFullPathNameA GetFullPathNameW GetLastError GetModuleFileNameW GetModuleHandleA
        GetModuleHandleExW GetModuleHandleW GetNumaHighestNodeNumber GetProcAddress GetProcessHeap
        GetProcessHeaps GetProcessTimes GetStartupInfoA GetStdHandle GetSystemDirectoryW GetSystemInfo
        GetSystemTimeAsFileTime GetSystemWow64DirectoryW GetTempFileNameW GetTempPathW GetThreadContext
        GetThreadId GlobalMemoryStatusEx HeapAlloc HeapFree HeapReAlloc HeapSize HeapValidate
        InitializeCriticalSection IsDBCSLeadByteEx IsDebuggerPresent LeaveCriticalSection LoadLibraryA
        LoadLibraryExW MapViewOfFile MoveFileExW MultiByteToWideChar OpenProcess OpenThread OutputDebugStringA
        QueryPerformanceCounter QueryPerformanceFrequency RaiseException ReadFile ReadProcessMemory ReplaceFileW ResumeThread
        SetConsoleCtrlHandler SetConsoleOutputCP SetEnvironmentVariableW SetFileAttributesW SetFilePointer
        SetFileTime SetLastError SetUnhandledExceptionFilter Sleep SuspendThread SwitchToThread
        TerminateProcess TlsAlloc TlsFree TlsGetValue TlsSetValue UnmapViewOfFile VirtualAlloc VirtualAllocEx
        VirtualFree VirtualProtect VirtualProtectEx VirtualQuery VirtualQueryEx VirtualUnlock WaitForDebugEvent
        WaitForSingleObject WideCharToMultiByte WriteFile WriteProcessMemory __C_specific_handler lstrcmpiW
        lstrlenW
    """,
    "0600": """
        AcquireSRWLockExclusive GetTickCount64 ReleaseSRWLockExclusive SetFileInformationByHandle
        VirtualAllocExNuma
    """,
    "0601": """
        GetCurrentProcessorNumberEx GetNumaProcessorNodeEx K32GetProcessMemoryInfo
    """,
}
KERNEL32 = " ".join(LEVELS.values())
NTDLL = """
    LdrAddRefDll LdrLockLoaderLock LdrRegisterDllNotification LdrUnlockLoaderLock
    LdrUnregisterDllNotification NtGetNextThread NtQueryInformationProcess NtQueryInformationThread NtYieldExecution
    RtlAdjustPrivilege RtlDllShutdownInProgress RtlGetCurrentPeb RtlImageNtHeader RtlQueryEnvironmentVariable_U memcpy
    memmove memset
"""
DLL_ALLOWED = {"kernel32.dll": KERNEL32, "ntdll.dll": NTDLL}
TOOL_ALLOWED = DLL_ALLOWED | {
    "advapi32.dll": "RegCloseKey RegEnumValueW RegGetValueW RegOpenKeyExW",
    "shell32.dll": "CommandLineToArgvW",
    "msvcrt.dll": """
        ___lc_codepage_func ___mb_cur_max_func __getmainargs __initenv __iob_func __mb_cur_max __p__acmdln
        __p__commode __p__fmode __set_app_type __setusermatherr _acmdln _amsg_exit _cexit _commode _errno
        _fileno _fmode _initterm _iob _isatty _lock _onexit _setmode _snwprintf _unlock abort atoi calloc exit
        ferror fflush fprintf fputc fputs free fwrite getenv localeconv malloc memcmp memcpy memset putchar
        puts setlocale signal strchr strcmp strcpy strcspn strerror strlen strncmp strpbrk strrchr strspn
        strstr strtoul vfprintf wcslen wcspbrk
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


def undeclared(names, level, cc, headers):
    """Those of the names that the headers do not declare for this version of Windows."""
    source = "#include <windows.h>\n#include <psapi.h>\n#include <shellapi.h>\n" + \
        f"void *const all[] = {{{', '.join(f'(void *){n}' for n in names)}}};\n"
    run = subprocess.run([cc, "--target=x86_64-w64-windows-gnu", "-isystem", headers, f"-D_WIN32_WINNT=0x{level}", "-w",
                          "-ferror-limit=0", "-fsyntax-only", "-xc", "-"], input=source, capture_output=True, text=True)
    missing = set(re.findall(r"undeclared[^']*'(\w+)'", run.stderr))
    if run.returncode != 0 and not missing:
        missing = {f"nothing was compiled: {run.stderr[:200]}"}
    return missing


def check_headers(cc, headers):
    """Faults of the list, by the headers."""
    faults, known = [], set((TOOL_ALLOWED["advapi32.dll"] + " " + TOOL_ALLOWED["shell32.dll"]).split())
    before_level = ""
    for level, names in LEVELS.items():
        new = set(names.split())
        if before_level:
            early = new - undeclared(new, before_level, cc, headers)
            faults += [f"{n}: declared for Windows 0x{before_level} already, listed for 0x{level}" for n in sorted(early)]
        known |= new
        faults += [f"{n}: not declared for Windows 0x{level}" for n in sorted(undeclared(known, level, cc, headers))]
        before_level = level
    return faults


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--readobj", default="llvm-readobj-19")
    parser.add_argument("--cc", default="clang-19")
    parser.add_argument("--headers", default="/usr/share/mingw-w64/include")
    parser.add_argument("--tool", default=None)
    parser.add_argument("dlls", nargs="+")
    args = parser.parse_args()
    broken = check_headers(args.cc, args.headers) if os.path.isdir(args.headers) else []
    rows = [(dll, DLL_ALLOWED) for dll in args.dlls] + ([(args.tool, TOOL_ALLOWED)] if args.tool else [])
    for dll, allowed in rows:
        found = list(imports(dll, args.readobj))
        if not found:
            broken.append(f"{dll}: no imports were read")
        for library, name in found:
            if name not in allowed.get(library, "").split():
                broken.append(f"{dll}: {library} {name or 'by ordinal'} is not known to be on Windows 8.1")
    print("\n".join(broken) or f"{len(rows)} files import only what Windows 8.1 has")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
