// A thread heap of few pages has every fourth class only, then every other, then all: how many
// pages that takes, what the blocks are like, and that a class gets pages of its own when one of
// its pages comes from elsewhere.
#include "use.h"

#include <pthread.h>

#define CLASSES (MI_CLASS_SHARED - MI_CLASS_COARSE_FROM + 1)
// Eight blocks of these fit into a page.
#define CLASSES_TWICE (MI_CLASS_TWO_SLICES - MI_CLASS_COARSE_FROM + 1)

// The server of a class: the next one that is there, and aligned as the class is.
static void test_servers(void) {
    for (uint32_t fineness = 0; fineness <= MI_CLASS_FINE; fineness++) {
        for (uint32_t c = 1; c <= MI_CLASS_LAST; c++) {
            const uint32_t server = mi_class_server(c, fineness);
            const size_t bytes = mi_class_bytes(c), served = mi_class_bytes(server);
            const size_t align = bytes & (0 - bytes);
            if (server < c || server - c > 3u >> fineness ||
                mi_class_server(server, fineness) != server || served % align != 0 ||
                (fineness == MI_CLASS_FINE && server != c) ||
                (c < MI_CLASS_COARSE_FROM && server != c) || (c > MI_CLASS_SHARED && server != c))
                CHECK_MSG(false, "class %u, fineness %u: %u", c, fineness, server);
        }
    }
}

static size_t page_count(void) {
    return mi_load_relaxed(&mi_theap_real()->page_count);
}

// The largest or the smallest size of a class. In debug builds the pad makes it another's.
static size_t size_of(uint32_t class_index, size_t turn) {
    return turn % 2 == 0 ? mi_class_bytes(class_index) : mi_class_bytes(class_index - 1) + 1;
}

// Such a block, filled; the class that it came from.
static void *take(uint32_t class_index, size_t turn, bool is_exact, uint32_t *from) {
    const size_t size = size_of(class_index, turn);
    void *p;
    if (is_exact) {
        p = mi_malloc_exact_try(size);
        p = (p != NULL ? p : mi_core_malloc_exact(size, false));
    } else {
        p = use_malloc(size);
    }
    CHECK(p != NULL);
    *from = mi_class_plain(mi_page_map_find(p)->class_index);
    const size_t bytes = mi_class_bytes(class_index);
    CHECK(MI_DEBUG || (uintptr_t)p % (bytes & (0 - bytes)) == 0);
    CHECK(is_exact ? mi_core_usable(p, NULL) == size : mi_core_usable(p, NULL) >= size);
    use_fill(p, size, (uint8_t)class_index);
    return p;
}

static void give(void *p, uint32_t class_index, size_t turn) {
    CHECK(use_check(p, size_of(class_index, turn), (uint8_t)class_index));
    CHECK(use_free(p) == MI_FREE_OK);
}

// One block of each class takes a fourth of the pages that so many classes have; the next blocks of
// small classes come from the same pages, without a slow path.
static void *test_few(void *arg) {
    const bool is_exact = (arg != NULL);
    void *block[2][CLASSES];
    void *const first = use_malloc(16); // the thread has a thread heap
    mi_theap_t *const theap = mi_theap_real();
    CHECK(theap->fineness == 0);
    const size_t before = page_count();
    for (size_t turn = 0; turn < 2; turn++) {
        for (uint32_t i = 0; i < (turn == 0 ? CLASSES : CLASSES_TWICE); i++) {
            uint32_t from;
            block[turn][i] = take(MI_CLASS_COARSE_FROM + i, turn, is_exact, &from);
            CHECK_MSG(MI_SHRUNK || MI_DEBUG || from == mi_class_server(MI_CLASS_COARSE_FROM + i, 0),
                      "class %u from %u", MI_CLASS_COARSE_FROM + i, from);
        }
    }
    CHECK_MSG(MI_SHRUNK || MI_DEBUG || page_count() - before <= CLASSES / 4 + 4, "%d pages",
              (int)(page_count() - before));
    CHECK(MI_SHRUNK || MI_DEBUG || theap->fineness == 0);
    for (size_t turn = 0; turn < 2; turn++)
        for (uint32_t i = 0; i < (turn == 0 ? CLASSES : CLASSES_TWICE); i++)
            give(block[turn][i], MI_CLASS_COARSE_FROM + i, turn);
    CHECK(use_free(first) == MI_FREE_OK);
    return NULL;
}

