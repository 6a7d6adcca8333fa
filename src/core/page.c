// Founding, linking and releasing pages. A page belongs to its owner's thread; the lock here guards
// only the list of pages with own reservations and the pool of their structs.
#include "core/page.h"

#include "core/arena.h"
#include "core/arena_head.h"
#include "core/exact.h"
#include "core/guest.h"
#include "core/harden.h"
#include "core/heap.h"
#include "core/limits.h"
#include "core/lock.h"
#include "core/meta.h"
#include "core/remote.h"
#include "core/theap.h"
#include "os/os.h"

static mi_lock_t page_lock;       // guards the two lists
static mi_page_t *page_own_first; // pages with own reservations, linked by next and prev
static mi_page_t *page_pool;      // unused structs for them, linked by next
static _Atomic(uint64_t) page_huge_made;
static _Atomic(uintptr_t) page_own_region; // what hidden pages with own reservations lie around
#define PAGE_OWN_REACH     ((uint64_t)2 * MI_GiB) // to both sides of it, as a rule
#define PAGE_OWN_REACH_MAX ((uint64_t)16 * MI_GiB)

static mi_page_t *page_struct_new(void) {
    mi_lock(&page_lock);
    mi_page_t *page = page_pool;
    if (page != NULL)
        page_pool = page->next;
    mi_unlock(&page_lock);
    return page != NULL ? page : (mi_page_t *)mi_meta_alloc(sizeof(mi_page_t));
}

static void page_struct_free(mi_page_t *page) {
    mi_lock(&page_lock);
    page->next = page_pool;
    page_pool = page;
    mi_unlock(&page_lock);
}

// Where the last blocks with reservations of their own were, for whoever frees one of them again.
// Under the lock. Only the checking builds ask.
#define PAGE_GONE (MI_DEBUG || MI_SECURE ? 64u : 1u)
static uintptr_t page_gone[PAGE_GONE];
static uint32_t page_gone_count;

static void page_note_gone(const uint8_t *start) {
    if (MI_DEBUG || MI_SECURE)
        page_gone[page_gone_count++ % PAGE_GONE] = (uintptr_t)start;
}

bool mi_page_had_own(const void *p) {
    bool had = false;
    mi_lock(&page_lock);
    for (size_t i = 0; i < PAGE_GONE; i++)
        had |= (p != NULL && page_gone[i] == (uintptr_t)p);
    mi_unlock(&page_lock);
    return had && !mi_os_is_mapped(p); // else it is somebody else's by now
}

static void page_own_link(mi_page_t *page) {
    mi_lock(&page_lock);
    page->prev = NULL;
    page->next = page_own_first;
    if (page_own_first != NULL)
        page_own_first->prev = page;
    page_own_first = page;
    mi_unlock(&page_lock);
}

static void page_own_unlink(mi_page_t *page) {
    mi_lock(&page_lock);
    page_note_gone(page->start);
    if (page->next != NULL)
        page->next->prev = page->prev;
    if (page->prev != NULL)
        page->prev->next = page->next;
    else
        page_own_first = page->next;
    mi_unlock(&page_lock);
    page_struct_free(page);
}

bool mi_page_visit_own(mi_page_visit_fn visit, void *arg) {
    bool go_on = true;
    mi_lock(&page_lock);
    for (mi_page_t *page = page_own_first; page != NULL && go_on; page = page->next)
        go_on = visit(page, arg);
    mi_unlock(&page_lock);
    return go_on;
}

bool mi_page_try_visit_own(mi_page_visit_fn visit, void *arg) {
    if (!mi_lock_try(&page_lock))
        return false;
    for (mi_page_t *page = page_own_first; page != NULL; page = page->next)
        if (mi_load_acquire(&page->theap) != NULL) // with page_found; before, it holds no block
            (void)visit(page, arg);
    mi_unlock(&page_lock);
    return true;
}

