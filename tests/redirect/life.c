// Odd lives: fibers that move between threads and threads that end inside a fiber, FLS callbacks
// that allocate and free when their thread has already been told to detach, DLLs that do so in
// DLL_THREAD_DETACH after the allocator's own, threads that are killed, and a CRT that goes and
// comes back at another address while its blocks are held; in between another CRT ends some.
//
//   life redirect.dll allocator.dll rounds threads crt.dll
//   life redirect.dll allocator.dll rounds reload crt.dll other-crt.dll
#include "base/atomic.h"
#include "mimalloc-stats.h"
#include "wtest.h"

enum { FIBERS = 6, KEPT = 40 };

static const char *crt_name;
static void *(*make)(size_t);
static void *(*resize)(void *, size_t);
static void (*drop)(void *);
static size_t (*measure)(void *);
static bool (*is_ours)(const void *);
static bool (*get_stats)(mi_stats_t *);

static void find(HMODULE crt) {
    make = (void *(*)(size_t))proc(crt, "malloc");
    resize = (void *(*)(void *, size_t))proc(crt, "realloc");
    drop = (void (*)(void *))proc(crt, "free");
    measure = (size_t(*)(void *))proc(crt, "_msize");
}

static void *filled(size_t size, uint8_t value) {
    uint8_t *p = (uint8_t *)make(size);
    CHECK(p != NULL && is_ours(p));
    if (p != NULL)
        memset(p, value, size);
    return p;
}

static bool is_filled(const uint8_t *p, size_t size, uint8_t value) {
    for (size_t i = 0; i < size; i++)
        if (p[i] != value)
            return false;
    return true;
}

// ---- fibers ----

typedef struct fiber_s {
    void *self;
    void *back; // whom it goes on to
    void *held[KEPT];
    unsigned turn;
} fiber_t;
static fiber_t fibers[FIBERS];

// Each turn frees what the turn before left, in whatever thread that was, and leaves something.
static void WINAPI fiber_life(void *arg) {
    fiber_t *f = (fiber_t *)arg;
    for (;;) {
        const uint8_t old = (uint8_t)f->turn, now = (uint8_t)++f->turn;
        for (unsigned i = 0; i < KEPT; i++) {
            if (f->held[i] != NULL) {
                CHECK(is_filled((uint8_t *)f->held[i], 30 + i * 70, old));
                drop(f->held[i]);
            }
            f->held[i] = filled(30 + i * 70, now);
        }
        SwitchToFiber(f->back);
    }
}

static DWORD WINAPI run_fibers(void *arg) {
    void *own = ConvertThreadToFiber(NULL);
    CHECK(own != NULL);
    void *p = filled(500, 7);
    for (unsigned i = 0; i < FIBERS; i++) {
        fibers[i].back = own;
        SwitchToFiber(fibers[i].self);
    }
    CHECK(is_filled((uint8_t *)p, 500, 7));
    drop(p);
    (void)arg;
    return 0;
}

// The thread ends while it runs a fiber: its detach happens there.
static void *volatile left_behind;
static void WINAPI end_in_fiber(void *arg) {
    left_behind = filled(2000, 9);
    (void)arg;
    ExitThread(5);
}

static DWORD WINAPI end_inside(void *arg) {
    (void)ConvertThreadToFiber(NULL);
    drop(filled(100, 1));
    SwitchToFiber(CreateFiber(0, end_in_fiber, arg));
    return 0;
}

// ---- FLS ----

static DWORD fls;
static volatile LONG fls_calls, fls_bad;

static void WINAPI on_fls(void *p) {
    if (!is_filled((uint8_t *)p, 300, 3))
        InterlockedIncrement(&fls_bad);
    void *more = make(4000);
    if (more == NULL || !is_ours(more))
        InterlockedIncrement(&fls_bad);
    drop(p);
    drop(more);
    InterlockedIncrement(&fls_calls);
}

static DWORD WINAPI with_fls(void *arg) {
    FlsSetValue(fls, filled(300, 3));
    for (unsigned i = 0; i < 50; i++)
        drop(filled(10 + i, 2));
    (void)arg;
    return 0;
}

