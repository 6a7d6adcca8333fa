// The public interface of the allocator, for C and C++. It is compatible with mimalloc v3.4 in
// names, types and meaning; this header is also the API's reference documentation.
//
// Rules that hold for every function here unless its comment says otherwise: - Sizes and alignments
// are in bytes. An alignment is a power of two. - A function that allocates returns NULL when
// memory is short or when size arithmetic overflows, and then sets errno to ENOMEM (Windows: the
// functions of the C runtime's shape set the C runtime's errno, the others none). - A size of 0
// gives a unique, freeable block. Blocks are aligned to 16 bytes (8 bytes: sizes of at most 8). -
// Any thread may call any function at any time and free or resize blocks of any other thread. -
// Freeing NULL does nothing. A pointer that is not ours is reported on stderr and otherwise left
// alone.
#ifndef MIMALLOC_H
#define MIMALLOC_H

#define MI_MALLOC_VERSION 30400 // major * 10000 + minor * 100 + patch

// ---- attributes ----
#ifdef __cplusplus
#    if (__cplusplus >= 201103L) || (defined(_MSVC_LANG) && _MSVC_LANG >= 201103L)
#        define mi_attr_noexcept noexcept
#    else
#        define mi_attr_noexcept throw()
#    endif
#else
#    define mi_attr_noexcept
#endif

#if defined(__cplusplus) && (__cplusplus >= 201703)
#    define mi_decl_nodiscard [[nodiscard]]
#elif (defined(__GNUC__) && (__GNUC__ >= 4)) || defined(__clang__)
#    define mi_decl_nodiscard __attribute__((warn_unused_result))
#elif defined(_MSC_VER) && (_MSC_VER >= 1700)
#    define mi_decl_nodiscard _Check_return_
#else
#    define mi_decl_nodiscard
#endif

#if defined(_MSC_VER) || defined(__MINGW32__)
#    if !defined(MI_SHARED_LIB)
#        define mi_decl_export
#    elif defined(MI_SHARED_LIB_EXPORT)
#        define mi_decl_export __declspec(dllexport)
#    else
#        define mi_decl_export __declspec(dllimport)
#    endif
#    if defined(__MINGW32__)
#        define mi_decl_restrict
#        define mi_attr_malloc __attribute__((malloc))
#    else
#        define mi_decl_restrict __declspec(restrict)
#        define mi_attr_malloc
#    endif
#    define mi_cdecl __cdecl
#elif defined(__GNUC__)
#    define mi_cdecl
#    define mi_decl_restrict
#    define mi_decl_export __attribute__((visibility("default")))
#    define mi_attr_malloc __attribute__((malloc))
#else
#    define mi_cdecl
#    define mi_decl_restrict
#    define mi_decl_export
#    define mi_attr_malloc
#endif

#if defined(__GNUC__) || defined(__clang__)
#    define mi_attr_alloc_size(s)       __attribute__((alloc_size(s)))
#    define mi_attr_alloc_size2(s1, s2) __attribute__((alloc_size(s1, s2)))
#    define mi_attr_alloc_align(p)      __attribute__((alloc_align(p)))
#else
#    define mi_attr_alloc_size(s)
#    define mi_attr_alloc_size2(s1, s2)
#    define mi_attr_alloc_align(p)
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- the C standard's functions ----

// C malloc: a block of at least size bytes with undefined content.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_malloc(size_t size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);

// C calloc: count * size bytes, all zero. NULL when the product overflows.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_calloc(size_t count, size_t size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size2(1, 2);

// C realloc: p (or NULL) resized to newsize, moved when it must; the first min(old, new) bytes are
// kept. On failure NULL, and p is still valid. newsize 0 gives a small valid block and never frees
// p for good.
mi_decl_nodiscard mi_decl_export void *mi_realloc(void *p, size_t newsize) mi_attr_noexcept
    mi_attr_alloc_size(2);

// Resizes p without moving it: p when its usable size is at least newsize (or it could grow in
// place), else NULL and p is unchanged. NULL for p gives NULL. (The UCRT's _expand, mimalloc API.)
mi_decl_export void *mi_expand(void *p, size_t newsize) mi_attr_noexcept mi_attr_alloc_size(2);

