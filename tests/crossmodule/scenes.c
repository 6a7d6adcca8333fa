#include "scenes.h"

#include <errno.h>
#include <string.h>
#include <windows.h>

#include "check.h"

static const size_t sizes[] = {1, 8, 24, 100, 513, 1000, 4096, 20000, 70000, 200000, 1200000};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

bool xm_may_cross(const xm_cast_t *cast, const xm_module_t *a, const xm_module_t *b) {
    return cast->is_mixed || strcmp(a->crt, b->crt) == 0;
}

void xm_scene_pairs(const xm_cast_t *cast) {
    for (int a = 0; a < cast->count; a++) {
        for (int b = 0; b < cast->count; b++) {
            const xm_module_t *maker = cast->modules[a], *ender = cast->modules[b];
            if (!xm_may_cross(cast, maker, ender)) {
                continue;
            }
            for (int kind = 0; kind < XM_KINDS; kind++) {
                if (!xm_can_end((xm_kind_t)kind, ender)) {
                    continue;
                }
                // Every fate for every size would take minutes; each pair gets each size, and the
                // fates rotate so that all combinations occur over the pairs.
                for (size_t i = 0; i < SIZES; i++) {
                    xm_fate_t fate = (xm_fate_t)((i + (size_t)(a + b + kind)) % XM_FATES);
                    xm_block_t x = xm_block_make(maker, (xm_kind_t)kind, sizes[i], cast->owner);
                    xm_block_end(&x, ender, fate, cast->owner);
                }
            }
        }
    }
}

// ---- threads that die
// -----------------------------------------------------------------------------------

#define DYING_THREADS 8
#define DYING_BLOCKS  120
#define DYING_ROUNDS  12

typedef struct dying_s {
    const xm_cast_t *cast;
    xm_block_t blocks[DYING_BLOCKS];
    int number; // which module it starts with
    bool is_end;
} dying_t;

static DWORD WINAPI dying_thread(LPVOID argument) {
    dying_t *d = argument;
    const xm_cast_t *cast = d->cast;
    for (int i = 0; i < DYING_BLOCKS; i++) {
        const xm_module_t *m = cast->modules[(d->number + i) % cast->count];
        uint32_t random = xm_mix((uint32_t)(d->number * 1000 + i));
        if (d->is_end) {
            // Blocks that this CRT must not touch are ended by their maker, but from this other
            // thread.
            xm_block_t *b = &d->blocks[i];
            const xm_module_t *by = b->maker;
            if (xm_may_cross(cast, by, m) && xm_can_end(b->kind, m)) {
                by = m;
            }
            xm_block_end(b, by, (xm_fate_t)(random % XM_FATES), cast->owner);
        } else {
            d->blocks[i] = xm_block_make(m, (xm_kind_t)(random % XM_KINDS),
                                         sizes[random / XM_KINDS % 8], cast->owner);
        }
    }
    return 0;
}

static void run_threads(dying_t *d, bool is_end, int shift) {
    HANDLE threads[DYING_THREADS] = {NULL};
    for (int i = 0; i < DYING_THREADS; i++) {
        d[i].is_end = is_end;
        d[i].number = i + shift;
        threads[i] = CreateThread(NULL, 0, dying_thread, &d[i], 0, NULL);
        CHECK(threads[i] != NULL);
    }
    WaitForMultipleObjects(DYING_THREADS, threads, TRUE, INFINITE);
    for (int i = 0; i < DYING_THREADS; i++) {
        CloseHandle(threads[i]);
    }
}

void xm_scene_dying_threads(const xm_cast_t *cast) {
    static dying_t d[DYING_THREADS];
    for (int i = 0; i < DYING_THREADS; i++) {
        d[i].cast = cast;
    }
    for (int round = 0; round < DYING_ROUNDS; round++) {
        run_threads(d, false, round);
        run_threads(d, true, round * 3 + 1);
    }
}

// ---- pipes
// ----------------------------------------------------------------------------------------------

#define PIPE_SLOTS  64
#define PIPE_BLOCKS 4000

typedef struct pipe_s {
    const xm_module_t *maker;
    const xm_module_t *ender;
    void *volatile slots[PIPE_SLOTS]; // exchanged by interlocked operations
    xm_owner_t owner;
} pipe_t;

