// Lists of thread heaps without a thread, and theft from them. Who takes one off a list owns it
// until it is put back.
#include "core/orphan.h"

#include "core/heap.h"
#include "core/life.h"
#include "core/lock.h"
#include "core/remote.h"

static _Atomic(uint64_t) orphan_stolen;

void mi_orphan_put(mi_theap_t *theap) {
    mi_heap_t *const heap = mi_theap_heap(theap);
    mi_store_relaxed(&theap->state, (uint32_t)MI_THEAP_ORPHAN);
    mi_store_relaxed(&theap->thread_id, (uintptr_t)0);
    theap->list_next = NULL;
    if (heap->orphan_last != NULL)
        heap->orphan_last->list_next = theap;
    else
        heap->orphan_first = theap;
    heap->orphan_last = theap;
    mi_fetch_add_relaxed(&heap->orphan_count, 1u);
}

mi_theap_t *mi_orphan_claim(mi_heap_t *heap) {
    mi_theap_t *const theap = heap->orphan_first;
    if (theap == NULL)
        return NULL;
    heap->orphan_first = theap->list_next;
    if (heap->orphan_first == NULL)
        heap->orphan_last = NULL;
    mi_fetch_sub_relaxed(&heap->orphan_count, 1u);
    return theap;
}

void mi_orphan_leave(mi_theap_t *theap) {
    if (mi_theap_pages(theap) == 0)
        mi_life_pool_put(theap);
    else
        mi_orphan_put(theap);
}

// One without pages is recycled: nobody would look for its guests then.
static void orphan_empty(mi_theap_t *theap) {
    if (mi_theap_pages(theap) == 0)
        mi_remote_flush(theap, true);
}

void mi_orphan_tidy(mi_theap_t *theap, bool all) {
    mi_remote_flush(theap, all);
    mi_remote_collect(theap);
    mi_theap_trim(theap, false);
    orphan_empty(theap);
}

// Done with a claimed one.
static void orphan_return(mi_theap_t *theap) {
    mi_lock(&mi_life_lock);
    mi_orphan_leave(theap);
    mi_unlock(&mi_life_lock);
}

// A page of the class that has a free block or can link one.
static mi_page_t *orphan_find(mi_theap_t *orphan, uint32_t class_index) {
    mi_page_t *const current = orphan->current[class_index];
    if (current->state == MI_PAGE_CURRENT && current->class_index == class_index &&
        (current->free != NULL || current->capacity < current->reserved))
        return current;
    return orphan->queue[mi_class_queue(class_index)].first;
}

// Claims one when that takes no waiting; NULL = there is none, or it would.
MI_INLINE mi_theap_t *orphan_next(mi_heap_t *heap) {
    if (mi_load_relaxed(&heap->orphan_count) == 0 || !mi_lock_try(&mi_life_lock))
        return NULL;
    mi_theap_t *const orphan = mi_orphan_claim(heap);
    mi_unlock(&mi_life_lock);
    return orphan;
}

mi_page_t *mi_orphan_steal(mi_theap_t *theap, uint32_t class_index) {
    mi_theap_t *const orphan = (mi_config(never_steal) ? NULL : orphan_next(mi_theap_heap(theap)));
    if (orphan == NULL)
        return NULL;
    mi_remote_collect(orphan);
    mi_page_t *const page = orphan_find(orphan, class_index);
    if (page != NULL) {
        mi_theap_detach(orphan, page);
        mi_theap_attach(theap, page);
        // The last look at the orphan's stack comes after the change of hands: see
        // mi_remote_push_pending.
        mi_remote_collect(orphan);
        mi_fetch_add_relaxed(&orphan_stolen, 1);
    }
    mi_theap_trim(orphan, true);
    orphan_empty(orphan);
    orphan_return(orphan);
    return page;
}

void mi_orphan_look(mi_heap_t *heap) {
    mi_theap_t *const orphan = orphan_next(heap);
    if (orphan == NULL)
        return;
    mi_orphan_tidy(orphan, true);
    orphan_return(orphan);
}

bool mi_orphan_visit(mi_heap_t *heap, mi_orphan_visit_fn visit, void *arg) {
    const uint32_t count = mi_load_relaxed(&heap->orphan_count);
    bool go_on = true;
    for (uint32_t i = 0; i < count && go_on; i++) {
        mi_lock(&mi_life_lock);
        mi_theap_t *const orphan = mi_orphan_claim(heap);
        mi_unlock(&mi_life_lock);
        if (orphan == NULL)
            break;
        go_on = visit(orphan, arg);
        orphan_return(orphan);
    }
    return go_on;
}

static bool orphan_flush(mi_theap_t *orphan, void *arg) {
    (void)arg;
    mi_remote_flush(orphan, true);
    return true;
}

static bool orphan_reap(mi_theap_t *orphan, void *arg) {
    (void)arg;
    mi_remote_collect(orphan);
    mi_theap_trim(orphan, true);
    orphan_empty(orphan);
    return true;
}

// All let go of the others' blocks before any is asked which pages are empty.
void mi_orphan_collect(mi_heap_t *heap) {
    (void)mi_orphan_visit(heap, orphan_flush, NULL);
    (void)mi_orphan_visit(heap, orphan_reap, NULL);
}

uint64_t mi_orphan_stolen_count(void) {
    return mi_load_relaxed(&orphan_stolen);
}
