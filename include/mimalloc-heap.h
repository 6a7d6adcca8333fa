// Heaps, arenas, sub-processes and guarded allocation: the second half of mimalloc.h, which
// includes this file. The rules at the head of mimalloc.h hold here too.
#ifndef MIMALLOC_HEAP_H
#define MIMALLOC_HEAP_H

#include "mimalloc.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mi_subproc_s;

// ---- heaps ----
// A heap is a set of blocks that can be walked, collected and destroyed together. Any thread may
// allocate from any heap; mi_free frees its blocks as all others. The main heap is the one that
// mi_malloc uses.

struct mi_heap_s;
typedef struct mi_heap_s mi_heap_t;

// A new, empty heap; NULL when memory is short.
mi_decl_nodiscard mi_decl_export mi_heap_t *mi_heap_new(void);
// Ends the heap; its live blocks stay valid and belong to the main heap from now on, which yet
// allocates nothing from an exclusive arena that they lie in. No other thread may use the heap at
// that time. NULL and the main heap are left alone.
mi_decl_export void mi_heap_delete(mi_heap_t *heap);
// Ends the heap and frees all its blocks at once. No other thread may use the heap or its blocks.
// NULL and the main heap are left alone.
mi_decl_export void mi_heap_destroy(mi_heap_t *heap);
// mi_collect for what the calling thread has in this heap.
mi_decl_export void mi_heap_collect(mi_heap_t *heap, bool force);
// The main heap.
mi_decl_nodiscard mi_decl_export mi_heap_t *mi_heap_main(void);
// The heap that block p belongs to, NULL when p is not ours.
mi_decl_nodiscard mi_decl_export mi_heap_t *mi_heap_of(const void *p);
// Whether p points into a block or page of the heap.
mi_decl_nodiscard mi_decl_export bool mi_heap_contains(const mi_heap_t *heap, const void *p);
// Whether p points into a page of any heap.
mi_decl_nodiscard mi_decl_export bool mi_any_heap_contains(const void *p);
// Memory that the heap takes from now on should come from this NUMA node; a negative number means
// any. Arenas that were said to lie there come first (mi_manage_memory,
// mi_reserve_huge_os_pages_at); else the OS decides, which places memory at the node of its first
// use.
mi_decl_export void mi_heap_set_numa_affinity(mi_heap_t *heap, int numa_node);

// mi_malloc from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_malloc(mi_heap_t *heap, size_t size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2);
// mi_zalloc from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_zalloc(mi_heap_t *heap, size_t size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2);
// mi_calloc from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_calloc(mi_heap_t *heap, size_t count, size_t size) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size2(2, 3);
// mi_mallocn from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_mallocn(mi_heap_t *heap, size_t count, size_t size) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size2(2, 3);
// mi_malloc_small from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_malloc_small(mi_heap_t *heap, size_t size) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(2);
// mi_zalloc_small from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_zalloc_small(mi_heap_t *heap, size_t size) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(2);
// mi_realloc; a new block comes from the heap.
mi_decl_nodiscard mi_decl_export void *mi_heap_realloc(mi_heap_t *heap, void *p,
                                                       size_t newsize) mi_attr_noexcept
    mi_attr_alloc_size(3);
// mi_reallocn; a new block comes from the heap.
mi_decl_nodiscard mi_decl_export void *mi_heap_reallocn(mi_heap_t *heap, void *p, size_t count,
                                                        size_t size) mi_attr_noexcept
    mi_attr_alloc_size2(3, 4);
// mi_reallocf; a new block comes from the heap.
mi_decl_nodiscard mi_decl_export void *mi_heap_reallocf(mi_heap_t *heap, void *p,
                                                        size_t newsize) mi_attr_noexcept
    mi_attr_alloc_size(3);
// mi_malloc_aligned from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_malloc_aligned(mi_heap_t *heap, size_t size,
                       size_t alignment) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2)
    mi_attr_alloc_align(3);
