// Pointers that are nobody's block, given to every function that takes a block, of every CRT: none
// may fault, none may change the memory that it points at, each is counted, and each CRT reports
// once. And blocks of other heaps of the process: they go home.
//
//   foreign redirect.dll allocator.dll crt.dll ...
//
// The last line of output is the number of reports that the standard error must hold.
#include "wtest.h"

enum { WILD_MAX = 64, PAGE = 4096 };

typedef struct wild_s {
    const char *name;
    uint8_t *p;
} wild_t;

static wild_t wild[WILD_MAX];
static unsigned wild_count;
static HMODULE crt;
static const char *crt_name;
static const char *now_kind, *now_function;
static bool (*is_ours)(const void *);
static uint8_t statics[256];
static uint8_t *guard_page, *no_access, *reserved, *lone, *view;

static void add(const char *name, const void *p) {
    if (wild_count < WILD_MAX)
        wild[wild_count++] = (wild_t){name, (uint8_t *)(uintptr_t)p};
}

static uint8_t *pages(size_t count, DWORD type, DWORD rights) {
    return (uint8_t *)VirtualAlloc(NULL, count * PAGE, type, rights);
}

static DWORD rights_of(const uint8_t *p) {
    MEMORY_BASIC_INFORMATION info;
    return VirtualQuery(p, &info, sizeof(info)) == 0 ? 0 : info.Protect;
}

static uint8_t *map_own_file(void) {
    char path[MAX_PATH];
    GetModuleFileNameA(NULL, path, sizeof(path));
    const HANDLE file =
        CreateFileA(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
    const HANDLE map = CreateFileMappingA(file, NULL, PAGE_READONLY, 0, 0, NULL);
    return (uint8_t *)MapViewOfFile(map, FILE_MAP_READ, 0, 0, 0);
}

static void collect(uint8_t *stack) {
    guard_page = pages(3, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    DWORD before;
    VirtualProtect(guard_page + PAGE, PAGE, PAGE_READWRITE | PAGE_GUARD, &before);
    no_access = pages(3, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    VirtualProtect(no_access + PAGE, PAGE, PAGE_NOACCESS, &before);
    reserved = pages(16, MEM_RESERVE, PAGE_READWRITE);
    lone = pages(16, MEM_RESERVE, PAGE_READWRITE);
    VirtualAlloc(lone + PAGE, PAGE, MEM_COMMIT,
                 PAGE_READWRITE); // nothing before it, nothing after it
    view = map_own_file();
    uint8_t *gone = pages(16, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    VirtualFree(gone, 0, MEM_RELEASE);
    add("1", (void *)1);
    add("16", (void *)16);
    add("the last odd byte below 64 KiB", (void *)0xFFFF);
    add("the end of the first 64 KiB", (void *)0x10000);
    add("the last address", (void *)UINTPTR_MAX);
    add("the last block", (void *)(UINTPTR_MAX - 15));
    add("the upper half", (void *)(UINTPTR_MAX / 2 + 1));
    if (sizeof(void *) == 8) {
        add("not canonical", (void *)((uintptr_t)1 << (sizeof(void *) * 8 - 17)));
        add("beyond 47 bits",
            (void *)((((uintptr_t)1 << (sizeof(void *) * 8 - 17)) - 1) & ~(uintptr_t)15));
    }
    add("the stack", stack);
    add("the stack, odd", stack + 3);
    add("a static", statics + 128);
    add("code", (const void *)(uintptr_t)collect);
    add("this image", GetModuleHandleA(NULL));
    add("ntdll", GetModuleHandleA("ntdll.dll"));
    add("the TEB", NtCurrentTeb());
    add("a guard page", guard_page + PAGE);
    add("in a guard page", guard_page + PAGE + 64);
    add("behind a guard page", guard_page + 2 * PAGE);
    add("no access", no_access + PAGE + 64);
    add("behind no access", no_access + 2 * PAGE);
    add("before no access", no_access + PAGE - 16);
    add("reserved", reserved + 64);
    add("the first of lone pages", lone + PAGE);
    add("the end of lone pages", lone + 2 * PAGE - 16);
    add("the end of lone pages, odd", lone + 2 * PAGE - 1);
    add("behind lone pages", lone + 2 * PAGE);
    add("released pages", gone + 5 * PAGE + 48); // where no block begins, whoever gets the place
    add("a mapped file", view);
    add("in a mapped file", view + 64);
    add("in a heap block", (uint8_t *)HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, 4096) + 2048);
    add("in a large heap block",
        (uint8_t *)HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, 4 << 20) + 0x100000);
    add("a heap", GetProcessHeap());
}

// Values in the word below a block, where the aligned functions look for its start.
static void wrap(uint8_t *room) {
    static const char *const names[] = {
        "aligned, below it a guard page", "aligned, below it no access",
        "aligned, below it unmapped",     "aligned, below it a heap block",
        "aligned, below it itself",       "aligned, below it zero"};
    uint8_t *const starts[] = {guard_page + PAGE + 64,
                               no_access + PAGE + 64,
                               reserved + 64,
                               (uint8_t *)HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, 64) + 16,
                               NULL,
                               NULL};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint8_t *p = room + (i + 1) * 64;
        uint8_t *start = (i == 4 ? p : starts[i]);
        CopyMemory(p - sizeof(void *), &start, sizeof(void *));
        add(names[i], p);
    }
}

