// The bookkeeping for debug CRTs: order, totals, damage, forgetting on every way out, threads.
#include "core/ledger.h"

#include "use.h"

#include <pthread.h>

enum { MANY = 3000, THREADS = 8, ROUNDS = 4000 };

static mi_debug_block_t block_of(mi_debug_owner_t *owner, size_t size, int use, int request) {
    return (mi_debug_block_t){.p = use_malloc(size),
                              .size = size,
                              .owner = owner,
                              .file = "a.c",
                              .line = request * 2,
                              .use = use,
                              .request = request};
}

static void test_order_and_totals(void) {
    static mi_debug_owner_t owner, other;
    static mi_debug_block_t made[MANY], seen[MANY + 1];
    mi_debug_totals_t t;
    size_t bytes = 0;
    for (int i = 0; i < MANY; i++) {
        made[i] =
            block_of(&owner, (size_t)(i % 300) + 1,
                     i % 3 == 0 ? MI_DEBUG_CLIENT_BLOCK | (7 << 16) : MI_DEBUG_NORMAL_BLOCK, i + 1);
        bytes += made[i].size;
        CHECK(mi_ledger_add(&made[i]));
    }
    mi_debug_block_t foreign = block_of(&other, 50, MI_DEBUG_CRT_BLOCK, 1);
    CHECK(mi_ledger_add(&foreign));
    CHECK(mi_ledger_list(&owner, seen, MANY + 1) == MANY);
    for (int i = 0; i < MANY; i++) {
        const mi_debug_block_t *a = &seen[i], *b = &made[MANY - 1 - i];
        CHECK(a->p == b->p && a->request == b->request && a->use == b->use && a->line == b->line);
    }
    CHECK(mi_ledger_list(&owner, seen, 2) == MANY && seen[1].request == MANY - 1);
    mi_ledger_totals(&owner, &t);
    CHECK(t.live == bytes && t.high == bytes && t.total == bytes);
    CHECK(t.counts[MI_DEBUG_CLIENT_BLOCK] == MANY / 3);
    CHECK(t.counts[MI_DEBUG_NORMAL_BLOCK] == MANY - MANY / 3);
    CHECK(mi_ledger_set_use(made[1].p, MI_DEBUG_IGNORE_BLOCK));
    // The same address again: one record, and it is the newest.
    mi_debug_block_t again = made[5];
    again.size = 77;
    again.request = MANY + 1;
    CHECK(mi_ledger_add(&again));
    CHECK(mi_ledger_list(&owner, seen, MANY) == MANY && seen[0].request == MANY + 1);
    CHECK(mi_ledger_find(made[5].p, &seen[0]) && seen[0].size == 77);
    for (int i = 0; i < MANY; i++)
        CHECK(use_free((void *)(uintptr_t)made[i].p) == MI_FREE_OK);
    CHECK(mi_ledger_list(&owner, seen, MANY) == 0);
    CHECK(!mi_ledger_find(made[5].p, &seen[0]) && !mi_ledger_set_use(made[5].p, 1));
    mi_ledger_totals(&owner, &t);
    CHECK(t.live == 0 && t.total == bytes + 77 && t.high >= bytes);
    for (int i = 0; i < MI_DEBUG_USES; i++)
        CHECK(t.counts[i] == 0 && t.sizes[i] == 0);
    mi_ledger_forget(&other);
    CHECK(!mi_ledger_find(foreign.p, &seen[0]));
    mi_ledger_totals(&other, &t);
    CHECK(t.live == 0 && t.total == 0);
    CHECK(use_free((void *)(uintptr_t)foreign.p) == MI_FREE_OK);
    CHECK(mi_load_relaxed(&mi_ledger_count) == 0);
}

static void test_damage(void) {
    static mi_debug_owner_t owner;
    mi_debug_block_t a = block_of(&owner, 24, MI_DEBUG_NORMAL_BLOCK, 1), seen[2];
    mi_debug_block_t b = block_of(&owner, 100000, MI_DEBUG_NORMAL_BLOCK, 2);
    CHECK(mi_ledger_add(&a) && mi_ledger_add(&b));
    CHECK(mi_ledger_damaged(&owner, seen, 2) == 0);
    uint8_t *const bytes = (uint8_t *)(uintptr_t)a.p;
    const uint8_t kept = bytes[24];
    bytes[24] ^= 1;
    CHECK(mi_ledger_damaged(&owner, seen, 2) == 1 && seen[0].p == a.p);
    bytes[24] = kept;
    CHECK(mi_ledger_damaged(&owner, seen, 2) == 0);
    // In its place it keeps its record, with the new size.
    CHECK(mi_core_realloc((void *)(uintptr_t)a.p, 20, 0, NULL) == a.p);
    CHECK(mi_ledger_find(a.p, &seen[0]) && seen[0].size == 20);
    CHECK(mi_ledger_damaged(&owner, seen, 2) == 0 && owner.totals.live == 100020);
    // A block that moves is another one.
    void *moved = mi_core_realloc((void *)(uintptr_t)a.p, 5000, 0, NULL);
    CHECK(moved != NULL && !mi_ledger_find(a.p, &seen[0]));
    CHECK(use_free(moved) == MI_FREE_OK && use_free((void *)(uintptr_t)b.p) == MI_FREE_OK);
}

static mi_debug_owner_t shared;
static _Atomic(void *) handed[THREADS];

// Blocks are freed by other threads than those that made them, while others list and check.
static void *run(void *arg) {
    const size_t me = (size_t)(uintptr_t)arg;
    static _Thread_local mi_debug_block_t seen[256];
    for (int i = 0; i < ROUNDS; i++) {
        mi_debug_block_t b = block_of(&shared, (size_t)(i % 200) + 1, MI_DEBUG_NORMAL_BLOCK, i);
        CHECK(mi_ledger_add(&b));
        void *const old =
            atomic_exchange(&handed[(me + (size_t)i) % THREADS], (void *)(uintptr_t)b.p);
        if (old != NULL)
            CHECK(use_free(old) == MI_FREE_OK);
        if (i % 64 == 0) {
            CHECK(mi_ledger_damaged(&shared, seen, 256) == 0);
            CHECK(mi_ledger_list(&shared, seen, 256) <= 3 * THREADS);
        }
    }
    mi_core_thread_done();
    return NULL;
}

static void test_threads(void) {
    pthread_t threads[THREADS];
    mi_debug_totals_t t;
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)(uintptr_t)i) == 0);
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (size_t i = 0; i < THREADS; i++)
        CHECK(use_free(atomic_load(&handed[i])) == MI_FREE_OK);
    mi_ledger_totals(&shared, &t);
    CHECK(t.live == 0 && t.counts[MI_DEBUG_NORMAL_BLOCK] == 0);
    CHECK(mi_load_relaxed(&mi_ledger_count) == 0);
}

int main(void) {
    test_order_and_totals();
    test_damage();
    test_threads();
    return test_result();
}
