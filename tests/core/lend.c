// Pages that change their class: a class that needs a page takes an idle one of the same length
// from another; what lies in it then is the new class' alone; classes in turn do not exchange one
// for ever.
#include "core/limits.h"
#include "core/theap.h"
#include "use.h"

#include <pthread.h>

// A group of blocks of each size in turn, from 16 bytes on; each group is gone before the next.
static void test_phases(size_t least, size_t most, size_t group_bytes) {
    static void *block[4096];
    const uint64_t before = use_stats().page_total;
    int classes = 0;
    for (size_t size = least; size <= most; size += mi_align_up(size / 8, 16), classes++) {
        const size_t count = (group_bytes / size < 4096 ? group_bytes / size : 4096);
        for (size_t i = 0; i < count; i++) {
            const bool is_zeroed = (i % 3 == 0);
            block[i] = (is_zeroed ? mi_core_malloc(size, true) : use_malloc(size));
            CHECK(!is_zeroed || use_is_zero(block[i], size));
            CHECK(((uintptr_t)block[i] & 15) == 0 && mi_core_usable(block[i], NULL) >= size);
            use_fill(block[i], size, (uint8_t)(i + size / 16));
        }
        for (size_t i = 0; i < count; i++) {
            CHECK(use_check(block[i], size, (uint8_t)(i + size / 16)));
            memset(block[i], 0xFF, size);
            CHECK(use_free(block[i]) == MI_FREE_OK);
        }
    }
    CHECK(classes >= 8);
    CHECK_MSG(use_stats().page_total - before <= 3, "%d pages for %d classes of %d bytes and more",
              (int)(use_stats().page_total - before), classes, (int)least);
}

// A block that grows leaves pages behind that serve the next time, too.
static void test_growth(void) {
    uint64_t before = 0;
    for (int round = 0; round < 20; round++) {
        size_t size = 100;
        uint8_t *p = use_malloc(size);
        for (; size < 60000; size += size / 8) {
            uint8_t *const q = use_malloc(size + size / 8);
            memset(q, (int)(size % 251), size + size / 8);
            CHECK(use_free(p) == MI_FREE_OK);
            p = q;
        }
        CHECK(use_free(p) == MI_FREE_OK);
        if (round == 0)
            before = use_stats().page_total;
    }
    CHECK_MSG(use_stats().page_total - before <= 40, "%d pages",
              (int)(use_stats().page_total - before));
}

// Classes in turn, whose pages are of one length: after a few turns each has its own.
static void test_turns(size_t least, size_t step, int classes) {
    uint64_t before = 0, slow = 0;
    for (int turn = 0; turn < 2000; turn++) {
        void *const p = use_malloc(least + step * (size_t)(turn % classes));
        CHECK(use_free(p) == MI_FREE_OK);
        if (turn == 100) {
            before = use_stats().page_total;
            slow = use_stats().malloc_count;
        }
    }
    CHECK_MSG(use_stats().page_total - before <= 1, "%d pages",
              (int)(use_stats().page_total - before));
    CHECK_MSG(MI_DEBUG || MI_SHRUNK || use_stats().malloc_count - slow <= 20,
              "%d slow ones of 1900", (int)(use_stats().malloc_count - slow));
}

// The exact sizes of a page's new blocks are their own.
static void test_exact(void) {
    void *block[64];
    for (int round = 0; round < 30; round++) {
        const size_t size = 100 + (size_t)round * 16;
        for (size_t i = 0; i < 64; i++) {
            block[i] = mi_core_malloc_exact(size + i % 7, i % 2 == 0);
            CHECK(i % 2 != 0 || use_is_zero(block[i], size));
            memset(block[i], 0xEE, size);
        }
        for (size_t i = 0; i < 64; i++) {
            CHECK(mi_core_usable(block[i], NULL) == size + i % 7);
            CHECK(use_free(block[i]) == MI_FREE_OK);
        }
    }
}

