// Threads allocate, resize, hand over and free blocks of all sizes through one shared table; every
// block carries a pattern from its birth to its death, on whatever threads these are.
#include "use.h"

#include <pthread.h>
#include <stdatomic.h>

#define SLOTS      4096
#define THREADS    4
#define SLOTS_MINE 512

typedef struct item_s {
    void *block;
    size_t size;
    uint8_t tag;
} item_t;

static _Atomic(item_t *) table[SLOTS]; // each item is owned by who exchanged it out
static int rounds = 40000;
static atomic_int bad;

static void item_new(item_t *item, uint64_t *random) {
    const uint64_t kind = use_random(random) % 16;
    item->size = use_random_size(random, 22);
    item->tag = (uint8_t)use_random(random);
    if (kind == 0) {
        item->block = mi_core_malloc(item->size, true);
        if (item->block == NULL || !use_is_zero(item->block, mi_core_usable(item->block, NULL)))
            atomic_fetch_add(&bad, 1);
    } else if (kind == 1) {
        const size_t align = (size_t)1 << (4 + use_random(random) % 14);
        const size_t offset = (use_random(random) % 4 == 0 ? use_random(random) % 100 : 0);
        item->block = mi_core_malloc_aligned(item->size, align, offset, false);
        if (item->block == NULL || ((uintptr_t)item->block + offset) % align != 0)
            atomic_fetch_add(&bad, 1);
    } else {
        item->block = use_malloc(item->size);
    }
    if (item->block == NULL || mi_core_usable(item->block, NULL) < item->size ||
        (uintptr_t)item->block % 16 != (kind == 1 ? (uintptr_t)item->block % 16 : 0))
        atomic_fetch_add(&bad, 1);
    use_fill(item->block, item->size, item->tag);
}

static void item_resize(item_t *item, uint64_t *random) {
    mi_free_result_t result;
    const size_t size = use_random_size(random, 22);
    void *const p = mi_core_realloc(item->block, size, 0, &result);
    if (p == NULL || result != MI_FREE_OK ||
        !use_check(p, size < item->size ? (size < 64 ? size : 64) : item->size, item->tag)) {
        // A shrunken block has lost its last edge, so only its begin is compared.
        atomic_fetch_add(&bad, 1);
    }
    item->block = p;
    item->size = size;
    use_fill(p, size, item->tag);
}

static void item_end(item_t *item) {
    if (!use_check(item->block, item->size, item->tag))
        atomic_fetch_add(&bad, 1);
    if (use_free(item->block) != MI_FREE_OK)
        atomic_fetch_add(&bad, 1);
    free(item);
}

static void *worker(void *arg) {
    uint64_t random = (uint64_t)(uintptr_t)arg * 7919 + 1;
    item_t *mine[SLOTS_MINE] = {NULL};
    for (int i = 0; i < rounds; i++) {
        item_t **const slot = &mine[use_random(&random) % SLOTS_MINE];
        if (*slot == NULL) {
            *slot = malloc(sizeof(item_t));
            item_new(*slot, &random);
        }
        const uint64_t what = use_random(&random) % 8;
        if (what == 0) {
            item_resize(*slot, &random);
        } else if (what < 4) { // swap with the shared table
            _Atomic(item_t *) *const shared = &table[use_random(&random) % SLOTS];
            *slot = atomic_exchange(shared, *slot);
        } else {
            item_end(*slot);
            *slot = NULL;
        }
    }
    for (int i = 0; i < SLOTS_MINE; i++)
        if (mine[i] != NULL && i % 2 == 0) // the rest outlives its thread
            item_end(mine[i]);
        else if (mine[i] != NULL && (mine[i] = atomic_exchange(&table[i], mine[i])) != NULL)
            item_end(mine[i]);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc > 1)
        rounds = atoi(argv[1]);
    for (uintptr_t generation = 0; generation < 4; generation++) {
        pthread_t threads[THREADS];
        for (uintptr_t i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, worker, (void *)(generation * THREADS + i + 1));
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        CHECK_MSG(bad == 0, "%d bad blocks in generation %d", (int)bad, (int)generation);
    }
    for (int i = 0; i < SLOTS; i++)
        if (table[i] != NULL)
            item_end(table[i]);
    CHECK_MSG(bad == 0, "%d bad blocks at the end", (int)bad);
    mi_core_collect(true);
    mi_core_stats_t stats;
    mi_core_stats(&stats);
    CHECK_MSG(stats.page_count == 0, "%llu pages left", (unsigned long long)stats.page_count);
    CHECK(stats.thread_total == 4 * THREADS + 1); // this one, which only frees, too
    return test_result();
}
