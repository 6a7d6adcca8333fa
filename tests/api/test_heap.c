// Contracts of first-class heaps and thread heaps.
#include "api_test.h"
#include "api_thread.h"
#include "mimalloc-stats.h"

static void check_main(void) {
    mi_heap_t *main_heap = mi_heap_main();
    CHECK(main_heap != NULL && mi_heap_get_backing() == main_heap &&
          mi_heap_get_default() == main_heap);
    void *p = mi_malloc(100);
    int on_stack = 0;
    CHECK(mi_heap_of(p) == main_heap && mi_heap_contains(main_heap, p) && mi_any_heap_contains(p));
    CHECK(mi_heap_contains_block(main_heap, p) && mi_heap_check_owned(main_heap, p) &&
          mi_check_owned(p));
    CHECK(mi_heap_of(&on_stack) == NULL && mi_heap_of(NULL) == NULL &&
          !mi_any_heap_contains(&on_stack));
    CHECK(!mi_heap_contains(main_heap, &on_stack) && !mi_heap_contains(NULL, p) &&
          !mi_check_owned(&on_stack));
    CHECK(!mi_heap_contains_block(main_heap, NULL) && !mi_heap_check_owned(main_heap, NULL));
    mi_heap_delete(NULL);
    mi_heap_destroy(NULL);
    mi_heap_delete(main_heap); // left alone
    mi_heap_destroy(main_heap);
    fill(p, 100);
    CHECK(is_filled(p, 100) && mi_heap_main() == main_heap);
    mi_free(p);
}

// Of the pages that a heap is spread over, those with few live blocks are worth leaving.
static void check_under_utilized(void) {
    enum { COUNT = 4000, SIZE = 256 };
    static void *block[COUNT];
    mi_heap_t *const heap = mi_heap_new();
    for (int i = 0; i < COUNT; i++)
        block[i] = mi_heap_malloc(heap, SIZE);
    for (int i = 0; i < COUNT; i++)
        CHECK(!mi_unsafe_heap_page_is_under_utilized(heap, block[i], 50) || i > COUNT - 512);
    int kept = 0;
    for (int i = 0; i < COUNT; i++)
        if (i % 16 != 0)
            mi_free(block[i]);
        else
            block[kept++] = block[i];
    int worth = 0;
    for (int i = 0; i < kept; i++)
        worth += mi_unsafe_heap_page_is_under_utilized(heap, block[i], 20);
    // All but those of the page at hand.
    CHECK_MSG(worth > kept / 2 && worth < kept, "%d of %d", worth, kept);
    for (int i = 0; i < kept; i++)
        CHECK(!mi_unsafe_heap_page_is_under_utilized(heap, block[i], 1));
    int on_stack = 0;
    CHECK(!mi_unsafe_heap_page_is_under_utilized(heap, NULL, 100) &&
          !mi_unsafe_heap_page_is_under_utilized(heap, &on_stack, 100) &&
          !mi_unsafe_heap_page_is_under_utilized(NULL, block[0], 100) &&
          !mi_unsafe_heap_page_is_under_utilized(mi_heap_main(), block[0], 100));
    mi_heap_destroy(heap);
}

typedef void *(*heap_alloc_fn)(mi_heap_t *heap, size_t size);

static void check_alloc(const char *name, heap_alloc_fn alloc, bool zeroes, size_t most) {
    mi_heap_t *heap = mi_heap_new();
    CHECK(heap != NULL && heap != mi_heap_main());
    for (size_t i = 0; i < TEST_SIZE_COUNT && test_sizes[i] <= most; i++) {
        void *p = alloc(heap, test_sizes[i]);
        CHECK_MSG(!zeroes || is_zero(p, 0, test_sizes[i]), "%s(%zu)", name, test_sizes[i]);
        check_block(p, test_sizes[i], least_align(test_sizes[i]), name);
        CHECK_MSG(mi_heap_of(p) == heap && mi_heap_contains(heap, p) &&
                      !mi_heap_contains(mi_heap_main(), p),
                  "%s(%zu)", name, test_sizes[i]);
        if (i % 2 == 0)
            mi_free(p);
    }
    if (most == SIZE_MAX)
        for (size_t i = 0; i < IMPOSSIBLE_COUNT; i++)
            CHECK_FAILS(alloc(heap, opaque(impossible_sizes[i])), ENOMEM);
    mi_heap_destroy(heap);
}

