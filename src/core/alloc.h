// What the allocator does, for the layer of entry points: facts and results only. Nothing here sets
// errno, calls a new-handler, prints or aborts; that is decided above. NULL from an allocation
// means: no memory, or a size beyond MI_REQUEST_MAX. Every function may be called on any thread at
// any time: before initialisation, in a TLS destructor, after process detach. Names of this layer
// start with mi_core_.
#ifndef MI_CORE_ALLOC_H
#define MI_CORE_ALLOC_H

#include "base/atomic.h"
#include "base/base.h"
#include "core/limits.h"
#include "core/size_class.h"

typedef struct mi_heap_s mi_heap_t;
typedef struct mi_theap_s mi_theap_t;

typedef enum mi_free_result_e {
    MI_FREE_OK,      // freed, or p was NULL
    MI_FREE_FOREIGN, // not in our heap
    MI_FREE_INVALID, // in our heap, but no block starts there (interior, misaligned, never
                     // allocated)
    MI_FREE_DOUBLE,  // the block is free already (found in debug and secure builds, and for large
                     // blocks)
    MI_FREE_CORRUPT, // debug and secure builds: the block's canary or the free list is damaged
} mi_free_result_t;

// ---- Allocation
// -------------------------------------------------------------------------------------------- Of
// any size: the slow twin of mi_malloc_try (alloc_inline.h), and complete by itself. Every result
// is at a multiple of 16. zero: the whole usable size reads as zero.
void *mi_core_malloc(size_t size, bool zero);
// A block that keeps the exact size: mi_core_usable gives what was asked for, and what its last
// resizing asked for (exact.h). Otherwise a block like any other.
void *mi_core_malloc_exact(size_t size, bool zero);
// At p + offset a multiple of align (a power of two, else NULL). align + size must not exceed
// MI_REQUEST_MAX.
void *mi_core_malloc_aligned(size_t size, size_t align, size_t offset, bool zero);
void *mi_core_malloc_aligned_exact(size_t size, size_t align, size_t offset, bool zero);
// The slow twin of mi_free_step, and complete by itself.
mi_free_result_t mi_core_free(void *p);
// Usable bytes at p, 0 = p is NULL or *result is not MI_FREE_OK. result may be NULL.
size_t mi_core_usable(const void *p, mi_free_result_t *result);
// Usable bytes of the block that a request of this size would get.
size_t mi_core_good_size(size_t size);

typedef enum mi_realloc_flag_e {
    MI_REALLOC_ZERO = 1,     // what is beyond the old usable size reads as zero
    MI_REALLOC_IN_PLACE = 2, // never move; NULL = does not fit
    MI_REALLOC_EXACT =
        4, // the result keeps its exact size, unless it is a block in place that does not
} mi_realloc_flag_t;
// p is ours or NULL. NULL = no memory, p untouched. *result (may be NULL) says when p is not one of
// our blocks; then NULL is returned and nothing was done. size 0 gives a block of the smallest
// size.
void *mi_core_realloc(void *p, size_t size, unsigned flags, mi_free_result_t *result);
typedef struct mi_core_resize_s {
    size_t size;
    size_t align; // of p + offset, a power of two
    size_t offset;
    unsigned flags; // mi_realloc_flag_t
} mi_core_resize_t;
// mi_core_realloc whose new block, if one is needed, comes from the heap.
void *mi_core_heap_resize(mi_heap_t *heap, void *p, const mi_core_resize_t *to,
                          mi_free_result_t *result);
// Is this value an address in our heap? (O(1), never touches p's memory)
bool mi_core_contains(const void *p);

// What was written behind the end of a block (debug build).
typedef struct mi_damage_s {
    size_t size;   // bytes that are the caller's; when that is lost: at most so many
    size_t first;  // the first byte that was changed, counted like them
    bool is_known; // the size is not lost
} mi_damage_t;
// Whether something was written behind the end of the live block p. Whoever holds the block.
bool mi_core_damage(const void *p, mi_damage_t *damage);

// ---- First-class heaps: usable from any thread
// -------------------------------------------------------------
mi_heap_t *mi_core_heap_main(void);
mi_heap_t *mi_core_heap_new(void);         // NULL = no memory
void mi_core_heap_delete(mi_heap_t *heap); // its blocks stay valid and belong to the main heap from
                                           // now on, which takes no others from an exclusive arena
void mi_core_heap_destroy(
    mi_heap_t *heap); // frees all its blocks; no other thread may be using them
