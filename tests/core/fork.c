// fork() in a program whose other threads allocate all the time: the child allocates, frees what
// any thread made, starts threads of its own, and ends.
#include "use.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_bool stop;
static _Atomic(void *) shared[64];

static void *churn(void *arg) {
    uint64_t random = (uint64_t)(uintptr_t)arg;
    while (!stop) {
        void *const p = use_malloc(8 + use_random_size(&random, 18));
        *(uint64_t *)p = random;
        void *const q = atomic_exchange(&shared[use_random(&random) % 64], p);
        if (q != NULL && use_free(q) != MI_FREE_OK)
            CHECK(false);
    }
    return NULL;
}

static void *child_thread(void *arg) {
    uint64_t random = 5;
    for (int i = 0; i < 2000; i++)
        (void)use_free(use_malloc(use_random_size(&random, 18)));
    return arg;
}

static int child(void) {
    uint64_t random = 77;
    mi_core_stats_t stats;
    mi_core_stats(&stats);
    CHECK_MSG(stats.thread_count == 1, "%d threads", (int)stats.thread_count);
    void *blocks[500];
    for (int i = 0; i < 500; i++)
        blocks[i] = use_malloc(use_random_size(&random, 18));
    for (int i = 0; i < 500; i++)
        CHECK(use_free(blocks[i]) == MI_FREE_OK);
    for (int i = 0; i < 64; i++) {
        void *const p = atomic_exchange(&shared[i], NULL);
        CHECK(p == NULL || use_free(p) == MI_FREE_OK);
    }
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, child_thread, NULL) == 0);
    pthread_join(thread, NULL);
    mi_core_stats(&stats);
    CHECK_MSG(stats.thread_count == 1, "%d threads", (int)stats.thread_count);
    mi_core_collect(true);
    return test_failed;
}

int main(void) {
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, churn, (void *)(i + 1));
    for (int n = 0; n < 60; n++) {
        (void)use_free(use_malloc(100));
        const pid_t pid = fork();
        if (pid == 0) {
            alarm(20); // a deadlock ends the child, and the test fails
            _exit(child() == 0 ? 0 : 1);
        }
        int status = 0;
        waitpid(pid, &status, 0);
        CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "fork %d: status %x", n, status);
    }
    stop = true;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    return test_result();
}
