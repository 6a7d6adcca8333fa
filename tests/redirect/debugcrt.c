// A debug CRT's debug heap over our blocks: every question that a program may ask of it, early and
// late, with the debug allocator and with the release allocator, beside a release CRT.
//
//   debugcrt early|late debug|release redirect.dll allocator.dll debug-crt.dll release-crt.dll
//
// early: the CRTs come last, so that they are redirected before their DllMain. late: they have
// allocated before. At its end the program leaves leaks on purpose, for the CRT's own check at
// exit: what it prints then is judged by test_debugcrt.py.
#include "wtest.h"

enum { NORMAL_BLOCK = 1, CRT_BLOCK, IGNORE_BLOCK, CLIENT_BLOCK };
enum { ALLOC_MEM = 1, DELAY_FREE = 2, CHECK_ALWAYS = 4, CHECK_CRT = 16, LEAK_CHECK = 32 };

typedef struct mem_state_s {
    void *newest;
    size_t counts[5];
    size_t sizes[5];
    size_t high;
    size_t total;
} mem_state_t;

typedef void *(*malloc_t)(size_t);
typedef void (*free_t)(void *);
typedef void *(*malloc_dbg_t)(size_t, int, const char *, int);
typedef void *(*realloc_dbg_t)(void *, size_t, int, const char *, int);
typedef int (*hook_t)(int, void *, size_t, int, long, const unsigned char *, int);
typedef int (*report_hook_t)(int, char *, int *);

static HMODULE debug_crt, release_crt;
static bool is_late, has_heap; // has_heap: the allocator keeps books
static bool (*is_ours)(const void *);
static char said[65536]; // what the CRT reported
static size_t said_bytes;
static void *kept[3];    // of before
static long last_before; // number of the last of them
static void *ours;       // of afterwards, for as long as the program runs

static uintptr_t fn(const char *name) {
    const uintptr_t f = proc(debug_crt, name);
    CHECK_AT(f != 0, name);
    return f;
}

static void *make(size_t size) {
    return ((malloc_t)fn("malloc"))(size);
}

static void *make_dbg(size_t size, int type, const char *file, int line) {
    return ((malloc_dbg_t)fn("_malloc_dbg"))(size, type, file, line);
}

static void drop(void *p) {
    ((free_t)fn("free"))(p);
}

static int ask(const char *name) {
    return ((int (*)(void))fn(name))();
}

static int set_flag(int flag) {
    return ((int (*)(int))fn("_CrtSetDbgFlag"))(flag);
}

static int listen(int type, char *message, int *result) {
    const size_t bytes = mi_str_len(message);
    CHECK(type == 0);
    if (said_bytes + bytes < sizeof(said)) {
        memcpy(said + said_bytes, message, bytes);
        said_bytes += bytes;
        said[said_bytes] = 0;
    }
    *result = 0;
    return 1;
}

static void hush(void) {
    said_bytes = 0;
    said[0] = 0;
}

// How often the text was reported since hush().
static unsigned heard(const char *text) {
    unsigned n = 0;
    for (const char *p = said; *p != 0; p++)
        n += mi_str_starts(p, text);
    return n;
}

static bool find_block(const void *p, unsigned size, long *request, const char **file, int *line) {
    return ((int (*)(const void *, unsigned, long *, const char **, int *))fn("_CrtIsMemoryBlock"))(
               p, size, request, file, line) != 0;
}

static int type_of(const void *p) {
    return ((int (*)(const void *))fn("_CrtReportBlockType"))(p);
}

static bool is_valid(const void *p) {
    return ((int (*)(const void *))fn("_CrtIsValidHeapPointer"))(p) != 0;
}

static mem_state_t state_now(void) {
    mem_state_t s;
    ((void (*)(mem_state_t *))fn("_CrtMemCheckpoint"))(&s);
    return s;
}

static void dump_since(const mem_state_t *s) {
    hush();
    ((void (*)(const mem_state_t *))fn("_CrtMemDumpAllObjectsSince"))(s);
}

// ---- blocks of before ----

static void make_before(void) {
    kept[0] = make(100);
    kept[1] = make_dbg(200, CLIENT_BLOCK | (5 << 16), "before.c", 7);
    kept[2] = make_dbg(300, NORMAL_BLOCK, "before.c", 8);
    memset(kept[2], 0x33, 300);
}