// C free: gives back a block of any of this library's functions, from any thread. errno is kept.
mi_decl_export void mi_free(void *p) mi_attr_noexcept;

// POSIX strdup: a copy of the string s in a new block. NULL for s gives NULL.
mi_decl_nodiscard mi_decl_export mi_decl_restrict char *
mi_strdup(const char *s) mi_attr_noexcept mi_attr_malloc;

// POSIX strndup: a copy of at most n bytes of s, always terminated. NULL for s gives NULL.
mi_decl_nodiscard mi_decl_export mi_decl_restrict char *
mi_strndup(const char *s, size_t n) mi_attr_noexcept mi_attr_malloc;

// POSIX realpath: the absolute path of fname without links. resolved_name NULL gives a new block,
// else the result is written there (PATH_MAX bytes). NULL with errno set when the path cannot be
// resolved.
mi_decl_nodiscard mi_decl_export char *mi_realpath(const char *fname,
                                                   char *resolved_name) mi_attr_noexcept;

// ---- extended functions ----

// The largest size that the _small functions accept.
#define MI_SMALL_WSIZE_MAX (128)
#define MI_SMALL_SIZE_MAX  (MI_SMALL_WSIZE_MAX * sizeof(void *))

// mi_malloc for a size known to be at most MI_SMALL_SIZE_MAX.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_malloc_small(size_t size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);

// mi_zalloc for a size known to be at most MI_SMALL_SIZE_MAX.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_zalloc_small(size_t size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);

// mi_free for a block that was allocated with a size of at most MI_SMALL_SIZE_MAX.
mi_decl_export void mi_free_small(void *p) mi_attr_noexcept;

// A block of size bytes, all zero.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_zalloc(size_t size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);

// count * size bytes with undefined content. NULL when the product overflows.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_mallocn(size_t count, size_t size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size2(1, 2);

// mi_realloc to count * size bytes. When the product overflows: NULL, p unchanged.
mi_decl_nodiscard mi_decl_export void *mi_reallocn(void *p, size_t count,
                                                   size_t size) mi_attr_noexcept
    mi_attr_alloc_size2(2, 3);

// mi_realloc that frees p when it fails (BSD reallocf).
mi_decl_nodiscard mi_decl_export void *mi_reallocf(void *p, size_t newsize) mi_attr_noexcept
    mi_attr_alloc_size(2);

// How many bytes of the block p may be used, at least its requested size; 0 for NULL and for
// foreign pointers.
mi_decl_nodiscard mi_decl_export size_t mi_usable_size(const void *p) mi_attr_noexcept;

// The usable size that mi_malloc(size) gives at least; size itself when it is impossible to
// allocate. A thread that has few blocks may get more (mi_usable_size tells), up to half as much
// again, and a block of 64 to 256 KiB that was used before may be up to 64 KiB longer.
mi_decl_nodiscard mi_decl_export size_t mi_good_size(size_t size) mi_attr_noexcept;

// ---- forms that also tell the usable size ----
//
// As the functions without the u; *block_size (may be NULL) gets the usable size of the block, 0 on
// failure.

// mi_malloc; *block_size is the usable size of the result.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_umalloc(size_t size, size_t *block_size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);
// mi_zalloc; *block_size is the usable size of the result.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_uzalloc(size_t size, size_t *block_size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);
// mi_calloc; *block_size is the usable size of the result.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_ucalloc(size_t count, size_t size, size_t *block_size) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size2(1, 2);
// mi_realloc; *block_size_pre is the usable size of p before (0 for NULL), *block_size_post that of
// the result.
mi_decl_nodiscard mi_decl_export void *mi_urealloc(void *p, size_t newsize, size_t *block_size_pre,
                                                   size_t *block_size_post) mi_attr_noexcept
    mi_attr_alloc_size(2);
// mi_free; *block_size is the usable size that p had.
mi_decl_export void mi_ufree(void *p, size_t *block_size) mi_attr_noexcept;
// mi_malloc_aligned; *block_size is the usable size of the result.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_umalloc_aligned(size_t size, size_t alignment,
                   size_t *block_size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1)
    mi_attr_alloc_align(2);
