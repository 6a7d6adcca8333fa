// Installing while the program runs: sixteen threads allocate, resize and free through a CRT, hand
// blocks to each other, while the redirection is installed, paused and resumed again and again; and
// CRTs come and go.
//
//   storm install redirect.dll allocator.dll rounds crt.dll ...
//   storm come-and-go redirect.dll allocator.dll rounds crt.dll ...
#include "wtest.h"

enum { THREADS = 16, SLOTS = 512, CRTS_MAX = 8 };

typedef struct crt_s {
    void *(*make)(size_t);
    void *(*zeroed)(size_t, size_t);
    void *(*resize)(void *, size_t);
    void (*drop)(void *);
    size_t (*size)(void *);
} crt_t;

static crt_t crts[CRTS_MAX];
static unsigned crt_count;
static uint8_t *volatile slots[SLOTS]; // blocks on their way from thread to thread; the first 8
                                       // bytes tell the size
static volatile LONG is_over;
static volatile LONG rounds_done[THREADS];
// Whether b may end what a made while none is redirected: the two share a heap. Afterwards every
// CRT may.
static bool may_cross[CRTS_MAX][CRTS_MAX];
static volatile LONG is_installed;
static volatile LONG bad;
static volatile LONG lost; // blocks that could not be resized

static bool (*is_ours_fn)(const void *); // of the allocator, once it is loaded

static bool is_ours(const void *p) {
    return is_ours_fn != NULL && is_ours_fn(p);
}

static bool load_crt(crt_t *crt, const char *name) {
    const HMODULE m = LoadLibraryA(name);
    if (m == NULL)
        return false;
    crt->make = (void *(*)(size_t))proc(m, "malloc");
    crt->zeroed = (void *(*)(size_t, size_t))proc(m, "calloc");
    crt->resize = (void *(*)(void *, size_t))proc(m, "realloc");
    crt->drop = (void (*)(void *))proc(m, "free");
    crt->size = (size_t(*)(void *))proc(m, "_msize");
    return crt->make != NULL;
}

// The first word: the size, and above it who made the block.
static void mark(uint8_t *p, uint32_t size, const crt_t *crt) {
    const uint32_t word = size | (uint32_t)(crt - crts) << 24;
    *(uint32_t *)(void *)p = word;
    *(uint32_t *)(void *)(p + 4) = ~word;
    p[size - 1] = (uint8_t)size;
}

static void verify(const uint8_t *p, const crt_t *crt) {
    const uint32_t word = *(const uint32_t *)(const void *)p;
    const uint32_t size = word & 0xFFFFFF;
    const size_t measured = crt->size((void *)(uintptr_t)p); // -1: a heap that does not know it
    const bool is_good =
        (*(const uint32_t *)(const void *)(p + 4) == ~word && size >= 8 && size < 100000 &&
         (size == 8 || p[size - 1] == (uint8_t)size) && measured >= size && measured < 200000);
    if (!is_good)
        InterlockedIncrement(&bad);
}

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static DWORD WINAPI worker(void *arg) {
    const unsigned self = (unsigned)(uintptr_t)arg;
    uint32_t state = self * 7919 + 1;
    while (!is_over) {
        const crt_t *crt = &crts[next_random(&state) % crt_count];
        uint32_t size = 9 + next_random(&state) % 3000;
        uint8_t *p =
            (uint8_t *)(next_random(&state) % 4 == 0 ? crt->zeroed(1, size) : crt->make(size));
        if (p == NULL) {
            InterlockedIncrement(&bad);
            break;
        }
        mark(p, size, crt);
        if (next_random(&state) % 4 == 0) {
            uint8_t *q = (uint8_t *)crt->resize(p, size + 500);
            if (q == NULL) {
                const DWORD error = GetLastError();
                InterlockedIncrement(&lost);
                say("lost: crt %u, %u bytes at %p, _msize %zu, error %lu, %s\n",
                    (unsigned)(crt - crts), (unsigned)size, (void *)p, crt->size(p), error,
                    is_ours(p) ? "ours" : "theirs");
                break;
            }
            p = q;
            verify(p, crt);
            size += 500;
            mark(p, size, crt);
        }
        p = (uint8_t *)InterlockedExchangePointer(
            (void *volatile *)&slots[next_random(&state) % SLOTS], p);
        if (p != NULL) {
            // Made by any CRT, by any thread, before or after.
            const unsigned maker = *(const uint32_t *)(const void *)p >> 24;
            const crt_t *other = &crts[next_random(&state) % crt_count];
            if (maker < crt_count && !is_installed && !may_cross[maker][other - crts])
                other = &crts[maker];
            verify(p, other);
            other->drop(p);
        }
        rounds_done[self]++;
        if (next_random(&state) % 64 == 0)
            SwitchToThread(); // two processors, sixteen threads and one that installs
    }
    return 0;
}

