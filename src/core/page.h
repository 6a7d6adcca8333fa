// A page: a run of slices that holds blocks of one size. Its struct lies apart from the blocks (in
// the arena's head), so that no overflow of a block reaches it and blocks start at slice
// boundaries.
//
//   slices   | b0 | b1 | b2 | ... | b(capacity-1) | never linked, never touched ... | tail |
//              \___________ in free, in remote, or live __________/
//
// Owner: the thread whose thread heap page->theap is; it alone uses the first cache line. Any
// thread may push a block on remote (remote.h). used is a countdown that makes the free fast path
// one decrement and one test:
//   current page of its class    used = live + 1        (never reaches 0: no slow path while it is
//   current) available (in the queue)     used = live            (0: the page is empty, let it
//   retire) full (in no queue)           used + hidden = live   (0: so many were freed that the
//   page is worth a visit)
// Live blocks include those in remote lists, in the remote batches of threads and in their guest
// lists.
//
// A full page with one block, which its owner will not look at before that is freed, says so in
// remote (MI_REMOTE_ALONE): another thread that frees the block may give back the page (remote.h).
#ifndef MI_CORE_PAGE_H
#define MI_CORE_PAGE_H

#include "base/atomic.h"
#include "base/base.h"
#include "core/page_map.h"
#include "core/size_class.h"

typedef struct mi_theap_s mi_theap_t;
typedef struct mi_heap_s mi_heap_t;
typedef struct mi_arena_s mi_arena_t;
typedef _Atomic(uint8_t) mi_mark_t; // MI_MARK_ values (harden.h)

#define MI_MARKS_NEAR 96 // marks that a page struct has room for

// A free block. The link is read and written only through mi_block_next and mi_block_set_next.
typedef struct mi_block_s {
    uintptr_t link; // the next free block, NULL = last; encoded in the secure build
} mi_block_t;

// In remote, instead of a list: whoever frees the page's one block may give back the page.
#define MI_REMOTE_ALONE ((mi_block_t *)1)

enum {
    MI_PAGE_HAS_INTERIOR = 1, // blocks may have been handed out with an offset inside
    MI_PAGE_IS_EXACT = 2,     // blocks keep their exact size
};

typedef enum mi_page_state_e {
    MI_PAGE_FREE,      // the struct describes no page
    MI_PAGE_CURRENT,   // the page its class allocates from
    MI_PAGE_AVAILABLE, // in the queue of its class
    MI_PAGE_FULL,      // in no list; found again when a block of it is freed
    MI_PAGE_GUESTS,    // no page at all: a list of other threads' blocks (guest.h)
} mi_page_state_t;

struct mi_page_s {
    mi_block_t *free;           // owner; blocks ready for use
    MI_SEEN(uint32_t) used;     // owner; countdown, see above
    MI_SEEN(uint32_t) capacity; // owner; blocks linked so far
    MI_SEEN(uint16_t) hidden;   // owner; live blocks that used does not count
    uint16_t class_index;       // constant; MI_CLASS_EXACT is added for pages with exact sizes
    MI_SEEN(uint8_t) state;     // owner; mi_page_state_t
    uint8_t is_bare : 1; // whoever holds it; calloc gave out its one block as it came from the OS
    uint8_t is_zero : 1; // owner; what is not linked yet reads as zero, but for the part in extent
    uint8_t exact_stay;  // constant; a small block with less slack is resized in place (exact.h)
#if MI_SECURE
    mi_mark_t *marks;   // constant; one for each block (harden.h)
    uintptr_t link_key; // constant; encodes links
#else
    mi_page_t *next;       // owner; queue of the class
    uintptr_t exact_sizes; // constant; leads to the sizes of wide blocks (exact.h), 0 = has none
#endif
    MI_SEEN(size_t) block_bytes; // constant; changes only with the length of its one block
    uint8_t *start;              // constant; first block
    uint64_t recip;              // constant; 2^64 / block_bytes, rounded up; 1 = one block

