// The part of probe that asks about the heap guard: the words guard, guard-zeroes and guard-off.
// The system's own blocks are asked for, too: the guard may not change what becomes of them.
#include "probe.h"

// What the status says of the calls that the guard answered.
static unsigned long guarded_calls(void) {
    static char text[1 << 20];
    static const char key[] = "\"guarded_calls\":";
    const uintptr_t get = proc(redirect_module(), "mi_redirect_status");
    unsigned long n = 0;
    (void)((size_t(*)(char *, size_t, int))get)(text, sizeof(text), 1);
    const char *p = text;
    while (*p != 0 && !mi_str_starts(p, key))
        p++;
    for (p += (*p == 0 ? 0 : sizeof(key) - 1); *p >= '0' && *p <= '9'; p++)
        n = n * 10 + (unsigned long)(*p - '0');
    return n;
}

// Each call with a block of ours counts, and none of the proof or of the system's own blocks.
static void check_counts(const char *crt) {
    const HANDLE heap = GetProcessHeap();
    CHECK(guarded_calls() == 0);
    void *p = make(crt, 100);
    CHECK(HeapValidate(heap, 0, p) && guarded_calls() == 1);
    CHECK(HeapSize(heap, 0, p) == 100 && guarded_calls() == 2);
    p = HeapReAlloc(heap, 0, p, 300);
    CHECK(p != NULL && guarded_calls() == 3);
    CHECK(HeapFree(heap, 0, p) && guarded_calls() == 4);
    p = HeapAlloc(heap, 0, 100);
    CHECK(HeapValidate(heap, 0, p) && HeapSize(heap, 0, p) == 100);
    p = HeapReAlloc(heap, 0, p, 300);
    CHECK(HeapFree(heap, 0, p) && guarded_calls() == 4);
}

static unsigned no_memory_raised;

static LONG CALLBACK count_no_memory(EXCEPTION_POINTERS *info) {
    if (info->ExceptionRecord->ExceptionCode != STATUS_NO_MEMORY)
        return EXCEPTION_CONTINUE_SEARCH;
    no_memory_raised++;
    return EXCEPTION_CONTINUE_EXECUTION;
}

// The same functions as other modules know them, and those that end in them.
static void check_doors(const char *crt) {
    static const char *const doors[][3] = {{"kernel32.dll", "HeapFree", "HeapSize"},
                                           {"kernelbase.dll", "HeapFree", "HeapSize"},
                                           {"ntdll.dll", "RtlFreeHeap", "RtlSizeHeap"}};
    const HANDLE heap = GetProcessHeap(), other = HeapCreate(0, 0, 0);
    for (size_t i = 0; i < sizeof(doors) / sizeof(doors[0]); i++) {
        const HMODULE m = GetModuleHandleA(doors[i][0]);
        // Whatever heap the caller takes the block for.
        for (unsigned k = 0; k < 2; k++) {
            void *p = make(crt, 100 + i);
            CHECK_AT(((SIZE_T(WINAPI *)(HANDLE, DWORD, const void *))proc(m, doors[i][2]))(
                         k == 0 ? heap : other, 0, p) == 100 + i,
                     doors[i][0]);
            CHECK_AT(((BOOL(WINAPI *)(HANDLE, DWORD, void *))proc(m, doors[i][1]))(
                         k == 0 ? heap : other, 0, p) != 0,
                     doors[i][0]);
        }
    }
    for (size_t size = 1; size < 4000; size = size * 2 + 1) {
        // Windows takes other addresses for its movable handles.
        CHECK(((uintptr_t)make(crt, size) & (2 * sizeof(void *) - 1)) == 0);
        CHECK(LocalSize(make(crt, size)) == size && GlobalSize(make(crt, size)) == size);
        CHECK(GlobalFree(make(crt, size)) == NULL);
        uint8_t *p = (uint8_t *)make(crt, size);
        pattern_fill(p, size);
        p = (uint8_t *)LocalReAlloc(p, size + 5000, LMEM_MOVEABLE | LMEM_ZEROINIT);
        CHECK(p != NULL && pattern_is(p, size, size) && p[size + 4999] == 0);
        CHECK(LocalFree(p) == NULL);
    }
    void *p = make(crt, 64);
    CHECK(HeapReAlloc(heap, 0, p, SIZE_MAX / 2) == NULL && HeapSize(heap, 0, p) == 64);
    void *const handler = AddVectoredExceptionHandler(1, count_no_memory);
    const ULONG flags = HEAP_GENERATE_EXCEPTIONS;
    CHECK(HeapReAlloc(heap, flags, p, SIZE_MAX / 2) == NULL && no_memory_raised == 1);
    CHECK(HeapReAlloc(heap, flags | HEAP_REALLOC_IN_PLACE_ONLY, p, 64 * 1024 * 1024) == NULL);
    CHECK(no_memory_raised == 2 && HeapSize(heap, 0, p) == 64);
    p = HeapReAlloc(heap, flags, p, 100);
    CHECK(p != NULL && no_memory_raised == 2 && HeapFree(heap, flags, p));
    RemoveVectoredExceptionHandler(handler);
    p = make(crt, 64);
    p = HeapReAlloc(heap, 0, p, 0); // unlike realloc, it frees nothing
    CHECK(p != NULL && is_ours(p) && HeapFree(heap, 0, p));
    HeapDestroy(other);
}

