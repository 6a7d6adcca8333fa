// Small allocation-heavy programs, one per run, each doing a fixed amount of work: what is compared
// is the CPU time and the peak memory of the whole process. They follow patterns that published
// allocator benchmarks are known for (the comment above each says which kind), written anew; none
// of them knows which allocator it has.
#ifndef SUITE_H
#define SUITE_H

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

// What a thread writes all the time, its seed above all, is on cache lines of its own: else two
// threads take a line from each other at every step, and that is what is measured.
#define SUITE_APART __attribute__((aligned(128)))

typedef struct suite_program_s {
    const char *name;
    void (*run)(int scale); // scale: 100 = the usual length
} suite_program_t;

extern const suite_program_t suite_objects[]; // suite_objects.c: one thread, small linked things
extern const suite_program_t suite_sizes[]; // suite_sizes.c: one thread, many sizes and large ones
extern const suite_program_t suite_threads[]; // suite_threads.c: several threads
extern const suite_program_t
    suite_limits[]; // suite_limits.c: the aims: no growth, memory comes back, scaling

// Repeatable: xorshift from a seed.
static inline uint64_t suite_random(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

// A size between least and most, small ones far more often than large ones: each doubling as likely
// as the next.
static inline size_t suite_size(uint64_t *s, size_t least, size_t most) {
    const uint64_t r = suite_random(s);
    unsigned doublings = 0;
    while ((least << (doublings + 1)) <= most)
        doublings++;
    const size_t low = least << (r % (doublings + 1));
    const size_t size = low + (size_t)((r >> 20) % low);
    return size > most ? most : size;
}

void suite_mix(uint64_t seed, int scale); // suite_mixes.c: a program drawn from the seed
void suite_mix_print(uint64_t seed);
void suite_fail(const char *what);
void *suite_get(size_t size);        // malloc, first byte written
void *suite_get_filled(size_t size); // malloc, all written
void suite_check(int is_true, const char *what);
// Runs threads of them and waits: run(arg + i * arg_bytes).
void suite_parallel(int threads, void *(*run)(void *), void *args, size_t arg_bytes);
long suite_rss_kib(void);      // now
long suite_peak_rss_kib(void); // VmHWM
double suite_now(void);        // seconds

#ifdef __cplusplus
}
#endif
#endif
