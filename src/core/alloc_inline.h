// The fast paths of malloc and free, to be inlined into every entry point:
//
//   void *p = mi_malloc_try(size);  if (p == NULL) return slow(size);    slow: mi_core_malloc, then
//   errno ... mi_free_step(p, ...): done, or mi_guest_free(p, ...), or slow:
//   mi_core_free, then the report
//
// Both touch one cache line of the thread heap or the map, and one of the page.
#ifndef MI_CORE_ALLOC_INLINE_H
#define MI_CORE_ALLOC_INLINE_H

#include "core/alloc.h"
#include "core/harden.h"
#include "core/theap.h"

// The page, of this thread heap, has no more blocks to wait for: empty, or (when it was full) worth
// allocating from again.
void mi_page_used_up(mi_theap_t *theap, mi_page_t *page);

// The two halves of taking a block, for callers that have something to write between them: the
// block is found and counted, then it leaves the list. NULL = none, or one that the slow path finds
// again and ends the process for.
MI_INLINE mi_block_t *mi_page_pop_begin(mi_page_t *page, mi_mark_t **mark) {
    mi_block_t *const block = page->free;
    if (MI_UNLIKELY(block == NULL || !mi_mark_is_free(page, block, mark)))
        return NULL;
    page->used++;
    mi_fork_point();
    return block;
}

// The next block of this class was freed long ago, as a rule, and its caller writes to it, so its
// line is fetched. is_asked: whether there is one. To fetch from NULL costs some processors a walk
// through the page tables each time (Zen 1: 21 ns; others nothing that could be measured), which
// hits the blocks that are alone in their page. In lists of small blocks it is rare.
MI_INLINE void *mi_page_pop_end(mi_page_t *page, mi_block_t *block, mi_mark_t *mark,
                                bool is_asked) {
    mi_block_t *const next = mi_block_next(page, block);
    page->free = next;
    mi_fork_point();
    if (!is_asked || MI_LIKELY(next != NULL))
        __builtin_prefetch(next, 1);
    if (MI_SECURE) {
        mi_store_relaxed(mark, (uint8_t)MI_MARK_LIVE);
        block->link = 0; // what is handed out tells nothing of the key
    }
    return block;
}

MI_INLINE void *mi_page_pop(mi_page_t *page) {
    mi_mark_t *mark;
    mi_block_t *const block = mi_page_pop_begin(page, &mark);
    return MI_LIKELY(block != NULL) ? mi_page_pop_end(page, block, mark, true) : NULL;
}

// The same for the fast paths of blocks up to MI_DIRECT_MAX.
MI_INLINE void *mi_page_pop_small(mi_page_t *page) {
    mi_mark_t *mark;
    mi_block_t *const block = mi_page_pop_begin(page, &mark);
    return MI_LIKELY(block != NULL) ? mi_page_pop_end(page, block, mark, false) : NULL;
}

// theap may be NULL where a slot may.
MI_INLINE void *mi_malloc_try_in(mi_theap_t *theap, size_t size) {
    if (MI_DEBUG || (MI_THREAD_SLOT_MAY_BE_NULL && theap == NULL))
        return NULL;
    if (MI_LIKELY(size <= MI_DIRECT_MAX))
        return mi_page_pop_small(theap->direct[(size + MI_GRANULE_BYTES - 1) >> MI_GRANULE_SHIFT]);
    if (MI_UNLIKELY(size > MI_CLASSED_MAX))
        return NULL;
    return mi_page_pop(theap->current[mi_class_of(size)]);
}

// NULL: take the slow path, whatever the reason.
MI_INLINE void *mi_malloc_try(size_t size) {
    return mi_malloc_try_in(mi_theap_near(), size);
}

// The same for a block that keeps its exact size. Size 0 always takes the slow path, since its
// callers mean 1; so does a list of guests that are wide, which have no common table of sizes. The
// record is written before the block leaves its list: the other way round, a processor that learns
// which load takes which store's value (Zen 4) unlearns it whenever the class changes, and a pair
// of changing sizes took up to 1.2 times as long.
MI_INLINE void *mi_malloc_exact_wide_try_in(mi_theap_t *theap, size_t size) {
    if (MI_UNLIKELY(size > MI_CLASSED_MAX))
        return NULL;
    mi_page_t *const page = theap->current[MI_CLASS_EXACT + mi_class_of(size)];
    if (MI_UNLIKELY(page->exact_sizes == 0))
        return NULL;
    mi_mark_t *mark;
    mi_block_t *const block = mi_page_pop_begin(page, &mark);
    if (MI_UNLIKELY(block == NULL))
        return NULL;
    *mi_exact_word(page, block) = (uint32_t)size;
    return mi_page_pop_end(page, block, mark, true);
}