// mi_zalloc_aligned; *block_size is the usable size of the result.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_uzalloc_aligned(size_t size, size_t alignment,
                   size_t *block_size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1)
    mi_attr_alloc_align(2);
// mi_malloc_small; *block_size is the usable size of the result.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_umalloc_small(size_t size, size_t *block_size) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(1);
// mi_zalloc_small; *block_size is the usable size of the result.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_uzalloc_small(size_t size, size_t *block_size) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(1);

// ---- callbacks, process and threads ----

// Called now and then from allocating functions: force is true under mi_collect(true), heartbeat
// counts the calls.
typedef void(mi_cdecl mi_deferred_free_fun)(bool force, unsigned long long heartbeat, void *arg);
// Sets the one callback with which a program frees its own deferred garbage. It may allocate and
// free; it is never called from inside itself, and another thread may be in the last one for a
// while. NULL removes it.
mi_decl_export void mi_register_deferred_free(mi_deferred_free_fun *deferred_free,
                                              void *arg) mi_attr_noexcept;

// Receives a piece of a message, terminated by NUL, not necessarily a whole line.
typedef void(mi_cdecl mi_output_fun)(const char *msg, void *arg);
// Sets where messages go instead of stderr. It must not allocate with this library. NULL means
// stderr again.
mi_decl_export void mi_register_output(mi_output_fun *out, void *arg) mi_attr_noexcept;

// Receives an error: EAGAIN a double free, EFAULT a corrupted free list or block, ENOMEM memory is
// short, EOVERFLOW a size is too large, EINVAL a pointer that is not ours.
typedef void(mi_cdecl mi_error_fun)(int err, void *arg);
// Sets what is called on an error, after the message was written. NULL restores the default, which
// ends the process on EFAULT and EAGAIN in debug and secure builds and else does nothing. A free
// list that turns out to be corrupt ends the process in any case (secure builds).
mi_decl_export void mi_register_error(mi_error_fun *fun, void *arg);

// Gives back what the calling thread does not need: empty pages and pending frees; with force also
// everything that is kept at hand, down to the OS.
mi_decl_export void mi_collect(bool force) mi_attr_noexcept;
// Gives back pages of the main heap that the calling thread keeps without a live block, those of
// the largest blocks first, until at most target_thread_owned bytes of them are left that were ever
// used; to the OS at once. Free blocks beside live ones stay where they are.
mi_decl_export void mi_collect_reduce(size_t target_thread_owned) mi_attr_noexcept;
// The library's MI_MALLOC_VERSION: major * 10000 + minor * 100 + patch.
mi_decl_export int mi_version(void) mi_attr_noexcept;

// Does nothing any more: statistics are always whole. (Once: forgets the statistics so far.)
mi_decl_export void mi_stats_reset(void) mi_attr_noexcept;
// Adds the calling thread's counters to the process'. Only needed before reading the process' from
// another thread.
mi_decl_export void mi_stats_merge(void) mi_attr_noexcept;
// Prints the statistics to the registered output. The argument is ignored, it was a FILE* once.
mi_decl_export void mi_stats_print(void *out) mi_attr_noexcept;
// Prints the statistics through out, NULL for the registered output.
mi_decl_export void mi_stats_print_out(mi_output_fun *out, void *arg) mi_attr_noexcept;
// Prints the calling thread's part of the statistics through out, NULL for the registered output.
mi_decl_export void mi_thread_stats_print_out(mi_output_fun *out, void *arg) mi_attr_noexcept;
// Prints version, build and every option with its value to the registered output.
mi_decl_export void mi_options_print(void) mi_attr_noexcept;
// As mi_options_print, through out, NULL for the registered output.
mi_decl_export void mi_options_print_out(mi_output_fun *out, void *arg) mi_attr_noexcept;
// Prints time, memory and page faults of the process to the registered output.
mi_decl_export void mi_process_info_print(void) mi_attr_noexcept;
// As mi_process_info_print, through out, NULL for the registered output.
mi_decl_export void mi_process_info_print_out(mi_output_fun *out, void *arg) mi_attr_noexcept;