// The original's header goes on to be served: size, type, file, and a free that finds no damage.
static void test_before(void) {
    const char *file = NULL;
    int line = 0;
    long request = 0;
    for (unsigned i = 0; i < 3; i++)
        CHECK(!is_ours(kept[i]) && is_valid(kept[i]));
    CHECK(((size_t(*)(void *))fn("_msize"))(kept[0]) == 100);
    void *(*const expand)(void *, size_t) = (void *(*)(void *, size_t))fn("_expand");
    CHECK(expand(kept[0], 50) == kept[0] && expand(kept[0], 100) == kept[0]);
    CHECK(expand(kept[0], 5000) == NULL && ((size_t(*)(void *))fn("_msize"))(kept[0]) == 100);
    CHECK(type_of(kept[1]) == (CLIENT_BLOCK | (5 << 16)));
    CHECK(find_block(kept[2], 300, &request, &file, &line) && line == 8 && request > 0);
    last_before = request;
    uint8_t *q = ((realloc_dbg_t)fn("_realloc_dbg"))(kept[2], 5000, NORMAL_BLOCK, "after.c", 9);
    CHECK(q != NULL && is_ours(q) && q[0] == 0x33 && q[299] == 0x33);
    CHECK(!has_heap || q[300] == 0xCD);
    drop(q);
    ((void (*)(void *, int))fn("_free_dbg"))(kept[1], CLIENT_BLOCK | (5 << 16));
    CHECK(((LONG(*)(void))fn("synth_debug_live"))() == 1);
    CHECK(((LONG(*)(void))fn("synth_debug_bad"))() == 0);
}

// ---- single blocks ----

static void test_block(void) {
    const char *file = NULL;
    int line = 0;
    long request = 0, next = 0;
    uint8_t *p = (uint8_t *)make_dbg(77, CLIENT_BLOCK | (3 << 16), "here.c", 42);
    CHECK(p != NULL && is_ours(p) && p[0] == 0xCD && p[76] == 0xCD);
    CHECK(((size_t(*)(void *))fn("_msize"))(p) == 77);
    CHECK(is_valid(p) && !is_valid(p + 16) && !is_valid(&file));
    CHECK(type_of(p) == (CLIENT_BLOCK | (3 << 16)) && type_of(&file) == -1);
    CHECK(find_block(p, 77, &request, &file, &line));
    CHECK(mi_str_eq(file, "here.c") && line == 42 && request > last_before);
    CHECK(!find_block(p, 76, NULL, NULL, NULL));
    ((void (*)(void *, int))fn("_CrtSetDbgBlockType"))(p, NORMAL_BLOCK);
    CHECK(type_of(p) == NORMAL_BLOCK);
    // Every allocation has the next number; a resizing is one.
    void *q = make(5);
    CHECK(find_block(q, 5, &next, NULL, NULL) && next == request + 1);
    p = (uint8_t *)((realloc_dbg_t)fn("_realloc_dbg"))(p, 99, NORMAL_BLOCK, "there.c", 43);
    CHECK(p != NULL && find_block(p, 99, &next, &file, &line) && next == request + 2);
    CHECK(mi_str_eq(file, "there.c") && line == 43 && p[98] == 0xCD);
    uint8_t *z = ((uint8_t * (*)(void *, size_t, size_t, int, const char *, int))
                      fn("_recalloc_dbg"))(p, 10, 20, NORMAL_BLOCK, "more.c", 44);
    CHECK(z != NULL && z[98] == 0xCD && z[99] == 0 && z[199] == 0);
    CHECK(find_block(z, 200, NULL, &file, &line) && mi_str_eq(file, "more.c") && line == 44);
    CHECK(((realloc_dbg_t)fn("_expand_dbg"))(z, 150, NORMAL_BLOCK, "less.c", 45) == z);
    CHECK(find_block(z, 150, NULL, &file, &line) && line == 45);
    CHECK(((size_t(*)(void *))fn("_msize"))(z) == 150);
    drop(z);
    drop(q);
    CHECK(!is_valid(q));
    // A block that is resized keeps its type, whoever resizes it.
    p = (uint8_t *)make_dbg(10, CLIENT_BLOCK, NULL, 0);
    p = (uint8_t *)((void *(*)(void *, size_t))fn("realloc"))(p, 2000);
    CHECK(p != NULL && type_of(p) == CLIENT_BLOCK);
    drop(p);
    // Off: the block is there, of a type that no dump shows.
    const int flag = set_flag(0);
    p = make(10);
    CHECK(type_of(p) == IGNORE_BLOCK);
    set_flag(flag);
    drop(p);
}

