// _heapwalk, _heapchk and _heapmin while the heap changes: blocks that are held all the time are
// found once by each walk, blocks that were freed are not found, by whichever thread; walks of two
// threads do not disturb each other; damage is seen, and nothing else is called damage.
//
//   survey.exe mimalloc-redirect.dll mimalloc.dll rounds pads|links CRT ...
//   survey.exe mimalloc-redirect.dll standin-survey.dll contract CRT    what the allocator is
//   promised
#include "base/atomic.h"
#include "wtest.h"

enum { HELD = 300, CHURNERS = 4, SLOTS = 64, OK = -2, BAD_NODE = -4, END = -5 };

typedef struct heap_info_s {
    int *entry;
    size_t size;
    int use;
} heap_info_t;

static struct {
    const char *name;
    void *(*make)(size_t);
    void (*drop)(void *);
    size_t (*measure)(void *);
    int (*check)(void);
    int (*shrink)(void);
    int (*walk)(heap_info_t *);
    bool (*is_ours)(const void *);
} crt;

static void *held[HELD];
static size_t held_size[HELD];
static void *_Atomic gone[HELD]; // freed by other threads
static volatile LONG must_stop;
static LONG churned;

static size_t size_of(unsigned i) {
    static const size_t sizes[] = {1, 16, 40, 100, 700, 2040, 5000, 33000, 300000, 1500000};
    return sizes[i % 10] + i / 10;
}

static DWORD WINAPI churn(void *arg) {
    void *slots[SLOTS] = {NULL};
    uint32_t state = (uint32_t)(uintptr_t)arg;
    LONG turns = 0;
    while (must_stop == 0) {
        state = state * 1664525u + 1013904223u;
        void **slot = &slots[(state >> 8) % SLOTS];
        crt.drop(*slot);
        const size_t size = (state >> 24) < 250 ? (state >> 16) % 900 : (state >> 12) % 400000;
        *slot = crt.make(size);
        // Also frees blocks of the main thread, and leaves the slot.
        if ((state >> 20) % 16 == 0)
            crt.drop(mi_exchange_acq_rel(&gone[(state >> 4) % HELD], NULL));
        turns++;
    }
    for (unsigned i = 0; i < SLOTS; i++)
        crt.drop(slots[i]);
    InterlockedExchangeAdd(&churned, turns);
    return 0;
}

// A walk; counts how often each held block is met. Addresses of ours go upwards.
static void walk_once(unsigned *found) {
    heap_info_t info = {NULL, 0, 0};
    uintptr_t last = 0;
    int status = OK;
    unsigned steps = 0;
    for (unsigned i = 0; i < HELD; i++)
        found[i] = 0;
    while (steps++ < 10000000 && (status = crt.walk(&info)) == OK) {
        if (last != 0)
            CHECK_AT((uintptr_t)info.entry > last, crt.name);
        if (last == 0 && !crt.is_ours(info.entry))
            continue;
        last = (uintptr_t)info.entry;
        for (unsigned i = 0; i < HELD; i++)
            if (info.entry == held[i]) {
                found[i]++;
                CHECK_AT(info.use == 1 && info.size == held_size[i], crt.name);
            }
    }
    CHECK_AT(status == END, crt.name);
}

static void check_found(const unsigned *found) {
    unsigned right = 0;
    for (unsigned i = 0; i < HELD; i++)
        right += (found[i] == 1);
    CHECK_AT(right == HELD, crt.name);
}

static DWORD WINAPI walker(void *arg) {
    unsigned found[HELD];
    for (unsigned rounds = (unsigned)(uintptr_t)arg; rounds > 0; rounds--) {
        walk_once(found);
        check_found(found);
    }
    return 0;
}

static bool does_walk_find(const void *p) {
    heap_info_t info = {NULL, 0, 0};
    while (crt.walk(&info) == OK)
        if (info.entry == p)
            return true;
    return false;
}

static DWORD WINAPI drop_it(void *p) {
    crt.drop(p);
    return 0;
}

// A thread that frees blocks and stays, so that it may keep some and hold others back.
enum { HELD_BACK = 61 };
static HANDLE dropped, may_end;
static DWORD WINAPI drop_and_stay(void *blocks) {
    void *own = crt.make(10);
    for (unsigned i = 0; i < HELD_BACK; i++)
        crt.drop(((void **)blocks)[i]);
    SetEvent(dropped);
    WaitForSingleObject(may_end, INFINITE);
    crt.drop(own);
    return 0;
}

static void held_back(void) {
    void *blocks[HELD_BACK];
    for (unsigned i = 0; i < HELD_BACK; i++)
        blocks[i] = crt.make(77);
    dropped = CreateEventA(NULL, FALSE, FALSE, NULL);
    may_end = CreateEventA(NULL, FALSE, FALSE, NULL);
    const HANDLE thread = CreateThread(NULL, 0, drop_and_stay, (void *)blocks, 0, NULL);
    WaitForSingleObject(dropped, INFINITE);
    for (unsigned i = 0; i < HELD_BACK; i++)
        CHECK_AT(!does_walk_find(blocks[i]), crt.name);
    SetEvent(may_end);
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
    CloseHandle(dropped);
    CloseHandle(may_end);
}

