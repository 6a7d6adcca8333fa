// A page: a run of slices that holds blocks of one size. Its struct lies apart from the blocks (in the arena's
// head), so that no overflow of a block reaches it and blocks start at slice boundaries.
//
//   slices   | b0 | b1 | b2 | ... | b(capacity-1) | never linked, never touched ... | tail |
//              \___________ in free, in remote, or live __________/
//
// Owner: the thread whose thread heap page->theap is; it alone uses the first cache line. Any thread may push a
// block on remote (remote.h). used is a countdown that makes the free fast path one decrement and one test:
//   current page of its class    used = live + 1        (never reaches 0: no slow path while it is current)
//   available (in the queue)     used = live            (0: the page is empty, let it retire)
//   full (in no queue)           used + hidden = live   (0: so many were freed that the page is worth a visit)
// Live blocks include those in remote lists and in the remote batches of threads.
#ifndef MI_CORE_PAGE_H
#define MI_CORE_PAGE_H

#include "base/atomic.h"
#include "base/base.h"
#include "core/page_map.h"
#include "core/size_class.h"

typedef struct mi_theap_s mi_theap_t;
typedef struct mi_heap_s mi_heap_t;
typedef struct mi_arena_s mi_arena_t;

// A free block. The link is read and written only through mi_block_next and mi_block_set_next.
typedef struct mi_block_s {
    uintptr_t link; // the next free block, NULL = last; encoded in the secure build
} mi_block_t;

typedef enum mi_page_state_e {
    MI_PAGE_FREE,      // the struct describes no page
    MI_PAGE_CURRENT,   // the page its class allocates from
    MI_PAGE_AVAILABLE, // in the queue of its class
    MI_PAGE_FULL,      // in no list; found again when a block of it is freed
} mi_page_state_t;

struct mi_page_s {
    mi_block_t *free;    // owner; blocks ready for use
    uint32_t used;       // owner; countdown, see above
    uint32_t hidden;     // owner; live blocks that used does not count
    uint32_t capacity;   // owner; blocks linked so far
    uint32_t reserved;   // blocks that fit
    size_t block_bytes;  // constant while the page exists
    uint8_t *start;      // constant; first block
    mi_page_t *next;     // owner; queue of the class
    mi_page_t *prev;     // owner
    uint8_t class_index; // constant
    uint8_t state;       // owner; mi_page_state_t
    bool is_zero;        // owner; what is not linked yet reads as zero
    bool has_interior;   // owner; blocks may have been handed out with an offset inside
    uint32_t idle_stamp; // owner; when it became empty, in ms of the coarse clock, wraps

    // Second line: what other threads look at.
    _Atomic(mi_block_t *) remote; // any thread pushes; the owner takes all (remote.c)
    _Atomic(mi_theap_t *) theap;  // owner; changes hands only while its theap is claimed (orphan.c)
    mi_page_t *pending_next;      // whoever pushes it on a pending stack, then who popped it
    mi_heap_t *heap;              // constant; the first-class heap it belongs to
    mi_arena_t *arena;            // constant; NULL = has its own reservation of whole slices
    mi_theap_t *owner_fast;       // 32-bit only, for the key in the map: theap, or NULL = the slow way
    uint32_t slices;              // owner
    bool may_batch;               // constant; remote frees may wait in a batch
    uintptr_t link_key;           // constant; encodes links in the secure build
};
static_assert(sizeof(mi_page_t) <= 2 * MI_CACHE_LINE_BYTES, "two cache lines");
static_assert(offsetof(mi_page_t, remote) <= MI_CACHE_LINE_BYTES, "the owner's line");

MI_INLINE mi_block_t *mi_block_next(const mi_page_t *page, const mi_block_t *block) {
    if (MI_SECURE)
        return (mi_block_t *)(block->link ^ page->link_key ^ (uintptr_t)block);
    return (mi_block_t *)block->link;
}

MI_INLINE void mi_block_set_next(const mi_page_t *page, mi_block_t *block, const mi_block_t *next) {
    if (MI_SECURE)
        block->link = (uintptr_t)next ^ page->link_key ^ (uintptr_t)block;
    else
        block->link = (uintptr_t)next;
}

// Live blocks, including those in remote. Owner only.
MI_INLINE uint32_t mi_page_live(const mi_page_t *page) {
    return page->used + page->hidden - (page->state == MI_PAGE_CURRENT ? 1 : 0);
}

// The start of the block that p points into; NULL = no linked block there.
void *mi_page_block_of(const mi_page_t *page, const void *p);

#endif
