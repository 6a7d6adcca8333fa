// First-class heaps: allocation from a given heap. A block of another heap is resized by moving it.
#include "mimalloc.h"

#include "base/base.h"
#include "core/alloc.h"
#include "core/arena.h"
#include "core/harden.h"
#include "core/heap.h"
#include "core/page_map.h"
#include "core/theap.h"
#include "entry/entry.h"
#include "entry/guarded.h"
#include "entry/request.h"
#include "os/os.h"

void *mi_heap_malloc(mi_heap_t *heap, size_t size) mi_attr_noexcept {
    return mi_request_alloc(&(mi_request_t){heap, size, 1, 0, 0});
}

void *mi_heap_zalloc(mi_heap_t *heap, size_t size) mi_attr_noexcept {
    return mi_request_alloc(&(mi_request_t){heap, size, 1, 0, MI_REALLOC_ZERO});
}

void *mi_heap_malloc_small(mi_heap_t *heap, size_t size) mi_attr_noexcept {
    return mi_request_alloc(&(mi_request_t){heap, size, 1, 0, 0});
}

void *mi_heap_zalloc_small(mi_heap_t *heap, size_t size) mi_attr_noexcept {
    return mi_request_alloc(&(mi_request_t){heap, size, 1, 0, MI_REALLOC_ZERO});
}

void *mi_heap_calloc(mi_heap_t *heap, size_t count, size_t size) mi_attr_noexcept {
    return mi_request_alloc(
        &(mi_request_t){heap, mi_request_bytes(count, size), 1, 0, MI_REALLOC_ZERO});
}

void *mi_heap_mallocn(mi_heap_t *heap, size_t count, size_t size) mi_attr_noexcept {
    return mi_request_alloc(&(mi_request_t){heap, mi_request_bytes(count, size), 1, 0, 0});
}

void *mi_heap_realloc(mi_heap_t *heap, void *p, size_t newsize) mi_attr_noexcept {
    return mi_request_realloc(p, &(mi_request_t){heap, newsize, 1, 0, 0});
}

void *mi_heap_reallocn(mi_heap_t *heap, void *p, size_t count, size_t size) mi_attr_noexcept {
    return mi_request_realloc(p, &(mi_request_t){heap, mi_request_bytes(count, size), 1, 0, 0});
}

void *mi_heap_reallocf(mi_heap_t *heap, void *p, size_t newsize) mi_attr_noexcept {
    void *q = mi_heap_realloc(heap, p, newsize);
    if (MI_UNLIKELY(q == NULL && p != NULL))
        mi_free(p);
    return q;
}

void *mi_heap_rezalloc(mi_heap_t *heap, void *p, size_t newsize) mi_attr_noexcept {
    return mi_request_realloc(p, &(mi_request_t){heap, newsize, 1, 0, MI_REALLOC_ZERO});
}

void *mi_heap_recalloc(mi_heap_t *heap, void *p, size_t newcount, size_t size) mi_attr_noexcept {
    return mi_request_realloc(
        p, &(mi_request_t){heap, mi_request_bytes(newcount, size), 1, 0, MI_REALLOC_ZERO});
}

void *mi_heap_malloc_aligned(mi_heap_t *heap, size_t size, size_t alignment) mi_attr_noexcept {
    return mi_request_alloc(&(mi_request_t){heap, size, alignment, 0, 0});
}

void *mi_heap_malloc_aligned_at(mi_heap_t *heap, size_t size, size_t alignment,
                                size_t offset) mi_attr_noexcept {
    return mi_request_alloc(&(mi_request_t){heap, size, alignment, offset, 0});
}

void *mi_heap_zalloc_aligned(mi_heap_t *heap, size_t size, size_t alignment) mi_attr_noexcept {
    return mi_request_alloc(&(mi_request_t){heap, size, alignment, 0, MI_REALLOC_ZERO});
}

