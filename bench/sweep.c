// Patterns of malloc and free over a grid of sizes and counts, some 750 of them, whichever
// allocator the process has: what a benchmark of chosen points does not show lies between them.
//   sweep list                    the pattern names, KIND-LOW-HIGH-COUNT-VARIANT
//   sweep PATTERN [ms] [cpu]      runs one for about ms milliseconds (default 25) and prints
//                                 "PATTERN ns-per-operation peak-RSS-KiB operations", of processor
//                                 time: the least of five trials
// Sizes are drawn from LOW to HIGH, each octave as likely as any other; COUNT blocks are live at
// most, or at all times. KIND:
//   batch   all are allocated, then freed: VARIANT 0 last first, 1 first first, 2 at random
//   held    one of them, at random, is replaced at a time         calloc  the same by calloc
//   queue   the oldest is replaced                                rerand  one is resized
//   phase   half of them are replaced by blocks of one size, then of another
//   grow    all grow in turn from LOW to HIGH: by VARIANT percent, or if it is 1, by HIGH / 200
//   cross   another thread frees them
// The first byte of a block is written; all of it where an f is in front of the KIND.
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DRAWN = 65536, STEPS = 200, RING = 1024, TRIALS = 5 };

static size_t low, high, count, variant;
static bool fills;
static uint32_t drawn[DRAWN]; // sizes, so that no time is spent on drawing them
static unsigned drawn_at;
static void **block;
static uint32_t *order;
static uint64_t state = 88172645463325252u;

static uint32_t random_bits(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static size_t random_below(size_t limit) {
    return (size_t)(((uint64_t)random_bits() * limit) >> 32);
}

// From LOW to HIGH: the octave first, then linearly in it.
static uint32_t draw(void) {
    unsigned octaves = 0;
    while (low << (octaves + 1) <= high)
        octaves++;
    const size_t base = low << random_below(octaves + 1);
    const size_t last = (2 * base - 1 < high ? 2 * base - 1 : high);
    return (uint32_t)(base + random_below(last - base + 1));
}

static size_t next_size(void) {
    return drawn[drawn_at++ % DRAWN];
}

static void *get(size_t size) {
    uint8_t *const p = malloc(size);
    if (p == NULL)
        abort();
    if (fills)
        memset(p, 1, size);
    else
        p[0] = 1;
    return p;
}

static size_t run_batch(void) {
    for (size_t i = 0; i < count; i++)
        block[i] = get(next_size());
    for (size_t i = 0; i < count; i++)
        free(block[variant == 0 ? count - 1 - i : variant == 1 ? i : order[i]]);
    return count;
}

static size_t run_held(void) {
    for (int step = 0; step < STEPS; step++) {
        const size_t i = random_below(count);
        free(block[i]);
        block[i] = get(next_size());
    }
    return STEPS;
}

static size_t run_queue(void) {
    static size_t at;
    for (int step = 0; step < STEPS; step++) {
        free(block[at]);
        block[at] = get(next_size());
        at = (at + 1 == count ? 0 : at + 1);
    }
    return STEPS;
}

static size_t run_calloc(void) {
    for (int step = 0; step < STEPS / 4; step++) {
        const size_t i = random_below(count);
        free(block[i]);
        uint8_t *const p = calloc(1, next_size());
        p[0] = 1;
        block[i] = p;
    }
    return STEPS / 4;
}

static size_t run_rerand(void) {
    for (int step = 0; step < STEPS / 2; step++) {
        const size_t i = random_below(count);
        uint8_t *const p = realloc(block[i], next_size());
        p[0] = 1;
        block[i] = p;
    }
    return STEPS / 2;
}

static size_t run_phase(void) {
    const size_t size = next_size();
    for (size_t step = 0; step < count / 2; step++) {
        const size_t i = random_below(count);
        free(block[i]);
        block[i] = get(size);
    }
    return count / 2;
}

static size_t run_grow(void) {
    size_t operations = 0;
    memset(block, 0, count * sizeof(block[0]));
    const size_t step = (high / 200 < 16 ? 16 : high / 200);
    for (size_t size = low; size <= high;
         size += (variant == 1 ? step : size * variant / 100 + 1)) {
        for (size_t i = 0; i < count; i++) {
            uint8_t *const p = realloc(block[i], size);
            p[size - 1] = 1;
            block[i] = p;
        }
        operations += count;
    }
    for (size_t i = 0; i < count; i++)
        free(block[i]);
    return operations;
}

// A ring of pointers: what is there is the consumer's, an empty place the producer's.
static _Atomic(void *) ring[RING];
static _Atomic(bool) is_done;

static void *consumer(void *arg) {
    (void)arg;
    for (unsigned at = 0;;) {
        void *const p = atomic_exchange_explicit(&ring[at], NULL, memory_order_acq_rel);
        if (p != NULL) {
            free(p);
            at = (at + 1) % RING;
        } else if (atomic_load_explicit(&is_done, memory_order_acquire)) {
            return NULL;
        } else {
            sched_yield();
        }
    }
}

static size_t run_cross(void) {
    static unsigned at;
    for (int step = 0; step < STEPS; step++) {
        while (atomic_load_explicit(&ring[at], memory_order_acquire) != NULL)
            sched_yield();
        atomic_store_explicit(&ring[at], get(next_size()), memory_order_release);
        at = (at + 1) % RING;
    }
    return STEPS;
}

typedef struct kind_s {
    const char *name;
    size_t (*run)(void);
    bool is_held; // COUNT blocks are there from the start
} kind_t;
static const kind_t kinds[] = {{"batch", run_batch, false},  {"held", run_held, true},
                               {"queue", run_queue, true},   {"calloc", run_calloc, true},
                               {"rerand", run_rerand, true}, {"phase", run_phase, true},
                               {"grow", run_grow, false},    {"cross", run_cross, false}};

// ---- The grid ----
static void list_one(const char *kind, size_t from, size_t to, size_t blocks, size_t how) {
    printf("%s-%zu-%zu-%zu-%zu\n", kind, from, to, blocks, how);
}

static void list_sizes(void) {
    static const size_t sizes[] = {16,     48,     112,    200,    400,     800,
                                   1500,   3000,   6000,   12000,  24000,   48000,
                                   100000, 200000, 400000, 900000, 2000000, 4000000};
    static const size_t counts[] = {2, 10, 50, 300, 2000};
    static const size_t crossed[] = {16, 64, 256, 1024, 4096, 16384, 65536, 262144};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++)
            for (size_t how = 0; how < 3 && sizes[i] * counts[k] <= 300000000; how++)
                list_one("batch", sizes[i], sizes[i], counts[k], how);
    for (size_t i = 0; i < sizeof(crossed) / sizeof(crossed[0]); i++)
        list_one("cross", crossed[i], crossed[i], 1, 0);
}

