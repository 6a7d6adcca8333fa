// First-class heaps: a heap is an identity that thread heaps carry; each thread that allocates in
// it gets its own thread heap there, made at the first use. Any thread may use any heap; new,
// delete and destroy take the life lock.
#ifndef MI_CORE_HEAP_H
#define MI_CORE_HEAP_H

#include "core/alloc.h"
#include "core/theap.h"

struct mi_heap_s {
    uint64_t id;                    // never used again; 0 = the main heap
    mi_arena_t *arena;              // allocates from this one only, NULL = any
    int node_plus_1;                // NUMA node that it prefers, 0 = none
    mi_theap_t *orphan_first;       // thread heaps without a thread, under the life lock
    mi_theap_t *orphan_last;        // its end: the one worked on last
    _Atomic(uint32_t) orphan_count; // changes under the life lock
    mi_heap_t *next;                // pool of unused structs, under the life lock
    mi_heap_t *subproc;             // heap of the sub-process it belongs to, itself if it is one;
                                    // NULL = the main heap; under the life lock
    mi_heap_t *made_before;         // all structs ever made, under the life lock
};

extern MI_HIDDEN mi_heap_t mi_heap_main_state;

MI_INLINE mi_arena_t *mi_heap_arena(const mi_heap_t *heap) {
    return heap->arena;
}

// This thread's thread heap in the heap (NULL: where its plain allocations come from), made at
// need; NULL = no memory.
mi_theap_t *mi_heap_thread_part(mi_heap_t *heap);
uint64_t mi_heap_count(void);
// The heap that the program knows: what a deleted heap of an exclusive arena has left is the main
// heap's.
mi_heap_t *mi_heap_public(mi_heap_t *heap);
// mi_orphan_visit for a heap that the program knows, with what such heaps have left.
bool mi_heap_visit_orphans(mi_heap_t *heap, bool (*visit)(mi_theap_t *orphan, void *arg),
                           void *arg);
// Gives back the empty pages of what such heaps have left.
void mi_heap_collect_left(void);

#endif
