#include "redirect/allocator.h"
#include "redirect/crt_shims.h"
#include "redirect/roll.h"
#include "base/atomic.h"

mi_allocator_t mi_alloc;
static _Atomic(bool) is_bound;

bool mi_allocator_is_bound(void) {
    // Acquire: pairs with the release in mi_allocator_bind; mi_alloc is complete behind it.
    return mi_load_acquire(&is_bound);
}

// A function of the module as an integer, which converts to any function pointer.
static uintptr_t export_of(const void *base, const char *name) {
    return (uintptr_t)mi_module_export(base, name);
}

// The bookkeeping, if the other build has the field, and all of the functions that we know.
static const mi_redirect_debug_t *bind_debug(const mi_redirect_allocator_t *t) {
    if (t->table_bytes < offsetof(mi_redirect_allocator_t, debug) + sizeof(void *))
        return NULL;
    const mi_redirect_debug_t *d = t->debug;
    if (d == NULL || d->table_bytes < sizeof(*d) || d->alloc == NULL || d->add == NULL ||
        d->find == NULL || d->set_use == NULL || d->totals == NULL || d->list == NULL ||
        d->damaged == NULL || d->forget == NULL)
        return NULL;
    return d;
}

static mi_reason_t bind_table(const mi_redirect_allocator_t *t) {
    // A field that the other build does not have would lie behind its table.
    if (t->table_bytes < offsetof(mi_redirect_allocator_t, allocation_count) + sizeof(void *))
        return MI_REASON_ALLOCATOR_INCOMPLETE;
    if (t->is_ours == NULL || t->crt_malloc == NULL || t->crt_calloc == NULL ||
        t->crt_realloc == NULL || t->crt_free == NULL || t->crt_msize == NULL || t->alloc == NULL ||
        t->alloc_zeroed == NULL || t->alloc_aligned == NULL || t->realloc_in_place == NULL ||
        t->free == NULL || t->usable_size == NULL)
        return MI_REASON_ALLOCATOR_INCOMPLETE;
    mi_alloc.table_opt = t;
    mi_alloc.debug_opt = bind_debug(t);
    mi_alloc.version = t->version;
    mi_alloc.is_ours = t->is_ours;
    mi_alloc.crt_malloc = t->crt_malloc;
    mi_alloc.crt_calloc = t->crt_calloc;
    mi_alloc.crt_realloc = t->crt_realloc;
    mi_alloc.crt_free = t->crt_free;
    mi_alloc.crt_msize = t->crt_msize;
    mi_alloc.alloc = t->alloc;
    mi_alloc.alloc_zeroed = t->alloc_zeroed;
    mi_alloc.alloc_aligned = t->alloc_aligned;
    mi_alloc.realloc_in_place = t->realloc_in_place;
    mi_alloc.free = t->free;
    mi_alloc.usable_size = t->usable_size;
    if (t->table_bytes >= offsetof(mi_redirect_allocator_t, list) + sizeof(void *)) {
        mi_alloc.collect_opt = t->collect;
        mi_alloc.list_opt = t->list;
    }
    if (t->table_bytes >= offsetof(mi_redirect_allocator_t, bind) + sizeof(void *))
        mi_alloc.bind_opt = t->bind;
    return MI_REASON_NONE;
}

static void *original_zalloc(size_t size) {
    void *(*const alloc_calloc)(size_t, size_t) =
        (void *(*)(size_t, size_t))export_of(mi_alloc.module, "mi_calloc");
    return alloc_calloc(1, size);
}