// Where the next block with a reservation of its own shall be. Somewhere in a region that nobody
// can foresee, and as a rule not all over the reach of arenas: each new place touches a part of the
// page map, and a block that grows comes to many (8 MiB more of RSS in a second of doublings).
static uintptr_t page_own_hint(size_t bytes) {
    const uint64_t reach = (bytes < PAGE_OWN_REACH / 16 ? PAGE_OWN_REACH : (uint64_t)bytes * 16);
    uintptr_t region = mi_load_relaxed(&page_own_region);
    if (!MI_SECURE || reach > PAGE_OWN_REACH_MAX)
        return mi_arena_hint();
    if (region == 0) {
        region = mi_arena_hint();
        mi_store_relaxed(&page_own_region, region); // of two threads that come first, either's
    }
    return mi_hidden_address(region, reach);
}

// Address space of its own for one block. The struct comes from the pool.
static bool page_reserve_own(mi_span_t *span, size_t slices, size_t align) {
    const size_t bytes = slices << MI_SLICE_SHIFT;
    bool is_zero = true;
    const size_t limit = mi_config(reserve_limit);
    if (mi_config(never_use_os) || (limit != 0 && bytes > limit))
        return false;
    mi_page_t *const page = page_struct_new();
    if (page == NULL)
        return false;
    uint8_t *const start = (uint8_t *)mi_os_reserve_at(
        page_own_hint(bytes), bytes, align > MI_SLICE_BYTES ? align : MI_SLICE_BYTES);
    if (start != NULL && mi_os_needs_commit() && mi_os_commit(start, bytes, &is_zero) != 0) {
        mi_os_release(start, bytes);
        goto fail;
    }
    if (start == NULL)
        goto fail;
    span->start = start;
    span->slices = slices;
    span->arena = NULL;
    span->page = page;
    span->is_zero = true;
    if (MI_SECURE)
        (void)mi_os_guard(start + bytes - MI_GUARD_BYTES, MI_GUARD_BYTES);
    return true;
fail:
    page_struct_free(page);
    return false;
}

static void page_span_free(mi_page_t *page, bool is_purged) {
    if (page->arena != NULL) {
        if (is_purged)
            mi_arena_free_purged(page->arena, page->start, page->slices);
        else
            mi_arena_free(page->arena, page->start, page->slices);
        return;
    }
    mi_page_set_guard(page, false); // the system counts guards
    mi_os_release(page->start, (size_t)page->slices << MI_SLICE_SHIFT);
    page_own_unlink(page);
}

// The marks and the key of a new page.
static void page_harden(mi_page_t *page, mi_theap_t *theap) {
#if MI_SECURE
    // Whatever address of the page is asked for, its mark is one of the page's.
    const size_t last = mi_page_block_index(page, ((size_t)page->slices << MI_SLICE_SHIFT) - 1);
    page->marks = (last < MI_MARKS_NEAR
                       ? page->near_marks
                       : mi_arena_marks(page->arena, page, page->block_bytes >= MI_MARKS_DENSE));
    mi_store_relaxed(&page->near_marks[0], (uint8_t)MI_MARK_NONE); // page_forget leaves it live
    page->far_marks = page->marks;
    // A list of one block has no link that could lead elsewhere.
    page->link_key =
        (uintptr_t)(page->reserved == 1 ? ~(uint64_t)0 : mi_secret_next(&theap->secrets));
    page->far_link_key = page->link_key;
#else
    (void)page;
    (void)theap;
#endif
}

// What a page of this class looks like, before any block is linked.
static void page_describe(mi_page_t *page, mi_theap_t *theap, const mi_span_t *span,
                          uint32_t class_index, size_t block_bytes) {
    const size_t span_bytes = (span->slices << MI_SLICE_SHIFT) - MI_GUARD_BYTES;
    const bool is_shared = (mi_class_plain(class_index) <= MI_CLASS_SHARED);
    page->free = NULL;
    page->used = 1;
    page->hidden = 0;
    page->capacity = 0;
    page->block_bytes = (class_index == MI_CLASS_HUGE ? span_bytes : block_bytes);
    page->class_index = (uint16_t)class_index;
    page->state = MI_PAGE_CURRENT;
    page->is_zero = (span->is_zero ? 1 : 0);
    page->is_bare = false;
    page->start = span->start;
    page->recip = (is_shared ? mi_page_reciprocal(block_bytes) : 1);
    page->far_recip = page->recip;
    page->far_start = (uint32_t)((uintptr_t)span->start >> MI_SLICE_SHIFT);
    page->arena = span->arena;
    page->slices = (uint32_t)span->slices;
    const size_t for_blocks =
        mi_exact_describe(page, class_index >= MI_CLASS_EXACT, is_shared, span_bytes);
    page->reserved = (uint16_t)(is_shared ? for_blocks / block_bytes : 1);
    if (MI_SECURE)
        page_harden(page, theap);
    mi_store_relaxed(&page->remote, NULL);
}

