// The nth call of the operating system fails, for every n: an allocation then returns NULL or
// works, nothing is lost or damaged, and when the system works again so do we. Each n runs in a
// child, from a fresh heap.
#include "use.h"
#include "os/os.h"

#include <sys/wait.h>
#include <unistd.h>

#define BLOCKS 400

static void *blocks[BLOCKS];
static size_t sizes[BLOCKS];

// Returns the number of allocations that failed.
static int work(void) {
    uint64_t random = 99;
    int failed = 0;
    for (int i = 0; i < 1000; i++) {
        const size_t k = use_random(&random) % BLOCKS;
        const uint64_t what = use_random(&random) % 8;
        const size_t size = use_random_size(&random, 23);
        if (blocks[k] == NULL) {
            void *const p = (what == 0   ? mi_core_malloc_aligned(size, 4096, 8, true)
                             : what == 1 ? mi_core_malloc(size, true)
                                         : use_malloc(size));
            failed += (p == NULL);
            if (p != NULL)
                use_fill(p, size, (uint8_t)k);
            blocks[k] = p;
            sizes[k] = size;
        } else if (what < 4) {
            void *const p = mi_core_realloc(blocks[k], size, 0, NULL);
            failed += (p == NULL);
            CHECK(use_check(p != NULL ? p : blocks[k], p == NULL || size > sizes[k] ? sizes[k] : 0,
                            (uint8_t)k));
            if (p != NULL) {
                blocks[k] = p;
                sizes[k] = size;
                use_fill(p, size, (uint8_t)k);
            }
        } else {
            CHECK(use_check(blocks[k], sizes[k], (uint8_t)k));
            CHECK(use_free(blocks[k]) == MI_FREE_OK);
            blocks[k] = NULL;
        }
        if (i % 250 == 249)
            mi_core_collect(true);
    }
    return failed;
}

static int run_child(long n) {
    mi_os_fail_nth(n);
    const int failed = work();
    mi_os_fail_nth(0);
    CHECK(n > 1 || failed > 0); // without any memory nothing can have worked
    CHECK(work() == 0);         // and now everything does
    for (int i = 0; i < BLOCKS; i++)
        CHECK(blocks[i] == NULL || use_free(blocks[i]) == MI_FREE_OK);
    mi_core_collect(true);
    mi_core_stats_t stats;
    mi_core_stats(&stats);
    CHECK_MSG(stats.page_count == 0, "n = %ld: %d pages left", n, (int)stats.page_count);
    return test_failed;
}

int main(void) {
    // How many calls are there at all?
    const pid_t counter = fork();
    if (counter == 0) {
        mi_os_fail_nth(0);
        (void)work();
        const long calls = mi_os_fail_calls();
        _exit(calls > 250 ? 250 : (int)calls);
    }
    int status = 0;
    waitpid(counter, &status, 0);
    const long calls = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    CHECK_MSG(calls > 5, "%ld calls", calls);
    for (long n = 1; n <= calls; n++) {
        const pid_t child = fork();
        if (child == 0)
            _exit(run_child(n) == 0 ? 0 : 1);
        waitpid(child, &status, 0);
        CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "n = %ld: status %x", n, status);
    }
    return test_result();
}