// Many pages: every class has its own, what was allocated before is what it was, and all of it
// goes.
static void *test_many(void *arg) {
    static void *block[2][CLASSES * 64];
    void **const at = block[arg != NULL];
    const bool is_exact = (arg != NULL);
    uint32_t from;
    size_t count = 0;
    while (count < CLASSES * 63) {
        at[count] =
            take(MI_CLASS_COARSE_FROM + (uint32_t)(count % CLASSES), count, is_exact, &from);
        count++;
    }
    CHECK(mi_theap_real()->fineness == MI_CLASS_FINE && page_count() > MI_FINE_PAGES);
    for (size_t i = 0; i < count; i += 2)
        give(at[i], MI_CLASS_COARSE_FROM + (uint32_t)(i % CLASSES), i);
    for (uint32_t i = 0; i < CLASSES; i++) {
        void *const p = take(MI_CLASS_COARSE_FROM + i, 0, is_exact, &from);
        CHECK_MSG(MI_DEBUG || from == MI_CLASS_COARSE_FROM + i, "class %u from %u",
                  MI_CLASS_COARSE_FROM + i, from);
        give(p, MI_CLASS_COARSE_FROM + i, 0);
    }
    for (size_t i = 1; i < count; i += 2)
        give(at[i], MI_CLASS_COARSE_FROM + (uint32_t)(i % CLASSES), i);
    return NULL;
}

// Pages full of blocks that are too large are a sign, too.
static void *test_full(void *arg) {
    (void)arg;
    static void *block[2048];
    uint32_t from;
    for (size_t i = 0; i < 2048; i++)
        block[i] = take(MI_CLASS_COARSE_FROM, 0, false, &from);
    CHECK(MI_DEBUG || mi_theap_real()->fineness >= 1);
    CHECK(MI_DEBUG || from < mi_class_server(MI_CLASS_COARSE_FROM, 0));
    for (size_t i = 0; i < 2048; i++)
        give(block[i], MI_CLASS_COARSE_FROM, 0);
    return NULL;
}

// ---- Pages from elsewhere
// ------------------------------------------------------------------------------------

#define KEPT 12u // a class that a thread heap of few pages does not have ...
static_assert(MI_CLASS_COARSE_FROM <= KEPT - 1, "... nor the one before");

// Leaves pages of one class, with free blocks, in a heap's fine thread heap.
static void leave(mi_heap_t *heap, void *left[64]) {
    void *const first = mi_core_heap_malloc(heap, 16, false);
    mi_theap_t *const theap = mi_load_relaxed(&mi_page_map_find(first)->theap);
    theap->fineness = MI_CLASS_FINE; // as if it had had many
    for (size_t i = 0; i < 64; i++)
        left[i] = mi_core_heap_malloc(heap, mi_class_bytes(KEPT - 1), false);
    CHECK(MI_DEBUG || mi_page_map_find(left[0])->class_index == KEPT - 1);
    CHECK(use_free(first) == MI_FREE_OK);
    for (size_t i = 0; i < 64; i += 2)
        CHECK(use_free(left[i]) == MI_FREE_OK);
}

// A deleted heap's pages come to a thread heap of few pages: their blocks are handed out.
static void *test_inherit(void *arg) {
    (void)arg;
    void *left[64];
    mi_heap_t *const heap = mi_core_heap_new();
    CHECK(heap != NULL);
    leave(heap, left);
    void *const p = use_malloc(16);
    CHECK(mi_theap_real()->fineness == 0);
    mi_core_heap_delete(heap);
    size_t again = 0;
    void *block[128];
    for (size_t i = 0; i < 128; i++) {
        block[i] = use_malloc(mi_class_bytes(KEPT - 1) - (size_t)MI_DEBUG * 64);
        for (size_t k = 0; k < 64; k += 2)
            again += (block[i] == left[k]);
    }
    CHECK_MSG(MI_DEBUG || again >= 8, "%d of 32", (int)again);
    for (size_t i = 0; i < 128; i++)
        CHECK(use_free(block[i]) == MI_FREE_OK);
    for (size_t i = 1; i < 64; i += 2)
        CHECK(use_free(left[i]) == MI_FREE_OK);
    CHECK(use_free(p) == MI_FREE_OK);
    return NULL;
}

static void in_thread(void *(*work)(void *), void *arg) {
    pthread_t thread;
    // A thread heap that nobody had before.
    mi_core_collect(true);
    CHECK(pthread_create(&thread, NULL, work, arg) == 0 && pthread_join(thread, NULL) == 0);
}

int main(void) {
    void *const held = use_malloc(16);
    test_servers();
    in_thread(test_few, NULL);
    in_thread(test_few, held);
    in_thread(test_full, NULL);
    in_thread(test_inherit, NULL);
    in_thread(test_many, NULL);
    in_thread(test_many, held);
    CHECK(use_free(held) == MI_FREE_OK);
    return test_result();
}
