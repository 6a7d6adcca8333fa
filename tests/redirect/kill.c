// Threads that die by TerminateThread, and leaving the process after it.
//
//   kill count redirect.dll allocator.dll crt.dll   how many locks the allocator's work meets
//   kill locked N ...     a thread dies inside the N-th lock, then ExitProcess
//   kill random N ...     threads die wherever they stand, N decides when
//   kill changing N ...   a thread dies inside its N-th change of its thread heap: the others never
//                         touch that heap
//   kill outside N ...    N threads die one after the other, each while it holds no lock: the
//                         others get on, and free its blocks
//
// The allocator is the test build that knows its locks (lock_faults.c). late.dll, when it is there,
// allocates and frees in its DllMain when the process ends, after the thread died.
//
// No thread is killed, and the process does not end, while one is still about to begin: that is not
// our code, on Windows it can leave a lock of the loader taken, and on x86 Wine 8 dies of it (a
// SIGSEGV in its handler of SIGQUIT, whose thread has no %gs yet). The control shows it without us:
//
//   kill newborn N        no DLL; N threads die before they begin
#include "wtest.h"

enum { THREADS = 4, SLOTS = 256, HELD = 64 };

static void *(*crt_malloc)(size_t);
static void *(*crt_calloc)(size_t, size_t);
static void *(*crt_realloc)(void *, size_t);
static void (*crt_free)(void *);
static void *(*heap_new)(void);
static void *(*heap_malloc)(void *, size_t);
static void (*heap_delete)(void *);
static void (*heap_destroy)(void *);
static void (*collect)(bool);
static void *(*malloc_aligned)(size_t, size_t);
static LONG (*lock_count)(void);
static void (*lock_arm)(LONG);
static LONG (*lock_is_stuck)(void);
static LONG (*lock_holds)(DWORD);
static void (*change_arm)(LONG);
static LONG (*change_is_frozen)(void);
static LONG (*change_by_others)(void);

static void *volatile slots[SLOTS]; // blocks on their way from thread to thread
static volatile LONG is_over, rounds;
static volatile LONG begun; // threads that have come as far as their first instruction
static volatile LONG victim_rounds;

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static DWORD WINAPI short_life(void *arg) {
    void *mine[8];
    for (unsigned i = 0; i < 8; i++)
        mine[i] = crt_malloc(100u << i);
    for (unsigned i = 1; i < 8; i++)
        crt_free(mine[i]);
    *(void **)arg = mine[0]; // its page is abandoned with a live block
    return 0;
}

static void *take(void *volatile *place) {
    return InterlockedExchangePointer((void **)(uintptr_t)place, NULL);
}

// Everything that takes a lock, in some order. Whoever dies in the middle has in held what others
// may free, and no block twice.
static void step(uint32_t *state, void *volatile *held) {
    const unsigned k = next_random(state) % HELD;
    const unsigned shift = next_random(state) % 24;
    crt_free(take(&held[k]));
    held[k] = crt_malloc(((size_t)1 << shift) + next_random(state) % 100);
    if (held[k] != NULL)
        *(volatile uint8_t *)held[k] = 1;
    void **slot = (void **)(uintptr_t)&slots[next_random(state) % SLOTS];
    crt_free(InterlockedExchangePointer(slot, crt_calloc(1, 1 + next_random(state) % 20000)));
    void *volatile *const other = &held[(k + 1) % HELD];
    *other = crt_realloc(take(other), 1 + next_random(state) % 300000);
    if (next_random(state) % 16 == 0)
        crt_free(malloc_aligned(100000, 1u << (12 + next_random(state) % 8)));
    if (next_random(state) % 16 == 0) {
        void *heap = heap_new();
        for (unsigned i = 0; i < 20; i++)
            (void)heap_malloc(heap, 1000 * i);
        (next_random(state) % 2 == 0 ? heap_delete : heap_destroy)(heap);
    }
    if (next_random(state) % 32 == 0)
        collect(next_random(state) % 2 == 0);
}

static void start_and_end_a_thread(void) {
    void *left = NULL;
    const HANDLE t = CreateThread(NULL, 0, short_life, &left, 0, NULL);
    WaitForSingleObject(t, INFINITE);
    CloseHandle(t);
    crt_free(left);
}

static void wait_until_begun(LONG count) {
    while (begun < count)
        SwitchToThread();
}

static void work(uint32_t seed, void *volatile *held) {
    uint32_t state = seed * 7919 + 1;
    InterlockedIncrement(&begun);
    while (!is_over) {
        step(&state, held);
        InterlockedIncrement(&rounds);
    }
}