// mi_malloc_aligned_at from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_malloc_aligned_at(mi_heap_t *heap, size_t size, size_t alignment,
                          size_t offset) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2);
// mi_zalloc_aligned from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_zalloc_aligned(mi_heap_t *heap, size_t size,
                       size_t alignment) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2)
    mi_attr_alloc_align(3);
// mi_zalloc_aligned_at from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_zalloc_aligned_at(mi_heap_t *heap, size_t size, size_t alignment,
                          size_t offset) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2);
// mi_calloc_aligned from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_calloc_aligned(mi_heap_t *heap, size_t count, size_t size,
                       size_t alignment) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size2(2, 3)
    mi_attr_alloc_align(4);
// mi_calloc_aligned_at from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_calloc_aligned_at(mi_heap_t *heap, size_t count, size_t size, size_t alignment,
                          size_t offset) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size2(2, 3);
// mi_realloc_aligned; a new block comes from the heap.
mi_decl_nodiscard mi_decl_export void *
mi_heap_realloc_aligned(mi_heap_t *heap, void *p, size_t newsize, size_t alignment) mi_attr_noexcept
    mi_attr_alloc_size(3) mi_attr_alloc_align(4);
// mi_realloc_aligned_at; a new block comes from the heap.
mi_decl_nodiscard mi_decl_export void *mi_heap_realloc_aligned_at(mi_heap_t *heap, void *p,
                                                                  size_t newsize, size_t alignment,
                                                                  size_t offset) mi_attr_noexcept
    mi_attr_alloc_size(3);
// mi_rezalloc; a new block comes from the heap.
mi_decl_nodiscard mi_decl_export void *mi_heap_rezalloc(mi_heap_t *heap, void *p,
                                                        size_t newsize) mi_attr_noexcept
    mi_attr_alloc_size(3);
// mi_recalloc; a new block comes from the heap.
mi_decl_nodiscard mi_decl_export void *mi_heap_recalloc(mi_heap_t *heap, void *p, size_t newcount,
                                                        size_t size) mi_attr_noexcept
    mi_attr_alloc_size2(3, 4);
// mi_rezalloc_aligned; a new block comes from the heap.
mi_decl_nodiscard mi_decl_export void *mi_heap_rezalloc_aligned(mi_heap_t *heap, void *p,
                                                                size_t newsize,
                                                                size_t alignment) mi_attr_noexcept
    mi_attr_alloc_size(3) mi_attr_alloc_align(4);
// mi_rezalloc_aligned_at; a new block comes from the heap.
mi_decl_nodiscard mi_decl_export void *mi_heap_rezalloc_aligned_at(mi_heap_t *heap, void *p,
                                                                   size_t newsize, size_t alignment,
                                                                   size_t offset) mi_attr_noexcept
    mi_attr_alloc_size(3);
// mi_recalloc_aligned; a new block comes from the heap.
mi_decl_nodiscard mi_decl_export void *mi_heap_recalloc_aligned(mi_heap_t *heap, void *p,
                                                                size_t newcount, size_t size,
                                                                size_t alignment) mi_attr_noexcept
    mi_attr_alloc_size2(3, 4) mi_attr_alloc_align(5);
// mi_recalloc_aligned_at; a new block comes from the heap.
mi_decl_nodiscard mi_decl_export void *
mi_heap_recalloc_aligned_at(mi_heap_t *heap, void *p, size_t newcount, size_t size,
                            size_t alignment, size_t offset) mi_attr_noexcept
    mi_attr_alloc_size2(3, 4);
// mi_strdup into the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict char *
mi_heap_strdup(mi_heap_t *heap, const char *s) mi_attr_noexcept mi_attr_malloc;
// mi_strndup into the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict char *
mi_heap_strndup(mi_heap_t *heap, const char *s, size_t n) mi_attr_noexcept mi_attr_malloc;
// mi_realpath; a new block comes from the heap.
mi_decl_nodiscard mi_decl_export char *mi_heap_realpath(mi_heap_t *heap, const char *fname,
                                                        char *resolved_name) mi_attr_noexcept;
