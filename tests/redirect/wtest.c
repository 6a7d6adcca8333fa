#include "wtest.h"

LONG wtest_passed, wtest_failed;
LONG wtest_unsaid;

static void wtest_write(const char *text, size_t bytes) {
    DWORD written = 0;
    if (!WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), text, (DWORD)bytes, &written, NULL) ||
        written != bytes)
        InterlockedIncrement(&wtest_unsaid);
}

void say(const char *fmt, ...) {
    char line[1024];
    mi_text_t t;
    va_list args;
    mi_text_init(&t, line, sizeof(line));
    va_start(args, fmt);
    mi_text_vfmt(&t, fmt, args);
    va_end(args);
    wtest_write(line, t.len);
}

void say_text(const char *text) {
    wtest_write(text, mi_str_len(text));
    say("\n");
}

void check(bool is_true, int line, const char *fact, const char *detail) {
    if (is_true) {
        InterlockedIncrement(&wtest_passed);
        return;
    }
    if (InterlockedIncrement(&wtest_failed) <= 40)
        say("line %d: failed: %s (%s)\n", line, fact, detail);
}

unsigned wtest_code(bool needs_checks) {
    say("%ld checks passed, %ld failed\n", wtest_passed, wtest_failed);
    if (wtest_unsaid != 0)
        return WTEST_UNSAID;
    return wtest_failed == 0 && (wtest_passed > 0 || !needs_checks) ? 0 : 1;
}

void finish(void) {
    ExitProcess(wtest_code(true));
}

const char *argument(unsigned n) {
    static char copy[4096];
    static const char *words[64];
    static unsigned count;
    if (count == 0) {
        const char *p = GetCommandLineA();
        char *out = copy;
        while (*p != 0 && count < 64) {
            while (*p == ' ')
                p++;
            if (*p == 0)
                break;
            const char stop = (*p == '"' ? '"' : ' ');
            p += (stop == '"');
            words[count++] = out;
            while (*p != 0 && *p != stop)
                *out++ = *p++;
            *out++ = 0;
            p += (*p == '"');
        }
    }
    return n < count ? words[n] : "";
}

bool json_has(HMODULE redirect, const char *wanted) {
    static char text[65536];
    const uintptr_t get = proc(redirect, "mi_redirect_status");
    (void)((size_t(*)(char *, size_t, int))get)(text, sizeof(text), 1);
    for (const char *p = text; *p != 0; p++)
        if (mi_str_starts(p, wanted))
            return true;
    say_text(text);
    return false;
}

unsigned imports_lead(HMODULE module, uintptr_t from, uintptr_t to) {
    uint8_t *base = (uint8_t *)module;
    const IMAGE_NT_HEADERS *nt =
        (const IMAGE_NT_HEADERS
             *)(const void *)(base + ((const IMAGE_DOS_HEADER *)(const void *)base)->e_lfanew);
    const IMAGE_DATA_DIRECTORY iat = nt->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_IAT];
    uintptr_t *cells = (uintptr_t *)(void *)(base + iat.VirtualAddress);
    // By its address: the import of this program's own may be among the cells.
    BOOL(WINAPI *const protect)
    (void *, SIZE_T, DWORD, DWORD *) = (BOOL(WINAPI *)(void *, SIZE_T, DWORD, DWORD *))proc(
        GetModuleHandleA("kernel32.dll"), "VirtualProtect");
    unsigned count = 0;
    DWORD before;
    CHECK(protect(cells, iat.Size, PAGE_READWRITE, &before));
    for (size_t i = 0; i < iat.Size / sizeof(uintptr_t); i++) {
        if (cells[i] != from)
            continue;
        cells[i] = to;
        count++;
    }
    CHECK(protect(cells, iat.Size, before, &before));
    return count;
}