static DWORD WINAPI worker(void *arg) {
    void *volatile held[HELD] = {0};
    work((uint32_t)(uintptr_t)arg, held);
    return 0;
}

static void *volatile left_behind[HELD];
static DWORD WINAPI one_of_many(void *arg) {
    work((uint32_t)(uintptr_t)arg, left_behind);
    return 0;
}

static DWORD WINAPI victim(void *arg) {
    uint32_t state = (uint32_t)(uintptr_t)arg;
    void *volatile held[HELD] = {0};
    lock_arm((LONG)(intptr_t)arg);
    for (unsigned i = 0;; i++) {
        step(&state, held);
        if (i % 64 == 0)
            start_and_end_a_thread();
        if (i > 20000)
            return 1; // it never met this lock
        InterlockedIncrement(&victim_rounds);
    }
}

static DWORD WINAPI changing_victim(void *arg) {
    uint32_t state = (uint32_t)(uintptr_t)arg;
    void *volatile held[HELD] = {0};
    for (unsigned i = 0; i < 10; i++)
        step(&state, held);
    change_arm((LONG)(intptr_t)arg);
    for (unsigned i = 0; i < 20000; i++)
        step(&state, held);
    return 1; // it never changed its heap
}

static void find(HMODULE allocator, HMODULE crt) {
    crt_malloc = (void *(*)(size_t))proc(crt, "malloc");
    crt_calloc = (void *(*)(size_t, size_t))proc(crt, "calloc");
    crt_realloc = (void *(*)(void *, size_t))proc(crt, "realloc");
    crt_free = (void (*)(void *))proc(crt, "free");
    heap_new = (void *(*)(void))proc(allocator, "mi_heap_new");
    heap_malloc = (void *(*)(void *, size_t))proc(allocator, "mi_heap_malloc");
    heap_delete = (void (*)(void *))proc(allocator, "mi_heap_delete");
    heap_destroy = (void (*)(void *))proc(allocator, "mi_heap_destroy");
    collect = (void (*)(bool))proc(allocator, "mi_collect");
    malloc_aligned = (void *(*)(size_t, size_t))proc(allocator, "mi_malloc_aligned");
    lock_count = (LONG(*)(void))proc(allocator, "lock_faults_count");
    lock_arm = (void (*)(LONG))proc(allocator, "lock_faults_arm");
    lock_is_stuck = (LONG(*)(void))proc(allocator, "lock_faults_is_stuck");
    lock_holds = (LONG(*)(DWORD))proc(allocator, "lock_faults_holds");
    change_arm = (void (*)(LONG))proc(allocator, "lock_faults_arm_change");
    change_is_frozen = (LONG(*)(void))proc(allocator, "lock_faults_is_frozen");
    change_by_others = (LONG(*)(void))proc(allocator, "lock_faults_changed_by_others");
    if (change_arm == NULL || heap_new == NULL || lock_holds == NULL || malloc_aligned == NULL) {
        say("this is not the test build\n");
        ExitProcess(2);
    }
}

static HANDLE start(LPTHREAD_START_ROUTINE f, uintptr_t arg) {
    return CreateThread(NULL, 0, f, (void *)arg, 0, NULL);
}

static void meet_all_locks(void) {
    uint32_t state = 1;
    void *volatile held[HELD] = {0};
    for (unsigned i = 0; i < 2000; i++)
        step(&state, held);
    start_and_end_a_thread();
}

// Until the thread stands where it is to be killed.
static void wait_until_stuck(HANDLE thread, const char *where, LONG n) {
    DWORD code = STILL_ACTIVE;
    while (!lock_is_stuck() && GetExitCodeThread(thread, &code) && code == STILL_ACTIVE)
        SwitchToThread();
    if (!lock_is_stuck()) {
        say("the thread never came to %s %ld\n", where, n);
        ExitProcess(3);
    }
}

// Does what a victim does first, so that the locks have the same numbers in every run.
static void die_locked(LONG n) {
    meet_all_locks();
    const HANDLE t = start(victim, (uintptr_t)n);
    wait_until_stuck(t, "lock", n);
    for (unsigned i = 0; i < THREADS; i++)
        (void)start(worker, i + 1); // at work when the process ends, or waiting for the lock
    wait_until_begun(THREADS);
    TerminateThread(t, 1);
    WaitForSingleObject(t, INFINITE);
}

