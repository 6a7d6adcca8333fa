// The life of the process, its threads and their thread heaps: who exists, who gets which.
// Everything starts by itself with the first allocation of a thread.
#ifndef MI_CORE_LIFE_H
#define MI_CORE_LIFE_H

#include "core/lock.h"
#include "core/theap.h"

extern MI_HIDDEN mi_lock_t mi_life_lock; // orphan lists, pools, states; taken before any other lock

// This thread's thread heap in the main heap, made at need; NULL = no memory.
mi_theap_t *mi_life_thread(void);
// A thread heap of the heap for this thread: an orphan adopted, a recycled one, or a new one. NULL
// = no memory.
mi_theap_t *mi_life_obtain(mi_heap_t *heap);
// Recycles one without pages. The life lock is held.
void mi_life_pool_put(mi_theap_t *theap);
// Every thread heap ever made, chained by all_next.
mi_theap_t *mi_life_all(void);
// How many threads have one in the main heap now, at least one.
size_t mi_life_threads(void);

#endif
