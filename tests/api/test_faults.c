// Every public way to allocate, while the nth call of the operating system fails, for every n: each
// gives a sound block or NULL with ENOMEM, nothing crashes, and when memory is there again
// everything works. Each n in a process of its own, so that it starts from nothing.
#include "api_test.h"
#include "os/os.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int nulls; // allocations that failed
static int broken;

#define MUST(fact)                                                                                 \
    do {                                                                                           \
        if (!(fact)) {                                                                             \
            broken++;                                                                              \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #fact);                     \
        }                                                                                          \
    } while (0)

// NULL with ENOMEM, or a block that holds its pattern.
static void *take(void *p, size_t size) {
    if (p == NULL) {
        MUST(errno == ENOMEM);
        nulls++;
    } else {
        MUST(mi_usable_size(p) >= size);
        fill(p, size);
        MUST(is_filled(p, size));
    }
    errno = 0;
    return p;
}

static void scenario(void) {
    static const size_t sizes[] = {1, 100, 1000, 10000, 100000, 1000000, 5000000, 11000000};
    void *kept[64];
    size_t count = 0;
    mi_heap_t *heap = mi_heap_new();
    errno = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t size = sizes[i];
        kept[count++] = take(mi_malloc(size), size);
        void *z = take(mi_calloc(2, size / 2), size / 2);
        kept[count++] = z;
        kept[count++] = take(mi_malloc_aligned(size, 4096), size);
        void *p = take(mi_malloc(size), size);
        void *q = take(mi_realloc(p, size * 3), size);
        MUST(q != NULL || p == NULL || is_filled(p, size)); // a failed resize keeps the block
        kept[count++] = (q != NULL ? q : p);
        void *m = NULL;
        const int error = mi_posix_memalign(&m, 64, size);
        MUST(error == 0 ? m != NULL : error == ENOMEM && m == NULL);
        kept[count++] = m;
        errno = 0;
        kept[count++] = take(mi_strndup("text", 3), 4);
        if (heap != NULL && size < 10000000)
            (void)take(mi_heap_zalloc(heap, size), size);
    }
    MUST(mi_reserve_os_memory(8u << 20, true, false) == 0 || ++nulls > 0);
    for (size_t i = 0; i < count; i++)
        mi_free(kept[i]);
    mi_heap_destroy(heap);
    mi_collect(true);
}

// The child's result: exit code 0 = sound, 1 = broken; 2 = sound and something had failed.
static int child(long n) {
    mi_os_fail_nth(n);
    scenario();
    mi_os_fail_nth(0);
    const int failed = nulls;
    nulls = 0;
    scenario(); // memory is there again
    MUST(nulls == 0);
    return broken != 0 ? 1 : failed > 0 ? 2 : 0;
}

int main(void) {
    // This program's malloc is the C library's, though the allocator is linked with it.
    CHECK(!mi_is_redirected());
    // The handler is silent: ENOMEM is what is expected here.
    mi_os_fail_nth(0);
    const pid_t probe = fork();
    if (probe == 0) {
        mi_os_fail_nth(0);
        scenario();
        const long calls = mi_os_fail_calls();
        _exit(nulls != 0 || broken != 0 ? 255 : calls > 250 ? 250 : (int)calls);
    }
    int status = 0;
    CHECK(waitpid(probe, &status, 0) == probe && WIFEXITED(status) && WEXITSTATUS(status) != 255);
    const long calls = WEXITSTATUS(status);
    CHECK_MSG(calls >= 5, "only %ld calls of the operating system", calls);
    int with_failures = 0;
    for (long n = 1; n <= calls + 1; n++) {
        const pid_t pid = fork();
        if (pid == 0)
            _exit(child(n));
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) != 1, "call %ld failed: status %x", n,
                  (unsigned)status);
        with_failures += (WIFEXITED(status) && WEXITSTATUS(status) == 2);
    }
    CHECK_MSG(with_failures > 0, "no failure of the operating system was noticed in %ld", calls);
    return test_result();
}
