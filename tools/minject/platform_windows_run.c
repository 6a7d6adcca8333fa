// run on Windows: the program is created suspended, before its loader has looked at the import
// table; a new table with our DLLs in front is written into its memory, its header points there,
// and it is let go.
//
//   image base ... image end ... [block: descriptors, thunks, names]   at most 2 GiB behind the
//   base
#include "minject/platform_windows.h"
#include "pe/pe_edit.h"

#include <winternl.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct target_s {
    HANDLE process;
    uint64_t base;  // of the program's image
    uint8_t *bytes; // copy of the mapped image
    size_t size;
    mi_pe_t pe;
} target_t;

static bool failed(const char *what) {
    char text[128];
    snprintf(text, sizeof text, "%s (error %lu)", what, GetLastError());
    win_note_text(text);
    return false;
}

static bool read_remote(const target_t *t, uint64_t at, void *out, size_t bytes) {
    SIZE_T n = 0;
    return ReadProcessMemory(t->process, (void *)(uintptr_t)at, out, bytes, &n) && n == bytes;
}

// The image base that an environment block with pointers of this size names, if there is an image.
static bool try_block(target_t *t, uint64_t peb, size_t cell) {
    uint8_t base[8] = {0};
    uint8_t magic[2] = {0};
    if (!read_remote(t, peb + 2 * cell, base, cell))
        return false;
    t->base = mi_pe_u64(base);
    return t->base != 0 && read_remote(t, t->base, magic, sizeof magic) && magic[0] == 'M' &&
           magic[1] == 'Z';
}

// ImageBaseAddress stands in the process environment block, behind two pointers. A 32-bit process
// on 64-bit Windows has two blocks; the query gives the address of the 32-bit one (Wine 8 only a
// 1). Both say the same, so whichever leads to an image is right.
static bool find_base(target_t *t) {
    PROCESS_BASIC_INFORMATION info;
    ULONG_PTR wow_peb = 0;
    if (NtQueryInformationProcess(t->process, ProcessBasicInformation, &info, sizeof info, NULL) !=
        0)
        return failed("its environment block is not known");
    uint64_t peb = (uintptr_t)info.PebBaseAddress;
    if (NtQueryInformationProcess(t->process, ProcessWow64Information, &wow_peb, sizeof wow_peb,
                                  NULL) != 0)
        wow_peb = 0;
    return (wow_peb > 0xFFFF && try_block(t, wow_peb, 4)) || try_block(t, peb, sizeof(void *)) ||
           try_block(t, peb, 4) || failed("its environment block cannot be read");
}

// Pages that cannot be read (guarded sections of packed programs) stay zero.
static bool copy_image(target_t *t) {
    uint8_t page[4096];
    if (!read_remote(t, t->base, page, sizeof page))
        return failed("its image cannot be read");
    uint32_t nt = mi_pe_u32(page + 0x3C);
    if (nt > sizeof page - 256 || mi_pe_u32(page + nt) != 0x4550)
        return failed("its image has no header");
    t->size = mi_pe_u32(page + nt + 24 + 56);
    t->bytes = (uint8_t *)calloc(1, t->size);
    if (t->bytes == NULL)
        return failed("no memory");
    for (size_t at = 0; at < t->size; at += sizeof page) {
        size_t n = t->size - at < sizeof page ? t->size - at : sizeof page;
        read_remote(t, t->base + at, t->bytes + at, n);
    }
    return mi_pe_open(&t->pe, t->bytes, t->size, true) || failed("its image is malformed");
}

