// The lock-free lists of remote frees; the protocol is drawn in remote.h. Called by any thread;
// nothing here blocks.
#include "core/remote.h"

#include "core/guest.h"
#include "core/harden.h"
#include "core/heap.h"

// ---- Pages with one block
// ---------------------------------------------------------------------

void mi_remote_open(mi_page_t *page) {
    mi_block_t *nothing = NULL;
    // Release: all that the owner did with the page, with the acquire in remote_give. Not if its
    // block was freed meanwhile: then the page is on its way to the owner.
    if (mi_theap_heap(mi_load_relaxed(&page->theap)) == &mi_heap_main_state)
        (void)mi_cas_strong_acq_rel(&page->remote, &nothing, MI_REMOTE_ALONE);
}

bool mi_remote_is_late(const mi_page_t *page, const mi_theap_t *owner) {
    const mi_block_t *const remote = mi_load_relaxed(&page->remote);
    return remote == MI_REMOTE_ALONE ? mi_load_relaxed(&owner->pending) != NULL : remote != NULL;
}

// Gives back the page of a block that is freed, instead of the owner. theap: this thread's, which
// is marked busy for those who stop threads. false = it must be pushed.
static bool remote_give(mi_theap_t *theap, mi_page_t *page) {
    const mi_theap_t *const owner = mi_load_acquire(&page->theap); // with mi_page_set_owner
    // Acquire: with the release in mi_remote_open. Nobody else changes it: the block is ours.
    if (theap == NULL || mi_load_acquire(&page->remote) != MI_REMOTE_ALONE ||
        (page->class_index != MI_CLASS_HUGE && mi_load_relaxed(&owner->pending) == NULL))
        return false;
    const uint32_t was = mi_theap_enter(theap);
    mi_page_release_far(page);
    mi_theap_tick(theap); // a thread may do nothing but free
    mi_theap_leave(theap, was);
    return true;
}

// ---- Blocks
// -----------------------------------------------------------------------------------

// Step 3. true: the page still belongs to theap after the push, so theap's owner will find it.
static bool remote_push_once(mi_theap_t *theap, mi_page_t *page) {
    mi_page_t *head = mi_load_relaxed(&theap->pending);
    do {
        page->pending_next = head;
        // Release: the page's remote blocks and its pending_next. Acquire: what the last taker of
        // the stack did before. Both with the exchanges of pending.
    } while (!mi_cas_weak_acq_rel(&theap->pending, &head, page));
    return mi_load_acquire(&page->theap) == theap; // with mi_page_set_owner
}

// When the page changed hands meanwhile, the thief may have looked at this stack for the last time
// before our push (it does so after each theft, orphan.c). Then our push saw the thief's exchange,
// hence also the new owner, and we carry on what lies there ourselves.
void mi_remote_push_pending(mi_theap_t *theap, mi_page_t *page) {
    if (MI_LIKELY(remote_push_once(theap, page)))
        return;
    mi_page_t *list = mi_exchange_acq_rel(&theap->pending, NULL); // with remote_push_once
    while (list != NULL) {
        mi_page_t *const next = list->pending_next;
        mi_theap_t *const owner = mi_load_acquire(&list->theap); // with mi_page_set_owner
        if (owner != NULL)
            mi_remote_push_pending(owner, list);
        list = next;
    }
}

// Steps 1 to 3 for the chain head .. tail.
static void remote_push(mi_page_t *page, mi_block_t *head, mi_block_t *tail) {
    mi_block_t *old = mi_load_relaxed(&page->remote);
    bool is_first;
    do {
        is_first = (old == NULL || old == MI_REMOTE_ALONE);
        mi_block_set_next_far(page, tail, is_first ? NULL : old);
        // Release: the blocks' contents and links, with the acquire in remote_take. Acquire, from
        // remote_take's release: when we find the list empty, the owner has read pending_next and
        // we may write it.
    } while (!mi_cas_weak_acq_rel(&page->remote, &old, head));
    if (is_first)
        mi_remote_push_pending(mi_load_acquire(&page->theap), page); // with mi_page_set_owner
}