typedef BOOL(WINAPI *validate_t)(HANDLE heap, DWORD flags, const void *p);
static validate_t real_validate;

// Wine looks whether the address lies in the heap at all; Windows first looks at the header below
// the block, behind a handler: a guard page there would be swallowed.
static BOOL WINAPI validate_as_windows(HANDLE heap, DWORD flags, const void *p) {
    volatile uint8_t sink = ((const volatile uint8_t *)p)[-8];
    sink = ((const volatile uint8_t *)p)[-16];
    (void)sink;
    return real_validate(heap, flags, p);
}

static LONG WINAPI fault(EXCEPTION_POINTERS *e) {
    say("fault %lx at %p: %s of %s with %s\n", e->ExceptionRecord->ExceptionCode,
        e->ExceptionRecord->ExceptionAddress, now_function, crt_name, now_kind);
    TerminateProcess(GetCurrentProcess(), wtest_unsaid == 0 ? 1 : WTEST_UNSAID);
    return EXCEPTION_EXECUTE_HANDLER;
}

// The functions by the shape of their arguments; each may be absent.
typedef enum shape_e { DROPS, MEASURES, MEASURES3, SIZES2, SIZES3, SIZES4, SIZES5 } shape_t;
static const struct {
    const char *name;
    shape_t shape;
} functions[] = {
    {"free", DROPS},
    {"_free_base", DROPS},
    {"_o_free", DROPS},
    {"_aligned_free", DROPS},
    {"?\?3@YAXPEAX@Z", DROPS},
    {"?\?_V@YAXPEAX@Z", DROPS},
    {"?\?3@YAXPAX@Z", DROPS},
    {"?\?_V@YAXPAX@Z", DROPS},
    {"_msize", MEASURES},
    {"_o__msize", MEASURES},
    {"_aligned_msize", MEASURES3},
    {"realloc", SIZES2},
    {"_realloc_base", SIZES2},
    {"_o_realloc", SIZES2},
    {"_realloc_crt", SIZES2},
    {"_expand", SIZES2},
    {"_recalloc", SIZES3},
    {"_recalloc_crt", SIZES3},
    {"_aligned_realloc", SIZES3},
    {"_aligned_recalloc", SIZES4},
    {"_aligned_offset_realloc", SIZES4},
    {"_aligned_offset_recalloc", SIZES5},
};

