// The head of an arena: its struct, bitmaps, page structs and marks, and where they lie. Pure
// layout: no lock, no state. In the secure build the heads of ordinary arenas lie apart from the
// slices.
#ifndef MI_CORE_ARENA_HEAD_H
#define MI_CORE_ARENA_HEAD_H

#include "core/arena.h"

#define MI_ARENA_HINTS 9u // spans of fewer slices know exactly where to begin their search

struct mi_arena_s {
    uint8_t *base;       // slice 0
    size_t slices;       // all, the head included
    size_t head_slices;  // taken by this struct and what follows it
    size_t free_slices;  // under the lock, like everything below
    uint64_t *free;      // bit: nobody uses the slice
    uint64_t *committed; // bit: usable without a commit
    uint64_t *dirty;     // bit: may not read as zero
    uint64_t *young;     // bit: free, dirty, freed since the last purge round
    uint64_t *old;       // bit: free, dirty, freed before it
    mi_page_t *pages;    // one for each slice
    uint64_t *guarded;   // bit: the last OS page of the slice is inaccessible (secure build)
    // bit: was given back and stayed accessible: who has an old pointer may have written there
    uint64_t *exposed;             // (secure build)
    uint8_t *marks;                // of all blocks (secure build, harden.h): dense, then wide
    mi_memory_t memory;            // what it was made of
    uint64_t purge_at_ms;          // next purge round, 0 = nothing to purge
    uint32_t purging;              // rounds that have dropped the lock meanwhile
    uint64_t stamp;                // of an unloaded arena: fits this address and this build
    uint32_t hint[MI_ARENA_HINTS]; // by length: no free run of that length begins below
    uint32_t guarded_hint[MI_ARENA_HINTS]; // the same of runs that end with a guard, none inside
    uint32_t lane_words; // at the end of free, so many words tell of no free lane (arena_find.h)
    uint32_t small_from; // slices from here on never lie in huge pages of the kernel
};

// Is the memory nobody else's? What the caller gave may be shared with a file, and he may map it
// anew at any time.
MI_INLINE bool mi_arena_is_own(const mi_arena_t *a) {
    return !a->memory.is_pinned && a->memory.commit == NULL;
}

// The arena of an entry of the table, below MI_ARENA_MAX_COUNT; NULL = none (arena.c).
mi_arena_t *mi_arena_at(size_t i);
// Gives the memory of an arena of our own back to the OS, its head too.
void mi_arena_memory_release(mi_arena_t *a);
// Slices that the head of an arena of so many takes, and more than it ever takes.
size_t mi_arena_head_slices(size_t slices);
size_t mi_arena_head_most(size_t slices);
// Lays the head of an arena into its first slices, or apart, into zero memory. NULL = no memory, or
// too few slices.
mi_arena_t *mi_arena_lay_out(mi_arena_t *apart, const mi_memory_t *memory);
// Commits a part of an arena's memory.
bool mi_arena_memory_commit(const mi_memory_t *memory, uint8_t *start, size_t bytes, bool *is_zero);
// Gives back the memory of the marks of free slices, which are zero.
void mi_arena_purge_marks(mi_arena_t *a, size_t first, size_t count);
// Fits an arena of this layout, in this build, at this address.
uint64_t mi_arena_stamp(const void *base);
// Is it a head that this build has laid out for an arena of that size?
bool mi_arena_head_fits(const mi_arena_t *a, size_t bytes);

#endif