// Free memory behind the image, within reach of an RVA. NULL = none.
static uint8_t *allocate_near(const target_t *t, size_t bytes) {
    MEMORY_BASIC_INFORMATION info;
    uint64_t at = t->base + t->size;
    const uint64_t last = t->base + 0x7FFF0000u;
    while (at < last &&
           VirtualQueryEx(t->process, (void *)(uintptr_t)at, &info, sizeof info) != 0) {
        uint64_t begin = ((uintptr_t)info.BaseAddress + 0xFFFF) & ~(uint64_t)0xFFFF;
        uint64_t end = (uintptr_t)info.BaseAddress + info.RegionSize;
        if (info.State == MEM_FREE && begin + bytes <= end && begin + bytes <= last) {
            void *p = VirtualAllocEx(t->process, (void *)(uintptr_t)begin, bytes,
                                     MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
            if (p != NULL)
                return (uint8_t *)p;
        }
        at = end;
    }
    return NULL;
}

static bool write_header(const target_t *t, uint32_t at, const void *value, size_t bytes) {
    void *to = (void *)(uintptr_t)(t->base + at);
    DWORD old;
    SIZE_T n = 0;
    if (!VirtualProtectEx(t->process, to, bytes, PAGE_READWRITE, &old))
        return failed("its header cannot be made writable");
    bool ok = WriteProcessMemory(t->process, to, value, bytes, &n) && n == bytes;
    VirtualProtectEx(t->process, to, bytes, old, &old);
    return ok || failed("its header cannot be written");
}

// Without an IAT directory the loader unprotects the section that holds the descriptors, which now
// lie in none: then the directory is made to name the section of the old address tables.
static bool write_directories(const target_t *t, const mi_pe_range_t *imports) {
    const mi_pe_t *pe = &t->pe;
    const uint32_t none[2] = {0, 0};
    const uint32_t table[2] = {imports->rva, imports->bytes};
    mi_pe_range_t range;
    mi_pe_import_t imp;
    mi_pe_section_t section;
    if (!mi_pe_directory(pe, MI_PE_DIR_IAT, &range) && pe->dir_count > MI_PE_DIR_IAT &&
        mi_pe_import_at(pe, 0, &imp) && mi_pe_section_of(pe, imp.iat_rva, &section)) {
        const uint32_t iat[2] = {section.rva, section.virtual_bytes};
        if (!write_header(t, pe->dirs_offset + MI_PE_DIR_IAT * 8, iat, sizeof iat))
            return false;
    }
    if (mi_pe_directory(pe, MI_PE_DIR_BOUND_IMPORT, &range) &&
        !write_header(t, pe->dirs_offset + MI_PE_DIR_BOUND_IMPORT * 8, none, sizeof none))
        return false;
    return write_header(t, pe->dirs_offset + MI_PE_DIR_IMPORT * 8, table, sizeof table);
}

static const plat_pair_t *pair_for(const plat_run_t *run, uint16_t machine) {
    for (size_t i = 0; i < run->pair_count; i++) {
        if (run->pairs[i].machine == machine)
            return &run->pairs[i];
    }
    return NULL;
}

static bool edit_imports(target_t *t, const plat_run_t *run) {
    static mi_pe_inject_t plan;
    const plat_pair_t *pair = pair_for(run, t->pe.machine);
    if (pair == NULL) {
        char text[128];
        snprintf(text, sizeof text, "there are no DLLs for %s at hand; --dll-folder names more",
                 mi_pe_machine_name(t->pe.machine));
        win_note_text(text);
        return false;
    }
    const mi_pe_inject_options_t options = {pair->redirect_dll, pair->allocator_dll,
                                            run->postfix != NULL, true, true};
    mi_pe_edit_t edit = mi_pe_memory_plan(&plan, &t->pe, &options);
    if (edit == MI_PE_EDIT_NOTHING)
        return true;
    if (edit != MI_PE_EDIT_OK) {
        win_note_text("its import table cannot be extended (a .NET, ARM64EC or malformed program)");
        return false;
    }
    uint8_t *remote = allocate_near(t, plan.block_bytes);
    uint8_t *block = (uint8_t *)malloc(plan.block_bytes);
    mi_pe_range_t imports;
    SIZE_T n = 0;
    bool ok = remote != NULL && block != NULL;
    if (ok) {
        mi_pe_memory_write(&plan, (uint32_t)((uintptr_t)remote - t->base), block, &imports);
        ok = WriteProcessMemory(t->process, remote, block, plan.block_bytes, &n) &&
             n == plan.block_bytes && write_directories(t, &imports);
    } else {
        failed("there is no free memory near its image");
    }
    free(block);
    return ok;
}

// ---- the command line ----

// One argument, quoted as the C runtime's and CommandLineToArgvW's rules say.
static size_t quote(const wchar_t *arg, wchar_t *out) {
    size_t n = 0;
    bool quotes = arg[0] == 0 || wcspbrk(arg, L" \t\n\v\"") != NULL;
    if (quotes)
        out[n++] = L'"';
    for (size_t i = 0;; i++) {
        size_t slashes = 0;
        for (; arg[i] == L'\\'; i++)
            slashes++;
        // Backslashes count double before a quote, ours at the end included.
        size_t twice = arg[i] == L'"' || (arg[i] == 0 && quotes) ? slashes * 2 : slashes;
        for (size_t k = 0; k < twice; k++)
            out[n++] = L'\\';
        if (arg[i] == 0)
            break;
        if (arg[i] == L'"')
            out[n++] = L'\\';
        out[n++] = arg[i];
    }
    if (quotes)
        out[n++] = L'"';
    return n;
}

static wchar_t *command_line(char **args) {
    static wchar_t wide[PATH_UNITS];
    size_t units = 1;
    for (size_t i = 0; args[i] != NULL; i++)
        units += 2 * strlen(args[i]) + 3;
    wchar_t *line = (wchar_t *)calloc(units, sizeof *line);
    size_t n = 0;
    for (size_t i = 0; line != NULL && args[i] != NULL; i++) {
        if (!win_wide_of(args[i], wide)) {
            free(line);
            return NULL;
        }
        if (i != 0)
            line[n++] = L' ';
        n += quote(wide, line + n);
    }
    return line;
}

// Ctrl-C goes to every process of the console; the program decides what it means, and we wait for
// it.
static BOOL WINAPI leave_to_program(DWORD event) {
    (void)event;
    return TRUE;
}

// Lets the program begin, if it has not yet, and waits for its end.
static void wait_for(const PROCESS_INFORMATION *info, int *exit_code) {
    DWORD code = 0;
    SetConsoleCtrlHandler(leave_to_program, TRUE);
    ResumeThread(info->hThread);
    WaitForSingleObject(info->hProcess, INFINITE);
    GetExitCodeProcess(info->hProcess, &code);
    *exit_code = (int)code;
}

static bool edit_and_wait(const PROCESS_INFORMATION *info, const plat_run_t *run, int *exit_code) {
    target_t t = {.process = info->hProcess};
    bool ok = find_base(&t) && copy_image(&t) && edit_imports(&t, run);
    free(t.bytes);
    if (!ok) {
        TerminateProcess(info->hProcess, 1);
        return false;
    }
    wait_for(info, exit_code);
    return true;
}

// Creates the process with our standard streams. false = plat_last_error() says why.
static bool create_process(char **args, HANDLE out, DWORD flags, PROCESS_INFORMATION *info) {
    static wchar_t program[PATH_UNITS];
    STARTUPINFOW startup = {.cb = sizeof startup};
    wchar_t *line = command_line(args);
    if (line == NULL || !win_wide_of(args[0], program)) {
        free(line);
        win_note_text("its arguments are not valid UTF-8 or too long");
        return false;
    }
    startup.dwFlags = STARTF_USESTDHANDLES;
    startup.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
    startup.hStdOutput = out;
    startup.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    bool created =
        CreateProcessW(program, line, NULL, NULL, TRUE, flags, NULL, NULL, &startup, info);
    if (!created)
        win_note_error(GetLastError());
    free(line);
    return created;
}

// ---- run --children: as a debugger, which hears of every new process before its loader has begun
// ----

// A process that just began. What cannot be redirected runs as it is.
static void edit_child(const CREATE_PROCESS_DEBUG_INFO *event, const plat_run_t *run) {
    target_t t = {.process = event->hProcess, .base = (uintptr_t)event->lpBaseOfImage};
    bool ok = copy_image(&t) && edit_imports(&t, run);
    if (!ok && run->is_verbose)
        fprintf(stderr, "minject: a child process is not redirected: %s\n", plat_last_error());
    free(t.bytes);
    if (event->hFile != NULL)
        CloseHandle(event->hFile);
}

// A debugged process announces itself with one breakpoint, a 32-bit one on 64-bit Windows with one
// of each kind. Those are ours to pass over; every later exception is the program's own business.
#define ANNOUNCED_MAX  1024u
#define WOW_BREAKPOINT 0x4000001Fu

typedef struct announced_s {
    DWORD process[2][ANNOUNCED_MAX]; // by kind of breakpoint
    size_t count[2];
} announced_t;

static DWORD answer_exception(announced_t *seen, DWORD process, const EXCEPTION_DEBUG_INFO *event) {
    DWORD code = event->ExceptionRecord.ExceptionCode;
    if (code != EXCEPTION_BREAKPOINT && code != WOW_BREAKPOINT)
        return DBG_EXCEPTION_NOT_HANDLED;
    size_t kind = code == WOW_BREAKPOINT ? 1 : 0;
    for (size_t i = 0; i < seen->count[kind]; i++) {
        if (seen->process[kind][i] == process)
            return DBG_EXCEPTION_NOT_HANDLED;
    }
    if (seen->count[kind] < ANNOUNCED_MAX)
        seen->process[kind][seen->count[kind]++] = process;
    return DBG_CONTINUE;
}

// Until the program itself ends; children that are still there then run on without us.
static bool follow(const PROCESS_INFORMATION *info, const plat_run_t *run, int *exit_code) {
    static announced_t seen;
    DEBUG_EVENT event;
    DebugSetProcessKillOnExit(FALSE);
    SetConsoleCtrlHandler(leave_to_program, TRUE);
    for (;;) {
        if (!WaitForDebugEvent(&event, INFINITE))
            return failed("its events cannot be waited for");
        DWORD answer = DBG_CONTINUE;
        if (event.dwDebugEventCode == CREATE_PROCESS_DEBUG_EVENT)
            edit_child(&event.u.CreateProcessInfo, run);
        else if (event.dwDebugEventCode == LOAD_DLL_DEBUG_EVENT && event.u.LoadDll.hFile != NULL)
            CloseHandle(event.u.LoadDll.hFile);
        else if (event.dwDebugEventCode == EXCEPTION_DEBUG_EVENT)
            answer = answer_exception(&seen, event.dwProcessId, &event.u.Exception);
        bool is_end = event.dwDebugEventCode == EXIT_PROCESS_DEBUG_EVENT &&
                      event.dwProcessId == info->dwProcessId;
        if (is_end)
            *exit_code = (int)event.u.ExitProcess.dwExitCode;
        ContinueDebugEvent(event.dwProcessId, event.dwThreadId, answer);
        if (is_end)
            return true;
    }
}

// ---- 64-bit programs ----

// A 32-bit process cannot reach into a 64-bit one, so the 64-bit minject.exe does it: the one that
// lies with the 64-bit DLLs, as in the archives.
static bool find_64_bit_tool(const plat_run_t *run, char *out, size_t cap) {
    static char folder[PATH_UNITS];
    const char *dll = run->pairs[0].redirect_dll;
    const char *beside = plat_folder_length(dll) != 0 ? dll : run->args[0];
    plat_file_t file;
    mi_pe_t pe;
    snprintf(folder, sizeof folder, "%.*s", (int)plat_folder_length(beside), beside);
    if (!plat_find_in_folder(folder, "minject.exe", out, cap) || plat_map_file(out, &file) != 0)
        return false;
    bool fits = mi_pe_open(&pe, file.bytes, file.size, false) && pe.is_pe64;
    plat_free_file(&file);
    return fits;
}

static bool run_by_64_bit_tool(const plat_run_t *run, int *exit_code) {
    static char tool[PATH_UNITS];
    PROCESS_INFORMATION info;
    size_t count = 0;
    size_t n = 0;
    while (run->args[count] != NULL)
        count++;
    char **args = (char **)calloc(count + run->dll_folder_count + 7, sizeof *args);
    char *words = (char *)malloc((run->dll_folder_count + 1) * (PATH_UNITS + 32));
    bool ok = args != NULL && words != NULL && find_64_bit_tool(run, tool, sizeof tool);
    if (!ok)
        win_note_text("it is a 64-bit program and this is the 32-bit minject.exe; use the 64-bit "
                      "one, or put it where the 64-bit DLLs are");
    if (ok) {
        char *word = words;
        args[n++] = tool;
        args[n++] = (char *)(uintptr_t) "run";
        if (run->is_verbose)
            args[n++] = (char *)(uintptr_t) "--verbose";
        if (run->follows_children)
            args[n++] = (char *)(uintptr_t) "--children";
        for (size_t i = 0; i < run->dll_folder_count; i++, word += PATH_UNITS + 32) {
            snprintf(word, PATH_UNITS + 32, "--dll-folder=%s", run->dll_folders[i]);
            args[n++] = word;
        }
        if (run->postfix != NULL) {
            snprintf(word, PATH_UNITS + 32, "--postfix=%s", run->postfix);
            args[n++] = word;
        }
        args[n++] = (char *)(uintptr_t) "--";
        memcpy(args + n, run->args, count * sizeof *args);
        ok = create_process(args, GetStdHandle(STD_OUTPUT_HANDLE), 0, &info);
    }
    if (ok) {
        wait_for(&info, exit_code);
        CloseHandle(info.hThread);
        CloseHandle(info.hProcess);
    }
    free(words);
    free(args);
    return ok;
}

bool plat_run(const plat_run_t *run, int *exit_code) {
    PROCESS_INFORMATION info;
    if (sizeof(void *) == 4 && run->pairs[0].machine != MI_PE_MACHINE_X86)
        return run_by_64_bit_tool(run, exit_code);
    if (run->follows_children) {
        // A debugged process would get the system's slow debug heap.
        SetEnvironmentVariableW(L"_NO_DEBUG_HEAP", L"1");
        if (!create_process(run->args, GetStdHandle(STD_OUTPUT_HANDLE), DEBUG_PROCESS, &info))
            return false;
        bool followed = follow(&info, run, exit_code);
        CloseHandle(info.hThread);
        CloseHandle(info.hProcess);
        return followed;
    }
    if (!create_process(run->args, GetStdHandle(STD_OUTPUT_HANDLE), CREATE_SUSPENDED, &info))
        return false;
    bool ok = edit_and_wait(&info, run, exit_code);
    CloseHandle(info.hThread);
    CloseHandle(info.hProcess);
    return ok;
}

bool plat_run_logged(char **args, plat_file_t *log, int *exit_code) {
    wchar_t folder[MAX_PATH + 1];
    wchar_t path[MAX_PATH + 1];
    char utf8[4 * MAX_PATH];
    PROCESS_INFORMATION info;
    *log = (plat_file_t){NULL, 0, false};
    if (GetTempPathW(MAX_PATH, folder) == 0 || GetTempFileNameW(folder, L"mij", 0, path) == 0 ||
        WideCharToMultiByte(CP_UTF8, 0, path, -1, utf8, sizeof utf8, NULL, NULL) <= 0)
        return failed("no temporary file can be made");
    SetEnvironmentVariableW(L"MIMALLOC_LOG", path);
    bool ok = create_process(args, GetStdHandle(STD_ERROR_HANDLE), 0, &info);
    if (ok) {
        wait_for(&info, exit_code);
        CloseHandle(info.hThread);
        CloseHandle(info.hProcess);
        ok = plat_read_file(utf8, log) == PLAT_OK;
    }
    DeleteFileW(path);
    return ok;
}