    // Second line: what other threads look at, so that their frees never wait for the line that the
    // owner writes all the time. It holds what the check of a block's start needs once more.
    _Atomic(mi_block_t *) remote; // any thread pushes; the owner takes all (remote.c)
    _Atomic(mi_theap_t *) theap;  // owner; changes hands only while its theap is claimed (orphan.c)
    mi_page_t *pending_next;      // whoever pushes it on a pending stack, then who popped it
    uint64_t far_recip;           // constant; recip
#if MI_SECURE
    mi_mark_t *far_marks;   // constant; marks
    uintptr_t far_link_key; // constant; link_key
#else
    mi_arena_t *arena;     // constant; NULL = has its own reservation of whole slices
    mi_page_t *prev;       // owner; queue of the class
#endif
    uint32_t far_start;       // constant; start in slices from address 0
    MI_SEEN(uint32_t) slices; // length; changes only while its one block is resized in place
    uint32_t extent;          // of a page with one block, whoever holds it: low bits of its exact
                              // size (exact.h); else, owner: bytes that were used before
    uint16_t reserved;        // constant; blocks that fit
    uint8_t far_class;       // constant; of blocks that a thread may hold back (remote.h), 0 = none
    _Atomic(uint8_t) traits; // MI_PAGE_ values; see mi_page_set_trait
#if !MI_MAP_HAS_KEYS
    mi_theap_t *owner_fast; // in place of the map's key: theap, or NULL = always the slow way
#endif
#if MI_SECURE
    // Third and fourth line: what the first one has no room for in the secure build, and the marks
    // of a page with few blocks, which so cost no other OS page's entry in the TLB.
    mi_page_t *next;       // owner; queue of the class
    mi_page_t *prev;       // owner
    mi_arena_t *arena;     // constant; NULL = has its own reservation of whole slices
    uintptr_t exact_sizes; // as above
    mi_mark_t near_marks[MI_MARKS_NEAR];
#endif
};
static_assert(sizeof(mi_page_t) <= (MI_SECURE ? 4 : 2) * MI_CACHE_LINE_BYTES, "cache lines");
static_assert(sizeof(void *) == 4 || offsetof(mi_page_t, remote) == MI_CACHE_LINE_BYTES,
              "two lines");

// What links are encoded with; 0 = they are plain.
MI_INLINE uintptr_t mi_page_link_key(const mi_page_t *page) {
#if MI_SECURE
    return page->link_key;
#else
    (void)page;
    return 0;
#endif
}

// Half of what a link is encoded with: the block's place. Its bytes are swapped so that no sum of
// addresses that belong together is one again: a link that is copied to another block leads
// nowhere.
MI_INLINE uintptr_t mi_block_place(const mi_block_t *block) {
    return mi_bytes_swapped((uintptr_t)block);
}

// What a link is encoded with. Opaque, so that it is there before the link or its new value is:
// each is part of the chain from one free to the next malloc, which is what a pair of them waits
// for.
MI_INLINE uintptr_t mi_block_mask(const mi_page_t *page, const mi_block_t *block) {
    uintptr_t mask = mi_page_link_key(page) ^ mi_block_place(block);
    MI_OPAQUE(mask);
    return mask;
}

MI_INLINE mi_block_t *mi_block_next(const mi_page_t *page, const mi_block_t *block) {
    if (MI_SECURE)
        return (mi_block_t *)(block->link ^ mi_block_mask(page, block));
    return (mi_block_t *)block->link;
}

MI_INLINE void mi_block_set_next(const mi_page_t *page, mi_block_t *block, const mi_block_t *next) {
    if (MI_SECURE)
        block->link = (uintptr_t)next ^ mi_block_mask(page, block);
    else
        block->link = (uintptr_t)next;
}

// The same by a thread that does not own the page: by its second line.
MI_INLINE void mi_block_set_next_far(const mi_page_t *page, mi_block_t *block,
                                     const mi_block_t *next) {
#if MI_SECURE
    block->link = (uintptr_t)next ^ page->far_link_key ^ mi_block_place(block);
#else
    mi_block_set_next(page, block, next);
#endif
}

