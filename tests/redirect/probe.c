// A program that does what its command line says, one word after the other, and prints what it
// sees. For test_modes.py, which checks what it prints.
//
//   load DLL | map DLL (its references not resolved) | unload DLL | load-many N DLL (copies of it)
//   | cd FOLDER | heaps CRT (hundreds of them) | hooked CRT (is it still?) | wrap / wrap-stolen
//   (its own import of malloc leads to a function of its own) | redirected DLL (what that allocator
//   says) | skew CRT (import cells askew, in use) | skewed (whose malloc they lead to) | fault
//   POINT (as MI_REDIRECT_FAULT) | hook FORM CRT (another product patches malloc) | malloc CRT
//   (ours or theirs) | free-stack CRT | disable | enable | status | json | active | wait (for the
//   end of standard input) | guard CRT (heap functions on its blocks) | guard-off CRT |
//   guard-zeroes CRT | handler CRT
//   (new-handler and new-mode) | pairs (every two of the CRTs loaded) | entry CRT (where malloc's
//   first instruction leads) | outstanding CRT (blocks held while the redirection goes) | fuzz
//   ALLOCATOR (whose is any value?) | pair CRT (what malloc and free cost) | kill CRT (threads,
//   then the end) | ntdll (once before, once after: changed code)
#include "probe.h"
#include "base/atomic.h"

static void *stolen(size_t size) {
    return HeapAlloc(GetProcessHeap(), 0, size);
}

static uint8_t hook_code[12];

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
    CopyMemory(hook_code, code, bytes);
    CopyMemory(entry, code, bytes);
    VirtualProtect(entry, bytes, before, &before);
    say("hooked\n");
}

// Does the other product's patch still stand?
static void hooked(const char *crt) {
    const uint8_t *entry = (const uint8_t *)proc(GetModuleHandleA(crt), "malloc");
    bool is_there = true;
    for (unsigned i = 0; i < 5; i++)
        is_there &= (entry[i] == hook_code[i]);
    say("hook of %s: %s\n", crt, is_there ? "there" : "gone");
}

// Blocks of a private heap among hundreds, and of nobody's, for a CRT.
static void heaps(const char *crt) {
    enum { HEAPS = 700 };
    static HANDLE all[HEAPS];
    size_t (*const measure)(void *) = (size_t(*)(void *))proc(GetModuleHandleA(crt), "_msize");
    for (unsigned i = 0; i < HEAPS; i++)
        all[i] = HeapCreate(0, 0, 0);
    for (unsigned i = 0; i < HEAPS; i += 233) {
        void *p = HeapAlloc(all[i], 0, 50 + i);
        CHECK(measure(p) == 50 + i);
        drop(crt, p);
        CHECK(!HeapValidate(all[i], 0, p) || HeapSize(all[i], 0, p) != 50 + i);
    }
    uint64_t wild[8] = {0};
    drop(crt, &wild[4]);
    for (unsigned i = 0; i < HEAPS; i++)
        HeapDestroy(all[i]);
    say("heaps done\n");
}

// As many modules as a large program has, with names as plug-ins have them.
static void load_many(const char *count, const char *dll) {
    unsigned n = 0, loaded = 0;
    for (const char *c = count; *c >= '0' && *c <= '9'; c++)
        n = n * 10 + (unsigned)(*c - '0');
    for (unsigned i = 0; i < n; i++) {
        char name[160];
        mi_text_t t;
        mi_text_init(&t, name, sizeof(name));
        mi_text_fmt(
            &t, "a-plug-in-with-a-name-as-long-as-they-often-are-and-then-some-more-of-it-%u.dll",
            i);
        loaded += (CopyFileA(dll, name, FALSE) && LoadLibraryA(name) != NULL);
    }
    say("loaded %u\n", loaded);
}

static uint64_t random_state = 88172645463325252u;

