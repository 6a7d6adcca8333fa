// One thread: size classes, alignment, zeroing, resizing, and what is not ours.
#include "core/arena.h"
#include "core/bitmap.h"
#include "os/os.h"
#include "use.h"

#include <limits.h>

static bool has_such_pages(uint32_t a, uint32_t b) {
    return (a <= MI_CLASS_SHARED) == (b <= MI_CLASS_SHARED) &&
           mi_class_slices(mi_class_bytes(a)) == mi_class_slices(mi_class_bytes(b));
}

// Classes whose pages may be exchanged: all those of one length and kind, and no others. Those with
// one block have one queue.
static void test_siblings(void) {
    for (uint32_t a = 1; a <= MI_CLASS_LAST; a++) {
        uint32_t first, last;
        mi_class_siblings(a, &first, &last);
        for (uint32_t b = 1; b <= MI_CLASS_LAST; b++)
            if (has_such_pages(a, b) != (first <= b && b <= last))
                CHECK_MSG(false, "class %u and class %u", a, b);
    }
    for (uint32_t a = 1; a <= MI_CLASS_SHARED; a++)
        CHECK(mi_class_queue(a) == a && mi_class_queue(a + MI_CLASS_EXACT) == a + MI_CLASS_EXACT);
    for (uint32_t a = MI_CLASS_SHARED + 1; a <= MI_CLASS_LAST; a++) {
        for (uint32_t b = 1; b <= MI_CLASS_LAST; b++)
            if (has_such_pages(a, b) != (mi_class_queue(a) == mi_class_queue(b)))
                CHECK_MSG(false, "the queue of class %u and class %u", a, b);
        CHECK(has_such_pages(a, mi_class_queue(a)));
        CHECK(mi_class_queue(a + MI_CLASS_EXACT) == mi_class_queue(a) + MI_CLASS_EXACT);
    }
    CHECK(mi_class_queue(MI_CLASS_HUGE) == MI_CLASS_HUGE);
}

static void test_classes(void) {
    size_t largest = 0;
    for (size_t size = 0; size <= MI_CLASSED_MAX; size += (size < 70000 ? 1 : 1021)) {
        const uint32_t c = mi_class_of(size);
        const size_t bytes = mi_class_bytes(c);
        if (bytes < size || c > MI_CLASS_LAST || c < 1)
            CHECK_MSG(false, "size %zu class %u bytes %zu", size, c, bytes);
        if (c > 1 && mi_class_bytes(c - 1) >= size)
            CHECK_MSG(false, "size %zu fits class %u already", size, c - 1);
        if (size > 128 && (bytes - size) * 8 > size)
            CHECK_MSG(false, "size %zu wastes %zu", size, bytes - size);
        largest = c;
    }
    CHECK(largest == MI_CLASS_LAST);
    CHECK(mi_class_bytes(MI_CLASS_SHARED) == MI_SHARED_MAX);
    CHECK(mi_class_bytes(MI_CLASS_LAST) == MI_CLASSED_MAX);
    // The division by multiplication that finds a block: exact for every offset of every class.
    for (uint32_t c = 1; c <= MI_CLASS_SHARED; c++) {
        mi_page_t page = {.block_bytes = mi_class_bytes(c)};
        page.recip = mi_page_reciprocal(page.block_bytes);
        page.far_recip = page.recip;
        const size_t end = mi_class_slices(page.block_bytes) << MI_SLICE_SHIFT;
        for (size_t offset = 0; offset < end; offset += 7)
            if (mi_page_block_index(&page, offset) != offset / page.block_bytes ||
                mi_page_is_block_start(&page, (void *)offset) != (offset % page.block_bytes == 0) ||
                mi_page_is_block_start_far(&page, (void *)offset) !=
                    (offset % page.block_bytes == 0))
                CHECK_MSG(false, "class %u offset %zu", c, offset);
        for (size_t offset = page.block_bytes; offset < end; offset += page.block_bytes)
            if (mi_page_block_index(&page, offset) != offset / page.block_bytes ||
                mi_page_block_index(&page, offset - 1) != offset / page.block_bytes - 1)
                CHECK_MSG(false, "class %u offset %zu", c, offset);
    }
}