static void *heap_calloc_1(mi_heap_t *heap, size_t size) {
    return mi_heap_calloc(heap, 1, size);
}

static void *heap_mallocn_1(mi_heap_t *heap, size_t size) {
    return mi_heap_mallocn(heap, 1, size);
}

static void check_realloc(void) {
    mi_heap_t *heap = mi_heap_new();
    void *p = mi_heap_realloc(heap, NULL, 100);
    CHECK(p != NULL && mi_heap_of(p) == heap);
    fill(p, 100);
    p = mi_heap_realloc(heap, p, 50000);
    CHECK(p != NULL && is_filled(p, 100) && mi_heap_of(p) == heap);
    p = mi_heap_reallocn(heap, p, 10, 10000);
    CHECK(p != NULL && is_filled(p, 100) && mi_usable_size(p) >= 100000);
    CHECK_FAILS(mi_heap_reallocn(heap, p, opaque(SIZE_MAX), 2), ENOMEM);
    CHECK_FAILS(mi_heap_realloc(heap, p, opaque(SIZE_MAX)), ENOMEM);
    CHECK(is_filled(p, 100));
    CHECK_FAILS(mi_heap_reallocf(heap, p, opaque(SIZE_MAX)), ENOMEM); // frees p
    p = mi_heap_reallocf(heap, NULL, 10);
    CHECK(p != NULL);
    p = mi_heap_zalloc(heap, 40);
    fill(p, 40);
    p = mi_heap_rezalloc(heap, p, 9000);
    CHECK(p != NULL && is_filled(p, 40) && is_zero(p, 40, 9000));
    p = mi_heap_recalloc(heap, p, 100, 300);
    CHECK(p != NULL && is_filled(p, 40) && is_zero(p, 40, 30000));
    CHECK_FAILS(mi_heap_recalloc(heap, p, opaque(SIZE_MAX), 3), ENOMEM);
    // A block of another heap moves over when it must move.
    void *q = mi_malloc(64);
    fill(q, 64);
    q = mi_heap_realloc(heap, q, 200000);
    CHECK(q != NULL && is_filled(q, 64));
    for (size_t i = 0; i < OVERFLOW_COUNT; i++) {
        CHECK_FAILS(mi_heap_calloc(heap, opaque(overflowing[i].count), opaque(overflowing[i].size)),
                    ENOMEM);
        CHECK_FAILS(
            mi_heap_mallocn(heap, opaque(overflowing[i].count), opaque(overflowing[i].size)),
            ENOMEM);
    }
    mi_heap_destroy(heap);
}

static void check_delete(void) {
    mi_heap_t *heap = mi_heap_new();
    void *blocks[100];
    for (size_t i = 0; i < 100; i++) {
        blocks[i] = mi_heap_malloc(heap, i * 50);
        fill(blocks[i], i * 50);
    }
    mi_heap_delete(heap); // the blocks stay
    for (size_t i = 0; i < 100; i++) {
        CHECK_MSG(is_filled(blocks[i], i * 50), "%zu", i);
        CHECK(mi_heap_of(blocks[i]) == mi_heap_main());
        mi_free(blocks[i]);
    }
    for (int round = 0; round < 200; round++) { // heaps that come and go leave nothing
        heap = mi_heap_new();
        for (size_t i = 0; i < 50; i++)
            fill(mi_heap_malloc(heap, 1000 + i), 1000);
        if (round % 2 == 0)
            mi_heap_collect(heap, round % 4 == 0);
        mi_heap_destroy(heap);
    }
    mi_collect(true);
    mi_collect_reduce(0);
    mi_collect_reduce(1000000);
}

typedef struct seen_s {
    size_t areas, blocks, bytes, stop_after;
    size_t used; // by what the areas say
    bool is_wrong;
} seen_t;

static bool see(const mi_heap_t *heap, const mi_heap_area_t *area, void *block, size_t block_size,
                void *arg) {
    seen_t *seen = arg;
    if (area == NULL || heap == NULL || area->block_size == 0)
        seen->is_wrong = true;
    if (block == NULL) {
        seen->areas++;
        seen->used += area->used;
        if (area->used * area->full_block_size > area->committed ||
            area->committed > area->reserved ||
            (area->block_size < area->full_block_size) != (MI_DEBUG != 0) ||
            area->reserved % mi_arena_min_alignment() != 0)
            seen->is_wrong = true;
    } else {
        seen->blocks++;
        seen->bytes += block_size;
        memset(block, 0xA5, block_size);
        if (block_size != mi_usable_size(block) || block_size > area->block_size ||
            (uint8_t *)block < (uint8_t *)area->blocks ||
            (size_t)((uint8_t *)block - (uint8_t *)area->blocks) + block_size > area->committed)
            seen->is_wrong = true;
    }
    return seen->stop_after == 0 || seen->blocks < seen->stop_after;
}

