// The memory of threads that sleep. What others free of a thread's blocks waits in the remote lists
// of its pages until the thread takes a slow path (remote.h). When it has taken none for a while,
// another thread that looks at the clock gives back what these blocks occupy, but for the first OS
// page of each, which has its link: it takes the sleeper's pending stack, as its owner would, and
// pushes the pages again. To the protocol that is a thread that carries pages on. The blocks stay
// free, linked and the sleeper's.
//
// Blocks of the main heap only, and none in memory that the caller gave (sleep.c).
// It stays committed, so that the sleeper may use it as it is (mi_os_discard): Windows counts it
// against the process' limit as before, but has the memory. Not in the debug build, which knows
// what a free block is filled with.
#ifndef MI_CORE_SLEEP_H
#define MI_CORE_SLEEP_H

#include "core/theap.h"

// Looks at the next few thread heaps. delay_ms: so long one must have slept.
void mi_sleep_look(const mi_theap_t *self, uint64_t now_ms, uint64_t delay_ms);
// In the child of a fork(): the thread that was looking is not there.
void mi_sleep_fork_child(void);

#endif