// The search by words finds what the search by runs finds, in maps from full to sparse.
static void test_bitmap(void) {
    uint64_t seed = 7;
    uint64_t map[5];
    for (int round = 0; round < 3000; round++) {
        const size_t bits = 1 + use_random(&seed) % 320;
        memset(map, 0, sizeof(map));
        for (size_t at = 0; at < bits;) {
            const size_t run = 1 + use_random(&seed) % (round % 2 == 0 ? 5 : 90);
            const size_t count = (run < bits - at ? run : bits - at);
            mi_bitmap_set(map, at, count, use_random(&seed) % 2 == 0);
            at += count;
        }
        const size_t from = use_random(&seed) % bits;
        for (size_t count = 1; count <= 64; count++) {
            const size_t found = mi_bitmap_find_short(map, bits, from, count);
            const size_t wanted = mi_bitmap_find(map, bits, from, count, 1, 0);
            if (found != wanted)
                CHECK_MSG(false, "%zu of %zu bits from %zu: %zu", count, bits, from, found);
        }
    }
}

static void test_sizes(void) {
    for (size_t size = 0; size < 40 * MI_MiB; size += 1 + size / 9) {
        void *const p = use_malloc(size);
        CHECK_MSG(p != NULL && (uintptr_t)p % 16 == 0, "size %zu", size);
        CHECK_MSG(mi_core_usable(p, NULL) >= size, "size %zu", size);
        const size_t most =
            (size > MI_CLASSED_MAX ? mi_core_good_size(size)
                                   : mi_class_bytes(mi_class_server(mi_class_of(size), 0)));
        CHECK_MSG(MI_DEBUG || (mi_core_usable(p, NULL) >= mi_core_good_size(size) &&
                               mi_core_usable(p, NULL) <= most),
                  "size %zu usable %zu", size, mi_core_usable(p, NULL));
        use_fill(p, size, 0x5A);
        CHECK(use_free(p) == MI_FREE_OK);
        void *const z = mi_core_malloc(size, true);
        CHECK_MSG(z != NULL && use_is_zero(z, mi_core_usable(z, NULL)), "size %zu", size);
        memset(z, 0xFF, size);
        CHECK(use_free(z) == MI_FREE_OK);
        void *const y = mi_core_malloc(size, true); // the same memory, dirty now
        CHECK_MSG(y != NULL && use_is_zero(y, mi_core_usable(y, NULL)), "size %zu again", size);
        CHECK(use_free(y) == MI_FREE_OK);
    }
    CHECK(use_malloc(SIZE_MAX) == NULL);
    CHECK(use_malloc(PTRDIFF_MAX) == NULL);
    CHECK(use_malloc(MI_REQUEST_MAX) == NULL); // more than there is
    CHECK(mi_core_malloc(SIZE_MAX - 4096, true) == NULL);
    CHECK(mi_core_malloc_aligned(SIZE_MAX - 64, 128, 0, false) == NULL);
}

