// The aims that are not a time of a program: memory that comes back, no growth, scaling, cost that
// does not grow with the heap. Run by hand: "suite returns", "suite growth-threads", ... Each
// prints what it measured.
#include "suite.h"

#include <sched.h>
#include <time.h>

static void wait_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

// A peak of 2 GiB in blocks of all sizes is freed; one second later (with a few allocations
// meanwhile) RSS is read.
static void run_returns(int scale) {
    const long start = suite_rss_kib();
    const size_t wanted = (size_t)scale * ((size_t)2 << 30) / 100;
    const size_t most = 4000000;
    void **slot = suite_get(most * sizeof(void *));
    uint64_t s = 77;
    size_t n = 0, bytes = 0;
    while (bytes < wanted && n < most) {
        const size_t size = (n % 100 == 0 ? 60000 : 16 + (size_t)suite_random(&s) % 1000);
        slot[n++] = suite_get_filled(size);
        bytes += size;
    }
    const long peak = suite_rss_kib();
    for (size_t i = 0; i < n; i++)
        free(slot[i]);
    free(slot);
    for (int i = 0; i < 100; i++) {
        wait_ms(10);
        for (int k = 0; k < 50; k++)
            free(suite_get(64 + (size_t)k * 100));
    }
    printf("returns: start %ld KiB, peak %ld KiB, a second after the free %ld KiB\n", start, peak,
           suite_rss_kib());
}

static void *growth_thread(void *arg) {
    (void)arg;
    void *p[100];
    for (int i = 0; i < 100; i++)
        p[i] = suite_get(16 + (size_t)i * 40);
    for (int i = 0; i < 100; i++)
        free(p[i]);
    return NULL;
}

// 10 000 threads come and go, eight at a time.
static void run_growth_threads(int scale) {
    char arg[8];
    for (int i = 0; i < 25; i++)
        suite_parallel(8, growth_thread, arg, 1);
    const long start = suite_rss_kib();
    for (int i = 0; i < scale * 100 / 8; i++)
        suite_parallel(8, growth_thread, arg, 1);
    printf("growth-threads: after 200 threads %ld KiB, after %d more %ld KiB\n", start, scale * 100,
           suite_rss_kib());
}

enum { RING = 4096 };
static void *_Atomic ring[RING];
static double ring_until;

static void *ring_consume(void *arg) {
    (void)arg;
    for (size_t i = 0;; i = (i + 1) % RING) {
        void *p;
        while ((p = __atomic_exchange_n((void **)&ring[i], NULL, __ATOMIC_ACQUIRE)) == NULL)
            sched_yield();
        if (p == (void *)ring)
            return NULL;
        free(p);
    }
}

static void *ring_produce(void *arg) {
    (void)arg;
    uint64_t s = 5;
    size_t i = 0, made = 0;
    long first = 0;
    double next = suite_now() + 2;
    for (int is_last = 0; !is_last; i = (i + 1) % RING, made++) {
        if (made % 65536 == 0 && suite_now() > next) {
            first = (first == 0 ? suite_rss_kib() : first);
            is_last = suite_now() > ring_until;
            next = suite_now() + 1;
        }
        void *p = is_last ? (void *)ring : suite_get(suite_size(&s, 16, 4000));
        while (__atomic_load_n((void **)&ring[i], __ATOMIC_RELAXED) != NULL)
            sched_yield();
        __atomic_store_n((void **)&ring[i], p, __ATOMIC_RELEASE);
    }
    printf("growth-ring: after 2 seconds %ld KiB, at the end %ld KiB, %zu blocks\n", first,
           suite_rss_kib(), made);
    return NULL;
}

static void *ring_run(void *arg) {
    return *(int *)arg == 0 ? ring_produce(arg) : ring_consume(arg);
}