// What the process used so far: times in milliseconds (elapsed since the library started), memory
// in bytes, page faults that needed I/O. Committed memory is the whole process' where the system
// counts it (Windows), else what the allocator's arenas have in use. Any argument may be NULL.
mi_decl_export void mi_process_info(size_t *elapsed_msecs, size_t *user_msecs, size_t *system_msecs,
                                    size_t *current_rss, size_t *peak_rss, size_t *current_commit,
                                    size_t *peak_commit, size_t *page_faults) mi_attr_noexcept;

// Prepares the library. Never needed: the first allocation does it.
mi_decl_export void mi_process_init(void) mi_attr_noexcept;
// What happens at the end of the process: prints statistics if asked. Never needed. The library
// still works after.
mi_decl_export void mi_process_done(void) mi_attr_noexcept;
// Prepares the calling thread. Never needed: the thread's first allocation does it.
mi_decl_export void mi_thread_init(void) mi_attr_noexcept;
// Leaves the calling thread's memory for others to take over. Happens by itself at thread exit; the
// thread may go on allocating after it.
mi_decl_export void mi_thread_done(void) mi_attr_noexcept;
// Says that the calling thread belongs to a pool: its memory is then not taken over by other
// threads' frees.
mi_decl_export void mi_thread_set_in_threadpool(void) mi_attr_noexcept;

// ---- aligned allocation ----
//
// alignment is a power of two, of any magnitude; else NULL with EINVAL (POSIX forms) or NULL. The
// _at forms align p + offset instead of p. Blocks are freed with mi_free as every other block.

// A block of size bytes aligned to alignment.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_malloc_aligned(size_t size, size_t alignment) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(1) mi_attr_alloc_align(2);
// A block of size bytes whose byte offset is aligned to alignment.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_malloc_aligned_at(size_t size, size_t alignment, size_t offset) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(1);
// mi_malloc_aligned, all zero.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_zalloc_aligned(size_t size, size_t alignment) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(1) mi_attr_alloc_align(2);
// mi_malloc_aligned_at, all zero.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_zalloc_aligned_at(size_t size, size_t alignment, size_t offset) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(1);
// count * size bytes aligned to alignment, all zero. NULL when the product overflows.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_calloc_aligned(size_t count, size_t size, size_t alignment) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size2(1, 2) mi_attr_alloc_align(3);
// As mi_calloc_aligned, with byte offset aligned.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_calloc_aligned_at(size_t count, size_t size, size_t alignment,
                     size_t offset) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size2(1, 2);
// mi_realloc whose result is aligned to alignment.
mi_decl_nodiscard mi_decl_export void *mi_realloc_aligned(void *p, size_t newsize,
                                                          size_t alignment) mi_attr_noexcept
    mi_attr_alloc_size(2) mi_attr_alloc_align(3);
// mi_realloc whose result has byte offset aligned to alignment.
mi_decl_nodiscard mi_decl_export void *
mi_realloc_aligned_at(void *p, size_t newsize, size_t alignment, size_t offset) mi_attr_noexcept
    mi_attr_alloc_size(2);

// ---- resizing with zeroes ----
//
// As the realloc forms, and every byte beyond the old size is zero, if p itself came from a zeroing
// function and was only resized by zeroing functions.

// mi_realloc with the added bytes zero.
mi_decl_nodiscard mi_decl_export void *mi_rezalloc(void *p, size_t newsize) mi_attr_noexcept
    mi_attr_alloc_size(2);
// mi_reallocn with the added bytes zero (the UCRT's _recalloc).
mi_decl_nodiscard mi_decl_export void *mi_recalloc(void *p, size_t newcount,
                                                   size_t size) mi_attr_noexcept
    mi_attr_alloc_size2(2, 3);
// mi_realloc_aligned with the added bytes zero.
mi_decl_nodiscard mi_decl_export void *mi_rezalloc_aligned(void *p, size_t newsize,
                                                           size_t alignment) mi_attr_noexcept
    mi_attr_alloc_size(2) mi_attr_alloc_align(3);
// mi_realloc_aligned_at with the added bytes zero.
mi_decl_nodiscard mi_decl_export void *
mi_rezalloc_aligned_at(void *p, size_t newsize, size_t alignment, size_t offset) mi_attr_noexcept
    mi_attr_alloc_size(2);