static void test_aligned(void) {
    for (size_t align = 1; align <= 16 * MI_MiB; align *= 2) {
        for (size_t size = 0; size < 300000; size = size * 3 + 1) {
            for (size_t offset = 0; offset < 40; offset += 13) {
                uint8_t *const p = mi_core_malloc_aligned(size, align, offset, size % 2 == 0);
                CHECK_MSG(p != NULL && ((uintptr_t)p + offset) % align == 0 &&
                              mi_core_usable(p, NULL) >= size,
                          "size %zu align %zu offset %zu", size, align, offset);
                if (size % 2 == 0)
                    CHECK_MSG(use_is_zero(p, size), "size %zu align %zu", size, align);
                memset(p, 0xA5, size);
                mi_free_result_t result;
                uint8_t *const q = mi_core_heap_resize(
                    NULL, p, &(mi_core_resize_t){size * 2 + 1, align, offset, 0}, &result);
                CHECK_MSG(q != NULL && result == MI_FREE_OK &&
                              ((uintptr_t)q + offset) % align == 0 && use_check(q, size, 0xA5),
                          "size %zu align %zu offset %zu", size, align, offset);
                CHECK(use_free(q) == MI_FREE_OK);
            }
        }
    }
    CHECK(mi_core_malloc_aligned(100, 24, 0, false) == NULL);
    CHECK(mi_core_malloc_aligned(100, 0, 0, false) == NULL);
    void *const inlined = mi_malloc_aligned_try(100, 4096);
    CHECK(MI_DEBUG || MI_SECURE || inlined == NULL || (uintptr_t)inlined % 4096 == 0);
    CHECK(inlined == NULL || use_free(inlined) == MI_FREE_OK);
}

// A class that fills page after page gets longer ones; few blocks of it stay in short ones.
static void test_long_pages(void) {
    enum { COUNT = 1000, SIZE = 8000 };
    void *block[COUNT];
    mi_core_stats_t before, after;
    mi_core_collect(true); // idle pages would serve
    mi_core_stats(&before);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK((block[i] = use_malloc(SIZE)) != NULL);
        use_fill(block[i], SIZE, (uint8_t)i);
    }
    mi_core_stats(&after);
    const size_t pages = (size_t)(after.page_total - before.page_total);
    CHECK_MSG(MI_SECURE || MI_SHRUNK || pages < 30, "%zu pages", pages);
    for (size_t i = 0; i < COUNT; i++)
        CHECK(use_check(block[i], SIZE, (uint8_t)i) && use_free(block[i]) == MI_FREE_OK);
}

// Blocks that grow in turn, by small steps, with other blocks taken meanwhile: each finds room
// behind it and moves a few times only: at the most with each of the three steps to 8 KiB (secure:
// ten to 32 KiB), where no block gets headroom, and twice after them. In a debug build at each step
// to 64 KiB, and then when its class is full.
static void test_growth(void) {
    enum { BLOCKS = 6, STEP = 3000, LAST = 400 * STEP };
    uint8_t *grown[BLOCKS] = {0};
    void *other[LAST / STEP + 1];
    size_t moves = 0, taken = 0;
    for (size_t size = STEP; size <= LAST; size += STEP) {
        for (size_t i = 0; i < BLOCKS; i++) {
            mi_free_result_t result;
            uint8_t *const old = grown[i];
            uint8_t *const p = mi_core_realloc(old, size, MI_REALLOC_ZERO, &result);
            CHECK(p != NULL && result == MI_FREE_OK && mi_core_usable(p, NULL) >= size);
            CHECK(use_check(p, size - STEP, (uint8_t)(i + 1)) || size == STEP);
            CHECK(use_is_zero(p + size - STEP, STEP));
            memset(p + size - STEP, (int)i + 1, STEP);
            moves += (p != old);
            grown[i] = p;
        }
        other[taken++] = use_malloc(1 + size % 20000);
    }
    CHECK_MSG(MI_SHRUNK || moves <= (MI_DEBUG    ? 80
                                     : MI_SECURE ? 12
                                                 : 7) *
                                        BLOCKS,
              "%zu moves", moves);
    for (size_t i = 0; i < BLOCKS; i++)
        CHECK(use_check(grown[i], LAST, (uint8_t)(i + 1)) && use_free(grown[i]) == MI_FREE_OK);
    while (taken > 0)
        CHECK(use_free(other[--taken]) == MI_FREE_OK);
}