// ---- killed ----

static HANDLE is_waiting;
static DWORD WINAPI be_killed(void *arg) {
    for (unsigned i = 0; i < 30; i++)
        drop(filled((size_t)20 << (i % 14), 4));
    SetEvent(is_waiting);
    WaitForSingleObject(GetCurrentThread(), INFINITE);
    return *(DWORD *)arg;
}

static void kill_one(void) {
    const HANDLE thread = CreateThread(NULL, 0, be_killed, NULL, 0, NULL);
    WaitForSingleObject(is_waiting, INFINITE);
    TerminateThread(thread, 1);
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

static DWORD in_thread(LPTHREAD_START_ROUTINE run) {
    DWORD code = 0;
    const HANDLE thread = CreateThread(NULL, 0, run, NULL, 0, NULL);
    WaitForSingleObject(thread, INFINITE);
    GetExitCodeThread(thread, &code);
    CloseHandle(thread);
    return code;
}

// Thread heaps that have a thread, as the allocator believes.
static int64_t thread_heaps(void) {
    static mi_stats_t stats;
    stats.size = sizeof(stats);
    stats.version = MI_STAT_VERSION;
    CHECK(get_stats != NULL && get_stats(&stats));
    return stats.threads.current;
}

static void threads_and_fibers(unsigned rounds) {
    fls = FlsAlloc(on_fls);
    is_waiting = CreateEventA(NULL, FALSE, FALSE, NULL);
    CHECK(fls != FLS_OUT_OF_INDEXES);
    for (unsigned i = 0; i < FIBERS; i++)
        fibers[i].self = CreateFiber(0, fiber_life, &fibers[i]);
    for (unsigned r = 0; r < rounds; r++) {
        CHECK(in_thread(run_fibers) == 0);
        CHECK(in_thread(end_inside) == 5);
        CHECK(is_filled((uint8_t *)left_behind, 2000, 9));
        drop(left_behind);
        CHECK(in_thread(with_fls) == 0);
        kill_one();
    }
    // Three threads of a round allocate after the allocator was told of their end, one is killed:
    // without looking for them each would leave a thread heap with its pages behind.
    const long long left = thread_heaps();
    say("%u rounds: %lld thread heaps believe that they have a thread\n", rounds, left);
    CHECK(left < 80 && rounds >= 60);
    CHECK(fls_calls == (LONG)rounds && fls_bad == 0);
    for (unsigned i = 0; i < FIBERS; i++) {
        CHECK(fibers[i].turn == rounds);
        for (unsigned k = 0; k < KEPT; k++)
            drop(fibers[i].held[k]);
        DeleteFiber(fibers[i].self);
    }
}

// ---- the CRT comes back elsewhere ----

// Made by the CRT before the redirection.
static void *theirs[KEPT];
static HANDLE their_heap;

static void make_theirs(void) {
    const HMODULE crt = GetModuleHandleA(crt_name);
    const uintptr_t heap = proc(crt, "_get_heap_handle");
    CHECK(heap != 0);
    their_heap = (HANDLE)((intptr_t(*)(void))heap)();
    for (unsigned i = 0; i < KEPT; i++) {
        theirs[i] = make(20 + i * 90);
        memset(theirs[i], (int)i, 20 + i * 90);
    }
}

static bool is_heap(HANDLE heap) {
    HANDLE heaps[64];
    const DWORD count = GetProcessHeaps(64, heaps);
    for (DWORD i = 0; i < count && i < 64; i++)
        if (heaps[i] == heap)
            return true;
    return false;
}

// The CRT has gone for the first time: its own blocks come to another one. Some CRTs destroy their
// heap when they go, then nobody knows the blocks any more.
static void end_theirs(HMODULE other) {
    const bool is_there = is_heap(their_heap);
    say("the CRT's heap is %s\n", is_there ? "still there" : "gone with it");
    find(other);
    for (unsigned i = 0; i < KEPT; i++) {
        const size_t size = 20 + i * 90;
        uint8_t *p = (uint8_t *)theirs[i];
        if (!is_there) {
            CHECK(measure(p) == (size_t)-1 && resize(p, 10) == NULL);
            drop(p);
            continue;
        }
        CHECK(measure(p) == size && is_filled(p, size, (uint8_t)i));
        p = (uint8_t *)(i % 2 == 0 ? resize(p, 2 * size) : p);
        CHECK(is_filled(p, size, (uint8_t)i) && is_ours(p) == (i % 2 == 0));
        drop(p);
    }
}

// Ours, made through the CRT that is gone.
static void pass_on(void **held, HMODULE other, unsigned round) {
    find(other);
    for (unsigned i = round % 3; i < KEPT; i += 3) {
        const size_t size = 20 + i * 90;
        uint8_t *p = (uint8_t *)held[i];
        CHECK(measure(p) == size && is_filled(p, size, (uint8_t)i));
        if (i % 2 == 0) {
            held[i] = p = (uint8_t *)resize(p, size);
            CHECK(is_ours(p) && is_filled(p, size, (uint8_t)i));
        } else {
            drop(p);
            held[i] = filled(size, (uint8_t)i);
        }
    }
}

static void come_back(unsigned rounds) {
    const HMODULE other = LoadLibraryA(argument(6));
    void *held[KEPT];
    CHECK(other != NULL);
    void *blocked = NULL;
    unsigned moves = 0;
    for (unsigned i = 0; i < KEPT; i++)
        held[i] = filled(20 + i * 90, (uint8_t)i);
    for (unsigned r = 0; r < rounds; r++) {
        HMODULE crt = GetModuleHandleA(crt_name);
        const uintptr_t was = (uintptr_t)crt;
        while (FreeLibrary(crt) && GetModuleHandleA(crt_name) != NULL) {
        }
        CHECK(GetModuleHandleA(crt_name) == NULL);
        if (r == 0)
            end_theirs(other);
        pass_on(held, other, r);
        if (blocked != NULL)
            VirtualFree(blocked, 0, MEM_RELEASE);
        blocked = VirtualAlloc((void *)was, 65536, MEM_RESERVE, PAGE_NOACCESS);
        crt = LoadLibraryA(crt_name);
        CHECK(crt != NULL);
        if (crt == NULL)
            return;
        moves += ((uintptr_t)crt != was);
        find(crt);
        for (unsigned i = 0; i < KEPT; i++) {
            uint8_t *p = (uint8_t *)held[i];
            CHECK(is_filled(p, 20 + i * 90, (uint8_t)i) && measure(p) == 20 + i * 90);
            if (i % 2 == 0) {
                held[i] = resize(p, 20 + i * 90);
            } else {
                drop(p);
                held[i] = filled(20 + i * 90, (uint8_t)i);
            }
        }
    }
    for (unsigned i = 0; i < KEPT; i++)
        drop(held[i]);
    say("the CRT came back %u times, %u times at another address\n", rounds, moves);
    CHECK(moves == rounds);
}

void mainCRTStartup(void) {
    unsigned rounds = 0;
    for (const char *digit = argument(3); *digit != 0; digit++)
        rounds = rounds * 10 + (unsigned)(*digit - '0');
    const bool is_reload = mi_str_eq(argument(4), "reload");
    crt_name = argument(5);
    find(LoadLibraryA(crt_name));
    if (is_reload)
        make_theirs();
    else
        (void)LoadLibraryA("late.dll"); // told of the end of each thread after the allocator
    const HMODULE redirect = LoadLibraryA(argument(1)), allocator = LoadLibraryA(argument(2));
    is_ours = (bool (*)(const void *))proc(allocator, "mi_is_in_heap_region");
    get_stats = (bool (*)(mi_stats_t *))proc(allocator, "mi_stats_get");
    CHECK(redirect != NULL && is_ours != NULL && rounds > 0);
    if (is_reload) {
        come_back(rounds);
        finish();
    }
    threads_and_fibers(rounds);
    const HMODULE late = GetModuleHandleA("late.dll");
    LONG (*const ends)(void) = (LONG(*)(void))proc(late, "late_thread_ends");
    CHECK(ends != NULL && ends() == (LONG)(3 * rounds));
    finish();
}
