// Blocks that one thread frees and another's page owns: they serve the thread that freed them, go
// home when they are too many, and do not bring two threads to one cache line.
#include "changes.h"
#include "use.h"

#include <pthread.h>

enum { SET = 600, SLEEPERS = 24 };

typedef struct maker_s {
    void *block[SET];
    int count;
    size_t size;
} maker_t;

static void *make(void *arg) {
    maker_t *const m = (maker_t *)arg;
    for (int i = 0; i < m->count; i++) {
        m->block[i] = use_malloc(m->size);
        use_fill(m->block[i], m->size, (uint8_t)i);
    }
    return NULL;
}

// Blocks from a thread that is gone.
static void make_elsewhere(maker_t *m) {
    pthread_t thread;
    pthread_create(&thread, NULL, make, m);
    pthread_join(thread, NULL);
}

static bool is_among(const maker_t *m, const void *p) {
    for (int i = 0; i < m->count; i++)
        if (m->block[i] == p)
            return true;
    return false;
}

static void collect_all(void) {
    mi_core_collect(true); // hands over what this thread holds
    mi_core_collect(true); // and takes back what others did
}

// What was freed last is handed out first, as large as any block of its class, and comes home.
static void test_reuse(size_t size) {
    static maker_t m;
    void *again[4];
    m.count = 4;
    m.size = size;
    make_elsewhere(&m);
    for (int i = 0; i < m.count; i++)
        CHECK(use_free(m.block[i]) == MI_FREE_OK);
    for (int i = 0; i < 4; i++) {
        again[i] = use_malloc(size);
        CHECK_MSG(MI_SECURE || is_among(&m, again[i]), "block %d of %d bytes is another", i,
                  (int)size);
        CHECK(mi_core_usable(again[i], NULL) >= size);
        use_fill(again[i], size, (uint8_t)(0x40 + i));
    }
    for (int i = 0; i < 4; i++) {
        CHECK(use_check(again[i], size, (uint8_t)(0x40 + i)));
        CHECK(use_free(again[i]) == MI_FREE_OK);
    }
    collect_all();
    CHECK_MSG(use_stats().page_count == 0, "%d pages left", (int)use_stats().page_count);
}

// Zeroed blocks are zero, exact ones exact, wherever they come from.
static void test_kinds(void) {
    static maker_t m;
    m.count = 4;
    m.size = 704;
    make_elsewhere(&m);
    for (int i = 0; i < m.count; i++)
        CHECK(use_free(m.block[i]) == MI_FREE_OK);
    for (int i = 0; i < 4; i++) {
        uint8_t *p = MI_DEBUG ? NULL : mi_zalloc_try(700);
        if (p == NULL)
            p = mi_core_malloc(700, true);
        CHECK(use_is_zero(p, 700));
        m.block[i] = p;
    }
    for (int i = 0; i < 4; i++)
        CHECK(use_free(m.block[i]) == MI_FREE_OK);
    collect_all();
    CHECK(use_stats().page_count == 0);
}

static void *make_exact(void *arg) {
    maker_t *const m = (maker_t *)arg;
    for (int i = 0; i < m->count; i++)
        m->block[i] = mi_core_malloc_exact(m->size, false);
    return NULL;
}

static void test_exact(size_t least) {
    static maker_t m;
    void *again[8];
    pthread_t thread;
    m.count = 8;
    m.size = least + 50;
    pthread_create(&thread, NULL, make_exact, &m);
    pthread_join(thread, NULL);
    for (int i = 0; i < m.count; i++)
        CHECK(use_free(m.block[i]) == MI_FREE_OK);
    for (int i = 0; i < 8; i++) {
        const size_t size = least + (size_t)i * 6;
        void *p = mi_malloc_exact_try(size);
        if (p == NULL)
            p = mi_core_malloc_exact(size, false);
        CHECK(mi_core_usable(p, NULL) == size);
        CHECK_MSG(MI_SECURE || MI_DEBUG || is_among(&m, p), "block %d is another", i);
        again[i] = p;
    }
    for (int i = 0; i < 8; i++)
        CHECK(use_free(again[i]) == MI_FREE_OK);
    collect_all();
    CHECK(use_stats().page_count == 0);
}

