// The slow paths of malloc and free, for the thread that owns the thread heap (or has claimed an
// orphan): which page a class allocates from, and which empty pages are kept.
#include "core/theap.h"

#include "core/alloc_inline.h"
#include "core/arena.h"
#include "core/bitmap.h"
#include "core/guest.h"
#include "core/harden.h"
#include "core/limits.h"
#include "core/orphan.h"
#include "core/remote.h"

mi_page_t mi_page_empty = {.state = MI_PAGE_CURRENT};

// ---- Queues ----

static void theap_refine_for(mi_theap_t *theap, uint32_t class_index);

MI_INLINE void theap_home(mi_theap_t *theap, uint32_t class_index) {
    if (MI_UNLIKELY(theap->fineness != MI_CLASS_FINE))
        theap_refine_for(theap, class_index);
    theap->homes[class_index / 64] |= (uint64_t)1 << (class_index % 64);
}

MI_INLINE void queue_push_front_of(mi_page_queue_t *q, mi_page_t *page) {
    page->state = MI_PAGE_AVAILABLE;
    page->prev = NULL;
    page->next = q->first;
    if (q->first != NULL)
        q->first->prev = page;
    else
        q->last = page;
    q->first = page;
}

static void queue_push_front(mi_theap_t *theap, mi_page_t *page) {
    const uint32_t queue = mi_class_queue(page->class_index);
    theap_home(theap, queue);
    queue_push_front_of(&theap->queue[queue], page);
}

static void queue_push_back(mi_theap_t *theap, mi_page_t *page) {
    const uint32_t queue = mi_class_queue(page->class_index);
    theap_home(theap, queue);
    mi_page_queue_t *const q = &theap->queue[queue];
    page->state = MI_PAGE_AVAILABLE;
    page->next = NULL;
    page->prev = q->last;
    if (q->last != NULL)
        q->last->next = page;
    else
        q->first = page;
    q->last = page;
}

// Takes the first page.
MI_INLINE mi_page_t *queue_pop(mi_page_queue_t *q) {
    mi_page_t *const page = q->first;
    mi_page_t *const next = page->next;
    q->first = next;
    if (next != NULL)
        next->prev = NULL;
    else
        q->last = NULL;
    page->next = NULL;
    return page;
}

static void queue_remove(mi_theap_t *theap, mi_page_t *page) {
    mi_page_queue_t *const q = &theap->queue[mi_class_queue(page->class_index)];
    if (page->prev != NULL)
        page->prev->next = page->next;
    else
        q->first = page->next;
    if (page->next != NULL)
        page->next->prev = page->prev;
    else
        q->last = page->prev;
    page->next = NULL;
    page->prev = NULL;
}

// ---- Which page a class allocates from ----

// Makes the page current for the classes that this one serves. Returns the (plain) class before
// them.
static uint32_t theap_serve_others(mi_theap_t *theap, uint32_t class_index, mi_page_t *page) {
    const uint32_t plain = mi_class_plain(class_index);
    uint32_t before = plain - 1;
    for (; mi_class_server(before, theap->fineness) == plain; before--)
        theap->current[class_index - plain + before] = page;
    return before;
}

// Of a class that is among those with a page.
MI_INLINE void theap_serve(mi_theap_t *theap, uint32_t class_index, mi_page_t *page) {
    const bool is_exact = (class_index >= MI_CLASS_EXACT);
    const uint32_t plain = mi_class_plain(class_index);
    theap->current[class_index] = page;
    const uint32_t before = (MI_LIKELY(theap->fineness == MI_CLASS_FINE)
                                 ? plain - 1
                                 : theap_serve_others(theap, class_index, page));
    mi_page_t **const direct = (is_exact ? theap->exact_direct : theap->direct);
    const size_t last = mi_class_bytes(plain) >> MI_GRANULE_SHIFT;
    if (last >= MI_DIRECT_COUNT)
        return;
    // No exact block has the size 0: its callers mean 1, and find out on the slow path; as do those
    // of a size so much too small for the block that one byte does not tell it.
    const size_t next =
        (plain == 1 ? (is_exact ? 1 : 0) : (mi_class_bytes(before) >> MI_GRANULE_SHIFT) + 1);
    const size_t least = (is_exact && last >= MI_EXACT_LARGE >> MI_GRANULE_SHIFT
                              ? last + 2 - ((MI_EXACT_LARGE + 1) >> MI_GRANULE_SHIFT)
                              : 0);
    const size_t first = (next > least ? next : least);
    for (size_t i = first; i <= last; i++)
        direct[i] = page;
}

