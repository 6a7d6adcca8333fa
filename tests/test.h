// The one test harness: a program counts what it checked, prints every failure with its place, and
// ends with a line "N checks passed, N failed". It includes nothing of ours and allocates nothing
// itself.
#ifndef MI_TEST_H
#define MI_TEST_H

#include <stdio.h>

static int test_passed;
static int test_failed;

#define CHECK(fact)                                                                                \
    do {                                                                                           \
        if (fact) {                                                                                \
            __atomic_fetch_add(&test_passed, 1, __ATOMIC_RELAXED);                                 \
        } else {                                                                                   \
            __atomic_fetch_add(&test_failed, 1, __ATOMIC_RELAXED);                                 \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #fact);                     \
        }                                                                                          \
    } while (0)

// Like CHECK, with a printf-style explanation of the case at hand.
#define CHECK_MSG(fact, ...)                                                                       \
    do {                                                                                           \
        if (fact) {                                                                                \
            __atomic_fetch_add(&test_passed, 1, __ATOMIC_RELAXED);                                 \
        } else {                                                                                   \
            __atomic_fetch_add(&test_failed, 1, __ATOMIC_RELAXED);                                 \
            fprintf(stderr, "%s:%d: failed: %s: ", __FILE__, __LINE__, #fact);                     \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
        }                                                                                          \
    } while (0)

// The last line of main. A program that checked nothing has failed.
static inline int test_result(void) {
    printf("%d checks passed, %d failed\n", test_passed, test_failed);
    fflush(stdout);
    return test_failed == 0 && test_passed > 0 ? 0 : 1;
}

#endif