// mi_new from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_alloc_new(mi_heap_t *heap, size_t size) mi_attr_malloc mi_attr_alloc_size(2);
// mi_new_n from the heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_heap_alloc_new_n(mi_heap_t *heap, size_t count, size_t size) mi_attr_malloc
    mi_attr_alloc_size2(2, 3);

// One area of a heap: blocks of one size that lie beside each other.
typedef struct mi_heap_area_s {
    void *blocks;           // the first block
    size_t reserved;        // bytes of the area
    size_t committed;       // bytes of it that were handed out so far
    size_t used;            // live blocks
    size_t block_size;      // bytes of a block that may be used
    size_t full_block_size; // bytes of a block with padding and metadata
    void *reserved1;        // the library's own
} mi_heap_area_t;

// Called for an area (block NULL) and then for each live block in it. false ends the walk.
typedef bool(mi_cdecl mi_block_visit_fun)(const mi_heap_t *heap, const mi_heap_area_t *area,
                                          void *block, size_t block_size, void *arg);
// Calls visitor for every area of the heap, and for every live block when visit_blocks. No other
// thread may use the heap meanwhile; the visitor must not allocate from it or free its blocks.
// false when the visitor ended the walk. In the debug build a walk over the blocks is also a check:
// each whose end was overwritten is reported, as when it is freed.
mi_decl_export bool mi_heap_visit_blocks(mi_heap_t *heap, bool visit_blocks,
                                         mi_block_visit_fun *visitor, void *arg);
// mi_heap_visit_blocks for those blocks of the heap only whose thread has ended. Other threads may
// use the heap meanwhile, but none of those blocks: no thread that begins takes them over until the
// walk has passed.
mi_decl_export bool mi_heap_visit_abandoned_blocks(mi_heap_t *heap, bool visit_blocks,
                                                   mi_block_visit_fun *visitor, void *arg);
// Visits the blocks of ended threads in all heaps of a sub-process; heap_tag is ignored.
mi_decl_export bool mi_abandoned_visit_blocks(struct mi_subproc_s *subproc_id, int heap_tag,
                                              bool visit_blocks, mi_block_visit_fun *visitor,
                                              void *arg);
// Whether p points into memory of this library, of any kind. Any value is allowed; its memory is
// not touched.
mi_decl_nodiscard mi_decl_export bool mi_is_in_heap_region(const void *p) mi_attr_noexcept;
// Whether the malloc of the program itself ends in this library; found out by calling it.
mi_decl_nodiscard mi_decl_export bool mi_is_redirected(void) mi_attr_noexcept;

// ---- thread heaps ----
//
// The part of a heap that one thread uses; only that thread may allocate from it. It spares the
// look-up that a mi_heap_ function does.

struct mi_theap_s;
typedef struct mi_theap_s mi_theap_t;

// The calling thread's part of the heap; NULL when memory is short.
mi_decl_nodiscard mi_decl_export mi_theap_t *mi_heap_theap(mi_heap_t *heap);
// The thread heap that mi_malloc uses in the calling thread.
mi_decl_nodiscard mi_decl_export mi_theap_t *mi_theap_get_default(void);
// Makes mi_malloc of the calling thread allocate from theap (of the same thread); returns the one
// so far.
mi_decl_export mi_theap_t *mi_theap_set_default(mi_theap_t *theap);
// mi_collect for this thread heap.
mi_decl_export void mi_theap_collect(mi_theap_t *theap, bool force) mi_attr_noexcept;
// mi_malloc from the thread heap; theap NULL, in this and the functions below: as mi_malloc.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_theap_malloc(mi_theap_t *theap, size_t size) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(2);
// mi_zalloc from the thread heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_theap_zalloc(mi_theap_t *theap, size_t size) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(2);
// mi_calloc from the thread heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_theap_calloc(mi_theap_t *theap, size_t count, size_t size) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size2(2, 3);
// mi_malloc_small from the thread heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_theap_malloc_small(mi_theap_t *theap, size_t size) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(2);
// mi_zalloc_small from the thread heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_theap_zalloc_small(mi_theap_t *theap, size_t size) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(2);
// mi_malloc_aligned from the thread heap.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_theap_malloc_aligned(mi_theap_t *theap, size_t size,
                        size_t alignment) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2)
    mi_attr_alloc_align(3);
