// First-class heaps: making, finding a thread's part, deleting, destroying. Lists and states are
// under the life lock.
#include "core/heap.h"

#include "core/arena.h"
#include "core/life.h"
#include "core/meta.h"
#include "core/orphan.h"
#include "core/remote.h"

mi_heap_t mi_heap_main_state;
// What deleted heaps of exclusive arenas have left: to the outside it is the main heap's, but
// nothing is allocated from it.
static mi_heap_t heap_left = {.arena = NULL};
static _Atomic(uint64_t) heap_next_id = 1;
static _Atomic(uint64_t) heap_count = 1;
static mi_heap_t *heap_pool; // unused structs, under the life lock
static mi_heap_t *heap_last; // the last struct made; none is ever given back; under the life lock

mi_heap_t *mi_core_heap_main(void) {
    return &mi_heap_main_state;
}

uint64_t mi_heap_count(void) {
    return mi_load_relaxed(&heap_count);
}

mi_heap_t *mi_core_heap_new_in_arena(void *arena) {
    mi_orphan_collect(&heap_left);
    mi_heap_t *const home = (arena == NULL ? NULL : mi_arena_home((mi_arena_t *)arena, NULL));
    if (home != NULL)
        return home; // it has the blocks of a reloaded arena
    mi_heap_t *const current = mi_core_default_heap();
    mi_lock(&mi_life_lock);
    mi_heap_t *heap = heap_pool;
    if (heap != NULL) {
        heap_pool = heap->next;
    } else {
        heap = (mi_heap_t *)mi_meta_alloc(sizeof(mi_heap_t));
        if (heap != NULL) {
            heap->made_before = heap_last;
            heap_last = heap;
        }
    }
    if (heap != NULL) {
        heap->subproc = current->subproc;
        heap->id = mi_fetch_add_relaxed(&heap_next_id, 1);
        heap->arena = (mi_arena_t *)arena;
        heap->next = NULL;
        mi_fetch_add_relaxed(&heap_count, 1);
    }
    mi_unlock(&mi_life_lock);
    return heap;
}

mi_heap_t *mi_core_heap_new(void) {
    return mi_core_heap_new_in_arena(NULL);
}

mi_heap_t *mi_core_subproc_new(void) {
    mi_heap_t *const heap = mi_core_heap_new();
    if (heap == NULL)
        return NULL;
    mi_lock(&mi_life_lock);
    heap->subproc = heap;
    mi_unlock(&mi_life_lock);
    return heap;
}

mi_heap_t *mi_core_heap_subproc(const mi_heap_t *heap) {
    mi_lock(&mi_life_lock);
    mi_heap_t *const subproc = heap->subproc;
    mi_unlock(&mi_life_lock);
    return subproc == NULL ? &mi_heap_main_state : subproc;
}

mi_heap_t *mi_core_heap_before(const mi_heap_t *heap, const mi_heap_t *subproc) {
    const mi_heap_t *const wanted = (subproc == &mi_heap_main_state ? NULL : subproc);
    mi_lock(&mi_life_lock);
    mi_heap_t *h = (heap == NULL ? heap_last : heap->made_before);
    while (h != NULL && (h->id == 0 || h->subproc != wanted))
        h = h->made_before;
    mi_unlock(&mi_life_lock);
    return h;
}

// Looks for this thread's thread heap in the heap; NULL = it has none.
static mi_theap_t *heap_find_theap(const mi_heap_t *heap) {
    const uintptr_t self = mi_os_thread_id();
    mi_theap_t *found = NULL;
    mi_lock(&mi_life_lock);
    for (mi_theap_t *t = mi_life_all(); t != NULL && found == NULL; t = t->all_next)
        if (mi_load_relaxed(&t->thread_id) == self && mi_theap_heap(t) == heap)
            found = t;
    mi_unlock(&mi_life_lock);
    return found;
}

mi_theap_t *mi_heap_thread_part(mi_heap_t *heap) {
    mi_theap_t *const main = mi_life_thread();
    if (main == NULL || heap == &mi_heap_main_state)
        return main;
    if (heap == NULL)
        heap = main->default_heap;
    if (MI_LIKELY(heap == NULL))
        return main;
    const size_t slot = heap->id % MI_HEAP_CACHE;
    if (MI_LIKELY(main->heap_cache_id[slot] == heap->id))
        return main->heap_cache[slot];
    mi_theap_t *theap = heap_find_theap(heap);
    if (theap == NULL) {
        theap = mi_life_obtain(heap);
        if (theap == NULL)
            return NULL;
        main->side_count++;
    }
    main->heap_cache_id[slot] = heap->id;
    main->heap_cache[slot] = theap;
    return theap;
}