mi_heap_t *mi_core_heap_of(const void *p); // NULL = not in our heap
// A sub-process is a heap, from which the plain allocations of its threads come, and all heaps that
// its threads make.
mi_heap_t *mi_core_subproc_new(void);                     // NULL = no memory
mi_heap_t *mi_core_heap_subproc(const mi_heap_t *heap);   // the heap that stands for it
mi_heap_t *mi_core_heap_before(const mi_heap_t *heap,     // the live heap of the sub-process that
                               const mi_heap_t *subproc); // was made before heap, NULL: the last
                                                          // one; the main heap is not among them
// heap NULL: the heap that plain allocations of the calling thread come from.
void *mi_core_heap_malloc(mi_heap_t *heap, size_t size, bool zero);
void *mi_core_heap_malloc_aligned(mi_heap_t *heap, size_t size, size_t align, size_t offset,
                                  bool zero);

// One run of equal blocks, as the visitor sees it.
typedef struct mi_core_area_s {
    void *start;        // first block
    size_t bytes;       // addresses of the page
    size_t committed;   // bytes that hold blocks by now
    size_t block_bytes; // usable size of each block
    size_t used;        // live blocks
} mi_core_area_t;
// Called for each area (block NULL), then, if asked for, for each live block of it. false = stop.
typedef bool (*mi_core_visit_fn)(const mi_heap_t *heap, const mi_core_area_t *area, void *block,
                                 size_t block_bytes, void *arg);
// Visits what the heap holds, over all its threads. The caller keeps other threads out of the heap.
// false = the visitor stopped.
bool mi_core_heap_visit(mi_heap_t *heap, bool blocks_too, mi_core_visit_fn visit, void *arg);
// The same of what ended threads have left in the heap, while others go on: none of them takes it
// over meanwhile.
bool mi_core_heap_visit_left(mi_heap_t *heap, bool blocks_too, mi_core_visit_fn visit, void *arg);
// The same of all, areas only, while other threads go on. Of their pages it tells what they looked
// like a moment ago: what others freed and they did not take back yet counts as live, and an area
// has no start. visit returns true, and may not allocate.
void mi_core_heap_count(mi_heap_t *heap, mi_core_visit_fn visit, void *arg);

// ---- Life of the process and its threads
// -------------------------------------------------------------------
void mi_core_process_init(void); // idempotent; every allocation does it by itself
void mi_core_thread_init(void);  // likewise
void mi_core_thread_done(
    void); // Windows: from DllMain; Linux: called by itself. May be called twice.
bool mi_core_is_main_thread(void);
mi_theap_t *mi_core_theap(void); // of this thread in the main heap; NULL = no memory
// The heap that plain allocations of this thread come from, and how to choose another one (its fast
// paths are then off). false = no memory.
mi_heap_t *mi_core_default_heap(void);
bool mi_core_set_default_heap(mi_heap_t *heap);
// Gives back what is free: this thread's empty pages, those of dead threads, and, when forced, all
// free memory to the OS at once.
void mi_core_collect(bool is_forced);
// Gives back so many of the calling thread's pages without live blocks, in the main heap, that what
// was touched of the others is at most so many bytes; to the OS at once.
void mi_core_reduce(size_t most);

// ---- Arenas by request
// -------------------------------------------------------------------------------------
// Commits or decommits a part of memory that its provider manages; *is_zero (NULL when it
// decommits): it reads as zero now. false = it could not.
typedef bool (*mi_memory_commit_fn)(bool commit, void *start, size_t bytes, bool *is_zero,
                                    void *arg);
// Memory for an arena.
typedef struct mi_memory_s {
    void *start;
    size_t bytes;
    bool is_committed;          // usable without a commit
    bool is_zero;               // known to read as zero
    bool is_exclusive;          // for heaps made in the arena only
    bool is_pinned;             // never purged
    int numa_node;              // where it is; negative = unknown
    mi_memory_commit_fn commit; // NULL = the OS does it
    void *commit_arg;
} mi_memory_t;
// Reserves address space now, for at least so many bytes of blocks, committed at once if so wished.
// *arena is its identity for the functions below.
bool mi_core_arena_reserve(const mi_memory_t *wish, bool allow_large, void **arena);
// Manages memory that the caller provides and never takes back.
bool mi_core_arena_manage(const mi_memory_t *given, void **arena);
void *mi_core_arena_area(const void *arena, size_t *bytes);
bool mi_core_arena_contains(const void *arena, const void *p);
mi_heap_t *mi_core_heap_new_in_arena(void *arena); // allocates from this arena only