// Vectors that grow by a half, in turn: above 16 KiB they move no more, up to where page tables
// move instead (secure: twice more). What earlier ones left behind does not show in the
// next.
static void test_vectors(void) {
    enum { BLOCKS = 6, FIRST = 5000, ROUNDS = 3 };
    static const size_t most[ROUNDS] = {600000, 150000, 600000};
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t *grown[BLOCKS] = {0};
        size_t moves = 0, old = 0, size = FIRST;
        for (; size < most[round]; old = size, size += size / 2) {
            for (size_t i = 0; i < BLOCKS; i++) {
                uint8_t *const p = mi_core_realloc(grown[i], size, MI_REALLOC_ZERO, NULL);
                CHECK(p != NULL && mi_core_usable(p, NULL) >= size);
                CHECK(old == 0 || use_check(p, old, (uint8_t)(i + 1)));
                CHECK(use_is_zero(p + old, size - old));
                memset(p, (int)i + 1, size);
                moves += (p != grown[i] && old > 16 * MI_KiB);
                grown[i] = p;
            }
        }
        CHECK_MSG(MI_DEBUG || MI_SHRUNK || moves <= (MI_SECURE ? 2 * BLOCKS : 0), "%zu moves",
                  moves);
        for (size_t i = 0; i < BLOCKS; i++) {
            memset(grown[i], 0xEE, mi_core_usable(grown[i], NULL));
            CHECK(use_free(grown[i]) == MI_FREE_OK);
        }
    }
}

static uint8_t *vector_of(size_t first, size_t size) {
    uint8_t *const p = mi_core_malloc(first, true);
    return p == NULL ? NULL : mi_core_realloc(p, size, MI_REALLOC_ZERO, NULL);
}

// The page of a vector is kept for the next, whatever of it that uses, until the thread gives back
// what it has too much of; but no long one.
static void test_kept_vector(void) {
    mi_theap_t *const theap = mi_theap_real();
    if (MI_DEBUG || MI_SECURE)
        return;
    mi_core_collect(true);
    theap->trim_at_ms = UINT64_MAX; // on a busy machine it would be due in between
    theap->pressure_seen = mi_arena_pressure();
    uint8_t *p = vector_of(60000, 100000);
    const bool has_place = (mi_page_map_find(p)->class_index == MI_CLASS_HUGE);
    CHECK(has_place || MI_SHRUNK); // whose arenas may be too short for one
    if (!has_place) {
        CHECK(use_free(p) == MI_FREE_OK);
        return;
    }
    memset(p, 0xEE, mi_core_usable(p, NULL));
    CHECK(use_free(p) == MI_FREE_OK && theap->queue[MI_CLASS_HUGE].first == mi_page_map_find(p));
    uint8_t *q = vector_of(7000, 12000);
    CHECK(q == p && mi_core_usable(q, NULL) < 24000 && use_is_zero(q, 12000));
    CHECK(theap->queue[MI_CLASS_HUGE].first == NULL);
    q = mi_core_realloc(q, 200000, MI_REALLOC_ZERO, NULL); // more than it has
    CHECK(q != NULL && (q == p || MI_SHRUNK) && use_is_zero(q, 200000));
    CHECK(use_free(q) == MI_FREE_OK && (MI_SHRUNK || theap->queue[MI_CLASS_HUGE].first != NULL));
    mi_core_collect(true);
    CHECK(theap->queue[MI_CLASS_HUGE].first == NULL);
    p = vector_of(300000, 500000);
    CHECK(use_free(p) == MI_FREE_OK && theap->queue[MI_CLASS_HUGE].first == NULL);
    theap->trim_at_ms = 0;
}

// More vectors than there is room for in place: the others move, and nothing is lost.
static void test_many_vectors(void) {
    enum { BLOCKS = 150, MOST = 90000 };
    uint8_t *grown[BLOCKS] = {0};
    size_t old = 0;
    for (size_t size = 3000; size < MOST; old = size, size += size / 2) {
        for (size_t i = 0; i < BLOCKS; i++) {
            uint8_t *const p = mi_core_realloc(grown[i], size, 0, NULL);
            CHECK(p != NULL && (old == 0 || use_check(p, old, (uint8_t)i)));
            use_fill(p, size, (uint8_t)i);
            grown[i] = p;
        }
    }
    for (size_t i = 0; i < BLOCKS; i++)
        CHECK(use_check(grown[i], old, (uint8_t)i) && use_free(grown[i]) == MI_FREE_OK);
}