// By whoever owns the thread heap, or has claimed it; others only read.
static void page_count_add(mi_theap_t *theap, ptrdiff_t change) {
    mi_store_relaxed(&theap->page_count, mi_load_relaxed(&theap->page_count) + (size_t)change);
}

static uintptr_t page_key(const mi_theap_t *theap) {
    return theap->key == MI_KEY_NOBODY_PLACED ? MI_KEY_NONE : theap->key;
}

// Enters a page in the map. Where it holds one block, only the first slice may take the fast path
// of free: a pointer into the middle of a large block is found out that way.
static bool page_map_enter(mi_page_t *page, uintptr_t key) {
    if (page->reserved > 1 || page->slices == 1)
        return mi_page_map_set(page->start, page->slices, page, key);
    return mi_page_map_set(page->start + MI_SLICE_BYTES, page->slices - 1, page, MI_KEY_NONE) &&
           mi_page_map_set(page->start, 1, page, key);
}

// Another heap may be destroyed while a thread holds back blocks of it.
static void page_set_far_class(mi_page_t *page, const mi_theap_t *theap) {
    const bool is_main = (mi_theap_heap(theap) == mi_core_heap_main());
    page->far_class = (uint8_t)(is_main ? mi_guest_class(page->class_index) : 0);
}

// Founds a page on a span, which is given back when that fails.
static mi_page_t *page_found(mi_theap_t *theap, const mi_span_t *span, uint32_t class_index,
                             size_t block_bytes) {
    mi_page_t *const page = span->page;
    page_describe(page, theap, span, class_index, block_bytes);
    page_set_far_class(page, theap);
    if (page->arena == NULL)
        page_own_link(page);
    mi_page_set_owner_fast(page, theap);
    mi_store_release(&page->theap, theap); // with the acquires of page->theap
    if (!page_map_enter(page, page_key(theap))) {
        mi_page_map_clear(page->start, page->slices);
        mi_store_relaxed(&page->theap, NULL);
        page_span_free(page, false);
        return NULL;
    }
    page_count_add(theap, 1);
    mi_store_relaxed(&theap->page_total, mi_load_relaxed(&theap->page_total) + 1);
    if (class_index == MI_CLASS_HUGE)
        mi_fetch_add_relaxed(&page_huge_made, 1);
    return page;
}

static size_t page_huge_slices(size_t bytes) {
    return (bytes + MI_GUARD_BYTES + MI_SLICE_BYTES - 1) >> MI_SLICE_SHIFT;
}

// A class that fills one page after the other gets longer ones, so that page events stay rare, and
// guards that are made with system calls; not where room is short.
static size_t page_class_slices(const mi_theap_t *theap, uint32_t class_index, size_t block_bytes) {
    const size_t usual = mi_class_slices(block_bytes);
    const uint32_t plain = mi_class_plain(class_index);
    const mi_page_t *const last = theap->current[class_index];
    if (plain <= MI_CLASS_ONE_SLICE || plain > MI_CLASS_SHARED || last->state != MI_PAGE_CURRENT ||
        mi_heap_arena(mi_theap_heap(theap)) != NULL)
        return usual;
    const size_t for_guard = (MI_GUARD_BYTES != 0 ? 1 : 0);
    const size_t twice = (last->slices - for_guard) * 2;
    const size_t longer = (twice < MI_WIDE_MOST ? twice : MI_WIDE_MOST) + for_guard;
    return longer > usual ? longer : usual;
}