// fork() may copy the process between any two instructions of another thread, also on its fast
// paths. Their stores keep the order in which they are written, so that the child finds a whole
// free list and a used that is at most too large by one: that page then stays, where a used too
// small would give away a page with live blocks. A barrier for the compiler; x86 keeps stores in
// order by itself.
MI_INLINE void mi_fork_point(void) {
    atomic_signal_fence(memory_order_seq_cst);
}

MI_INLINE bool mi_page_is_exact(const mi_page_t *page) {
    return (mi_load_relaxed(&page->traits) & MI_PAGE_IS_EXACT) != 0;
}

MI_INLINE bool mi_page_has_interior(const mi_page_t *page) {
    return (mi_load_relaxed(&page->traits) & MI_PAGE_HAS_INTERIOR) != 0;
}

// By the owner, or by whoever holds the one block of the page: never both at a time, since the
// owner only adds a trait when it hands a block out.
MI_INLINE void mi_page_set_trait(mi_page_t *page, uint8_t trait) {
    mi_store_relaxed(&page->traits, (uint8_t)(mi_load_relaxed(&page->traits) | trait));
}

// Frees by this thread heap take the fast path; NULL = nobody's do. With keys the map says it.
MI_INLINE void mi_page_set_owner_fast(mi_page_t *page, mi_theap_t *theap_opt) {
#if MI_MAP_HAS_KEYS
    (void)page;
    (void)theap_opt;
#else
    page->owner_fast = theap_opt;
#endif
}

MI_INLINE bool mi_page_is_owner_fast(const mi_page_t *page, const mi_theap_t *theap) {
#if MI_MAP_HAS_KEYS
    (void)page;
    (void)theap;
    return false;
#else
    return page->owner_fast == theap;
#endif
}

// The list of remote frees, but by who takes it.
MI_INLINE mi_block_t *mi_page_remote_first(const mi_page_t *page) {
    mi_block_t *const first = mi_load_acquire(&page->remote); // with remote_push
    return first == MI_REMOTE_ALONE ? NULL : first;
}

// Live blocks, including those in remote. Owner only.
MI_INLINE uint32_t mi_page_live(const mi_page_t *page) {
    return page->used + page->hidden - (page->state == MI_PAGE_CURRENT ? 1 : 0);
}

// The same for any thread, while its owner goes on: what was so a moment ago, each word of it.
MI_INLINE uint32_t mi_page_seen_live(const mi_page_t *page) {
    const uint32_t current = (mi_seen(&page->state) == MI_PAGE_CURRENT ? 1 : 0);
    const uint32_t sum = mi_seen(&page->used) + mi_seen(&page->hidden);
    const uint32_t live = (sum > current ? sum - current : 0);
    const uint32_t most = mi_seen(&page->capacity);
    return live < most ? live : most;
}

// For a page that holds several blocks of this size; 1 for a page with one block, whose only start
// is offset 0.
MI_INLINE uint64_t mi_page_reciprocal(size_t block_bytes) {
    return UINT64_MAX / block_bytes + 1;
}

// The number of the block that an offset from the start lies in. offset * recip is a fixed-point
// number: its upper half is the quotient, its lower half tells the rest. Exact while offset *
// block_bytes < 2^64, which holds for every page with more than one block; for those with one, any
// offset gives 0.
MI_INLINE size_t mi_page_block_index(const mi_page_t *page, size_t offset) {
    return (size_t)mi_mul_high64(offset, page->recip);
}

// Does a block start at p, an address of the page? The rest of the division is zero when the lower
// half is below the reciprocal: one multiplication, no division.
MI_INLINE bool mi_page_is_block_start(const mi_page_t *page, const void *p) {
    return (uint64_t)((const uint8_t *)p - page->start) * page->recip < page->recip;
}

