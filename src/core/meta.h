// Memory for the allocator's own structs: cut from slices of the arenas, zeroed, at multiples of a
// cache line. It is never given back; whoever makes structs that come and go recycles them.
#ifndef MI_CORE_META_H
#define MI_CORE_META_H

#include "base/base.h"

// At most a few KiB. NULL = no memory. Any thread.
void *mi_meta_alloc(size_t bytes);
// Gives back what lies apart from the arenas. Nothing of it may be used any more.
void mi_meta_release(void);
void mi_meta_fork_prepare(void);
void mi_meta_fork_done(void);

#endif
