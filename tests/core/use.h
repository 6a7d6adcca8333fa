// How the core tests allocate: as an entry point does, the fast path first and then the slow one.
// And a pattern that every block carries from end to end, so that any overlap or lost write shows.
#ifndef MI_TESTS_CORE_USE_H
#define MI_TESTS_CORE_USE_H

#include "core/alloc_inline.h"
#include "core/guest.h"
#include "test.h"
#include <stdlib.h>
#include <string.h>

static inline void *use_malloc(size_t size) {
    void *const p = mi_malloc_try(size);
    return p != NULL ? p : mi_core_malloc(size, false);
}

static inline mi_free_result_t use_free(void *p) {
    uintptr_t entry;
    mi_theap_t *theap;
    const mi_free_step_t step = mi_free_step(p, &entry, &theap);
    const bool is_freed =
        (step == MI_FREE_DONE || (step == MI_FREE_FAR && mi_guest_free(p, entry, theap)));
    return is_freed ? MI_FREE_OK : mi_core_free(p);
}

static inline uint64_t use_random(uint64_t *state) {
    uint64_t x = (*state += 0x9E3779B97F4A7C15ull);
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

static inline mi_core_stats_t use_stats(void) {
    mi_core_stats_t stats;
    mi_core_stats(&stats);
    return stats;
}

// Sizes as programs have them: mostly small, sometimes large. log2 of the bound is drawn first.
static inline size_t use_random_size(uint64_t *state, unsigned max_log2) {
    unsigned log2 = 4 + (unsigned)(use_random(state) % (max_log2 - 3));
    if (log2 > 12 && use_random(state) % 8 != 0)
        log2 = 4 + log2 % 8;
    return 1 + (size_t)(use_random(state) & (((uint64_t)1 << log2) - 1));
}

// The first and last 64 bytes and one byte of each 16 KiB carry the tag; filling all of a large
// block costs too much, and to touch each page of it, too, where a page fault takes 14 us.
#define USE_STRIDE (16 * MI_KiB)

static inline void use_fill(void *block, size_t size, uint8_t tag) {
    uint8_t *const p = (uint8_t *)block;
    const size_t edge = (size < 64 ? size : 64);
    memset(p, tag, edge);
    memset(p + size - edge, tag, edge);
    for (size_t i = 0; i < size; i += USE_STRIDE)
        p[i] = tag;
}

static inline bool use_check(const void *block, size_t size, uint8_t tag) {
    const uint8_t *const p = (const uint8_t *)block;
    const size_t edge = (size < 64 ? size : 64);
    for (size_t i = 0; i < edge; i++)
        if (p[i] != tag || p[size - 1 - i] != tag)
            return false;
    for (size_t i = 0; i < size; i += USE_STRIDE)
        if (p[i] != tag)
            return false;
    return true;
}

// All of a block up to 64 KiB; of a longer one its first and last page and 64 bytes of each 16 KiB.
static inline bool use_is_zero(const void *block, size_t size) {
    static const uint8_t zero[4096];
    const uint8_t *const p = (const uint8_t *)block;
    if (size <= 64 * MI_KiB)
        return size == 0 || (p[0] == 0 && memcmp(p, p + 1, size - 1) == 0);
    for (size_t i = 0; i < size - 64; i += USE_STRIDE)
        if (memcmp(p + i, zero, 64) != 0)
            return false;
    return memcmp(p, zero, sizeof(zero)) == 0 &&
           memcmp(p + size - sizeof(zero), zero, sizeof(zero)) == 0;
}

#endif
