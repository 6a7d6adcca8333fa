// Contracts of aligned allocation, of every form: plain, at an offset, zeroed, resized.
#include "api_test.h"

static const size_t aligns[] = {1,   2,    4,    8,    16,    32,     64,      128,
                                256, 1024, 4096, 8192, 65536, 131072, 1048576, 4194304};
#define ALIGN_COUNT (sizeof(aligns) / sizeof(aligns[0]))
static const size_t offsets[] = {0, 1, 8, 16, 24, 100, 4096};
#define OFFSET_COUNT (sizeof(offsets) / sizeof(offsets[0]))

// Every form as one function of size, alignment and offset.
typedef void *(*aligned_fn)(size_t size, size_t align, size_t offset);

static void *form_malloc(size_t size, size_t align, size_t offset) {
    return offset == 0 ? mi_malloc_aligned(size, align) : mi_malloc_aligned_at(size, align, offset);
}
static void *form_zalloc(size_t size, size_t align, size_t offset) {
    return offset == 0 ? mi_zalloc_aligned(size, align) : mi_zalloc_aligned_at(size, align, offset);
}
static void *form_calloc(size_t size, size_t align, size_t offset) {
    return offset == 0 ? mi_calloc_aligned(1, size, align)
                       : mi_calloc_aligned_at(1, size, align, offset);
}
static void *form_heap_malloc(size_t size, size_t align, size_t offset) {
    mi_heap_t *h = mi_heap_main();
    return offset == 0 ? mi_heap_malloc_aligned(h, size, align)
                       : mi_heap_malloc_aligned_at(h, size, align, offset);
}
static void *form_heap_zalloc(size_t size, size_t align, size_t offset) {
    mi_heap_t *h = mi_heap_main();
    return offset == 0 ? mi_heap_zalloc_aligned(h, size, align)
                       : mi_heap_zalloc_aligned_at(h, size, align, offset);
}
static void *form_heap_calloc(size_t size, size_t align, size_t offset) {
    mi_heap_t *h = mi_heap_main();
    return offset == 0 ? mi_heap_calloc_aligned(h, 1, size, align)
                       : mi_heap_calloc_aligned_at(h, 1, size, align, offset);
}

static void check_form(const char *name, aligned_fn alloc, bool zeroes) {
    for (size_t a = 0; a < ALIGN_COUNT; a++) {
        for (size_t s = 0; s < TEST_SIZE_COUNT; s += (a % 3 == 0 ? 2 : 5)) {
            for (size_t o = 0; o < OFFSET_COUNT; o++) {
                const size_t size = test_sizes[s], align = aligns[a], offset = offsets[o];
                if (offset > size)
                    continue;
                uint8_t *p = alloc(size, align, offset);
                CHECK_MSG(p != NULL, "%s(%zu, %zu, %zu)", name, size, align, offset);
                if (p == NULL)
                    continue;
                CHECK_MSG(is_aligned(p + offset, align), "%s(%zu, %zu, %zu) = %p", name, size,
                          align, offset, (void *)p);
                CHECK(!zeroes || is_zero(p, 0, size));
                CHECK_MSG(mi_usable_size(p) >= size, "%s(%zu, %zu, %zu)", name, size, align,
                          offset);
                fill(p, size);
                uint8_t *q = alloc(size, align, offset);
                CHECK(q != p);
                if (q != NULL)
                    fill(q, size);
                CHECK(is_filled(p, size));
                mi_free(q);
                mi_free(p);
            }
        }
    }
    CHECK_FAILS(alloc(10, opaque(3), 0), EINVAL);
    CHECK_FAILS(alloc(10, 0, 0), EINVAL);
    CHECK_FAILS(alloc(opaque(SIZE_MAX), 64, 0), ENOMEM);
    CHECK_FAILS(alloc(opaque(SIZE_MAX - 32), 64, 8), ENOMEM);
    CHECK_FAILS(alloc(100, (SIZE_MAX >> 1) + 1, 0), ENOMEM);
}

typedef void *(*resize_fn)(void *p, size_t size, size_t align, size_t offset);