static uint64_t random64(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

// Blocks of ours that are held when the redirection is taken back: every function goes on to know
// them, and all of them come home.
static void outstanding_blocks(const char *crt, size_t size) {
    const HMODULE c = GetModuleHandleA(crt);
    void *(*const resize)(void *, size_t) = (void *(*)(void *, size_t))proc(c, "realloc");
    void *(*const resize_zeroed)(void *, size_t, size_t) =
        (void *(*)(void *, size_t, size_t))proc(c, "_recalloc");
    void *(*const expand)(void *, size_t) = (void *(*)(void *, size_t))proc(c, "_expand");
    size_t (*const measure)(void *) = (size_t(*)(void *))proc(c, "_msize");
    void *(*const make_aligned)(size_t, size_t) =
        (void *(*)(size_t, size_t))proc(c, "_aligned_malloc");
    void *(*const resize_aligned)(void *, size_t, size_t) =
        (void *(*)(void *, size_t, size_t))proc(c, "_aligned_realloc");
    void (*const drop_aligned)(void *) = (void (*)(void *))proc(c, "_aligned_free");
    uint8_t *p[7];
    for (unsigned i = 0; i < 7; i++) {
        p[i] = (uint8_t *)(i < 5 ? make(crt, size) : make_aligned(size, 64));
        CHECK_AT(is_ours(p[i]), crt);
        pattern_fill(p[i], size);
    }
    const size_t measured = measure(p[0]);
    ((void (*)(void))proc(redirect_module(), "mi_redirect_disable"))();
    void *theirs = make(crt, size);
    CHECK_AT(!is_ours(theirs), crt);
    drop(crt, theirs);
    CHECK_AT(measure(p[0]) == measured && expand(p[1], size) == p[1], crt);
    p[2] = (uint8_t *)resize(p[2], 2 * size);
    p[3] = (uint8_t *)(resize_zeroed != NULL ? resize_zeroed(p[3], 2, size) : p[3]);
    CHECK_AT(resize(p[4], 0) == NULL, crt);
    p[5] = (uint8_t *)resize_aligned(p[5], 2 * size, 64);
    CHECK_AT(((uintptr_t)p[5] & 63) == 0, crt);
    for (unsigned i = 0; i < 7; i++)
        CHECK_AT(i == 4 || pattern_is(p[i], size, size), crt);
    CHECK_AT(resize_zeroed == NULL || (p[3][size] == 0 && p[3][2 * size - 1] == 0), crt);
    for (unsigned i = 0; i < 4; i++)
        drop(crt, p[i]);
    drop_aligned(p[5]);
    drop_aligned(p[6]);
    ((void (*)(void))proc(redirect_module(), "mi_redirect_enable"))();
    void *ours = make(crt, size);
    CHECK_AT(is_ours(ours), crt);
    drop(crt, ours);
}

static void outstanding(const char *crt) {
    uint64_t (*const live_count)(void) = (uint64_t(*)(void))proc(
        GetModuleHandleA(sizeof(void *) == 8 ? "standin.dll" : "standin32.dll"),
        "standin_live_count");
    outstanding_blocks(crt, 24); // whatever the CRT makes once, it has made
    const uint64_t before = live_count();
    for (size_t size = 24; size < 100000; size *= 7)
        outstanding_blocks(crt, size);
    CHECK_AT(live_count() == before, crt);
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
    // One bit off, above all addresses that a process has.
    for (unsigned i = 0; i < 64; i++)
        for (unsigned bit = 47; bit < 8 * sizeof(void *); bit++)
            CHECK(!owns((void *)(ours[i] ^ ((uintptr_t)1 << bit))));
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

// ---- import cells as some linkers lay them: not aligned, one of them across two cache lines ----

typedef void *(*malloc_fn)(size_t);
typedef void (*free_fn)(void *);
enum { SKEW_THREADS = 4, SKEW_BYTES = sizeof(void *) / 2 };
static struct {
    IMAGE_IMPORT_DESCRIPTOR descriptors[2];
    char name[24 - SKEW_BYTES];
    uint8_t cells[3 * sizeof(void *)]; // malloc across the end of a line, free, zero
} skew_table __attribute__((aligned(64)));
static HANDLE skew_threads[SKEW_THREADS];
static _Atomic(bool) skew_ends;

static uintptr_t skew_cell(unsigned i) {
    uintptr_t function;
    CopyMemory(&function, skew_table.cells + i * sizeof(function), sizeof(function));
    return function;
}

// One load of a whole cell, as an indirect call makes.
static uintptr_t skew_load(unsigned i) {
    typedef uintptr_t askew_t __attribute__((aligned(1)));
    return *(volatile askew_t *)(void *)(skew_table.cells + i * sizeof(uintptr_t));
}

static DWORD WINAPI skew_thread(void *arg) {
    (void)arg;
    while (!mi_load_relaxed(&skew_ends)) {
        const malloc_fn make_one = (malloc_fn)skew_load(0);
        const free_fn free_one = (free_fn)skew_load(1);
        free_one(make_one(40));
    }
    return 0;
}

// The program becomes one with these imports.
static void skew(const char *crt) {
    uint8_t *const base = (uint8_t *)GetModuleHandleA(NULL);
    const IMAGE_DOS_HEADER *dos = (const IMAGE_DOS_HEADER *)(const void *)base;
    IMAGE_NT_HEADERS *nt = (IMAGE_NT_HEADERS *)(void *)(base + dos->e_lfanew);
    IMAGE_DATA_DIRECTORY *dir = &nt->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_IMPORT];
    const uintptr_t functions[] = {proc(GetModuleHandleA(crt), "malloc"),
                                   proc(GetModuleHandleA(crt), "free"), 0};
    DWORD before;
    CHECK(((uintptr_t)skew_table.cells & 63) == 64 - SKEW_BYTES &&
          mi_str_len(crt) < sizeof(skew_table.name));
    CopyMemory(skew_table.cells, functions, sizeof(functions));
    CopyMemory(skew_table.name, crt, mi_str_len(crt));
    skew_table.descriptors[0].Name = (DWORD)((uint8_t *)skew_table.name - base);
    skew_table.descriptors[0].FirstThunk = (DWORD)(skew_table.cells - base);
    VirtualProtect(dir, sizeof(*dir), PAGE_READWRITE, &before);
    dir->VirtualAddress = (DWORD)((uint8_t *)skew_table.descriptors - base);
    dir->Size = sizeof(skew_table.descriptors);
    VirtualProtect(dir, sizeof(*dir), before, &before);
    for (unsigned i = 0; i < SKEW_THREADS; i++)
        skew_threads[i] = CreateThread(NULL, 0, skew_thread, NULL, 0, NULL);
}

static void skewed(void) {
    mi_store_relaxed(&skew_ends, true);
    WaitForMultipleObjects(SKEW_THREADS, skew_threads, TRUE, INFINITE);
    void *p = ((malloc_fn)skew_cell(0))(50);
    say("skewed: %s\n", is_ours(p) ? "ours" : "theirs");
    ((free_fn)skew_cell(1))(p);
}

static void redirected(const char *dll) {
    bool (*const ask)(void) = (bool (*)(void))proc(GetModuleHandleA(dll), "mi_is_redirected");
    say("%s redirects: %s\n", dll, ask != NULL && ask() ? "yes" : "no");
}

#ifdef PROBE_IMPORTS
__declspec(dllimport) void *malloc(size_t size);
__declspec(dllimport) void free(void *p);
void *volatile imported[2];
#    if defined(_WIN64)
#        define IMPORT_CELL(name) __imp_##name
#    else
#        define IMPORT_CELL(name) _imp__##name // and the underscore of every name
#    endif
extern void *IMPORT_CELL(malloc);

static void *own_malloc(size_t size) {
    return make("msvcrt.dll", size);
}

// The program hooks its own import.
static void wrap(void *own) {
    DWORD before;
    VirtualProtect(&IMPORT_CELL(malloc), sizeof(void *), PAGE_READWRITE, &before);
    IMPORT_CELL(malloc) = own;
    VirtualProtect(&IMPORT_CELL(malloc), sizeof(void *), before, &before);
}
#endif

// The words of programs that hold odd things. 0 = none of these.
static unsigned run_odd(const char *word, unsigned i) {
    const char *name = argument(i + 1);
    if (mi_str_eq(word, "map")) {
        say("map %s: %s\n", name,
            LoadLibraryExA(name, NULL, DONT_RESOLVE_DLL_REFERENCES) != NULL ? "good" : "failed");
        return 2;
    }
    if (mi_str_eq(word, "cd")) {
        say("cd %s: %s\n", name, SetCurrentDirectoryA(name) ? "good" : "failed");
        return 2;
    }
    if (mi_str_eq(word, "load-many")) {
        load_many(name, argument(i + 2));
        return 3;
    }
    if (mi_str_eq(word, "heaps")) {
        heaps(name);
        return 2;
    }
    if (mi_str_eq(word, "skew")) {
        skew(name);
        return 2;
    }
    if (mi_str_eq(word, "skewed")) {
        skewed();
        return 1;
    }
    if (mi_str_eq(word, "hooked")) {
        hooked(name);
        return 2;
    }
    if (mi_str_eq(word, "redirected")) {
        redirected(name);
        return 2;
    }
#ifdef PROBE_IMPORTS
    if (mi_str_starts(word, "wrap")) {
        wrap((void *)(mi_str_eq(word, "wrap") ? (uintptr_t)own_malloc : (uintptr_t)stolen));
        return 1;
    }
#endif
    return 0;
}

static unsigned run(unsigned i) {
    const char *word = argument(i), *name = argument(i + 1);
    const unsigned odd = run_odd(word, i);
    if (odd != 0)
        return odd;
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
        probe_guard(name);
        return 2;
    }
    if (mi_str_eq(word, "guard-zeroes")) {
        probe_guard_zeroes(name);
        return 2;
    }
    if (mi_str_eq(word, "guard-off")) {
        probe_guard_off(name);
        return 2;
    }
    if (mi_str_eq(word, "entry")) {
        entry_of(name);
        return 2;
    }
    if (mi_str_eq(word, "outstanding")) {
        outstanding(name);
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
    ExitProcess(wtest_code(false));
}
