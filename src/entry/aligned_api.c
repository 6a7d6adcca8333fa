// Aligned allocation in mimalloc's shapes. The alignment must be a power of two, else NULL with
// errno EINVAL.
#include "mimalloc.h"

#include "base/base.h"
#include "core/alloc_inline.h"
#include "diag/message.h"
#include "entry/entry.h"
#include "entry/guarded.h"

// The common end of all allocating forms.
static void *aligned_alloc_any(size_t size, size_t alignment, size_t offset, bool is_zero) {
    if (MI_UNLIKELY(!mi_entry_is_ready))
        mi_entry_init();
    if (MI_UNLIKELY(!mi_is_pow2(alignment))) {
        mi_platform_errno(MI_EINVAL);
        return NULL;
    }
    size_t all;
    if (MI_UNLIKELY(!mi_add_ok(size, alignment, &all) || all > MI_REQUEST_MAX))
        return mi_no_memory(size);
    void *p = mi_core_malloc_aligned(size, alignment, offset, is_zero);
    return MI_LIKELY(p != NULL) ? p : mi_no_memory(size);
}

static void *aligned_realloc_any(void *p, size_t size, size_t alignment, size_t offset,
                                 unsigned flags) {
    if (p == NULL)
        return aligned_alloc_any(size, alignment, offset, (flags & MI_REALLOC_ZERO) != 0);
    if (MI_UNLIKELY(!mi_is_pow2(alignment))) {
        mi_platform_errno(MI_EINVAL);
        return NULL;
    }
    size_t all;
    if (MI_UNLIKELY(!mi_add_ok(size, alignment, &all) || all > MI_REQUEST_MAX))
        return mi_no_memory(size);
    mi_free_result_t result = MI_FREE_OK;
    void *q;
    // A guarded block moves to an ordinary one first, which then gets the alignment.
    if (MI_UNLIKELY(mi_guarded_was_used) && mi_realloc_guarded(p, size, flags, &q)) {
        if (q == NULL)
            return NULL;
        p = q;
    }
    q = mi_core_realloc_aligned(p, size, alignment, offset, flags, &result);
    if (MI_UNLIKELY(result != MI_FREE_OK)) {
        mi_report_pointer(result, p, "realloc");
        mi_platform_errno(MI_EINVAL);
        return NULL;
    }
    return MI_LIKELY(q != NULL) ? q : mi_no_memory(size);
}

void *mi_malloc_aligned(size_t size, size_t alignment) mi_attr_noexcept {
    void *p = mi_malloc_aligned_try(size, alignment);
    return MI_LIKELY(p != NULL) ? p : aligned_alloc_any(size, alignment, 0, false);
}

void *mi_malloc_aligned_at(size_t size, size_t alignment, size_t offset) mi_attr_noexcept {
    return aligned_alloc_any(size, alignment, offset, false);
}

void *mi_zalloc_aligned(size_t size, size_t alignment) mi_attr_noexcept {
    return aligned_alloc_any(size, alignment, 0, true);
}

void *mi_zalloc_aligned_at(size_t size, size_t alignment, size_t offset) mi_attr_noexcept {
    return aligned_alloc_any(size, alignment, offset, true);
}

void *mi_calloc_aligned_at(size_t count, size_t size, size_t alignment,
                           size_t offset) mi_attr_noexcept {
    size_t bytes;
    if (MI_UNLIKELY(!mi_mul_ok(count, size, &bytes)))
        return mi_no_memory(SIZE_MAX);
    return aligned_alloc_any(bytes, alignment, offset, true);
}

void *mi_calloc_aligned(size_t count, size_t size, size_t alignment) mi_attr_noexcept {
    return mi_calloc_aligned_at(count, size, alignment, 0);
}

void *mi_realloc_aligned(void *p, size_t newsize, size_t alignment) mi_attr_noexcept {
    return aligned_realloc_any(p, newsize, alignment, 0, 0);
}

void *mi_realloc_aligned_at(void *p, size_t newsize, size_t alignment,
                            size_t offset) mi_attr_noexcept {
    return aligned_realloc_any(p, newsize, alignment, offset, 0);
}

void *mi_rezalloc_aligned(void *p, size_t newsize, size_t alignment) mi_attr_noexcept {
    return aligned_realloc_any(p, newsize, alignment, 0, MI_REALLOC_ZERO);
}

void *mi_rezalloc_aligned_at(void *p, size_t newsize, size_t alignment,
                             size_t offset) mi_attr_noexcept {
    return aligned_realloc_any(p, newsize, alignment, offset, MI_REALLOC_ZERO);
}

void *mi_recalloc_aligned_at(void *p, size_t newcount, size_t size, size_t alignment,
                             size_t offset) mi_attr_noexcept {
    size_t bytes;
    if (MI_UNLIKELY(!mi_mul_ok(newcount, size, &bytes)))
        return mi_no_memory(SIZE_MAX);
    return aligned_realloc_any(p, bytes, alignment, offset, MI_REALLOC_ZERO);
}

void *mi_recalloc_aligned(void *p, size_t newcount, size_t size,
                          size_t alignment) mi_attr_noexcept {
    return mi_recalloc_aligned_at(p, newcount, size, alignment, 0);
}

void *mi_aligned_recalloc(void *p, size_t newcount, size_t size,
                          size_t alignment) mi_attr_noexcept {
    return mi_recalloc_aligned_at(p, newcount, size, alignment, 0);
}

void *mi_aligned_offset_recalloc(void *p, size_t newcount, size_t size, size_t alignment,
                                 size_t offset) mi_attr_noexcept {
    return mi_recalloc_aligned_at(p, newcount, size, alignment, offset);
}