static size_t call(uintptr_t f, shape_t shape, void *p, size_t size) {
    switch (shape) {
    case DROPS:
        SetLastError(1234);
        ((void (*)(void *))f)(p);
        CHECK_AT(GetLastError() == 1234, now_function); // as in each CRT
        return 0;
    case MEASURES:
        return ((size_t(*)(void *))f)(p) + 1; // (size_t)-1 is the answer
    case MEASURES3:
        return ((size_t(*)(void *, size_t, size_t))f)(p, 64, 0) + 1;
    case SIZES2:
        return ((size_t(*)(void *, size_t))f)(p, size);
    case SIZES3:
        return ((size_t(*)(void *, size_t, size_t))f)(p, size == 0 ? 0 : 2, 64);
    case SIZES4:
        return ((size_t(*)(void *, size_t, size_t, size_t))f)(p, size == 0 ? 0 : 128, 64, 0);
    default:
        return ((size_t(*)(void *, size_t, size_t, size_t, size_t))f)(p, size == 0 ? 0 : 2, 64, 64,
                                                                      0);
    }
}

static unsigned torment(void) {
    unsigned calls = 0;
    for (unsigned i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        // Below the heap of a debug CRT its base functions go on to serve that heap.
        const char *name = functions[i].name;
        const bool is_left = (proc(crt, "_CrtIsValidHeapPointer") != 0 &&
                              (mi_str_eq(name, "_free_base") || mi_str_eq(name, "_realloc_base")));
        const uintptr_t f = (is_left ? 0 : proc(crt, name));
        for (unsigned k = 0; k < wild_count && f != 0; k++) {
            now_function = name;
            now_kind = wild[k].name;
            CHECK_AT(call(f, functions[i].shape, wild[k].p, 100) == 0, now_function);
            CHECK_AT(call(f, functions[i].shape, wild[k].p, 0) == 0, now_function);
            CHECK_AT((rights_of(guard_page + PAGE) & PAGE_GUARD) != 0, now_function);
            calls += 2;
        }
    }
    return calls;
}

// What stands in the status text after the CRT's name and the words.
static unsigned long number_after(const char *text, const char *name, const char *words) {
    unsigned long n = 0;
    while (*text != 0 && !mi_str_starts(text, name))
        text++;
    while (*text != 0 && !mi_str_starts(text, words))
        text++;
    for (text += (*text == 0 ? 0 : mi_str_len(words)); *text >= '0' && *text <= '9'; text++)
        n = n * 10 + (unsigned long)(*text - '0');
    return n;
}

static unsigned long unknown_count(HMODULE redirect) {
    static char text[16384];
    ((size_t(*)(char *, size_t, int))proc(redirect, "mi_redirect_status"))(text, sizeof(text), 0);
    return number_after(text, crt_name, "unknown pointers: ");
}

// Blocks of other heaps: a private one, LocalAlloc's, a fixed one of GlobalAlloc. The CRT's own
// free, realloc and _msize bring them home; what became of them is asked from their heap.
static void go_home(void) {
    const HANDLE heap = HeapCreate(0, 0, 0);
    void (*const drop)(void *) = (void (*)(void *))proc(crt, "free");
    size_t (*const size)(void *) = (size_t(*)(void *))proc(crt, "_msize");
    uint8_t *(*const resize)(void *, size_t) = (uint8_t * (*)(void *, size_t)) proc(crt, "realloc");
    const size_t bytes[] = {1, 16, 100, 4096, 70000, 1 << 20, 8 << 20};
    for (unsigned i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
        uint8_t *p = (uint8_t *)HeapAlloc(heap, 0, bytes[i]);
        FillMemory(p, bytes[i], 0x5A);
        CHECK_AT(size(p) == bytes[i], crt_name);
        p = resize(p, bytes[i] + 1000);
        CHECK_AT(p != NULL && is_ours(p) && p[0] == 0x5A && p[bytes[i] - 1] == 0x5A, crt_name);
        drop(p);
        drop(HeapAlloc(heap, 0, bytes[i]));
        drop(LocalAlloc(LMEM_FIXED, bytes[i]));
        drop(GlobalAlloc(GMEM_FIXED, bytes[i]));
    }
    PROCESS_HEAP_ENTRY entry = {0};
    unsigned busy = 0;
    while (HeapWalk(heap, &entry))
        busy += ((entry.wFlags & PROCESS_HEAP_ENTRY_BUSY) != 0);
    CHECK_AT(busy == 0, crt_name);
    CHECK_AT(HeapValidate(heap, 0, NULL), crt_name);
    CHECK_AT(HeapDestroy(heap), crt_name);
}

