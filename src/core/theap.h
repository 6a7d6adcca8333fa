// A thread heap: what one thread has of one first-class heap. Its pages by class, ready for the
// fast path. Only its owner thread touches it, except where a field says otherwise. The struct is
// never unmapped: when its thread ends the thread heap becomes an orphan as a whole and a later
// thread takes it over (orphan.c), so a page may be asked for its thread heap at any time.
#ifndef MI_CORE_THEAP_H
#define MI_CORE_THEAP_H

#include "base/atomic.h"
#include "core/limits.h"
#include "core/page.h"
#include "os/os_thread.h"

// Remote frees of one page on their way: a chain that one compare-and-swap hands over (remote.c).
typedef struct mi_batch_s {
    mi_page_t *page;  // NULL = empty
    mi_block_t *head; // freed last
    mi_block_t *tail; // freed first
    uint32_t count;
} mi_batch_t;

typedef struct mi_page_queue_s {
    mi_page_t *first;
    mi_page_t *last;
} mi_page_queue_t;

typedef enum mi_theap_state_e {
    MI_THEAP_UNUSED, // in the pool of recycled structs
    MI_THEAP_ACTIVE, // has a thread
    MI_THEAP_ORPHAN, // its thread is gone; in the orphan list, or claimed by a thread that works on
                     // it
    MI_THEAP_FROZEN, // its thread was caught in the middle of a change by fork(): never touched
                     // again
} mi_theap_state_t;

// Which allocations of a thread heap are guarded; the entry layer writes and reads it
// (guarded.c).
typedef struct mi_sampling_s {
    bool has_rate;  // rate counts, else the process' option
    bool has_bound; // min and max count, else the process' options
    size_t rate;    // one of so many, 0 = none
    size_t turns;   // allocations seen
    size_t min;     // bytes
    size_t max;     // bytes
} mi_sampling_t;

// Random numbers in stock, for the secure build (harden.c).
typedef struct mi_secrets_s {
    uint64_t number[MI_SECURE ? 8 : 1];
    uint32_t left; // those at the front
} mi_secrets_t;

// What was seen of a thread heap by whoever looked for threads that sleep (sleep.c).
typedef struct mi_sleep_s {
    uint64_t since_ms; // tick has been the same since then
    mi_page_t *head;   // of pending, when all that waits there had been seen to
    uint32_t tick;
} mi_sleep_t;

#define MI_HEAP_CACHE 4u // first-class heaps whose thread heap a thread finds at once

struct mi_theap_s {
    uintptr_t free_key; // what mi_free_step compares with: key, or MI_KEY_NOBODY's while many of
                        // the blocks that are freed are guests (guest.h)
    uintptr_t key;      // upper bits of the map entries of our pages, in place
    uint32_t far_turns; // frees by mi_guest_free until it is asked anew what free_key shall be
    uint32_t far_count; // guests among those since then
    mi_page_t *guests;  // owner; guest lists by far_class, then those of long blocks (guest.h)
    mi_theap_t *real;   // itself; a counting proxy (life.c) names the true one here
    mi_page_t *direct[MI_DIRECT_COUNT]; // by size in granules: the current page of the class
    mi_page_t *current[MI_CLASS_TOTAL]; // by class; never NULL, mi_page_empty when there is none
    mi_page_t *exact_direct[MI_DIRECT_COUNT];   // as direct, for blocks that keep their exact size;
                                                // the first never has blocks
    uint64_t homes[(MI_CLASS_TOTAL + 63) / 64]; // bit: the class may have a page, current or queued
    mi_theap_t *proxy;                          // its counting proxy, NULL = none
    _Atomic(mi_heap_t *) heap;         // which heap's pages these are; changes under the life lock
    size_t empty_bytes;                // touched bytes of pages without live blocks that are kept
    size_t empty_max;                  // of them, as was right at the last look at the clock
    size_t empty_own;                  // the same for large pages, and when it takes fresh memory
    size_t hot_bytes;                  // of the current pages that hold one block each
    uint64_t looked_at_ms;             // the clock, when it was last asked
    uint32_t looks_left_out;           // so often it is not asked when it would be
    uint32_t full_shift;               // a full page waits until this part of it was freed
    uint64_t trim_at_ms;               // when kept empty pages are looked at next
    _Atomic(uint64_t) malloc_count;    // owner writes: allocations that the slow path saw
    _Atomic(size_t) page_count;        // owner writes: pages that it got, less those it gave back
    _Atomic(uint64_t) page_total;      // owner writes: pages it ever made
    uint32_t collect_tick;             // slow paths since the last collection by their number
    _Atomic(uint32_t) tick;            // owner writes: slow paths taken; paces the clock checks
    uint16_t lent_at[MI_CLASS_COUNT];  // tick at which another class took this one's page
    uint8_t lent_soon[MI_CLASS_COUNT]; // how often, one after the other, it was wanted soon after
    uint32_t fineness;                 // which classes it has (mi_class_server)
    size_t surplus;                    // bytes that blocks are too large for that (theap.c)
    size_t long_bytes;                 // of the long blocks that its lists have room for (guest.h)
    size_t long_max;                   // of them, as was right at the last look; 0 = no such lists
    uint32_t longer;                   // requests that blocks of longer pages served, or might have
    uint32_t single_class;             // of the last block whose page, its only one, had waited
    uint32_t singles;                  // how often one of the same class came next
    uint32_t pressure_seen;            // mi_arena_pressure() at the last trim
    const mi_page_t *sparse_page;      // its block was hardly touched, when that was asked last ...
    uint32_t sparse_left;              // ... which is taken for granted so many times more
    uint64_t heap_cache_id[MI_HEAP_CACHE]; // main heap's only: ids of heaps this thread used lately
    mi_theap_t *heap_cache[MI_HEAP_CACHE]; // and the thread heaps in them
    uint32_t side_count;     // main heap's only: thread heaps of this thread in other heaps
    mi_heap_t *default_heap; // main heap's only: plain allocations go there; NULL = here
    bool is_watched;         // main heap's only: every allocation shall take the slow path
    mi_sampling_t sampling;  // owner only
    mi_secrets_t secrets;    // owner only