// The heap struct is free for another heap. The life lock is held.
static void heap_struct_free(mi_heap_t *heap) {
    for (mi_heap_t *h = (heap->subproc == heap ? heap_last : NULL); h != NULL; h = h->made_before)
        if (h->subproc == heap)
            h->subproc = NULL; // its other heaps are the main sub-process' from now on
    heap->subproc = NULL;
    heap->id = 0;
    heap->node_plus_1 = 0;
    heap->orphan_first = NULL;
    heap->orphan_last = NULL;
    mi_store_relaxed(&heap->orphan_count, 0u);
    heap->next = heap_pool;
    heap_pool = heap;
    mi_fetch_sub_relaxed(&heap_count, 1);
}

void mi_core_heap_delete(mi_heap_t *heap) {
    if (heap == NULL || heap == &mi_heap_main_state)
        return;
    mi_heap_t *const heir =
        (heap->arena != NULL && mi_arena_stays_apart(heap->arena) ? &heap_left
                                                                  : &mi_heap_main_state);
    mi_lock(&mi_life_lock);
    for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next) {
        if (mi_theap_heap(t) != heap || mi_load_relaxed(&t->state) == MI_THEAP_UNUSED)
            continue;
        mi_store_relaxed(&t->heap, heir);
        mi_orphan_leave(t);
    }
    heap_struct_free(heap);
    mi_unlock(&mi_life_lock);
}

static bool heap_release_page(mi_page_t *page, void *arg) {
    mi_theap_detach((mi_theap_t *)arg, page);
    mi_page_release(page);
    return true;
}

// Collects one own-reservation page of the thread heap, since it cannot be released under the page
// lock.
typedef struct heap_find_s {
    const mi_theap_t *theap;
    mi_page_t *page;
} heap_find_t;

static bool heap_find_own(mi_page_t *page, void *arg) {
    heap_find_t *const find = (heap_find_t *)arg;
    if (mi_load_acquire(&page->theap) != find->theap) // with mi_page_set_owner
        return true;
    find->page = page;
    return false;
}

// Releases every page, whatever lives in it.
static void heap_empty_theap(mi_theap_t *theap) {
    mi_remote_collect(theap);
    (void)mi_arena_visit_pages(theap, heap_release_page, theap);
    for (;;) {
        heap_find_t find = {theap, NULL};
        (void)mi_page_visit_own(heap_find_own, &find);
        if (find.page == NULL)
            return;
        heap_release_page(find.page, theap);
    }
}

void mi_core_heap_destroy(mi_heap_t *heap) {
    if (heap == NULL || heap == &mi_heap_main_state)
        return;
    for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next)
        if (mi_theap_heap(t) == heap && mi_load_relaxed(&t->state) != MI_THEAP_UNUSED)
            heap_empty_theap(t);
    mi_lock(&mi_life_lock);
    for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next) {
        if (mi_theap_heap(t) != heap || mi_load_relaxed(&t->state) == MI_THEAP_UNUSED)
            continue;
        mi_store_relaxed(&t->heap, &mi_heap_main_state);
        mi_life_pool_put(t);
    }
    heap_struct_free(heap);
    mi_unlock(&mi_life_lock);
}

mi_heap_t *mi_core_heap_of(const void *p) {
    const mi_page_t *const page = mi_page_map_find(p);
    if (page == NULL)
        return NULL;
    const mi_theap_t *const theap = mi_load_acquire(&page->theap); // with mi_page_set_owner
    return theap == NULL ? NULL : mi_heap_public(mi_theap_heap(theap));
}

mi_heap_t *mi_heap_public(mi_heap_t *heap) {
    return heap == &heap_left ? &mi_heap_main_state : heap;
}

bool mi_heap_visit_orphans(mi_heap_t *heap, bool (*visit)(mi_theap_t *orphan, void *arg),
                           void *arg) {
    return mi_orphan_visit(heap, visit, arg) &&
           (heap != &mi_heap_main_state || mi_orphan_visit(&heap_left, visit, arg));
}

void mi_heap_collect_left(void) {
    mi_orphan_collect(&heap_left);
}