// So much of the heap's first area was handed out.
static bool see_committed(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                          size_t block_size, void *arg) {
    (void)heap;
    (void)block;
    (void)block_size;
    *(size_t *)arg = area->committed;
    return false;
}

static void check_visit(void) {
    mi_heap_t *heap = mi_heap_new();
    void *blocks[300];
    for (size_t i = 0; i < 300; i++)
        blocks[i] = mi_heap_malloc(heap, (i % 3 == 0 ? 30 : i % 3 == 1 ? 3000 : 300000));
    for (size_t i = 0; i < 300; i += 2)
        mi_free(blocks[i]);
    seen_t seen = {0};
    CHECK(mi_heap_visit_blocks(heap, true, see, &seen));
    CHECK_MSG(seen.blocks == 150 && !seen.is_wrong && seen.areas > 0, "%zu blocks in %zu areas",
              seen.blocks, seen.areas);
    CHECK(seen.bytes >= 50 * 30 + 50 * 3000 + 50 * 300000);
    seen_t areas_only = {0};
    CHECK(mi_heap_visit_blocks(heap, false, see, &areas_only));
    CHECK(areas_only.blocks == 0 && areas_only.areas == seen.areas);
    CHECK_MSG(seen.used == 150 && areas_only.used == 150, "%zu, %zu", seen.used, areas_only.used);
    seen_t stopped = {.stop_after = 10};
    CHECK(!mi_heap_visit_blocks(heap, true, see, &stopped) && stopped.blocks == 10);
    CHECK(!mi_heap_visit_blocks(NULL, true, see, &seen) &&
          !mi_heap_visit_blocks(heap, true, NULL, NULL));
    mi_heap_destroy(heap);
    heap = mi_heap_new();
    seen_t empty = {0};
    size_t committed = 0;
    CHECK(mi_heap_visit_blocks(heap, true, see, &empty) && empty.blocks == 0);
    mi_heap_set_numa_affinity(heap, 0);
    void *p = mi_heap_malloc(heap, 10);
    CHECK(p != NULL);
    CHECK(!mi_heap_visit_blocks(heap, false, see_committed, &committed));
    CHECK_MSG(committed >= 10 && committed <= mi_arena_min_alignment() / 8, "%zu", committed);
    mi_heap_delete(heap);
    mi_free(p);
}

static void leave_blocks(void *heap) {
    for (int i = 0; i < 10; i++)
        (void)mi_heap_malloc(heap, 50);
    for (int i = 0; i < 5; i++)
        (void)mi_malloc(300); // the thread's default
}

static void leave_in_subproc(void *arg) {
    const mi_subproc_id_t subproc = arg;
    mi_subproc_add_current_thread(subproc);
    leave_blocks(mi_heap_new());
}

// A thread that takes over what another one left in the heap has it: nothing is without a thread.
static void take_over(void *heap) {
    seen_t seen = {0};
    (void)mi_heap_malloc(heap, 50);
    CHECK(mi_heap_visit_abandoned_blocks(heap, true, see, &seen));
    CHECK_MSG(seen.blocks == 0, "%zu", seen.blocks);
}

