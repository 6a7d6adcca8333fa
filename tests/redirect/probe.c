// A program that does what its command line says, one word after the other, and prints what it
// sees. For test_modes.py, which checks what it prints.
//
//   load DLL | unload DLL | fault POINT (as MI_REDIRECT_FAULT) | hook FORM CRT (another product
//   patches malloc) malloc CRT (ours or theirs) | free-stack CRT | disable | enable | status | json
//   | active | wait (for the end of standard input) guard CRT (heap functions on its blocks) |
//   guard-off CRT | handler CRT (new-handler and new-mode) | pairs (every two of the CRTs loaded) |
//   entry CRT (where malloc's first instruction leads) | ntdll (once before, once after: changed
//   code)
#include "base/atomic.h"
#include "wtest.h"

static HMODULE redirect_module(void) {
    static const char *const names[] = {"another.dll", "mimalloc-redirect.dll",
                                        "mimalloc-redirect32.dll", "mimalloc-redirect-faults.dll",
                                        "mimalloc-redirect-faults32.dll"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (GetModuleHandleA(names[i]) != NULL)
            return GetModuleHandleA(names[i]);
    return NULL;
}

static bool is_ours(const void *p) {
    static const char *const names[] = {"standin.dll", "standin32.dll", "mimalloc.dll",
                                        "standin-weak.dll", "renamed.dll"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const HMODULE m = GetModuleHandleA(names[i]);
        uintptr_t ask = (m == NULL ? 0 : proc(m, "standin_is_ours"));
        if (m != NULL && ask == 0)
            ask = proc(m, "mi_is_in_heap_region");
        if (ask != 0)
            return ((bool (*)(const void *))ask)(p);
    }
    return false;
}

static void *make(const char *crt, size_t size) {
    return ((void *(*)(size_t))proc(GetModuleHandleA(crt), "malloc"))(size);
}

static void drop(const char *crt, void *p) {
    ((void (*)(void *))proc(GetModuleHandleA(crt), "free"))(p);
}

static void status(int format) {
    static char text[65536];
    const uintptr_t get = proc(redirect_module(), "mi_redirect_status");
    if (get == 0) {
        say("no redirect DLL\n");
        return;
    }
    const size_t needed = ((size_t(*)(char *, size_t, int))get)(text, sizeof(text), format);
    char cut[8];
    // A buffer that is too small gets the beginning, and the caller learns how much it needs.
    CHECK(((size_t(*)(char *, size_t, int))get)(cut, sizeof(cut), format) == needed);
    CHECK(mi_str_len(cut) == sizeof(cut) - 1);
    say_text(text);
}

static void *stolen(size_t size) {
    return HeapAlloc(GetProcessHeap(), 0, size);
}

// Another product's patch: its function behind a jump to a place outside the module (jump), behind
// an indirect jump (slot), or with its address in the code (constant).
static void hook(const char *form, const char *crt) {
    uint8_t *entry = (uint8_t *)proc(GetModuleHandleA(crt), "malloc");
    uint8_t *near_by = NULL, code[12];
    size_t bytes;
    DWORD before;
    for (uintptr_t at = (uintptr_t)entry + 0x1000000; near_by == NULL; at += 0x100000)
        near_by = (uint8_t *)VirtualAlloc((void *)(at & ~(uintptr_t)0xFFFF), 4096,
                                          MEM_RESERVE | MEM_COMMIT, PAGE_EXECUTE_READWRITE);
    const uintptr_t target = (uintptr_t)stolen;
    const bool is_x64 = (sizeof(void *) == 8);
    // mov rax, target; jmp rax. In 32-bit code push target; ret for the constant at the entry.
    uint8_t far_jump[12] = {0x48, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xE0};
    CopyMemory(far_jump + 2, &target, sizeof(target));
    CopyMemory(far_jump + 2 + sizeof(target), "\xFF\xE0", 2);
    const uint8_t *const jump = far_jump + !is_x64; // without the prefix
    const size_t jump_bytes = 4 + sizeof(target) - !is_x64;
    if (mi_str_eq(form, "jump")) {
        CopyMemory(near_by, jump, jump_bytes);
        const int32_t rel = (int32_t)(near_by - (entry + 5));
        code[0] = 0xE9;
        CopyMemory(code + 1, &rel, 4);
        bytes = 5;
    } else if (mi_str_eq(form, "slot")) {
        CopyMemory(near_by, &target, sizeof(target));
        const int32_t at = (int32_t)(is_x64 ? near_by - (entry + 6) : (intptr_t)near_by);
        CopyMemory(code, "\xFF\x25", 2);
        CopyMemory(code + 2, &at, 4);
        bytes = 6;
    } else if (is_x64) {
        CopyMemory(code, jump, bytes = jump_bytes);
    } else {
        code[0] = 0x68;
        CopyMemory(code + 1, &target, 4);
        code[5] = 0xC3;
        bytes = 6;
    }
    VirtualProtect(entry, bytes, PAGE_EXECUTE_READWRITE, &before);
    CopyMemory(entry, code, bytes);
    VirtualProtect(entry, bytes, before, &before);
    say("hooked\n");
}

// The same functions as other modules know them, and those that end in them.
static void guard_doors(const char *crt) {
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
    p = HeapReAlloc(heap, 0, p, 0); // unlike realloc, it frees nothing
    CHECK(p != NULL && is_ours(p) && HeapFree(heap, 0, p));
    HeapDestroy(other);
}

// Without the guard the system's functions are as they were: on Wine they refuse such a block and
// leave it alone, Windows ends the program.
static void guard_off(const char *crt) {
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

static void guard(const char *crt) {
    const HANDLE heap = GetProcessHeap();
    uint8_t *p = (uint8_t *)make(crt, 100);
    CHECK(is_ours(p));
    for (unsigned i = 0; i < 100; i++)
        p[i] = (uint8_t)i;
    CHECK(HeapValidate(heap, 0, p));
    CHECK(HeapSize(heap, 0, p) >= 100 && HeapSize(heap, 0, p) < 4096);
    p = (uint8_t *)HeapReAlloc(heap, HEAP_ZERO_MEMORY, p, 50000);
    CHECK(p != NULL && is_ours(p));
    for (unsigned i = 0; i < 100; i++)
        CHECK(p[i] == i);
    CHECK(p[49999] == 0);
    CHECK(HeapReAlloc(heap, HEAP_REALLOC_IN_PLACE_ONLY, p, 60) == p);
    CHECK(HeapFree(heap, 0, p)); // the shell32 pattern
    CHECK(LocalFree(make(crt, 77)) == NULL);
    guard_doors(crt);
    // The system's own blocks go on as ever.
    p = (uint8_t *)HeapAlloc(heap, HEAP_ZERO_MEMORY, 300);
    CHECK(!is_ours(p) && HeapSize(heap, 0, p) == 300);
    p = (uint8_t *)HeapReAlloc(heap, 0, p, 3000);
    CHECK(p != NULL && HeapValidate(heap, 0, p) && HeapFree(heap, 0, p));
    CHECK(LocalFree(LocalAlloc(LMEM_FIXED, 10)) == NULL);
    // What a heap operation of the system costs now.
    LARGE_INTEGER rate, start, end;
    QueryPerformanceFrequency(&rate);
    QueryPerformanceCounter(&start);
    for (unsigned i = 0; i < 200000; i++)
        HeapFree(heap, 0, HeapAlloc(heap, 0, 64));
    QueryPerformanceCounter(&end);
    say("HeapAlloc and HeapFree: %ld ns\n",
        (long)((double)(end.QuadPart - start.QuadPart) * 1e9 / (double)rate.QuadPart / 200000));
}

static uint64_t random_state = 88172645463325252u;

static uint64_t random64(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static long elapsed_ps(LARGE_INTEGER start, double count) {
    LARGE_INTEGER rate, end;
    QueryPerformanceCounter(&end);
    QueryPerformanceFrequency(&rate);
    return (long)((double)(end.QuadPart - start.QuadPart) * 1e12 / (double)rate.QuadPart / count);
}

// Ownership of ten million values: none of them is touched, none that is not ours is taken for
// ours.
static void fuzz(const char *allocator) {
    const HMODULE m = GetModuleHandleA(allocator);
    uintptr_t ask = proc(m, "mi_is_in_heap_region");
    ask = (ask != 0 ? ask : proc(m, "standin_is_ours"));
    bool (*const owns)(const void *) = (bool (*)(const void *))ask;
    uintptr_t (*const plain)(size_t) = (uintptr_t(*)(size_t))proc(m, "mi_malloc");
    static const uintptr_t odd[] = {0,    1,     2,     15,          16,
                                    4095, 65535, 65536, UINTPTR_MAX, UINTPTR_MAX - 15};
    static uintptr_t ours[64], theirs[64];
    for (unsigned i = 0; i < 64; i++) {
        theirs[i] = (uintptr_t)HeapAlloc(GetProcessHeap(), 0, 1u << (i % 20));
        ours[i] = (plain != NULL ? plain(1u << (i % 20)) : 0);
        CHECK(!owns((void *)theirs[i]));
        CHECK(ours[i] == 0 || owns((void *)ours[i]));
    }
    for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
        CHECK(!owns((void *)odd[i]));
    const uintptr_t pages = (uintptr_t)VirtualAlloc(NULL, 1 << 20, MEM_RESERVE, PAGE_NOACCESS);
    unsigned wrong = 0, hits = 0;
    for (unsigned i = 0; i < 10000000; i++) {
        const uintptr_t r = (uintptr_t)random64();
        // Any value, then near the stack, this image, ntdll, heap blocks and reserved pages.
        const uintptr_t near_by[] = {r,
                                     (uintptr_t)&r + (r & 0xFFF),
                                     (uintptr_t)odd + (r & 0xFFF),
                                     (uintptr_t)GetModuleHandleA + (r & 0xFFFF),
                                     theirs[i % 64] + (r & 15),
                                     pages + (r & 0xFFFFF)};
        const bool is_owned = owns((void *)near_by[i % 6]);
        wrong += (i % 6 != 0 && is_owned);
        hits += (i % 6 == 0 && is_owned);
    }
    CHECK(wrong == 0);
    // A value that is drawn from 64 bits hits the heap by chance once in thousands of millions.
    CHECK(sizeof(void *) == 4 || hits == 0);
    long best = 0x7FFFFFFF; // of many short rounds: other programs run, too
    unsigned owned = 0;
    for (unsigned round = 0; round < 500; round++) {
        LARGE_INTEGER start;
        QueryPerformanceCounter(&start);
        for (unsigned i = 0; i < 20000; i++)
            owned += owns((void *)(i % 2 == 0 ? ours[i % 64] : theirs[i % 64]));
        const long now = elapsed_ps(start, 20000);
        best = (now < best ? now : best);
    }
    say("ownership test: %ld ps, %u of 10000000\n", best, owned);
}

// A malloc and free pair through the CRT against the allocator's own functions: the best of many
// short rounds each.
static void pair(const char *crt) {
    const HMODULE m = GetModuleHandleA("mimalloc.dll"), c = GetModuleHandleA(crt);
    void *(*const make_of[2])(size_t) = {(void *(*)(size_t))proc(m, "mi_malloc"),
                                         (void *(*)(size_t))proc(c, "malloc")};
    void (*const drop_of[2])(void *) = {(void (*)(void *))proc(m, "mi_free"),
                                        (void (*)(void *))proc(c, "free")};
    long best[2] = {0x7FFFFFFF, 0x7FFFFFFF};
    if (make_of[0] == NULL)
        return;
    for (unsigned round = 0; round < 400; round++) {
        LARGE_INTEGER start;
        QueryPerformanceCounter(&start);
        for (unsigned i = 0; i < 20000; i++)
            drop_of[round % 2](make_of[round % 2](32 + i % 64));
        const long now = elapsed_ps(start, 20000);
        if (now < best[round % 2])
            best[round % 2] = now;
    }
    say("pair: direct %ld ps, through %s %ld ps\n", best[0], crt, best[1]);
}

static _Atomic(unsigned) busy_count; // threads at work

static DWORD WINAPI busy(void *arg) {
    const HMODULE c = (HMODULE)arg;
    void *(*const f)(size_t) = (void *(*)(size_t))proc(c, "malloc");
    void (*const g)(void *) = (void (*)(void *))proc(c, "free");
    void *held[64] = {0};
    (void)mi_fetch_add_relaxed(&busy_count, 1u);
    for (unsigned i = 0;; i++) {
        g(held[i % 64]);
        held[i % 64] = f((i * 2654435761u) >> (i % 8 == 0 ? 14 : 22));
    }
}

// Threads are killed wherever they stand in our code, then the process ends while others are still
// at work: it must not wait. None is killed while it starts: that leaves a lock of the loader
// taken, with or without us.
static void kill_and_exit(const char *crt) {
    HANDLE threads[12];
    for (unsigned i = 0; i < 12; i++)
        threads[i] = CreateThread(NULL, 0, busy, GetModuleHandleA(crt), 0, NULL);
    const ULONGLONG start = GetTickCount64();
    while (GetTickCount64() - start < 30 || mi_load_relaxed(&busy_count) < 12)
        SwitchToThread();
    for (unsigned i = 0; i < 6; i++)
        TerminateThread(threads[i], 1);
    say("leaving\n");
    ExitProcess(0);
}

// Where a direct jump at the entry leads: into a module, or into memory of no file.
static void entry_of(const char *crt) {
    const uint8_t *code = (const uint8_t *)proc(GetModuleHandleA(crt), "malloc");
    int32_t rel;
    char name[MAX_PATH] = "no file";
    CopyMemory(&rel, code + 1, 4);
    MEMORY_BASIC_INFORMATION info = {0};
    const bool is_jump = (code[0] == 0xE9);
    if (is_jump)
        VirtualQuery(code + 5 + rel, &info, sizeof(info));
    if (info.Type == MEM_IMAGE)
        GetModuleFileNameA((HMODULE)info.AllocationBase, name, sizeof(name));
    say("entry of %s: %s\n", crt, is_jump ? name : "no jump");
}

// Blocks of each CRT, resized, measured and freed by each other; contents kept.
static void pairs(void) {
    static HMODULE crts[16];
    unsigned count = 0;
    for (unsigned i = 1; *argument(i) != 0 && count < 16; i++)
        if (mi_str_eq(argument(i), "load") &&
            proc(GetModuleHandleA(argument(i + 1)), "_msize") != 0)
            crts[count++] = GetModuleHandleA(argument(i + 1));
    CHECK(count >= 2);
    for (unsigned k = 0; k < count * count; k++) {
        const HMODULE a = crts[k / count], b = crts[k % count];
        for (size_t size = 1; size < 100000; size = size * 3 + 7) {
            uint8_t *p = ((uint8_t * (*)(size_t)) proc(a, "malloc"))(size);
            CHECK(p != NULL && is_ours(p));
            pattern_fill(p, size);
            CHECK(((size_t(*)(void *))proc(b, "_msize"))(p) == size);
            p = ((uint8_t * (*)(void *, size_t)) proc(b, "realloc"))(p, size * 2);
            CHECK(p != NULL && is_ours(p) && pattern_is(p, size, size));
            ((void (*)(void *))proc(k % 2 == 0 ? b : a, "free"))(p);
            p = ((uint8_t * (*)(size_t, size_t)) proc(b, "calloc"))(size, 1);
            CHECK(p != NULL && is_ours(p) && p[0] == 0 && p[size - 1] == 0);
            ((void (*)(void *))proc(a, "free"))(p);
        }
    }
    say("pairs of %u CRTs\n", count);
}

static int handled;

static int new_handler(size_t size) {
    (void)size;
    return ++handled < 3; // the third time: give up
}

// Out of memory: the new-handler is called only in new-mode 1, until it gives up; then NULL and
// ENOMEM.
static void handler(const char *crt) {
    const HMODULE m = GetModuleHandleA(crt);
    int (*const mode)(int) = (int (*)(int))proc(m, "_set_new_mode");
    void *(*const set)(void *) = (void *(*)(void *))proc(m, "_set_new_handler");
    int *(*const error)(void) = (int *(*)(void))proc(m, "_errno");
    CHECK(mode != NULL && set != NULL && error != NULL);
    (void)set((void *)(uintptr_t)new_handler);
    CHECK(make(crt, SIZE_MAX / 2) == NULL);
    CHECK(handled == 0 && *error() == 12);
    (void)mode(1);
    *error() = 0;
    CHECK(make(crt, SIZE_MAX / 2) == NULL);
    CHECK(handled == 3 && *error() == 12);
    (void)mode(0);
}

// ---- what of ntdll's code is changed ----

static uint8_t *ntdll_copy;

static const IMAGE_SECTION_HEADER *code_of(const uint8_t *base) {
    const IMAGE_DOS_HEADER *dos = (const IMAGE_DOS_HEADER *)(const void *)base;
    const IMAGE_NT_HEADERS *nt = (const IMAGE_NT_HEADERS *)(const void *)(base + dos->e_lfanew);
    const IMAGE_SECTION_HEADER *s = IMAGE_FIRST_SECTION(nt);
    while (mi_str_eq((const char *)s->Name, ".text") == false)
        s++;
    return s;
}

static bool is_guarded(uintptr_t at) {
    static const char *const names[] = {"RtlFreeHeap", "RtlSizeHeap", "RtlReAllocateHeap",
                                        "RtlValidateHeap"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (at - proc(GetModuleHandleA("ntdll.dll"), names[i]) < 5)
            return true;
    return false;
}

// The first call keeps the code, the second compares: no function of the loader, or any other but
// those of the heap guard, may differ.
static void ntdll(void) {
    const uint8_t *base = (const uint8_t *)GetModuleHandleA("ntdll.dll");
    const IMAGE_SECTION_HEADER *code = code_of(base);
    const uint8_t *now = base + code->VirtualAddress;
    const size_t bytes = code->Misc.VirtualSize;
    if (ntdll_copy == NULL) {
        ntdll_copy = (uint8_t *)VirtualAlloc(NULL, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
        CopyMemory(ntdll_copy, now, bytes);
        return;
    }
    unsigned guarded = 0, others = 0;
    for (size_t i = 0; i < bytes; i++)
        if (now[i] != ntdll_copy[i])
            (*(is_guarded((uintptr_t)now + i) ? &guarded : &others))++;
    say("ntdll: %u bytes of the guard changed, %u others\n", guarded, others);
    CHECK(bytes > 100000 && others == 0);
}

static void active(void) {
    bool (*const ask)(void *) = (bool (*)(void *))proc(redirect_module(), "mi_redirect_is_active");
    say("active: %s\n", ask != NULL && ask(NULL) ? "yes" : "no");
}

static unsigned run(unsigned i) {
    const char *word = argument(i), *name = argument(i + 1);
    if (mi_str_eq(word, "load")) {
        say("load %s: %s\n", name, LoadLibraryA(name) != NULL ? "good" : "failed");
        return 2;
    }
    if (mi_str_eq(word, "unload")) {
        say("unload %s: %s\n", name, FreeLibrary(GetModuleHandleA(name)) ? "good" : "failed");
        return 2;
    }
    if (mi_str_eq(word, "fault")) {
        SetEnvironmentVariableA("MI_REDIRECT_FAULT", name);
        return 2;
    }
    if (mi_str_eq(word, "hook")) {
        hook(name, argument(i + 2));
        return 3;
    }
    if (mi_str_eq(word, "malloc")) {
        void *p = make(name, 50);
        say("malloc of %s: %s\n", name, is_ours(p) ? "ours" : "theirs");
        drop(name, p);
        return 2;
    }
    if (mi_str_eq(word, "free-stack")) {
        uint64_t wild[8] = {0};
        drop(name, &wild[4]);
        drop(name, &wild[4]);
        drop(name, (void *)16);
        say("survived\n");
        return 2;
    }
    if (mi_str_eq(word, "guard")) {
        guard(name);
        return 2;
    }
    if (mi_str_eq(word, "guard-off")) {
        guard_off(name);
        return 2;
    }
    if (mi_str_eq(word, "entry")) {
        entry_of(name);
        return 2;
    }
    if (mi_str_eq(word, "fuzz")) {
        fuzz(name);
        return 2;
    }
    if (mi_str_eq(word, "pair")) {
        pair(name);
        return 2;
    }
    if (mi_str_eq(word, "kill"))
        kill_and_exit(name);
    if (mi_str_eq(word, "handler")) {
        handler(name);
        return 2;
    }
    if (mi_str_eq(word, "disable") || mi_str_eq(word, "enable")) {
        const uintptr_t f =
            proc(redirect_module(), word[0] == 'd' ? "mi_redirect_disable" : "mi_redirect_enable");
        ((void (*)(void))f)();
    } else if (mi_str_eq(word, "status")) {
        status(0);
    } else if (mi_str_eq(word, "json")) {
        status(1);
    } else if (mi_str_eq(word, "wait")) {
        char byte;
        DWORD got;
        say("ready\n");
        while (ReadFile(GetStdHandle(STD_INPUT_HANDLE), &byte, 1, &got, NULL) && got > 0) {
        }
    } else if (mi_str_eq(word, "pairs")) {
        pairs();
    } else if (mi_str_eq(word, "ntdll")) {
        ntdll();
    } else if (mi_str_eq(word, "active")) {
        active();
    } else {
        say("unknown word %s\n", word);
        ExitProcess(2);
    }
    return 1;
}

#ifdef PROBE_IMPORTS
__declspec(dllimport) void *malloc(size_t size);
__declspec(dllimport) void free(void *p);
void *volatile imported[2];
#endif
#ifdef PROBE_ORDINAL
__declspec(dllimport) void PROBE_REDIRECT(void);
__declspec(dllimport) void mimalloc_1(void);
void *volatile by_ordinal[2];
#endif
#ifdef PROBE_POLICY
__declspec(dllexport) const char mimalloc_redirect_policy[] = "required";
#endif

void mainCRTStartup(void) {
#ifdef PROBE_IMPORTS
    imported[0] = (void *)(uintptr_t)malloc;
    imported[1] = (void *)(uintptr_t)free;
#endif
#ifdef PROBE_ORDINAL
    by_ordinal[0] = (void *)(uintptr_t)PROBE_REDIRECT;
    by_ordinal[1] = (void *)(uintptr_t)mimalloc_1;
#endif
    for (unsigned i = 1; *argument(i) != 0;)
        i += run(i);
    say("%ld passed, %ld failed\n", wtest_passed, wtest_failed);
    ExitProcess(wtest_failed == 0 ? 0 : 1);
}