// Blocks with reservations of their own, made and freed so that no list has them by address.
static void reservations(void) {
    const size_t bytes = (sizeof(void *) == 8 ? (size_t)300 << 20 : (size_t)24 << 20);
    void *p[4];
    for (unsigned i = 0; i < 4; i++)
        p[i] = crt.make(bytes);
    crt.drop(p[1]);
    p[1] = crt.make(bytes);
    unsigned found = 0;
    uintptr_t last = 0;
    heap_info_t info = {NULL, 0, 0};
    while (crt.walk(&info) == OK) {
        for (unsigned i = 0; i < 4; i++)
            found += (info.entry == p[i]);
        if (!crt.is_ours(info.entry))
            continue;
        CHECK_AT((uintptr_t)info.entry > last, crt.name);
        last = (uintptr_t)info.entry;
    }
    CHECK_AT(found == 4, crt.name);
    for (unsigned i = 0; i < 4; i++)
        crt.drop(p[i]);
}

// _heapmin gives memory back to the system at once.
static void shrinks(void) {
    MEMORY_BASIC_INFORMATION info;
    uint8_t *p = (uint8_t *)crt.make(30000000);
    for (size_t i = 0; i < 30000000; i += 4096)
        p[i] = 1;
    crt.drop(p);
    (void)crt.shrink(); // Wine's own part says that it cannot
    CHECK_AT(VirtualQuery(p + 10000000, &info, sizeof(info)) != 0 && info.State != MEM_COMMIT,
             crt.name);
}

