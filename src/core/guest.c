// Making, using and emptying guest lists. All of it by the owner of the thread heap.
#include "core/guest.h"

#include "core/meta.h"
#include "core/remote.h"

static_assert(MI_GUEST_LISTS <= 256, "far_class is one byte");

// Of larger ones a few only would be as many bytes: a program that hands over a chain of such
// blocks, then asks for as many, would have each of them sent home and the next one searched for.
static uint32_t guest_count(size_t bytes, size_t block_bytes) {
    const size_t count = bytes * (block_bytes > MI_GUEST_SMALL_MAX ? 4 : 1) / block_bytes;
    return (uint32_t)(count < 1 ? 1 : count > MI_GUEST_TOP_COUNT ? MI_GUEST_TOP_COUNT : count);
}

static uint32_t guest_first(const mi_page_t *list) {
    const uint32_t first = guest_count(MI_GUEST_FIRST_BYTES, list->block_bytes);
    return first < MI_GUEST_FIRST_COUNT ? first : MI_GUEST_FIRST_COUNT;
}

// As at the start: a list proves its use anew after it was emptied. A thread that only frees has no
// use for guests: its lists have no room until it asks for a block.
static void guest_reset(mi_theap_t *theap, mi_page_t *list) {
    if (list->block_bytes > MI_SHARED_MAX) {
        theap->long_bytes -= list->capacity * list->block_bytes;
        list->capacity = 0;
    } else {
        list->capacity = (mi_load_relaxed(&theap->malloc_count) == 0 ? 0 : guest_first(list));
    }
    list->free = NULL;
    list->used = list->capacity + 1;
}

mi_page_t *mi_guest_make(mi_theap_t *theap, uint8_t far_class) {
    if (theap->guests == NULL)
        theap->guests = (mi_page_t *)mi_meta_alloc(MI_GUEST_LISTS * sizeof(mi_page_t));
    if (theap->guests == NULL)
        return NULL;
    mi_page_t *const list = &theap->guests[far_class];
    const bool is_long = (far_class >= MI_GUEST_LONG);
    const bool is_exact = (far_class >= (is_long ? MI_GUEST_LONG + MI_LONG_KINDS : MI_GUEST_EXACT));
    const uint32_t plain =
        is_long ? mi_guest_long_class(far_class) : far_class - (is_exact ? MI_GUEST_EXACT : 0);
    const size_t bytes = mi_class_bytes(plain);
    const size_t batch = MI_BATCH_BYTES / bytes;
    list->hidden = (uint16_t)(batch > MI_BATCH_MAX ? MI_BATCH_MAX : batch);
    list->class_index = (uint16_t)(plain + (is_exact ? MI_CLASS_EXACT : 0));
    list->state = MI_PAGE_GUESTS;
    list->recip = mi_page_reciprocal(bytes);
    list->block_bytes = bytes; // from now on it is a list
    guest_reset(theap, list);
    return list;
}

mi_page_t *mi_guest_serve(mi_theap_t *theap, uint32_t class_index) {
    if (MI_LIKELY(theap->guests == NULL))
        return NULL;
    mi_page_t *const list = &theap->guests[mi_guest_class(class_index)];
    if (MI_UNLIKELY(list->capacity == 0 && list->block_bytes != 0))
        guest_reset(theap, list);
    if (list->free == NULL ||
        (mi_guest_held(list) < MI_GUEST_LEAST && list->block_bytes <= MI_GUEST_LEAST_BYTES))
        return NULL;
    const uint32_t top = guest_count(MI_GUEST_TOP_BYTES, list->block_bytes);
    const uint32_t left = top - list->capacity;
    const uint32_t more = (list->capacity < left ? list->capacity : left);
    list->capacity += more;
    list->used += more;
    return list;
}

// Shall mi_free_step leave the thread's own blocks to mi_guest_free? Until the next turn.
static void guest_turn(mi_theap_t *theap) {
    const bool is_many = (theap->far_count >= MI_FAR_TURNS / MI_FAR_SHARE);
    theap->free_key = (is_many ? MI_KEY_NOBODY_PLACED : theap->key);
    theap->far_turns = MI_FAR_TURNS;
    theap->far_count = 0;
}

bool mi_guest_free_rarely(mi_theap_t *theap, mi_page_t *page, mi_block_t *block, bool is_far) {
    if (theap->far_turns == 0)
        guest_turn(theap);
    if (!is_far) {
        mi_page_t *const list =
            (page->far_class == 0 ? NULL : mi_guest_list(theap, page->far_class));
        return (list != NULL && mi_guest_put(list, block)) || mi_guest_put(page, block);
    }
    if (page->far_class == 0)
        return false;
    // The list is full as a rule, and always for a thread that only frees.
    if (!mi_remote_hold_try(theap, page, block, theap->guests[page->far_class].hidden))
        mi_remote_free(theap, page, block);
    return true;
}

bool mi_guest_keep(mi_theap_t *theap, mi_page_t *page) {
    if (mi_guest_long(page->class_index) == MI_GUEST_LISTS)
        return false;
    if (mi_page_is_narrow(page)) // it served a class of shorter pages
        mi_page_widen(page);
    const uint32_t number = mi_guest_long(page->class_index);
    mi_page_t *const list =
        (number < MI_GUEST_LISTS ? mi_guest_list(theap, (uint8_t)number) : NULL);
    if (list == NULL || (page->is_bare && list->free != NULL))
        return false;
    if (list->used <= 1) {
        if (theap->long_bytes + list->block_bytes > theap->long_max)
            return false;
        list->capacity++;
        list->used++;
        theap->long_bytes += list->block_bytes;
        mi_theap_serve_list(theap, list);
    }
    return mi_guest_put_long(list, page);
}

mi_block_t *mi_guest_drain(mi_theap_t *theap, uint32_t *at, bool all) {
    for (; theap->guests != NULL && *at < MI_GUEST_LISTS; ++*at) {
        mi_page_t *const list = &theap->guests[*at];
        mi_block_t *const first = list->free;
        if (list->block_bytes == 0 ||
            (!all && *at < MI_GUEST_LONG && list->capacity > guest_first(list)))
            continue;
        guest_reset(theap, list);
        if (first != NULL)
            return first;
    }
    return NULL;
}