// What a current page that holds one block counts for. Lists have a limit of their own.
static size_t page_hot(const mi_page_t *page) {
    return page->state == MI_PAGE_GUESTS ? 0 : page->block_bytes;
}

static void theap_set_current(mi_theap_t *theap, uint32_t class_index, mi_page_t *page) {
    if (mi_class_plain(class_index) > MI_CLASS_SHARED)
        theap->hot_bytes += page_hot(page) - page_hot(theap->current[class_index]);
    theap_home(theap, class_index);
    theap_serve(theap, class_index, page);
}

// A page that no thread heap lists any more, since it is full. Worth a visit again when a part
// of it was freed (MI_FULL_SHIFT), so that a program that replaces blocks at random does not take
// the slow path for each.
MI_INLINE void page_wait(const mi_theap_t *theap, mi_page_t *page, uint32_t live) {
    const uint32_t share = page->reserved >> theap->full_shift;
    const uint32_t wait = (share == 0 ? 1 : share > live ? live : share);
    page->state = MI_PAGE_FULL;
    page->used = wait;
    page->hidden = (uint16_t)(live - wait);
}

// The page stops being current: nothing allocates from it any more until it is current again.
static void theap_demote(mi_theap_t *theap, mi_page_t *page) {
    if (page == &mi_page_empty || page->state == MI_PAGE_GUESTS)
        return;
    const uint32_t live = page->used - 1;
    page->used = live;
    if (page->free != NULL || page->capacity < page->reserved) {
        queue_push_back(theap, page);
        if (live == 0)
            mi_theap_retire(theap, page);
        return;
    }
    page_wait(theap, page, live);
    if (page->reserved == 1)
        mi_remote_open(page);
}

static void theap_promote(mi_theap_t *theap, mi_page_t *page) {
    if (page->state == MI_PAGE_AVAILABLE) {
        queue_remove(theap, page);
        if (page->used == 0) {
            theap->empty_bytes -= mi_page_touched(page);
            if (!MI_SECURE && mi_page_is_shuffled(page))
                mi_page_begin_anew(page);
        }
        page->used++;
        page->state = MI_PAGE_CURRENT;
    }
    mi_page_t *const old = theap->current[page->class_index];
    theap_set_current(theap, page->class_index, page);
    theap_demote(theap, old);
}

void mi_theap_serve_list(mi_theap_t *theap, mi_page_t *list) {
    uint32_t first, last;
    mi_class_siblings(list->class_index, &first, &last);
    for (uint32_t c = first; c <= last; c++) {
        mi_page_t *const old = theap->current[c];
        if (old == list)
            continue;
        theap_set_current(theap, c, list);
        theap_demote(theap, old);
    }
}

void mi_theap_make_available(mi_theap_t *theap, mi_page_t *page) {
    queue_push_front(theap, page);
}

void mi_theap_detach(mi_theap_t *theap, mi_page_t *page) {
    if (page->state == MI_PAGE_CURRENT) {
        theap_set_current(theap, page->class_index, &mi_page_empty);
        page->used--;
    } else if (page->state == MI_PAGE_AVAILABLE) {
        queue_remove(theap, page);
        if (page->used == 0)
            theap->empty_bytes -= mi_page_touched(page);
    } else {
        page->used += page->hidden;
        page->hidden = 0;
    }
    page->state = MI_PAGE_FULL;
}

void mi_theap_attach(mi_theap_t *theap, mi_page_t *page) {
    mi_page_set_owner(page, theap);
    if (page->used == 0) {
        theap->empty_bytes += mi_page_touched(page);
        queue_push_back(theap, page);
    } else if (page->free != NULL || page->capacity < page->reserved) {
        queue_push_front(theap, page);
    }
}

bool mi_theap_loosen(mi_theap_t *theap, mi_page_t *page) {
    if (page->class_index == MI_CLASS_HUGE)
        return true;
    if (page->reserved != 1 || page->arena == NULL || mi_load_relaxed(&page->theap) != theap)
        return false;
    const uint32_t was = mi_theap_enter(theap);
    if (page->state == MI_PAGE_CURRENT)
        mi_theap_detach(theap, page);
    mi_page_set_class(page, MI_CLASS_HUGE,
                      ((size_t)page->slices << MI_SLICE_SHIFT) - MI_GUARD_BYTES);
    mi_remote_open(page);
    mi_theap_leave(theap, was);
    return true;
}

