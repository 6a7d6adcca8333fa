// Contracts of plain allocation: result, alignment, zeroing, overflow, NULL and zero arguments,
// errno.
#include "api_test.h"
#include "api_visit.h"

typedef void *(*alloc_fn)(size_t size);
typedef void *(*alloc_n_fn)(size_t count, size_t size);
typedef void *(*ualloc_fn)(size_t size, size_t *block_size);

static void check_alloc(const char *name, alloc_fn alloc, bool zeroes, size_t most) {
    for (size_t i = 0; i < TEST_SIZE_COUNT && test_sizes[i] <= most; i++) {
        const size_t size = test_sizes[i];
        // Dirty memory first, so that zeroing has something to do.
        void *dirty = mi_malloc(size);
        memset(dirty, 0xA5, size);
        mi_free(dirty);
        void *p = alloc(size);
        if (zeroes && p != NULL)
            CHECK_MSG(is_zero(p, 0, mi_usable_size(p)), "%s(%zu)", name, size);
        check_block(p, size, least_align(size), name);
        void *q = alloc(size);
        CHECK_MSG(q != p, "%s(%zu): two live blocks are one", name, size);
        mi_free(q);
        mi_free(p);
    }
    if (most != SIZE_MAX)
        return;
    for (size_t i = 0; i < IMPOSSIBLE_COUNT; i++)
        CHECK_FAILS(alloc(opaque(impossible_sizes[i])), ENOMEM);
}

static void check_alloc_n(const char *name, alloc_n_fn alloc, bool zeroes) {
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        const size_t size = test_sizes[i];
        void *p = alloc(3, size);
        if (zeroes && p != NULL)
            CHECK_MSG(is_zero(p, 0, 3 * size), "%s(3, %zu)", name, size);
        check_block(p, 3 * size, least_align(3 * size), name);
        mi_free(p);
    }
    void *p = alloc(0, 10), *q = alloc(10, 0);
    CHECK(p != NULL && q != NULL && p != q);
    mi_free(p);
    mi_free(q);
    for (size_t i = 0; i < OVERFLOW_COUNT; i++)
        CHECK_FAILS(alloc(opaque(overflowing[i].count), opaque(overflowing[i].size)), ENOMEM);
}

static void check_ualloc(const char *name, ualloc_fn alloc, bool zeroes, size_t most) {
    for (size_t i = 0; i < TEST_SIZE_COUNT && test_sizes[i] <= most; i++) {
        const size_t size = test_sizes[i];
        size_t usable = 12345;
        void *p = alloc(size, &usable);
        CHECK_MSG(usable == mi_usable_size(p), "%s(%zu): %zu", name, size, usable);
        if (zeroes && p != NULL)
            CHECK(is_zero(p, 0, usable));
        check_block(p, size, least_align(size), name);
        mi_free(p);
    }
    void *p = alloc(10, NULL);
    CHECK(p != NULL);
    mi_free(p);
    if (most != SIZE_MAX)
        return;
    size_t usable = 12345;
    CHECK_FAILS(alloc(opaque(SIZE_MAX), &usable), ENOMEM);
    CHECK(usable == 0);
}

static void *calloc_1(size_t size) {
    return mi_calloc(1, size);
}

static void *ucalloc_1(size_t size, size_t *block_size) {
    return mi_ucalloc(1, size, block_size);
}

static void check_realloc_with(const char *name, void *(*resize)(void *, size_t), bool zeroes) {
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        for (size_t j = 0; j < TEST_SIZE_COUNT; j++) {
            const size_t from = test_sizes[i], to = test_sizes[j];
            const size_t least = from < to ? from : to;
            void *p = zeroes ? mi_zalloc(from) : mi_malloc(from);
            const size_t before = mi_usable_size(p);
            fill(p, from);
            void *q = resize(p, to);
            CHECK_MSG(q != NULL && is_filled(q, least), "%s %zu to %zu", name, from, to);
            CHECK(mi_usable_size(q) >= to && is_aligned(q, least_align(to)));
            if (zeroes && to > from)
                CHECK_MSG(is_zero(q, from, mi_usable_size(q)), "%s %zu (%zu) to %zu", name, from,
                          before, to);
            mi_free(q);
        }
    }
    void *p = resize(NULL, 40);
    CHECK(p != NULL && mi_usable_size(p) >= 40 && (!zeroes || is_zero(p, 0, 40)));
    fill(p, 40);
    for (size_t i = 0; i < IMPOSSIBLE_COUNT; i++)
        CHECK_FAILS(resize(p, opaque(impossible_sizes[i])), ENOMEM);
    CHECK(is_filled(p, 40)); // a failed resize leaves the block alone
    p = resize(p, 0);
    CHECK(p != NULL);
    mi_free(p);
}