// mi_realloc_aligned to newcount * size bytes with the added bytes zero.
mi_decl_nodiscard mi_decl_export void *mi_recalloc_aligned(void *p, size_t newcount, size_t size,
                                                           size_t alignment) mi_attr_noexcept
    mi_attr_alloc_size2(2, 3) mi_attr_alloc_align(4);
// mi_realloc_aligned_at to newcount * size bytes with the added bytes zero.
mi_decl_nodiscard mi_decl_export void *mi_recalloc_aligned_at(void *p, size_t newcount, size_t size,
                                                              size_t alignment,
                                                              size_t offset) mi_attr_noexcept
    mi_attr_alloc_size2(2, 3);

// ---- convenience for C: allocation of a type ----
#define mi_malloc_tp(tp)                  ((tp *)mi_malloc(sizeof(tp)))
#define mi_zalloc_tp(tp)                  ((tp *)mi_zalloc(sizeof(tp)))
#define mi_calloc_tp(tp, n)               ((tp *)mi_calloc(n, sizeof(tp)))
#define mi_mallocn_tp(tp, n)              ((tp *)mi_mallocn(n, sizeof(tp)))
#define mi_reallocn_tp(p, tp, n)          ((tp *)mi_reallocn(p, n, sizeof(tp)))
#define mi_recalloc_tp(p, tp, n)          ((tp *)mi_recalloc(p, n, sizeof(tp)))
#define mi_heap_malloc_tp(hp, tp)         ((tp *)mi_heap_malloc(hp, sizeof(tp)))
#define mi_heap_zalloc_tp(hp, tp)         ((tp *)mi_heap_zalloc(hp, sizeof(tp)))
#define mi_heap_calloc_tp(hp, tp, n)      ((tp *)mi_heap_calloc(hp, n, sizeof(tp)))
#define mi_heap_mallocn_tp(hp, tp, n)     ((tp *)mi_heap_mallocn(hp, n, sizeof(tp)))
#define mi_heap_reallocn_tp(hp, p, tp, n) ((tp *)mi_heap_reallocn(hp, p, n, sizeof(tp)))
#define mi_heap_recalloc_tp(hp, p, tp, n) ((tp *)mi_heap_recalloc(hp, p, n, sizeof(tp)))

// ---- options ----
// Every option is also read from the environment, MIMALLOC_<NAME> or MI_<NAME> in capitals, when it
// is first needed: a number, or on/true/yes, off/false/no; sizes take K, M, G, T (with or without
// iB or B) and are kept in KiB. Programs that run with more privileges than their user has ignore
// the environment.