mi_page_t *mi_page_new(mi_theap_t *theap, uint32_t class_index, size_t block_bytes, size_t align) {
    const size_t slices =
        (class_index == MI_CLASS_HUGE ? page_huge_slices(block_bytes)
                                      : page_class_slices(theap, class_index, block_bytes));
    const size_t align_slices = (align > MI_SLICE_BYTES ? align >> MI_SLICE_SHIFT : 1);
    const mi_heap_t *const heap = mi_theap_heap(theap);
    mi_arena_t *const only = mi_heap_arena(heap);
    mi_span_t span;
    if (slices > UINT32_MAX)
        return NULL;
    bool is_good = false;
    // Blocks up to MI_CLASSED_MAX share the arenas, whatever the limit.
    if (class_index != MI_CLASS_HUGE || slices <= mi_config(span_max) >> MI_SLICE_SHIFT ||
        only != NULL || mi_config(never_use_os))
        is_good = mi_arena_alloc(&span, slices, align_slices, heap);
    if (!is_good &&
        (only != NULL || class_index != MI_CLASS_HUGE || !page_reserve_own(&span, slices, align)))
        return NULL;
    return page_found(theap, &span, class_index, block_bytes);
}

mi_page_t *mi_page_new_own(mi_theap_t *theap, size_t bytes) {
    mi_span_t span;
    if (mi_heap_arena(mi_theap_heap(theap)) != NULL || bytes >> MI_SLICE_SHIFT >= UINT32_MAX)
        return NULL;
    if (!page_reserve_own(&span, page_huge_slices(bytes), MI_SLICE_BYTES))
        return NULL;
    return page_found(theap, &span, MI_CLASS_HUGE, bytes);
}

// Slices of a span for a growing block that needs this many. Where a guard ends it, it holds
// addresses to grow into, which nothing touches: a guard that moves is two system calls, and the
// page that it covered comes in anew; and again when the next block grows there. Only of arenas
// that exist: none is made for it. Not where room is short or would be committed.
static size_t page_roomy_slices(size_t slices, bool is_apart) {
    if (!MI_SECURE || !MI_IS_64BIT || is_apart || mi_config(reserve_limit) != 0 ||
        mi_os_needs_commit())
        return slices;
    return slices + MI_GROWTH_ROOM;
}

// What a block of so many bytes may use of its slices without asking again: half of it more, or one
// that grows to less than half of its slices would seem to shrink.
static size_t page_roomy_bytes(size_t slices, size_t bytes) {
    const size_t most = (slices << MI_SLICE_SHIFT) - MI_GUARD_BYTES;
    const size_t more = mi_align_up(bytes + bytes / 2, 4 * MI_KiB);
    return !MI_SECURE && more < most ? more : most;
}

mi_page_t *mi_page_new_roomy(mi_theap_t *theap, size_t bytes) {
    mi_span_t span;
    const mi_heap_t *const heap = mi_theap_heap(theap);
    const size_t slices = page_huge_slices(bytes);
    const size_t roomy = page_roomy_slices(slices, mi_heap_arena(heap) != NULL);
    if (bytes > mi_config(span_max) ||
        (!mi_arena_alloc(&span, roomy, 0, heap) &&
         (roomy == slices || !mi_arena_alloc(&span, slices, 0, heap))))
        return NULL;
    mi_page_t *const page = page_found(theap, &span, MI_CLASS_HUGE, bytes);
    if (page != NULL)
        page->block_bytes = page_roomy_bytes(slices, bytes);
    return page;
}

void mi_page_rebind(mi_page_t *page, uint32_t class_index) {
    const size_t touched = mi_page_touched(page);
    const bool is_zero = page->is_zero;
    const mi_span_t span = {page->start, page->slices, page->arena, page, is_zero};
    MI_ASSERT(page->used == 0 && page->reserved > 1 && mi_load_relaxed(&page->remote) == NULL);
    MI_ASSERT(!mi_page_has_interior(page));
    mi_theap_t *const theap = mi_load_relaxed(&page->theap);
    mi_marks_fill(page, 0, page->capacity, MI_MARK_NONE);
    mi_exact_forget(page);
    page_describe(page, theap, &span, class_index, mi_class_bytes(mi_class_plain(class_index)));
    page_set_far_class(page, theap);
    page->extent = (uint32_t)touched;
}

void mi_page_widen(mi_page_t *page) {
    const size_t bytes = ((size_t)page->slices << MI_SLICE_SHIFT) - MI_GUARD_BYTES;
    const uint32_t plain = mi_class_plain(page->class_index);
    const uint32_t most = mi_class_of(bytes + 1) - 1;
    mi_page_set_class(page, page->class_index - plain + most, mi_class_bytes(most));
}

