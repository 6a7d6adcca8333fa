// Large blocks that other threads free: while their maker sleeps, whoever frees one gives back its
// page; one that allocates meanwhile gets its pages back.
#include "use.h"

#include <pthread.h>
#include <stdatomic.h>

enum { LARGE = 100 * 1024, HUGE = 5 * 1024 * 1024, COUNT = 20 };
typedef struct maker_s {
    pthread_barrier_t made, seen;
    mi_heap_t *heap;
    size_t size;
    void *block[COUNT];
    mi_theap_t *theap; // where the blocks come from
} maker_t;

static void *make(void *arg) {
    maker_t *const m = (maker_t *)arg;
    for (int i = 0; i < COUNT; i++) {
        m->block[i] = mi_core_heap_malloc(m->heap, m->size, false);
        use_fill(m->block[i], m->size, (uint8_t)i);
    }
    m->theap = mi_load_relaxed(&mi_page_map_find(m->block[0])->theap);
    pthread_barrier_wait(&m->made);
    pthread_barrier_wait(&m->seen);
    mi_core_collect(true);
    CHECK(m->heap != mi_core_heap_main() || mi_theap_pages(m->theap) == 0);
    return NULL;
}

// least and most: pages of the maker that are left.
static void test_sleeper(mi_heap_t *heap, size_t size, size_t least, size_t most) {
    maker_t m = {.heap = heap, .size = size};
    pthread_t thread;
    pthread_barrier_init(&m.made, NULL, 2);
    pthread_barrier_init(&m.seen, NULL, 2);
    pthread_create(&thread, NULL, make, &m);
    pthread_barrier_wait(&m.made);
    for (int i = 0; i < COUNT; i++) {
        CHECK(use_check(m.block[i], size, (uint8_t)i));
        CHECK(use_free(m.block[i]) == MI_FREE_OK);
    }
    const size_t left = mi_theap_pages(m.theap);
    CHECK_MSG(left >= least && left <= most, "%zu pages for blocks of %zu bytes", left, size);
    pthread_barrier_wait(&m.seen);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&m.made);
    pthread_barrier_destroy(&m.seen);
}

// A thread frees what others make, makes its own, and looks at what its pages hold.
enum { WORKERS = 4, SLOTS = 64 };
static int rounds = 20000;
static _Atomic(void *) slot[SLOTS];

static bool add(const mi_heap_t *heap, const mi_core_area_t *area, void *block, size_t bytes,
                void *arg) {
    (void)heap;
    (void)block;
    (void)bytes;
    *(size_t *)arg += area->used * area->block_bytes;
    return true;
}

static void *exchange(void *arg) {
    uint64_t state = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < rounds; i++) {
        const uint64_t r = use_random(&state);
        const size_t size = (r % 512 == 0 ? HUGE : r % 4 == 0 ? LARGE : 1 + r / 512 % 3000);
        uint8_t *const mine = use_malloc(size);
        mine[0] = (uint8_t)size;
        mine[size - 1] = (uint8_t)size;
        void *const other = atomic_exchange(&slot[r / 4 % SLOTS], mine);
        if (other != NULL)
            CHECK(use_free(other) == MI_FREE_OK);
        if (r % 1024 == 1) {
            size_t bytes = 0;
            mi_core_thread_visit(add, &bytes);
        }
    }
    return NULL;
}

static void test_exchange(void) {
    pthread_t thread[WORKERS];
    mi_core_stats_t stats;
    for (uintptr_t i = 0; i < WORKERS; i++)
        pthread_create(&thread[i], NULL, exchange, (void *)(i + 1));
    for (int i = 0; i < WORKERS; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < SLOTS; i++)
        CHECK(use_free(atomic_exchange(&slot[i], NULL)) == MI_FREE_OK);
    mi_core_collect(true);
    mi_core_collect(true);
    mi_core_stats(&stats);
    CHECK_MSG(stats.page_count == 0, "%d pages left", (int)stats.page_count);
}

int main(int argc, char **argv) {
    if (argc > 1)
        rounds = atoi(argv[1]);
    (void)use_free(use_malloc(1)); // this thread has a thread heap
    mi_core_collect(true);
    // The first one goes home, as if its maker might look, and the last is in its current page.
    test_sleeper(mi_core_heap_main(), LARGE, 1, 2);
    test_sleeper(mi_core_heap_main(), HUGE, 0, 0); // nobody keeps such a page
    mi_heap_t *const heap = mi_core_heap_new();    // may be destroyed while others free into it
    test_sleeper(heap, LARGE, COUNT, COUNT);
    mi_core_heap_delete(heap);
    test_exchange();
    return test_result();
}