    // What other threads look at.
    _Atomic(mi_page_t *)
        pending;           // any thread pushes pages whose remote list became non-empty (remote.c)
    mi_theap_t *all_next;  // every thread heap ever made; set before publishing, never changed
    mi_theap_t *list_next; // orphan list or pool, under the life lock
    _Atomic(uintptr_t) thread_id; // of the owner, 0 = none
    _Atomic(uint32_t) state;      // mi_theap_state_t; changes under the life lock
    _Atomic(size_t) far_released; // of page_count, those that other threads gave back (remote.h)
    mi_sleep_t sleep;             // whoever looks for sleepers (sleep.c)
    _Atomic(uint32_t)
        busy; // the owner is in a slow path (a fork child must not trust the lists then)

    // Owner only, and not touched by a thread that uses few classes and frees what is its own:
    // behind the first OS page, so that such a thread needs no other.
    mi_page_queue_t queue[MI_CLASS_TOTAL]; // available pages, by class
    mi_batch_t batch[MI_BATCH_SLOTS];      // of other threads' pages (remote.c)
};

static_assert(MI_DEBUG || MI_SECURE || offsetof(mi_theap_t, queue) <= 4096,
              "a thread heap touches one OS page at first");

// What a thread has that never allocated: no pages. Only as much of a thread heap as the fast paths
// of such a thread read (of the current pages, those of sizes that direct does not have), since
// each address in it is filled in when the library is loaded.
typedef struct mi_theap_front_s {
    uintptr_t free_key;
    uintptr_t key;
    uint32_t far_turns;
    uint32_t far_count;
    mi_page_t *guests;
    mi_theap_t *real;
    mi_page_t *direct[MI_DIRECT_COUNT];
    mi_page_t *current[MI_CLASS_LAST + 1];
} mi_theap_front_t;
static_assert(offsetof(mi_theap_front_t, free_key) == offsetof(mi_theap_t, free_key) &&
                  offsetof(mi_theap_front_t, key) == offsetof(mi_theap_t, key) &&
                  offsetof(mi_theap_front_t, guests) == offsetof(mi_theap_t, guests) &&
                  offsetof(mi_theap_front_t, real) == offsetof(mi_theap_t, real) &&
                  offsetof(mi_theap_front_t, direct) == offsetof(mi_theap_t, direct) &&
                  offsetof(mi_theap_front_t, current) == offsetof(mi_theap_t, current),
              "the front is laid out as the whole is");

extern MI_HIDDEN mi_theap_front_t mi_theap_empty; // read only
extern MI_HIDDEN mi_page_t
    mi_page_empty; // what an empty class has for its current page: no blocks, read only

// This thread's thread heap in the main heap. It may be mi_theap_empty, a proxy, or NULL where a
// slot starts so.
MI_INLINE mi_theap_t *mi_theap_get(void) {
    return (mi_theap_t *)mi_thread_get();
}

// The same for the fast paths: NULL also where it is not found in two loads.
MI_INLINE mi_theap_t *mi_theap_near(void) {
    return (mi_theap_t *)mi_thread_get_near();
}