// Aligned blocks that the CRTs made before: which of them are still there, their heap says.
enum { CRTS_MAX = 32, ALIGN = 64 };
static void *aligned[CRTS_MAX];

static void make_aligned(unsigned i, HMODULE m) {
    const uintptr_t make = proc(m, "_aligned_malloc");
    // A debug CRT keeps the start of the block elsewhere.
    if (i < CRTS_MAX && make != 0 && proc(m, "_CrtIsValidHeapPointer") == 0)
        aligned[i] = ((void *(*)(size_t, size_t))make)(100, ALIGN);
}

static void aligned_goes_home(void *p) {
    const uintptr_t heap_of = proc(crt, "_get_heap_handle");
    if (p == NULL || heap_of == 0)
        return;
    const HANDLE heap = (HANDLE)((intptr_t(*)(void))heap_of)();
    void *const start = ((void **)p)[-1];
    CHECK_AT(!is_ours(p) && HeapValidate(heap, 0, start), crt_name);
    ((void (*)(void *))proc(crt, "_aligned_free"))(p);
    CHECK_AT(!HeapValidate(heap, 0, start), crt_name);
}

void mainCRTStartup(void) {
    uint8_t stack[256];
    DWORD before;
    SetUnhandledExceptionFilter(fault);
    for (unsigned i = 3; *argument(i) != 0; i++) {
        const HMODULE m = LoadLibraryA(argument(i));
        CHECK_AT(m != NULL, argument(i));
        make_aligned(i, m);
    }
    const HMODULE redirect = LoadLibraryA(argument(1)), allocator = LoadLibraryA(argument(2));
    uintptr_t ask = proc(allocator, "standin_is_ours");
    ask = (ask != 0 ? ask : proc(allocator, "mi_is_in_heap_region"));
    is_ours = (bool (*)(const void *))ask;
    real_validate = (validate_t)proc(GetModuleHandleA("kernel32.dll"), "HeapValidate");
    CHECK(imports_lead(redirect, (uintptr_t)real_validate, (uintptr_t)validate_as_windows) == 1);
    FillMemory(statics, sizeof(statics), 0xA7);
    for (unsigned i = 0; i < sizeof(stack); i++)
        ((volatile uint8_t *)stack)[i] = 0xA7;
    collect((uint8_t *)(((uintptr_t)stack + 143) & ~(uintptr_t)15));
    uint8_t *room = pages(1, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    wrap(room);
    // Nothing may be written through a wild pointer; here it would be seen as a fault.
    VirtualProtect(room, PAGE, PAGE_READONLY, &before);
    VirtualProtect(lone + PAGE, PAGE, PAGE_READONLY, &before);
    unsigned reports = 0;
    for (unsigned i = 3; *argument(i) != 0; i++) {
        crt_name = argument(i);
        crt = GetModuleHandleA(crt_name);
        go_home();
        aligned_goes_home(i < CRTS_MAX ? aligned[i] : NULL);
        CHECK_AT(unknown_count(redirect) == 0, crt_name);
        const unsigned calls = torment();
        const unsigned long counted = unknown_count(redirect);
        say("%s: %u calls with %u wild pointers, %lu counted\n", crt_name, calls, wild_count,
            counted);
        CHECK_AT(counted == calls, crt_name);
        reports++;
    }
    for (unsigned i = 0; i < sizeof(statics); i++)
        CHECK(statics[i] == 0xA7);
    for (unsigned i = 0; i < sizeof(stack); i++)
        CHECK(((volatile uint8_t *)stack)[i] == 0xA7);
    say("reports: %u\n", reports);
    finish();
}
