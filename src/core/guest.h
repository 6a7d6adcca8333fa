// Guests: blocks of other threads' pages that this thread freed and keeps for its own next
// requests. They save the way home: a thread that frees what others allocate, and allocates itself,
// neither touches a line that another thread writes nor fills its own pages while those of a thread
// that sleeps hold nothing but free blocks.
//
//   thread heap --guests--> one list for each class: a struct that looks like a page to the fast
//                           path of malloc, and is made current when its class runs out
//
//   used      blocks handed out from the list so far
//   capacity  blocks put into it so far
//   reserved  blocks it may hold: few at first, twice as many each time it was of use
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

// A block that another thread's page owns, and this thread does not need any more. false = the list
// is full.
MI_INLINE bool mi_guest_put(mi_page_t *list, mi_block_t *block) {
    if (MI_SECURE || list->capacity - list->used >= list->reserved)
        return false;
    mi_block_set_next(list, block, list->free);
    mi_fork_point();
    list->free = block;
    mi_fork_point();
    list->capacity++;
    return true;
}

#endif