// mi_realloc; a new block comes from the thread heap.
mi_decl_nodiscard mi_decl_export void *mi_theap_realloc(mi_theap_t *theap, void *p,
                                                        size_t newsize) mi_attr_noexcept
    mi_attr_alloc_size(3);

// ---- arenas: memory from the OS ----

typedef void *mi_arena_id_t;

// Reserves pages of 1 GiB, spread over numa_nodes nodes (0: all); a warning is given when that took
// longer than timeout_msecs (0: never). 0 or an errno value: then only the first nodes have theirs.
mi_decl_export int mi_reserve_huge_os_pages_interleave(size_t pages, size_t numa_nodes,
                                                       size_t timeout_msecs) mi_attr_noexcept;
// Reserves pages of 1 GiB on one NUMA node (negative: any), all of them or none; a warning is given
// when that took longer than timeout_msecs (0: never). 0 or an errno value.
mi_decl_export int mi_reserve_huge_os_pages_at(size_t pages, int numa_node,
                                               size_t timeout_msecs) mi_attr_noexcept;
// mi_reserve_huge_os_pages_at; the arena's id goes to *arena_id (may be NULL); exclusive: only
// heaps made for it use it.
mi_decl_export int mi_reserve_huge_os_pages_at_ex(size_t pages, int numa_node, size_t timeout_msecs,
                                                  bool exclusive,
                                                  mi_arena_id_t *arena_id) mi_attr_noexcept;
// Reserves pages of 1 GiB; *pages_reserved (may be NULL) gets how many there are, also on failure.
// Deprecated: mi_reserve_huge_os_pages_interleave.
mi_decl_export int mi_reserve_huge_os_pages(size_t pages, double max_secs,
                                            size_t *pages_reserved) mi_attr_noexcept;
// Reserves size bytes of address space for allocation; commit: with memory; allow_large: large OS
// pages. 0 or an errno value.
mi_decl_export int mi_reserve_os_memory(size_t size, bool commit,
                                        bool allow_large) mi_attr_noexcept;
// mi_reserve_os_memory; the arena's id goes to *arena_id (may be NULL); exclusive: only heaps made
// for it use it.
mi_decl_export int mi_reserve_os_memory_ex(size_t size, bool commit, bool allow_large,
                                           bool exclusive,
                                           mi_arena_id_t *arena_id) mi_attr_noexcept;
// Gives memory of the caller (size bytes at start, which must stay mapped) to the allocator:
// is_committed: usable at once; is_large: in large OS pages, never decommitted; is_zero: known to
// be zero. false when it is too small.
mi_decl_export bool mi_manage_os_memory(void *start, size_t size, bool is_committed, bool is_large,
                                        bool is_zero, int numa_node) mi_attr_noexcept;
// mi_manage_os_memory; the arena's id goes to *arena_id (may be NULL); exclusive: only heaps made
// for it use it.
mi_decl_export bool mi_manage_os_memory_ex(void *start, size_t size, bool is_committed,
                                           bool is_large, bool is_zero, int numa_node,
                                           bool exclusive,
                                           mi_arena_id_t *arena_id) mi_attr_noexcept;
// Commits (or decommits) size bytes at start of memory that the caller manages; *is_zero (may be
// NULL) says whether they are zero now. false on failure.
typedef bool(mi_cdecl mi_commit_fun_t)(bool commit, void *start, size_t size, bool *is_zero,
                                       void *user_arg);