// The page of a block that grew is kept for the next, but one only, and a short one.
static bool theap_keeps_roomy(const mi_theap_t *theap, const mi_page_t *page) {
    return !MI_SECURE && !MI_DEBUG && theap->queue[MI_CLASS_HUGE].first == NULL &&
           page->arena != NULL && page->slices <= MI_ROOMY_KEPT &&
           mi_load_relaxed(&page->traits) == 0;
}

// Shall a page without live blocks be kept?
MI_INLINE bool theap_has_room(const mi_theap_t *theap, const mi_page_t *page) {
    const bool is_large = (mi_class_plain(page->class_index) > MI_LONG_LAST);
    return theap->empty_bytes + mi_page_touched(page) <=
               (MI_UNLIKELY(is_large) ? theap->empty_own : theap->empty_max) &&
           (MI_LIKELY(page->class_index != MI_CLASS_HUGE) || theap_keeps_roomy(theap, page));
}

// One with one block, in no list. All that wait with it are empty too: the last that was used is
// next.
MI_INLINE void theap_keep_single(mi_theap_t *theap, mi_page_t *page) {
    if (page->class_index != MI_CLASS_HUGE && mi_page_is_narrow(page))
        mi_page_widen(page);
    theap->empty_bytes += mi_page_touched(page);
    const uint32_t queue = mi_class_queue_single(page->class_index);
    mi_page_queue_t *const q = &theap->queue[queue];
    if (q->first == NULL)
        theap->homes[queue / 64] |= (uint64_t)1 << (queue % 64);
    queue_push_front_of(q, page);
}

void mi_theap_retire(mi_theap_t *theap, mi_page_t *page) {
    MI_ASSERT(page->used == 0 && page->hidden == 0);
    if (page->state == MI_PAGE_AVAILABLE)
        queue_remove(theap, page);
    if (page->is_bare && mi_page_release_bare(page))
        return;
    if (!theap_has_room(theap, page)) {
        mi_page_release(page);
    } else if (page->reserved == 1) {
        theap_keep_single(theap, page);
    } else {
        theap->empty_bytes += mi_page_touched(page);
        queue_push_back(theap, page);
    }
}

// Single-block pages are kept while they are current, for pairs of malloc and free without a slow
// path. Here is their limit.
static void theap_bound_hot(mi_theap_t *theap, uint32_t class_kept) {
    if (theap->hot_bytes == page_hot(theap->current[class_kept]))
        return; // it is the only one, as a rule
    for (uint32_t i = 2 * MI_CLASS_LAST + 1;
         i > 2 * MI_CLASS_SHARED + 1 && theap->hot_bytes > MI_HOT_MAX;
         i--) { // the largest first, the two of a size in turn
        const uint32_t c = i / 2 + (i % 2) * MI_CLASS_EXACT;
        mi_page_t *const page = theap->current[c];
        if (c == class_kept || page == &mi_page_empty || page->state == MI_PAGE_GUESTS)
            continue;
        theap_set_current(theap, c, &mi_page_empty);
        theap_demote(theap, page);
    }
}

// ---- The slow path of malloc ----

// Most slow paths do not look at the clock.
MI_INLINE void theap_tick(mi_theap_t *theap) {
    const uint32_t tick = mi_load_relaxed(&theap->tick) + 1;
    if (MI_UNLIKELY((tick & mi_config(tick_mask)) == 0))
        mi_theap_tick(theap);
    else
        mi_store_relaxed(&theap->tick, tick);
}

// ---- Pages that change their class ----
// A page without live blocks serves another class that needs a page of the same length: its memory
// is there, and need not be touched anew. A few classes in turn would exchange one page for ever;
// so a class that lost its page a moment ago, and again and again, founds one.

// The idle page of a class; NULL = it has none.
MI_INLINE mi_page_t *theap_idle_page(mi_theap_t *theap, uint32_t class_index) {
    mi_page_t *const current = theap->current[class_index];
    if (current->used == 1 && current->state == MI_PAGE_CURRENT)
        return current;
    mi_page_t *const last = theap->queue[class_index].last;
    if (last == NULL && current == &mi_page_empty)
        theap->homes[class_index / 64] &= ~((uint64_t)1 << (class_index % 64));
    return last != NULL && last->used == 0 ? last : NULL;
}

