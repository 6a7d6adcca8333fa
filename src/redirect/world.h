// Stops every other thread of the process for a moment. Whoever stops the world holds one lock of
// ours, so that two who do it cannot stop each other; nothing that could wait may be called
// between: a stopped thread may hold any lock.
#ifndef MI_REDIRECT_WORLD_H
#define MI_REDIRECT_WORLD_H

#include "redirect/nt.h"

// The stopped threads. Their table is not on the heap.
typedef struct mi_world_s {
    HANDLE *threads;
    DWORD *ids;
    size_t count;
} mi_world_t;

// Takes the lock; mi_world_close gives it back.
void mi_world_open(mi_world_t *w);
void mi_world_close(mi_world_t *w);

// false = they could not all be stopped; some may stand still, so that mi_world_resume is due.
bool mi_world_stop(mi_world_t *w);
void mi_world_resume(mi_world_t *w);

// Where the i-th stopped thread stands; 0 = it cannot be told.
uintptr_t mi_world_ip(const mi_world_t *w, size_t i);

// Has the process no thread but this one? Nobody is stopped for it.
bool mi_world_is_empty(void);

#endif