// Blocks handed out with an offset make a page that lends nothing.
static void test_interior(void) {
    for (int round = 0; round < 50; round++) {
        uint8_t *const p = mi_core_malloc_aligned(200 + (size_t)round * 32, 256, 64, false);
        CHECK(((uintptr_t)p + 64) % 256 == 0);
        void *const q = use_malloc(216 + (size_t)round * 32);
        CHECK(use_free(p) == MI_FREE_OK && use_free(q) == MI_FREE_OK);
    }
}

// Pages are dear in the secure build: a batch of blocks that comes again finds those of before.
// Beside other threads each keeps its part only.
static uint64_t batches_left(uint64_t *made) {
    enum { BLOCKS = 1200, BYTES = 8 * 1024 };
    static void *block[BLOCKS];
    mi_core_stats_t stats;
    mi_core_stats(&stats);
    const uint64_t pages = stats.page_count;
    for (int round = 0; round < 3; round++) {
        const uint64_t before = use_stats().page_total;
        for (int i = 0; i < BLOCKS; i++)
            block[i] = use_malloc(BYTES);
        *made = use_stats().page_total - before;
        for (int i = 0; i < BLOCKS; i++)
            CHECK(use_free(block[i]) == MI_FREE_OK);
    }
    mi_core_stats(&stats);
    return stats.page_count - pages;
}

static pthread_barrier_t batches_barrier;
static void *wait_with_theap(void *arg) {
    CHECK(use_free(use_malloc(16)) == MI_FREE_OK);
    pthread_barrier_wait(&batches_barrier);
    pthread_barrier_wait(&batches_barrier);
    return arg;
}

static void test_batches(void) {
    enum { OTHERS = 40 };
    pthread_t other[OTHERS];
    uint64_t made[2];
    const uint64_t alone = batches_left(&made[0]);
    mi_core_collect(true);
    pthread_barrier_init(&batches_barrier, NULL, OTHERS + 1);
    for (int i = 0; i < OTHERS; i++)
        pthread_create(&other[i], NULL, wait_with_theap, NULL);
    pthread_barrier_wait(&batches_barrier);
    const uint64_t among = batches_left(&made[1]);
    pthread_barrier_wait(&batches_barrier);
    for (int i = 0; i < OTHERS; i++)
        pthread_join(other[i], NULL);
    CHECK_MSG(made[0] == 0, "%d pages again", (int)made[0]);
    CHECK_MSG(among <= alone / 4 && made[1] != 0, "%d pages, among other threads %d", (int)alone,
              (int)among);
}

// A large block finds a page that waits and is a slice longer; when it is gone, that waits with the
// long ones again. Each page that is taken is full at once: none becomes current where two classes
// take turns.
static void test_longer(void) {
    enum { LONG = 350 * 1024, SHORT = 300 * 1024 };     // too long for lists (guest.h)
    enum { ROUNDS = (MI_SHRUNK ? 0 : 3 * MI_SINGLES) }; // where no empty page as long is kept
    void *const held[] = {use_malloc(SHORT), use_malloc(LONG)};
    void *const p = use_malloc(LONG);
    void *const current = use_malloc(LONG);
    CHECK(use_free(p) == MI_FREE_OK);
    const uint64_t before = use_stats().page_total;
    for (int round = 0; round < ROUNDS; round++) {
        void *const brief = use_malloc(SHORT);
        CHECK(brief == p && mi_core_usable(brief, NULL) >= SHORT);
        use_fill(brief, SHORT, (uint8_t)round);
        CHECK(use_check(brief, SHORT, (uint8_t)round) && use_free(brief) == MI_FREE_OK);
        void *const again = mi_core_malloc(LONG, round % 2 != 0);
        CHECK(again == p && mi_core_usable(again, NULL) >= LONG);
        CHECK(round % 2 == 0 || use_is_zero(again, LONG));
        memset(again, round, LONG); // all of it, or it would be one that is hardly used
        CHECK(use_check(again, LONG, (uint8_t)round) && use_free(again) == MI_FREE_OK);
    }
    CHECK_MSG(use_stats().page_total == before, "%d pages", (int)(use_stats().page_total - before));
    CHECK(use_free(held[0]) == MI_FREE_OK && use_free(held[1]) == MI_FREE_OK);
    CHECK(use_free(current) == MI_FREE_OK);
}