// The idle page of the highest of these classes that has one; bit 0 stands for class first.
static mi_page_t *theap_idle_of(mi_theap_t *theap, uint32_t first, uint64_t classes) {
    while (classes != 0) {
        const uint32_t bit = 63 - (uint32_t)mi_clz64(classes);
        mi_page_t *const page = theap_idle_page(theap, first + bit);
        if (page != NULL && !mi_page_has_interior(page))
            return page;
        classes ^= (uint64_t)1 << bit;
    }
    return NULL;
}

static bool theap_may_borrow(mi_theap_t *theap, uint32_t plain) {
    const bool is_wide = (mi_class_slices(mi_class_bytes(plain)) > 1);
    const uint32_t since = (uint16_t)(mi_load_relaxed(&theap->tick) - theap->lent_at[plain]);
    if (since >= (is_wide ? MI_LENT_TICKS_WIDE : MI_LENT_TICKS)) {
        theap->lent_soon[plain] = 0;
        return true;
    }
    theap->lent_soon[plain] = (uint8_t)((theap->lent_soon[plain] + 1) % MI_LENT_OFTEN);
    return theap->lent_soon[plain] != 0;
}

// A block that grows leaves classes below this one behind, and will come to those just above: they
// are asked last.
static mi_page_t *theap_borrow(mi_theap_t *theap, uint32_t class_index) {
    const uint32_t plain = mi_class_plain(class_index);
    const uint32_t kind = class_index - plain;
    if (!theap_may_borrow(theap, plain))
        return NULL;
    uint32_t first, last;
    mi_class_siblings(plain, &first, &last);
    const uint64_t homes = mi_bitmap_part(theap->homes, kind + first, last - first + 1);
    const uint64_t own = (uint64_t)1 << (plain - first);
    mi_page_t *page = theap_idle_of(theap, kind + first, homes & (own - 1));
    if (page == NULL)
        page = theap_idle_of(theap, kind + first, homes & ~(own | (own - 1)));
    if (page == NULL)
        return NULL;
    theap->lent_at[mi_class_plain(page->class_index)] = (uint16_t)mi_load_relaxed(&theap->tick);
    mi_theap_detach(theap, page);
    if (page->reserved == 1)
        mi_page_suit(page, class_index);
    else
        mi_page_rebind(page, class_index);
    return page;
}

// ---- Coarse and fine ----
// Each class has pages of its own, and as a rule one of them is not full: in a thread heap of few
// pages that is more memory than blocks that are somewhat too large. So a thread heap begins with
// every fourth class, from MI_CLASS_COARSE_FROM on: the next that it has serves the three others,
// too, its page is their current page. When it has more pages it has every other class, then all.
// What was allocated before stays where it is.

static void theap_refine(mi_theap_t *theap) {
    const uint32_t step = 4u >> theap->fineness++;
    theap->surplus = 0;
    for (uint32_t c = MI_CLASS_COARSE_FROM - 1 + step / 2; c < MI_CLASS_SHARED; c += step) {
        theap_set_current(theap, c, &mi_page_empty);
        theap_set_current(theap, MI_CLASS_EXACT + c, &mi_page_empty);
    }
}

// The class gets a page, of whatever origin.
static MI_NOINLINE void theap_refine_for(mi_theap_t *theap, uint32_t class_index) {
    const uint32_t plain = mi_class_plain(class_index);
    while (mi_class_server(plain, theap->fineness) != plain)
        theap_refine(theap);
}

static MI_NOINLINE uint32_t theap_server_coarse(mi_theap_t *theap, uint32_t class_index) {
    const uint32_t plain = mi_class_plain(class_index);
    if (mi_guest_may_serve(theap, class_index))
        theap_refine_for(theap, class_index); // blocks of that size are at hand
    return class_index - plain + mi_class_server(plain, theap->fineness);
}

// The class whose pages serve this one.
MI_INLINE uint32_t theap_server(mi_theap_t *theap, uint32_t class_index) {
    return MI_LIKELY(theap->fineness == MI_CLASS_FINE) ? class_index
                                                       : theap_server_coarse(theap, class_index);
}

