// Visits what a heap holds. The caller keeps other threads out of the heap meanwhile, or they are
// only counted.
#include "core/alloc.h"

#include "core/arena.h"
#include "core/harden.h"
#include "core/heap.h"
#include "core/life.h"
#include "core/remote.h"
#include "os/os.h"

// One bit for each block of a page: is it free? A page has at most 4096 blocks, the smallest class
// in one slice.
#define VISIT_BLOCKS_MAX (MI_SLICE_BYTES / MI_GRANULE_BYTES)

typedef struct visit_job_s {
    const mi_heap_t *heap;
    bool blocks_too;
    mi_core_visit_fn visit;
    void *arg;
    uint64_t is_free[VISIT_BLOCKS_MAX / 64];
} visit_job_t;

static void visit_mark(visit_job_t *job, const mi_page_t *page, const mi_block_t *list) {
    for (const mi_block_t *b = list; b != NULL; b = mi_block_next(page, b)) {
        const size_t i = mi_page_block_index(page, (size_t)((const uint8_t *)b - page->start));
        job->is_free[i / 64] |= (uint64_t)1 << (i % 64);
    }
}

// The caller's bytes in a block.
static size_t visit_block_bytes(const mi_page_t *page, const void *block) {
    const size_t end = mi_pad_end(page, block);
    return end <= page->block_bytes ? end : page->block_bytes;
}

static bool visit_page(mi_page_t *page, void *arg) {
    visit_job_t *const job = (visit_job_t *)arg;
    mi_core_area_t area;
    area.start = page->start;
    area.bytes = (size_t)page->slices << MI_SLICE_SHIFT;
    area.committed = page->capacity * page->block_bytes;
    area.block_bytes = page->block_bytes;
    mi_memzero(job->is_free, sizeof(job->is_free));
    visit_mark(job, page, page->free);
    visit_mark(job, page, mi_page_remote_first(page));
    area.used = 0;
    for (uint32_t i = 0; i < page->capacity; i++)
        area.used += ((job->is_free[i / 64] >> (i % 64)) & 1) == 0;
    if (area.used == 0)
        return true;
    if (!job->visit(job->heap, &area, NULL, page->block_bytes, job->arg))
        return false;
    for (uint32_t i = 0; job->blocks_too && i < page->capacity; i++) {
        uint8_t *const block = page->start + i * page->block_bytes;
        if (((job->is_free[i / 64] >> (i % 64)) & 1) == 0 &&
            !job->visit(job->heap, &area, block, visit_block_bytes(page, block), job->arg))
            return false;
    }
    return true;
}

// Own-reservation pages are found one after the other, since the visitor may allocate and the list
// is locked.
typedef struct visit_nth_s {
    const mi_theap_t *theap;
    size_t left;
    mi_page_t *page;
} visit_nth_t;

static bool visit_find_nth(mi_page_t *page, void *arg) {
    visit_nth_t *const nth = (visit_nth_t *)arg;
    if (mi_load_acquire(&page->theap) != nth->theap || nth->left-- > 0) // with mi_page_set_owner
        return true;
    nth->page = page;
    return false;
}

static bool visit_theap(mi_theap_t *theap, visit_job_t *job) {
    if (!mi_arena_visit_pages(theap, visit_page, job))
        return false;
    for (size_t i = 0;; i++) {
        visit_nth_t nth = {theap, i, NULL};
        (void)mi_page_visit_own(visit_find_nth, &nth);
        if (nth.page == NULL)
            return true;
        if (!visit_page(nth.page, job))
            return false;
    }
}

// What the calling thread holds back of others' blocks is no block of theirs any more.
static void visit_flush(void) {
    mi_theap_t *const own = mi_theap_real();
    if (own != NULL)
        mi_remote_flush(own, true);
}

static bool visit_is_of(const mi_theap_t *theap, const mi_heap_t *heap) {
    return mi_heap_public(mi_theap_heap(theap)) == heap &&
           mi_load_relaxed(&theap->state) != MI_THEAP_UNUSED;
}

bool mi_core_heap_visit(mi_heap_t *heap, bool blocks_too, mi_core_visit_fn visit, void *arg) {
    visit_job_t job = {heap, blocks_too, visit, arg, {0}};
    visit_flush();
    for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next)
        if (visit_is_of(t, heap) && !visit_theap(t, &job))
            return false;
    return true;
}

// ---- While other threads go on ----

static bool visit_orphan(mi_theap_t *orphan, void *arg) {
    return visit_theap(orphan, (visit_job_t *)arg);
}

bool mi_core_heap_visit_left(mi_heap_t *heap, bool blocks_too, mi_core_visit_fn visit, void *arg) {
    visit_job_t job = {heap, blocks_too, visit, arg, {0}};
    visit_flush();
    return mi_heap_visit_orphans(heap, visit_orphan, &job);
}

// Of another thread's page, by what its owner has noted.
static bool count_page(mi_page_t *page, void *arg) {
    const visit_job_t *const job = (const visit_job_t *)arg;
    const size_t block_bytes = mi_seen(&page->block_bytes);
    mi_core_area_t area;
    area.start = NULL;
    area.bytes = (size_t)mi_seen(&page->slices) << MI_SLICE_SHIFT;
    area.committed = mi_seen(&page->capacity) * block_bytes;
    area.block_bytes = block_bytes;
    area.used = mi_page_seen_live(page);
    return area.used == 0 || job->visit(job->heap, &area, NULL, block_bytes, job->arg);
}

typedef struct visit_whose_s {
    const mi_theap_t *theap;
    mi_page_visit_fn visit;
    visit_job_t *job;
} visit_whose_t;

static bool visit_own_page(mi_page_t *page, void *arg) {
    const visit_whose_t *const whose = (const visit_whose_t *)arg;
    if (mi_load_acquire(&page->theap) == whose->theap) // with mi_page_set_owner
        (void)whose->visit(page, whose->job);
    return true;
}

// Of one thread heap. Others may give back pages with one block meanwhile: not while the arenas'
// lock is held, or that of the pages with reservations of their own.
static void visit_beside(mi_theap_t *theap, visit_job_t *job) {
    const bool is_mine = (mi_load_relaxed(&theap->thread_id) == mi_os_thread_id());
    visit_whose_t whose = {theap, is_mine ? visit_page : count_page, job};
    mi_arena_visit_held(theap, whose.visit, job);
    (void)mi_page_visit_own(visit_own_page, &whose);
}

void mi_core_heap_count(mi_heap_t *heap, mi_core_visit_fn visit, void *arg) {
    visit_job_t job = {heap, false, visit, arg, {0}};
    visit_flush();
    for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next)
        if (visit_is_of(t, heap))
            visit_beside(t, &job);
}

void mi_core_thread_visit(mi_core_visit_fn visit, void *arg) {
    const uintptr_t self = mi_os_thread_id();
    visit_flush();
    for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next) {
        visit_job_t job = {mi_theap_heap(t), false, visit, arg, {0}};
        if (mi_load_relaxed(&t->thread_id) == self)
            visit_beside(t, &job);
    }
}