// What stands for a whole block begins at a quarter of it, since programs fill blocks from the
// front, or here and there, and is a quarter at most. Returns how much of it is in memory; SIZE_MAX
// = unknown, or it cannot be given back.
static size_t page_sample(const mi_page_t *page, uint8_t **start, size_t *bytes) {
    const size_t quarter = mi_align_down(page->block_bytes / 4, mi_os_page_bytes());
    *start = page->start + quarter;
    *bytes = (quarter < MI_SAMPLE_MOST ? quarter : MI_SAMPLE_MOST);
    if (page->arena != NULL && !mi_arena_is_own(page->arena))
        return SIZE_MAX; // a purge might not make it zero
    return mi_os_resident(*start, *bytes);
}

bool mi_page_is_sparse(const mi_page_t *page) {
    uint8_t *start;
    size_t bytes;
    const size_t resident = page_sample(page, &start, &bytes);
    return resident < bytes / 4;
}

static bool page_is_blank(const uint8_t *start, size_t bytes) {
    const uint64_t *const words = (const uint64_t *)(const void *)start;
    uint64_t sum = 0;
    for (size_t i = 0; i < bytes / sizeof(words[0]) && sum == 0; i += 4)
        sum = words[i] | words[i + 1] | words[i + 2] | words[i + 3];
    return sum == 0;
}

// Was most of a bare page's block never written? Then little of it is in memory, or the program has
// read it: where it did so the OS has mapped its one page of zeros, which it counts like any other,
// so some are looked at. Who writes there next would have a second fault, which interrupts every
// processor that runs one of our threads: such memory is better given back. A reservation of its
// own is not asked about, which goes back in any case.
static MI_NOINLINE bool page_is_unwritten(const mi_page_t *page) {
    const size_t os_page = mi_os_page_bytes();
    uint8_t *start;
    size_t bytes;
    if (page->arena == NULL || mi_config(purge_delay_ms) < 0)
        return false;
    const size_t resident = page_sample(page, &start, &bytes);
    if (resident == SIZE_MAX)
        return false;
    if (resident < bytes / 4)
        return true;
    const size_t step = mi_align_up(bytes / MI_BARE_LOOKS, os_page);
    size_t looked = 0, blank = 0;
    for (size_t at = 0; at < bytes; at += step, looked++)
        blank += page_is_blank(start + at, os_page);
    return blank * 2 > looked;
}

// What it is to its thread heap is the caller's to say.
static void page_give_back(mi_page_t *page, bool is_purged) {
    mi_store_release(&page->theap, NULL); // with the acquires of page->theap
    mi_page_map_clear(page->start, page->slices);
    page->state = MI_PAGE_FREE;
    mi_marks_fill(page, 0, page->capacity, MI_MARK_NONE);
    page_span_free(page, is_purged);
}

void mi_page_release(mi_page_t *page) {
    page_count_add(mi_load_relaxed(&page->theap), -1);
    page_give_back(page, page->is_bare && page_is_unwritten(page));
}

bool mi_page_release_bare(mi_page_t *page) {
    page->is_bare = false;
    if (!page_is_unwritten(page))
        return false;
    page_count_add(mi_load_relaxed(&page->theap), -1);
    page_give_back(page, true);
    return true;
}

void mi_page_release_far(mi_page_t *page) {
    mi_theap_t *const owner = mi_load_relaxed(&page->theap);
    page_give_back(page, page->is_bare && page_is_unwritten(page));
    // The last that is done to the owner, which may be recycled then. With mi_theap_pages.
    mi_fetch_add_release(&owner->far_released, (size_t)1);
}

void mi_page_park(mi_page_t *page) {
    mi_page_map_clear(page->start, page->slices);
    page_count_add(mi_load_relaxed(&page->theap), -1);
    mi_store_release(&page->theap, NULL); // with the acquires of page->theap
    mi_page_set_owner_fast(page, NULL);
}

bool mi_page_unpark(mi_page_t *page, mi_theap_t *theap) {
    mi_page_set_owner_fast(page, NULL);
    page->next = NULL;
    page->prev = NULL;
    page->pending_next = NULL;
    mi_store_relaxed(&page->remote, NULL);
    mi_store_release(&page->theap, theap); // with the acquires of page->theap
    if (!page_map_enter(page, MI_KEY_NONE)) {
        mi_page_map_clear(page->start, page->slices);
        return false;
    }
    page_count_add(theap, 1);
    return true;
}

