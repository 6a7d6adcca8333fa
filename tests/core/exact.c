// Exact sizes: a block that was asked for as such tells the size it was asked for, whatever
// happened to it, beside all other blocks and on any thread.
#include "use.h"

#include <pthread.h>

static void *exact_malloc(size_t size) {
    void *const p = mi_malloc_exact_try(size);
    return p != NULL ? p : mi_core_malloc_exact(size, false);
}

static size_t exact_bound(void) {
    return 9 * MI_MiB;
}

static void test_sizes(void) {
    void *kept[700];
    size_t sizes[700];
    size_t count = 0;
    for (size_t size = 0; size < exact_bound() && count < 700;
         size += (size < 300 ? 1 : 1 + size / 19)) {
        uint8_t *const p = (uint8_t *)exact_malloc(size);
        CHECK_MSG(p != NULL && (uintptr_t)p % 16 == 0, "size %zu", size);
        CHECK_MSG(mi_core_usable(p, NULL) == size, "size %zu: %zu", size, mi_core_usable(p, NULL));
        memset(p, 0xFF, size); // to the last byte: nothing of the record lies there
        CHECK_MSG(mi_core_usable(p, NULL) == size, "size %zu: %zu", size, mi_core_usable(p, NULL));
        void *const z = mi_core_malloc_exact(size, true);
        CHECK(z != NULL && use_is_zero(z, size) && mi_core_usable(z, NULL) == size);
        memset(z, 0xFF, size);
        CHECK(use_free(z) == MI_FREE_OK);
        void *const y = mi_core_malloc_exact(size, true); // the same memory, dirty now
        CHECK(y != NULL && use_is_zero(y, size) && mi_core_usable(y, NULL) == size);
        CHECK(use_free(y) == MI_FREE_OK);
        kept[count] = p;
        sizes[count++] = size;
    }
    for (size_t i = 0; i < count; i++)
        CHECK_MSG(mi_core_usable(kept[i], NULL) == sizes[i], "size %zu: %zu", sizes[i],
                  mi_core_usable(kept[i], NULL));
    for (size_t i = 0; i < count; i++)
        CHECK(use_free(kept[i]) == MI_FREE_OK);
    CHECK(mi_core_malloc_exact(SIZE_MAX, false) == NULL);
    CHECK(mi_core_malloc_aligned_exact(SIZE_MAX - 64, 128, 0, false) == NULL);
}

// Every block of a full page, first to last: its record is its own.
static void test_full_pages(void) {
    enum { COUNT = 6000 };
    static uint8_t *blocks[COUNT];
    for (size_t size = 1; size <= 9000; size = size * 5 / 2 + 1) {
        const size_t count = (size <= 64 ? COUNT : 300);
        for (size_t i = 0; i < count; i++) {
            blocks[i] = (uint8_t *)exact_malloc(size - i % 2);
            memset(blocks[i], 0xEE, size - i % 2);
        }
        for (size_t i = 0; i < count; i++)
            CHECK_MSG(mi_core_usable(blocks[i], NULL) == size - i % 2, "size %zu block %zu", size,
                      i);
        for (size_t i = 0; i < count; i++)
            CHECK(use_free(blocks[(i * 7) % count]) == MI_FREE_OK);
    }
}

static void test_aligned(void) {
    for (size_t align = 1; align <= MI_MiB; align *= 2) {
        for (size_t size = 0; size < 200000; size = size * 3 + 1) {
            for (size_t offset = 0; offset < 40; offset += 13) {
                uint8_t *p = mi_core_malloc_aligned_exact(size, align, offset, size % 2 == 0);
                CHECK(p != NULL && ((uintptr_t)p + offset) % align == 0);
                CHECK_MSG(mi_core_usable(p, NULL) == size, "size %zu align %zu offset %zu: %zu",
                          size, align, offset, mi_core_usable(p, NULL));
                memset(p, 1, size);
                p = mi_core_heap_resize(NULL, p,
                                        &(mi_core_resize_t){size * 2 + 1, align, offset,
                                                            MI_REALLOC_EXACT | MI_REALLOC_ZERO},
                                        NULL);
                CHECK(p != NULL && ((uintptr_t)p + offset) % align == 0);
                CHECK_MSG(mi_core_usable(p, NULL) == size * 2 + 1, "size %zu align %zu offset %zu",
                          size, align, offset);
                CHECK(use_is_zero(p + size, size + 1));
                CHECK(use_free(p) == MI_FREE_OK);
            }
        }
    }
}