// Step 5, yes.
static void remote_take(mi_theap_t *theap, mi_page_t *page) {
    // Both orders: see remote_push.
    mi_block_t *const head = mi_exchange_acq_rel(&page->remote, NULL);
    mi_block_t *tail = head;
    uint32_t count = 1;
    const uint32_t live = (MI_SECURE ? mi_page_live(page) : UINT32_MAX);
    for (mi_block_t *next = mi_block_next(page, tail); next != NULL && count <= live;
         next = mi_block_next(page, tail)) {
        if (MI_SECURE)
            mi_page_check_block(page, next);
        tail = next;
        count++;
    }
    MI_ASSERT(count <= mi_page_live(page));
    if (MI_SECURE && MI_UNLIKELY(count > live))
        mi_corrupt_fail("more blocks of a page were freed than it has, page", page->start);
    mi_block_set_next(page, tail, page->free);
    page->free = head;
    if (page->state == MI_PAGE_FULL) {
        page->used = page->used + page->hidden - count;
        page->hidden = 0;
        // One that is empty is not: it may be in the list of those with own reservations, by the
        // same links.
        if (page->used != 0)
            mi_theap_make_available(theap, page);
    } else {
        page->used -= count;
    }
    if (page->used == 0)
        mi_theap_retire(theap, page);
}

void mi_remote_collect(mi_theap_t *theap) {
    if (mi_load_relaxed(&theap->pending) == NULL)
        return;
    mi_page_t *page = mi_exchange_acq_rel(&theap->pending, NULL); // with remote_push_once
    while (page != NULL) {
        mi_page_t *const next =
            page->pending_next; // before remote is emptied: then it is another's
        mi_theap_t *const owner = mi_load_acquire(&page->theap); // with mi_page_set_owner
        if (owner == theap)
            remote_take(theap, page);
        else
            mi_remote_push_pending(owner, page);
        page = next;
    }
}

static void remote_flush_slot(mi_batch_t *slot) {
    mi_page_t *const page = slot->page;
    if (page == NULL)
        return;
    slot->page = NULL;
    remote_push(page, slot->head, slot->tail);
}

// Holds the block back in the batch of its page. true: that batch was full and was handed over.
static bool remote_hold(mi_theap_t *theap, mi_page_t *page, mi_block_t *block, uint32_t most) {
    if (most < 2) {
        remote_push(page, block, block);
        return true;
    }
    mi_batch_t *const slot = mi_remote_slot(theap, page);
    if (slot->page != page) {
        remote_flush_slot(slot);
        slot->page = page;
        slot->head = block;
        slot->tail = block;
        slot->count = 1;
    } else {
        mi_block_set_next_far(page, block, slot->head);
        slot->head = block;
        slot->count++;
    }
    if (slot->count < most)
        return false;
    remote_flush_slot(slot);
    return true;
}

// One of the thread's own that its list held.
static void remote_own(mi_theap_t *theap, mi_page_t *page, mi_block_t *block) {
    mi_block_set_next(page, block, page->free);
    page->free = block;
    if (--page->used == 0)
        mi_theap_used_up(theap, page);
}

// From list at on.
static void remote_drain(mi_theap_t *theap, uint32_t at, bool all) {
    for (mi_block_t *block; (block = mi_guest_drain(theap, &at, all)) != NULL;)
        for (mi_block_t *next; block != NULL; block = next) {
            mi_page_t *const page = mi_page_map_find(block);
            next =
                mi_block_next(page, block); // links of guests are plain in every build that has any
            // Ours stays so: it changes hands only while somebody else has claimed theap.
            if (mi_load_relaxed(&page->theap) == theap)
                remote_own(theap, page, block);
            else
                (void)remote_hold(theap, page, block, MI_BATCH_MAX);
        }
}

void mi_remote_flush_long(mi_theap_t *theap) {
    remote_drain(theap, MI_GUEST_LONG, true);
}

void mi_remote_flush(mi_theap_t *theap, bool all) {
    if (theap->guests == NULL) // then nothing was ever held back
        return;
    const uint32_t was = mi_theap_enter(theap); // a page may change its list
    remote_drain(theap, 0, all);
    for (uint32_t i = 0; i < MI_BATCH_SLOTS; i++)
        remote_flush_slot(&theap->batch[i]);
    mi_theap_leave(theap, was);
}

// The batches, which a fork() must not find half changed.
static void remote_batch(mi_theap_t *theap, mi_page_t *page, mi_block_t *block, uint32_t most) {
    const uint32_t was = mi_theap_enter(theap);
    if (remote_hold(theap, page, block, most))
        mi_theap_tick(theap); // a thread may do nothing but free
    mi_theap_leave(theap, was);
}

void mi_remote_free(mi_theap_t *theap, mi_page_t *page, mi_block_t *block) {
    mi_page_t *const list =
        (theap == NULL || page->far_class == 0 ? NULL : mi_guest_list(theap, page->far_class));
    if (MI_UNLIKELY(list == NULL)) {
        if (!remote_give(theap, page))
            remote_push(page, block, block);
    } else if (!mi_guest_put(list, block) &&
               !mi_remote_hold_try(theap, page, block, list->hidden)) {
        remote_batch(theap, page, block, list->hidden);
    }
}