static void in_thread(LPTHREAD_START_ROUTINE run, void *arg) {
    const HANDLE thread = CreateThread(NULL, 0, run, arg, 0, NULL);
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

static void *made_elsewhere;
static DWORD WINAPI make_it(void *size) {
    made_elsewhere = crt.make((size_t)size);
    return 0;
}

// One thread at a time: exact answers.
static void exact(void) {
    void *p = crt.make(77), *kept = crt.make(77);
    CHECK_AT(does_walk_find(p) && crt.check() == OK, crt.name);
    crt.drop(p);
    CHECK_AT(!does_walk_find(p) && does_walk_find(kept), crt.name);
    in_thread(drop_it, kept);
    CHECK_AT(!does_walk_find(kept), crt.name);
    held_back();
    in_thread(make_it, (void *)123); // a block of a thread that has ended
    CHECK_AT(does_walk_find(made_elsewhere), crt.name);
    p = made_elsewhere;
    crt.drop(p);
    CHECK_AT(!does_walk_find(p), crt.name);
    // The step after a block that has gone, of a page that has gone.
    void *big[3] = {crt.make(9000000), crt.make(9000000), crt.make(9000000)};
    heap_info_t info = {NULL, 0, 0};
    int status;
    while ((status = crt.walk(&info)) == OK && info.entry != big[0] && info.entry != big[1] &&
           info.entry != big[2]) {
    }
    CHECK_AT(status == OK, crt.name);
    const heap_info_t at_first = info;
    for (unsigned i = 0; i < 3; i++)
        crt.drop(big[i]);
    (void)crt.shrink();
    unsigned steps = 0;
    while ((status = crt.walk(&info)) == OK)
        CHECK_AT((uintptr_t)info.entry > (uintptr_t)at_first.entry && ++steps < 100000, crt.name);
    CHECK_AT(status == END, crt.name);
}

// A free block's link is overwritten, or the byte behind a live block in the build that has pads.
static void damage(bool has_pads) {
    uint8_t *block[3];
    for (unsigned i = 0; i < 3; i++)
        block[i] = (uint8_t *)crt.make(48);
    CHECK_AT(crt.check() == OK, crt.name);
    if (has_pads) {
        const uint8_t was = block[1][48];
        block[1][48] = (uint8_t)~was;
        CHECK_AT(crt.check() == BAD_NODE, crt.name);
        block[1][48] = was;
    } else {
        crt.drop(block[1]);
        uintptr_t was;
        memcpy(&was, block[1], sizeof(was));
        const uintptr_t wild = (uintptr_t)block + 1;
        memcpy(block[1], &wild, sizeof(wild));
        CHECK_AT(crt.check() == BAD_NODE, crt.name);
        memcpy(block[1], &was, sizeof(was));
        block[1] = NULL;
    }
    CHECK_AT(crt.check() == OK, crt.name);
    for (unsigned i = 0; i < 3; i++)
        crt.drop(block[i]);
}

static void storm(unsigned rounds) {
    HANDLE threads[CHURNERS + 1];
    unsigned found[HELD];
    must_stop = 0;
    churned = 0;
    for (unsigned i = 0; i < CHURNERS; i++)
        threads[i] = CreateThread(NULL, 0, churn, (void *)(uintptr_t)(i + 1), 0, NULL);
    threads[CHURNERS] = CreateThread(NULL, 0, walker, (void *)(uintptr_t)rounds, 0, NULL);
    for (unsigned r = 0; r < rounds; r++) {
        for (unsigned i = r % 3; i < HELD; i += 3)
            crt.drop(mi_exchange_acq_rel(&gone[i], crt.make(size_of(i) / 4)));
        walk_once(found);
        check_found(found);
        CHECK_AT(crt.check() == OK, crt.name);
        if (r % 4 == 0)
            (void)crt.shrink();
    }
    WaitForSingleObject(threads[CHURNERS], INFINITE);
    must_stop = 1;
    WaitForMultipleObjects(CHURNERS, threads, TRUE, INFINITE);
    for (unsigned i = 0; i < CHURNERS + 1; i++)
        CloseHandle(threads[i]);
    for (unsigned i = 0; i < HELD; i++)
        crt.drop(mi_exchange_acq_rel(&gone[i], NULL));
    CHECK_AT(churned > 0, crt.name);
    say("%s: %u walks by each of two threads, %ld turns of %d others\n", crt.name, rounds, churned,
        CHURNERS);
}

static unsigned number(const char *text) {
    unsigned n = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        n = n * 10 + (unsigned)(*text - '0');
    return n;
}

static bool use(HMODULE allocator, const char *name) {
    const HMODULE m = LoadLibraryA(name);
    crt.name = name;
    crt.make = (void *(*)(size_t))proc(m, "malloc");
    crt.drop = (void (*)(void *))proc(m, "free");
    crt.measure = (size_t(*)(void *))proc(m, "_msize");
    crt.check = (int (*)(void))proc(m, "_heapchk");
    crt.shrink = (int (*)(void))proc(m, "_heapmin");
    crt.walk = (int (*)(heap_info_t *))proc(m, "_heapwalk");
    crt.is_ours = (bool (*)(const void *))proc(allocator, "mi_is_in_heap_region");
    if (crt.is_ours == NULL)
        crt.is_ours = (bool (*)(const void *))proc(allocator, "standin_is_ours");
    return crt.make != NULL && crt.check != NULL && crt.shrink != NULL && crt.walk != NULL &&
           crt.is_ours != NULL;
}

// ---- against the stand-in ----

static volatile LONG counter;
static DWORD WINAPI count_on(void *arg) {
    while (must_stop == 0)
        counter++;
    (void)arg;
    return 0;
}

static void contract(HMODULE allocator) {
    enum { LEFT = 5500, BUSY_CALLS = 3 };
    void (*const survey)(volatile LONG *, LONG) =
        (void (*)(volatile LONG *, LONG))proc(allocator, "standin_survey");
    void (*const surveyed)(LONG *, LONG *, LONG *) =
        (void (*)(LONG *, LONG *, LONG *))proc(allocator, "standin_surveyed");
    HANDLE threads[3];
    LONG calls, moved, collected;
    CHECK(survey != NULL && surveyed != NULL);
    for (unsigned i = 0; i < 3; i++)
        threads[i] = CreateThread(NULL, 0, count_on, NULL, 0, NULL);
    survey(&counter, 0);
    heap_info_t info = {NULL, 0, 0};
    size_t ours = 0;
    uintptr_t last = 0;
    while (crt.walk(&info) == OK) {
        if (!crt.is_ours(info.entry))
            continue;
        CHECK(info.size == ++ours && (uintptr_t)info.entry > last && info.use == 1);
        last = (uintptr_t)info.entry;
    }
    surveyed(&calls, &moved, &collected);
    // Busy calls are repeated; one that had more to say than room, too.
    CHECK(ours == LEFT && calls == BUSY_CALLS + 2 && moved == 0 && collected == 0);
    survey(&counter, 1);
    CHECK(crt.check() == OK);
    survey(&counter, 2);
    CHECK(crt.check() == BAD_NODE);
    surveyed(&calls, &moved, &collected);
    CHECK(moved == 0);
    (void)crt.shrink();
    surveyed(&calls, &moved, &collected);
    CHECK(collected == 1);
    must_stop = 1;
    WaitForMultipleObjects(3, threads, TRUE, INFINITE);
}

void mainCRTStartup(void) {
    const HMODULE redirect = LoadLibraryA(argument(1)), allocator = LoadLibraryA(argument(2));
    const unsigned rounds = number(argument(3));
    const bool has_pads = mi_str_eq(argument(4), "pads");
    CHECK(redirect != NULL && allocator != NULL);
    if (mi_str_eq(argument(3), "contract")) {
        CHECK(use(allocator, argument(4)));
        contract(allocator);
        finish();
    }
    for (unsigned k = 5; *argument(k) != 0; k++) {
        CHECK_AT(use(allocator, argument(k)), argument(k));
        for (unsigned i = 0; i < HELD; i++) {
            held_size[i] = size_of(i);
            held[i] = crt.make(held_size[i]);
            CHECK_AT(held[i] != NULL && crt.is_ours(held[i]), crt.name);
        }
        exact();
        reservations();
        shrinks();
        damage(has_pads);
        storm(rounds);
        for (unsigned i = 0; i < HELD; i++)
            crt.drop(held[i]);
    }
    finish();
}
