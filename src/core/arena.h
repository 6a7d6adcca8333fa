// Arenas: reservations of address space, cut into slices of 64 KiB. They hand out spans (runs of
// slices) to pages and take them back; freed memory stays with us for a while and is then given
// back to the OS (purged).
//
//   | head: mi_arena_t, bitmaps, page structs | slice | slice | slice | ...          | guard pages
//   in the secure
//     one mi_page_t for each slice, touched at need                                    build around
//     the head
//
// Sizes grow with use: 64 MiB first (address space only), doubling to 1 GiB and more. Free spans
// are given out lowest address first, so that what was touched is touched again. Any thread may
// call everything here; one lock, held for bitmap work only, never across a system call that could
// be slow.
#ifndef MI_CORE_ARENA_H
#define MI_CORE_ARENA_H

#include "core/alloc.h"
#include "core/page.h"

typedef struct mi_span_s {
    uint8_t *start;    // NULL = none
    size_t slices;     // length
    mi_arena_t *arena; // whose slices they are
    mi_page_t *page;   // the struct of its first slice
    bool is_zero;      // all of it reads as zero
} mi_span_t;

// slices >= 1, the start at a multiple of align_slices (a power of two) slices; 0 = where free
// slices follow, so that it can grow, if there is such a place. For this heap: from its arena or
// its node; NULL = from anywhere. false = no memory, or no such place.
bool mi_arena_alloc(mi_span_t *span, size_t slices, size_t align_slices, const mi_heap_t *heap);
void mi_arena_free(mi_arena_t *arena, uint8_t *start, size_t slices);
// The same, and purges them at once.
void mi_arena_free_purged(mi_arena_t *arena, uint8_t *start, size_t slices);
// Are so many slices behind the span free, at the moment, and does the kernel use small pages
// there? What grows where it may use huge ones would occupy more than it has.
bool mi_arena_may_extend(const mi_arena_t *arena, const uint8_t *start, size_t slices, size_t more);
// Adds the slices right behind a span to it. *is_zero: the added ones read as zero. false = not
// free.
bool mi_arena_extend(mi_arena_t *arena, uint8_t *start, size_t slices, size_t more, bool *is_zero);
// Purges what has been free long enough; everything that is free when forced.
void mi_arena_purge(bool is_forced);
// Counts how often freed memory had to be given back at once because there was too much of it.
// Thread heaps watch it and let go of their own empty pages.
uint32_t mi_arena_pressure(void);
// Visits every page struct in use whose thread heap is `of` (NULL = any). Pages of other threads
// change meanwhile: only their theap field may be read.
bool mi_arena_visit_pages(const mi_theap_t *of, mi_page_visit_fn visit, void *arg);
// Those of the caller's own thread heap, while other threads go on, who may give back pages of it
// (remote.h): under the lock, so none is another's before visit returns, which may not allocate.
void mi_arena_visit_held(const mi_theap_t *of, mi_page_visit_fn visit, void *arg);
// The same of all thread heaps for whoever has stopped all other threads, and without an end. false
// = one of them holds the lock, nothing was visited.
bool mi_arena_try_visit_all(mi_page_visit_fn visit, void *arg);
// Slices for the allocator's own needs, counted like others and never freed.
void *mi_arena_alloc_meta(size_t slices);
// Where the marks of a page's blocks are (harden.h), and its guard on or off (secure build).
mi_mark_t *mi_arena_marks(const mi_arena_t *arena, const mi_page_t *page, bool is_dense);
void mi_arena_set_guard(mi_arena_t *arena, uint8_t *start, size_t slices, bool is_on);
// How many NUMA nodes there are, or shall be.
size_t mi_arena_node_count(void);
// Where memory for blocks might be reserved next; 0 = where the system likes.
uintptr_t mi_arena_hint(void);
void mi_arena_stats(mi_core_stats_t *stats);
// Was p, which lies in no page, the start of a block of the page that was there last?
bool mi_arena_had_block(const void *p);
// ---- Taking an exclusive arena out and in again (unload.c)
bool mi_arena_is_exclusive(const mi_arena_t *arena);
// Is nothing but its heaps to allocate from it, or is it gone?
bool mi_arena_stays_apart(const mi_arena_t *arena);
// Takes an arena out of the table; its pages are parked. How many bytes of it hold anything.
size_t mi_arena_withdraw(mi_arena_t *arena);
// Takes memory that was withdrawn, at the same address, in again. NULL = it is none.
mi_arena_t *mi_arena_readmit(void *start, size_t bytes, bool is_zero);
// Visits the parked pages of a readmitted arena. false = the visitor stopped, or they are damaged.
bool mi_arena_visit_parked(mi_arena_t *arena, mi_page_visit_fn visit, void *arg);
// An arena that never has room, for heaps whose arena is gone.
mi_arena_t *mi_arena_gone(void);
// The heap that holds the blocks of a readmitted arena until somebody asks for one; exchanges it.
mi_heap_t *mi_arena_home(mi_arena_t *arena, mi_heap_t *set);
// Around fork().
void mi_arena_fork_prepare(void);
void mi_arena_fork_done(void);

#endif