// What ended threads have left, and nothing that a living one has.
static void check_abandoned(void) {
    mi_heap_t *const heap = mi_heap_new();
    seen_t before = {0}, seen = {0}, all = {0};
    CHECK(mi_heap_visit_abandoned_blocks(mi_heap_main(), true, see, &before));
    for (int i = 0; i < 7; i++)
        (void)mi_heap_malloc(heap, 50);
    in_thread(leave_blocks, heap);
    CHECK(mi_heap_visit_abandoned_blocks(heap, true, see, &seen));
    CHECK_MSG(seen.blocks == 10 && seen.areas == 1, "%zu", seen.blocks);
    CHECK(mi_heap_visit_blocks(heap, true, see, &all) && all.blocks == 17);
    in_thread(take_over, heap);
    seen = (seen_t){0};
    CHECK(mi_heap_visit_abandoned_blocks(mi_heap_main(), true, see, &seen));
    CHECK_MSG(seen.blocks == before.blocks + 5, "%zu", seen.blocks);
    // In a sub-process: those of its own heap and of the one that its thread made.
    const mi_subproc_id_t subproc = mi_subproc_new();
    in_thread(leave_in_subproc, subproc);
    seen = (seen_t){0};
    CHECK(mi_abandoned_visit_blocks(subproc, 0, true, see, &seen));
    CHECK_MSG(seen.blocks == 15 && !seen.is_wrong, "%zu", seen.blocks);
    seen = (seen_t){.stop_after = 7};
    CHECK(!mi_abandoned_visit_blocks(subproc, 0, true, see, &seen) && seen.blocks == 7);
    CHECK(!mi_abandoned_visit_blocks(NULL, 0, true, see, &seen));
    mi_subproc_destroy(subproc);
    mi_heap_destroy(heap);
}

static size_t committed_bytes(void) {
    mi_stats_t_decl(stats);
    CHECK(mi_stats_get(&stats));
    return (size_t)stats.committed.current;
}

// What is free goes back at once when it is forced, by each of these names.
static void check_collect(void) {
    enum { MORE = 6 << 20 };
    mi_heap_t *const heap = mi_heap_new();
    mi_theap_t *const theap = mi_heap_theap(heap);
    mi_collect(true);
    const size_t before = committed_bytes();
    for (int way = 0; way < 3; way++) {
        mi_free(mi_heap_malloc(heap, MORE));
        const size_t kept = committed_bytes();
        CHECK_MSG(kept >= before + MORE, "%d: %zu after %zu", way, kept, before);
        if (way == 0)
            mi_heap_collect(heap, true);
        else if (way == 1)
            mi_theap_collect(theap, true);
        else
            mi_collect(true);
        const size_t after = committed_bytes();
        CHECK_MSG(after < before + (1 << 20), "%d: %zu after %zu", way, after, before);
    }
    // A block of this size leaves its page at hand, until the thread is told to have less.
    mi_collect(true);
    const size_t least = committed_bytes();
    mi_free(mi_malloc(1500000));
    mi_collect_reduce(3000000);
    CHECK(committed_bytes() >= least + 1500000);
    mi_collect_reduce(500000);
    CHECK_MSG(committed_bytes() < least + 500000, "%zu after %zu", committed_bytes(), least);
    mi_heap_destroy(heap);
}

static size_t page_bytes(void) {
    mi_stats_t_decl(stats);
    CHECK(mi_stats_get(&stats));
    return (size_t)stats.page_committed.current;
}

// Pages of large blocks stay at hand, up to a limit; and however many came and went, a block that
// is allocated and freed in turn needs no slow path, which would count it.
static void check_at_hand(void) {
    mi_collect(true);
    const size_t before = page_bytes();
    for (int round = 0; round < 20; round++)
        for (size_t size = 70000; size <= 4000000; size += size / 10)
            mi_free(mi_malloc(size));
    // The secure build keeps empty pages, too, 16 MiB of all threads together.
    const size_t most = before + 8000000 + (MI_SECURE ? 16 << 20 : 0);
    CHECK_MSG(page_bytes() <= most, "%zu after %zu", page_bytes(), before);
    mi_stats_t_decl(early);
    mi_stats_t_decl(late);
    mi_free(mi_malloc(300000));
    CHECK(mi_stats_get(&early));
    for (int i = 0; i < 1000; i++) {
        void *const p = mi_malloc(300000), *const q = mi_malloc(600000);
        mi_free(q);
        mi_free(p);
    }
    CHECK(mi_stats_get(&late));
    CHECK_MSG(MI_DEBUG || late.malloc_normal_count.total < early.malloc_normal_count.total + 20,
              "%d", (int)(late.malloc_normal_count.total - early.malloc_normal_count.total));
    mi_collect(true);
}

