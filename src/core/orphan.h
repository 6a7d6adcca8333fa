// Orphans: thread heaps whose thread has ended. Each heap has a list of them, under the life lock.
// Whoever takes one off the list has claimed it and is its owner meanwhile. A new thread adopts one
// as a whole; a thread that is about to take a fresh page looks into one first, gives back its
// empty pages, and may steal a page.
#ifndef MI_CORE_ORPHAN_H
#define MI_CORE_ORPHAN_H

#include "core/theap.h"

// The life lock is held for these three. claim: NULL = there is none. leave: its owner is done with
// it; it goes to the pool when it has no pages, else it is an orphan.
void mi_orphan_put(mi_theap_t *theap);
void mi_orphan_leave(mi_theap_t *theap);
mi_theap_t *mi_orphan_claim(mi_heap_t *heap);
// A page of this class that can serve at once, now in our queue, taken from an orphan of our heap.
// NULL = none.
mi_page_t *mi_orphan_steal(mi_theap_t *theap, uint32_t class_index);
// Now and then: the next orphan of the heap lets go of others' blocks, gets back its own and gives
// back idle pages.
void mi_orphan_look(mi_heap_t *heap);
// The same for a thread heap that the caller owns and is about to leave. Not all: others' blocks in
// lists that have been of use stay for whoever adopts it, if it has pages.
void mi_orphan_tidy(mi_theap_t *theap, bool all);
// Calls visit for each orphan of the heap, which is claimed meanwhile. false = visit returned that,
// and it went no further.
typedef bool (*mi_orphan_visit_fn)(mi_theap_t *orphan, void *arg);
bool mi_orphan_visit(mi_heap_t *heap, mi_orphan_visit_fn visit, void *arg);
// Gives back the empty pages of every orphan of the heap.
void mi_orphan_collect(mi_heap_t *heap);
uint64_t mi_orphan_stolen_count(void);

#endif
