// A thread heap: what one thread has of one first-class heap. Its pages by class, ready for the fast path.
// Only its owner thread touches it, except where a field says otherwise. The struct is never unmapped: when its
// thread ends the thread heap becomes an orphan as a whole and a later thread takes it over (orphan.c), so a page
// may be asked for its thread heap at any time.
#ifndef MI_CORE_THEAP_H
#define MI_CORE_THEAP_H

#include "core/page.h"
#include "os/os_thread.h"

#define MI_BATCH_SLOTS 8u  // pages for which a thread holds back remote frees
#define MI_BATCH_MAX   32u // blocks of one page held back, at most

// Remote frees of one page on their way: a chain that one compare-and-swap hands over (remote.c).
typedef struct mi_batch_s {
    mi_page_t *page;  // NULL = empty
    mi_block_t *head; // freed last
    mi_block_t *tail; // freed first
    uint32_t count;
} mi_batch_t;

typedef struct mi_page_queue_s {
    mi_page_t *first;
    mi_page_t *last;
} mi_page_queue_t;

typedef enum mi_theap_state_e {
    MI_THEAP_UNUSED,  // in the pool of recycled structs
    MI_THEAP_ACTIVE,  // has a thread
    MI_THEAP_ORPHAN,  // its thread is gone; in the orphan list, or claimed by a thread that works on it
    MI_THEAP_FROZEN,  // its thread was caught in the middle of a change by fork(): never touched again
} mi_theap_state_t;

struct mi_theap_s {
    uintptr_t key;                         // upper bits of the map entries of our pages, in place
    mi_page_t *direct[MI_DIRECT_COUNT];    // by size in granules: the current page of the class
    mi_page_t *current[MI_CLASS_COUNT];    // by class; never NULL, mi_page_empty when there is none
    mi_page_queue_t queue[MI_CLASS_COUNT]; // available pages, by class

    _Atomic(mi_page_t *) pending; // any thread pushes pages whose remote list became non-empty (remote.c)
    mi_heap_t *heap;              // which heap's pages these are
    mi_theap_t *thread_next;      // the thread's other thread heaps; the main heap's comes first
    mi_theap_t *thread_main;      // the first of that chain
    mi_theap_t *all_next;         // every thread heap ever made; set before publishing, never changed
    mi_theap_t *orphan_next;      // orphan list or pool, under the life lock
    _Atomic(uint32_t) state;      // mi_theap_state_t; changes under the life lock
    _Atomic(uint32_t) busy;       // the owner is in a slow path (a fork child must not trust the lists then)
    uint32_t tick;                // slow paths taken; paces the clock checks
    uint32_t scan_tick;           // tick of the last look for idle pages
    size_t empty_bytes;           // of pages without live blocks that are kept
    uint64_t trim_at_ms;          // when kept empty pages are looked at next, 0 = nothing kept
    uint64_t malloc_count;        // allocations that the slow path saw
    uintptr_t thread_id;          // of the owner
    bool is_first_class;          // belongs to another heap than the main one
    mi_batch_t batch[MI_BATCH_SLOTS];
};

extern MI_HIDDEN mi_theap_t mi_theap_empty; // what a thread has that never allocated: no pages, read only
extern MI_HIDDEN mi_page_t mi_page_empty;   // what an empty class has for its current page: no blocks, read only

// This thread's thread heap in the main heap. It may be mi_theap_empty, or NULL where a slot starts so.
MI_INLINE mi_theap_t *mi_theap_get(void) {
    return (mi_theap_t *)mi_thread_get();
}

#endif