// mi_manage_os_memory_ex for memory that is committed by the caller's own function (NULL: by the
// OS): piece by piece (whole multiples of mi_arena_min_alignment) when it is first needed, by any
// thread, not at the same time for the same piece. Unless is_pinned, the function is also asked to
// decommit what has been unused for a while; false: it stays committed. It must not allocate with
// this library.
mi_decl_export bool mi_manage_memory(void *start, size_t size, bool is_committed, bool is_pinned,
                                     bool is_zero, int numa_node, bool exclusive,
                                     mi_commit_fun_t *commit_fun, void *commit_fun_arg,
                                     mi_arena_id_t *arena_id) mi_attr_noexcept;
// The memory of an arena; *size (may be NULL) gets its bytes. NULL for NULL.
mi_decl_export void *mi_arena_area(mi_arena_id_t arena_id, size_t *size) mi_attr_noexcept;
// Whether p lies in the arena.
mi_decl_nodiscard mi_decl_export bool mi_arena_contains(mi_arena_id_t arena_id,
                                                        const void *p) mi_attr_noexcept;
// The alignment that memory given to mi_manage_os_memory should have; less costs its unaligned
// ends.
mi_decl_nodiscard mi_decl_export size_t mi_arena_min_alignment(void) mi_attr_noexcept;
// So many aligned bytes mi_manage_os_memory accepts in any case; fewer may be refused.
mi_decl_nodiscard mi_decl_export size_t mi_arena_min_size(void) mi_attr_noexcept;
// A new heap whose blocks all come from this arena; NULL when memory is short.
mi_decl_nodiscard mi_decl_export mi_heap_t *mi_heap_new_in_arena(mi_arena_id_t arena_id);
// mi_heap_new_in_arena (NULL: any arena). heap_tag and allow_destroy are ignored: every heap can be
// destroyed.
mi_decl_nodiscard mi_decl_export mi_heap_t *mi_heap_new_ex(int heap_tag, bool allow_destroy,
                                                           mi_arena_id_t arena_id);
// Takes an exclusive arena, with the live blocks in it, out of use, so that its memory can be saved
// and brought back: *base gets its address, *size its bytes, of which only the first *accessed_size
// need be saved (each may be NULL). Heaps made in it can only be deleted or destroyed from now on;
// no other thread may use them meanwhile. false, and nothing is done: the arena is not exclusive,
// or a heap of it was deleted while blocks lived.
mi_decl_export bool mi_arena_unload(mi_arena_id_t arena_id, void **base, size_t *accessed_size,
                                    size_t *size);
// Brings back an unloaded arena, in this process or another one of the same build: start, the same
// address as before, has its saved content and is readable and writable for size bytes; is_zero:
// what was not saved reads as zero. Its blocks are in the first heap that is made in it
// (mi_heap_new_in_arena). false, and *arena_id (may be NULL) is NULL: it is no such memory.
mi_decl_export bool mi_arena_reload(void *start, size_t size, mi_commit_fun_t *commit_fun,
                                    void *commit_fun_arg, bool is_pinned, bool is_zero,
                                    int numa_node, mi_arena_id_t *arena_id);
// Prints the arenas to the registered output.
mi_decl_export void mi_arenas_print(void) mi_attr_noexcept;
// Prints the arenas to the registered output; the argument is ignored.
mi_decl_export void mi_debug_show_arenas(bool show_pages) mi_attr_noexcept;

// ---- sub-processes ----
//
// A sub-process keeps the memory of its threads apart: plain allocations of a thread that was added
// to it come from a heap of its own, and what its ended threads leave is taken over within it only.
// Heaps that its threads make belong to it; when it ends they stay, in the main sub-process.

struct mi_subproc_s;
typedef struct mi_subproc_s *mi_subproc_id_t;