MI_INLINE void *mi_malloc_exact_try_in(mi_theap_t *theap, size_t size) {
    if (MI_DEBUG || (MI_THREAD_SLOT_MAY_BE_NULL ? theap == NULL : theap->real == NULL))
        return NULL; // mi_theap_empty has no tables of exact sizes
    if (MI_UNLIKELY(size > MI_DIRECT_MAX))
        return mi_malloc_exact_wide_try_in(theap, size);
    const size_t granules = (size + MI_GRANULE_BYTES - 1) >> MI_GRANULE_SHIFT;
    mi_page_t *const page = theap->exact_direct[granules];
    mi_mark_t *mark;
    mi_block_t *const block = mi_page_pop_begin(page, &mark);
    if (MI_UNLIKELY(block == NULL))
        return NULL;
    *mi_exact_byte(block) = (uint8_t)size;
    return mi_page_pop_end(page, block, mark, false);
}

MI_INLINE void *mi_malloc_exact_try(size_t size) {
    return mi_malloc_exact_try_in(mi_theap_near(), size);
}

// For callers who know that size <= MI_DIRECT_MAX.
MI_INLINE void *mi_malloc_small_try(size_t size) {
    mi_theap_t *const theap = mi_theap_near();
    if (MI_DEBUG || (MI_THREAD_SLOT_MAY_BE_NULL && theap == NULL))
        return NULL;
    return mi_page_pop_small(theap->direct[(size + MI_GRANULE_BYTES - 1) >> MI_GRANULE_SHIFT]);
}

// Clears a block's first bytes, rounded up to granules. A call of memset, on Windows by import and
// made for any alignment, costs more than clearing a small block.
MI_INLINE void *mi_clear_granules(void *block, size_t bytes) {
    if (MI_UNLIKELY(bytes > 4 * MI_GRANULE_BYTES))
        return __builtin_memset(block, 0, bytes);
    uint8_t *const p = (uint8_t *)block;
    uint8_t *const last = p + ((bytes - 1) & ~(MI_GRANULE_BYTES - 1));
    __builtin_memset(p, 0, MI_GRANULE_BYTES);
    __builtin_memset(last, 0, MI_GRANULE_BYTES);
    if (bytes > 2 * MI_GRANULE_BYTES) {
        __builtin_memset(p + MI_GRANULE_BYTES, 0, MI_GRANULE_BYTES);
        __builtin_memset(last - MI_GRANULE_BYTES, 0, MI_GRANULE_BYTES);
    }
    return block;
}

// A zeroed block, up to 4 KiB: larger ones are worth asking whether they are zero already.
MI_INLINE void *mi_zalloc_exact_try(size_t size) {
    if (MI_UNLIKELY(size > 4 * MI_KiB))
        return NULL;
    void *const p = mi_malloc_exact_try(size);
    return MI_LIKELY(p != NULL) ? mi_clear_granules(p, size) : NULL;
}

// The same, and all that is usable is zero.
MI_INLINE void *mi_zalloc_try(size_t size) {
    mi_theap_t *const theap = mi_theap_near();
    if (MI_DEBUG || (MI_THREAD_SLOT_MAY_BE_NULL && theap == NULL))
        return NULL;
    if (MI_UNLIKELY(size > 4 * MI_KiB))
        return NULL;
    mi_page_t *const page = (MI_LIKELY(size <= MI_DIRECT_MAX)
                                 ? theap->direct[(size + MI_GRANULE_BYTES - 1) >> MI_GRANULE_SHIFT]
                                 : theap->current[mi_class_of(size)]);
    const size_t bytes = page->block_bytes;
    void *const p = mi_page_pop(page);
    return p == NULL ? NULL : __builtin_memset(p, 0, bytes);
}

// A block at a multiple of align: blocks of a class whose size is a multiple of it are. NULL: take
// the slow path, also when align is no power of two.
MI_INLINE void *mi_malloc_aligned_try(size_t size, size_t align) {
    if (MI_UNLIKELY(align > MI_SLICE_BYTES || !mi_is_pow2(align) || size - 1 >= MI_CLASSED_MAX))
        return NULL;
    return mi_malloc_try(mi_align_up(size, align));
}