static void test_aligned(void) {
    const char *file = NULL;
    int line = 0;
    void *p = ((void *(*)(size_t, size_t, const char *, int))fn("_aligned_malloc_dbg"))(
        100, 256, "aligned.c", 1);
    CHECK(p != NULL && ((uintptr_t)p & 255) == 0);
    CHECK(find_block(p, 100, NULL, &file, &line) && mi_str_eq(file, "aligned.c") && line == 1);
    p = ((void *(*)(void *, size_t, size_t, size_t, const char *, int))fn(
        "_aligned_offset_realloc_dbg"))(p, 900, 128, 24, "aligned.c", 2);
    CHECK(p != NULL && (((uintptr_t)p + 24) & 127) == 0);
    CHECK(find_block(p, 900, NULL, &file, &line) && line == 2);
    p = ((void *(*)(void *, size_t, size_t, size_t, const char *, int))fn("_aligned_recalloc_dbg"))(
        p, 10, 100, 64, "aligned.c", 3);
    CHECK(p != NULL && find_block(p, 1000, NULL, &file, &line) && line == 3);
    CHECK(((size_t(*)(void *, size_t, size_t))fn("_aligned_msize"))(p, 64, 0) == 1000);
    ((free_t)fn("_aligned_free"))(p);
    CHECK(!is_valid(p));
    p = ((malloc_dbg_t)fn(sizeof(void *) == 8 ? "?\?2@YAPEAX_KHPEBDH@Z" : "?\?2@YAPAXIHPBDH@Z"))(
        31, NORMAL_BLOCK, "new.cpp", 4);
    CHECK(find_block(p, 31, NULL, &file, &line) && mi_str_eq(file, "new.cpp") && line == 4);
    drop(p);
}

// ---- dumps, states, checks ----

static void test_dump(void) {
    const mem_state_t before = state_now();
    char *p = (char *)make_dbg(20, NORMAL_BLOCK, "leak.c", 12);
    memcpy(p, "Hello\n", 7);
    void *q = make(3);
    void *c = make_dbg(8, CRT_BLOCK, "crt.c", 1);
    const mem_state_t after = state_now();
    void *late = make(40);
    dump_since(&before);
    CHECK(heard("Dumping objects ->\n") == 1 && heard("Object dump complete.\n") == 1);
    CHECK(heard("leak.c(12) : {") == 1 && heard(" normal block at 0x") == 3);
    CHECK(heard(", 20 bytes long.\n Data: <Hello") == 1);
    CHECK(heard("> 48 65 6C 6C 6F 0A 00 CD ") == 1);
    CHECK(heard(", 3 bytes long.\n Data: <   > CD CD CD \n") == 1);
    CHECK(heard(" crt block ") == 0 && heard(", 40 bytes long.") == 1);
    CHECK(heard("original block") == 0);
    dump_since(&after);
    CHECK(heard(" normal block at 0x") == 1 && heard(", 40 bytes long.") == 1);
    const mem_state_t newest = state_now();
    dump_since(&newest);
    CHECK(heard(" block at 0x") == 0);
    const int flag = set_flag(-1);
    set_flag(flag | CHECK_CRT);
    dump_since(&before);
    CHECK(heard("crt.c(1) : {") == 1 && heard(" crt block at 0x") == 1 && heard(", subtype 0, 8 "));
    set_flag(flag);
    mem_state_t diff;
    CHECK(((int (*)(mem_state_t *, const mem_state_t *, const mem_state_t *))fn(
              "_CrtMemDifference"))(&diff, &before, &after) == 1);
    CHECK(diff.counts[NORMAL_BLOCK] == 2 && diff.sizes[NORMAL_BLOCK] == 23);
    CHECK(diff.counts[CRT_BLOCK] == 1 && diff.total == 31 && after.high >= 31);
    hush();
    ((void (*)(const mem_state_t *))fn("_CrtMemDumpStatistics"))(&diff);
    CHECK(heard("23 bytes in 2 Normal Blocks.\n") == 1);
    drop(p);
    drop(q);
    drop(c);
    drop(late);
    const mem_state_t end = state_now();
    CHECK(((int (*)(mem_state_t *, const mem_state_t *, const mem_state_t *))fn(
              "_CrtMemDifference"))(&diff, &before, &end) == 0);
}