// A few small ones are not handed out again: others of their cache lines are another thread's.
static void test_lines(void) {
    static maker_t m;
    m.count = 16;
    m.size = 16;
    make_elsewhere(&m);
    for (int i = 0; i < 8; i += 2) // less than a list must have
        CHECK(use_free(m.block[i]) == MI_FREE_OK);
    void *mine[100];
    for (int k = 0; k < 100; k++) {
        mine[k] = use_malloc(16);
        for (int i = 1; i < 8; i += 2)
            CHECK(((uintptr_t)mine[k] ^ (uintptr_t)m.block[i]) >> 6 != 0);
    }
    for (int k = 0; k < 100; k++)
        CHECK(use_free(mine[k]) == MI_FREE_OK);
    for (int i = 0; i < 16; i++)
        if (i % 2 == 1 || i >= 8)
            CHECK(use_free(m.block[i]) == MI_FREE_OK);
    collect_all();
    CHECK(use_stats().page_count == 0);
}

// A thread that only frees keeps a few; the owner gets the rest without asking.
static pthread_barrier_t turn;
static maker_t owner_set;

static void *owner(void *arg) {
    (void)arg;
    make(&owner_set);
    pthread_barrier_wait(&turn); // they are there
    pthread_barrier_wait(&turn); // they are freed
    const uint64_t before = use_stats().page_count;
    make(&owner_set);
    CHECK_MSG(use_stats().page_count <= before + 1, "%d pages, then %d", (int)before,
              (int)use_stats().page_count);
    for (int i = 0; i < owner_set.count; i++)
        CHECK(use_free(owner_set.block[i]) == MI_FREE_OK);
    return NULL;
}

static void test_bound(void) {
    pthread_t thread;
    owner_set.count = SET;
    owner_set.size = 1024;
    pthread_barrier_init(&turn, NULL, 2);
    pthread_create(&thread, NULL, owner, NULL);
    pthread_barrier_wait(&turn);
    for (int i = 0; i < SET; i++)
        CHECK(use_free(owner_set.block[i]) == MI_FREE_OK);
    pthread_barrier_wait(&turn);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&turn);
    collect_all();
    CHECK_MSG(use_stats().page_count == 0, "%d pages left", (int)use_stats().page_count);
}

// Threads that replace what the one before them made, one block at a time, and then sleep: all of
// them together need hardly more than one set.
static maker_t passed;
static pthread_barrier_t asleep;

static void *replace(void *arg) {
    (void)arg;
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < SET; i++) {
            CHECK(use_free(passed.block[i]) == MI_FREE_OK);
            passed.block[i] = use_malloc(passed.size);
        }
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&asleep);
    return NULL;
}

static void test_sleepers(void) {
    pthread_t thread[SLEEPERS];
    passed.count = SET;
    passed.size = 1000;
    make_elsewhere(&passed);
    const uint64_t before = use_stats().page_count;
    pthread_barrier_init(&turn, NULL, 2);
    pthread_barrier_init(&asleep, NULL, SLEEPERS + 1);
    for (int i = 0; i < SLEEPERS; i++) {
        pthread_create(&thread[i], NULL, replace, NULL);
        pthread_barrier_wait(&turn);
    }
    // Each thread founds a page, and a block or two that it held went home to one that sleeps.
    CHECK_MSG(MI_SECURE || use_stats().page_count <= before + 2 * SLEEPERS, "%d pages, then %d",
              (int)before, (int)use_stats().page_count);
    pthread_barrier_wait(&asleep);
    for (int i = 0; i < SLEEPERS; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < SET; i++)
        CHECK(use_free(passed.block[i]) == MI_FREE_OK);
    pthread_barrier_destroy(&turn);
    pthread_barrier_destroy(&asleep);
    collect_all();
    CHECK_MSG(use_stats().page_count == 0, "%d pages left", (int)use_stats().page_count);
}

// Threads that follow each other and replace blocks of one that sleeps: each ends with some that it
// freed, which serve the next one.
enum { FOLLOWERS = 200, STEP = 16 };
static int follow_at;

static void *follow(void *arg) {
    const bool is_last = (arg != NULL);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < STEP; i++) {
            void **const p = &passed.block[(follow_at + i) % SET];
            if (*p == NULL)
                *p = use_malloc(passed.size);
        }
        follow_at += STEP;
        for (int i = 0; i < STEP && !(is_last && round == 2); i++) {
            void **const p = &passed.block[(follow_at + i) % SET];
            CHECK(use_free(*p) == MI_FREE_OK);
            *p = NULL;
        }
    }
    return NULL;
}

