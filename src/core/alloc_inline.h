// The fast paths of malloc and free, to be inlined into every entry point:
//
//   void *p = mi_malloc_try(size);  if (p == NULL) return slow(size);    slow: mi_core_malloc, then
//   errno ... if (!mi_free_try(p)) slow(p);                                         slow:
//   mi_core_free, then the report
//
// Both touch one cache line of the thread heap or the map, and one of the page.
#ifndef MI_CORE_ALLOC_INLINE_H
#define MI_CORE_ALLOC_INLINE_H

#include "core/alloc.h"
#include "core/theap.h"

// The page has no more blocks to wait for: empty, or (when it was full) worth allocating from
// again.
void mi_page_used_up(mi_page_t *page);

MI_INLINE void *mi_page_pop(mi_page_t *page) {
    mi_block_t *const block = page->free;
    if (MI_UNLIKELY(block == NULL))
        return NULL;
    page->free = mi_block_next(page, block);
    page->used++;
    return block;
}

// NULL: take the slow path, whatever the reason.
MI_INLINE void *mi_malloc_try(size_t size) {
    mi_theap_t *const theap = mi_theap_get();
    if (MI_DEBUG || MI_SECURE || (MI_THREAD_SLOT_MAY_BE_NULL && theap == NULL))
        return NULL;
    if (MI_LIKELY(size <= MI_DIRECT_MAX))
        return mi_page_pop(theap->direct[(size + MI_GRANULE_BYTES - 1) >> MI_GRANULE_SHIFT]);
    if (MI_UNLIKELY(size > MI_CLASSED_MAX))
        return NULL;
    return mi_page_pop(theap->current[mi_class_of(size)]);
}

// For callers who know that size <= MI_DIRECT_MAX.
MI_INLINE void *mi_malloc_small_try(size_t size) {
    mi_theap_t *const theap = mi_theap_get();
    if (MI_DEBUG || MI_SECURE || (MI_THREAD_SLOT_MAY_BE_NULL && theap == NULL))
        return NULL;
    return mi_page_pop(theap->direct[(size + MI_GRANULE_BYTES - 1) >> MI_GRANULE_SHIFT]);
}

MI_INLINE bool mi_free_try(void *p) {
    if (MI_DEBUG || MI_SECURE)
        return false;
    const uintptr_t index = mi_page_map_index(p);
    if (MI_UNLIKELY(index >= MI_MAP_WINDOW_SLICES))
        return false;
    mi_theap_t *const theap = mi_theap_get();
    if (MI_THREAD_SLOT_MAY_BE_NULL && theap == NULL)
        return false;
    const uintptr_t entry = mi_load_relaxed(&mi_page_map_window[index]) ^ theap->key;
    mi_page_t *const page = (mi_page_t *)entry;
    if (MI_UNLIKELY(MI_MAP_HAS_KEYS ? (entry >> MI_MAP_KEY_SHIFT) != 0
                                    : (page == NULL || page->owner_fast != theap)))
        return false;
    mi_block_set_next(page, (mi_block_t *)p, page->free);
    page->free = (mi_block_t *)p;
    if (MI_UNLIKELY(--page->used == 0))
        mi_page_used_up(page);
    return true;
}

#endif