// Up and down, zeroed: the bytes of before stay, those behind them are zero, the size is exact.
static void test_realloc(void) {
    uint64_t random = 7;
    for (unsigned top = 6; top <= 22; top++) {
        size_t size = 1;
        uint8_t *p = exact_malloc(size);
        for (unsigned i = 0; i < 60; i++) {
            const size_t old = size;
            memset(p, (int)(i | 0x80), old);
            size = 1 + use_random_size(&random, top);
            if (i % 3 == 0)
                size = old + 1 + i; // small steps: headroom is given, and not told
            p = mi_core_realloc(p, size, MI_REALLOC_EXACT | MI_REALLOC_ZERO, NULL);
            CHECK(p != NULL);
            CHECK_MSG(mi_core_usable(p, NULL) == size, "%zu to %zu: %zu", old, size,
                      mi_core_usable(p, NULL));
            const size_t kept = (old < size ? old : size);
            CHECK_MSG(p[0] == (i | 0x80) && p[kept - 1] == (i | 0x80), "%zu to %zu", old, size);
            CHECK_MSG(use_is_zero(p + kept, size - kept), "%zu to %zu: not zero", old, size);
        }
        CHECK(use_free(p) == MI_FREE_OK);
    }
    CHECK(mi_core_realloc(NULL, 10, MI_REALLOC_IN_PLACE | MI_REALLOC_EXACT, NULL) == NULL);
    uint8_t *p = mi_core_realloc(NULL, 100, MI_REALLOC_EXACT, NULL);
    CHECK(mi_core_usable(p, NULL) == 100);
    CHECK(mi_core_realloc(p, 10000, MI_REALLOC_IN_PLACE, NULL) == NULL); // does not fit
    CHECK(mi_core_usable(p, NULL) == 100);
    CHECK(mi_core_realloc(p, 7, MI_REALLOC_IN_PLACE, NULL) == p && mi_core_usable(p, NULL) == 7);
    CHECK(mi_core_realloc(p, 100, MI_REALLOC_IN_PLACE, NULL) == p &&
          mi_core_usable(p, NULL) == 100);
    CHECK(MI_DEBUG || mi_core_realloc(p, 112, MI_REALLOC_IN_PLACE, NULL) == p);
    CHECK(MI_DEBUG || mi_core_realloc(p, 113, MI_REALLOC_IN_PLACE, NULL) == NULL);
    CHECK(use_free(p) == MI_FREE_OK);
    // A slack of 255 bytes and more has its own record.
    p = exact_malloc(2000);
    for (size_t size = 2000; size > 0; size--)
        CHECK(mi_core_realloc(p, size, MI_REALLOC_IN_PLACE, NULL) == p &&
              mi_core_usable(p, NULL) == size);
    CHECK(use_free(p) == MI_FREE_OK);
}

// A large block moves with its pages: what lay behind its bytes is zeroed all the same, though it
// was another's before.
static void test_moved(void) {
    const size_t size = 3 * MI_MiB + 5;
    uint8_t *const dirty = exact_malloc(size + 30000);
    memset(dirty, 0xA5, size + 30000);
    CHECK(use_free(dirty) == MI_FREE_OK);
    uint8_t *p = exact_malloc(size);
    void *const behind = exact_malloc(size);
    memset(p, 0x5A, size);
    p = mi_core_realloc(p, 40 * MI_MiB, MI_REALLOC_EXACT | MI_REALLOC_ZERO, NULL);
    CHECK(p != NULL && mi_core_usable(p, NULL) == 40 * MI_MiB);
    CHECK(p[0] == 0x5A && p[size - 1] == 0x5A && use_is_zero(p + size, 40 * MI_MiB - size));
    CHECK(use_free(p) == MI_FREE_OK && use_free(behind) == MI_FREE_OK);
}

// An exact block through the other functions, and other blocks through the exact ones.
static void test_mixed(void) {
    for (size_t size = 1; size < exact_bound() / 2; size = size * 3 + 5) {
        uint8_t *p = exact_malloc(size);
        p = mi_core_realloc(p, size + size / 4 + 1, 0, NULL);
        CHECK(mi_core_usable(p, NULL) >= size + size / 4 + 1);
        p = mi_core_realloc(p, size + 3, MI_REALLOC_EXACT, NULL);
        CHECK_MSG(mi_core_usable(p, NULL) == size + 3, "size %zu: %zu", size,
                  mi_core_usable(p, NULL));
        CHECK(use_free(p) == MI_FREE_OK);
        p = use_malloc(size);
        use_fill(p, size, 0x21);
        p = mi_core_realloc(p, size, MI_REALLOC_EXACT, NULL);
        CHECK(use_check(p, size, 0x21));
        CHECK_MSG(mi_core_usable(p, NULL) == size, "size %zu: %zu", size, mi_core_usable(p, NULL));
        CHECK(use_free(p) == MI_FREE_OK);
    }
    CHECK(mi_core_heap_of(exact_malloc(10)) == mi_core_heap_main());
}