// Smaller, and larger again: what was given up comes back as zeros.
void probe_guard_zeroes(const char *crt) {
    const HANDLE heap = GetProcessHeap();
    for (size_t size = 1; size < 4000; size = size * 2 + 1) {
        uint8_t *p = (uint8_t *)make(crt, 2 * size);
        CHECK(is_ours(p));
        memset(p, 0x5A, 2 * size);
        p = (uint8_t *)HeapReAlloc(heap, HEAP_ZERO_MEMORY, p, size);
        p = (uint8_t *)HeapReAlloc(heap, HEAP_ZERO_MEMORY, p, size + 1);
        p = (uint8_t *)HeapReAlloc(heap, HEAP_ZERO_MEMORY, p, size + 100);
        CHECK(p != NULL && is_ours(p) && p[0] == 0x5A && p[size - 1] == 0x5A);
        for (size_t i = size; p != NULL && i < size + 100; i++)
            CHECK(p[i] == 0);
        CHECK(HeapFree(heap, 0, p));
    }
}

void probe_guard(const char *crt) {
    const HANDLE heap = GetProcessHeap();
    check_counts(crt);
    uint8_t *p = (uint8_t *)make(crt, 100);
    CHECK(is_ours(p));
    for (unsigned i = 0; i < 100; i++)
        p[i] = (uint8_t)i;
    CHECK(HeapValidate(heap, 0, p));
    CHECK(HeapSize(heap, 0, p) >= 100 && HeapSize(heap, 0, p) < 4096);
    const size_t before = HeapSize(heap, 0, p);
    memset(p + 100, 0xA5, before - 100);
    for (unsigned more = 1; more < 100; more += 7) {
        const size_t size = HeapSize(heap, 0, p);
        p = (uint8_t *)HeapReAlloc(heap, HEAP_ZERO_MEMORY, p, size + more);
        CHECK(p != NULL && is_ours(p));
        for (unsigned i = 0; i < more; i++)
            CHECK(p[size + i] == 0);
        memset(p + size, 0xA5, more);
    }
    p = (uint8_t *)HeapReAlloc(heap, HEAP_ZERO_MEMORY, p, 50000);
    CHECK(p != NULL && is_ours(p));
    for (unsigned i = 0; i < 100; i++)
        CHECK(p[i] == i);
    CHECK(p[49999] == 0);
    CHECK(HeapReAlloc(heap, HEAP_REALLOC_IN_PLACE_ONLY, p, 60) == p);
    CHECK(HeapFree(heap, 0, p)); // the shell32 pattern
    CHECK(LocalFree(make(crt, 77)) == NULL);
    check_doors(crt);
    probe_guard_zeroes(crt);
    // The system's own blocks go on as ever.
    p = (uint8_t *)HeapAlloc(heap, HEAP_ZERO_MEMORY, 300);
    CHECK(!is_ours(p) && HeapSize(heap, 0, p) == 300);
    p = (uint8_t *)HeapReAlloc(heap, 0, p, 3000);
    CHECK(p != NULL && HeapValidate(heap, 0, p) && HeapFree(heap, 0, p));
    CHECK(LocalFree(LocalAlloc(LMEM_FIXED, 10)) == NULL);
    // What a heap operation of the system costs now.
    LARGE_INTEGER start;
    QueryPerformanceCounter(&start);
    for (unsigned i = 0; i < 200000; i++)
        HeapFree(heap, 0, HeapAlloc(heap, 0, 64));
    say("HeapAlloc and HeapFree: %ld ns\n", elapsed_ps(start, 200000) / 1000);
}

// Without the guard the system's functions are as they were: on Wine they refuse such a block and
// leave it alone, Windows ends the program.
void probe_guard_off(const char *crt) {
    const HANDLE heap = GetProcessHeap();
    uint8_t *p = (uint8_t *)make(crt, 100);
    CHECK(is_ours(p));
    pattern_fill(p, 100);
    CHECK(!HeapValidate(heap, 0, p) && HeapSize(heap, 0, p) == (SIZE_T)-1);
    CHECK(!HeapFree(heap, 0, p) && HeapReAlloc(heap, 0, p, 200) == NULL);
    CHECK(LocalFree(p) == p);
    CHECK(pattern_is(p, 100, 100) && is_ours(p));
    drop(crt, p);
    // Calls of the CRT itself need no guard.
    p = (uint8_t *)make(crt, 100);
    CHECK(is_ours(p));
    drop(crt, p);
}
