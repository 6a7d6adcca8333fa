// First-class heaps: used from several threads, visited, deleted, destroyed.
#include "use.h"
#include "core/arena.h"
#include "core/heap.h"
#include "core/remote.h"

#include <pthread.h>
#include <sys/mman.h>

typedef struct share_s {
    mi_heap_t *heap;
    void *blocks[300];
} share_t;

static void *fill_heap(void *arg) {
    share_t *const share = (share_t *)arg;
    for (int i = 0; i < 300; i++) {
        const size_t size = (size_t)(1 + i * i);
        share->blocks[i] = mi_core_heap_malloc(share->heap, size, i % 2 == 0);
        CHECK_MSG(share->blocks[i] != NULL, "%d", i);
        use_fill(share->blocks[i], size, (uint8_t)i);
    }
    return NULL;
}

static void check_blocks(const share_t *share) {
    for (int i = 0; i < 300; i++)
        CHECK_MSG(use_check(share->blocks[i], (size_t)(1 + i * i), (uint8_t)i), "%d", i);
}

typedef struct tally_s {
    size_t areas;
    size_t blocks;
    size_t used;
    bool stop;
} tally_t;

static bool count_visit(const mi_heap_t *heap, const mi_core_area_t *area, void *block,
                        size_t bytes, void *arg) {
    tally_t *const t = (tally_t *)arg;
    (void)heap;
    if (block == NULL) {
        t->areas++;
        t->used += area->used;
    } else {
        t->blocks++;
        CHECK(mi_core_usable(block, NULL) == bytes);
    }
    return !t->stop;
}

static void test_threads_share(bool is_destroyed) {
    share_t shares[4];
    pthread_t threads[4];
    mi_heap_t *const heap = mi_core_heap_new();
    CHECK(heap != NULL && heap != mi_core_heap_main());
    for (int i = 0; i < 4; i++)
        shares[i].heap = heap;
    for (int i = 1; i < 4; i++)
        pthread_create(&threads[i], NULL, fill_heap, &shares[i]);
    fill_heap(&shares[0]);
    for (int i = 1; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++) {
        check_blocks(&shares[i]);
        CHECK(mi_core_heap_of(shares[i].blocks[7]) == heap);
        for (int k = 0; k < 300; k += 3)
            CHECK(use_free(shares[i].blocks[k]) == MI_FREE_OK);
    }
    tally_t tally = {0};
    CHECK(mi_core_heap_visit(heap, true, count_visit, &tally));
    CHECK_MSG(tally.blocks == 4 * 200 && tally.used == 4 * 200, "%zu %zu", tally.blocks,
              tally.used);
    tally.stop = true;
    CHECK(!mi_core_heap_visit(heap, true, count_visit, &tally));
    if (is_destroyed) {
        mi_core_heap_destroy(heap);
        CHECK(!mi_core_contains(shares[1].blocks[299]));
        return;
    }
    mi_core_heap_delete(heap);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 300; k++)
            if (k % 3 != 0) {
                CHECK(use_check(shares[i].blocks[k], (size_t)(1 + k * k), (uint8_t)k));
                CHECK(mi_core_heap_of(shares[i].blocks[k]) == mi_core_heap_main());
                CHECK(use_free(shares[i].blocks[k]) == MI_FREE_OK);
            }
}

static void test_many(void) {
    mi_core_stats_t early, late;
    for (int n = 0; n < 2000; n++) {
        mi_heap_t *const heap = mi_core_heap_new();
        void *p = mi_core_heap_malloc(heap, 100, false);
        p = mi_core_heap_resize(heap, p, &(mi_core_resize_t){50000, 1, 0, 0}, NULL);
        void *const q = mi_core_heap_malloc(heap, 9 * MI_MiB, false);
        void *const r = mi_core_heap_malloc_aligned(heap, 100, 256, 0, true);
        CHECK(p != NULL && q != NULL && r != NULL && (uintptr_t)r % 256 == 0);
        CHECK(mi_core_heap_of(p) == heap && mi_core_heap_of(q) == heap);
        mi_core_heap_destroy(heap);
        if (n == 10)
            mi_core_stats(&early);
    }
    mi_core_stats(&late);
    CHECK_MSG(late.page_bytes_peak <= early.page_bytes_peak + MI_MiB, "%llu -> %llu",
              (unsigned long long)early.page_bytes_peak, (unsigned long long)late.page_bytes_peak);
    CHECK(late.heap_count == 1);
}

static void *free_one(void *p) {
    CHECK(use_free(p) == MI_FREE_OK);
    return NULL;
}