void mi_page_forget(mi_page_t *page) {
    page_count_add(mi_load_relaxed(&page->theap), -1);
    mi_store_release(&page->theap, NULL); // with the acquires of page->theap
    page->state = MI_PAGE_FREE;
    page_own_unlink(page);
}

// The span of a huge page becomes longer, where it stands.
static bool page_extend_span(mi_page_t *page, size_t more, bool *is_zero) {
    uint8_t *const end = page->start + ((size_t)page->slices << MI_SLICE_SHIFT);
    if (page->slices + more > UINT32_MAX ||
        !mi_arena_extend(page->arena, page->start, page->slices, more, is_zero))
        return false;
    if (!mi_page_map_set(end, more, page, MI_KEY_NONE)) {
        mi_arena_free(page->arena, end, more);
        return false;
    }
    page->slices += (uint32_t)more;
    *is_zero &= !MI_SECURE; // what the guard covered may be dirty
    return true;
}

bool mi_page_grow(mi_page_t *page, size_t more, bool *is_zero) {
    if (page->arena == NULL || page->class_index != MI_CLASS_HUGE)
        return false;
    const size_t had = page_huge_slices(page->block_bytes);
    const size_t needed = had + more;
    const bool is_whole = (had == page->slices);
    *is_zero = false;
    if (needed > page->slices) {
        const size_t roomy = page_roomy_slices(needed, mi_arena_stays_apart(page->arena));
        if ((roomy == needed || !page_extend_span(page, roomy - page->slices, is_zero)) &&
            !page_extend_span(page, needed - page->slices, is_zero))
            return false;
    }
    *is_zero &= is_whole;
    page->block_bytes = (needed << MI_SLICE_SHIFT) - MI_GUARD_BYTES;
    return true;
}

bool mi_page_stretch(mi_page_t *page, size_t bytes) {
    if (page->class_index != MI_CLASS_HUGE || page->arena == NULL || MI_SECURE ||
        bytes > (size_t)page->slices << MI_SLICE_SHIFT)
        return false;
    page->block_bytes = page_roomy_bytes(page->slices, bytes);
    return true;
}

bool mi_page_may_grow(const mi_page_t *page, size_t more) {
    return page->arena != NULL && mi_arena_may_extend(page->arena, page->start, page->slices, more);
}

bool mi_page_cut(mi_page_t *page, size_t bytes) {
    const size_t kept = page_huge_slices(bytes);
    const size_t cut = page->slices - kept;
    if (page->class_index != MI_CLASS_HUGE || page->arena == NULL || MI_SECURE ||
        kept > page->slices)
        return false;
    page->block_bytes = page_roomy_bytes(kept, bytes);
    page->is_bare = false;
    if (cut == 0)
        return true;
    uint8_t *const end = page->start + (kept << MI_SLICE_SHIFT);
    mi_page_map_clear(end, cut); // before somebody else enters a page there
    page->slices = (uint32_t)kept;
    mi_arena_free(page->arena, end, cut);
    return true;
}

void mi_page_set_guard(mi_page_t *page, bool is_on) {
    if (!MI_SECURE)
        return;
    if (page->arena != NULL) {
        mi_arena_set_guard(page->arena, page->start, page->slices, is_on);
        return;
    }
    uint8_t *const end = page->start + ((size_t)page->slices << MI_SLICE_SHIFT);
    (void)(is_on ? mi_os_guard(end - MI_GUARD_BYTES, MI_GUARD_BYTES)
                 : mi_os_unguard(end - MI_GUARD_BYTES, MI_GUARD_BYTES));
}

void mi_page_set_owner(mi_page_t *page, mi_theap_t *theap) {
    const bool is_slow = mi_page_has_interior(page);
    page_count_add(mi_load_relaxed(&page->theap), -1);
    page_count_add(theap, 1);
    mi_page_set_owner_fast(page, is_slow ? NULL : theap);
    mi_store_release(&page->theap, theap); // with the acquires of page->theap
    (void)page_map_enter(page, is_slow ? MI_KEY_NONE : page_key(theap));
}