static DWORD WINAPI pipe_maker(LPVOID argument) {
    pipe_t *pipe = argument;
    for (uint32_t i = 0; i < PIPE_BLOCKS; i++) {
        size_t bytes = sizeof(uint32_t) + xm_mix(i) % 500;
        unsigned char *p = pipe->maker->alloc(bytes);
        CHECK(p != NULL);
        memset(p, (int)(i & 255), bytes);
        memcpy(p, &i, sizeof(i));
        while (InterlockedCompareExchangePointer(&pipe->slots[i % PIPE_SLOTS], p, NULL) != NULL) {
            SwitchToThread();
        }
    }
    return 0;
}

static DWORD WINAPI pipe_ender(LPVOID argument) {
    pipe_t *pipe = argument;
    for (uint32_t i = 0; i < PIPE_BLOCKS; i++) {
        unsigned char *p;
        while ((p = InterlockedExchangePointer(&pipe->slots[i % PIPE_SLOTS], NULL)) == NULL) {
            SwitchToThread();
        }
        size_t bytes = sizeof(uint32_t) + xm_mix(i) % 500;
        uint32_t number;
        memcpy(&number, p, sizeof(number));
        bool is_good = number == i;
        for (size_t k = sizeof(number); k < bytes; k++) {
            is_good = is_good && p[k] == (unsigned char)(i & 255);
        }
        CHECK_MSG(is_good, "block %u from %s to %s", i, pipe->maker->name, pipe->ender->name);
        if (pipe->owner != XM_OWNER_UNKNOWN) {
            CHECK(xm_is_in_heap(p) == (pipe->owner == XM_OWNER_OURS));
        }
        pipe->ender->release(p);
    }
    return 0;
}

void xm_scene_pipes(const xm_cast_t *cast) {
    static pipe_t pipes[16];
    HANDLE threads[32] = {NULL};
    int n = 0;
    for (int i = 0; i < cast->count; i++) {
        int j = i;
        do { // the next module whose CRT may end this one's blocks
            j = (j + 1) % cast->count;
        } while (!xm_may_cross(cast, cast->modules[i], cast->modules[j]));
        pipes[i] =
            (pipe_t){.maker = cast->modules[i], .ender = cast->modules[j], .owner = cast->owner};
        threads[n++] = CreateThread(NULL, 0, pipe_maker, &pipes[i], 0, NULL);
        threads[n++] = CreateThread(NULL, 0, pipe_ender, &pipes[i], 0, NULL);
    }
    WaitForMultipleObjects((DWORD)n, threads, TRUE, INFINITE);
    while (n > 0) {
        CloseHandle(threads[--n]);
    }
}

// ---- a DLL that comes and goes
// --------------------------------------------------------------------------

// All private memory of the process, in bytes.
static size_t committed_bytes(void) {
    size_t sum = 0;
    MEMORY_BASIC_INFORMATION info;
    for (char *p = NULL; VirtualQuery(p, &info, sizeof(info)) != 0; p += info.RegionSize) {
        if (info.State == MEM_COMMIT && info.Type == MEM_PRIVATE) {
            sum += info.RegionSize;
        }
    }
    return sum;
}

void xm_scene_churn(const xm_cast_t *cast, const char *dll, const char *function, int times) {
    size_t before = 0;
    for (int i = 0; i < times; i++) {
        HMODULE handle = LoadLibraryA(dll);
        CHECK_MSG(handle != NULL, "%s, load %d", dll, i);
        if (handle == NULL) {
            return;
        }
        xm_module_fn get = (xm_module_fn)(void (*)(void))GetProcAddress(handle, function);
        xm_module_t m =
            *get(); // a copy without pointers into the DLL, for the time after it has gone
        m.name = dll;
        m.crt = strcmp(m.crt, "msvcrt") == 0 ? "msvcrt" : "ucrtbase";
        const xm_module_t *ender = cast->modules[i % cast->count];
        if (!xm_may_cross(cast, &m, ender)) {
            ender = cast->modules[(i + 1) % cast->count];
        }
        xm_block_t b =
            xm_block_make(&m, i % 2 ? XM_MALLOC : XM_STRDUP, sizes[(size_t)i % 8], cast->owner);
        void *early = m.take_dllmain_block();
        CHECK(early != NULL);
        CHECK(FreeLibrary(handle));
        CHECK_MSG(GetModuleHandleA(dll) == NULL, "%s is still loaded, load %d", dll, i);
        if (xm_may_cross(cast, &m, ender)) {
            xm_block_end(&b, ender, (xm_fate_t)(i % XM_FATES), cast->owner);
            CHECK(((unsigned char *)early)[5] == xm_early_byte(5));
            ender->release(early);
        }
        if (i == times / 10) {
            before = committed_bytes();
        }
    }
    size_t after = committed_bytes();
    CHECK_MSG(after < before + (8u << 20), "%s: %zu bytes committed, then %zu", dll, before, after);
}