// The page of an address that is a multiple of the granule, whoever owns it, if the window has it.
// NULL: take the slow path.
MI_INLINE const mi_page_t *mi_window_page_try(const void *p) {
    const uintptr_t index = mi_page_map_index(p);
    if (MI_UNLIKELY(MI_DEBUG || index >= MI_MAP_WINDOW_SLICES))
        return NULL;
    const uintptr_t entry = mi_load_acquire(&mi_page_map_window[index]); // with mi_page_map_set
    return (const mi_page_t *)(MI_MAP_HAS_KEYS ? entry & MI_MAP_PAGE_MASK : entry);
}

// The size of a live block that p is the start of, if its page's is all there is to tell. 0: take
// the slow path, mi_core_usable.
MI_INLINE size_t mi_usable_try(const void *p) {
    const mi_page_t *const page = mi_window_page_try(p);
    if (MI_UNLIKELY(page == NULL || mi_load_relaxed(&page->traits) != 0 ||
                    !mi_page_is_block_start(page, p) || !mi_mark_is_live(page, p)))
        return 0;
    return page->block_bytes;
}

// p itself when it stays the right block for the new size; NULL: take the slow path. *usable: as
// mi_usable_try says.
MI_INLINE void *mi_realloc_try(void *p, size_t size, size_t *usable) {
    *usable = mi_usable_try(p);
    return *usable == 0 || size > *usable || size + 32 < *usable / 2 ? NULL : p;
}

// The same for a small block that keeps its exact size. true: it stays, and has the new size. In a
// page with interior blocks, too: p is the start of one, or the answer is no.
MI_INLINE bool mi_realloc_exact_try(void *p, size_t size) {
    const mi_page_t *const page = mi_window_page_try(p);
    if (MI_UNLIKELY(page == NULL || page->block_bytes - size >= page->exact_stay))
        return false;
    uint8_t *record;
    if (MI_UNLIKELY(!mi_exact_is_start(page, p, &record) || !mi_mark_is_live(page, p)))
        return false;
    *record = (uint8_t)size;
    return true;
}

// For any other block that does.
MI_INLINE bool mi_realloc_exact_wide_try(void *p, size_t size) {
    const mi_page_t *const page = mi_window_page_try(p);
    if (page == NULL || !mi_page_is_exact(page) || mi_exact_is_small(page) ||
        page->block_bytes > UINT32_MAX)
        return false;
    const size_t usable = page->block_bytes;
    if (size - 1 >= usable || size + 32 < usable / 2 || // 0 is no size here
        !mi_page_is_block_start(page, p) || !mi_mark_is_live(page, p))
        return false;
    *mi_exact_word(page, p) = (uint32_t)size;
    return true;
}

typedef enum mi_free_step_e {
    MI_FREE_DONE,
    MI_FREE_FAR, // it may be another thread's block: mi_guest_free
    MI_FREE_ASK, // take the slow path
} mi_free_step_t;

// The fast path of free for the thread's own blocks. What it has found out so far is left for
// mi_guest_free: the map's entry, with the thread heap's free_key, and the thread heap.
MI_INLINE mi_free_step_t mi_free_step(void *p, uintptr_t *entry, mi_theap_t **theap) {
    uintptr_t index;
    if (MI_DEBUG || !mi_free_begin(p, &index, theap))
        return MI_FREE_ASK;
    *entry = mi_load_relaxed(&mi_page_map_window[index]) ^ (*theap)->free_key;
    mi_page_t *const page = (mi_page_t *)*entry;
    if (MI_UNLIKELY(MI_MAP_HAS_KEYS ? (*entry >> MI_MAP_KEY_SHIFT) != 0
                                    : (page == NULL || !mi_page_is_owner_fast(page, *theap))))
        return MI_MAP_HAS_KEYS && !MI_SECURE ? MI_FREE_FAR : MI_FREE_ASK;
    if (MI_UNLIKELY(MI_SECURE ? !mi_mark_free(page, p) : !mi_page_is_block_start(page, p)))
        return MI_FREE_ASK;
    mi_fork_point();
    mi_block_set_next(page, (mi_block_t *)p, page->free);
    mi_fork_point();
    page->free = (mi_block_t *)p;
    mi_fork_point();
    if (MI_UNLIKELY(--page->used == 0))
        mi_page_used_up(*theap, page);
    return MI_FREE_DONE;
}

#endif