typedef enum mi_option_e {
    mi_option_show_errors, // print errors and warnings; on unless it is set to 0
    mi_option_show_stats,  // print statistics at the end of the process; 2: in the debug build also
                           // the blocks that are still live, address and size, at most 200
    mi_option_verbose,     // print version, options and what is done
    mi_option_deprecated_eager_commit, // no effect: an option of earlier versions
    mi_option_arena_eager_commit, // 1: commit arenas as a whole when they are made (Windows); 0, 2:
                                  // as needed
    mi_option_purge_decommits, // 0: purging gives up the content only, and the OS takes the memory
                               // when it is short of it; 1: it takes it at once
    mi_option_allow_large_os_pages,            // use large OS pages (2 MiB): 0 no, 1 yes
    mi_option_reserve_huge_os_pages,           // reserve this many pages of 1 GiB at the start
    mi_option_reserve_huge_os_pages_at,        // on this NUMA node (-1: all)
    mi_option_reserve_os_memory,               // reserve this much memory at the start, KiB
    mi_option_deprecated_segment_cache,        // no effect: an option of earlier versions
    mi_option_deprecated_page_reset,           // no effect: an option of earlier versions
    mi_option_deprecated_abandoned_page_purge, // no effect: an option of earlier versions
    mi_option_deprecated_segment_reset,        // no effect: an option of earlier versions
    mi_option_deprecated_eager_commit_delay,   // no effect: an option of earlier versions
    mi_option_purge_delay,    // milliseconds until unused memory is given back; 0 at once, -1 never
    mi_option_use_numa_nodes, // how many NUMA nodes to use; 0: as many as there are
    mi_option_disallow_os_alloc, // take no memory from the OS: only reserved arenas
    mi_option_os_tag,            // no effect: memory carries no tag on Linux and Windows
    mi_option_max_errors,        // print at most this many errors
    mi_option_max_warnings,      // print at most this many warnings
    mi_option_deprecated_max_segment_reclaim, // no effect: an option of earlier versions
    mi_option_destroy_on_exit,  // 1: a library or plugin that the static library was linked into
                                // gives all its memory back when it is unloaded, live blocks too;
                                // 0: what is live stays, and on Linux also what its threads have at
                                // hand. At the end of the process the OS does it; libmimalloc.so
                                // and mimalloc.dll stay loaded
    mi_option_arena_reserve,    // address space of a new arena, KiB
    mi_option_arena_purge_mult, // arenas give back unused memory after purge_delay times this
    mi_option_deprecated_purge_extend_delay, // no effect: an option of earlier versions
    mi_option_disallow_arena_alloc, // every block above 4 MiB gets a reservation of its own from
                                    // the OS; smaller ones share arenas all the same
    mi_option_retry_on_oom, // Windows: milliseconds for which memory that the OS refuses is asked
                            // for again before an allocation fails, once until it gave some again;
                            // 0: not at all
    mi_option_visit_abandoned, // no effect: heap walks may always visit blocks of ended threads
    mi_option_guarded_min,     // guard only blocks of at least this many bytes
    mi_option_guarded_max,     // guard only blocks of at most this many bytes
    mi_option_guarded_precise, // guarded blocks end exactly at the guard page, even if unaligned
    mi_option_guarded_sample_rate, // guard one of this many allocations; 0: none
    mi_option_guarded_sample_seed, // where sampling starts; 0: random
    mi_option_generic_collect, // a thread collects after this many slow allocations and frees, when
                               // set; else by the clock
    mi_option_page_reclaim_on_free, // no effect: pages of ended threads are taken over when
                                    // allocating, never when freeing
    mi_option_page_full_retain,     // no effect: full pages are in no list, and cost nothing
    mi_option_page_max_candidates,  // no effect: no search, the first page with a free block serves
    mi_option_max_vabits,           // no effect: user addresses may have 48 bits
    mi_option_pagemap_commit, // 1: the page map gets its memory at the start (up to 8 MiB), so that
                              // no later use of it needs any; 0: where and when it is used
    mi_option_page_commit_on_demand, // no effect: what a page has not handed out costs no memory on
                                     // Linux; Windows commits its span as a whole
    mi_option_page_max_reclaim, // 0: take no pages from ended threads; else as many as are wanted
    mi_option_page_cross_thread_max_reclaim, // no effect: pages of living threads are never taken
                                             // over
    mi_option_allow_thp,                     // transparent huge pages: 0 no, 1 yes
    mi_option_minimal_purge_size, // leave shorter runs of unused memory until a forced collection,
                                  // KiB; 0: none
    mi_option_arena_max_object_size, // larger blocks get a reservation of their own, KiB; at most
                                     // 256 MiB counts
    mi_option_arena_is_numa_local, // memory of arenas that belong to a NUMA node serves its threads
                                   // only
    _mi_option_last,
    // earlier names
    mi_option_eager_commit = mi_option_deprecated_eager_commit,
    mi_option_segment_cache = mi_option_deprecated_segment_cache,
    mi_option_page_reset = mi_option_deprecated_page_reset,
    mi_option_abandoned_page_purge = mi_option_deprecated_abandoned_page_purge,
    mi_option_abandoned_page_reset = mi_option_deprecated_abandoned_page_purge,
    mi_option_segment_reset = mi_option_deprecated_segment_reset,
    mi_option_eager_commit_delay = mi_option_deprecated_eager_commit_delay,
    mi_option_max_segment_reclaim = mi_option_deprecated_max_segment_reclaim,
    mi_option_purge_extend_delay = mi_option_deprecated_purge_extend_delay,
    mi_option_large_os_pages = mi_option_allow_large_os_pages,
    mi_option_eager_region_commit = mi_option_arena_eager_commit,
    mi_option_reset_decommits = mi_option_purge_decommits,
    mi_option_reset_delay = mi_option_purge_delay,
    mi_option_limit_os_alloc = mi_option_disallow_os_alloc,
    mi_option_deprecated_eager_region_commit = mi_option_arena_eager_commit,
    mi_option_deprecated_reset_decommits = mi_option_purge_decommits,
    mi_option_allow_decommit = mi_option_purge_decommits,
    mi_option_decommit_delay = mi_option_purge_delay,
    mi_option_abandoned_page_decommit = mi_option_deprecated_abandoned_page_purge,
    mi_option_segment_decommit_delay = mi_option_deprecated_segment_reset,
    mi_option_decommit_extend_delay = mi_option_deprecated_purge_extend_delay
} mi_option_t;