// The same by the page's second line, for threads that do not own it. A block whose start lies
// beyond 2^48 has none: then the answer is no, and the full way must be asked.
MI_INLINE bool mi_page_is_block_start_far(const mi_page_t *page, const void *p) {
    const uint64_t start = (uint64_t)page->far_start << MI_SLICE_SHIFT;
    return ((uint64_t)(uintptr_t)p - start) * page->far_recip < page->far_recip;
}

// The start of the block that p, an address of the page, points into.
MI_INLINE void *mi_page_block_of(const mi_page_t *page, const void *p) {
    const size_t offset = (size_t)((const uint8_t *)p - page->start);
    return page->start + mi_page_block_index(page, offset) * page->block_bytes;
}

// Of a page with one block, or none.
MI_INLINE void mi_page_set_class(mi_page_t *page, uint32_t class_index, size_t block_bytes) {
    page->class_index = (uint16_t)class_index;
    page->block_bytes = block_bytes;
}

// Makes an empty page with one block one of another class, which needs no more slices than it has.
// plain: the class without MI_CLASS_EXACT, which the usual path of malloc knows already.
MI_INLINE void mi_page_suit_plain(mi_page_t *page, uint32_t class_index, uint32_t plain) {
    MI_ASSERT(page->used == 0 && page->reserved == 1);
    MI_ASSERT(mi_class_slices(mi_class_bytes(plain)) <= page->slices);
    mi_page_set_class(page, class_index, mi_class_bytes_coarse(plain));
    page->state = MI_PAGE_CURRENT;
    page->used = 1;
}

// The same for all others.
MI_INLINE void mi_page_suit(mi_page_t *page, uint32_t class_index) {
    mi_page_suit_plain(page, class_index, mi_class_plain(class_index));
}

// Its one block, just allocated, may come from a list of long blocks (guest.h), and then uses all
// that its slices have room for. From now on it is one of this (plain) class.
MI_INLINE void mi_page_shorten(mi_page_t *page, uint32_t plain) {
    const uint32_t before = mi_class_plain(page->class_index);
    MI_ASSERT(before > MI_CLASS_SHARED && before < MI_CLASS_HUGE);
    MI_ASSERT(mi_class_bytes_coarse(plain) <= page->block_bytes);
    mi_page_set_class(page, page->class_index - before + plain, mi_class_bytes_coarse(plain));
}

// Bytes of it that were blocks once.
MI_INLINE size_t mi_page_touched(const mi_page_t *page) {
    const size_t linked = page->capacity * page->block_bytes;
    return page->reserved > 1 && page->extent > linked ? page->extent : linked;
}

// Are the blocks in its free list, of which it has several, in another order than that of their
// addresses, one way or the other, and does it matter? By the look of the first.
MI_INLINE bool mi_page_is_shuffled(const mi_page_t *page) {
    const uintptr_t first = (uintptr_t)page->free;
    if (page->reserved == 1 || page->free == NULL ||
        (page->block_bytes > MI_ANEW_SMALL && page->block_bytes <= MI_ANEW_LARGE))
        return false;
    const uintptr_t next = (uintptr_t)mi_block_next(page, page->free);
    return next != first + page->block_bytes && next != first - page->block_bytes;
}

// It has no live block: its blocks are handed out in the order of their addresses again, not in
// that in which they were freed.
MI_INLINE void mi_page_begin_anew(mi_page_t *page) {
    page->extent = (uint32_t)mi_page_touched(page);
    page->capacity = 0;
    page->free = NULL;
}

// Its one block could have a slice more.
MI_INLINE bool mi_page_is_narrow(const mi_page_t *page) {
    return ((size_t)page->slices << MI_SLICE_SHIFT) - MI_GUARD_BYTES - page->block_bytes >=
           MI_SLICE_BYTES;
}
// It has no live block: makes it one of the largest class that its slices have room for, with whose
// pages it waits.
void mi_page_widen(mi_page_t *page);

