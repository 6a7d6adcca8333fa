// Windows: every public way to allocate, while the n-th call of the operating system (VirtualAlloc
// and its like) fails, and all after it, for every n: each gives a sound block or NULL, nothing
// crashes, and when memory is there again everything works. The first uses of a process each in a
// process of its own, since they happen once; the others in one process, again and again.
//
// test_faults_windows          all
// test_faults_windows N        the child: the N-th call fails, from the start of the process
#include "api_test.h"
#include "os/os.h"

#include <process.h>
#include <stdlib.h>

enum { FIRST_CALLS = 8, CALLS_MOST = 5000 };

static int nulls; // allocations that failed

static void *take(void *p, size_t size) {
    if (p == NULL) {
        nulls++;
        return NULL;
    }
    CHECK(mi_usable_size(p) >= size);
    fill(p, size);
    CHECK(is_filled(p, size));
    return p;
}

static void scenario(void) {
    static const size_t sizes[] = {1, 100, 1000, 10000, 100000, 1000000, 5000000, 20000000};
    void *kept[64];
    size_t count = 0;
    mi_heap_t *const heap = mi_heap_new();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t size = sizes[i];
        kept[count++] = take(mi_malloc(size), size);
        void *const z = mi_calloc(2, size / 2);
        CHECK(z == NULL || is_zero(z, 0, size / 2 * 2));
        kept[count++] = take(z, size / 2);
        kept[count++] = take(mi_malloc_aligned(size, 4096), size);
        void *const p = take(mi_malloc(size), size);
        void *const q = mi_realloc(p, size * 3);
        nulls += (q == NULL);
        CHECK(q == NULL || p == NULL || is_filled(q, size));
        CHECK(q != NULL || p == NULL || is_filled(p, size)); // a failed resize keeps the block
        kept[count++] = (q != NULL ? q : p);
        kept[count++] = take(mi_strndup("text", 3), 4);
        if (heap != NULL && size < 10000000)
            (void)take(mi_heap_zalloc(heap, size), size);
    }
    nulls += (heap == NULL);
    for (size_t i = 0; i < count; i++)
        mi_free(kept[i]);
    mi_heap_destroy(heap);
    mi_collect(true); // the next one starts with nothing at hand
}

// Returns how many calls were made.
static long scenario_with_failure(long n) {
    nulls = 0;
    mi_os_fail_nth(n);
    scenario();
    const long calls = mi_os_fail_calls();
    mi_os_fail_nth(0);
    return calls;
}

static int child(long n) {
    (void)scenario_with_failure(n);
    const int failed = nulls;
    (void)scenario_with_failure(0); // memory is there again
    CHECK_MSG(nulls == 0, "%d allocations failed after the failure", nulls);
    if (n == 1)
        CHECK(failed > 0);
    return test_failed == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
    mi_option_set(mi_option_retry_on_oom, 0); // or each failure would be waited for
    if (argc == 2)
        return child(atol(argv[1]));
    for (int n = 1; n <= FIRST_CALLS; n++) {
        char number[16];
        snprintf(number, sizeof(number), "%d", n);
        const int status = (int)_spawnl(_P_WAIT, argv[0], argv[0], number, NULL);
        CHECK_MSG(status == 0, "call %d of the process failed: it ended with %x", n, status);
    }
    const long calls = scenario_with_failure(0);
    CHECK_MSG(calls >= 20 && calls < CALLS_MOST && nulls == 0, "%ld calls, %d NULL", calls, nulls);
    long with_failures = 0;
    for (long n = 1; n <= CALLS_MOST; n++) {
        const bool is_over = (scenario_with_failure(n) < n);
        with_failures += (nulls > 0);
        CHECK_MSG(!is_over || nulls == 0, "call %ld was none, and %d allocations failed", n, nulls);
        (void)scenario_with_failure(0);
        CHECK_MSG(nulls == 0, "call %ld had failed: %d allocations after it too", n, nulls);
        if (is_over || test_failed > 20)
            break;
    }
    CHECK_MSG(with_failures >= 20, "only %ld failures were noticed", with_failures);
    printf("%ld calls, %ld failures\n", calls, with_failures);
    return test_result();
}
