// Helpers of the contract tests: sizes to try, patterns, errno, messages caught.
#ifndef API_TEST_H
#define API_TEST_H

#include "../test.h"
#include "mimalloc.h"
#include <errno.h>
#include <stdint.h>
#include <string.h>

// A size that the compiler cannot know, so that it neither warns of it nor removes the allocation.
static inline size_t opaque(size_t x) {
    volatile size_t v = x;
    return v;
}

static const size_t test_sizes[] = {
    0,      1,      7,      8,      9,       15,      16,      17,     24,    31,    32,
    33,     63,     64,     100,    127,     128,     129,     255,    256,   500,   1000,
    1023,   1024,   1025,   4095,   4096,    5000,    8192,    20000,  65535, 65536, 65537,
    100000, 131072, 131073, 262144, 1000000, 4194304, 4194305, 6000000};
#define TEST_SIZE_COUNT (sizeof(test_sizes) / sizeof(test_sizes[0]))

// Requests that no machine can fulfil.
static const size_t impossible_sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 65536,
                                          SIZE_MAX / 2 + 1, SIZE_MAX / 2};
#define IMPOSSIBLE_COUNT (sizeof(impossible_sizes) / sizeof(impossible_sizes[0]))

// Pairs whose product overflows, some to a small number.
static const struct {
    size_t count, size;
} overflowing[] = {{SIZE_MAX, 2},         {2, SIZE_MAX},           {SIZE_MAX / 2 + 1, 2},
                   {2, SIZE_MAX / 2 + 1}, {SIZE_MAX / 16 + 2, 16}, {SIZE_MAX, SIZE_MAX}};
#define OVERFLOW_COUNT (sizeof(overflowing) / sizeof(overflowing[0]))

// The pattern is written to the first 4096 bytes and to a few bytes of every OS page behind them:
// enough to see a block that overlaps another one or that was copied wrongly, and quick for large
// blocks.
static inline size_t pattern_next(size_t i) {
    return i < 4096 || i % 4093 < 8 ? i + 1 : i + 4093 - i % 4093;
}

static inline void fill(void *p, size_t n) {
    for (size_t i = 0; i < n; i = pattern_next(i))
        ((uint8_t *)p)[i] = (uint8_t)(i * 7 + 3);
}

static inline bool is_filled(const void *p, size_t n) {
    for (size_t i = 0; i < n; i = pattern_next(i))
        if (((const uint8_t *)p)[i] != (uint8_t)(i * 7 + 3))
            return false;
    return true;
}

static inline bool is_zero(const void *p, size_t from, size_t to) {
    uint8_t all = 0;
    for (size_t i = from; i < to; i++)
        all |= ((const uint8_t *)p)[i];
    return all == 0;
}

// Of what an aligned operator new or a function with such an attribute returns, the compiler knows
// the answer without looking.
static inline bool is_aligned(const void *p, size_t align) {
    return (opaque((size_t)(uintptr_t)p) & (align - 1)) == 0;
}

// The least alignment of a block, by the rule at the head of mimalloc.h.
static inline size_t least_align(size_t size) {
    return size <= 8 ? 8 : 16;
}

// Blocks of the C runtime's shape set errno on Linux only: on Windows there is no C runtime below
// us.
#ifdef _WIN32
#    define CHECK_ERRNO(expected) ((void)0)
#else
#    define CHECK_ERRNO(expected) CHECK_MSG(errno == (expected), "errno %d", errno)
#endif

// expr must be NULL with this errno.
#define CHECK_FAILS(expr, expected)                                                                \
    do {                                                                                           \
        errno = 0;                                                                                 \
        CHECK((expr) == NULL);                                                                     \
        CHECK_ERRNO(expected);                                                                     \
    } while (0)

// A sound block: there, ours, aligned, as large as asked for; its whole size can be written.
static inline void check_block(void *p, size_t size, size_t align, const char *what) {
    CHECK_MSG(p != NULL, "%s(%zu)", what, size);
    if (p == NULL)
        return;
    CHECK_MSG(is_aligned(p, align), "%s(%zu) = %p, not aligned to %zu", what, size, p, align);
    CHECK_MSG(mi_usable_size(p) >= size, "%s(%zu): usable %zu", what, size, mi_usable_size(p));
    CHECK_MSG(mi_is_in_heap_region(p), "%s(%zu)", what, size);
    fill(p, size);
    CHECK_MSG(is_filled(p, size), "%s(%zu)", what, size);
}

// Messages caught instead of printed.
static char caught_text[8192];
static size_t caught_lines;
static inline void catch_output(const char *msg, void *arg) {
    (void)arg;
    const size_t used = strlen(caught_text);
    const size_t room = sizeof(caught_text) - used - 1;
    const size_t n = strlen(msg) < room ? strlen(msg) : room;
    memcpy(caught_text + used, msg, n);
    caught_text[used + n] = 0;
    for (const char *s = msg; *s != 0; s++)
        caught_lines += (*s == '\n');
}

static inline void catch_begin(void) {
    caught_text[0] = 0;
    caught_lines = 0;
    mi_register_output(catch_output, NULL);
}

static inline void catch_end(void) {
    mi_register_output(NULL, NULL);
}

#endif