// The true one; NULL = this thread has none yet.
MI_INLINE mi_theap_t *mi_theap_real(void) {
    mi_theap_t *const theap = mi_theap_get();
    return (MI_THREAD_SLOT_MAY_BE_NULL && theap == NULL) ? NULL : theap->real;
}

// How a free begins: where the map's window tells of p, and the thread's heap. false = one of the
// two is not there: take the slow path.
MI_INLINE bool mi_free_begin(const void *p, uintptr_t *index, mi_theap_t **theap) {
    *index = mi_page_map_index(p);
    if (MI_UNLIKELY(*index >= MI_MAP_WINDOW_SLICES))
        return false;
    *theap = mi_theap_near();
    return !MI_THREAD_SLOT_MAY_BE_NULL || *theap != NULL;
}

MI_INLINE mi_heap_t *mi_theap_heap(const mi_theap_t *theap) {
    return mi_load_relaxed(&theap->heap);
}

// Pages that it has. For others than its owner a guess: it may just be recycled.
MI_INLINE size_t mi_theap_pages(const mi_theap_t *theap) {
    const size_t gone = mi_load_acquire(&theap->far_released); // with mi_page_release_far
    const size_t had = mi_load_relaxed(&theap->page_count);
    return had < gone ? 0 : had - gone;
}

// For the test that kills a thread inside a change; the product has nothing here.
#ifndef MI_CHANGE_FAULTS
#    define MI_CHANGE_FAULTS 0
#endif
#if MI_CHANGE_FAULTS
void mi_change_entered(const mi_theap_t *theap); // may never return
#else
MI_INLINE void mi_change_entered(const mi_theap_t *theap) {
    (void)theap;
}
#endif

// Marks a change of the thread heap's lists; nests.
MI_INLINE uint32_t mi_theap_enter(mi_theap_t *theap) {
    const uint32_t was = mi_load_relaxed(&theap->busy);
    mi_store_relaxed(&theap->busy, was + 1);
    mi_fork_point();
    mi_change_entered(theap);
    return was;
}

MI_INLINE void mi_theap_leave(mi_theap_t *theap, uint32_t was) {
    mi_fork_point();
    mi_store_relaxed(&theap->busy, was);
}

// Makes a fresh struct (all zero but key) a thread heap without pages.
void mi_theap_reset(mi_theap_t *theap);
// Finds out what it may keep.
void mi_theap_bound(mi_theap_t *theap);
// A block of this size. *is_zero_opt becomes true if it reads as zero already but for its first
// word; the caller has set it to false. NULL = no memory. exact: MI_CLASS_EXACT for a block that
// keeps its exact size, which the caller then notes (exact.h), else 0.
void *mi_theap_alloc(mi_theap_t *theap, size_t size, uint32_t exact, bool *is_zero_opt);
// A huge block of this size where it is likely to grow in place. NULL = there is no such place.
void *mi_theap_alloc_roomy(mi_theap_t *theap, size_t size, bool *is_zero_opt);
// A page without live blocks is kept for a while or given back.
void mi_theap_retire(mi_theap_t *theap, mi_page_t *page);
// What mi_page_used_up does to the page, for a thread heap that is marked busy.
void mi_theap_used_up(mi_theap_t *theap, mi_page_t *page);
// A page that was full has free blocks again.
void mi_theap_make_available(mi_theap_t *theap, mi_page_t *page);
// Makes a page of this thread heap with one block, which is live, one of a huge block: it may
// change its length then. true = it is one. By the owner of the block, too.
bool mi_theap_loosen(mi_theap_t *theap, mi_page_t *page);
// A list of long blocks serves its class from now on.
void mi_theap_serve_list(mi_theap_t *theap, mi_page_t *list);
// Gives back pages without live blocks: the kept ones and, when all, the current ones too.
void mi_theap_trim(mi_theap_t *theap, bool all);
// Gives back pages without live blocks, those of the largest blocks first, until what was touched
// of the others is at most so many bytes. Returns how many; *has_given: it gave any back.
size_t mi_theap_reduce(mi_theap_t *theap, size_t most, bool *has_given);
// The thread heap takes memory that nobody had touched, or that was given back: what it keeps, in
// lists of long blocks (guest.h) and beyond its own share, is no use then, and serves whoever comes
// next. It is marked busy.
void mi_theap_fresh(mi_theap_t *theap);
// Now and then, from slow paths: gives back what has lain idle long enough. The theap is marked
// busy.
void mi_theap_tick(mi_theap_t *theap);
// Takes a page out of the queue, or from being current. It is in no list then, and used counts live
// blocks.
void mi_theap_detach(mi_theap_t *theap, mi_page_t *page);
// Takes over a page that is in no list of another thread heap.
void mi_theap_attach(mi_theap_t *theap, mi_page_t *page);

#endif