// The class needs a page more for blocks of asked: shall there be more classes? What is counted is
// how much too large the blocks of second and further pages are.
static bool theap_shall_refine(mi_theap_t *theap, uint32_t asked, uint32_t class_index) {
    const mi_page_t *const full = theap->current[class_index];
    const size_t pages = mi_theap_pages(theap);
    if (MI_LIKELY(theap->fineness == MI_CLASS_FINE))
        return false;
    if (asked != class_index && full->state == MI_PAGE_CURRENT && full != &mi_page_empty)
        theap->surplus +=
            (full->block_bytes - mi_class_bytes(mi_class_plain(asked))) * full->reserved;
    return pages >= (theap->fineness == 0 ? MI_HALF_PAGES : MI_FINE_PAGES) ||
           theap->surplus >= MI_COARSE_SURPLUS;
}

// The usual cases of theap_refill, by themselves, since a program that replaces blocks at random
// has them at every fifth: there are guests, or the first page of the queue has free blocks, and
// takes the place of one that has none. NULL = it is another case.
MI_INLINE mi_page_t *theap_next(mi_theap_t *theap, uint32_t class_index) {
    mi_page_t *page = NULL;
    mi_page_t *const old = theap->current[class_index];
    if (mi_load_relaxed(&theap->pending) != NULL)
        return NULL;
    if (mi_guest_may_serve(theap, class_index))
        page = mi_guest_serve(theap, class_index);
    if (page != NULL) {
        theap->homes[class_index / 64] |= (uint64_t)1 << (class_index % 64);
    } else {
        page = theap->queue[class_index].first;
        if (page == NULL || page->free == NULL || page->used == 0)
            return NULL;
        queue_remove(theap, page);
        page->used++;
        page->state = MI_PAGE_CURRENT;
    }
    theap_serve(theap, class_index, page);
    if (MI_LIKELY(old->state == MI_PAGE_CURRENT && old->capacity == old->reserved &&
                  old->free == NULL && old != &mi_page_empty))
        page_wait(theap, old, old->used - 1);
    else
        theap_demote(theap, old);
    return page;
}

static void page_extend(mi_page_t *page, bool *is_zero_opt) {
    const bool is_zero = mi_page_extend(page);
    if (is_zero_opt != NULL)
        *is_zero_opt = is_zero;
}

// The page was just made.
static mi_page_t *theap_made(mi_theap_t *theap, mi_page_t *page) {
    if (page != NULL && page->is_zero &&
        (theap->long_bytes != 0 || theap->empty_bytes > theap->empty_own))
        mi_theap_fresh(theap);
    return page;
}

static mi_page_t *theap_new_page(mi_theap_t *theap, uint32_t class_index) {
    return theap_made(
        theap, mi_page_new(theap, class_index, mi_class_bytes(mi_class_plain(class_index)), 1));
}

// Makes a page current that can serve a block of this class: it has one in its free list.
// *is_zero_opt: as in mi_theap_alloc. NULL = no memory.
static mi_page_t *theap_refill(mi_theap_t *theap, uint32_t asked, bool *is_zero_opt) {
    mi_remote_collect(theap);
    const uint32_t class_index = theap_server(theap, asked);
    mi_page_t *page = theap->current[class_index];
    if (page->free != NULL)
        return page;
    const bool is_done = (page->state == MI_PAGE_GUESTS || page->capacity == page->reserved);
    // Blocks that were used before come first: their memory is there.
    mi_page_t *const guests = mi_guest_serve(theap, class_index);
    mi_page_t *const first = theap->queue[class_index].first;
    if (guests != NULL) {
        page = guests;
    } else if (first != NULL && (first->free != NULL || is_done)) {
        page = first;
    } else if (is_done) {
        page = theap_borrow(theap, class_index);
        if (page == NULL)
            page = mi_orphan_steal(theap, class_index);
        if (page == NULL && asked != class_index)
            page = mi_orphan_steal(theap, asked);
        if (page == NULL && theap_shall_refine(theap, asked, class_index)) {
            theap_refine(theap);
            return theap_refill(theap, asked, is_zero_opt);
        }
        if (page == NULL)
            page = theap_new_page(theap, class_index);
        if (page == NULL)
            return NULL;
    }
    if (page != theap->current[class_index])
        theap_promote(theap, page);
    if (page->free == NULL)
        page_extend(page, is_zero_opt);
    if (theap->hot_bytes > MI_HOT_MAX)
        theap_bound_hot(theap, class_index);
    return page;
}