// What is freed by another way than it came is no leak: the release CRT's free, and HeapFree.
static void test_other_ways(void) {
    const mem_state_t before = state_now();
    void *p = make(50), *q = make(60);
    void *r = ((malloc_t)proc(release_crt, "malloc"))(70);
    CHECK(is_ours(r) && is_valid(r));
    ((free_t)proc(release_crt, "free"))(p);
    HeapFree(GetProcessHeap(), 0, q);
    drop(r);
    dump_since(&before);
    CHECK(heard(" block at 0x") == 0);
    const mem_state_t after = state_now();
    CHECK(after.counts[NORMAL_BLOCK] == before.counts[NORMAL_BLOCK]);
    CHECK(after.sizes[NORMAL_BLOCK] == before.sizes[NORMAL_BLOCK]);
}

static void test_check(void) {
    uint8_t *p = (uint8_t *)make_dbg(24, NORMAL_BLOCK, "damage.c", 5);
    hush();
    CHECK(ask("_CrtCheckMemory") == 1 && heard("HEAP CORRUPTION") == 0);
    const uint8_t saved = p[24];
    p[24] ^= 0xFF;
    CHECK(ask("_CrtCheckMemory") == 0);
    CHECK(heard("damage.c(5) : HEAP CORRUPTION DETECTED") == 1);
    // Always, or every n-th time.
    const int flag = set_flag(-1);
    hush();
    set_flag(flag | CHECK_ALWAYS);
    void *q = make(1);
    CHECK(heard("HEAP CORRUPTION DETECTED") == 1);
    q = ((realloc_dbg_t)fn("_realloc_dbg"))(q, 2, NORMAL_BLOCK, NULL, 0);
    CHECK(heard("HEAP CORRUPTION DETECTED") == 2);
    drop(q);
    set_flag((flag & 0xFFFF) | (16 << 16));
    hush();
    for (unsigned i = 1; i <= 48; i++) {
        drop(make(1));
        CHECK(heard("HEAP CORRUPTION DETECTED") == i / 16);
    }
    int (*const set_count)(int) = (int (*)(int))proc(debug_crt, "_CrtSetCheckCount");
    if (set_count != NULL) { // newer ones: without the flags
        set_flag(flag & 0xFFFF);
        set_count(8);
        hush();
        for (unsigned i = 1; i <= 24; i++) {
            drop(make(1));
            CHECK(heard("HEAP CORRUPTION DETECTED") == i / 8);
        }
    }
    set_flag(flag & ~ALLOC_MEM);
    CHECK(ask("_CrtCheckMemory") == 1);
    set_flag(flag & 0xFFFF);
    hush();
    for (unsigned i = 0; i < 100; i++)
        drop(make(1));
    CHECK(heard("HEAP CORRUPTION DETECTED") == 0);
    set_flag(flag);
    p[24] = saved;
    CHECK(ask("_CrtCheckMemory") == 1);
    drop(p);
    // A freed block is kept, and is in no dump.
    const mem_state_t before = state_now();
    set_flag(flag | DELAY_FREE);
    p = (uint8_t *)make(33);
    drop(p);
    CHECK(p[0] == 0xDD && p[32] == 0xDD && !is_valid(p));
    hush();
    drop(p);
    CHECK(heard("A block is freed twice") == 1);
    set_flag(flag);
    const mem_state_t after = state_now();
    CHECK(after.counts[0] == before.counts[0] + 1);
    CHECK(after.counts[NORMAL_BLOCK] == before.counts[NORMAL_BLOCK]);
}

// ---- hooks ----

typedef struct call_s {
    int operation;
    void *p;
    size_t size;
    int type;
    long request;
    const char *file;
    int line;
} call_t;
static call_t calls[64];
static unsigned call_count;
static int refused; // operation that the hook forbids

static int on_alloc(int operation, void *p, size_t size, int type, long request,
                    const unsigned char *file, int line) {
    if (call_count < 64)
        calls[call_count++] = (call_t){operation, p, size, type, request, (const char *)file, line};
    return operation != refused;
}