// From 8 KiB on it has headroom, even before it gets slices of its own.
static void test_steps(void) {
    size_t moves = 0;
    uint8_t *p = use_malloc(9000);
    for (size_t size = 9000; size < 32000; size += 200) {
        uint8_t *const q = mi_core_realloc(p, size, 0, NULL);
        moves += (q != p);
        p = q;
    }
    CHECK_MSG(MI_DEBUG ? moves == 114 : moves <= 6, "%zu moves", moves);
    CHECK(use_free(p) == MI_FREE_OK);
}

// A debug build moves what grows, so that stale pointers are found out, but a large block not at
// every step: its copies would take longer than all else.
static void test_large_steps(void) {
    enum { FIRST = 200000, STEP = 100, STEPS = 5000 };
    size_t moves = 0;
    uint8_t *p = use_malloc(FIRST);
    use_fill(p, FIRST, 7);
    for (size_t size = FIRST + STEP; size <= FIRST + STEPS * STEP; size += STEP) {
        uint8_t *const q = mi_core_realloc(p, size, 0, NULL);
        moves += (q != p);
        p = q;
        memset(p + size - STEP, 7, STEP);
    }
    CHECK_MSG(moves <= 20, "%zu moves", moves); // eight sizes for each doubling
    CHECK(use_check(p, FIRST + STEPS * STEP, 7) && use_free(p) == MI_FREE_OK);
}

static void test_realloc(void) {
    mi_free_result_t result;
    for (size_t step = 1; step < 3 * MI_MiB; step = step * 5 + 1) {
        uint8_t *p = NULL;
        size_t old = 0;
        for (size_t size = step; size < 24 * MI_MiB && size < step * 400; size += step) {
            p = mi_core_realloc(p, size, MI_REALLOC_ZERO, &result);
            if (p == NULL || result != MI_FREE_OK || !use_check(p, old < 64 ? 0 : 32, 0x11) ||
                p[size - 1] != 0 || (old > 0 && p[old] != 0 && size > old))
                CHECK_MSG(false, "step %zu size %zu", step, size);
            memset(p, 0x11, size < 64 ? 0 : 32);
            p[size - 1] = 0;
            old = size;
        }
        CHECK(p != NULL);
        p = mi_core_realloc(p, 10, 0, &result);
        CHECK(p != NULL && mi_core_usable(p, NULL) < 64);
        CHECK(use_free(p) == MI_FREE_OK);
    }
    void *const p = use_malloc(1000);
    CHECK(mi_core_realloc(p, MI_DEBUG ? 990 : 1024, MI_REALLOC_IN_PLACE, &result) == p);
    CHECK(mi_core_realloc(p, 5000, MI_REALLOC_IN_PLACE, &result) == NULL && result == MI_FREE_OK);
    CHECK(mi_core_realloc(p, SIZE_MAX, 0, &result) == NULL && result == MI_FREE_OK);
    CHECK(mi_core_usable(p, NULL) == (MI_DEBUG ? 990 : 1024));
    CHECK(use_free(p) == MI_FREE_OK);
    mi_core_collect(true); // no page that blocks with an offset have come from
    size_t usable;
    void *const near = use_malloc(1000);
    // Neither debug builds nor blocks beyond the window have a fast path; where constants are
    // small, so is the window, and secure builds put it somewhere else each time.
    const bool is_fast = !MI_DEBUG && mi_page_map_index(near) < MI_MAP_WINDOW_SLICES;
    const size_t known = (is_fast ? mi_core_usable(near, NULL) : 0);
    CHECK(is_fast || MI_DEBUG || MI_SHRUNK);
    CHECK(mi_realloc_try(near, 900, &usable) == (is_fast ? near : NULL) && usable == known);
    CHECK(mi_realloc_try(near, 1025, &usable) == NULL && usable == known);
    CHECK(mi_realloc_try(near, 1, &usable) == NULL && usable == known);
    CHECK(use_free(near) == MI_FREE_OK);
}