// Threads that come later look for the dead when there are many; whatever they adopt, steal or
// collect, this heap is not among it. Its blocks may be freed all the same.
static void die_changing(LONG n) {
    const HANDLE t = start(changing_victim, (uintptr_t)n);
    wait_until_stuck(t, "change", n);
    // While it lives its heap may be told of blocks that others free, and no more.
    TerminateThread(t, 1);
    WaitForSingleObject(t, INFINITE);
    void *volatile held[HELD] = {0};
    uint32_t state = 5;
    for (unsigned round = 0; round < 40 && !change_is_frozen(); round++) {
        HANDLE threads[16];
        begun = is_over = 0;
        for (unsigned i = 0; i < 16; i++)
            threads[i] = start(worker, i + 1);
        wait_until_begun(16);
        is_over = 1;
        WaitForMultipleObjects(16, threads, TRUE, INFINITE);
        for (unsigned i = 0; i < 16; i++)
            CloseHandle(threads[i]);
    }
    for (unsigned i = 0; i < 200; i++)
        step(&state, held);
    for (unsigned i = 0; i < SLOTS; i++)
        crt_free(take(&slots[i]));
    collect(true);
    start_and_end_a_thread();
    if (!change_is_frozen() || change_by_others() != 0) {
        say("the heap that a killed thread left in a change: frozen %ld, changed %ld times\n",
            change_is_frozen(), change_by_others());
        ExitProcess(4);
    }
}

static void die_at_random(unsigned n) {
    HANDLE threads[2 * THREADS];
    for (unsigned i = 0; i < 2 * THREADS; i++)
        threads[i] = start(worker, n * 31 + i + 1);
    wait_until_begun(2 * THREADS);
    while (rounds < (LONG)(100 + n % 400)) // the yields between differ from run to run
        SwitchToThread();
    for (unsigned i = 0; i < THREADS; i++)
        TerminateThread(threads[i], 1);
}

// Each victim is stopped; if it holds no lock of ours it dies, otherwise it goes on a little. The
// others must get on after each death, and threads that come later, too.
static void die_outside(unsigned n) {
    for (unsigned i = 0; i < THREADS; i++)
        (void)start(worker, i + 1);
    for (unsigned k = 0; k < n; k++) {
        DWORD id = 0;
        const HANDLE t = CreateThread(NULL, 0, one_of_many, (void *)(uintptr_t)(100 + k), 0, &id);
        wait_until_begun(THREADS + (LONG)k + 1);
        const LONG begin = rounds;
        while (rounds - begin < (LONG)(20 + k % 50))
            SwitchToThread();
        for (;;) {
            CONTEXT context;
            context.ContextFlags = CONTEXT_CONTROL;
            SuspendThread(t);
            (void)GetThreadContext(t, &context); // now it has really stopped
            if (!lock_holds(id))
                break;
            ResumeThread(t);
            SwitchToThread();
        }
        TerminateThread(t, 1);
        WaitForSingleObject(t, INFINITE);
        CloseHandle(t);
        const LONG then = rounds;
        while (rounds - then < 20)
            SwitchToThread();
        for (unsigned i = 0; i < HELD; i++)
            crt_free(take(&left_behind[i]));
        wtest_passed++;
        if (k % 50 == 49)
            say("%u have died\n", k + 1); // whoever waits for us sees that we get on
    }
    start_and_end_a_thread();
    say("%u threads died outside the locks, the others went on\n", n);
}

// Without the allocator and the redirection: threads that do nothing, killed at once.
static DWORD WINAPI idle(void *arg) {
    (void)arg;
    for (;;)
        SwitchToThread();
}

static void die_newborn(unsigned n) {
    for (unsigned i = 0; i < n; i++)
        TerminateThread(start(idle, i), 1);
}

static unsigned number(const char *text) {
    unsigned n = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        n = n * 10 + (unsigned)(*text - '0');
    return n;
}

void mainCRTStartup(void) {
    const char *mode = argument(1);
    const unsigned n = number(argument(2));
    if (mi_str_eq(mode, "newborn")) {
        die_newborn(n);
        say("leaving\n");
        ExitProcess(0);
    }
    const HMODULE crt = LoadLibraryA(argument(5));
    (void)LoadLibraryA("late.dll");
    (void)LoadLibraryA(argument(3));
    const HMODULE allocator = LoadLibraryA(argument(4));
    if (crt == NULL || allocator == NULL)
        ExitProcess(2);
    find(allocator, crt);
    if (mi_str_eq(mode, "count")) {
        meet_all_locks();
        say("locks: %ld\n", lock_count());
    } else if (mi_str_eq(mode, "locked")) {
        die_locked((LONG)n);
    } else if (mi_str_eq(mode, "changing")) {
        die_changing((LONG)n);
    } else if (mi_str_eq(mode, "random")) {
        die_at_random(n);
    } else if (mi_str_eq(mode, "outside")) {
        die_outside(n);
    }
    say("leaving\n");
    ExitProcess(0);
}