static void test_alloc_hook(void) {
    hook_t (*const set)(hook_t) = (hook_t(*)(hook_t))fn("_CrtSetAllocHook");
    long request = 0;
    call_count = 0;
    const hook_t before = set(on_alloc);
    void *p = make_dbg(10, CLIENT_BLOCK, "hook.c", 3);
    CHECK(find_block(p, 10, &request, NULL, NULL));
    void *q = ((realloc_dbg_t)fn("_realloc_dbg"))(p, 20, CLIENT_BLOCK, "hook.c", 4);
    CHECK(call_count == 2 && calls[0].operation == 1 && calls[0].size == 10);
    CHECK(calls[0].type == CLIENT_BLOCK && calls[0].request == request && calls[0].line == 3);
    CHECK(calls[1].operation == 2 && calls[1].p == p && calls[1].size == 20);
    CHECK(calls[1].request == request + 1 && mi_str_eq(calls[1].file, "hook.c"));
    hush();
    refused = 3;
    drop(q);
    CHECK(calls[2].operation == 3 && calls[2].p == q && calls[2].type == CLIENT_BLOCK);
    CHECK(is_valid(q) && heard("Client hook free failure") == 1);
    refused = 2;
    CHECK(((realloc_dbg_t)fn("_realloc_dbg"))(q, 30, CLIENT_BLOCK, "hook.c", 5) == NULL);
    CHECK(is_valid(q) && ((size_t(*)(void *))fn("_msize"))(q) == 20);
    refused = 1;
    CHECK(make_dbg(10, NORMAL_BLOCK, "hook.c", 6) == NULL);
    CHECK(heard("Client hook allocation failure at file hook.c line 6.\n") == 1);
    refused = 0;
    drop(q);
    CHECK(set(before) == on_alloc && call_count == 6);
}

static volatile LONG breaks;

static LONG CALLBACK on_exception(EXCEPTION_POINTERS *e) {
    if (e->ExceptionRecord->ExceptionCode != (DWORD)EXCEPTION_BREAKPOINT)
        return EXCEPTION_CONTINUE_SEARCH;
    breaks++;
#if MI_ARCH_X64
    e->ContextRecord->Rip++;
#elif MI_ARCH_X86
    e->ContextRecord->Eip++;
#endif
    return EXCEPTION_CONTINUE_EXECUTION;
}

static void test_break(void) {
    long (*const set)(long) = (long (*)(long))fn("_CrtSetBreakAlloc");
    long request = 0;
    void *p = make(1);
    CHECK(find_block(p, 1, &request, NULL, NULL));
    void *handler = AddVectoredExceptionHandler(1, on_exception);
    CHECK(set(request + 2) == -1);
    void *q = make(1);
    CHECK(breaks == 0);
    void *r = make(1);
    CHECK(breaks == 1 && r != NULL);
    CHECK(set(-1) == request + 2);
    RemoveVectoredExceptionHandler(handler);
    drop(p);
    drop(q);
    drop(r);
}

static unsigned dumped, visited;

static void on_dump(void *p, size_t size) {
    CHECK(*(uint8_t *)p == 0xCD && size == 15);
    dumped++;
}

static void on_client(void *p, void *arg) {
    CHECK(arg == &visited && is_valid(p));
    visited++;
    drop(p); // a program may do that
}

static void *to_go; // by the next dump of a client block

static void drop_other(void *p, size_t size) {
    (void)p;
    (void)size;
    drop(to_go);
    to_go = NULL;
}

static void test_clients(void) {
    void *(*const set)(void *) = (void *(*)(void *))fn("_CrtSetDumpClient");
    const mem_state_t before = state_now();
    (void)make_dbg(15, CLIENT_BLOCK | (2 << 16), "client.c", 1);
    (void)make_dbg(15, CLIENT_BLOCK, "client.c", 2);
    void *p = make_dbg(15, NORMAL_BLOCK, "client.c", 3);
    (void)set((void *)(uintptr_t)on_dump);
    dump_since(&before);
    CHECK(dumped == 2 && heard("client.c(1) : {") == 1 &&
          heard(", subtype 2, 15 bytes long.\n") == 1);
    CHECK(heard(" Data: <") == 1); // of the normal block
    // What goes while the dump is under way is not read any more.
    const mem_state_t later = state_now();
    to_go = make_dbg(15, NORMAL_BLOCK, "gone.c", 1);
    (void)make_dbg(15, CLIENT_BLOCK, "client.c", 4); // the newest comes first
    (void)set((void *)(uintptr_t)drop_other);
    dump_since(&later);
    CHECK(to_go == NULL && heard("client.c(4) : {") == 1 && heard("gone.c") == 0);
    (void)set(NULL);
    ((void (*)(void (*)(void *, void *), void *))fn("_CrtDoForAllClientObjects"))(on_client,
                                                                                  &visited);
    CHECK(visited == 3);
    drop(p);
}