void xm_scene_impossible(const xm_cast_t *cast) {
    for (int i = 0; i < cast->count; i++) {
        const xm_module_t *m = cast->modules[i];
        CHECK_MSG(m->alloc((size_t)-100) == NULL, "%s", m->name);
        CHECK_MSG(m->zalloc((size_t)-1 / 4, 8) == NULL, "%s", m->name);
        unsigned char *p = m->alloc(100);
        memset(p, 77, 100);
        CHECK_MSG(m->resize(p, (size_t)-100) == NULL, "%s", m->name);
        CHECK(p[0] == 77 && p[99] == 77);
        m->release(p);
        m->release(NULL);
        if (m->new_nothrow != NULL) {
            CHECK_MSG(m->new_nothrow(SIZE_MAX / 2) == NULL, "%s", m->name);
        }
    }
}

// ---- traffic
// --------------------------------------------------------------------------------------------

#define TRAFFIC_THREADS 6
#define TRAFFIC_LIVE    50

typedef struct lane_s {
    xm_traffic_t *traffic;
    const xm_module_t *module;
    HANDLE thread;
    uint32_t number;
} lane_t;

struct xm_traffic_s {
    lane_t lanes[TRAFFIC_THREADS];
    volatile LONG is_over;
    volatile LONG rounds; // of all threads together
};

static DWORD WINAPI lane_run(LPVOID argument) {
    lane_t *lane = argument;
    xm_block_t live[TRAFFIC_LIVE];
    memset(live, 0, sizeof(live));
    for (uint32_t i = 0; !lane->traffic->is_over; i++) {
        uint32_t random = xm_mix(i + lane->number * 1000003u);
        xm_block_t *b = &live[random % TRAFFIC_LIVE];
        xm_block_end(b, lane->module, (xm_fate_t)(random / 64 % XM_FATES), XM_OWNER_UNKNOWN);
        xm_kind_t kind = (xm_kind_t)(random / 1024 % XM_FULLPATH);
        *b = xm_block_make(lane->module, kind, 1 + random / 4096 % 3000, XM_OWNER_UNKNOWN);
        InterlockedIncrement(&lane->traffic->rounds);
    }
    for (int i = 0; i < TRAFFIC_LIVE; i++) {
        xm_block_end(&live[i], lane->module, XM_MEASURE, XM_OWNER_UNKNOWN);
    }
    return 0;
}

xm_traffic_t *xm_traffic_start(const xm_cast_t *cast) {
    static xm_traffic_t traffic;
    memset(&traffic, 0, sizeof(traffic));
    for (int i = 0; i < TRAFFIC_THREADS; i++) {
        lane_t *lane = &traffic.lanes[i];
        *lane = (lane_t){
            .traffic = &traffic, .module = cast->modules[i % cast->count], .number = (uint32_t)i};
        lane->thread = CreateThread(NULL, 0, lane_run, lane, 0, NULL);
        CHECK(lane->thread != NULL);
    }
    while (traffic.rounds < 1000) {
        SwitchToThread();
    }
    return &traffic;
}

void xm_traffic_stop(xm_traffic_t *traffic) {
    LONG now = traffic->rounds;
    while (traffic->rounds < now + 1000) { // it goes on after whatever happened meanwhile
        SwitchToThread();
    }
    InterlockedExchange(&traffic->is_over, 1);
    for (int i = 0; i < TRAFFIC_THREADS; i++) {
        WaitForSingleObject(traffic->lanes[i].thread, INFINITE);
        CloseHandle(traffic->lanes[i].thread);
    }
}
