// Every live block of the process at one instant, for walks over the heap of a C runtime
// (_heapwalk, _heapchk). The caller has stopped all other threads, at whatever instruction they
// were: lists are whole between any two stores (mi_fork_point), and what may not be looked at
// halfway is under a lock, which is tried, never waited for.
#ifndef MI_CORE_SNAPSHOT_H
#define MI_CORE_SNAPSHOT_H

#include "base/base.h"

typedef struct mi_snapshot_block_s {
    const void *p; // start of the block
    size_t size;   // the caller's bytes, as far as the page knows them, or MI_SNAPSHOT_GONE
} mi_snapshot_block_t;

// Takes the other entry with this address back: the block was freed, and waits among the guests of
// a thread (guest.h).
#define MI_SNAPSHOT_GONE SIZE_MAX

#define MI_SNAPSHOT_BUSY SIZE_MAX

// Writes at most cap entries, in no order, and returns how many there are. MI_SNAPSHOT_BUSY: a
// thread stands inside a lock: let it go on, and try again. *damaged: a block or the page whose
// records contradict themselves, NULL = none found; a thread that was stopped while it made or
// freed a block may cause that, too.
size_t mi_core_snapshot(mi_snapshot_block_t *out, size_t cap, const void **damaged);

#endif