// ---- Pages with one block ----

// Where empty pages of the length of this class wait, or if there are none, of the next length: the
// end of such a page stays as it is then.
MI_INLINE mi_page_queue_t *theap_waiting(mi_theap_t *theap, uint32_t class_index) {
    const uint32_t queue = mi_class_queue_single(class_index);
    if (MI_LIKELY(theap->queue[queue].first != NULL) || mi_class_plain(queue) >= MI_CLASS_LAST)
        return &theap->queue[queue];
    return &theap->queue[mi_class_queue_single(queue + 1)];
}

// Such a page, in no list any more, is full from now on: its block is handed out next.
MI_INLINE void theap_set_full(mi_theap_t *theap, mi_page_t *page) {
    page->state = MI_PAGE_FULL;
    page->used = 0;
    mi_remote_open_first(theap, page);
}

MI_INLINE void *theap_fill(mi_theap_t *theap, mi_page_t *page) {
    theap_set_full(theap, page);
    void *const p = mi_page_pop(page);
    if (MI_SECURE && p == NULL)
        mi_page_check_list(page);
    return p;
}

// The first page of a queue hands out its block.
MI_INLINE void *theap_take(mi_theap_t *theap, mi_page_queue_t *q, uint32_t class_index,
                           uint32_t plain) {
    mi_page_t *const page = queue_pop(q);
    theap->empty_bytes -= page->block_bytes;
    mi_page_suit_plain(page, class_index, plain);
    return theap_fill(theap, page);
}

// The first page of a queue may hand out its block, full at once, without becoming current: what is
// current stays so, and its line is not touched.
MI_INLINE bool theap_may_take(const mi_theap_t *theap, const mi_page_t *first_opt) {
    return first_opt != NULL && first_opt->free != NULL && mi_load_relaxed(&theap->pending) == NULL;
}

// Does a list serve the class, all the time? Then no page of it becomes current.
MI_INLINE bool theap_has_list(const mi_theap_t *theap, uint32_t class_index) {
    const mi_page_t *const current = theap->current[class_index];
    return current->state == MI_PAGE_GUESTS && current->capacity != 0;
}

// But where one class is wanted again and again, it shall become current now and then, for pairs of
// malloc and free. To be asked once for each page.
MI_INLINE bool theap_shall_promote(mi_theap_t *theap, uint32_t class_index) {
    if (theap_has_list(theap, class_index))
        return false;
    const uint32_t before = theap->single_class;
    theap->single_class = class_index;
    return before == class_index && ++theap->singles % MI_SINGLES == 0;
}

// theap_refill for such a class, whose current page has no free block.
static mi_page_t *theap_refill_single(mi_theap_t *theap, uint32_t class_index, bool *is_zero_opt) {
    mi_page_t *page = theap_waiting(theap, class_index)->first;
    if (page == NULL)
        page = theap_borrow(theap, class_index);
    if (page == NULL)
        page = mi_orphan_steal(theap, class_index);
    if (page == NULL)
        page = theap_new_page(theap, class_index);
    if (page == NULL)
        return NULL;
    if (page->class_index != class_index) {
        mi_theap_detach(theap, page);
        mi_page_suit(page, class_index);
    }
    if (!theap_has_list(theap, class_index)) {
        theap_promote(theap, page);
    } else {
        if (page->state == MI_PAGE_AVAILABLE)
            mi_theap_detach(theap, page);
        theap_set_full(theap, page);
    }
    if (page->free == NULL)
        page_extend(page, is_zero_opt);
    if (MI_UNLIKELY(theap->hot_bytes > MI_HOT_MAX))
        theap_bound_hot(theap, class_index);
    return page;
}

// A block that waits in the list of longer pages; NULL = there is none, or the class is wanted so
// often that it shall get blocks of its own.
static void *theap_take_longer(mi_theap_t *theap, uint32_t class_index) {
    uint32_t number = mi_guest_long(class_index);
    void *p = NULL;
    if (theap->long_bytes == 0 || number == MI_GUEST_LISTS ||
        theap_shall_promote(theap, class_index) || ++theap->longer % MI_LONGER == 0)
        return NULL;
    while (p == NULL && (++number - MI_GUEST_LONG) % MI_LONG_KINDS != 0)
        p = mi_page_pop(&theap->guests[number]);
    if (p != NULL)
        mi_page_shorten(mi_page_map_find(p), mi_class_plain(class_index));
    return p;
}

