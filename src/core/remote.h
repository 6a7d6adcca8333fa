// Remote frees: blocks freed by another thread than the one that owns their page. The protocol:
//
//   freeing thread F                                owner O of the page
//   1 push block(s) on page->remote                 4 take the whole of O->pending
//   2 the list was empty before: t = page->theap    5 for each page: is page->theap still O?
//   3 push the page on t->pending; if page->theap       no:  as in step 3, for its present theap
//     is not t any more: take t->pending and            yes: take the whole of page->remote, reuse
//     the blocks
//
// A page is in at most one pending stack, once: it is pushed when its remote list becomes
// non-empty, and the list becomes empty only in step 5. It cannot be released between 1 and 5,
// since the blocks in remote count as live. Its owner may change (orphan.c) between 2 and 5: then
// whoever finds it forwards it. Stacks are only pushed on and taken whole, so there is no ABA.
// tests/core/model_remote.c walks every interleaving of these steps.
//
// A page with one block needs no owner to find out that it is empty. When the owner has nothing
// more to do with it until that block is freed (the page is full and in no list), it writes
// MI_REMOTE_ALONE in page->remote. F, whose block keeps the page as it is, may then give it back
// itself; it does so with a huge one, which nobody would keep, and when O has not looked at its
// pending stack since others freed something: O may sleep, or wait for its turn on a busy machine,
// while others hand large blocks on. Else O gets the page back, as in step 1, and uses it again. In
// the main heap only, since another one may be destroyed meanwhile.
#ifndef MI_CORE_REMOTE_H
#define MI_CORE_REMOTE_H

#include "core/heap.h"
#include "core/theap.h"

// Frees a block of a page that is not this thread's. theap: of this thread, whose batches may hold
// the block back for a while; NULL = hand it over now.
void mi_remote_free(mi_theap_t *theap, mi_page_t *page, mi_block_t *block);
// Where the theap holds back blocks of the page, unless it does so for another one.
MI_INLINE mi_batch_t *mi_remote_slot(mi_theap_t *theap, const mi_page_t *page) {
    return &theap->batch[((uintptr_t)page / sizeof(mi_page_t)) % MI_BATCH_SLOTS];
}

// Adds the block to the batch of its page, if that has begun and has room for two. A fork() may
// find count one too small.
MI_INLINE bool mi_remote_hold_try(mi_theap_t *theap, mi_page_t *page, mi_block_t *block,
                                  uint32_t most) {
    mi_batch_t *const slot = mi_remote_slot(theap, page);
    if (MI_UNLIKELY(slot->page != page || slot->count + 1 >= most))
        return false;
    mi_block_set_next_far(page, block, slot->head);
    mi_fork_point();
    slot->head = block;
    mi_fork_point();
    slot->count++;
    return true;
}
// The page has one block, which is live or in remote, and is in no list of its owner, who calls
// this: another thread may take it now.
void mi_remote_open(mi_page_t *page);
// The same before the block is handed out.
MI_INLINE void mi_remote_open_first(const mi_theap_t *owner, mi_page_t *page) {
    // Release: as in mi_remote_open.
    if (mi_theap_heap(owner) == &mi_heap_main_state)
        mi_store_release(&page->remote, MI_REMOTE_ALONE);
}
// The owner frees the block itself, so nobody else does.
MI_INLINE void mi_remote_close(mi_page_t *page) {
    if (mi_load_relaxed(&page->remote) == MI_REMOTE_ALONE)
        mi_store_relaxed(&page->remote, NULL);
}
// The owner has not looked since others freed a block of the page, or, if that has one block, any.
bool mi_remote_is_late(const mi_page_t *page, const mi_theap_t *owner);
// Hands over what this thread holds back. Not all: but for guests in lists that have been of use.
void mi_remote_flush(mi_theap_t *theap, bool all);
// Empties the lists of long blocks, for a theap that is marked busy.
void mi_remote_flush_long(mi_theap_t *theap);
// Step 3 for a page that the caller holds: it took it out of a pending stack.
void mi_remote_push_pending(mi_theap_t *theap, mi_page_t *page);
// Takes back what other threads freed, for the owner or whoever claimed the thread heap.
void mi_remote_collect(mi_theap_t *theap);

#endif
