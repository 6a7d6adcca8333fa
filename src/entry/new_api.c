// What C++'s operator new does: on failure the program's new-handler runs and the allocation is
// tried again; without a handler std::bad_alloc is thrown, or NULL is returned by the nothrow
// forms. Compiled with exception tables, since an exception passes through.
#include "mimalloc.h"

#include "base/base.h"
#include "core/alloc_inline.h"
#include "entry/entry.h"
#include "entry/request.h"

// Whether more memory could help: not against a size that overflowed nor a wrong alignment.
static bool new_is_curable(const mi_request_t *r) {
    return r->size != SIZE_MAX && mi_is_pow2(r->align);
}

// Tries (a resize of p when it is not NULL) until there is memory or no handler; NULL then, and,
// when is_nothrow, also if the handler throws.
static MI_NOINLINE void *new_retry(void *p, const mi_request_t *r, bool is_nothrow) {
    while (mi_platform_new_handler(r->size, is_nothrow)) {
        void *q = mi_request_realloc(p, r);
        if (q != NULL)
            return q;
    }
    return NULL;
}

// A first attempt, the handlers, and at last the exception.
static MI_NOINLINE void *new_or_throw(void *p, const mi_request_t *r) {
    void *q = mi_request_realloc(p, r);
    if (MI_UNLIKELY(q == NULL) && new_is_curable(r))
        q = new_retry(p, r, false);
    if (MI_UNLIKELY(q == NULL))
        mi_platform_new_failed(r->size);
    return q;
}

static MI_NOINLINE void *new_slow(size_t size) {
    const mi_request_t r = {NULL, size, 1, 0, 0};
    void *p = mi_malloc_slow(size);
    if (MI_UNLIKELY(p == NULL))
        p = new_retry(NULL, &r, false);
    if (MI_UNLIKELY(p == NULL))
        mi_platform_new_failed(size);
    return p;
}

void *mi_new(size_t size) {
    void *p = mi_malloc_try(size);
    return MI_LIKELY(p != NULL) ? p : new_slow(size);
}

void *mi_new_aligned(size_t size, size_t alignment) {
    void *p = mi_malloc_aligned_try(size, alignment);
    const mi_request_t r = {NULL, size, alignment, 0, 0};
    return MI_LIKELY(p != NULL) ? p : new_or_throw(NULL, &r);
}

void *mi_new_nothrow(size_t size) mi_attr_noexcept {
    void *p = mi_malloc_try(size);
    if (MI_LIKELY(p != NULL))
        return p;
    const mi_request_t r = {NULL, size, 1, 0, 0};
    p = mi_malloc_slow(size);
    return MI_LIKELY(p != NULL) ? p : new_retry(NULL, &r, true);
}

void *mi_new_aligned_nothrow(size_t size, size_t alignment) mi_attr_noexcept {
    void *p = mi_malloc_aligned(size, alignment);
    const mi_request_t r = {NULL, size, alignment, 0, 0};
    return MI_LIKELY(p != NULL) || !new_is_curable(&r) ? p : new_retry(NULL, &r, true);
}

void *mi_new_n(size_t count, size_t size) {
    const size_t bytes = mi_request_bytes(count, size);
    if (MI_UNLIKELY(bytes == SIZE_MAX))
        mi_platform_new_failed(SIZE_MAX);
    return mi_new(bytes);
}

void *mi_new_realloc(void *p, size_t newsize) {
    return new_or_throw(p, &(mi_request_t){NULL, newsize, 1, 0, 0});
}

void *mi_new_reallocn(void *p, size_t newcount, size_t size) {
    return new_or_throw(p, &(mi_request_t){NULL, mi_request_bytes(newcount, size), 1, 0, 0});
}

void *mi_heap_alloc_new(mi_heap_t *heap, size_t size) {
    return new_or_throw(NULL, &(mi_request_t){heap, size, 1, 0, 0});
}

void *mi_heap_alloc_new_n(mi_heap_t *heap, size_t count, size_t size) {
    return new_or_throw(NULL, &(mi_request_t){heap, mi_request_bytes(count, size), 1, 0, 0});
}