// A block of such a page, whatever it takes. shall_promote: of one that becomes current.
static MI_NOINLINE void *theap_alloc_single(mi_theap_t *theap, uint32_t class_index,
                                            bool shall_promote, bool *is_zero_opt) {
    const uint32_t was = mi_theap_enter(theap);
    void *p = NULL;
    theap_tick(theap);
    mi_page_queue_t *const q = theap_waiting(theap, class_index);
    const bool may_take = (!shall_promote && theap_may_take(theap, q->first));
    if (may_take && !theap_shall_promote(theap, class_index)) {
        p = theap_take(theap, q, class_index, mi_class_plain(class_index));
    } else {
        mi_remote_collect(theap);
        mi_page_t *page = theap->current[class_index];
        if (page->free == NULL && !shall_promote && !may_take)
            p = theap_take_longer(theap, class_index);
        if (p == NULL && page->free == NULL)
            page = theap_refill_single(theap, class_index, is_zero_opt);
        if (p == NULL && page != NULL)
            p = mi_page_pop(page);
    }
    mi_theap_leave(theap, was);
    return p;
}

// The usual case by itself, a function that needs no frame: one of as many slices waits. Not when
// the clock is due.
static MI_NOINLINE void *theap_alloc_long(mi_theap_t *theap, size_t size, uint32_t exact,
                                          bool *is_zero_opt) {
    const uint32_t plain = mi_class_of_coarse(size);
    const uint32_t class_index = exact + plain;
    mi_page_t *const current = theap->current[class_index];
    void *p = mi_page_pop(current);
    if (p != NULL)
        return p;
    if (MI_SECURE)
        mi_page_check_list(current);
    mi_page_queue_t *const q = &theap->queue[exact + mi_class_queue_plain(plain)];
    const uint32_t tick = mi_load_relaxed(&theap->tick) + 1;
    if (MI_UNLIKELY((tick & mi_config(tick_mask)) == 0 || !theap_may_take(theap, q->first)))
        return theap_alloc_single(theap, class_index, false, is_zero_opt);
    if (MI_UNLIKELY(theap_shall_promote(theap, class_index)))
        return theap_alloc_single(theap, class_index, true, is_zero_opt);
    const uint32_t was = mi_theap_enter(theap);
    mi_store_relaxed(&theap->tick, tick);
    p = theap_take(theap, q, class_index, plain);
    mi_theap_leave(theap, was);
    return p;
}

// Of a class whose pages have several blocks: with a free one. The same.
MI_INLINE mi_page_t *theap_find_page(mi_theap_t *theap, uint32_t class_index, bool *is_zero_opt) {
    mi_page_t *const next = theap_next(theap, theap_server(theap, class_index));
    return next != NULL ? next : theap_refill(theap, class_index, is_zero_opt);
}

// A block of the page that is kept for one that grows; NULL = there is none, or it is too short.
static void *theap_take_roomy(mi_theap_t *theap, size_t size) {
    mi_page_queue_t *const q = &theap->queue[MI_CLASS_HUGE];
    if (q->first == NULL || size > (size_t)q->first->slices << MI_SLICE_SHIFT)
        return NULL;
    mi_page_t *const page = queue_pop(q);
    theap->empty_bytes -= mi_page_touched(page);
    (void)mi_page_stretch(page, size);
    return theap_fill(theap, page);
}

static mi_page_t *theap_new_huge(mi_theap_t *theap, size_t size, bool is_roomy) {
    return theap_made(theap, is_roomy ? mi_page_new_roomy(theap, size)
                                      : mi_page_new(theap, MI_CLASS_HUGE, size, 1));
}

static void *theap_alloc_huge(mi_theap_t *theap, size_t size, bool is_roomy, bool *is_zero_opt) {
    const uint32_t was = mi_theap_enter(theap);
    theap_tick(theap);
    mi_remote_collect(theap);
    void *p = (is_roomy ? theap_take_roomy(theap, size) : NULL);
    mi_page_t *const page = (p == NULL ? theap_new_huge(theap, size, is_roomy) : NULL);
    if (page != NULL) {
        mi_page_fill(page);
        if (is_zero_opt != NULL)
            *is_zero_opt = page->is_zero;
        page->is_zero = false;
        p = page->start;
    }
    mi_theap_leave(theap, was);
    return p;
}