// Whether the option is not 0. false for an unknown option.
mi_decl_nodiscard mi_decl_export bool mi_option_is_enabled(mi_option_t option);
// Sets the option to 1.
mi_decl_export void mi_option_enable(mi_option_t option);
// Sets the option to 0.
mi_decl_export void mi_option_disable(mi_option_t option);
// Sets the option to 1 or 0.
mi_decl_export void mi_option_set_enabled(mi_option_t option, bool enable);
// Sets the option to 1 or 0 unless the environment or the program has set it.
mi_decl_export void mi_option_set_enabled_default(mi_option_t option, bool enable);
// The option's value; 0 for an unknown option.
mi_decl_nodiscard mi_decl_export long mi_option_get(mi_option_t option);
// The option's value, at least min and at most max.
mi_decl_nodiscard mi_decl_export long mi_option_get_clamp(mi_option_t option, long min, long max);
// The value in bytes of an option that is a size.
mi_decl_nodiscard mi_decl_export size_t mi_option_get_size(mi_option_t option);
// Sets the option, at any time and by any thread. What was already done with the old value stays.
mi_decl_export void mi_option_set(mi_option_t option, long value);
// Sets the option unless the environment or the program has set it.
mi_decl_export void mi_option_set_default(mi_option_t option, long value);

// ---- functions in the shape of POSIX, BSD and Windows ----

// mi_free that ignores pointers which are not ours.
mi_decl_export void mi_cfree(void *p) mi_attr_noexcept;
// mi_expand, under its UCRT name.
mi_decl_export void *mi__expand(void *p, size_t newsize) mi_attr_noexcept;
// mi_usable_size (BSD).
mi_decl_nodiscard mi_decl_export size_t mi_malloc_size(const void *p) mi_attr_noexcept;
// mi_good_size (BSD).
mi_decl_nodiscard mi_decl_export size_t mi_malloc_good_size(size_t size) mi_attr_noexcept;
// mi_usable_size (glibc).
mi_decl_nodiscard mi_decl_export size_t mi_malloc_usable_size(const void *p) mi_attr_noexcept;
// POSIX posix_memalign: 0 and the block in *p; EINVAL when alignment is no power of two or no
// multiple of a pointer's size or p is NULL; ENOMEM. *p is unchanged on failure, errno always.
mi_decl_export int mi_posix_memalign(void **p, size_t alignment, size_t size) mi_attr_noexcept;
// glibc memalign. NULL with EINVAL when alignment is no power of two.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_memalign(size_t alignment, size_t size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(2)
    mi_attr_alloc_align(1);
// A block aligned to the OS's page size (BSD).
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_valloc(size_t size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);
// mi_valloc with the size rounded up to whole OS pages, one at least (glibc).
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_pvalloc(size_t size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);
// C11 aligned_alloc. NULL with EINVAL when alignment is no power of two; size need not be a
// multiple of it.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_aligned_alloc(size_t alignment, size_t size) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(2) mi_attr_alloc_align(1);
// mi_realloc to count * size bytes (glibc, OpenBSD). NULL with ENOMEM when the product overflows, p
// unchanged.
mi_decl_nodiscard mi_decl_export void *mi_reallocarray(void *p, size_t count,
                                                       size_t size) mi_attr_noexcept
    mi_attr_alloc_size2(2, 3);
// NetBSD reallocarr: p points to a pointer, which is resized to count * size bytes. 0, EINVAL (p is
// NULL) or ENOMEM.
mi_decl_nodiscard mi_decl_export int mi_reallocarr(void *p, size_t count,
                                                   size_t size) mi_attr_noexcept;