static void *resize_realloc(void *p, size_t size, size_t align, size_t offset) {
    return offset == 0 ? mi_realloc_aligned(p, size, align)
                       : mi_realloc_aligned_at(p, size, align, offset);
}
static void *resize_rezalloc(void *p, size_t size, size_t align, size_t offset) {
    return offset == 0 ? mi_rezalloc_aligned(p, size, align)
                       : mi_rezalloc_aligned_at(p, size, align, offset);
}
static void *resize_recalloc(void *p, size_t size, size_t align, size_t offset) {
    return offset == 0 ? mi_recalloc_aligned(p, size, 1, align)
                       : mi_recalloc_aligned_at(p, 1, size, align, offset);
}
static void *resize_ucrt(void *p, size_t size, size_t align, size_t offset) {
    return offset == 0 ? mi_aligned_recalloc(p, size, 1, align)
                       : mi_aligned_offset_recalloc(p, 1, size, align, offset);
}
static void *resize_heap_realloc(void *p, size_t size, size_t align, size_t offset) {
    mi_heap_t *h = mi_heap_main();
    return offset == 0 ? mi_heap_realloc_aligned(h, p, size, align)
                       : mi_heap_realloc_aligned_at(h, p, size, align, offset);
}
static void *resize_heap_rezalloc(void *p, size_t size, size_t align, size_t offset) {
    mi_heap_t *h = mi_heap_main();
    return offset == 0 ? mi_heap_rezalloc_aligned(h, p, size, align)
                       : mi_heap_rezalloc_aligned_at(h, p, size, align, offset);
}
static void *resize_heap_recalloc(void *p, size_t size, size_t align, size_t offset) {
    mi_heap_t *h = mi_heap_main();
    return offset == 0 ? mi_heap_recalloc_aligned(h, p, size, 1, align)
                       : mi_heap_recalloc_aligned_at(h, p, 1, size, align, offset);
}

static void check_resize(const char *name, resize_fn resize, bool zeroes) {
    static const size_t steps[] = {100, 200, 150, 5000, 4000, 100000, 3000000, 10, 1000};
    for (size_t a = 0; a < ALIGN_COUNT; a += 2) {
        for (size_t o = 0; o < 3; o++) {
            const size_t align = aligns[a], offset = offsets[o];
            uint8_t *p = resize(NULL, 64, align, offset);
            CHECK(p != NULL && is_aligned(p + offset, align) && (!zeroes || is_zero(p, 0, 64)));
            fill(p, 64);
            size_t filled = 64;
            for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
                const size_t old_usable = mi_usable_size(p);
                uint8_t *q = resize(p, steps[i], align, offset);
                CHECK_MSG(q != NULL && is_aligned(q + offset, align), "%s to %zu at %zu", name,
                          steps[i], align);
                if (q == NULL)
                    break;
                if (filled > steps[i])
                    filled = steps[i];
                CHECK_MSG(is_filled(q, filled), "%s to %zu at %zu", name, steps[i], align);
                CHECK_MSG(!zeroes || old_usable >= steps[i] || is_zero(q, old_usable, steps[i]),
                          "%s to %zu", name, steps[i]);
                p = q;
            }
            errno = 0;
            CHECK(resize(p, opaque(SIZE_MAX - 4096), align, offset) == NULL);
            CHECK_ERRNO(ENOMEM);
            CHECK(is_filled(p, filled));
            mi_free(p);
        }
    }
    CHECK_FAILS(resize(NULL, 10, opaque(3), 0), EINVAL);
}

static void check_overflow(void) {
    mi_heap_t *h = mi_heap_main();
    for (size_t i = 0; i < OVERFLOW_COUNT; i++) {
        const size_t n = opaque(overflowing[i].count), s = opaque(overflowing[i].size);
        CHECK_FAILS(mi_calloc_aligned(n, s, 64), ENOMEM);
        CHECK_FAILS(mi_calloc_aligned_at(n, s, 64, 8), ENOMEM);
        CHECK_FAILS(mi_recalloc_aligned(NULL, n, s, 64), ENOMEM);
        CHECK_FAILS(mi_recalloc_aligned_at(NULL, n, s, 64, 8), ENOMEM);
        CHECK_FAILS(mi_aligned_recalloc(NULL, n, s, 64), ENOMEM);
        CHECK_FAILS(mi_aligned_offset_recalloc(NULL, n, s, 64, 8), ENOMEM);
        CHECK_FAILS(mi_heap_calloc_aligned(h, n, s, 64), ENOMEM);
        CHECK_FAILS(mi_heap_calloc_aligned_at(h, n, s, 64, 8), ENOMEM);
        CHECK_FAILS(mi_heap_recalloc_aligned(h, NULL, n, s, 64), ENOMEM);
        CHECK_FAILS(mi_heap_recalloc_aligned_at(h, NULL, n, s, 64, 8), ENOMEM);
    }
}

