#include "entry/request.h"

#include "diag/message.h"
#include "entry/entry.h"
#include "entry/guarded.h"

// false, after errno and the message: nothing can fulfil it.
static bool request_is_possible(const mi_request_t *r) {
    if (MI_UNLIKELY(!mi_load_acquire(&mi_entry_is_ready)))
        mi_entry_init();
    if (MI_UNLIKELY(!mi_is_pow2(r->align))) {
        mi_platform_errno(MI_EINVAL);
        return false;
    }
    size_t all;
    if (MI_LIKELY(mi_add_ok(r->size, r->align - 1, &all) && all <= MI_REQUEST_MAX))
        return true;
    (void)mi_no_memory(r->size);
    return false;
}

void *mi_request_alloc(const mi_request_t *r) {
    if (!request_is_possible(r))
        return NULL;
    const bool is_zero = (r->flags & MI_REALLOC_ZERO) != 0;
    void *p = NULL;
    if (MI_UNLIKELY(mi_guarded_is_on()) && r->align == 1)
        p = mi_guarded_alloc(r->heap, r->size, is_zero);
    if (p == NULL)
        p = (r->align == 1
                 ? mi_core_heap_malloc(r->heap, r->size, is_zero)
                 : mi_core_heap_malloc_aligned(r->heap, r->size, r->align, r->offset, is_zero));
    return MI_LIKELY(p != NULL) ? p : mi_no_memory(r->size);
}

// A guarded block always moves, to an ordinary one: who resizes once may do so again.
static void *request_realloc_guarded(void *p, size_t old_size, const mi_request_t *r) {
    if ((r->flags & MI_REALLOC_IN_PLACE) != 0)
        return r->size <= old_size ? p : NULL;
    const bool is_zero = (r->flags & MI_REALLOC_ZERO) != 0;
    void *q = mi_core_heap_malloc_aligned(r->heap, r->size, r->align, r->offset, is_zero);
    if (q == NULL)
        return mi_no_memory(r->size);
    mi_memcpy(q, p, old_size < r->size ? old_size : r->size);
    mi_free_slow(p);
    return q;
}

bool mi_realloc_guarded(void *p, size_t size, unsigned flags, void **out) {
    size_t old_size;
    const mi_request_t r = {NULL, size, 1, 0, flags};
    if (!mi_guarded_find(p, &old_size))
        return false;
    *out = request_realloc_guarded(p, old_size, &r);
    return true;
}

void *mi_request_realloc(void *p, const mi_request_t *r) {
    const bool stays = (r->flags & MI_REALLOC_IN_PLACE) != 0;
    if (p == NULL)
        return stays ? NULL : mi_request_alloc(r);
    if (!stays && !request_is_possible(r))
        return NULL;
    size_t old_size;
    if (MI_UNLIKELY(mi_guarded_is_used()) && mi_guarded_find(p, &old_size))
        return request_realloc_guarded(p, old_size, r);
    mi_free_result_t result = MI_FREE_OK;
    const mi_core_resize_t job = {r->size, r->align, r->offset, r->flags};
    void *q = mi_core_heap_resize(r->heap, p, &job, &result);
    if (MI_LIKELY(q != NULL))
        return q;
    if (result == MI_FREE_FOREIGN && !stays && r->align == 1 &&
        mi_platform_foreign_realloc(p, r->size, &q))
        return q;
    if (result != MI_FREE_OK) {
        mi_report_pointer(result, p, "realloc");
        mi_platform_errno(MI_EINVAL);
        return NULL;
    }
    return stays ? NULL : mi_no_memory(r->size);
}
