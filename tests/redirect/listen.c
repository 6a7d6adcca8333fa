// A debugger that only listens: starts the program named on its command line and prints what it
// says through OutputDebugString, each text behind "debug: ". Its exit code is the program's.
//
//   listen prog.exe arguments...
#include "wtest.h"

static void print_text(HANDLE process, const OUTPUT_DEBUG_STRING_INFO *info) {
    static char text[4096];
    SIZE_T got = 0;
    SIZE_T bytes = info->nDebugStringLength;
    if (bytes >= sizeof(text))
        bytes = sizeof(text) - 1;
    if (info->fUnicode || !ReadProcessMemory(process, info->lpDebugStringData, text, bytes, &got))
        return;
    text[got] = 0;
    say("debug: %s", text);
}

// What to answer to an exception: the breakpoint of every start is ours, all others are the
// program's.
static DWORD answer_to(const DEBUG_EVENT *e, bool *is_started) {
    if (e->dwDebugEventCode != EXCEPTION_DEBUG_EVENT)
        return DBG_CONTINUE;
    const DWORD code = e->u.Exception.ExceptionRecord.ExceptionCode;
    if (!*is_started && code == (DWORD)EXCEPTION_BREAKPOINT) {
        *is_started = true;
        return DBG_CONTINUE;
    }
    return (DWORD)DBG_EXCEPTION_NOT_HANDLED;
}

static DWORD hear(HANDLE process) {
    bool is_started = false;
    for (;;) {
        DEBUG_EVENT e;
        if (!WaitForDebugEvent(&e, INFINITE))
            return 1;
        if (e.dwDebugEventCode == OUTPUT_DEBUG_STRING_EVENT)
            print_text(process, &e.u.DebugString);
        if (e.dwDebugEventCode == CREATE_PROCESS_DEBUG_EVENT && e.u.CreateProcessInfo.hFile != NULL)
            CloseHandle(e.u.CreateProcessInfo.hFile);
        if (e.dwDebugEventCode == LOAD_DLL_DEBUG_EVENT && e.u.LoadDll.hFile != NULL)
            CloseHandle(e.u.LoadDll.hFile);
        const bool is_over = (e.dwDebugEventCode == EXIT_PROCESS_DEBUG_EVENT);
        const DWORD code = (is_over ? e.u.ExitProcess.dwExitCode : 0);
        ContinueDebugEvent(e.dwProcessId, e.dwThreadId, answer_to(&e, &is_started));
        if (is_over)
            return code;
    }
}

void mainCRTStartup(void) {
    STARTUPINFOA start = {.cb = sizeof(start)};
    PROCESS_INFORMATION child;
    static char line[4096];
    const char *rest = GetCommandLineA();
    const char stop = (*rest == '"' ? '"' : ' ');
    rest += (stop == '"');
    while (*rest != 0 && *rest != stop)
        rest++;
    rest += (*rest == '"');
    while (*rest == ' ')
        rest++;
    lstrcpynA(line, rest, (int)sizeof(line));
    if (!CreateProcessA(NULL, line, NULL, NULL, TRUE, DEBUG_ONLY_THIS_PROCESS, NULL, NULL, &start,
                        &child)) {
        say("listen: cannot start %s: error %lu\n", line, GetLastError());
        ExitProcess(99);
    }
    ExitProcess(hear(child.hProcess));
}
