// Unloading an exclusive arena, and loading it again: at the same address, in this process or in
// another one of the same build. Its live blocks stay where they are. The caller keeps other
// threads out of the arena's heaps.
#include "core/arena.h"
#include "core/heap.h"
#include "core/life.h"
#include "core/orphan.h"
#include "core/remote.h"
#include "core/theap.h"

// A page of the arena that belongs to no heap of it: such a heap was deleted, its blocks are the
// main heap's now.
static bool unload_is_ours(mi_page_t *page, void *arg) {
    const mi_theap_t *const theap = mi_load_acquire(&page->theap); // with mi_page_set_owner
    return page->arena != (mi_arena_t *)arg || theap == NULL ||
           mi_heap_arena(mi_theap_heap(theap)) == (mi_arena_t *)arg;
}

static bool unload_page(mi_page_t *page, void *arg) {
    mi_theap_detach((mi_theap_t *)arg, page);
    if (page->used == 0)
        mi_page_release(page);
    else
        mi_page_park(page);
    return true;
}

bool mi_core_arena_unload(void *arena, void **base, size_t *accessed, size_t *bytes) {
    mi_arena_t *const a = (mi_arena_t *)arena;
    mi_theap_t *const own = mi_life_thread();
    if (own == NULL || !mi_arena_is_exclusive(a))
        return false;
    mi_remote_flush(own, true);
    if (!mi_arena_visit_pages(NULL, unload_is_ours, a))
        return false;
    for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next) {
        if (mi_load_relaxed(&t->state) == MI_THEAP_UNUSED || mi_heap_arena(mi_theap_heap(t)) != a)
            continue;
        mi_remote_collect(t);
        (void)mi_arena_visit_pages(t, unload_page, t);
    }
    for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next)
        if (mi_heap_arena(mi_theap_heap(t)) == a)
            mi_theap_heap(t)->arena = mi_arena_gone();
    *base = mi_core_arena_area(a, bytes);
    *accessed = mi_arena_withdraw(a);
    return true;
}

static bool reload_page(mi_page_t *page, void *arg) {
    mi_theap_t *const theap = (mi_theap_t *)arg;
    if (page->used == 0 || page->hidden != 0 || !mi_page_unpark(page, theap))
        return false;
    mi_theap_attach(theap, page);
    return true;
}

bool mi_core_arena_reload(void *start, size_t bytes, bool is_zero, void **arena) {
    mi_arena_t *const a = mi_arena_readmit(start, bytes, is_zero);
    *arena = a;
    if (a == NULL)
        return false;
    mi_heap_t *const heap = mi_core_heap_new_in_arena(a);
    mi_theap_t *const theap = (heap == NULL ? NULL : mi_life_obtain(heap));
    if (theap == NULL || !mi_arena_visit_parked(a, reload_page, theap)) {
        *arena = NULL; // the memory stays ours: some of its blocks may be in use
        return false;
    }
    mi_lock(&mi_life_lock);
    mi_orphan_leave(theap);
    mi_unlock(&mi_life_lock);
    (void)mi_arena_home(a, heap);
    return true;
}
