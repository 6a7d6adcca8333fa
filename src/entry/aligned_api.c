// Aligned allocation in mimalloc's shapes. The alignment must be a power of two, else NULL with
// errno EINVAL.
#include "mimalloc.h"

#include "base/base.h"
#include "core/alloc_inline.h"
#include "entry/entry.h"
#include "entry/request.h"

void *mi_malloc_aligned(size_t size, size_t alignment) mi_attr_noexcept {
    void *p = mi_malloc_aligned_try(size, alignment);
    return MI_LIKELY(p != NULL) ? p : mi_malloc_aligned_at(size, alignment, 0);
}

void *mi_malloc_aligned_at(size_t size, size_t alignment, size_t offset) mi_attr_noexcept {
    return mi_request_alloc(&(mi_request_t){NULL, size, alignment, offset, 0});
}

void *mi_zalloc_aligned(size_t size, size_t alignment) mi_attr_noexcept {
    return mi_request_alloc(&(mi_request_t){NULL, size, alignment, 0, MI_REALLOC_ZERO});
}

void *mi_zalloc_aligned_at(size_t size, size_t alignment, size_t offset) mi_attr_noexcept {
    return mi_request_alloc(&(mi_request_t){NULL, size, alignment, offset, MI_REALLOC_ZERO});
}

void *mi_calloc_aligned(size_t count, size_t size, size_t alignment) mi_attr_noexcept {
    return mi_request_alloc(
        &(mi_request_t){NULL, mi_request_bytes(count, size), alignment, 0, MI_REALLOC_ZERO});
}

void *mi_calloc_aligned_at(size_t count, size_t size, size_t alignment,
                           size_t offset) mi_attr_noexcept {
    return mi_request_alloc(
        &(mi_request_t){NULL, mi_request_bytes(count, size), alignment, offset, MI_REALLOC_ZERO});
}

void *mi_realloc_aligned(void *p, size_t newsize, size_t alignment) mi_attr_noexcept {
    return mi_request_realloc(p, &(mi_request_t){NULL, newsize, alignment, 0, 0});
}

void *mi_realloc_aligned_at(void *p, size_t newsize, size_t alignment,
                            size_t offset) mi_attr_noexcept {
    return mi_request_realloc(p, &(mi_request_t){NULL, newsize, alignment, offset, 0});
}

void *mi_rezalloc_aligned(void *p, size_t newsize, size_t alignment) mi_attr_noexcept {
    return mi_request_realloc(p, &(mi_request_t){NULL, newsize, alignment, 0, MI_REALLOC_ZERO});
}

void *mi_rezalloc_aligned_at(void *p, size_t newsize, size_t alignment,
                             size_t offset) mi_attr_noexcept {
    return mi_request_realloc(p,
                              &(mi_request_t){NULL, newsize, alignment, offset, MI_REALLOC_ZERO});
}

void *mi_recalloc_aligned(void *p, size_t newcount, size_t size,
                          size_t alignment) mi_attr_noexcept {
    return mi_request_realloc(
        p, &(mi_request_t){NULL, mi_request_bytes(newcount, size), alignment, 0, MI_REALLOC_ZERO});
}

void *mi_recalloc_aligned_at(void *p, size_t newcount, size_t size, size_t alignment,
                             size_t offset) mi_attr_noexcept {
    return mi_request_realloc(p, &(mi_request_t){NULL, mi_request_bytes(newcount, size), alignment,
                                                 offset, MI_REALLOC_ZERO});
}

void *mi_aligned_recalloc(void *p, size_t newcount, size_t size,
                          size_t alignment) mi_attr_noexcept {
    return mi_recalloc_aligned_at(p, newcount, size, alignment, 0);
}

void *mi_aligned_offset_recalloc(void *p, size_t newcount, size_t size, size_t alignment,
                                 size_t offset) mi_attr_noexcept {
    return mi_recalloc_aligned_at(p, newcount, size, alignment, offset);
}