// Blocks of a large size come and go beside one that stays: soon by the fast path.
static void test_pairs(void) {
    void *const held = use_malloc(100 * 1024);
    uint64_t slow = 0;
    for (int turn = 0; turn < 1000; turn++) {
        CHECK(use_free(use_malloc(100 * 1024)) == MI_FREE_OK);
        if (turn == 20)
            slow = use_stats().malloc_count;
    }
    CHECK_MSG(MI_DEBUG || MI_SHRUNK || use_stats().malloc_count - slow <= 20, "%d slow ones of 980",
              (int)(use_stats().malloc_count - slow));
    CHECK(use_free(held) == MI_FREE_OK);
}

// A thread keeps empty pages while it takes no memory that nobody had touched.
static void test_kept(void) {
    enum { COUNT = 2000, SIZE = 6000 };
    static void *block[COUNT];
    const mi_theap_t *const theap = mi_core_theap();
    uint64_t state = 5;
    if (MI_SECURE || MI_SHRUNK)
        return;
    mi_core_collect(true);
    for (int i = 0; i < COUNT; i++)
        block[i] = use_malloc(SIZE);
    for (int i = COUNT; i > 0; i--) { // in random order
        const int k = (int)(use_random(&state) % (uint64_t)i);
        CHECK(use_free(block[k]) == MI_FREE_OK);
        block[k] = block[i - 1];
    }
    CHECK(theap->empty_bytes > 8 * MI_MiB && theap->empty_bytes <= theap->empty_max);
    const uint64_t pages = use_stats().page_total;
    int in_order = 0;
    for (int i = 0; i < COUNT; i++) {
        block[i] = use_malloc(SIZE);
        const ptrdiff_t step = (i == 0 ? 0 : (char *)block[i] - (char *)block[i - 1]);
        in_order += (step == (ptrdiff_t)mi_core_usable(block[i], NULL) ? 1 : 0);
    }
    CHECK(MI_DEBUG || in_order > COUNT * 3 / 4);
    CHECK_MSG(use_stats().page_total - pages < 20, "%d new pages",
              (int)(use_stats().page_total - pages));
    for (int i = 0; i < COUNT; i++)
        CHECK(use_free(block[i]) == MI_FREE_OK);
    CHECK(theap->empty_bytes > 8 * MI_MiB);
    void *const fresh = use_malloc(3 * MI_MiB);
    CHECK(theap->empty_bytes <= theap->empty_own);
    CHECK(use_free(fresh) == MI_FREE_OK);
}

int main(void) {
    mi_config_set(purge_delay_ms, 1000 * 1000); // or a slow machine gives back what is looked for
    if (MI_SECURE && !MI_SHRUNK)
        test_batches();
    test_phases(16, 4096, 40000);
    test_phases(4600, 16000, 100000);
    test_phases(16500, 60000, 200000);
    mi_core_collect(true);
    test_growth();
    mi_core_collect(true);
    test_turns(1000, 300, 2);
    test_turns(5000, 1500, 3);
    test_turns(20000, 5000, 3);
    test_turns(70000, 20000, 2);
    mi_core_collect(true);
    test_longer();
    test_pairs();
    test_kept();
    test_exact();
    test_interior();
    mi_core_collect(true);
    mi_core_stats_t stats;
    mi_core_stats(&stats);
    CHECK_MSG(stats.page_count == 0, "%d pages left", (int)stats.page_count);
    return test_result();
}