// A producer and a consumer, for a minute.
static void run_growth_ring(int scale) {
    int arg[2] = {0, 1};
    ring_until = suite_now() + scale * 0.6;
    suite_parallel(2, ring_run, arg, sizeof(arg[0]));
}

// Server-like work on 1, 2 and 64 threads: operations a second.
typedef struct scale_job_s {
    void *held[1000];
    int count;
    uint64_t seed;
} SUITE_APART scale_job_t;

static void *scale_run(void *arg) {
    scale_job_t *j = arg;
    for (int i = 0; i < j->count; i++) {
        const size_t k = (size_t)suite_random(&j->seed) % 1000;
        free(j->held[k]);
        j->held[k] = suite_get(8 + (size_t)suite_random(&j->seed) % 500);
    }
    for (int k = 0; k < 1000; k++) {
        free(j->held[k]);
        j->held[k] = NULL;
    }
    return NULL;
}

static double scale_measure(int threads, int total) {
    static scale_job_t job[64];
    for (int i = 0; i < threads; i++) {
        job[i].count = total / threads;
        job[i].seed = 88172645463325252u + (uint64_t)i;
    }
    const double start = suite_now();
    suite_parallel(threads, scale_run, job, sizeof(job[0]));
    return total / (suite_now() - start) / 1e6;
}

static int scale_compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Medians: on Zen 1 a round now and then does 1.6 times as much as those before and after it, with
// one thread or with two, under tcmalloc in every third.
static void run_scaling(int scale) {
    enum { ROUNDS = 5 };
    double speed[3][ROUNDS];
    const int threads[3] = {1, 2, 64};
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < 3; i++)
            speed[i][round] = scale_measure(threads[i], scale * 200000 * (i == 0 ? 1 : 2));
    for (int i = 0; i < 3; i++)
        qsort(speed[i], ROUNDS, sizeof(speed[i][0]), scale_compare);
    const double one = speed[0][ROUNDS / 2], two = speed[1][ROUNDS / 2];
    const double many = speed[2][ROUNDS / 2];
    printf("scaling: million operations a second, medians of five: 1 thread %.1f, 2 threads %.1f "
           "(%.2f), 64 threads %.1f (%.2f of 2)\n",
           one, two, two / one, many, many / two);
}

// The cost of an operation while the heap holds more and more: pairs and replacements beside idle
// memory.
static void run_heap_size(int scale) {
    size_t held = 0;
    uint64_t s = 3;
    const size_t top = (size_t)scale * ((size_t)8 << 30) / 100;
    for (size_t size = (size_t)1 << 20; size <= top;
         size = (size * 8 > top && size < top ? top : size * 8)) {
        while (held < size) { // never freed; of each only the first byte is touched
            const uint64_t r = suite_random(&s);
            const size_t step = (r % 10 == 0 ? 60000 : 100 + (size_t)(r >> 8) % 5000);
            held += step;
            suite_get(step);
        }
        double best = 1e9;
        for (int round = 0; round < 5; round++) {
            static void *slot[1000];
            const double start = suite_now();
            for (int i = 0; i < 1000000; i++) {
                const size_t k = (size_t)suite_random(&s) % 1000;
                free(slot[k]);
                slot[k] = suite_get(8 + (size_t)suite_random(&s) % 500);
            }
            const double ns = (suite_now() - start) * 1e3;
            best = ns < best ? ns : best;
        }
        printf("heap-size: %zu MiB held, %.1f ns an operation, RSS %ld MiB\n", size >> 20, best,
               suite_rss_kib() / 1024);
    }
}

// ---- nothing: the process alone, what no allocator can save
static void run_nothing(int scale) {
    (void)scale;
}

const suite_program_t suite_limits[] = {{"nothing", run_nothing},
                                        {"returns", run_returns},
                                        {"growth-threads", run_growth_threads},
                                        {"growth-ring", run_growth_ring},
                                        {"scaling", run_scaling},
                                        {"heap-size", run_heap_size},
                                        {NULL, NULL}};