// Threads that make, free and ask at the same time.
static DWORD WINAPI busy(void *arg) {
    uint64_t x = (uintptr_t)arg * 77 + 1;
    void *held[32] = {0};
    for (unsigned i = 0; i < 3000; i++) {
        x = x * 6364136223846793005u + 1;
        const unsigned k = (unsigned)(x >> 40) % 32;
        drop(held[k]);
        held[k] = make_dbg((size_t)(x >> 33) % 500, NORMAL_BLOCK, "busy.c", (int)i);
        if (i % 100 == 0) {
            CHECK(ask("_CrtCheckMemory") == 1);
            CHECK(state_now().counts[NORMAL_BLOCK] <= 6 * 33);
        }
    }
    for (unsigned k = 0; k < 32; k++)
        drop(held[k]);
    return 0;
}

static void test_threads(void) {
    HANDLE threads[6];
    const mem_state_t before = state_now();
    for (unsigned i = 0; i < 6; i++)
        threads[i] = CreateThread(NULL, 0, busy, (void *)(uintptr_t)(i + 1), 0, NULL);
    WaitForMultipleObjects(6, threads, TRUE, INFINITE);
    const mem_state_t after = state_now();
    CHECK(after.counts[NORMAL_BLOCK] == before.counts[NORMAL_BLOCK]);
    CHECK(after.sizes[NORMAL_BLOCK] == before.sizes[NORMAL_BLOCK]);
}

// ---- the release allocator ----

static void test_without_heap(void) {
    const mem_state_t before = state_now();
    void *p = make_dbg(50, CLIENT_BLOCK, "x.c", 1), *q = make(60);
    CHECK(is_ours(p) && is_ours(q) && is_valid(p));
    CHECK(find_block(p, 50, NULL, NULL, NULL) && type_of(p) == NORMAL_BLOCK);
    CHECK(ask("_CrtCheckMemory") == 1);
    ((void (*)(void *, int))fn("_CrtSetDbgBlockType"))(p, CLIENT_BLOCK);
    p = ((realloc_dbg_t)fn("_realloc_dbg"))(p, 500, CLIENT_BLOCK, "x.c", 2);
    const mem_state_t after = state_now();
    CHECK(after.counts[NORMAL_BLOCK] == before.counts[NORMAL_BLOCK]);
    hush();
    CHECK(ask("_CrtDumpMemoryLeaks") == is_late); // of before
    CHECK(heard(" normal block at 0x") == 0);
    drop(p);
    ((void (*)(void *, int))fn("_free_dbg"))(q, NORMAL_BLOCK);
    if (is_late)
        test_before();
}

static void check_json(HMODULE redirect) {
    static char text[65536];
    size_t (*const status)(char *, size_t, int) =
        (size_t(*)(char *, size_t, int))proc(redirect, "mi_redirect_status");
    CHECK(status(text, sizeof(text), 1) < sizeof(text));
    say_text(text);
}

static void test_with_heap(void) {
    if (is_late)
        test_before();
    test_block();
    test_aligned();
    test_dump();
    test_other_ways();
    test_check();
    test_alloc_hook();
    test_break();
    test_clients();
    test_threads();
    hush();
    ours = make_dbg(11, NORMAL_BLOCK, "last.c", 99);
    CHECK(ask("_CrtDumpMemoryLeaks") == 1);
    CHECK(heard("Detected memory leaks!\n") == 1 && heard("last.c(99) : {") == 1);
    // What was made before is dumped by the original, which is asked first.
    CHECK(heard("original block") == (is_late ? 1 : 0));
    CHECK(heard("Dumping objects ->\n") == (is_late ? 2 : 1));
    if (is_late)
        drop(kept[0]);
}

// ---- between the CRT's mapping and its DllMain ----

typedef struct dll_event_s {
    ULONG flags;
    const void *full_name, *base_name;
    uint8_t *base;
    ULONG image_bytes;
} dll_event_t;
typedef void(CALLBACK *dll_callback_t)(ULONG reason, const dll_event_t *event, void *context);
enum { DLL_LOADED = 1 };