// Another thread's block goes home, whatever heap it is of: the owner's lists are not touched, not
// even while the owner does nothing.
static void test_free_elsewhere(void) {
    for (size_t size = 40; size < 100000; size *= 7) {
        mi_heap_t *const heap = mi_core_heap_new();
        void *const p = mi_core_heap_malloc(heap, size, false);
        const mi_page_t *const page = mi_page_map_find(p);
        const mi_block_t *const free = page->free;
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, free_one, p) == 0 && pthread_join(thread, NULL) == 0);
        CHECK_MSG(mi_load_acquire(&page->remote) == p && page->free == free, "%zu", size);
        mi_core_heap_destroy(heap);
    }
}

static bool is_own(const mi_heap_t *heap, const mi_core_area_t *area, void *block, size_t bytes,
                   void *arg) {
    (void)heap;
    (void)bytes;
    *(int *)arg += (block != NULL && mi_page_map_find(area->start)->arena == NULL);
    return true;
}

// Blocks that have reservations of their own are in one list, which stays whole when some come back
// from a thread that allocates nothing, whatever heap they are of.
static void test_own_reservations(mi_heap_t *heap) {
    enum { COUNT = 6, OWN = 5 * 1024 * 1024 };
    const size_t span_max = mi_config(span_max);
    void *block[COUNT];
    mi_config_set(span_max, OWN / 2);
    for (int i = 0; i < COUNT; i++) {
        block[i] = mi_core_heap_malloc(heap, OWN, false);
        use_fill(block[i], OWN, (uint8_t)i);
    }
    for (int round = 0; round < 20; round++) {
        for (int i = round % 3; i < COUNT; i += 2 + round % 2) {
            pthread_t thread;
            CHECK(pthread_create(&thread, NULL, free_one, block[i]) == 0 &&
                  pthread_join(thread, NULL) == 0);
            block[i] = NULL;
        }
        int expected = 0, seen = 0;
        for (int i = 0; i < COUNT; i++)
            expected += (block[i] != NULL);
        mi_remote_collect(mi_heap_thread_part(heap));
        CHECK(mi_core_heap_visit(heap, true, is_own, &seen));
        CHECK_MSG(seen == expected, "round %d: %d blocks instead of %d", round, seen, expected);
        for (int i = 0; i < COUNT; i++) {
            CHECK(block[i] == NULL || use_check(block[i], OWN, (uint8_t)i));
            if (block[i] != NULL)
                continue;
            block[i] = mi_core_heap_malloc(heap, OWN, false);
            use_fill(block[i], OWN, (uint8_t)i);
        }
    }
    for (int i = 0; i < COUNT; i++)
        CHECK(use_free(block[i]) == MI_FREE_OK);
    mi_config_set(span_max, span_max);
    mi_core_heap_destroy(heap);
}

// A heap that has but one arena never leaves it.
static void test_arena(void) {
    void *arena = NULL;
    size_t bytes = 0;
    const mi_memory_t wish = {
        .bytes = 16 * MI_MiB, .is_committed = true, .is_exclusive = true, .numa_node = -1};
    CHECK(mi_core_arena_reserve(&wish, false, &arena) && arena != NULL);
    uint8_t *const start = mi_core_arena_area(arena, &bytes);
    CHECK(start != NULL && bytes >= 16 * MI_MiB);
    mi_heap_t *const heap = mi_core_heap_new_in_arena(arena);
    size_t sum = 0;
    for (void *p; (p = mi_core_heap_malloc(heap, 300000, false)) != NULL; sum += 300000)
        CHECK(mi_core_arena_contains(arena, p));
    CHECK_MSG(sum > 12 * MI_MiB, "%zu", sum);
    void *const other = use_malloc(300000);
    CHECK(other != NULL && !mi_core_arena_contains(arena, other));
    CHECK(use_free(other) == MI_FREE_OK);
    mi_core_heap_destroy(heap);
}

// What a deleted heap leaves in an exclusive arena is the main heap's, but the main heap takes
// nothing else from there, and the memory serves the arena's next heap.
static void test_delete_in_arena(void) {
    enum { COUNT = 400 };
    static uint8_t *kept[COUNT];
    void *arena = NULL;
    const mi_memory_t wish = {.bytes = 32 * MI_MiB, .is_exclusive = true, .numa_node = -1};
    CHECK(mi_core_arena_reserve(&wish, false, &arena));
    mi_heap_t *heap = mi_core_heap_new_in_arena(arena);
    for (size_t i = 0; i < COUNT; i++) {
        kept[i] = mi_core_heap_malloc(heap, 16 + i * 150, false);
        CHECK(kept[i] != NULL);
        use_fill(kept[i], 16 + i * 150, (uint8_t)i);
    }
    mi_core_heap_delete(heap);
    for (size_t i = 0; i < COUNT; i++)
        CHECK(mi_core_heap_of(kept[i]) == mi_core_heap_main());
    for (size_t i = 0; i < COUNT; i += 2)
        CHECK(use_free(kept[i]) == MI_FREE_OK);
    tally_t tally = {0};
    CHECK(mi_core_heap_visit(mi_core_heap_main(), true, count_visit, &tally) &&
          tally.blocks >= COUNT / 2);
    static void *plain[4 * COUNT];
    for (size_t i = 0; i < 4 * COUNT; i++) {
        plain[i] = use_malloc(16 + i % COUNT * 150);
        CHECK_MSG(!mi_core_arena_contains(arena, plain[i]), "block %zu", i);
    }
    for (size_t i = 0; i < 4 * COUNT; i++)
        CHECK(use_free(plain[i]) == MI_FREE_OK);
    for (size_t i = 1; i < COUNT; i += 2) {
        CHECK(use_check(kept[i], 16 + i * 150, (uint8_t)i));
        CHECK(use_free(kept[i]) == MI_FREE_OK);
    }
    heap = mi_core_heap_new_in_arena(arena);
    size_t sum = 0;
    for (void *p; (p = mi_core_heap_malloc(heap, 300000, false)) != NULL; sum += 300000)
        CHECK(mi_core_arena_contains(arena, p));
    CHECK_MSG(sum > 24 * MI_MiB, "%zu", sum);
    mi_core_heap_destroy(heap);
}

