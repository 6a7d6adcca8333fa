// Threads that come and go: their memory is freed by others, taken over by new threads, and does
// not grow.
#include "use.h"

#include <pthread.h>
#include <stdatomic.h>

#define HELD 64
static int thread_count = 3000;

static void *leave_blocks(void *arg) {
    void **const blocks = (void **)arg;
    for (int i = 0; i < HELD; i++) {
        blocks[i] = use_malloc((size_t)(1 + i * 37));
        use_fill(blocks[i], (size_t)(1 + i * 37), (uint8_t)i);
    }
    for (int i = 0; i < 200; i++)
        (void)use_free(use_malloc((size_t)(i * 50)));
    return NULL;
}

static void free_blocks(void **blocks) {
    for (int i = 0; i < HELD; i++) {
        CHECK_MSG(use_check(blocks[i], (size_t)(1 + i * 37), (uint8_t)i), "block %d", i);
        CHECK(use_free(blocks[i]) == MI_FREE_OK);
    }
}

// One after the other; the main thread frees what the last one left.
static void test_come_and_go(void) {
    mi_core_stats_t early = {0}, late;
    for (int n = 0; n < thread_count; n++) {
        void *blocks[HELD];
        pthread_t thread;
        pthread_create(&thread, NULL, leave_blocks, blocks);
        pthread_join(thread, NULL);
        free_blocks(blocks);
        if (n == 20)
            mi_core_stats(&early);
    }
    mi_core_stats(&late);
    CHECK_MSG(late.page_bytes_peak <= early.page_bytes_peak + 4 * MI_MiB, "%llu -> %llu",
              (unsigned long long)early.page_bytes_peak, (unsigned long long)late.page_bytes_peak);
    CHECK(late.adopted_count > 0);
    CHECK(late.thread_count <= 1);
}

// A producer and a consumer that never stops being the same: no growth, nothing lost.
#define RING 256
static _Atomic(void *) ring[RING];
static long handed = 400000;

static void *consume(void *arg) {
    (void)arg;
    for (long i = 0; i < handed; i++) {
        void *p;
        while ((p = atomic_exchange(&ring[i % RING], NULL)) == NULL)
            sched_yield();
        if (*(long *)p != i)
            CHECK_MSG(false, "message %ld", i);
        if (use_free(p) != MI_FREE_OK)
            CHECK_MSG(false, "free %ld", i);
    }
    return NULL;
}

static void test_producer_consumer(void) {
    pthread_t thread;
    mi_core_stats_t early = {0}, late;
    pthread_create(&thread, NULL, consume, NULL);
    for (long i = 0; i < handed; i++) {
        long *const p = use_malloc((size_t)(16 + i % 500));
        *p = i;
        void *empty = NULL;
        while (!atomic_compare_exchange_strong(&ring[i % RING], &empty, p)) {
            empty = NULL;
            sched_yield();
        }
        if (i == handed / 4)
            mi_core_stats(&early);
    }
    pthread_join(thread, NULL);
    mi_core_stats(&late);
    CHECK_MSG(late.page_bytes_peak <= early.page_bytes_peak + 4 * MI_MiB, "%llu -> %llu",
              (unsigned long long)early.page_bytes_peak, (unsigned long long)late.page_bytes_peak);
}

// Many at once leave full pages behind; one thread that needs such pages takes them over.
#define MANY 40
static void *fill_pages(void *arg) {
    void **const blocks = (void **)arg;
    for (int i = 0; i < 1000; i++)
        blocks[i] = use_malloc(240);
    return NULL;
}

static void test_steal(void) {
    static void *blocks[MANY][1000];
    pthread_t threads[MANY];
    mi_core_stats_t stats;
    for (int n = 0; n < MANY; n++)
        pthread_create(&threads[n], NULL, fill_pages, blocks[n]);
    for (int n = 0; n < MANY; n++)
        pthread_join(threads[n], NULL);
    for (int n = 0; n < MANY; n++)
        for (int i = 0; i < 1000; i += 2)
            CHECK(use_free(blocks[n][i]) == MI_FREE_OK);
    mi_core_collect(true); // hands over what this thread holds back, keeps no idle pages
    void *fresh[10000];
    for (int i = 0; i < 10000; i++)
        fresh[i] = use_malloc(240);
    mi_core_stats(&stats);
    CHECK(stats.stolen_count > 0);
    for (int i = 0; i < 10000; i++)
        CHECK(use_free(fresh[i]) == MI_FREE_OK);
    for (int n = 0; n < MANY; n++)
        for (int i = 1; i < 1000; i += 2)
            CHECK(use_free(blocks[n][i]) == MI_FREE_OK);
    mi_core_collect(true);
    mi_core_collect(true);
    mi_core_stats(&stats);
    CHECK_MSG(stats.page_count == 0, "%d pages left", (int)stats.page_count);
}

// Frees and allocations in a thread whose heap is gone already.
static pthread_key_t late_key;
static void late_use(void *value) {
    (void)use_free(value);
    void *const p = use_malloc(100);
    if (pthread_getspecific(late_key) == NULL)
        (void)use_free(p);
}

static void *set_late(void *arg) {
    (void)arg;
    pthread_setspecific(late_key, use_malloc(50));
    return NULL;
}

static void test_late_use(void) {
    pthread_key_create(&late_key, late_use);
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, set_late, NULL);
        pthread_join(thread, NULL);
    }
    mi_core_collect(true);
    mi_core_stats_t stats;
    mi_core_stats(&stats);
    CHECK_MSG(stats.thread_count <= 1, "%d threads left", (int)stats.thread_count);
}

int main(int argc, char **argv) {
    if (argc > 1)
        thread_count = atoi(argv[1]);
    test_come_and_go();
    test_producer_consumer();
    test_steal();
    test_late_use();
    return test_result();
}