void mi_page_set_interior(mi_page_t *page) {
    if (mi_page_has_interior(page))
        return;
    mi_page_set_trait(page, MI_PAGE_HAS_INTERIOR);
    mi_page_set_owner_fast(page, NULL);
    (void)mi_page_map_set(page->start, page->slices, page, MI_KEY_NONE);
}

// The numbers below count in an order that nobody can foresee, every one as likely as any other
// (Fisher and Yates). The number of each choice is a digit of the random number.
static void page_shuffle(uint64_t random, uint8_t *order, uint32_t count) {
    uint64_t digits = random;
    order[0] = 0;
    for (uint32_t i = 1; i < count; i++) {
        const uint32_t at = (uint32_t)mi_mul_high64(digits, i + 1);
        digits *= i + 1;
        if (i % 8 == 0) { // eight digits of a byte are all that it holds
            random = (random ^ (random >> 30)) * 0xBF58476D1CE4E5B9ull + 1;
            digits = random;
        }
        order[i] = order[at];
        order[at] = (uint8_t)i;
    }
}

// The same for up to 16 numbers, each four bits of a register: loads from where something was just
// stored, or not, are foreseen wrongly by the processor, and each time all after them starts anew.
static uint64_t page_shuffle_few(uint64_t random, uint32_t count) {
    uint64_t order = 0;
    for (uint64_t i = 1; i < count; i++) { // 16! is less than 2^64: the digits suffice
        const uint32_t at = 4 * (uint32_t)mi_mul_high64(random, i + 1);
        random *= i + 1;
        const uint64_t moved = (order >> at) & 15;
        order |= moved << (4 * i);
        order ^= (moved ^ i) << at;
    }
    return order;
}

// Links fresh blocks in random order; returns the first.
static uint8_t *page_link_shuffled(mi_page_t *page, uint8_t *start, uint32_t count) {
    const size_t step = page->block_bytes;
    // Its owner's secrets: an extension is made by the owner.
    const uint64_t random = mi_secret_next(&mi_load_relaxed(&page->theap)->secrets);
    uint8_t order[MI_EXTEND_BYTES / MI_GRANULE_BYTES];
    mi_block_t *next = NULL;
    if (count <= 16) {
        // The lines of large blocks share few sets of the caches, so they are far away, and come
        // while the order is found.
        for (uint32_t i = 0; i < count && step > MI_SLICE_BYTES / 4; i++)
            __builtin_prefetch(start + i * step, 1);
        uint64_t few = page_shuffle_few(random, count);
        for (; count > 0; count--, few >>= 4) {
            mi_block_t *const block = (mi_block_t *)(start + (few & 15) * step);
            mi_block_set_next(page, block, next);
            next = block;
        }
        return (uint8_t *)next;
    }
    page_shuffle(random, order, count);
    while (count-- > 0) {
        mi_block_t *const block = (mi_block_t *)(start + order[count] * step);
        mi_block_set_next(page, block, next);
        next = block;
    }
    return (uint8_t *)next;
}

// A page grows by 4 KiB of blocks: as much memory as one fault brings in anyway. When its memory
// was used before, it is there already, and eight blocks cost no more faults than one.
static uint32_t page_extend_count(const mi_page_t *page, size_t warm) {
    const size_t step = page->block_bytes;
    const uint32_t left = page->reserved - page->capacity;
    uint32_t count = (uint32_t)(MI_EXTEND_BYTES / step);
    if (count < 8 && warm > step)
        count = (warm < 8 * step ? (uint32_t)(warm / step) : 8);
    count = (count == 0 ? 1 : count);
    return count > left ? left : count;
}

// What a page fault costs depends on the machine: half a microsecond, or fourteen where a virtual
// machine runs without the processor's help for its page tables (one inside another, as a rule),
// while a call that brings in several OS pages costs little more than to clear them. The first ones
// of a thread heap that is no longer small are timed; one that was fast settles it.
enum { PAGE_FAULTS_SLOW = MI_AHEAD_LOOKS, PAGE_FAULTS_FAST }; // less: so many were slow
static _Atomic(uint8_t) page_faults;