// Blocks go where blocks were freed, and where some were never handed out: there are no more pages
// than those blocks need.
static void check_no_more_pages(void) {
    enum { SIZE = 256, COUNT = 6000 };
    static void *blocks[COUNT];
    mi_heap_t *const heap = mi_heap_new();
    mi_stats_t_decl(before);
    mi_stats_t_decl(after);
    for (int i = 0; i < COUNT; i++)
        blocks[i] = mi_heap_malloc(heap, SIZE);
    CHECK(mi_heap_stats_get(heap, &before));
    for (int round = 0; round < 5; round++) {
        for (int i = round % 2; i < COUNT; i += 2)
            mi_free(blocks[i]);
        for (int i = round % 2; i < COUNT; i += 2)
            blocks[i] = mi_heap_malloc(heap, SIZE);
    }
    CHECK(mi_heap_stats_get(heap, &after));
    CHECK_MSG(after.pages.current <= before.pages.current + 1, "%d pages, then %d",
              (int)before.pages.current, (int)after.pages.current);
    mi_heap_destroy(heap);
    // A second page was begun, then the first has room again, then neither is full.
    mi_heap_t *const two = mi_heap_new();
    int count = 0;
    do {
        blocks[count++] = mi_heap_malloc(two, SIZE);
        CHECK(mi_heap_stats_get(two, &after));
    } while (after.pages.current < 2);
    const int first = count - 1;
    for (int i = 0; i < first / 4; i++)
        mi_free(blocks[i]);
    for (int i = 0; i < first + first / 8; i++)
        (void)mi_heap_malloc(two, SIZE);
    CHECK(mi_heap_stats_get(two, &after));
    CHECK_MSG(after.pages.current == 2, "%d pages", (int)after.pages.current);
    mi_heap_destroy(two);
}

static void use_and_free(void *arg) {
    enum { COUNT = 400 }; // several pages, of which a thread keeps some
    void *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        blocks[i] = mi_malloc(1000);
    for (size_t i = 0; i < COUNT; i++)
        mi_free(blocks[i]);
    (void)arg;
}

static void use_large(void *arg) {
    for (int i = 0; i < 100; i++)
        mi_free(mi_malloc(5000000));
    (void)arg;
}

// A thread that ends leaves no page without a live block but the one that it allocated from, and
// its allocations are counted on.
static void check_thread_end(void) {
    mi_stats_t_decl(before);
    mi_stats_t_decl(after);
    CHECK(mi_stats_get(&before));
    in_thread(use_large, NULL); // of this one nothing at all is left
    in_thread(use_and_free, NULL);
    CHECK(mi_stats_get(&after));
    CHECK_MSG(after.pages.current <= before.pages.current + 1, "%d pages, then %d",
              (int)before.pages.current, (int)after.pages.current);
    CHECK(after.malloc_normal_count.total >= before.malloc_normal_count.total + 100);
    CHECK(after.threads.current == before.threads.current);
}

static int64_t guarded_count(void) {
    mi_stats_t_decl(stats);
    CHECK(mi_stats_get(&stats));
    return stats.malloc_guarded_count.total;
}

static void have_wishes(void *heap) {
    (void)mi_heap_set_default(heap);
    mi_heap_guarded_set_sample_rate(mi_heap_main(), 1, 1);
    mi_free(mi_malloc(100));
}

static void have_none(void *arg) {
    const int64_t before = guarded_count();
    void *const p = mi_malloc(100), *const q = mi_heap_malloc(mi_heap_main(), 100);
    CHECK(mi_heap_get_default() == mi_heap_main() && mi_heap_of(p) == mi_heap_main());
    CHECK(guarded_count() == before);
    mi_free(p);
    mi_free(q);
    (void)arg;
}

// A thread that takes over what another one left has no wish of that one's.
static void check_wishes(void) {
    mi_heap_t *const heap = mi_heap_new();
    in_thread(have_wishes, heap);
    in_thread(have_none, NULL);
    mi_heap_destroy(heap);
}

int main(void) {
    check_main();
    check_under_utilized();
    check_alloc("mi_heap_malloc", mi_heap_malloc, false, SIZE_MAX);
    check_alloc("mi_heap_zalloc", mi_heap_zalloc, true, SIZE_MAX);
    check_alloc("mi_heap_calloc", heap_calloc_1, true, SIZE_MAX);
    check_alloc("mi_heap_mallocn", heap_mallocn_1, false, SIZE_MAX);
    check_alloc("mi_heap_malloc_small", mi_heap_malloc_small, false, MI_SMALL_SIZE_MAX);
    check_alloc("mi_heap_zalloc_small", mi_heap_zalloc_small, true, MI_SMALL_SIZE_MAX);
    check_realloc();
    check_delete();
    check_visit();
    check_thread_end();
    check_wishes();
    check_abandoned();
    check_collect();
    check_at_hand();
    check_no_more_pages();
    return test_result();
}
