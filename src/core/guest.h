// Guests: blocks of other threads' pages that this thread freed and keeps for its own next
// requests. They save the way home: a thread that frees what others allocate, and allocates itself,
// neither touches a line that another thread writes nor fills its own pages while those of a thread
// that sleeps hold nothing but free blocks.
//
//   thread heap --guests--> one list for each class: a struct that looks like a page to the fast
//                           path of malloc, and is made current when its class runs out
//
//   used      one more than the blocks that it has room for: counts down as blocks are put in, like
//             that of a page whose blocks are freed
//   capacity  blocks it may hold: few at first, twice as many each time it was of use
//   hidden    not of the list: how many frees of one page may be held back as a batch (remote.c)
//
// To the page that a guest comes from it is live all the time. It goes home (remote.c) when the
// list is full, and when the thread looks at the clock (theap.c) or collects. A thread that ends
// leaves lists that were of use to whoever adopts its thread heap (orphan.c): where threads follow
// each other, those blocks would go home to threads that sleep. Small blocks share cache lines with
// those that other threads hold: a few of them are not handed out again, or two threads would write
// to one line though their owner had kept them apart.
//
// Whether a block is a guest nobody can foresee where threads hand work over: a branch on it is
// guessed wrong two times of five, and then what comes after waits until the block's address and
// the map's entry have arrived (a third of the time of a server's free). So a thread that frees
// many guests takes mi_guest_free for its own blocks too, and that puts them all into the lists:
// what was freed last, whoever's, is used next and still in the caches. They are live to their
// pages as guests are, and go back to them when those go home.
//
// Long blocks, each of which has a page of its own (64 to 256 KiB), have lists of the same kind,
// for the thread's own only and one for each length of pages, whose class serves all requests that
// such a page has room for. (Where a list was for one class of eight, as for small blocks, a thread
// of few blocks needed up to a fifth more memory.) Such a list is current as long as it has room
// for blocks at all: malloc and free take the fast path and touch nothing of the page but what free
// looks at in any case, where a page that waits for its next use has its state, its queue and what
// other threads may do with it changed twice. Together the lists have room for a thread's part of
// what all may keep; one gets room for one more when it has none left for a block that is freed.
// All go home when the thread looks at the clock, or takes memory that nobody has touched, and
// prove their use anew. Of larger blocks the same would be memory for no gain: to write one takes a
// hundred times as long as to find it.
#ifndef MI_CORE_GUEST_H
#define MI_CORE_GUEST_H

#include "core/theap.h"

#define MI_GUEST_LAST  72u                  // the class of MI_GUEST_BLOCK_MAX
#define MI_GUEST_EXACT (MI_GUEST_LAST + 1)  // added in far_class
#define MI_GUEST_LONG  (2 * MI_GUEST_EXACT) // the first list of long blocks
#define MI_LONG_LAST   96u                  // the class of 256 KiB: the largest of them
#define MI_LONG_KINDS  3u                   // lengths of their pages: 2, 3 and 4 slices
#define MI_GUEST_LISTS (MI_GUEST_LONG + 2 * MI_LONG_KINDS)

// far_class of a page of this class, which is the number of its list; 0 = its blocks are never held
// back, and that list is never made.
MI_INLINE uint8_t mi_guest_class(uint32_t class_index) {
    const uint32_t plain = mi_class_plain(class_index);
    return plain > MI_GUEST_LAST ? (uint8_t)0
                                 : (uint8_t)(plain + (plain == class_index ? 0 : MI_GUEST_EXACT));
}

