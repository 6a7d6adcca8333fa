// Thread heaps, and the questions about the default heap. A thread heap names its heap: allocation
// goes through the heap's part of the calling thread.
#include "mimalloc.h"

#include "base/base.h"
#include "core/alloc.h"
#include "core/heap.h"
#include "entry/entry.h"

mi_theap_t *mi_heap_theap(mi_heap_t *heap) {
    if (!mi_entry_is_ready)
        mi_entry_init();
    return heap == NULL ? NULL : mi_heap_thread_part(heap);
}

mi_heap_t *mi_theap_heap(mi_theap_t *theap) {
    return theap == NULL ? NULL : theap->heap;
}

void mi_theap_collect(mi_theap_t *theap, bool force) mi_attr_noexcept {
    if (theap != NULL)
        mi_heap_collect(theap->heap, force);
}

void *mi_theap_malloc(mi_theap_t *theap, size_t size) mi_attr_noexcept {
    return mi_heap_malloc(theap->heap, size);
}

void *mi_theap_zalloc(mi_theap_t *theap, size_t size) mi_attr_noexcept {
    return mi_heap_zalloc(theap->heap, size);
}

void *mi_theap_calloc(mi_theap_t *theap, size_t count, size_t size) mi_attr_noexcept {
    return mi_heap_calloc(theap->heap, count, size);
}

void *mi_theap_malloc_small(mi_theap_t *theap, size_t size) mi_attr_noexcept {
    return mi_heap_malloc_small(theap->heap, size);
}

void *mi_theap_zalloc_small(mi_theap_t *theap, size_t size) mi_attr_noexcept {
    return mi_heap_zalloc_small(theap->heap, size);
}

void *mi_theap_malloc_aligned(mi_theap_t *theap, size_t size, size_t alignment) mi_attr_noexcept {
    return mi_heap_malloc_aligned(theap->heap, size, alignment);
}

void *mi_theap_realloc(mi_theap_t *theap, void *p, size_t newsize) mi_attr_noexcept {
    return mi_heap_realloc(theap->heap, p, newsize);
}

mi_heap_t *mi_heap_get_default(void) {
    return mi_core_heap_main();
}

mi_theap_t *mi_theap_get_default(void) {
    return mi_heap_theap(mi_heap_get_default());
}
