// Every live block of the process at one instant, for walks over the heap of a C runtime
// (_heapwalk, _heapchk). The caller has stopped all other threads, at whatever instruction they
// were: lists are whole between any two stores (mi_fork_point), and what may not be looked at
// halfway is under a lock, which is tried, never waited for.
#ifndef MI_CORE_SNAPSHOT_H
#define MI_CORE_SNAPSHOT_H

#include "base/redirect_abi.h"

// Writes at most cap entries, in no order, and returns how many there are: live blocks, and for
// each that was freed and waits among the guests of a thread (guest.h) another entry of
// MI_REDIRECT_GONE (mi_block_list_settle takes both out). MI_REDIRECT_BUSY: a thread stands inside
// a lock: let it go on, and try again. *damaged: a block or the page whose records contradict
// themselves, NULL = none found; a thread that was stopped while it made or freed a block may cause
// that, too.
size_t mi_core_snapshot(mi_redirect_block_t *out, size_t cap, const void **damaged);

#endif