typedef struct seen_s {
    const void *wanted;
    size_t bytes;
    unsigned times;
} seen_t;

static bool see(const mi_heap_t *heap, const mi_core_area_t *area, void *block, size_t bytes,
                void *arg) {
    seen_t *const seen = arg;
    (void)heap;
    (void)area;
    if (block == seen->wanted && block != NULL) {
        seen->bytes = bytes;
        seen->times++;
    }
    return true;
}

static void test_heaps(void) {
    mi_heap_t *const heap = mi_core_heap_new();
    CHECK(mi_core_set_default_heap(heap));
    void *const p = exact_malloc(77);
    CHECK(mi_core_heap_of(p) == heap && mi_core_usable(p, NULL) == 77);
    seen_t seen = {p, 0, 0};
    CHECK(mi_core_heap_visit(heap, true, see, &seen));
    CHECK(seen.times == 1 && seen.bytes == 77);
    void *const q = exact_malloc(300000);
    CHECK(mi_core_set_default_heap(mi_core_heap_main()));
    mi_core_heap_delete(heap); // the blocks live on
    CHECK(mi_core_usable(p, NULL) == 77 && mi_core_usable(q, NULL) == 300000);
    CHECK(mi_core_heap_of(p) == mi_core_heap_main());
    CHECK(use_free(p) == MI_FREE_OK && use_free(q) == MI_FREE_OK);
    mi_heap_t *const other = mi_core_heap_new();
    CHECK(mi_core_set_default_heap(other));
    for (size_t i = 0; i < 5000; i++)
        CHECK(exact_malloc(i) != NULL);
    CHECK(mi_core_set_default_heap(mi_core_heap_main()));
    mi_core_heap_destroy(other);
}

// ---- threads: blocks made, measured, resized and freed by others, and left behind by the dead
// ----

enum { THREADS = 4, SLOTS = 512 };
static _Atomic(uintptr_t) slots[SLOTS]; // a block whose first word is its size, or 0

static void check_block(void *p) {
    const size_t size = *(size_t *)p;
    CHECK_MSG(mi_core_usable(p, NULL) == size, "size %zu: %zu", size, mi_core_usable(p, NULL));
}

static void *work(void *arg) {
    uint64_t random = (uint64_t)(uintptr_t)arg;
    const unsigned rounds = 10000;
    for (unsigned i = 0; i < rounds; i++) {
        const size_t size = sizeof(size_t) + use_random_size(&random, 16);
        void *const p = exact_malloc(size);
        *(size_t *)p = size;
        const size_t at = use_random(&random) % SLOTS;
        // Release: the block's contents and record; acquire: those of the one taken.
        void *q = (void *)mi_exchange_acq_rel(&slots[at], (uintptr_t)p);
        if (q == NULL)
            continue;
        check_block(q);
        if (i % 4 == 0) {
            const size_t more = *(size_t *)q + 1 + i % 40;
            q = mi_core_realloc(q, more, MI_REALLOC_EXACT, NULL);
            *(size_t *)q = more;
            check_block(q);
        }
        CHECK(use_free(q) == MI_FREE_OK);
    }
    return NULL;
}

static void test_threads(void) {
    for (unsigned round = 0; round < 4; round++) { // each adopts what the last one left
        pthread_t threads[THREADS];
        for (uintptr_t i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], NULL, work, (void *)(round * 10 + i + 1)) == 0);
        for (unsigned i = 0; i < THREADS; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        void *const p = (void *)mi_load_acquire(&slots[i]); // with the exchanges above
        if (p == NULL)
            continue;
        check_block(p);
        CHECK(use_free(p) == MI_FREE_OK);
    }
}