void *mi_heap_zalloc_aligned_at(mi_heap_t *heap, size_t size, size_t alignment,
                                size_t offset) mi_attr_noexcept {
    return mi_request_alloc(&(mi_request_t){heap, size, alignment, offset, MI_REALLOC_ZERO});
}

void *mi_heap_calloc_aligned(mi_heap_t *heap, size_t count, size_t size,
                             size_t alignment) mi_attr_noexcept {
    return mi_request_alloc(
        &(mi_request_t){heap, mi_request_bytes(count, size), alignment, 0, MI_REALLOC_ZERO});
}

void *mi_heap_calloc_aligned_at(mi_heap_t *heap, size_t count, size_t size, size_t alignment,
                                size_t offset) mi_attr_noexcept {
    return mi_request_alloc(
        &(mi_request_t){heap, mi_request_bytes(count, size), alignment, offset, MI_REALLOC_ZERO});
}

void *mi_heap_realloc_aligned(mi_heap_t *heap, void *p, size_t newsize,
                              size_t alignment) mi_attr_noexcept {
    return mi_request_realloc(p, &(mi_request_t){heap, newsize, alignment, 0, 0});
}

void *mi_heap_realloc_aligned_at(mi_heap_t *heap, void *p, size_t newsize, size_t alignment,
                                 size_t offset) mi_attr_noexcept {
    return mi_request_realloc(p, &(mi_request_t){heap, newsize, alignment, offset, 0});
}

void *mi_heap_rezalloc_aligned(mi_heap_t *heap, void *p, size_t newsize,
                               size_t alignment) mi_attr_noexcept {
    return mi_request_realloc(p, &(mi_request_t){heap, newsize, alignment, 0, MI_REALLOC_ZERO});
}

void *mi_heap_rezalloc_aligned_at(mi_heap_t *heap, void *p, size_t newsize, size_t alignment,
                                  size_t offset) mi_attr_noexcept {
    return mi_request_realloc(p,
                              &(mi_request_t){heap, newsize, alignment, offset, MI_REALLOC_ZERO});
}

void *mi_heap_recalloc_aligned(mi_heap_t *heap, void *p, size_t newcount, size_t size,
                               size_t alignment) mi_attr_noexcept {
    return mi_request_realloc(
        p, &(mi_request_t){heap, mi_request_bytes(newcount, size), alignment, 0, MI_REALLOC_ZERO});
}

void *mi_heap_recalloc_aligned_at(mi_heap_t *heap, void *p, size_t newcount, size_t size,
                                  size_t alignment, size_t offset) mi_attr_noexcept {
    return mi_request_realloc(p, &(mi_request_t){heap, mi_request_bytes(newcount, size), alignment,
                                                 offset, MI_REALLOC_ZERO});
}

// ---- life and questions ----

mi_heap_t *mi_heap_new(void) {
    if (!mi_load_acquire(&mi_entry_is_ready))
        mi_entry_init();
    mi_heap_t *const heap = mi_core_heap_new();
    return heap != NULL ? heap : mi_no_memory(sizeof(*heap));
}

void mi_heap_delete(mi_heap_t *heap) {
    if (heap == NULL || heap == mi_core_heap_main())
        return;
    if (heap == mi_core_default_heap())
        (void)mi_core_set_default_heap(mi_core_heap_main());
    mi_core_heap_delete(heap);
}

void mi_heap_destroy(mi_heap_t *heap) {
    if (heap == NULL || heap == mi_core_heap_main())
        return;
    if (heap == mi_core_default_heap())
        (void)mi_core_set_default_heap(mi_core_heap_main());
    mi_guarded_release_heap(heap);
    mi_core_heap_destroy(heap);
}

void mi_heap_collect(mi_heap_t *heap, bool force) {
    (void)heap; // the core collects the calling thread's part of every heap at once
    mi_core_collect(force);
}

mi_heap_t *mi_heap_main(void) {
    return mi_core_heap_main();
}

