// free and usable size beyond the fast path: what is this pointer, whose is it, is it sound? Any
// thread.
#include "core/alloc_inline.h"
#include "core/arena.h"
#include "core/harden.h"
#include "core/heap.h"
#include "core/ledger.h"
#include "core/life.h"
#include "core/remote.h"
#include "os/os.h"

// A pointer that somebody gave us, and what it turned out to be.
typedef struct free_target_s {
    mi_page_t *page;
    mi_block_t *block; // the start of the block that p lies in
} free_target_t;

static mi_free_result_t free_find(const void *p, free_target_t *t) {
    t->page = mi_page_map_find(p);
    if (MI_UNLIKELY(t->page == NULL)) // the blocks around it may all have been freed
        return (MI_DEBUG || MI_SECURE) && (mi_arena_had_block(p) || mi_page_had_own(p))
                   ? MI_FREE_DOUBLE
                   : MI_FREE_FOREIGN;
    if (MI_LIKELY(mi_page_is_block_start_far(t->page, p))) {
        t->block = (mi_block_t *)p;
        return MI_FREE_OK;
    }
    t->block = (mi_block_t *)mi_page_block_of(t->page, p);
    if (MI_UNLIKELY((const void *)t->block != p) && !mi_page_has_interior(t->page))
        return MI_FREE_INVALID;
    return MI_FREE_OK;
}

// Is it the calling thread's? theap: its thread heap in the main heap. Pages with a far_class are
// that heap's: of these the owner is not asked, whose line would have to be fetched.
static bool free_is_mine(const mi_theap_t *theap, const mi_page_t *page, const mi_theap_t *owner) {
    if (MI_LIKELY(owner == theap))
        return true;
    return page->far_class == 0 && mi_theap_heap(owner) != &mi_heap_main_state &&
           mi_load_relaxed(&owner->thread_id) == mi_os_thread_id();
}

// The calling thread's thread heap in the main heap; NULL = it has none. A thread that never
// allocates but frees what others do gets one when it comes to a page a second time before the
// page's owner has: then its frees go home in batches. Each by itself is an atomic operation on a
// line that the owner, or another such thread, has just written.
static mi_theap_t *free_theap(const mi_page_t *page, const mi_theap_t *owner) {
    mi_theap_t *const theap = mi_theap_real();
    if (MI_LIKELY(theap != NULL) || !mi_remote_is_late(page, owner) || !mi_thread_will_end())
        return theap;
    return mi_life_thread();
}

static mi_free_result_t free_local(mi_theap_t *owner, mi_page_t *page, mi_block_t *block) {
    const size_t offset = (size_t)((uint8_t *)block - page->start);
    if (MI_UNLIKELY(mi_page_block_index(page, offset) >= page->capacity))
        return MI_FREE_INVALID;
    if (MI_UNLIKELY(mi_page_live(page) == 0))
        return MI_FREE_DOUBLE;
    if (!mi_mark_free(page, block))
        return mi_mark_fault(page, block);
    mi_fork_point();
    mi_block_set_next(page, block, page->free);
    mi_fork_point();
    page->free = block;
    mi_fork_point();
    if (--page->used == 0)
        mi_page_used_up(owner, page);
    return MI_FREE_OK;
}

mi_free_result_t mi_core_free(void *p) {
    free_target_t t;
    const mi_free_result_t found = free_find(p, &t);
    if (MI_UNLIKELY(found != MI_FREE_OK))
        return p == NULL ? MI_FREE_OK : found;
    mi_theap_t *const owner = mi_load_acquire(&t.page->theap); // with mi_page_set_owner
    if (MI_UNLIKELY(owner == NULL))
        return MI_FREE_INVALID;
    mi_theap_t *const theap = free_theap(t.page, owner);
    const bool is_mine = free_is_mine(theap, t.page, owner);
    if (MI_DEBUG && is_mine && !mi_block_is_plain(t.page, t.block))
        return MI_FREE_INVALID; // never handed out
    mi_ledger_drop(p);
    const mi_free_result_t closed = mi_pad_close(t.page, t.block);
    if (MI_UNLIKELY(closed != MI_FREE_OK))
        return closed;
    if (is_mine)
        return free_local(owner, t.page, t.block);
    const mi_free_result_t marked = mi_mark_free_far(t.page, t.block);
    if (MI_LIKELY(marked == MI_FREE_OK))
        mi_remote_free(theap, t.page, t.block);
    return marked;
}

size_t mi_core_usable(const void *p, mi_free_result_t *result) {
    free_target_t t;
    mi_free_result_t found = free_find(p, &t);
    if (found == MI_FREE_OK && MI_UNLIKELY(!mi_mark_is_live(t.page, t.block)))
        found = mi_mark_fault(t.page, t.block);
    if (found == MI_FREE_OK && MI_UNLIKELY(mi_pad_is_closed(t.page, t.block)))
        found = MI_FREE_DOUBLE;
    if (result != NULL)
        *result = (p == NULL ? MI_FREE_OK : found);
    if (found != MI_FREE_OK)
        return 0;
    size_t end = mi_pad_end(t.page, t.block);
    const size_t at = (size_t)((const uint8_t *)p - (const uint8_t *)t.block);
    if (MI_UNLIKELY(end > t.page->block_bytes)) { // somebody wrote where the exact size is kept
        if (MI_SECURE && result != NULL)
            *result = MI_FREE_CORRUPT;
        end = (MI_SECURE ? 0 : t.page->block_bytes);
    }
    return end < at ? 0 : end - at;
}

bool mi_core_damage(const void *p, mi_damage_t *damage) {
    free_target_t t;
    if (free_find(p, &t) != MI_FREE_OK || !mi_pad_damage(t.page, t.block, damage))
        return false;
    const size_t at = (size_t)((const uint8_t *)p - (const uint8_t *)t.block);
    damage->size -= (damage->size < at ? damage->size : at);
    damage->first -= (damage->first < at ? damage->first : at);
    return true;
}

// Every redirected function that is given a block asks this first: short for what lies in the
// window.
bool mi_core_contains(const void *p) {
    const uintptr_t index = mi_page_map_place(p) >> MI_SLICE_SHIFT;
    if (MI_LIKELY(index < MI_MAP_WINDOW_SLICES))
        return mi_load_relaxed(&mi_page_map_window[index]) != 0; // nothing behind it is read
    return mi_page_map_find(p) != NULL;
}