static void check_realloc_n(const char *name, void *(*resize)(void *, size_t, size_t),
                            bool zeroes) {
    void *p = zeroes ? mi_zalloc(40) : mi_malloc(40);
    fill(p, 40);
    for (size_t i = 0; i < OVERFLOW_COUNT; i++)
        CHECK_FAILS(resize(p, opaque(overflowing[i].count), opaque(overflowing[i].size)), ENOMEM);
    CHECK_MSG(is_filled(p, 40), "%s", name);
    p = resize(p, 100, 50);
    CHECK(p != NULL && mi_usable_size(p) >= 5000 && is_filled(p, 40));
    CHECK(!zeroes || is_zero(p, 40, 5000));
    mi_free(p);
    p = resize(NULL, 7, 9);
    CHECK(p != NULL && mi_usable_size(p) >= 63);
    mi_free(p);
}

static void check_reallocf(void) {
    void *p = mi_malloc(100);
    fill(p, 100);
    p = mi_reallocf(p, 300000);
    CHECK(p != NULL && is_filled(p, 100));
    CHECK_FAILS(mi_reallocf(p, opaque(SIZE_MAX)), ENOMEM); // frees p: a leak check would see it
}

static void check_urealloc(void) {
    size_t pre = 1, post = 1;
    void *p = mi_urealloc(NULL, 10, &pre, &post);
    CHECK(p != NULL && pre == 0 && post == mi_usable_size(p));
    const size_t before = post;
    fill(p, 10);
    p = mi_urealloc(p, 100000, &pre, &post);
    CHECK(p != NULL && pre == before && post >= 100000 && post == mi_usable_size(p) &&
          is_filled(p, 10));
    CHECK_FAILS(mi_urealloc(p, opaque(SIZE_MAX), &pre, &post), ENOMEM);
    CHECK(pre >= 100000 && post == 0);
    p = mi_urealloc(p, 5, NULL, NULL);
    CHECK(p != NULL);
    const size_t last = mi_usable_size(p);
    size_t freed = 1;
    mi_ufree(p, &freed);
    CHECK(freed == last);
    mi_ufree(NULL, &freed);
    CHECK(freed == 0);
    mi_ufree(NULL, NULL);
}

static void check_expand(void) {
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        void *p = mi_malloc(test_sizes[i]);
        const size_t usable = mi_usable_size(p);
        fill(p, usable);
        CHECK_MSG(mi_expand(p, usable) == p, "%zu", usable);
        CHECK_MSG(mi_expand(p, usable / 2) == p, "%zu", usable);
        void *q = mi_expand(p, usable * 64 + 10000000);
        CHECK(q == NULL || q == p);
        CHECK(is_filled(p, usable / 2)); // what it was shrunk to
        CHECK(mi__expand(p, usable) == p);
        mi_free(p);
    }
    CHECK(mi_expand(NULL, 10) == NULL);
    CHECK(mi__expand(NULL, 10) == NULL);
    void *p = mi_malloc(16);
    CHECK(mi_expand(p, opaque(SIZE_MAX)) == NULL);
    CHECK_FAILS(mi__expand(p, opaque(SIZE_MAX)), ENOMEM);
    mi_free(p);
}

static void check_sizes(void) {
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        const size_t size = test_sizes[i];
        void *p = mi_malloc(size);
        CHECK_MSG(mi_good_size(size) <= mi_usable_size(p), "%zu: good %zu, usable %zu", size,
                  mi_good_size(size), mi_usable_size(p));
        const size_t more = (size > 65536 && size <= 262144 ? 65536 : mi_good_size(size) / 2);
        CHECK_MSG(mi_usable_size(p) <= mi_good_size(size) + more, "%zu: good %zu, usable %zu", size,
                  mi_good_size(size), mi_usable_size(p));
        CHECK(mi_malloc_good_size(size) == mi_good_size(size));
        CHECK(mi_malloc_size(p) == mi_usable_size(p) &&
              mi_malloc_usable_size(p) == mi_usable_size(p));
        // Wasted at most 12.5 % above the smallest sizes.
        if (size >= 128 && size <= 4194304)
            CHECK_MSG(mi_good_size(size) <= size + size / 8 + 16, "%zu: %zu", size,
                      mi_good_size(size));
        mi_free(p);
    }
    CHECK(mi_usable_size(NULL) == 0 && mi_malloc_size(NULL) == 0 &&
          mi_malloc_usable_size(NULL) == 0);
    CHECK(mi_good_size(opaque(SIZE_MAX)) == SIZE_MAX &&
          mi_malloc_good_size(opaque(SIZE_MAX)) == SIZE_MAX);
}

static void check_free(void) {
    mi_free(NULL);
    mi_cfree(NULL);
    mi_free_small(NULL);
    mi_free_size(NULL, 0);
    mi_free_size_aligned(NULL, 0, 16);
    mi_free_aligned(NULL, 16);
    // errno is kept, also when the block goes back to the OS.
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        void *p = mi_malloc(test_sizes[i]);
        errno = 4711;
        mi_free(p);
        CHECK(errno == 4711);
    }
    mi_free_size(mi_malloc(100), 100);
    mi_free_size_aligned(mi_malloc_aligned(100, 64), 100, 64);
    mi_free_aligned(mi_malloc_aligned(100, 64), 64);
    mi_free_small(mi_malloc_small(100));
    mi_cfree(mi_malloc(10));
    int on_stack = 0;
    catch_begin();
    mi_cfree(&on_stack); // ignores what is not ours, without a word
    catch_end();
    CHECK(caught_lines == 0);
    // A freed block is used again: a loop does not grow.
    void *first = mi_malloc(48);
    mi_free(first);
    bool is_reused = false;
    for (int i = 0; i < 100000 && !is_reused; i++) {
        void *p = mi_malloc(48);
        is_reused = (p == first);
        mi_free(p);
    }
    CHECK(is_reused);
}