MI_INLINE void *theap_alloc_shared(mi_theap_t *theap, uint32_t class_index, bool *is_zero_opt) {
    void *p = mi_page_pop(theap->current[class_index]);
    if (MI_LIKELY(p != NULL))
        return p;
    if (MI_SECURE)
        mi_page_check_list(theap->current[class_index]);
    const uint32_t was = mi_theap_enter(theap);
    theap_tick(theap);
    mi_page_t *const page = theap_find_page(theap, class_index, is_zero_opt);
    if (page != NULL)
        p = mi_page_pop(page);
    mi_theap_leave(theap, was);
    return p;
}

void *mi_theap_alloc(mi_theap_t *theap, size_t size, uint32_t exact, bool *is_zero_opt) {
    mi_store_relaxed(&theap->malloc_count, mi_load_relaxed(&theap->malloc_count) + 1);
    if (size <= MI_SHARED_MAX)
        return theap_alloc_shared(theap, exact + mi_class_of(size), is_zero_opt);
    if (MI_LIKELY(size <= MI_CLASSED_MAX))
        return theap_alloc_long(theap, size, exact, is_zero_opt);
    return size <= MI_REQUEST_MAX ? theap_alloc_huge(theap, size, false, is_zero_opt) : NULL;
}

void *mi_theap_alloc_roomy(mi_theap_t *theap, size_t size, bool *is_zero_opt) {
    mi_store_relaxed(&theap->malloc_count, mi_load_relaxed(&theap->malloc_count) + 1);
    return theap_alloc_huge(theap, size, true, is_zero_opt);
}

// ---- The slow path of free, and the rest ----

MI_INLINE void theap_used_up(mi_theap_t *theap, mi_page_t *page) {
    if (page->state == MI_PAGE_FULL) {
        page->used = page->hidden;
        page->hidden = 0;
        mi_remote_close(page);
    }
    if (page->used != 0)
        mi_theap_make_available(theap, page);
    else
        mi_theap_retire(theap, page);
}

void mi_theap_used_up(mi_theap_t *theap, mi_page_t *page) {
    theap_used_up(theap, page);
}

static MI_NOINLINE void page_used_up(mi_theap_t *theap, mi_page_t *page) {
    const uint32_t was = mi_theap_enter(theap);
    if (theap->long_max == 0 || !mi_guest_keep(theap, page))
        theap_used_up(theap, page);
    theap_tick(theap);
    mi_theap_leave(theap, was);
}

// The usual cases of long blocks by themselves, without a frame: the block goes into its list, or
// the page is kept and the clock is not due.
void mi_page_used_up(mi_theap_t *theap, mi_page_t *page) {
    const uint32_t number = mi_guest_long(page->class_index);
    if (theap->long_max != 0 && number < MI_GUEST_LISTS) {
        if (theap->guests == NULL || !mi_guest_put_long(&theap->guests[number], page))
            page_used_up(theap, page);
        return;
    }
    const uint32_t tick = mi_load_relaxed(&theap->tick) + 1;
    if (page->reserved != 1 || page->is_bare || page->class_index == MI_CLASS_HUGE ||
        !theap_has_room(theap, page) || (tick & mi_config(tick_mask)) == 0) {
        page_used_up(theap, page);
        return;
    }
    const uint32_t was = mi_theap_enter(theap);
    mi_store_relaxed(&theap->tick, tick);
    mi_remote_close(page);
    theap_keep_single(theap, page);
    mi_theap_leave(theap, was);
}

void mi_theap_reset(mi_theap_t *theap) {
    for (uint32_t c = 0; c < MI_CLASS_TOTAL; c++)
        theap->current[c] = &mi_page_empty;
    for (size_t i = 0; i < MI_DIRECT_COUNT; i++)
        theap->exact_direct[i] = theap->direct[i] = &mi_page_empty;
    theap->empty_own = theap->empty_max = MI_EMPTY_MAX; // until it is bound
    theap->full_shift = MI_FULL_SHIFT;
    theap->long_max = 0;
    theap->real = theap;
}