mi_heap_t *mi_heap_of(const void *p) {
    return mi_core_heap_of(p);
}

bool mi_heap_contains(const mi_heap_t *heap, const void *p) {
    return heap != NULL && mi_core_heap_of(p) == heap;
}

bool mi_any_heap_contains(const void *p) {
    return mi_core_contains(p);
}

bool mi_heap_contains_block(mi_heap_t *heap, const void *p) {
    return mi_heap_contains(heap, p);
}

bool mi_heap_check_owned(mi_heap_t *heap, const void *p) {
    return mi_heap_contains(heap, p);
}

bool mi_check_owned(const void *p) {
    return mi_heap_contains(mi_heap_get_default(), p);
}

bool mi_unsafe_heap_page_is_under_utilized(mi_heap_t *heap, void *p,
                                           size_t perc_threshold) mi_attr_noexcept {
    const mi_page_t *const page = mi_page_map_find(p);
    if (heap == NULL || page == NULL || mi_core_heap_of(p) != heap ||
        page->state == MI_PAGE_CURRENT || page->reserved <= 1)
        return false;
    return (uint64_t)mi_page_live(page) * 100 <= (uint64_t)perc_threshold * page->reserved;
}

mi_heap_t *mi_heap_get_backing(void) {
    return mi_core_heap_main();
}

// The walk of the core with the public form of an area.
typedef struct visit_s {
    mi_block_visit_fun *visitor;
    void *arg;
} visit_t;

static bool visit_one(const mi_heap_t *heap, const mi_core_area_t *area, void *block,
                      size_t block_bytes, void *arg) {
    const visit_t *visit = arg;
    mi_damage_t damage;
    if (MI_DEBUG && block != NULL && mi_core_damage(block, &damage))
        mi_report_pointer(MI_FREE_CORRUPT, block, "visit");
    const mi_heap_area_t public_area = {.blocks = area->start,
                                        .reserved = area->bytes,
                                        .committed = area->committed,
                                        .used = area->used,
                                        .block_size = area->block_bytes - MI_PAD_BYTES,
                                        .full_block_size = area->block_bytes,
                                        .reserved1 = NULL};
    if (block != NULL)
        block = mi_guarded_within(block, &block_bytes);
    return visit->visitor(heap, &public_area, block, block_bytes, visit->arg);
}

bool mi_heap_visit_blocks(mi_heap_t *heap, bool visit_blocks, mi_block_visit_fun *visitor,
                          void *arg) {
    if (heap == NULL || visitor == NULL)
        return false;
    visit_t visit = {visitor, arg};
    return mi_core_heap_visit(heap, visit_blocks, visit_one, &visit);
}

bool mi_heap_visit_abandoned_blocks(mi_heap_t *heap, bool visit_blocks, mi_block_visit_fun *visitor,
                                    void *arg) {
    if (heap == NULL || visitor == NULL)
        return false;
    visit_t visit = {visitor, arg};
    return mi_core_heap_visit_left(heap, visit_blocks, visit_one, &visit);
}

bool mi_abandoned_visit_blocks(mi_subproc_id_t subproc_id, int heap_tag, bool visit_blocks,
                               mi_block_visit_fun *visitor, void *arg) {
    (void)heap_tag;
    mi_heap_t *const own = (mi_heap_t *)(void *)subproc_id;
    if (!mi_heap_visit_abandoned_blocks(own, visit_blocks, visitor, arg))
        return false;
    for (mi_heap_t *h = NULL; (h = mi_core_heap_before(h, own)) != NULL;)
        if (h != own && !mi_heap_visit_abandoned_blocks(h, visit_blocks, visitor, arg))
            return false;
    return true;
}

void mi_heap_set_numa_affinity(mi_heap_t *heap, int numa_node) {
    const int nodes = (int)mi_arena_node_count();
    if (heap != NULL)
        heap->node_plus_1 = (numa_node < 0 ? 0 : numa_node % nodes + 1);
}