static void test_foreign(void) {
    char on_stack[64];
    static char in_bss[64];
    void *const of_libc = malloc(100);
    void *const ours = use_malloc(100);
    const uintptr_t odd[] = {1,
                             15,
                             4096,
                             0x7FFFFFFFFFFFull,
                             (uintptr_t)1 << 47,
                             UINTPTR_MAX,
                             UINTPTR_MAX - 15,
                             (uintptr_t)1 << 63,
                             (uintptr_t)on_stack,
                             (uintptr_t)in_bss,
                             (uintptr_t)of_libc,
                             (uintptr_t)test_foreign};
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        mi_free_result_t result = MI_FREE_OK;
        size_t usable = 1;
        CHECK_MSG(!mi_core_contains((void *)odd[i]), "%zu", i);
        CHECK_MSG(use_free((void *)odd[i]) == MI_FREE_FOREIGN, "%zu", i);
        CHECK_MSG(mi_core_usable((void *)odd[i], &result) == 0 && result == MI_FREE_FOREIGN, "%zu",
                  i);
        CHECK_MSG(mi_core_realloc((void *)odd[i], 10, 0, &result) == NULL &&
                      result == MI_FREE_FOREIGN,
                  "%zu", i);
        CHECK_MSG(mi_realloc_try((void *)odd[i], 10, &usable) == NULL && usable == 0, "%zu", i);
    }
    uint64_t random = 42;
    for (int i = 0; i < 1000000; i++) {
        const uintptr_t p = (uintptr_t)use_random(&random);
        if (mi_core_contains((void *)p))
            CHECK_MSG(p >> 16 == (uintptr_t)ours >> 16, "%zx", (size_t)p);
    }
    CHECK(use_free(NULL) == MI_FREE_OK);
    CHECK(mi_core_contains(ours) && mi_core_contains((char *)ours + 5));
    CHECK(use_free((char *)ours + 1) == MI_FREE_INVALID);
    CHECK(use_free((char *)ours + 8) == MI_FREE_INVALID);
    CHECK(mi_core_usable((char *)ours + 16, NULL) == 0);
    CHECK(use_free(ours) == MI_FREE_OK);
    void *const large = use_malloc(6 * MI_MiB);
    CHECK(use_free((char *)large + 65536) == MI_FREE_INVALID);
    CHECK(use_free(large) == MI_FREE_OK);
    CHECK(use_free(large) != MI_FREE_OK);
    free(of_libc);
}

// A full page whose blocks are freed one by one, in every order that matters, is used again.
static void test_reuse(void) {
    enum { COUNT = 20000 };
    static void *blocks[COUNT];
    mi_core_stats_t before, after;
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < COUNT; i++)
            blocks[i] = use_malloc(200);
        for (int i = 0; i < COUNT; i++)
            CHECK_MSG(use_free(blocks[round % 2 ? i : COUNT - 1 - i]) == MI_FREE_OK, "%d", i);
        mi_core_stats(round == 0 ? &before : &after);
    }
    CHECK(after.reserved_bytes == before.reserved_bytes);
    CHECK(after.page_bytes_peak <= before.page_bytes_peak + 4 * MI_MiB);
    mi_core_collect(true);
    mi_core_stats(&after);
    CHECK_MSG(after.page_count == 0, "%d pages left", (int)after.page_count);
}