static void page_time_fault(uint8_t *untouched) {
    const uint64_t start = mi_os_clock_ns();
    *(volatile uint8_t *)untouched = 0;
    const bool is_slow = mi_os_clock_ns() - start >= mi_config(fault_ns);
    const uint8_t kind = mi_load_relaxed(&page_faults);
    if (kind < PAGE_FAULTS_SLOW) // several threads may do so: one look is lost then
        mi_store_relaxed(&page_faults, (uint8_t)(is_slow ? kind + 1 : PAGE_FAULTS_FAST));
}

// bytes from this offset on will be linked, and nobody has used them. Where page faults are slow
// they come in as parts of a slice, each when the first byte of it is wanted. A part never reaches
// into the next slice, which would be memory that nobody knows of when the page goes back. Not
// inlined: the code that small processes run has to fit into 64 KiB.
static MI_NOINLINE void page_bring_in(const mi_page_t *page, size_t at, size_t bytes,
                                      size_t pages) {
    const size_t os_page = mi_os_page_bytes();
    const uint8_t kind = mi_load_relaxed(&page_faults);
    const size_t part = (pages < 16 * MI_AHEAD_PAGES ? MI_SLICE_BYTES / 4 : MI_SLICE_BYTES);
    if (kind < PAGE_FAULTS_SLOW) {
        const size_t first = mi_align_up(at, os_page);
        if (first < at + bytes)
            page_time_fault(page->start + first);
        return;
    }
    const size_t first = mi_align_up(at, part);
    const size_t most = ((size_t)page->slices << MI_SLICE_SHIFT) - MI_GUARD_BYTES;
    size_t end = mi_align_up(at + bytes, part);
    end = (end < most ? end : most);
    if (first < at + bytes && end - first > os_page &&
        mi_os_populate(page->start + first, end - first) != 0)
        mi_store_relaxed(&page_faults, (uint8_t)PAGE_FAULTS_FAST); // not here
}

bool mi_page_extend(mi_page_t *page) {
    MI_ASSERT(page->free == NULL && page->capacity < page->reserved);
    const size_t step = page->block_bytes;
    const size_t at = page->capacity * step;
    const size_t end = (size_t)page->slices << MI_SLICE_SHIFT;
    const size_t used_end = (!page->is_zero ? end : page->reserved > 1 ? page->extent : 0);
    const uint32_t count = page_extend_count(page, used_end > at ? used_end - at : 0);
    uint8_t *first = page->start + page->capacity * step;
    if (used_end <= at && mi_load_relaxed(&page_faults) != PAGE_FAULTS_FAST &&
        step <= MI_SLICE_BYTES / 8) {
        const size_t pages = mi_theap_pages(mi_load_relaxed(&page->theap));
        if (pages >= MI_AHEAD_PAGES)
            page_bring_in(page, at, count * step, pages);
    }
    if (MI_SECURE && count > 1) {
        first = page_link_shuffled(page, first, count);
    } else {
        uint8_t *const last = first + (count - 1) * step;
        for (uint8_t *p = first; p < last; p += step)
            mi_block_set_next(page, (mi_block_t *)p, (mi_block_t *)(p + step));
        mi_block_set_next(page, (mi_block_t *)last, NULL);
    }
    mi_marks_fill(page, page->capacity, count, MI_MARK_FREE);
    page->free = (mi_block_t *)first;
    page->capacity += count;
    return used_end <= at && count == 1;
}

void mi_page_fill(mi_page_t *page) {
    page->capacity = 1;
    page->state = MI_PAGE_FULL; // used is 1: the block
    mi_marks_fill(page, 0, 1, MI_MARK_LIVE);
    mi_remote_open(page);
}

bool mi_page_is_valid(const mi_page_t *page) {
    uint32_t free_count = 0;
    for (const mi_block_t *b = page->free; b != NULL; b = mi_block_next(page, b)) {
        const size_t offset = (size_t)((const uint8_t *)b - page->start);
        if (offset != mi_page_block_index(page, offset) * page->block_bytes)
            return false;
        if (++free_count > page->capacity)
            return false;
    }
    return free_count + mi_page_live(page) == page->capacity && page->capacity <= page->reserved;
}

void mi_page_stats(mi_core_stats_t *stats) {
    stats->huge_count = mi_load_relaxed(&page_huge_made);
}

void mi_page_fork_prepare(void) {
    mi_lock(&page_lock);
}

void mi_page_fork_done(void) {
    mi_unlock(&page_lock);
}
