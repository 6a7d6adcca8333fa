// A process whose TLS slots are used up before our DLLs come. The first 64 of a thread lie in its
// TEB; the allocator's slot is then one of the 1024 that lie elsewhere and appear when a thread
// first writes one. When those are taken, too, there is none for it at all: slower, but it works.
//
//   far redirect.dll allocator.dll crt.dll 64|all      how many slots are taken: 64, or all
#include "wtest.h"

enum { THREADS = 8, ROUNDS = 60, KEPT = 200 };

static void *(*make)(size_t);
static void *(*resize)(void *, size_t);
static void (*drop)(void *);
static bool (*is_ours)(const void *);
static void *volatile left[THREADS][KEPT];

static size_t bytes_of(unsigned i) {
    return 1 + (i * 37) % 3000;
}

// Frees what the thread before it left, and leaves something itself.
static DWORD WINAPI come_and_go(void *arg) {
    void *volatile *const mine = left[(uintptr_t)arg];
    for (unsigned i = 0; i < KEPT; i++) {
        uint8_t *p = (uint8_t *)mine[i];
        if (p != NULL)
            CHECK(pattern_is(p, bytes_of(i), bytes_of(i)));
        drop(p);
        p = (uint8_t *)make(bytes_of(i) / 2 + 1);
        CHECK(p != NULL && is_ours(p));
        p = (uint8_t *)resize(p, bytes_of(i));
        CHECK(p != NULL && is_ours(p));
        pattern_fill(p, bytes_of(i));
        mine[i] = p;
    }
    for (unsigned i = 0; i < KEPT; i++)
        CHECK(pattern_is((const uint8_t *)mine[i], bytes_of(i), bytes_of(i)));
    return 0;
}

static void one_round(void) {
    HANDLE threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = CreateThread(NULL, 0, come_and_go, (void *)i, 0, NULL);
    (void)WaitForMultipleObjects(THREADS, threads, TRUE, INFINITE);
    for (unsigned i = 0; i < THREADS; i++)
        CloseHandle(threads[i]);
}

// Takes slots until so many are taken, or none is left.
static DWORD take_slots(DWORD count) {
    DWORD taken = 0;
    while (taken < count && TlsAlloc() != TLS_OUT_OF_INDEXES)
        taken++;
    return taken;
}

void mainCRTStartup(void) {
    const HMODULE crt = LoadLibraryA(argument(3));
    CHECK(crt != NULL);
    const bool is_all = mi_str_eq(argument(4), "all");
    const DWORD taken = take_slots(is_all ? 2000 : 64);
    CHECK(is_all ? taken > 900 && TlsAlloc() == TLS_OUT_OF_INDEXES : taken == 64);
    CHECK(LoadLibraryA(argument(1)) != NULL);
    const HMODULE allocator = LoadLibraryA(argument(2));
    CHECK(allocator != NULL);
    make = (void *(*)(size_t))proc(crt, "malloc");
    resize = (void *(*)(void *, size_t))proc(crt, "realloc");
    drop = (void (*)(void *))proc(crt, "free");
    is_ours = (bool (*)(const void *))proc(allocator, "mi_is_in_heap_region");
    void (*const info)(size_t *, size_t *, size_t *, size_t *, size_t *, size_t *, size_t *,
                       size_t *) =
        (void (*)(size_t *, size_t *, size_t *, size_t *, size_t *, size_t *, size_t *,
                  size_t *))proc(allocator, "mi_process_info");
    size_t commit = 0;
    for (unsigned i = 0; i < ROUNDS; i++)
        one_round();
    info(NULL, NULL, NULL, NULL, NULL, &commit, NULL, NULL);
    say("commit: %zu\n", commit);
    CHECK(commit > 0 && commit < 64u << 20); // 2.4 MB are held
    finish();
}
