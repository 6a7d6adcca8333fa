// The page map: which page does this address belong to? O(1) for any value whatever, never touching
// its memory.
//
//   address --(plus offset, rotated)--> slice index --> window[index] --> page | owner key
//
// One flat table, the window, covers the part of the address space where the heap lies:
// reservations of a process lie close together, and its base is set around the first arena. It
// lives in .bss, so the parts that no slice needs are never touched. What lies outside goes through
// a second, two-level table (64-bit only).
//
// An entry holds the page pointer in its low 48 bits and the key of the owning thread heap above.
// The free fast path compares the key with the thread's own and so learns from this one load that
// the address is in our heap, and that the page is its own; a thread that frees another's block
// touches no line that the owner writes. Key 0 never compares equal: such pages always take the
// slow path. 32-bit entries have no room: the page is asked.
//
// Reads: any thread, any time. Writes: whoever owns the slices (fresh from the arena, or as page
// owner).
#ifndef MI_CORE_PAGE_MAP_H
#define MI_CORE_PAGE_MAP_H

#include "base/atomic.h"
#include "base/base.h"
#include "core/limits.h"
#include "core/size_class.h"

typedef struct mi_page_s mi_page_t;

#if UINTPTR_MAX > 0xFFFFFFFFu
#    define MI_MAP_HAS_KEYS      1
#    define MI_MAP_WINDOW_SLICES ((size_t)1 << (MI_SHRUNK ? 6 : 20)) // 64 GiB, 8 MiB of .bss
#    define MI_MAP_KEY_SHIFT     48
#else
#    define MI_MAP_HAS_KEYS      0
#    define MI_MAP_WINDOW_SLICES ((size_t)1 << 16) // all of them
#    define MI_MAP_KEY_SHIFT     31                // never used for a shift
#endif
#define MI_MAP_PAGE_MASK     (((uintptr_t)1 << MI_MAP_KEY_SHIFT) - 1)
#define MI_KEY_NONE          ((uintptr_t)0)      // of pages that always go the slow way
#define MI_KEY_NOBODY        ((uintptr_t)0xFFFF) // of thread heaps that own no page by key
#define MI_KEY_LAST          ((uintptr_t)0xFFFE)
#define MI_KEY_NOBODY_PLACED (MI_MAP_HAS_KEYS ? MI_KEY_NOBODY << (MI_MAP_KEY_SHIFT % 64) : 0)

extern MI_HIDDEN _Atomic(uintptr_t) mi_page_map_window[MI_MAP_WINDOW_SLICES];
extern MI_HIDDEN _Atomic(uintptr_t)
    mi_page_map_offset; // 0 less the address of window slice 0; set once, before the first entry

// Where an address lies in the window. A sum, since one instruction fewer adds what was loaded than
// subtracts it.
MI_INLINE uintptr_t mi_page_map_place(const void *p) {
    return (uintptr_t)p + mi_load_relaxed(&mi_page_map_offset);
}

// Index into the window. The rotation moves the low bits to the top: an address that is no multiple
// of the granule yields a huge index, so the range check rejects it too.
MI_INLINE uintptr_t mi_page_map_index(const void *p) {
    const uintptr_t x = mi_page_map_place(p);
    const unsigned bits = (unsigned)sizeof(uintptr_t) * 8;
    return ((x >> MI_GRANULE_SHIFT) | (x << (bits - MI_GRANULE_SHIFT))) >>
           (MI_SLICE_SHIFT - MI_GRANULE_SHIFT);
}

// The page of any address, NULL = not in our heap.
mi_page_t *mi_page_map_find(const void *p);
// Enters a page for its slices / removes it. set: false = no memory for the table, and nothing was
// entered. key: MI_KEY_NONE, or that of the owner, in place (shifted).
bool mi_page_map_set(const void *start, size_t slices, mi_page_t *page, uintptr_t key);
void mi_page_map_clear(const void *start, size_t slices);
// Lays the window around the first arena. Once, under the arena lock.
void mi_page_map_init(const void *first_arena);

// Touches all of the window.
void mi_page_map_commit(void);
// Gives the tables beyond the window back to the OS: no page lies there any more.
void mi_page_map_release(void);

// Around fork().
void mi_page_map_fork_prepare(void);
void mi_page_map_fork_done(void);

#endif
