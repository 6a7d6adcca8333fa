// What C++'s operator new does: on failure the program's new-handler runs and the allocation is
// tried again; without a handler std::bad_alloc is thrown, or NULL is returned by the nothrow
// forms. Compiled with exception tables, since an exception passes through.
#include "mimalloc.h"

#include "base/base.h"
#include "core/alloc_inline.h"
#include "entry/entry.h"

// Tries until there is memory or no handler; NULL then.
static MI_NOINLINE void *new_retry(size_t size, size_t alignment) {
    while (mi_platform_new_handler(size)) {
        void *p = (alignment == 0 ? mi_core_malloc(size, false)
                                  : mi_core_malloc_aligned(size, alignment, 0, false));
        if (p != NULL)
            return p;
    }
    return NULL;
}

static MI_NOINLINE void *new_slow(size_t size) {
    void *p = mi_malloc_slow(size);
    if (MI_LIKELY(p != NULL))
        return p;
    p = new_retry(size, 0);
    if (p == NULL)
        mi_platform_new_failed(size);
    return p;
}

void *mi_new(size_t size) {
    void *p = mi_malloc_try(size);
    return MI_LIKELY(p != NULL) ? p : new_slow(size);
}

void *mi_new_aligned(size_t size, size_t alignment) {
    void *p = mi_malloc_aligned(size, alignment);
    if (MI_LIKELY(p != NULL))
        return p;
    p = new_retry(size, alignment);
    if (p == NULL)
        mi_platform_new_failed(size);
    return p;
}

void *mi_new_nothrow(size_t size) mi_attr_noexcept {
    void *p = mi_malloc_try(size);
    if (MI_LIKELY(p != NULL))
        return p;
    p = mi_malloc_slow(size);
    return MI_LIKELY(p != NULL) ? p : new_retry(size, 0);
}

void *mi_new_aligned_nothrow(size_t size, size_t alignment) mi_attr_noexcept {
    void *p = mi_malloc_aligned(size, alignment);
    return MI_LIKELY(p != NULL) ? p : new_retry(size, alignment);
}

void *mi_new_n(size_t count, size_t size) {
    size_t bytes;
    if (MI_UNLIKELY(!mi_mul_ok(count, size, &bytes)))
        mi_platform_new_failed(SIZE_MAX);
    return mi_new(bytes);
}

void *mi_new_realloc(void *p, size_t newsize) {
    void *q = mi_realloc(p, newsize);
    while (q == NULL) {
        if (!mi_platform_new_handler(newsize))
            mi_platform_new_failed(newsize);
        q = mi_realloc(p, newsize);
    }
    return q;
}

void *mi_new_reallocn(void *p, size_t newcount, size_t size) {
    size_t bytes;
    if (MI_UNLIKELY(!mi_mul_ok(newcount, size, &bytes)))
        mi_platform_new_failed(SIZE_MAX);
    return mi_new_realloc(p, bytes);
}

void *mi_heap_alloc_new(mi_heap_t *heap, size_t size) {
    void *p = mi_heap_malloc(heap, size);
    while (p == NULL) {
        if (!mi_platform_new_handler(size))
            mi_platform_new_failed(size);
        p = mi_heap_malloc(heap, size);
    }
    return p;
}

void *mi_heap_alloc_new_n(mi_heap_t *heap, size_t count, size_t size) {
    size_t bytes;
    if (MI_UNLIKELY(!mi_mul_ok(count, size, &bytes)))
        mi_platform_new_failed(SIZE_MAX);
    return mi_heap_alloc_new(heap, bytes);
}