static size_t live_blocks(mi_heap_t *heap) {
    size_t count = 0;
    CHECK(mi_heap_visit_blocks(heap, true, count_block, &count));
    return count;
}

// Whatever frees a block, or moves it, leaves nothing behind.
static void check_all_freed(void) {
    mi_heap_t *const heap = mi_heap_new();
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        const size_t size = test_sizes[i];
        size_t told = 0;
        mi_free(mi_heap_malloc(heap, size));
        mi_free_size(mi_heap_malloc(heap, size), size);
        mi_free_size_aligned(mi_heap_malloc_aligned(heap, size, 64), size, 64);
        mi_free_aligned(mi_heap_malloc_aligned(heap, size, 64), 64);
        mi_free(mi_heap_malloc_aligned_at(heap, size + 8, 64, 8));
        mi_cfree(mi_heap_malloc(heap, size));
        mi_ufree(mi_heap_malloc(heap, size), NULL);
        mi_ufree(mi_heap_malloc(heap, size), &told);
        CHECK_MSG(told >= size && live_blocks(heap) == 0, "%zu", size);
        if (size <= MI_SMALL_SIZE_MAX)
            mi_free_small(mi_heap_malloc_small(heap, size));
        void *p = mi_heap_realloc(heap, mi_heap_malloc(heap, size), size * 3 + 100000);
        CHECK_MSG(live_blocks(heap) == 1, "%zu larger", size);
        p = mi_heap_rezalloc(heap, p, size / 3 + 1);
        CHECK_MSG(live_blocks(heap) == 1, "%zu smaller", size);
        p = mi_heap_realloc_aligned_at(heap, p, size + 100, 4096, 40);
        CHECK_MSG(live_blocks(heap) == 1, "%zu aligned", size);
        CHECK(mi_heap_reallocf(heap, p, opaque(SIZE_MAX)) == NULL);
        CHECK_MSG(live_blocks(heap) == 0, "%zu reallocf", size);
    }
    mi_heap_destroy(heap);
}

static void check_region(void) {
    int on_stack = 0;
    static int in_data;
    void *p = mi_malloc(10);
    CHECK(mi_is_in_heap_region(p));
    CHECK(!mi_is_in_heap_region(NULL) && !mi_is_in_heap_region(&on_stack) &&
          !mi_is_in_heap_region(&in_data));
    CHECK(!mi_is_in_heap_region((void *)(uintptr_t)1) &&
          !mi_is_in_heap_region((void *)UINTPTR_MAX));
    for (int bit = 0; bit < (int)sizeof(void *) * 8; bit++)
        (void)mi_is_in_heap_region((void *)((uintptr_t)1 << bit)); // any value may be asked for
    mi_free(p);
}

int main(void) {
    check_alloc("mi_malloc", mi_malloc, false, SIZE_MAX);
    check_alloc("mi_zalloc", mi_zalloc, true, SIZE_MAX);
    check_alloc("mi_calloc", calloc_1, true, SIZE_MAX);
    check_alloc("mi_malloc_small", mi_malloc_small, false, MI_SMALL_SIZE_MAX);
    check_alloc("mi_zalloc_small", mi_zalloc_small, true, MI_SMALL_SIZE_MAX);
    check_alloc_n("mi_calloc", mi_calloc, true);
    check_alloc_n("mi_mallocn", mi_mallocn, false);
    check_ualloc("mi_umalloc", mi_umalloc, false, SIZE_MAX);
    check_ualloc("mi_uzalloc", mi_uzalloc, true, SIZE_MAX);
    check_ualloc("mi_ucalloc", ucalloc_1, true, SIZE_MAX);
    check_ualloc("mi_umalloc_small", mi_umalloc_small, false, MI_SMALL_SIZE_MAX);
    check_ualloc("mi_uzalloc_small", mi_uzalloc_small, true, MI_SMALL_SIZE_MAX);
    check_realloc_with("mi_realloc", mi_realloc, false);
    check_realloc_with("mi_rezalloc", mi_rezalloc, true);
    check_realloc_n("mi_reallocn", mi_reallocn, false);
    check_realloc_n("mi_recalloc", mi_recalloc, true);
    check_realloc_n("mi_reallocarray", mi_reallocarray, false);
    check_reallocf();
    check_urealloc();
    check_expand();
    check_sizes();
    check_free();
    check_all_freed();
    check_region();
    return test_result();
}
