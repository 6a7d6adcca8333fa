// The bookkeeping of blocks that debug CRTs gave out (debug builds only): request number, type,
// file and line, by address and in order. Side by side with the blocks, not in them: a block may be
// allocated here and freed by any function of the allocator.
//
//   buckets[hash of p] --> record --chain--> record --> NULL
//   owner->newest -------> record <==older/newer==> record ... in the order of the allocations
//
// One lock; every operation on a block is O(1) on average, lists are O(blocks of the owner). Memory
// comes from the arenas and the OS, is recycled and never given back. Any thread, any time.
#ifndef MI_CORE_LEDGER_H
#define MI_CORE_LEDGER_H

#include "base/atomic.h"
#include "base/redirect_abi.h"

typedef struct mi_page_s mi_page_t;

#if MI_DEBUG
extern MI_HIDDEN _Atomic(size_t) mi_ledger_count; // records there are

// See mi_redirect_debug_t.
bool mi_ledger_add(const mi_debug_block_t *block);
bool mi_ledger_find(const void *p, mi_debug_block_t *out);
bool mi_ledger_set_use(const void *p, int32_t use);
void mi_ledger_totals(const mi_debug_owner_t *owner, mi_debug_totals_t *out);
size_t mi_ledger_list(const mi_debug_owner_t *owner, mi_debug_block_t *out, size_t cap);
size_t mi_ledger_damaged(const mi_debug_owner_t *owner, mi_debug_block_t *out, size_t cap);
void mi_ledger_forget(mi_debug_owner_t *owner);

void mi_ledger_remove(const void *p);
// The block at p, in the page's block, has another size from now on: opens its pad anew, which
// mi_ledger_damaged sees either before or after.
void mi_ledger_resize(const mi_page_t *page, void *block, void *p, size_t size);
#else
MI_INLINE void mi_ledger_resize(const mi_page_t *page, void *block, void *p, size_t size) {
    (void)page;
    (void)block;
    (void)p;
    (void)size;
}
#endif

// The block at p is about to be freed: nothing is known of it any more. Before its memory changes,
// so that mi_ledger_damaged, which holds the lock, never looks at a block that is being freed.
MI_INLINE void mi_ledger_drop(const void *p) {
#if MI_DEBUG
    // Relaxed: whoever frees a block has seen it allocated, and with it the count.
    if (MI_UNLIKELY(mi_load_relaxed(&mi_ledger_count) != 0))
        mi_ledger_remove(p);
#else
    (void)p;
#endif
}

#endif