static mi_reason_t bind_original(const void *base) {
    mi_alloc.is_ours = (bool (*)(const void *))export_of(base, "mi_is_in_heap_region");
    mi_alloc.alloc = (void *(*)(size_t))export_of(base, "mi_malloc");
    mi_alloc.alloc_zeroed = (void *(*)(size_t))export_of(base, "mi_zalloc");
    mi_alloc.alloc_aligned =
        (void *(*)(size_t, size_t, size_t))export_of(base, "mi_malloc_aligned_at");
    mi_alloc.realloc_plain = (void *(*)(void *, size_t))export_of(base, "mi_realloc");
    mi_alloc.realloc_in_place = (void *(*)(void *, size_t))export_of(base, "mi_expand");
    mi_alloc.free = (void (*)(void *))export_of(base, "mi_free");
    mi_alloc.usable_size = (size_t(*)(const void *))export_of(base, "mi_usable_size");
    mi_alloc.entry = (void (*)(DWORD))export_of(base, "_mi_redirect_entry");
    if (mi_alloc.alloc_zeroed == NULL && export_of(base, "mi_calloc") != 0)
        mi_alloc.alloc_zeroed = original_zalloc;
    if (mi_alloc.is_ours == NULL || mi_alloc.alloc == NULL || mi_alloc.alloc_zeroed == NULL ||
        mi_alloc.alloc_aligned == NULL || mi_alloc.realloc_plain == NULL ||
        mi_alloc.realloc_in_place == NULL || mi_alloc.free == NULL || mi_alloc.usable_size == NULL)
        return MI_REASON_ALLOCATOR_INCOMPLETE;
    int (*const version)(void) = (int (*)(void))export_of(base, "mi_version");
    if (version != NULL)
        mi_alloc.version = (uint32_t)version();
    mi_alloc.crt_malloc = mi_shim_malloc;
    mi_alloc.crt_calloc = mi_shim_calloc;
    mi_alloc.crt_realloc = mi_shim_realloc;
    mi_alloc.crt_free = mi_shim_free;
    mi_alloc.crt_msize = mi_shim_msize;
    return MI_REASON_NONE;
}

static mi_reason_t bind_module(const mi_nt_module_t *m) {
    mi_reason_t reason = MI_REASON_NO_ALLOCATOR;
    mi_module_exports_t exports;
    if (!mi_module_exports_open(&exports, m->base))
        return reason;
    const mi_redirect_allocator_fn get =
        (mi_redirect_allocator_fn)(uintptr_t)mi_module_exports_find(&exports,
                                                                    "_mi_redirect_allocator");
    const bool is_original = (mi_module_exports_find(&exports, "mi_malloc") != NULL &&
                              mi_module_exports_find(&exports, "mi_is_in_heap_region") != NULL &&
                              mi_module_exports_find(&exports, "_mi_redirect_entry") != NULL);
    if (get == NULL && !is_original)
        return reason;
    mi_alloc = (mi_allocator_t){.module = m->base}; // nothing of one that could not be bound
    mi_module_name(&m->base_name, mi_alloc.name, sizeof(mi_alloc.name));
    if (get != NULL) {
        const mi_redirect_allocator_t *t = get(MI_REDIRECT_ABI);
        const bool is_known = (t != NULL && (t->abi >> 16) == MI_REDIRECT_ABI_MAJOR);
        reason = (is_known ? bind_table(t) : MI_REASON_ALLOCATOR_VERSION);
        if (reason == MI_REASON_NONE)
            return reason;
    }
    // Another version of the interface: the original's names are the common ground.
    return is_original ? bind_original(m->base) : reason;
}

mi_reason_t mi_allocator_bind(void) {
    if (mi_allocator_is_bound())
        return MI_REASON_NONE;
    mi_reason_t reason = MI_REASON_NO_ALLOCATOR;
    for (const mi_nt_module_t *m = mi_roll_next(NULL); m != NULL; m = mi_roll_next(m)) {
        const mi_reason_t found = bind_module(m);
        if (found == MI_REASON_NONE) {
            // Release: pairs with the acquire in mi_allocator_is_bound.
            mi_store_release(&is_bound, true);
            return MI_REASON_NONE;
        }
        if (found != MI_REASON_NO_ALLOCATOR)
            reason = found;
    }
    return reason;
}

void mi_allocator_pin(void) {
    static bool is_pinned;
    static const uint8_t here;
    const mi_nt_module_t *self = (is_pinned ? NULL : mi_modules_of(&here));
    if (self == NULL)
        return;
    is_pinned = true;
    (void)LdrAddRefDll(1, self->base);
    (void)LdrAddRefDll(1, mi_alloc.module);
}
