// Guarded blocks: a block that ends at an inaccessible OS page, so that the instruction that writes
// behind it stops the program. One allocation of a chosen number is guarded; while sampling is on,
// new allocations take the slow path.
//
//   block start                                   p                 guard page
//   | head | padding ............................ | size bytes ...  | no access |  rest of the
//   block
//                                                                   ^ multiple of the OS page
//
// The head is found from the block's start, which the page knows for any address inside.
#ifndef MI_ENTRY_GUARDED_H
#define MI_ENTRY_GUARDED_H

#include "base/atomic.h"
#include "base/base.h"
#include "core/alloc.h"

extern MI_HIDDEN _Atomic(bool) mi_guarded_is_sampling;
extern MI_HIDDEN _Atomic(bool) mi_guarded_was_used; // some block was guarded

// A slow allocation asks mi_guarded_alloc. Relaxed: a thread that sees it late guards a block less.
static inline bool mi_guarded_is_on(void) {
    return mi_load_relaxed(&mi_guarded_is_sampling);
}

// Frees and resizes ask too. Relaxed: who has a guarded block has it from the thread that set this,
// by whatever means it was handed over.
static inline bool mi_guarded_is_used(void) {
    return mi_load_relaxed(&mi_guarded_was_used);
}

// The options, at the start and when they change.
void mi_guarded_configure(void);
// A guarded block of the heap (NULL: the calling thread's default) if it is one's turn and it can
// be had, else NULL: allocate as usual.
void *mi_guarded_alloc(mi_heap_t *heap, size_t size, bool is_zero);
// Whether p is a guarded block; *size is what was asked for.
bool mi_guarded_find(const void *p, size_t *size);
// Makes a guarded block an ordinary one that the core may take back; does nothing for other
// pointers.
void mi_guarded_release(void *p);
// The same for each of a heap whose blocks are freed without being asked: their guards would stay
// and stop whoever gets that memory next.
void mi_guarded_release_heap(mi_heap_t *heap);
// What the program has of a block of the core, which is more for a guarded one; then *size is what
// was asked for.
void *mi_guarded_within(void *block, size_t *size);

uint64_t mi_guarded_count(void); // guarded blocks ever made

#endif