// A new page without linked blocks: state CURRENT, used 1, owned by theap, entered in the page map.
// block_bytes is the class size, or for MI_CLASS_HUGE any; align (a power of two) beyond a slice
// only for one block. NULL = no memory.
mi_page_t *mi_page_new(mi_theap_t *theap, uint32_t class_index, size_t block_bytes, size_t align);
// A page for one huge block with a reservation of its own, whatever its size. NULL = no memory.
mi_page_t *mi_page_new_own(mi_theap_t *theap, size_t bytes);
// A page for one huge block in an arena, where it is likely to grow in place. NULL = no such place.
mi_page_t *mi_page_new_roomy(mi_theap_t *theap, size_t bytes);
// Makes a detached page without live blocks and interior pointers one of another class, which needs
// as many slices and holds several blocks, too.
void mi_page_rebind(mi_page_t *page, uint32_t class_index);
// Drops a page with its own reservation, whose memory has moved elsewhere and which is in the page
// map no more. By the owner of its block and its theap.
void mi_page_forget(mi_page_t *page);
// A detached page with live blocks leaves the map and its thread heap, and comes back to another.
// unpark: false = no memory for the map.
void mi_page_park(mi_page_t *page);
bool mi_page_unpark(mi_page_t *page, mi_theap_t *theap);
// The guard at the end of its span, taken off while its memory moves (secure build).
void mi_page_set_guard(mi_page_t *page, bool is_on);
// Adds slices to a huge page where it stands, for the owner of its block. *is_zero: they read as
// zero.
bool mi_page_grow(mi_page_t *page, size_t more, bool *is_zero);
// Its block uses more of the slices that it has, or less: so many bytes and half of it more; false
// = they are too few.
bool mi_page_stretch(mi_page_t *page, size_t bytes);
// May it grow by so many slices, as mi_arena_may_extend says?
bool mi_page_may_grow(const mi_page_t *page, size_t more);
// The block of a huge page becomes shorter where it stands, and the slices that it needs no more go
// back. For the owner of its block. false = it has no arena, or a guard.
bool mi_page_cut(mi_page_t *page, size_t bytes);
// Is little of its one block in memory, and can be given back to the OS? Asks the OS.
bool mi_page_is_sparse(const mi_page_t *page);
// Gives an empty page (or, when its heap is destroyed, any page) back to its arena or to the OS.
void mi_page_release(mi_page_t *page);
// The same for an empty page that is bare, but only if most of it was never written; else it is
// bare no longer. true = released.
bool mi_page_release_bare(mi_page_t *page);
// The same for one of another's thread heap, which has opened it (remote.h), by who freed its
// block.
void mi_page_release_far(mi_page_t *page);
// Links more blocks into the free list, which is empty. Returns true if the one new block reads as
// zero but for its link.
bool mi_page_extend(mi_page_t *page);
// Hands the page to a thread heap: the field, and its key in the map.
void mi_page_set_owner(mi_page_t *page, mi_theap_t *theap);
// From now on every free of its blocks takes the slow path, for blocks that were handed out with an
// offset.
void mi_page_set_interior(mi_page_t *page);
// The one block of a huge page that was just made is handed out.
void mi_page_fill(mi_page_t *page);
bool mi_page_is_valid(const mi_page_t *page);
// Was p, which lies in no page, the start of a block with a reservation of its own, one of the last
// that went, and is nothing there now? Debug and secure builds only.
bool mi_page_had_own(const void *p);
// Every page with a reservation of its own, under the page lock: visit may not allocate.
typedef bool (*mi_page_visit_fn)(mi_page_t *page, void *arg);
bool mi_page_visit_own(mi_page_visit_fn visit, void *arg);
// The same for whoever has stopped all other threads, and without an end. false = one of them holds
// the lock, nothing was visited.
bool mi_page_try_visit_own(mi_page_visit_fn visit, void *arg);

typedef struct mi_core_stats_s mi_core_stats_t;
void mi_page_stats(mi_core_stats_t *stats);
// Around fork().
void mi_page_fork_prepare(void);
void mi_page_fork_done(void);

#endif