static void check_sizes_told(void) {
    size_t usable = 0;
    void *p = mi_umalloc_aligned(100, 256, &usable);
    CHECK(p != NULL && is_aligned(p, 256) && usable == mi_usable_size(p));
    mi_free(p);
    p = mi_uzalloc_aligned(100, 256, &usable);
    CHECK(p != NULL && is_aligned(p, 256) && usable == mi_usable_size(p) && is_zero(p, 0, 100));
    mi_free(p);
    CHECK_FAILS(mi_umalloc_aligned(opaque(SIZE_MAX), 256, &usable), ENOMEM);
    CHECK(usable == 0);
    CHECK_FAILS(mi_uzalloc_aligned(100, opaque(7), &usable), EINVAL);
    CHECK(usable == 0);
}

static void check_posix(void) {
    void *p = (void *)&p;
    errno = 77;
    CHECK(mi_posix_memalign(NULL, 16, 10) == EINVAL);
    CHECK(mi_posix_memalign(&p, opaque(3), 10) == EINVAL && p == (void *)&p);
    CHECK(mi_posix_memalign(&p, 0, 10) == EINVAL);
    CHECK(mi_posix_memalign(&p, sizeof(void *) / 2, 10) == EINVAL);
    CHECK(mi_posix_memalign(&p, 64, opaque(SIZE_MAX)) == ENOMEM && p == (void *)&p);
    CHECK_ERRNO(77);
    for (size_t a = 0; a < ALIGN_COUNT; a++) {
        if (aligns[a] < sizeof(void *))
            continue;
        CHECK(mi_posix_memalign(&p, aligns[a], 1000) == 0 && is_aligned(p, aligns[a]));
        fill(p, 1000);
        mi_free(p);
        p = mi_memalign(aligns[a], 50);
        CHECK(p != NULL && is_aligned(p, aligns[a]));
        mi_free(p);
        p = mi_aligned_alloc(aligns[a], 50);
        CHECK(p != NULL && is_aligned(p, aligns[a]));
        mi_free(p);
    }
    CHECK_FAILS(mi_memalign(opaque(3), 50), EINVAL);
    CHECK_FAILS(mi_aligned_alloc(opaque(0), 50), EINVAL);
    CHECK_FAILS(mi_aligned_alloc(64, opaque(SIZE_MAX)), ENOMEM);
    p = mi_valloc(10);
    CHECK(p != NULL && is_aligned(p, 4096));
    mi_free(p);
    p = mi_pvalloc(10);
    CHECK(p != NULL && is_aligned(p, 4096) && mi_usable_size(p) >= 4096);
    mi_free(p);
    p = mi_pvalloc(0);
    CHECK(p != NULL && is_aligned(p, 4096) && mi_usable_size(p) >= 4096);
    mi_free(p);
    CHECK_FAILS(mi_valloc(opaque(SIZE_MAX)), ENOMEM);
    CHECK_FAILS(mi_pvalloc(opaque(SIZE_MAX)), ENOMEM);
    CHECK_FAILS(mi_pvalloc(opaque(SIZE_MAX - 100)), ENOMEM);
}

int main(void) {
    check_form("malloc", form_malloc, false);
    check_form("zalloc", form_zalloc, true);
    check_form("calloc", form_calloc, true);
    check_form("heap_malloc", form_heap_malloc, false);
    check_form("heap_zalloc", form_heap_zalloc, true);
    check_form("heap_calloc", form_heap_calloc, true);
    check_resize("realloc", resize_realloc, false);
    check_resize("rezalloc", resize_rezalloc, true);
    check_resize("recalloc", resize_recalloc, true);
    check_resize("aligned_recalloc", resize_ucrt, true);
    check_resize("heap_realloc", resize_heap_realloc, false);
    check_resize("heap_rezalloc", resize_heap_rezalloc, true);
    check_resize("heap_recalloc", resize_heap_recalloc, true);
    check_overflow();
    check_sizes_told();
    check_posix();
    return test_result();
}