static void list_ranges(void) {
    static const size_t ranges[][2] = {
        {16, 128},        {16, 1024},        {16, 4096},     {16, 16384},     {64, 65536},
        {1024, 16384},    {4096, 65536},     {16384, 65536}, {16384, 262144}, {65536, 262144},
        {65536, 1048576}, {262144, 4194304}, {16, 1048576}};
    static const size_t counts[] = {5, 20, 100, 1000, 20000};
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
            const size_t from = ranges[i][0], to = ranges[i][1], blocks = counts[k];
            if (to * blocks > 330000000u)
                continue;
            for (size_t n = 1; n < 6; n++)
                if (n != 3 || blocks <= 1000)
                    list_one(kinds[n].name, from, to, blocks, 0);
            list_one("batch", from, to, blocks, 0);
            list_one("batch", from, to, blocks, 2);
            if (to < 65536 || blocks > 100)
                continue;
            list_one("fheld", from, to, blocks, 0);
            list_one("fqueue", from, to, blocks, 0);
            list_one("fphase", from, to, blocks, 0);
            list_one("fbatch", from, to, blocks, 0);
        }
}

static void list_growth(void) {
    static const size_t counts[] = {1, 5, 50};
    static const size_t steps[] = {1, 12, 50, 100};
    for (size_t most = 1000; most <= 10000000; most *= 10)
        for (size_t k = 0; k < 3; k++)
            for (size_t n = 0; n < 4 && most * counts[k] <= 200000000; n++)
                list_one("grow", 16, most, counts[k], steps[n]);
}

// ---- One pattern ----
static double cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

// Not by getrusage, which counts what the process was before it ran this program.
static long peak_rss_kib(void) {
    char line[256];
    long kib = 0;
    FILE *const f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = atol(line + 6);
    if (f != NULL)
        fclose(f);
    return kib;
}

static void prepare(bool is_held) {
    state += low * 77 + count;
    for (int i = 0; i < DRAWN; i++)
        drawn[i] = draw();
    block = calloc(count, sizeof(block[0]));
    order = calloc(count, sizeof(order[0]));
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    for (size_t i = count; i > 1; i--) {
        const size_t k = random_below(i);
        const uint32_t other = order[k];
        order[k] = order[i - 1];
        order[i - 1] = other;
    }
    for (size_t i = 0; i < count && is_held; i++)
        block[i] = get(next_size());
}

static int measure(const char *pattern, const kind_t *kind, double ms) {
    pthread_t thread;
    double least = 1e300;
    size_t all = 0;
    const bool is_cross = (kind->run == run_cross);
    prepare(kind->is_held);
    if (is_cross && pthread_create(&thread, NULL, consumer, NULL) != 0)
        return 1;
    (void)kind->run();
    for (int trial = 0; trial < TRIALS; trial++) {
        const double start = cpu_ns();
        double now;
        size_t operations = 0;
        do {
            operations += kind->run();
            now = cpu_ns();
        } while (now - start < ms * 1e6 / TRIALS);
        const double each = (now - start) / (double)operations;
        least = (each < least ? each : least);
        all += operations;
    }
    atomic_store_explicit(&is_done, true, memory_order_release);
    if (is_cross)
        pthread_join(thread, NULL);
    printf("%s %.2f %ld %zu\n", pattern, least, peak_rss_kib(), all);
    return 0;
}

int main(int argc, char **argv) {
    char name[16];
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        list_sizes();
        list_ranges();
        list_growth();
        return 0;
    }
    const char *const text = (argc >= 2 ? argv[1] : "");
    if (sscanf(text, "%15[a-z]-%zu-%zu-%zu-%zu", name, &low, &high, &count, &variant) == 5 &&
        low != 0 && high >= low && high <= UINT32_MAX / 2 && count != 0 && count <= 1000000) {
        const double ms = (argc >= 3 ? atof(argv[2]) : 25);
        fills = (name[0] == 'f');
        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
            if (strcmp(kinds[i].name, name + fills) == 0)
                return measure(text, &kinds[i], ms > 0 ? ms : 25);
    }
    fprintf(stderr, "usage: sweep list, or sweep PATTERN [ms]; \"%s\" is none of the list\n", text);
    return 2;
}