// Somebody writes over the record: never more than the block is answered.
static void test_damage(void) {
    if (MI_DEBUG)
        return; // pads: misuse.c
    uint8_t *const p = exact_malloc(20);
    uint8_t *const record = mi_exact_byte(p);
    const mi_page_t *const page = mi_page_map_find(p);
    CHECK(*record == 20 && record >= page->start + page->reserved * page->block_bytes);
    const uint8_t wrong[] = {33, 100, 254, 255};
    for (size_t i = 0; i < sizeof(wrong); i++) {
        mi_free_result_t result;
        *record = wrong[i];
        const size_t usable = mi_core_usable(p, &result);
        CHECK(MI_SECURE ? usable == 0 && result == MI_FREE_CORRUPT
                        : usable == 32 && result == MI_FREE_OK);
    }
    *record = 20;
    CHECK(use_free(p) == MI_FREE_OK);
    uint8_t *const q = exact_malloc(3000);
    uint32_t *const word = mi_exact_word(mi_page_map_find(q), q);
    CHECK(*word == 3000);
    *word = 3073;
    mi_free_result_t result;
    const size_t usable = mi_core_usable(q, &result);
    CHECK(MI_SECURE ? usable == 0 && result == MI_FREE_CORRUPT
                    : usable == 3072 && result == MI_FREE_OK);
    CHECK(use_free(q) == MI_FREE_OK);
}

// The records of a page of small blocks lie where a page of wide blocks has blocks; when the one
// becomes the other, a zeroed block must not show them.
static void test_reborn(void) {
    enum { SMALL = 3800, WIDE = 60 };
    static void *small[SMALL];
    uint8_t *wide[WIDE];
    for (unsigned round = 0; round < 20; round++) {
        const size_t size = 2200 + round * 50;
        for (unsigned i = 0; i < SMALL; i++)
            small[i] = exact_malloc(1 + i % 16);
        for (unsigned i = 0; i < SMALL; i++)
            CHECK(use_free(small[i]) == MI_FREE_OK);
        for (unsigned i = 0; i < WIDE; i++) {
            wide[i] = mi_core_malloc_exact(size, true);
            CHECK_MSG(use_is_zero(wide[i], size), "block %u of %zu bytes", i, size);
        }
        for (unsigned i = 0; i < WIDE; i++)
            CHECK(use_free(wide[i]) == MI_FREE_OK);
        mi_core_collect(true);
    }
}

// The fast path of resizing agrees with the slow one about what stays, and keeps the size.
static void test_fast_resize(void) {
    for (size_t size = 1; size < 100000; size += 1 + size / 7) {
        uint8_t *const p = exact_malloc(size);
        const size_t room = mi_page_map_find(p)->block_bytes;
        const bool may_be_fast = !MI_DEBUG && !MI_SHRUNK; // the window is small then
        for (size_t to = 0; to <= room + 1; to += 1 + room / 97) {
            const bool fits = (to != 0 && to <= room && to + 32 >= room / 2);
            const bool is_fast = mi_realloc_exact_try(p, to) || mi_realloc_exact_wide_try(p, to);
            CHECK_MSG(!is_fast || (fits && mi_core_usable(p, NULL) == to), "%zu in %zu", to, room);
            const bool is_near = (room > MI_EXACT_SMALL_MAX || room - to < MI_EXACT_LARGE);
            CHECK_MSG(is_fast || !may_be_fast || !fits || !is_near, "%zu in %zu", to, room);
        }
        CHECK(use_free(p) == MI_FREE_OK);
    }
}

// A page with one block serves classes of other sizes, and blocks that keep no exact size, after
// one that did.
static void test_turned(void) {
    static const size_t sizes[] = {70000, 98000, 120000, 140000, 300000, 1000000, 5000000};
    mi_free_result_t result;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t size = sizes[i];
        void *p = use_malloc(size); // not exact
        CHECK(p != NULL);
        p = mi_core_realloc(p, size - 8000, MI_REALLOC_EXACT, &result);
        CHECK(result == MI_FREE_OK && p != NULL);
        CHECK(MI_DEBUG || mi_core_usable(p, &result) == size - 8000);
        CHECK(use_free(p) == MI_FREE_OK);
        for (int k = 0; k < 4; k++) { // the same page among them, whichever way it went
            void *const q = use_malloc(size);
            CHECK_MSG(mi_core_usable(q, &result) >= size, "%zu usable bytes for %zu",
                      mi_core_usable(q, &result), size);
            CHECK(use_free(q) == MI_FREE_OK);
        }
    }
}

int main(void) {
    test_turned();
    test_sizes();
    test_full_pages();
    test_aligned();
    test_realloc();
    test_moved();
    test_mixed();
    test_heaps();
    test_threads();
    test_damage();
    test_reborn();
    test_fast_resize();
    return test_result();
}
