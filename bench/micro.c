// Micro benchmarks of malloc and free, whichever allocator the process has: one pattern per run.
//   micro list            the pattern names
//   micro PATTERN [ms] [cpu]  runs it for about ms milliseconds (default 200) and prints
//                         "PATTERN ns-per-operation peak-RSS-KiB operations"; with cpu, the least
//                         user and system time of its trials, which a busy machine disturbs least
//   micro PATTERN ms limit=SECONDS  ends with exit code 3 when it has not finished by then
// An operation is what the pattern's line in the table says, for a pair one malloc and its free.
// Every block is written at its first byte, so that an allocator cannot win by handing out
// untouched memory. The program itself allocates nothing inside the timed part but what it
// measures. Builds for Linux and Windows.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#    include <windows.h>
#    include <malloc.h>
#    include <psapi.h>
#else
#    include <pthread.h>
#    include <sched.h>
#    include <signal.h>
#    include <time.h>
#    include <unistd.h>
#endif

#ifdef MI_BENCH_DIRECT
#    include "mimalloc-override.h" // after the headers that declare what it renames
#endif

// ---------------------------------------------------------------- the two systems
#ifdef _WIN32
typedef HANDLE thread_t;
static DWORD WINAPI thread_main(LPVOID arg);
static double now_ns(void) {
    LARGE_INTEGER f, c;
    QueryPerformanceFrequency(&f);
    QueryPerformanceCounter(&c);
    return (double)c.QuadPart * 1e9 / (double)f.QuadPart;
}
static void thread_yield(void) {
    SwitchToThread();
}
static long peak_rss_kib(void) {
    PROCESS_MEMORY_COUNTERS m;
    return GetProcessMemoryInfo(GetCurrentProcess(), &m, sizeof m)
               ? (long)(m.PeakWorkingSetSize / 1024)
               : 0;
}
static DWORD WINAPI limit_main(LPVOID ms) {
    Sleep((DWORD)(uintptr_t)ms);
    TerminateProcess(GetCurrentProcess(), 3);
    return 0;
}
static void limit_seconds(unsigned seconds) {
    CreateThread(NULL, 0, limit_main, (LPVOID)(uintptr_t)(seconds * 1000), 0, NULL);
}
static void *aligned_alloc_any(size_t align, size_t size) {
    return _aligned_malloc(size, align);
}
static void aligned_free_any(void *p) {
    _aligned_free(p);
}
#else
typedef pthread_t thread_t;
static void *thread_main(void *arg);
static clockid_t clock_used = CLOCK_MONOTONIC;
static double now_ns(void) {
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
static void thread_yield(void) {
    sched_yield();
}
// Not ru_maxrss: that also remembers the process before its exec, often a large Python.
static long peak_rss_kib(void) {
    char line[256];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return kib;
}
static void limit_reached(int number) {
    (void)number;
    _exit(3);
}
static void limit_seconds(unsigned seconds) {
    signal(SIGALRM, limit_reached);
    alarm(seconds);
}
static void *aligned_alloc_any(size_t align, size_t size) {
    return aligned_alloc(align, size);
}
static void aligned_free_any(void *p) {
    free(p);
}
#endif

typedef struct job_s {
    void (*run)(void *);
    void *arg;
} job_t;

static thread_t thread_start(job_t *job) {
    thread_t t;
#ifdef _WIN32
    t = CreateThread(NULL, 0, thread_main, job, 0, NULL);
    if (t == NULL)
        exit(2);
#else
    if (pthread_create(&t, NULL, thread_main, job) != 0)
        exit(2);
#endif
    return t;
}

static void thread_join(thread_t t) {
#ifdef _WIN32
    WaitForSingleObject(t, INFINITE);
    CloseHandle(t);
#else
    pthread_join(t, NULL);
#endif
}

#ifdef _WIN32
static DWORD WINAPI thread_main(LPVOID arg) {
#else
static void *thread_main(void *arg) {
#endif
    job_t *job = arg;
    job->run(job->arg);
    return 0;
}

// ---------------------------------------------------------------- helpers
static uint64_t rng_state = 0x9E3779B97F4A7C15u;
static uint64_t rng_next(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void *get(size_t size) {
    volatile char *p = malloc(size);
    if (p == NULL) {
        fprintf(stderr, "micro: no memory for %zu bytes\n", size);
        exit(2);
    }
    p[0] = 1;
    return (void *)p;
}

#define BATCH 1000
#define SLOTS 100000
static void *slots[SLOTS];
static uint32_t order[BATCH];

static void order_shuffle(void) {
    for (uint32_t i = 0; i < BATCH; i++)
        order[i] = i;
    for (uint32_t i = BATCH - 1; i > 0; i--) {
        const uint32_t j = (uint32_t)(rng_next(&rng_state) % (i + 1)), o = order[i];
        order[i] = order[j];
        order[j] = o;
    }
}

// ---------------------------------------------------------------- single-threaded patterns
// Each runs count operations (about) with its parameter and returns how many it really did.
static size_t run_pair(size_t size, size_t count) {
    for (size_t i = 0; i < count; i++)
        free(get(size));
    return count;
}

// As a pair, while a few other blocks of the size are live.
static size_t run_pair_live(size_t size, size_t count) {
    void *held[8];
    for (int i = 0; i < 8; i++)
        held[i] = get(size);
    for (size_t i = 0; i < count; i++)
        free(get(size));
    for (int i = 0; i < 8; i++)
        free(held[i]);
    return count;
}

typedef enum { LIFO, FIFO, RANDOM } free_order_t;
static size_t run_batch(size_t size, size_t count, free_order_t how) {
    const size_t rounds = (count + BATCH - 1) / BATCH;
    order_shuffle();
    for (size_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < BATCH; i++)
            slots[i] = get(size);
        for (size_t i = 0; i < BATCH; i++)
            free(slots[how == FIFO ? i : how == LIFO ? BATCH - 1 - i : order[i]]);
    }
    return rounds * BATCH;
}
static size_t run_batch_lifo(size_t size, size_t count) {
    return run_batch(size, count, LIFO);
}
static size_t run_batch_fifo(size_t size, size_t count) {
    return run_batch(size, count, FIFO);
}
static size_t run_batch_random(size_t size, size_t count) {
    return run_batch(size, count, RANDOM);
}

static size_t run_calloc(size_t size, size_t count) {
    for (size_t i = 0; i < count; i++) {
        volatile char *p = calloc(1, size);
        p[0] = 1;
        free((void *)p);
    }
    return count;
}

// Grows one block by doubling from 16 bytes to size, writing the new part's first byte; an
// operation is a step.
static size_t run_realloc_double(size_t size, size_t count) {
    size_t done = 0;
    while (done < count) {
        char *p = get(16);
        for (size_t n = 32; n <= size; n *= 2, done++) {
            p = realloc(p, n);
            memset(p + n / 2, 1, n / 2 < 4096 ? n / 2 : 4096);
        }
        free(p);
    }
    return done;
}

static size_t run_realloc_step(size_t size, size_t count) {
    size_t done = 0;
    while (done < count) {
        char *p = get(1024);
        for (size_t n = 2048; n <= size; n += 1024, done++) {
            p = realloc(p, n);
            p[n - 1] = 1;
        }
        free(p);
    }
    return done;
}

static size_t run_realloc_same(size_t size, size_t count) {
    char *p = get(size);
    for (size_t i = 0; i < count; i++) {
        p = realloc(p, size - (i & 1));
        p[0] = 1;
    }
    free(p);
    return count;
}

static size_t run_aligned(size_t align, size_t count) {
    for (size_t i = 0; i < count; i++) {
        volatile char *p = aligned_alloc_any(align, align * (1 + (i & 3)));
        p[0] = 1;
        aligned_free_any((void *)p);
    }
    return count;
}

// 100 000 held blocks of random sizes up to size, one replaced at a time.
static size_t run_held(size_t size, size_t count) {
    uint64_t s = 88172645463325252u;
    const size_t slots_used = (size > 4096 ? 2000 : SLOTS);
    for (size_t i = 0; i < slots_used; i++)
        slots[i] = get(1 + rng_next(&s) % size);
    const double start = now_ns();
    for (size_t i = 0; i < count; i++) {
        const size_t k = (size_t)(rng_next(&s) % slots_used);
        free(slots[k]);
        slots[k] = get(1 + rng_next(&s) % size);
    }
    const double spent = now_ns() - start;
    for (size_t i = 0; i < slots_used; i++)
        free(slots[i]);
    // Filling and emptying are not the operation: report only the middle by scaling the count.
    const double all = now_ns() - start;
    return spent > 0 ? (size_t)((double)count * (all / spent)) : count;
}

// Nine of ten blocks die at once, the tenth stays for long: what fragments an allocator.
static size_t run_lives(size_t size, size_t count) {
    uint64_t s = 2463534242u;
    size_t kept = 0;
    memset(slots, 0, sizeof(slots[0]) * 20000);
    for (size_t i = 0; i < count; i++) {
        void *p = get(1 + rng_next(&s) % size);
        if (i % 10 != 0) {
            free(p);
            continue;
        }
        const size_t k = kept++ % 20000;
        free(slots[k]);
        slots[k] = p;
    }
    for (size_t k = 0; k < 20000; k++)
        free(slots[k]);
    return count;
}

// ---------------------------------------------------------------- several threads
#define RING 1024
typedef struct ring_s {
    void *_Atomic cell[RING];
    size_t size;
    size_t count;
} ring_t;
static ring_t ring;

static void ring_consume(void *arg) {
    ring_t *r = arg;
    for (size_t i = 0; i < r->count; i++) {
        void *p;
        while ((p = __atomic_exchange_n((void **)&r->cell[i % RING], NULL, __ATOMIC_ACQUIRE)) ==
               NULL)
            thread_yield();
        free(p);
    }
}

// One thread allocates, another frees.
static size_t run_prodcons(size_t size, size_t count) {
    ring.size = size;
    ring.count = count;
    job_t job = {ring_consume, &ring};
    const thread_t t = thread_start(&job);
    for (size_t i = 0; i < count; i++) {
        void *p = get(size);
        while (__atomic_load_n((void **)&ring.cell[i % RING], __ATOMIC_RELAXED) != NULL)
            thread_yield();
        __atomic_store_n((void **)&ring.cell[i % RING], p, __ATOMIC_RELEASE);
    }
    thread_join(t);
    return count;
}

static void thread_little(void *arg) {
    void *p[16];
    for (size_t i = 0; i < 16; i++)
        p[i] = get(16 << (i % 8));
    for (size_t i = 0; i < 16; i++)
        free(p[i]);
    (void)arg;
}

// An operation is one thread that starts, allocates 16 blocks, frees them and ends.
static size_t run_threads(size_t size, size_t count) {
    (void)size;
    for (size_t i = 0; i < count; i++) {
        job_t job = {thread_little, NULL};
        thread_join(thread_start(&job));
    }
    return count;
}

typedef struct server_s {
    void **held;
    size_t size;
    size_t count;
    uint64_t seed;
} __attribute__((aligned(128))) server_t; // its seed is on a line that no other thread writes

static void server_round(void *arg) {
    server_t *sv = arg;
    for (size_t i = 0; i < sv->count; i++) {
        const size_t k = (size_t)(rng_next(&sv->seed) % 1000);
        free(sv->held[k]);
        sv->held[k] = get(8 + rng_next(&sv->seed) % sv->size);
    }
}

// Server-like: threads keep 1000 blocks each and hand them all to a fresh thread every 100 000
// operations.
static size_t run_server(size_t threads, size_t size, size_t count) {
    static void *held[64][1000];
    static server_t sv[64];
    job_t job[64];
    thread_t t[64];
    const size_t rounds = (count + 100000 * threads - 1) / (100000 * threads);
    for (size_t k = 0; k < threads; k++) {
        for (size_t i = 0; i < 1000; i++)
            held[k][i] = get(8 + rng_next(&rng_state) % size);
        sv[k] = (server_t){held[k], size, 100000, 88172645463325252u + k};
    }
    for (size_t r = 0; r < rounds; r++) {
        for (size_t k = 0; k < threads; k++) {
            sv[k].held = held[(k + r) % threads];
            job[k] = (job_t){server_round, &sv[k]};
            t[k] = thread_start(&job[k]);
        }
        for (size_t k = 0; k < threads; k++)
            thread_join(t[k]);
    }
    for (size_t k = 0; k < threads; k++)
        for (size_t i = 0; i < 1000; i++)
            free(held[k][i]);
    return rounds * threads * 100000;
}
static size_t run_server1(size_t size, size_t count) {
    return run_server(1, size, count);
}
static size_t run_server2(size_t size, size_t count) {
    return run_server(2, size, count);
}
static size_t run_server64(size_t size, size_t count) {
    return run_server(64, size, count);
}

// ---------------------------------------------------------------- the table
typedef struct pattern_s {
    const char *name;
    size_t (*run)(size_t param, size_t count);
    size_t param;
    size_t least; // operations of the first trial
} pattern_t;

#define K 1024
#define M (1024 * 1024)
static const pattern_t patterns[] = {
    {"pair-16", run_pair, 16, 10000},
    {"pair-64", run_pair, 64, 10000},
    {"pair-256", run_pair, 256, 10000},
    {"pair-1k", run_pair, K, 10000},
    {"pair-8k", run_pair, 8 * K, 10000},
    {"pair-64k", run_pair, 64 * K, 1000},
    {"pair-256k", run_pair, 256 * K, 1000},
    {"pair-1m", run_pair, M, 1000},
    {"pair-4m", run_pair, 4 * M, 1000},
    {"pair-live-16", run_pair_live, 16, 10000},
    {"pair-live-256", run_pair_live, 256, 10000},
    {"pair-live-8k", run_pair_live, 8 * K, 10000},
    {"pair-live-64k", run_pair_live, 64 * K, 1000},
    {"pair-live-1m", run_pair_live, M, 1000},
    {"batch-lifo-16", run_batch_lifo, 16, 10000},
    {"batch-lifo-256", run_batch_lifo, 256, 10000},
    {"batch-lifo-8k", run_batch_lifo, 8 * K, 2000},
    {"batch-fifo-16", run_batch_fifo, 16, 10000},
    {"batch-fifo-64", run_batch_fifo, 64, 10000},
    {"batch-fifo-256", run_batch_fifo, 256, 10000},
    {"batch-fifo-1k", run_batch_fifo, K, 10000},
    {"batch-fifo-8k", run_batch_fifo, 8 * K, 2000},
    {"batch-fifo-64k", run_batch_fifo, 64 * K, 1000},
    {"batch-random-64", run_batch_random, 64, 10000},
    {"batch-random-1k", run_batch_random, K, 10000},
    {"batch-random-8k", run_batch_random, 8 * K, 2000},
    {"batch-random-64k", run_batch_random, 64 * K, 1000},
    {"calloc-64", run_calloc, 64, 10000},
    {"calloc-4k", run_calloc, 4 * K, 1000},
    {"calloc-64k", run_calloc, 64 * K, 500},
    {"calloc-1m", run_calloc, M, 50},
    {"realloc-double-64m", run_realloc_double, 64 * M, 22},
    {"realloc-step-1m", run_realloc_step, M, 1000},
    {"realloc-same-100", run_realloc_same, 100, 10000},
    {"aligned-64", run_aligned, 64, 10000},
    {"aligned-4k", run_aligned, 4 * K, 1000},
    {"held-1k", run_held, K, 200000},
    {"held-200k", run_held, 200 * K, 20000},
    {"lives-256", run_lives, 256, 200000},
    {"lives-4k", run_lives, 4 * K, 200000},
    {"prodcons-64", run_prodcons, 64, 100000},
    {"prodcons-1k", run_prodcons, K, 100000},
    {"threads", run_threads, 0, 100},
    {"server-1", run_server1, 500, 100000},
    {"server-2", run_server2, 500, 200000},
    {"server-64", run_server64, 500, 6400000},
    {"startup", run_pair, 100, 1},
};
#define PATTERNS (sizeof(patterns) / sizeof(patterns[0]))

static int compare_double(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Doubles the count until a trial is long enough, then takes the median of five such trials.
static void measure(const pattern_t *p, double budget_ms, int is_least) {
    double ns[5];
    size_t count = p->least, done = 0, total = 0;
    for (;;) {
        const double start = now_ns();
        done = p->run(p->param, count);
        const double spent = now_ns() - start;
        total += done;
        ns[0] = spent / (double)done;
        if (spent >= budget_ms * 1e6 / 6 || count > (size_t)1 << 31 || p->least == 1)
            break;
        count *= 2;
    }
    // A trial that took as long as all of them may is not repeated.
    const int is_long = (ns[0] * (double)done > budget_ms * 1e6 * 10);
    const int trials = (p->least == 1 ? 1 : is_long ? 0 : 5);
    for (int i = 0; i < trials; i++) {
        const double start = now_ns();
        done = p->run(p->param, count);
        ns[i] = (now_ns() - start) / (double)done;
        total += done;
    }
    if (trials != 0)
        qsort(ns, (size_t)trials, sizeof(ns[0]), compare_double);
    printf("%s %.2f %ld %llu\n", p->name, ns[is_least ? 0 : trials / 2], peak_rss_kib(),
           (unsigned long long)total);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (size_t i = 0; i < PATTERNS; i++)
            puts(patterns[i].name);
        return 0;
    }
    const double budget_ms = (argc > 2 ? atof(argv[2]) : 200);
    // "count PATTERN N" runs exactly N operations, for instruction counting.
    const int is_count = (argc == 4 && strcmp(argv[1], "count") == 0);
    const int is_cpu = (argc == 4 && strcmp(argv[3], "cpu") == 0);
    if (argc == 4 && strncmp(argv[3], "limit=", 6) == 0)
        limit_seconds((unsigned)atoi(argv[3] + 6));
#ifndef _WIN32
    if (is_cpu)
        clock_used = CLOCK_PROCESS_CPUTIME_ID;
#endif
    const char *wanted = (argc < 2 ? "" : is_count ? argv[2] : argv[1]);
    for (size_t i = 0; i < PATTERNS; i++) {
        if (strcmp(patterns[i].name, wanted) != 0)
            continue;
        if (is_count)
            patterns[i].run(patterns[i].param, (size_t)strtoull(argv[3], NULL, 10));
        else
            measure(&patterns[i], budget_ms, is_cpu);
        return 0;
    }
    fprintf(stderr, "usage: micro list | micro PATTERN [milliseconds] [cpu | limit=SECONDS] | "
                    "micro count PATTERN OPERATIONS\n");
    return 2;
}
