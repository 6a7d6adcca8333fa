// Thread heaps, and the questions about the default heap. A thread heap names its heap: allocation
// goes through the heap's part of the calling thread.
#include "mimalloc.h"

#include "base/base.h"
#include "core/alloc.h"
#include "core/heap.h"
#include "entry/entry.h"

mi_theap_t *mi_heap_theap(mi_heap_t *heap) {
    if (!mi_load_acquire(&mi_entry_is_ready))
        mi_entry_init();
    if (heap == NULL)
        return NULL;
    mi_theap_t *const theap = mi_heap_thread_part(heap);
    return theap != NULL ? theap : mi_no_memory(sizeof(*theap));
}

void mi_theap_collect(mi_theap_t *theap, bool force) mi_attr_noexcept {
    if (theap != NULL)
        mi_heap_collect(mi_theap_heap(theap), force);
}

// NULL is what mi_theap_get_default says when memory is short: then the allocation tries once more,
// as mi_malloc would.
static mi_heap_t *theap_heap(mi_theap_t *theap) {
    return theap == NULL ? NULL : mi_theap_heap(theap);
}

void *mi_theap_malloc(mi_theap_t *theap, size_t size) mi_attr_noexcept {
    return mi_heap_malloc(theap_heap(theap), size);
}

void *mi_theap_zalloc(mi_theap_t *theap, size_t size) mi_attr_noexcept {
    return mi_heap_zalloc(theap_heap(theap), size);
}

void *mi_theap_calloc(mi_theap_t *theap, size_t count, size_t size) mi_attr_noexcept {
    return mi_heap_calloc(theap_heap(theap), count, size);
}

void *mi_theap_malloc_small(mi_theap_t *theap, size_t size) mi_attr_noexcept {
    return mi_heap_malloc_small(theap_heap(theap), size);
}

void *mi_theap_zalloc_small(mi_theap_t *theap, size_t size) mi_attr_noexcept {
    return mi_heap_zalloc_small(theap_heap(theap), size);
}

void *mi_theap_malloc_aligned(mi_theap_t *theap, size_t size, size_t alignment) mi_attr_noexcept {
    return mi_heap_malloc_aligned(theap_heap(theap), size, alignment);
}

void *mi_theap_realloc(mi_theap_t *theap, void *p, size_t newsize) mi_attr_noexcept {
    return mi_heap_realloc(theap_heap(theap), p, newsize);
}

// ---- the calling thread's default ----

mi_heap_t *mi_heap_get_default(void) {
    return mi_core_default_heap();
}

mi_heap_t *mi_heap_set_default(mi_heap_t *heap) {
    mi_heap_t *const before = mi_core_default_heap();
    if (heap != NULL && heap != before)
        (void)mi_core_set_default_heap(heap);
    return before;
}

mi_theap_t *mi_theap_get_default(void) {
    return mi_heap_theap(mi_core_default_heap());
}

mi_theap_t *mi_theap_set_default(mi_theap_t *theap) {
    mi_theap_t *const before = mi_theap_get_default();
    if (theap != NULL)
        (void)mi_heap_set_default(mi_theap_heap(theap));
    return before;
}

// ---- sub-processes: each is a heap, its identity is the heap's address ----

static mi_heap_t *subproc_heap(mi_subproc_id_t subproc) {
    return (mi_heap_t *)(void *)subproc;
}

static mi_subproc_id_t subproc_of(mi_heap_t *heap) {
    return (mi_subproc_id_t)(void *)heap;
}

mi_subproc_id_t mi_subproc_main(void) {
    return subproc_of(mi_core_heap_main());
}

mi_subproc_id_t mi_subproc_current(void) {
    return subproc_of(mi_core_heap_subproc(mi_core_default_heap()));
}

mi_subproc_id_t mi_subproc_new(void) {
    if (!mi_load_acquire(&mi_entry_is_ready))
        mi_entry_init();
    mi_heap_t *const heap = mi_core_subproc_new();
    return subproc_of(heap != NULL ? heap : mi_no_memory(sizeof(*heap)));
}

void mi_subproc_delete(mi_subproc_id_t subproc) {
    mi_heap_delete(subproc_heap(subproc));
}

void mi_subproc_destroy(mi_subproc_id_t subproc) {
    mi_heap_destroy(subproc_heap(subproc));
}

void mi_subproc_add_current_thread(mi_subproc_id_t subproc) {
    if (subproc != NULL)
        (void)mi_core_set_default_heap(subproc_heap(subproc));
}

bool mi_subproc_visit_heaps(mi_subproc_id_t subproc, mi_heap_visit_fun *visitor, void *arg) {
    if (subproc == NULL || visitor == NULL)
        return false;
    mi_heap_t *const own = subproc_heap(subproc);
    if (!visitor(own, arg))
        return false;
    for (mi_heap_t *h = NULL; (h = mi_core_heap_before(h, own)) != NULL;)
        if (h != own && !visitor(h, arg))
            return false;
    return true;
}