// Another module is told of the CRT after the redirection has been, and uses it at once: nothing
// may be asked of a CRT that has not begun, not even what errno is.
static void CALLBACK on_dll(ULONG reason, const dll_event_t *event, void *context) {
    const HMODULE m = (HMODULE)(void *)event->base;
    if (reason != DLL_LOADED || proc(m, "synth_early_calls") == 0)
        return;
    debug_crt = m;
    void *p = make_dbg(50, CLIENT_BLOCK, "early.c", 1), *q = make(60);
    CHECK(is_ours(p) && is_ours(q));
    p = ((realloc_dbg_t)fn("_realloc_dbg"))(p, 500, CLIENT_BLOCK, "early.c", 2);
    CHECK(is_ours(p) && make(SIZE_MAX / 2) == NULL);
    CHECK(ask("_CrtCheckMemory") == 1);
    (void)ask("_CrtDumpMemoryLeaks");
    drop(p);
    drop(q);
    (*(unsigned *)context)++;
}

static void load_crts(void) {
    static unsigned used_early;
    void *cookie = NULL;
    const HMODULE ntdll = GetModuleHandleA("ntdll.dll");
    LONG(NTAPI * watch)
    (ULONG, dll_callback_t, void *, void **) =
        (LONG(NTAPI *)(ULONG, dll_callback_t, void *, void **))proc(ntdll,
                                                                    "LdrRegisterDllNotification");
    LONG(NTAPI * unwatch)
    (void *) = (LONG(NTAPI *)(void *))proc(ntdll, "LdrUnregisterDllNotification");
    const bool is_new = (GetModuleHandleA(argument(5)) == NULL);
    if (!is_late)
        CHECK(watch(0, on_dll, &used_early, &cookie) >= 0);
    debug_crt = LoadLibraryA(argument(5));
    if (!is_late)
        CHECK(unwatch(cookie) >= 0 && used_early == is_new);
    CHECK(((LONG(*)(void))fn("synth_early_calls"))() == 0);
    release_crt = LoadLibraryA(argument(6));
}

#ifdef DEBUGCRT_IMPORTS
// The debug CRT is initialised behind both halves, by the loader, before any code of ours.
__declspec(dllimport) void *malloc(size_t size);
__declspec(dllimport) void free(void *p);
__declspec(dllimport) bool mi_allocator_init(const char **message);
__declspec(dllimport) int mi_version(void);
static void *volatile imported[4];
#endif

static void use_imports(void) {
#ifdef DEBUGCRT_IMPORTS
    imported[0] = (void *)(uintptr_t)malloc;
    imported[1] = (void *)(uintptr_t)free;
    imported[2] = (void *)(uintptr_t)mi_allocator_init;
    imported[3] = (void *)(uintptr_t)mi_version;
    CHECK(GetModuleHandleA(argument(3)) != NULL && GetModuleHandleA(argument(4)) != NULL &&
          GetModuleHandleA(argument(5)) != NULL);
#endif
}

void mainCRTStartup(void) {
    HMODULE redirect = NULL, allocator = NULL;
    use_imports();
    is_late = mi_str_eq(argument(1), "late");
    has_heap = mi_str_eq(argument(2), "debug");
    for (unsigned round = 0; round < 2; round++) {
        if ((round == 0) == is_late) {
            load_crts();
            if (is_late)
                make_before();
        } else {
            redirect = LoadLibraryA(argument(3));
            allocator = LoadLibraryA(argument(4));
            is_ours = (bool (*)(const void *))proc(allocator, "mi_is_in_heap_region");
            if (is_ours == NULL)
                is_ours = (bool (*)(const void *))proc(allocator, "standin_is_ours");
        }
    }
    CHECK(redirect != NULL && allocator != NULL && debug_crt != NULL && release_crt != NULL);
    if (wtest_failed > 0)
        finish();
    (void)((report_hook_t(*)(report_hook_t))fn("_CrtSetReportHook"))(listen);
    if (has_heap)
        test_with_heap();
    else
        test_without_heap();
    check_json(redirect);
    // The rest is the CRT's own, at the end of the process.
    (void)((report_hook_t(*)(report_hook_t))fn("_CrtSetReportHook"))(NULL);
    (void)((int (*)(int, int))fn("_CrtSetReportMode"))(0, 1);
    (void)((HANDLE(*)(int, HANDLE))fn("_CrtSetReportFile"))(0, GetStdHandle(STD_OUTPUT_HANDLE));
    set_flag(ALLOC_MEM | LEAK_CHECK);
    finish();
}
