// What the options change in the core (mi_core_config), each with and without.
#include "core/arena.h"
#include "core/limits.h"
#include "use.h"

#include <pthread.h>

static mi_core_stats_t now_stats(void) {
    mi_core_stats_t stats;
    mi_core_stats(&stats);
    return stats;
}

// Bytes purged because eight blocks of 3 MiB were freed and their time has come. Some are kept.
static uint64_t purged_by_free(void) {
    void *blocks[8];
    mi_core_collect(true);
    for (int i = 0; i < 8; i++) {
        blocks[i] = use_malloc(3 * MI_MiB);
        memset(blocks[i], 0xEE, 3 * MI_MiB);
    }
    const uint64_t before = now_stats().purged_bytes;
    for (int i = 0; i < 8; i++)
        CHECK(use_free(blocks[i]) == MI_FREE_OK);
    for (int i = 0; i < 4; i++)
        mi_arena_purge(false);
    return now_stats().purged_bytes - before;
}

static void test_purging(void) {
    mi_config_set(purge_delay_ms, 0);
    CHECK(purged_by_free() >= 9 * MI_MiB);
    mi_config_set(purge_least, 1 * MI_GiB);
    CHECK(purged_by_free() == 0);
    const uint64_t before = now_stats().purged_bytes;
    mi_core_collect(true); // takes all the same
    CHECK(now_stats().purged_bytes - before >= 9 * MI_MiB);
    mi_config_set(purge_least, 0);
    mi_config_set(purge_delay_ms, 1000000);
    CHECK(purged_by_free() == 0);
    mi_config_set(purge_mult, 0);
    CHECK(purged_by_free() >= 9 * MI_MiB);
    mi_config_set(purge_mult, 1);
    mi_config_set(purge_delay_ms, 250);
    // Content that may or may not be there is not taken for zero.
    mi_config_set(purge_keeps_memory, true);
    for (int round = 0; round < 3; round++) {
        uint8_t *const p = mi_core_malloc(3 * MI_MiB, true);
        CHECK(p != NULL && use_is_zero(p, 3 * MI_MiB));
        memset(p, 0xEE, 3 * MI_MiB);
        CHECK(use_free(p) == MI_FREE_OK);
        const uint64_t calls = now_stats().reset_count;
        mi_core_collect(true);
        CHECK(now_stats().reset_count > calls);
    }
    mi_config_set(purge_keeps_memory, false);
}

static bool has_own_reservation(size_t size) {
    void *const p = use_malloc(size);
    const bool is_own = (mi_page_map_find(p)->arena == NULL);
    CHECK(use_free(p) == MI_FREE_OK);
    return is_own;
}

static void test_span_max(void) {
    const size_t usual = mi_config(span_max);
    CHECK(!has_own_reservation(3 * MI_MiB) && has_own_reservation(MI_SPAN_MAX + MI_MiB));
    mi_config_set(span_max, 0);
    CHECK(has_own_reservation(5 * MI_MiB) && !has_own_reservation(3 * MI_MiB));
    mi_config_set(span_max, usual);
}

// Pages left after blocks of many sizes were freed and a few more were allocated.
static uint64_t pages_kept(void) {
    void *blocks[100];
    for (size_t i = 0; i < 100; i++)
        blocks[i] = use_malloc(100 + 130 * i);
    for (size_t i = 0; i < 100; i++)
        CHECK(use_free(blocks[i]) == MI_FREE_OK);
    void *const last = use_malloc(7 * MI_MiB); // a slow path
    const uint64_t kept = now_stats().page_count;
    CHECK(use_free(last) == MI_FREE_OK);
    return kept;
}

static void test_collect_every(void) {
    const uint64_t usual = pages_kept();
    mi_core_collect_every(1);
    const uint64_t collected = pages_kept();
    mi_core_collect_every(0);
    CHECK_MSG(collected <= 3 && usual > collected, "%d pages, else %d", (int)collected, (int)usual);
}

static void *leave_blocks(void *arg) {
    void **const blocks = (void **)arg;
    for (size_t i = 0; i < 90; i++)
        blocks[i] = use_malloc(5000); // the last page has room
    return NULL;
}

static uint64_t stolen(void) {
    static void *blocks[100], *own[100];
    pthread_t thread;
    const uint64_t before = now_stats().stolen_count;
    CHECK(pthread_create(&thread, NULL, leave_blocks, blocks) == 0 &&
          pthread_join(thread, NULL) == 0);
    mi_core_collect(true); // this thread has no page of that size then
    for (size_t i = 0; i < 100; i++)
        own[i] = use_malloc(5000);
    const uint64_t count = now_stats().stolen_count - before;
    for (size_t i = 0; i < 100; i++)
        CHECK(use_free(own[i]) == MI_FREE_OK && (i >= 90 || use_free(blocks[i]) == MI_FREE_OK));
    mi_core_collect(true);
    return count;
}

static void test_never_steal(void) {
    CHECK(stolen() > 0);
    mi_config_set(never_steal, true);
    CHECK(stolen() == 0);
    mi_config_set(never_steal, false);
}

int main(void) {
    test_purging();
    test_span_max();
    test_collect_every();
    test_never_steal();
    return test_result();
}