// UCRT _aligned_recalloc: mi_recalloc_aligned.
mi_decl_nodiscard mi_decl_export void *mi_aligned_recalloc(void *p, size_t newcount, size_t size,
                                                           size_t alignment) mi_attr_noexcept;
// UCRT _aligned_offset_recalloc: mi_recalloc_aligned_at.
mi_decl_nodiscard mi_decl_export void *mi_aligned_offset_recalloc(void *p, size_t newcount,
                                                                  size_t size, size_t alignment,
                                                                  size_t offset) mi_attr_noexcept;
// UCRT _wcsdup: a copy of a string of 16-bit units. NULL for s gives NULL.
mi_decl_nodiscard mi_decl_export mi_decl_restrict unsigned short *
mi_wcsdup(const unsigned short *s) mi_attr_noexcept mi_attr_malloc;
// UCRT _mbsdup: a copy of a multi-byte string. NULL for s gives NULL.
mi_decl_nodiscard mi_decl_export mi_decl_restrict unsigned char *
mi_mbsdup(const unsigned char *s) mi_attr_noexcept mi_attr_malloc;
// UCRT _dupenv_s: *buf gets a copy of the environment variable or NULL when there is none, *size
// (may be NULL) its bytes with the NUL or 0. 0, EINVAL (buf or name NULL) or ENOMEM.
mi_decl_export int mi_dupenv_s(char **buf, size_t *size, const char *name) mi_attr_noexcept;
// UCRT _wdupenv_s: mi_dupenv_s in 16-bit units. EINVAL where the OS has no such environment
// (Linux).
mi_decl_export int mi_wdupenv_s(unsigned short **buf, size_t *size,
                                const unsigned short *name) mi_attr_noexcept;
// mi_free; size is what was asked for, or the usable size. Debug and secure builds report a larger
// one, and end the process unless mi_register_error says otherwise.
mi_decl_export void mi_free_size(void *p, size_t size) mi_attr_noexcept;
// mi_free; size and alignment are what was asked for.
mi_decl_export void mi_free_size_aligned(void *p, size_t size, size_t alignment) mi_attr_noexcept;
// mi_free; alignment is what was asked for, which debug and secure builds check too.
mi_decl_export void mi_free_aligned(void *p, size_t alignment) mi_attr_noexcept;

// ---- what C++ operators are made of ----
//
// As operator new: when memory is short the installed new-handler is called and the allocation
// tried again; without a handler std::bad_alloc is thrown where the C++ runtime is there, else (C
// programs) the process is ended by abort.

// operator new(size).
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *mi_new(size_t size) mi_attr_malloc
    mi_attr_alloc_size(1);
// operator new(size, align_val_t).
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_new_aligned(size_t size, size_t alignment) mi_attr_malloc mi_attr_alloc_size(1)
    mi_attr_alloc_align(2);
// operator new(size, nothrow): the new-handler is called too; NULL when there is none, and when it
// throws. (Windows: what it throws leaves this function; the operators of mimalloc-new-delete.h
// give NULL there too.)
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_new_nothrow(size_t size) mi_attr_noexcept mi_attr_malloc mi_attr_alloc_size(1);
// operator new(size, align_val_t, nothrow): as mi_new_nothrow.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *
mi_new_aligned_nothrow(size_t size, size_t alignment) mi_attr_noexcept mi_attr_malloc
    mi_attr_alloc_size(1) mi_attr_alloc_align(2);
// mi_new of count * size bytes; an overflow of the product is a failure that no handler can cure.
mi_decl_nodiscard mi_decl_export mi_decl_restrict void *mi_new_n(size_t count,
                                                                 size_t size) mi_attr_malloc
    mi_attr_alloc_size2(1, 2);
// mi_realloc that fails as mi_new does.
mi_decl_nodiscard mi_decl_export void *mi_new_realloc(void *p, size_t newsize)
    mi_attr_alloc_size(2);
// mi_reallocn that fails as mi_new does.
mi_decl_nodiscard mi_decl_export void *mi_new_reallocn(void *p, size_t newcount, size_t size)
    mi_attr_alloc_size2(2, 3);

#ifdef __cplusplus
}
#endif

#include "mimalloc-heap.h"
#ifdef __cplusplus
#    include "mimalloc-stl.h"
#endif

#endif