static void test_followers(void) {
    passed.count = SET;
    passed.size = 1000;
    make(&passed);
    const uint64_t before = use_stats().page_count;
    for (int i = 0; i < FOLLOWERS; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, follow, i == FOLLOWERS - 1 ? &passed : NULL);
        pthread_join(thread, NULL);
    }
    CHECK_MSG(MI_SECURE || MI_SHRUNK || use_stats().page_count <= before + 2, "%d pages, then %d",
              (int)before, (int)use_stats().page_count);
    for (int i = 0; i < SET; i++)
        CHECK(use_free(passed.block[i]) == MI_FREE_OK);
    collect_all();
    CHECK_MSG(use_stats().page_count == 0, "%d pages left", (int)use_stats().page_count);
}

// Frees and replaces the block, which must be as it was left.
static void renew(void **p, size_t size, uint8_t seed) {
    CHECK(use_check(*p, size, seed));
    CHECK(use_free(*p) == MI_FREE_OK);
    *p = use_malloc(size);
    use_fill(*p, size, seed);
}

static bool visit_nothing(const mi_heap_t *heap, const mi_core_area_t *area, void *block,
                          size_t size, void *arg) {
    (void)heap, (void)area, (void)block, (void)size, (void)arg;
    return true;
}

// Not one that waits for a few to be freed; and free has a fast path for what the map's window
// tells of, which is small in shrunk builds.
static bool is_apt(const mi_page_t *page) {
    return page->used >= 8 && mi_page_map_index(page->start) < MI_MAP_WINDOW_SLICES;
}

// A thread that frees many guests takes their path for its own blocks too, and comes back from it;
// what is no block is found out on either.
static void test_mixed(void) {
    static maker_t far;
    static void *own[SET];
    const mi_theap_t *const theap = mi_core_theap();
    bool has_path = (MI_MAP_HAS_KEYS && !MI_SECURE && !MI_DEBUG);
    uint64_t state = 7;
    far.count = SET;
    far.size = 384; // of the same class however many pages a thread has
    make_elsewhere(&far);
    for (int i = 0; i < SET; i++) {
        own[i] = use_malloc(2000);
        use_fill(own[i], 2000, (uint8_t)i);
    }
    for (int i = 0; i < 40000; i++) {
        const int k = (int)(use_random(&state) % SET);
        if (use_random(&state) % 2 == 0)
            renew(&own[k], 2000, (uint8_t)k);
        else
            renew(&far.block[k], 384, (uint8_t)k);
    }
    CHECK(!has_path || theap->free_key != theap->key);
    collect_all();
    // Some of one page go into the list, where they are live to it, and come home.
    mi_page_t *page = mi_page_map_find(own[0]);
    for (int i = 0; i < SET && !is_apt(page); i++)
        page = mi_page_map_find(own[i]);
    has_path &= is_apt(page);
    const uint32_t live = mi_page_live(page);
    uint32_t gone = 0;
    for (int i = 0; i < SET && gone < 4; i++)
        if (mi_page_map_find(own[i]) == page) {
            CHECK(use_free(own[i]) == MI_FREE_OK);
            own[i] = NULL;
            gone++;
        }
    CHECK(!has_path ||
          (mi_guest_held(&theap->guests[page->far_class]) == gone && mi_page_live(page) == live));
    // A walk sends them home, which changes what its thread heap lists.
    const uint64_t changes = changes_seen();
    CHECK(mi_core_heap_visit(mi_core_heap_main(), false, visit_nothing, NULL));
    CHECK(!has_path || changes_seen() > changes);
    CHECK(!has_path || mi_guest_held(&theap->guests[page->far_class]) == 0);
    CHECK(mi_page_live(page) == live - gone);
    for (int i = 0; i < SET; i++)
        if (own[i] == NULL) {
            own[i] = use_malloc(2000);
            use_fill(own[i], 2000, (uint8_t)i);
        }
    CHECK(use_free((uint8_t *)own[0] + 16) != MI_FREE_OK);
    CHECK(use_free((uint8_t *)far.block[0] + 16) != MI_FREE_OK);
    for (int i = 0; i < SET; i++)
        CHECK(use_free(far.block[i]) == MI_FREE_OK);
    collect_all();
    for (uint32_t i = 0; i < 4 * MI_FAR_TURNS; i++)
        renew(&own[i % SET], 2000, (uint8_t)(i % SET));
    CHECK(theap->free_key == theap->key);
    for (int i = 0; i < SET; i++) {
        CHECK(use_check(own[i], 2000, (uint8_t)i));
        CHECK(use_free(own[i]) == MI_FREE_OK);
    }
    collect_all();
    CHECK_MSG(use_stats().page_count == 0, "%d pages left", (int)use_stats().page_count);
}