// Memory that the caller gave and shares with others keeps its contents when it is given up: a
// large zeroed block there is cleared byte by byte.
static void test_shared_memory(void) {
    enum { BYTES = 16 * 1024 * 1024, SIZE = 1024 * 1024 };
    void *const memory =
        mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    void *arena = NULL;
    const mi_memory_t given = {.start = memory,
                               .bytes = BYTES,
                               .is_committed = true,
                               .is_exclusive = true,
                               .is_zero = true,
                               .numa_node = -1};
    CHECK(mi_core_arena_manage(&given, &arena));
    mi_heap_t *const heap = mi_core_heap_new_in_arena(arena);
    for (int i = 0; i < 5; i++) { // the same block again and again, hardly touched
        uint8_t *const p = mi_core_heap_malloc(heap, SIZE, true);
        CHECK(p != NULL && mi_core_arena_contains(arena, p));
        CHECK_MSG(p != NULL && use_is_zero(p, SIZE / 4) && p[SIZE - 1] == 0, "round %d", i);
        use_fill(p, SIZE / 8, 7);
        p[SIZE - 1] = 7;
        CHECK(use_free(p) == MI_FREE_OK);
    }
    mi_core_heap_destroy(heap);
}

static size_t idle_bytes, idle_most;
static bool count_idle(mi_page_t *page, void *arg) {
    (void)arg;
    const size_t bytes = page->capacity * page->block_bytes;
    if (mi_page_live(page) == 0) {
        idle_bytes += bytes;
        idle_most = (bytes > idle_most ? bytes : idle_most);
    }
    return true;
}
static size_t idle_now(void) {
    idle_bytes = idle_most = 0;
    (void)mi_arena_visit_pages(mi_theap_real(), count_idle, NULL);
    return idle_bytes;
}

// What a thread keeps at hand is reduced to what is asked for, and by no more than a page too much.
static void test_reduce(void) {
    enum { SIZES = 24, EACH = 40 };
    static void *blocks[SIZES][EACH];
    for (int turn = 0; turn < 3; turn++) {
        for (size_t i = 0; i < SIZES; i++)
            for (size_t k = 0; k < EACH; k++)
                blocks[i][k] = use_malloc(16 + i * i * 30);
        for (size_t i = 0; i < SIZES; i++)
            for (size_t k = 0; k < EACH; k++)
                CHECK(use_free(blocks[i][k]) == MI_FREE_OK);
        const size_t had = idle_now();
        mi_core_reduce(had);
        CHECK_MSG(idle_now() == had, "%zu of %zu", idle_bytes, had);
        for (size_t most = had * 3 / 4; most > 4096; most = most / 2) {
            const size_t before = idle_now(), largest = idle_most;
            mi_core_reduce(most);
            CHECK_MSG(idle_now() <= most && (before <= most || idle_bytes + largest > most),
                      "%zu of %zu, before %zu", idle_bytes, most, before);
        }
        mi_core_reduce(0);
        CHECK_MSG(idle_now() == 0, "%zu", idle_bytes);
        CHECK_MSG(had > 64 * MI_KiB, "%zu", had);
    }
}

int main(void) {
    test_reduce();
    for (int i = 0; i < 10; i++)
        test_threads_share(i % 2 == 0);
    test_many();
    test_free_elsewhere();
    test_own_reservations(mi_core_heap_new());
    test_own_reservations(mi_core_heap_main());
    test_arena();
    test_delete_in_arena();
    test_shared_memory();
    mi_core_collect(true);
    mi_core_collect(true);
    mi_core_stats_t stats;
    mi_core_stats(&stats);
    CHECK_MSG(stats.page_count == 0, "%d pages left", (int)stats.page_count);
    return test_result();
}
