#include "entry/entry.h"
#include "entry/free_any.h"

#include "core/alloc_inline.h"
#include "core/guest.h"
#include "core/limits.h"
#include "diag/message.h"
#include "entry/guarded.h"
#include "entry/request.h"
#include "os/os.h"

void *mi_no_memory(size_t size) {
    mi_message_no_memory(size);
    mi_platform_errno(MI_ENOMEM);
    return NULL;
}

static void report_damage(const void *p, const char *operation) {
    mi_damage_t damage;
    if (!mi_core_damage(p, &damage))
        mi_message_error(MI_EFAULT, "%s of a block whose end was overwritten: %p", operation, p);
    else if (damage.is_known)
        mi_message_error(MI_EFAULT,
                         "%s of a block whose end was overwritten: %p, %zu bytes long, changed "
                         "from byte %zu on",
                         operation, p, damage.size, damage.first);
    else
        mi_message_error(MI_EFAULT,
                         "%s of a block whose end was overwritten: %p, at most %zu bytes long, its "
                         "record is destroyed",
                         operation, p, damage.size);
}

void mi_report_pointer(mi_free_result_t result, const void *p, const char *operation) {
    switch (result) {
    case MI_FREE_OK:
        return;
    case MI_FREE_FOREIGN:
        mi_message_error(MI_EINVAL, "%s of a pointer that this allocator did not allocate: %p",
                         operation, p);
        return;
    case MI_FREE_INVALID:
        mi_message_error(MI_EINVAL, "%s of a pointer that is not the start of a block: %p",
                         operation, p);
        return;
    case MI_FREE_DOUBLE:
        mi_message_error(MI_EAGAIN, "%s of a block that is already free: %p", operation, p);
        return;
    case MI_FREE_CORRUPT:
        report_damage(p, operation);
        return;
    }
}

void mi_told_check(const void *p, size_t size, size_t alignment) {
    mi_free_result_t result;
    if (!mi_core_contains(p))
        return;
    const size_t usable = mi_core_usable(p, &result);
    if (result != MI_FREE_OK) // the free itself will tell; a guarded block is not looked at
        return;
    if (size > usable)
        mi_message_error(MI_EFAULT,
                         "free of a block with a size that it does not have: %p, %zu bytes long, "
                         "not %zu",
                         p, usable, size);
    if (mi_is_pow2(alignment) && ((uintptr_t)p & (alignment - 1)) != 0)
        mi_message_error(MI_EFAULT,
                         "free of a block with an alignment that it does not have: %p, not %zu", p,
                         alignment);
}

MI_NOINLINE void *mi_malloc_slow(size_t size) {
    if (MI_UNLIKELY(!mi_load_acquire(&mi_entry_is_ready)))
        mi_entry_init();
    if (MI_UNLIKELY(mi_load_relaxed(&mi_entry_has_deferred)))
        mi_deferred_run(false);
    if (MI_UNLIKELY(mi_guarded_is_on())) {
        void *guarded = mi_guarded_alloc(NULL, size, false);
        if (guarded != NULL)
            return guarded;
    }
    void *p = mi_core_malloc(size, false);
    return MI_LIKELY(p != NULL) ? p : mi_no_memory(size);
}

MI_NOINLINE void *mi_zalloc_any(size_t size) {
    const mi_request_t r = {NULL, size, 1, 0, MI_REALLOC_ZERO};
    return mi_request_alloc(&r);
}

// A function of its own, so that the two below need no frame.
static MI_NOINLINE void free_slowest(void *p) {
    if (MI_UNLIKELY(mi_guarded_is_used()))
        mi_guarded_release(p);
    const mi_free_result_t result = mi_core_free(p);
    if (MI_LIKELY(result == MI_FREE_OK))
        return;
    if (result == MI_FREE_FOREIGN && mi_platform_foreign_free(p))
        return;
    mi_report_pointer(result, p, "free");
}

// NULL is freed as often as not in some programs, and lies in no map, but may lie in its window.
MI_NOINLINE void mi_free_slow(void *p) {
    if (p != NULL)
        free_slowest(p);
}

MI_NOINLINE void mi_free_far(void *p, uintptr_t entry, mi_theap_t *theap) {
    if (MI_UNLIKELY(!mi_guest_free(p, entry, theap)) && p != NULL)
        free_slowest(p);
}

void *mi_realloc_any(void *p, size_t size, unsigned flags) {
    const mi_request_t r = {NULL, size, 1, 0, flags};
    return mi_request_realloc(p, &r);
}

// A small block that moves: the fast paths of malloc and free with a copy between them. Strings and
// tables that grow by a few bytes move often, and the general way takes four times as long.
MI_NOINLINE void *mi_realloc_move(void *p, size_t size, size_t usable) {
    const bool is_small = size - 1 < MI_STEP_MIN && usable - 1 < MI_STEP_MIN;
    void *const q =
        (MI_DEBUG || !is_small || MI_UNLIKELY(mi_guarded_is_used()) ? NULL : mi_malloc_try(size));
    if (MI_UNLIKELY(q == NULL))
        return mi_realloc_any(p, size, 0);
    mi_memcpy(q, p, usable < size ? usable : size);
    mi_free_any(p);
    return q;
}

size_t mi_usable_any(const void *p, const char *operation) {
    mi_free_result_t result = MI_FREE_OK;
    size_t size;
    if (MI_UNLIKELY(mi_guarded_is_used())) {
        if (mi_guarded_find(p, &size))
            return size;
    } else {
        size = mi_usable_try(p);
        if (MI_LIKELY(size != 0))
            return size;
    }
    size = mi_core_usable(p, &result);
    if (MI_LIKELY(result == MI_FREE_OK))
        return size;
    if (result == MI_FREE_FOREIGN && mi_platform_foreign_usable(p, &size))
        return size;
    mi_report_pointer(result, p, operation);
    return 0;
}