static LONG total_rounds(void) {
    LONG sum = 0;
    for (unsigned i = 0; i < THREADS; i++)
        sum += rounds_done[i];
    return sum;
}

// Until the threads have got on by so many rounds.
static void let_work(LONG rounds) {
    const LONG goal = total_rounds() + rounds;
    while (total_rounds() - goal < 0 && bad + lost == 0)
        SwitchToThread();
}

static unsigned number(const char *text) {
    unsigned n = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        n = n * 10 + (unsigned)(*text - '0');
    return n;
}

static void find_shared_heaps(void) {
    for (unsigned a = 0; a < crt_count; a++)
        for (unsigned b = 0; b < crt_count; b++) {
            void *p = crts[a].make(50);
            may_cross[a][b] = (crts[b].size(p) == 50);
            crts[a].drop(p);
        }
}

static void install_under_load(unsigned rounds) {
    HANDLE threads[THREADS];
    for (unsigned i = 5; *argument(i) != 0 && crt_count < CRTS_MAX; i++)
        CHECK_AT(load_crt(&crts[crt_count++], argument(i)), argument(i));
    find_shared_heaps();
    for (unsigned i = 0; i < THREADS; i++)
        threads[i] = CreateThread(NULL, 0, worker, (void *)(uintptr_t)i, 0, NULL);
    let_work(2000);
    const HMODULE allocator = LoadLibraryA(argument(3)), redirect = LoadLibraryA(argument(2));
    is_installed = 1;
    void (*const enable)(void) = (void (*)(void))proc(redirect, "mi_redirect_enable");
    void (*const disable)(void) = (void (*)(void))proc(redirect, "mi_redirect_disable");
    is_ours_fn = (bool (*)(const void *))proc(allocator, "standin_is_ours");
    CHECK(enable != NULL && disable != NULL && is_ours_fn != NULL);
    for (unsigned i = 0; i < rounds && wtest_failed == 0 && bad + lost == 0; i++) {
        let_work(50);
        for (unsigned c = 0; c < crt_count; c++) {
            void *p = crts[c].make(50);
            CHECK(is_ours(p));
            crts[c].drop(p);
        }
        disable();
        let_work(50);
        for (unsigned c = 0; c < crt_count; c++) {
            void *p = crts[c].make(50);
            CHECK(!is_ours(p));
            crts[c].drop(p);
        }
        enable();
    }
    is_over = 1;
    WaitForMultipleObjects(THREADS, threads, TRUE, INFINITE);
    say("%ld rounds by %d threads, %ld bad, %ld lost\n", total_rounds(), (int)THREADS, bad, lost);
    CHECK(bad == 0);
    CHECK(lost == 0);
    if (bad != 0 || lost != 0) {
        static char text[16384];
        ((size_t(*)(char *, size_t, int))proc(redirect, "mi_redirect_status"))(text, sizeof(text),
                                                                               0);
        say_text(text);
    }
}

static void come_and_go(unsigned rounds) {
    const HMODULE allocator = LoadLibraryA(argument(3)), redirect = LoadLibraryA(argument(2));
    is_ours_fn = (bool (*)(const void *))proc(allocator, "standin_is_ours");
    CHECK(redirect != NULL && is_ours_fn != NULL);
    for (unsigned i = 0; i < rounds && wtest_failed == 0; i++) {
        for (unsigned k = 5; *argument(k) != 0; k++) {
            crt_t crt;
            CHECK_AT(load_crt(&crt, argument(k)), argument(k));
            uint8_t *p = (uint8_t *)crt.make(100);
            CHECK_AT(is_ours(p), argument(k));
            crt.drop(p);
            CHECK(FreeLibrary(GetModuleHandleA(argument(k))));
        }
    }
}

void mainCRTStartup(void) {
    const char *mode = argument(1);
    if (mi_str_eq(mode, "install"))
        install_under_load(number(argument(4)));
    else if (mi_str_eq(mode, "come-and-go"))
        come_and_go(number(argument(4)));
    finish();
}
