// The mi_ functions of the C standard's shape and their close relatives. malloc, free and the like
// of posix.c and the operators instantiate the same inline fast paths themselves.
#include "mimalloc.h"

#include "base/base.h"
#include "core/alloc_inline.h"
#include "diag/message.h"
#include "entry/entry.h"
#include "entry/free_any.h"
#include "os/os.h"

static_assert(MI_SMALL_SIZE_MAX <= MI_DIRECT_MAX, "small sizes are served by the direct table");

void *mi_malloc(size_t size) mi_attr_noexcept {
    void *p = mi_malloc_try(size);
    return MI_LIKELY(p != NULL) ? p : mi_malloc_slow(size);
}

void *mi_malloc_small(size_t size) mi_attr_noexcept {
    void *p = (size <= MI_DIRECT_MAX ? mi_malloc_small_try(size) : NULL);
    return MI_LIKELY(p != NULL) ? p : mi_malloc_slow(size);
}

void *mi_zalloc(size_t size) mi_attr_noexcept {
    void *p = mi_zalloc_try(size); // all that is usable: mi_rezalloc counts on it
    return MI_LIKELY(p != NULL) ? p : mi_zalloc_any(size);
}

void *mi_zalloc_small(size_t size) mi_attr_noexcept {
    return mi_zalloc(size);
}

void *mi_calloc(size_t count, size_t size) mi_attr_noexcept {
    size_t bytes;
    if (MI_UNLIKELY(!mi_mul_ok(count, size, &bytes)))
        return mi_no_memory(SIZE_MAX);
    return mi_zalloc(bytes);
}

void *mi_mallocn(size_t count, size_t size) mi_attr_noexcept {
    size_t bytes;
    if (MI_UNLIKELY(!mi_mul_ok(count, size, &bytes)))
        return mi_no_memory(SIZE_MAX);
    return mi_malloc(bytes);
}

void *mi_realloc(void *p, size_t newsize) mi_attr_noexcept {
    size_t usable;
    void *q = mi_realloc_try(p, newsize, &usable);
    return MI_LIKELY(q != NULL) ? q : mi_realloc_move(p, newsize, usable);
}

void *mi_reallocn(void *p, size_t count, size_t size) mi_attr_noexcept {
    size_t bytes;
    if (MI_UNLIKELY(!mi_mul_ok(count, size, &bytes)))
        return mi_no_memory(SIZE_MAX);
    return mi_realloc(p, bytes);
}

void *mi_reallocf(void *p, size_t newsize) mi_attr_noexcept {
    void *q = mi_realloc(p, newsize);
    if (MI_UNLIKELY(q == NULL && p != NULL))
        mi_free(p);
    return q;
}

void *mi_rezalloc(void *p, size_t newsize) mi_attr_noexcept {
    return mi_realloc_any(p, newsize, MI_REALLOC_ZERO);
}

void *mi_recalloc(void *p, size_t newcount, size_t size) mi_attr_noexcept {
    size_t bytes;
    if (MI_UNLIKELY(!mi_mul_ok(newcount, size, &bytes)))
        return mi_no_memory(SIZE_MAX);
    return mi_rezalloc(p, bytes);
}

void *mi_expand(void *p, size_t newsize) mi_attr_noexcept {
    if (p == NULL)
        return NULL;
    return mi_realloc_any(p, newsize, MI_REALLOC_IN_PLACE);
}

void mi_free(void *p) mi_attr_noexcept {
    mi_free_any(p);
}

void mi_free_small(void *p) mi_attr_noexcept {
    mi_free(p);
}

void mi_free_size(void *p, size_t size) mi_attr_noexcept {
    mi_told(p, size, 1);
    mi_free(p);
}

void mi_free_size_aligned(void *p, size_t size, size_t alignment) mi_attr_noexcept {
    mi_told(p, size, alignment);
    mi_free(p);
}

void mi_free_aligned(void *p, size_t alignment) mi_attr_noexcept {
    mi_told(p, 0, alignment);
    mi_free(p);
}

void mi_cfree(void *p) mi_attr_noexcept {
    if (mi_core_contains(p))
        mi_free(p);
}

size_t mi_usable_size(const void *p) mi_attr_noexcept {
    return mi_usable_any(p, "usable size");
}

size_t mi_good_size(size_t size) mi_attr_noexcept {
    // In a debug build the canary lies right behind what was asked for.
    return MI_DEBUG ? size : mi_core_good_size(size);
}

bool mi_is_in_heap_region(const void *p) mi_attr_noexcept {
    return mi_core_contains(p);
}

// ---- the forms that also tell the usable size ----

static void *with_size(void *p, size_t *block_size) {
    if (block_size != NULL)
        *block_size = (p == NULL ? 0 : mi_usable_any(p, "usable size"));
    return p;
}

void *mi_umalloc(size_t size, size_t *block_size) mi_attr_noexcept {
    return with_size(mi_malloc(size), block_size);
}

void *mi_uzalloc(size_t size, size_t *block_size) mi_attr_noexcept {
    return with_size(mi_zalloc(size), block_size);
}

void *mi_ucalloc(size_t count, size_t size, size_t *block_size) mi_attr_noexcept {
    return with_size(mi_calloc(count, size), block_size);
}

void *mi_umalloc_small(size_t size, size_t *block_size) mi_attr_noexcept {
    return with_size(mi_malloc_small(size), block_size);
}

void *mi_uzalloc_small(size_t size, size_t *block_size) mi_attr_noexcept {
    return with_size(mi_zalloc_small(size), block_size);
}

void *mi_umalloc_aligned(size_t size, size_t alignment, size_t *block_size) mi_attr_noexcept {
    return with_size(mi_malloc_aligned(size, alignment), block_size);
}

void *mi_uzalloc_aligned(size_t size, size_t alignment, size_t *block_size) mi_attr_noexcept {
    return with_size(mi_zalloc_aligned(size, alignment), block_size);
}

void *mi_urealloc(void *p, size_t newsize, size_t *block_size_pre,
                  size_t *block_size_post) mi_attr_noexcept {
    const size_t before = (p == NULL ? 0 : mi_usable_any(p, "usable size"));
    if (block_size_pre != NULL)
        *block_size_pre = before;
    return with_size(mi_realloc(p, newsize), block_size_post);
}

void mi_ufree(void *p, size_t *block_size) mi_attr_noexcept {
    (void)with_size(p, block_size);
    mi_free(p);
}