// A thread that never asks for a block, and frees others'.
typedef struct freer_s {
    void **block;
    int count;
    uint64_t held; // guests that it had in the end
} freer_t;

static void *only_free(void *arg) {
    freer_t *const f = (freer_t *)arg;
    for (int i = 0; i < f->count; i++)
        CHECK(use_free(f->block[i]) == MI_FREE_OK);
    const mi_theap_t *const theap = mi_theap_real();
    f->held = 0;
    for (uint32_t i = 0; theap != NULL && theap->guests != NULL && i < MI_GUEST_LISTS; i++)
        if (theap->guests[i].block_bytes != 0)
            f->held += mi_guest_held(&theap->guests[i]);
    return NULL;
}

static uint64_t thread_total(void) {
    mi_core_stats_t stats;
    mi_core_stats(&stats);
    return stats.thread_total;
}

// It gets a thread heap when it comes to a page again, so that what it frees goes home in batches,
// all of it when it ends; not for one block, and it keeps no guests that it has no use for.
static void test_only_free(void) {
    static maker_t m;
    pthread_t thread;
    m.count = SET;
    m.size = 64;
    make(&m); // of this thread: no heap of one that is gone is at hand
    const uint64_t before = thread_total();
    freer_t one = {m.block, 1, 0};
    pthread_create(&thread, NULL, only_free, &one);
    pthread_join(thread, NULL);
    CHECK(thread_total() == before);
    freer_t all = {m.block + 1, SET - 1, 0};
    pthread_create(&thread, NULL, only_free, &all);
    pthread_join(thread, NULL);
    CHECK_MSG(thread_total() == before + 1, "%d threads, then %d", (int)before,
              (int)thread_total());
    CHECK_MSG(all.held == 0, "%d blocks kept", (int)all.held);
    collect_all();
    CHECK_MSG(use_stats().page_count == 0, "%d pages left", (int)use_stats().page_count);
}

// What is freed in a thread's name when it has been told of its end makes no heap that nobody would
// clear away. This key is younger than the allocator's, so its destructor comes later.
static pthread_key_t late_key;

static void late_free(void *arg) {
    (void)only_free(arg);
}

static void *end_late(void *arg) {
    CHECK(use_free(use_malloc(100)) == MI_FREE_OK); // has a heap, hence an end
    pthread_setspecific(late_key, arg);
    return NULL;
}

static void test_after_end(void) {
    static maker_t m;
    pthread_t thread;
    m.count = 50;
    m.size = 64;
    make(&m);
    freer_t late = {m.block, m.count, 0};
    CHECK(pthread_key_create(&late_key, late_free) == 0);
    const uint64_t before = thread_total();
    pthread_create(&thread, NULL, end_late, &late);
    pthread_join(thread, NULL);
    CHECK_MSG(thread_total() == before + 1, "%d threads, then %d", (int)before,
              (int)thread_total());
    pthread_key_delete(late_key);
    collect_all();
    CHECK_MSG(use_stats().page_count == 0, "%d pages left", (int)use_stats().page_count);
}

int main(void) {
    CHECK(use_free(use_malloc(1)) == MI_FREE_OK); // only a thread that allocates keeps guests
    test_only_free();
    test_after_end();
    test_reuse(200);
    test_reuse(3000);
    test_reuse(20000);
    test_kinds();
    test_exact(650);
    test_exact(8900); // pages of two slices, whose records lie at the end of the second
    if (!MI_SECURE)   // which links blocks in a random order, and keeps no guests
        test_lines();
    test_bound();
    test_sleepers();
    test_followers();
    test_mixed();
    return test_result();
}