// Takes an exclusive arena out of use with what lives in it. *base: its memory, *bytes long, of
// which the first *accessed hold anything. false, and nothing is done: not exclusive, or the main
// heap has blocks in it.
bool mi_core_arena_unload(void *arena, void **base, size_t *accessed, size_t *bytes);
// Takes the memory of an unloaded arena in again, at the same address. Its blocks are in the first
// heap that is made in it. false = it is none of this build and address, or no memory.
bool mi_core_arena_reload(void *start, size_t bytes, bool is_zero, void **arena);

// ---- Facts for the statistics
// ------------------------------------------------------------------------------
typedef struct mi_core_stats_s {
    uint64_t malloc_count; // exact after mi_core_count_all(true) at start; otherwise a lower bound:
                           // it counts what the slow paths saw
    uint64_t page_count;   // pages in use now
    uint64_t page_total;   // pages ever made
    uint64_t page_bytes;   // bytes in pages now (addresses)
    uint64_t page_bytes_peak; // most ever
    uint64_t reserved_bytes;  // addresses reserved from the OS
    uint64_t reserved_peak;
    uint64_t committed_bytes; // slices in use or not purged yet
    uint64_t committed_peak;
    uint64_t purged_bytes; // ever given back to the OS, in total
    uint64_t reset_count;  // purge calls
    uint64_t arena_count;
    uint64_t thread_count;  // thread heaps in use now
    uint64_t thread_total;  // threads that ever allocated
    uint64_t adopted_count; // heaps of dead threads taken over by new ones
    uint64_t stolen_count;  // pages taken from dead threads' heaps
    uint64_t huge_count;    // blocks above MI_CLASSED_MAX ever made
    uint64_t heap_count;    // first-class heaps now, including the main heap
} mi_core_stats_t;
void mi_core_stats(mi_core_stats_t *stats);
// Makes malloc_count exact by sending every allocation through the slow path (about +10 ns each).
void mi_core_count_all(bool is_on);
// Sends the plain allocations of the calling thread through the slow path.
void mi_core_watch_thread(bool is_on);
// What the calling thread's thread heaps counted so far, exact or not as above.
uint64_t mi_core_thread_malloc_count(void);
// mi_core_heap_visit, areas only, over all that the calling thread owns, whatever its heap, while
// other threads go on. visit returns true, and may not allocate.
void mi_core_thread_visit(mi_core_visit_fn visit, void *arg);

// ---- Knobs the options layer sets (any time; the next event sees them)
// -------------------------------------
typedef struct mi_core_config_s {
    _Atomic(long) purge_delay_ms; // -1 never purges, 0 at once, default 250
    _Atomic(size_t) arena_bytes;  // of the first arena; 0 = default
    _Atomic(bool) is_thp_allowed; // let the kernel use huge pages from the start; default: only for
                                  // a large heap
    _Atomic(size_t) reserve_limit; // never reserve more addresses than this; 0 = no limit
    _Atomic(bool) never_use_os;    // only the arenas that exist by now
    _Atomic(bool) eager_commit;    // arenas are committed as a whole when they are made (Windows)
    _Atomic(bool) purge_keeps_memory; // purging gives up contents only: the OS takes the memory
                                      // when it is short of it
    _Atomic(uint32_t) purge_mult;     // of purge_delay_ms, for arenas
    _Atomic(size_t) purge_least; // bytes; shorter runs of free memory stay until a purge is forced
    _Atomic(size_t) span_max;    // bytes; larger huge blocks have a reservation of their own
    _Atomic(size_t) numa_nodes;  // 0 = as many as there are
    _Atomic(bool) is_numa_local; // no memory from arenas of other nodes
    _Atomic(uint32_t)
        collect_every;           // slow paths between two collections of a thread; 0 = by the clock
    _Atomic(uint32_t) tick_mask; // a slow path whose number has none of these bits sees what is due
    _Atomic(bool) never_steal;   // no pages from thread heaps without a thread
    _Atomic(uint64_t) fault_ns;  // from here on page faults are slow (page.c); default 4000
} mi_core_config_t;
extern mi_core_config_t mi_core_config;
// Each by itself: what depends on two of them may see one before the other.
#define mi_config(field)            mi_load_relaxed(&mi_core_config.field)
#define mi_config_set(field, value) mi_store_relaxed(&mi_core_config.field, (value))

// collect_every, and what follows from it.
MI_INLINE void mi_core_collect_every(uint32_t slow_paths) {
    mi_config_set(collect_every, slow_paths);
    mi_config_set(tick_mask, (slow_paths != 0 ? 0 : MI_TICKS - 1));
}

#endif