// The sub-process in which the program starts.
mi_decl_nodiscard mi_decl_export mi_subproc_id_t mi_subproc_main(void);
// The calling thread's sub-process.
mi_decl_nodiscard mi_decl_export mi_subproc_id_t mi_subproc_current(void);
// A new sub-process without threads; NULL when memory is short.
mi_decl_nodiscard mi_decl_export mi_subproc_id_t mi_subproc_new(void);
// Ends a sub-process whose threads have all ended; live blocks stay valid and go to the main one.
mi_decl_export void mi_subproc_delete(mi_subproc_id_t subproc);
// mi_subproc_delete that also frees every block that is still live, but for those of heaps that its
// threads made.
mi_decl_export void mi_subproc_destroy(mi_subproc_id_t subproc);
// Puts the calling thread into the sub-process, for its allocations from now on.
mi_decl_export void mi_subproc_add_current_thread(mi_subproc_id_t subproc);
// Called for a heap; false ends the walk.
typedef bool(mi_cdecl mi_heap_visit_fun)(mi_heap_t *heap, void *arg);
// Calls visitor for each heap of the sub-process, first for the one that plain allocations come
// from. The visitor may delete or destroy the heap that it is called for, no other. false when it
// ended the walk.
mi_decl_export bool mi_subproc_visit_heaps(mi_subproc_id_t subproc, mi_heap_visit_fun *visitor,
                                           void *arg);

// ---- guarded allocation ----
//
// A guarded block ends at an inaccessible OS page, so that an overflow stops the program at the
// faulty instruction. Every thread heap has a rate and a size bound of its own; until they are set
// here they are those of the options, which count for threads that start later. Blocks with an
// alignment are not guarded, nor those of heaps in an exclusive arena, which may be unloaded.

// Makes every sample_rate-th allocation of the thread heap (of the calling thread) a guarded one
// (0: none); seed says where the count begins, 0: somewhere.
mi_decl_export void mi_theap_guarded_set_sample_rate(mi_theap_t *theap, size_t sample_rate,
                                                     size_t seed);
// Only allocations of min to max bytes of the thread heap (of the calling thread) are guarded.
mi_decl_export void mi_theap_guarded_set_size_bound(mi_theap_t *theap, size_t min, size_t max);
// mi_theap_guarded_set_sample_rate for the calling thread's part of the heap.
mi_decl_export void mi_heap_guarded_set_sample_rate(mi_heap_t *heap, size_t sample_rate,
                                                    size_t seed);
// mi_theap_guarded_set_size_bound for the calling thread's part of the heap.
mi_decl_export void mi_heap_guarded_set_size_bound(mi_heap_t *heap, size_t min, size_t max);

// ---- names of mimalloc v2 that keep their meaning ----

// The heap that mi_malloc of the calling thread allocates from.
mi_decl_nodiscard mi_decl_export mi_heap_t *mi_heap_get_default(void);
// The main heap, under its old name.
mi_decl_nodiscard mi_decl_export mi_heap_t *mi_heap_get_backing(void);
// Makes mi_malloc of the calling thread allocate from heap; returns the one so far.
mi_decl_export mi_heap_t *mi_heap_set_default(mi_heap_t *heap);
// Whether p is a block of the heap.
mi_decl_nodiscard mi_decl_export bool mi_heap_contains_block(mi_heap_t *heap, const void *p);
// Whether p points into a page of the heap.
mi_decl_nodiscard mi_decl_export bool mi_heap_check_owned(mi_heap_t *heap, const void *p);
// Whether the page of block p belongs to the heap, is not the one that is allocated from now, and
// has at most perc_threshold percent of its blocks live: then moving p to a new block helps to
// empty it (defragmentation). Unsafe: the thread that allocated p asks, or none uses the heap.
mi_decl_nodiscard mi_decl_export bool
mi_unsafe_heap_page_is_under_utilized(mi_heap_t *heap, void *p,
                                      size_t perc_threshold) mi_attr_noexcept;
// Whether p points into a page of the heap that mi_malloc of the calling thread uses.
mi_decl_nodiscard mi_decl_export bool mi_check_owned(const void *p);

#ifdef __cplusplus
}
#endif

#endif