// Makes the list for a far_class. NULL = no memory.
mi_page_t *mi_guest_make(mi_theap_t *theap, uint8_t far_class);
// The list for a class, when it has enough blocks to allocate from; NULL = it has not.
mi_page_t *mi_guest_serve(mi_theap_t *theap, uint32_t class_index);
// The number of the list of long blocks for a class; MI_GUEST_LISTS = it has none. Those that keep
// their exact size have lists of their own, since their pages note it.
MI_INLINE uint32_t mi_guest_long(uint32_t class_index) {
    const uint32_t plain = mi_class_plain(class_index);
    if (MI_SECURE || plain - (MI_CLASS_SHARED + 1) >= MI_LONG_LAST - MI_CLASS_SHARED)
        return MI_GUEST_LISTS;
    const uint32_t kind = (mi_class_queue_plain(plain) - MI_CLASS_SHARED) / 4 - 2;
    return MI_GUEST_LONG + kind + (plain == class_index ? 0 : MI_LONG_KINDS);
}
// The class of the blocks in that list, without MI_CLASS_EXACT.
MI_INLINE uint32_t mi_guest_long_class(uint32_t number) {
    return MI_CLASS_SHARED + 8 + (number - MI_GUEST_LONG) % MI_LONG_KINDS * 4;
}
// What mi_guest_put_long does, also for a page that served a class of shorter ones, and where the
// list has no room left: then it gets some. The theap is marked busy. false = it shall have none.
bool mi_guest_keep(mi_theap_t *theap, mi_page_t *page);
// false = mi_guest_serve would have nothing to do and return NULL.
MI_INLINE bool mi_guest_may_serve(const mi_theap_t *theap, uint32_t class_index) {
    if (MI_LIKELY(theap->guests == NULL))
        return false;
    const mi_page_t *const list = &theap->guests[mi_guest_class(class_index)];
    return list->free != NULL || (list->capacity == 0 && list->block_bytes != 0);
}
// Takes all blocks out of the theap's next list that has any; NULL = there is none. *at: where to
// go on, 0 at first. Not all: lists that have been of use stay as they are.
mi_block_t *mi_guest_drain(mi_theap_t *theap, uint32_t *at, bool all);

// The list for a far_class that is not 0. NULL = no memory.
MI_INLINE mi_page_t *mi_guest_list(mi_theap_t *theap, uint8_t far_class) {
    mi_page_t *const lists = theap->guests;
    return MI_LIKELY(lists != NULL && lists[far_class].block_bytes != 0)
               ? &lists[far_class]
               : mi_guest_make(theap, far_class);
}

MI_INLINE uint32_t mi_guest_held(const mi_page_t *list) {
    return list->capacity + 1 - list->used;
}

MI_INLINE void mi_guest_push(mi_page_t *list, mi_block_t *block) {
    mi_block_set_next(list, block, list->free);
    mi_fork_point();
    list->free = block;
    mi_fork_point();
    list->used--;
}

// A free without the last check, into a page or a list. false = it would be the last of used.
MI_INLINE bool mi_guest_put(mi_page_t *list, mi_block_t *block) {
    if (MI_SECURE || MI_UNLIKELY(list->used <= 1))
        return false;
    mi_guest_push(list, block);
    return true;
}

// The one block of a full page, which was just freed and is in its free list, goes into the list of
// its length, and is live to its page again, all of which it may use. false = there is no room. A
// bare page's only where no other waits: then it is asked whether it should go back (page.h), which
// a pair of calloc and free need not ask each time.
MI_INLINE bool mi_guest_put_long(mi_page_t *list, mi_page_t *page) {
    mi_block_t *const block = page->free;
    if (MI_UNLIKELY(list->used <= 1 || (page->is_bare && list->free != NULL)))
        return false;
    if (page->block_bytes != list->block_bytes) {
        if (MI_UNLIKELY(mi_page_is_narrow(page)))
            return false;
        mi_page_set_class(page, list->class_index, list->block_bytes);
    }
    page->used = 1;
    mi_fork_point();
    page->free = NULL;
    mi_guest_push(list, block);
    return true;
}

// What mi_guest_free leaves to do when the block has no room in its list, or is the last of its
// page, or a turn of MI_FAR_TURNS frees is over. false = it is not freed yet.
bool mi_guest_free_rarely(mi_theap_t *theap, mi_page_t *page, mi_block_t *block, bool is_far);

// The fast path of free for another thread's block, with what mi_free_step left; here the thread's
// own blocks may come too. false = take the slow path. An entry with a key is that of a page
// without interior pointers. It was loaded without order: who may free a block was given it after
// its page was entered, and the page is read through the entry.
MI_INLINE bool mi_guest_free(void *p, uintptr_t found, mi_theap_t *theap) {
    const uintptr_t entry = found ^ theap->free_key;
    mi_page_t *const page = (mi_page_t *)(entry & MI_MAP_PAGE_MASK);
    if (MI_UNLIKELY(entry <= MI_MAP_PAGE_MASK || !mi_page_is_block_start_far(page, p)))
        return false;
    mi_page_t *const lists = theap->guests;
    if (MI_UNLIKELY(lists == NULL))
        return false;
    mi_page_t *const list = &lists[page->far_class];
    const bool is_far = (entry ^ theap->key) > MI_MAP_PAGE_MASK;
    theap->far_count += is_far;
    if (MI_LIKELY(--theap->far_turns != 0 && mi_guest_put(list, (mi_block_t *)p)))
        return true;
    return mi_guest_free_rarely(theap, page, (mi_block_t *)p, is_far);
}

#endif
