// Guests: blocks of other threads' pages that this thread freed and keeps for its own next
// requests. They save the way home: a thread that frees what others allocate, and allocates itself,
// neither touches a line that another thread writes nor fills its own pages while those of a thread
// that sleeps hold nothing but free blocks.
//
//   thread heap --guests--> one list for each class: a struct that looks like a page to the fast
//                           path of malloc, and is made current when its class runs out
//
//   used      less than 0, as a number that wraps round: blocks it holds
//   capacity  blocks it may hold: few at first, twice as many each time it was of use; 0 = no list
//   hidden    not of the list: how many frees of one page may be held back as a batch (remote.c)
//
// To the page that a guest comes from it is live all the time. It goes home (remote.c) when the
// list is full, when the thread looks at the clock (theap.c), collects or ends. Small blocks share
// cache lines with those that other threads hold: a few of them are not handed out again, or two
// threads would write to one line though their owner had kept them apart.
#ifndef MI_CORE_GUEST_H
#define MI_CORE_GUEST_H

#include "core/theap.h"

#define MI_GUEST_EXACT 0x80u // in far_class
#define MI_GUEST_LAST  72u   // the class of MI_GUEST_BLOCK_MAX

// far_class of a page of this class; 0 = its blocks are never held back.
MI_INLINE uint8_t mi_guest_class(uint32_t class_index) {
    const uint32_t plain = mi_class_plain(class_index);
    return plain > MI_GUEST_LAST ? (uint8_t)0
                                 : (uint8_t)(plain | (plain == class_index ? 0 : MI_GUEST_EXACT));
}

// Makes the list for a far_class. NULL = no memory.
mi_page_t *mi_guest_make(mi_theap_t *theap, uint8_t far_class);
// The list for a class, when it has enough blocks to allocate from; NULL = it has not.
mi_page_t *mi_guest_serve(mi_theap_t *theap, uint32_t class_index);
// Takes all blocks out of the theap's next list that has any; NULL = all are empty. *at: where to
// go on, 0 at first.
mi_block_t *mi_guest_drain(mi_theap_t *theap, uint32_t *at);

// The list for a far_class that is not 0. NULL = no memory.
MI_INLINE mi_page_t *mi_guest_list(mi_theap_t *theap, uint8_t far_class) {
    mi_page_t *const lists = theap->guests[far_class / MI_GUEST_EXACT];
    const uint32_t plain = far_class % MI_GUEST_EXACT;
    return MI_LIKELY(lists != NULL && lists[plain].block_bytes != 0)
               ? &lists[plain]
               : mi_guest_make(theap, far_class);
}

MI_INLINE uint32_t mi_guest_held(const mi_page_t *list) {
    return 0u - list->used;
}

// A block that another thread's page owns, and this thread does not need any more. false = the list
// is full.
MI_INLINE bool mi_guest_put(mi_page_t *list, mi_block_t *block) {
    if (MI_SECURE || mi_guest_held(list) >= list->capacity)
        return false;
    mi_block_set_next(list, block, list->free);
    mi_fork_point();
    list->free = block;
    mi_fork_point();
    list->used--;
    return true;
}

// The fast path of free for another thread's block, after mi_free_try, which it is not much longer
// than: where threads hand work over, most blocks are such. false = take the slow path. An entry
// with a key is that of a page without interior pointers; our own has no block there, or else
// mi_free_try would have been true.
MI_INLINE bool mi_guest_free_try(void *p) {
    if (MI_DEBUG || MI_SECURE || !MI_MAP_HAS_KEYS)
        return false;
    const uintptr_t index = mi_page_map_index(p);
    if (MI_UNLIKELY(index >= MI_MAP_WINDOW_SLICES))
        return false;
    mi_theap_t *const theap = mi_theap_near();
    if (MI_THREAD_SLOT_MAY_BE_NULL && theap == NULL)
        return false;
    const uintptr_t entry = mi_load_acquire(&mi_page_map_window[index]); // with mi_page_map_set
    const mi_page_t *const page = (const mi_page_t *)(entry & MI_MAP_PAGE_MASK);
    if (MI_UNLIKELY(entry >> MI_MAP_KEY_SHIFT == 0 || !mi_page_is_block_start_far(page, p)))
        return false;
    mi_page_t *const lists = theap->guests[page->far_class / MI_GUEST_EXACT];
    return MI_LIKELY(lists != NULL) &&
           mi_guest_put(&lists[page->far_class % MI_GUEST_EXACT], (mi_block_t *)p);
}

#endif