// Small blocks that are freed in any order and allocated again lie one after the other again, as
// far as their pages became empty.
static void test_order(void) {
    enum { COUNT = 20000, SIZE = 32 };
    static uint8_t *blocks[COUNT];
    uint64_t random = 7;
    for (int round = 0; round < 3; round++) {
        int in_order = 0;
        for (int i = 0; i < COUNT; i++) {
            blocks[i] = use_malloc(SIZE);
            in_order +=
                (i > 0 && blocks[i] > blocks[i - 1] && blocks[i] - blocks[i - 1] < 2 * SIZE);
        }
        if (!MI_SECURE) // whose order is random on purpose
            CHECK_MSG(in_order > COUNT * 9 / 10, "round %d: %d of %d", round, in_order, COUNT);
        for (int i = COUNT - 1; i >= 0; i--) {
            const int k = (int)(use_random(&random) % (uint64_t)(i + 1));
            CHECK(use_free(blocks[k]) == MI_FREE_OK);
            blocks[k] = blocks[i];
        }
    }
}

// A full page waits until a part of it was freed, a larger one where the thread has many pages.
static void test_full_pages(void) {
    enum { SIZE = 1000, COUNT = MI_MANY_PAGES * 80 };
    static void *blocks[COUNT];
    for (int i = 0; i < COUNT; i++)
        blocks[i] = use_malloc(SIZE);
    CHECK(mi_theap_pages(mi_theap_real()) > MI_MANY_PAGES);
    const mi_page_t *const first = mi_page_map_find(blocks[0]);
    const mi_page_t *const last = mi_page_map_find(blocks[COUNT - 200]);
    CHECK(first->state == MI_PAGE_FULL && first->used == first->reserved >> MI_FULL_SHIFT);
    CHECK(last->state == MI_PAGE_FULL && last->used == last->reserved >> MI_FULL_SHIFT_MANY);
    for (int i = 0; i < COUNT; i++)
        CHECK(use_free(blocks[i]) == MI_FREE_OK);
    mi_core_collect(true);
    mi_theap_bound(mi_theap_real());
    CHECK(mi_theap_real()->full_shift == MI_FULL_SHIFT);
}

// The slow path at which the clock is due to be asked.
static void look(mi_theap_t *theap, uint64_t last_ms) {
    theap->looked_at_ms = last_ms;
    mi_store_relaxed(&theap->tick, MI_TICKS - 1);
    mi_theap_tick(theap);
}

// true = it was asked.
static bool look_is_made(mi_theap_t *theap) {
    look(theap, 0);
    return theap->looked_at_ms != 0;
}

// The clock is asked less often while that comes due in no time.
static void test_looks(void) {
    mi_theap_t *const theap = mi_theap_real();
    for (int i = 0; i < 1000 && theap->looks_left_out < MI_BUSY_LOOKS; i++) {
        theap->looks_left_out = 0;
        look(theap, mi_os_clock_ms());
    }
    CHECK(theap->looks_left_out == MI_BUSY_LOOKS);
    for (uint32_t i = 0; i < MI_BUSY_LOOKS; i++)
        CHECK(!look_is_made(theap));
    CHECK(look_is_made(theap) && theap->looks_left_out == 0); // the one before was long ago
    CHECK(look_is_made(theap));
}

static void test_count(void) {
    mi_core_stats_t before, after;
    mi_core_count_all(true);
    mi_core_stats(&before);
    for (int i = 0; i < 1000; i++)
        CHECK(use_free(use_malloc((size_t)i * 7)) == MI_FREE_OK);
    mi_core_stats(&after);
    CHECK(after.malloc_count - before.malloc_count == 1000);
    mi_core_count_all(false);
}

int main(void) {
    test_classes();
    test_siblings();
    test_bitmap();
    test_sizes();
    test_aligned();
    test_realloc();
    test_growth();
    test_vectors();
    test_many_vectors();
    test_kept_vector();
    test_steps();
    test_large_steps();
    test_long_pages();
    test_reuse();
    test_order();
    test_full_pages();
    test_looks();
    test_foreign();
    test_count();
    return test_result();
}
