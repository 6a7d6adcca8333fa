// Blocks above 64 KiB change their length where they stand (realloc.c): what they need no more goes
// back and serves others, they take over what is free behind them, and hold what was in them.
#include "core/arena.h"
#include "core/limits.h"
#include "core/theap.h"
#include "use.h"

#include <pthread.h>

#define IN_PLACE (!MI_SECURE && !MI_DEBUG && !MI_SHRUNK)

static uint8_t *resize(uint8_t *p, size_t size, unsigned flags) {
    uint8_t *const q = (uint8_t *)mi_core_realloc(p, size, flags, NULL);
    CHECK(q != NULL && mi_core_usable(q, NULL) >= size);
    return q;
}

static bool holds(const uint8_t *p, size_t size, uint8_t tag) {
    for (size_t i = 0; i < size; i++)
        if (p[i] != tag)
            return false;
    return true;
}

// One that shrinks stays where it is, gives up its end, and may grow again over it; a page that its
// class allocates from, and one that it does not.
static void test_shrink(void) {
    for (int current = 0; current < 2; current++) {
        mi_core_collect(true);
        uint8_t *const other = (uint8_t *)use_malloc(2 * MI_MiB);
        uint8_t *p = (uint8_t *)use_malloc(2 * MI_MiB);
        if (current)
            CHECK(use_free(other) == MI_FREE_OK);
        memset(p, 3, 2 * MI_MiB);
        const size_t before = (size_t)use_stats().page_bytes;
        uint8_t *q = resize(p, 300 * 1024, 0);
        CHECK(holds(q, 300 * 1024, 3));
        CHECK(mi_core_usable(q, NULL) < 600 * 1024);
        CHECK(!IN_PLACE || q == p);
        CHECK_MSG(!IN_PLACE || before - use_stats().page_bytes >= 1600 * 1024, "%zu and %zu bytes",
                  before, (size_t)use_stats().page_bytes);
        CHECK(!IN_PLACE || mi_page_map_find(p + 1024 * 1024) == NULL);
        q = resize(q, MI_MiB, 0);
        CHECK(holds(q, 300 * 1024, 3));
        CHECK(!IN_PLACE || q == p);
        memset(q, 4, MI_MiB);
        q = resize(q, 70 * 1024, 0);
        CHECK(holds(q, 70 * 1024, 4) && (!IN_PLACE || q == p));
        q = resize(q, 50 * 1024, 0); // shares a page
        CHECK(holds(q, 50 * 1024, 4));
        CHECK(use_free(q) == MI_FREE_OK);
        if (!current)
            CHECK(use_free(other) == MI_FREE_OK);
    }
    CHECK_MSG((mi_core_collect(true), use_stats().page_count) == 0, "%d pages left",
              (int)use_stats().page_count);
}

// What serves others from then on is not the block's any more.
static void test_others(void) {
    enum { COUNT = 64 };
    void *block[COUNT];
    mi_core_collect(true);
    uint8_t *p = (uint8_t *)use_malloc(3 * MI_MiB);
    memset(p, 5, 3 * MI_MiB);
    p = resize(p, 200 * 1024, 0);
    for (int i = 0; i < COUNT; i++) {
        block[i] = use_malloc(60000);
        memset(block[i], 6, 60000);
    }
    CHECK(holds(p, 200 * 1024, 5));
    p = resize(p, 3 * MI_MiB, 0);
    CHECK(holds(p, 200 * 1024, 5));
    memset(p, 7, 3 * MI_MiB);
    for (int i = 0; i < COUNT; i++) {
        CHECK(holds((uint8_t *)block[i], 60000, 6));
        CHECK(use_free(block[i]) == MI_FREE_OK);
    }
    CHECK(use_free(p) == MI_FREE_OK);
}

// What a growing block takes over is zero where it shall be, also where it was this block's.
static void test_zero(void) {
    mi_core_collect(true);
    uint8_t *p = (uint8_t *)mi_core_malloc(3 * MI_MiB, true);
    memset(p, 8, 3 * MI_MiB);
    p = resize(p, 100 * 1024, MI_REALLOC_ZERO);
    for (size_t size = 150 * 1024; size < 3 * MI_MiB; size += size / 3) {
        const size_t old = mi_core_usable(p, NULL);
        memset(p, 9, old);
        p = resize(p, size, MI_REALLOC_ZERO);
        CHECK(holds(p, old < size ? old : size, 9));
        if (size > old)
            CHECK(use_is_zero(p + old, mi_core_usable(p, NULL) - old));
    }
    CHECK(use_free(p) == MI_FREE_OK);
}

// The same in a page that has more slices than its block needs, since it served a longer one.
static void test_zero_longer(void) {
    uint8_t *longer[2];
    mi_core_collect(true);
    for (int i = 0; i < 2; i++) {
        longer[i] = (uint8_t *)use_malloc(250 * 1024);
        memset(longer[i], 0xEE, 250 * 1024);
    }
    CHECK(use_free(longer[0]) == MI_FREE_OK && use_free(longer[1]) == MI_FREE_OK);
    uint8_t *p = (uint8_t *)use_malloc(70 * 1024);
    CHECK(!IN_PLACE || mi_page_map_find(p)->slices == 4);
    const size_t old = mi_core_usable(p, NULL);
    p = resize(p, MI_MiB, MI_REALLOC_ZERO);
    CHECK(use_is_zero(p + old, mi_core_usable(p, NULL) - old));
    CHECK(use_free(p) == MI_FREE_OK);
}

// Random lengths, of threads that hand each other their blocks.
enum { THREADS = 3, EACH = 6, TURNS = 2000 };
typedef struct slot_s {
    pthread_mutex_t lock;
    uint8_t *block;
    size_t size;
    bool is_exact;
} slot_t;
static slot_t slot[THREADS * EACH];

static void *random_thread(void *arg) {
    uint64_t state = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < TURNS; i++) {
        slot_t *const s = &slot[use_random(&state) % (THREADS * EACH)];
        const size_t size = 1000 + (size_t)(use_random(&state) % ((size_t)1 << (12 + i % 10)));
        pthread_mutex_lock(&s->lock);
        const uint8_t tag = (uint8_t)(s - slot + 1);
        if (s->block == NULL) {
            s->is_exact = (use_random(&state) % 2 != 0);
            s->block =
                (uint8_t *)(s->is_exact ? mi_core_malloc_exact(size, false) : use_malloc(size));
        } else if (use_random(&state) % 16 == 0) {
            CHECK(use_check(s->block, s->size, tag));
            CHECK(use_free(s->block) == MI_FREE_OK);
            s->block = NULL;
        } else {
            const size_t both = (size < s->size ? size : s->size);
            s->block = resize(s->block, size, s->is_exact ? MI_REALLOC_EXACT : 0);
            for (size_t at = 0; at + 4096 < both; at += USE_STRIDE)
                CHECK(s->block[at] == tag);
        }
        if (s->block != NULL) {
            CHECK(MI_DEBUG || !s->is_exact || mi_core_usable(s->block, NULL) == size);
            use_fill(s->block, size, tag);
            s->size = size;
        }
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

static void test_random(void) {
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS * EACH; i++)
        pthread_mutex_init(&slot[i].lock, NULL);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, random_thread, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < THREADS * EACH; i++) {
        CHECK(slot[i].block == NULL || use_check(slot[i].block, slot[i].size, (uint8_t)(i + 1)));
        CHECK(use_free(slot[i].block) == MI_FREE_OK);
    }
}

int main(void) {
    mi_config_set(purge_delay_ms, 1000 * 1000);
    test_shrink();
    test_others();
    test_zero();
    test_zero_longer();
    test_random();
    mi_core_collect(true);
    mi_core_collect(true); // takes what others freed meanwhile
    CHECK_MSG(use_stats().page_count == 0, "%d pages left", (int)use_stats().page_count);
    return test_result();
}
