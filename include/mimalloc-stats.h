// Statistics as data: mi_stats_get and its JSON form. Compatible with mimalloc v3.4 (version 4 of
// the structure).
#ifndef MIMALLOC_STATS_H
#define MIMALLOC_STATS_H

#include "mimalloc.h"
#include <stdint.h>

#define MI_STAT_VERSION 4 // raised when the structure changes

// What is promised of the layout of mi_stats_t, on every system: size and version come first, each
// a size_t; then the fields in the order of MI_STAT_FIELDS, counts of three and counters of one
// signed 64-bit figure; then the room kept for more, and the bins. As long as MI_STAT_VERSION is 4
// nothing moves; mi_stats_get refuses a structure of another size or version, so that no figure is
// misread. (tests/api proves the layout when it is compiled.)

// An amount that rises and falls. Bytes or pieces, see the field.
typedef struct mi_stat_count_s {
    int64_t total;   // all that was ever added
    int64_t peak;    // the highest value of current
    int64_t current; // what is there now
} mi_stat_count_t;

// A number of events.
typedef struct mi_stat_counter_s {
    int64_t total;
} mi_stat_counter_t;

// Every figure, in the order of the structure. MI_STAT_COUNT(name) and MI_STAT_COUNTER(name) are
// the reader's.
#define MI_STAT_FIELDS()                                                                           \
    MI_STAT_COUNT(pages)                    /* pages in use */                                     \
    MI_STAT_COUNT(reserved)                 /* address space, bytes */                             \
    MI_STAT_COUNT(committed)                /* memory taken from the OS, bytes */                  \
    MI_STAT_COUNTER(reset)                  /* bytes whose content was given back */               \
    MI_STAT_COUNTER(purged)                 /* bytes given back to the OS */                       \
    MI_STAT_COUNT(page_committed)           /* bytes of pages that can be used */                  \
    MI_STAT_COUNT(pages_abandoned)          /* pages of ended threads */                           \
    MI_STAT_COUNT(threads)                  /* threads that have a heap */                         \
    MI_STAT_COUNT(malloc_normal)            /* bytes of blocks in pages */                         \
    MI_STAT_COUNT(malloc_huge)              /* bytes of blocks with a span of their own */         \
    MI_STAT_COUNT(malloc_requested)         /* bytes asked for (debug builds) */                   \
    MI_STAT_COUNTER(mmap_calls)             /* reservations */                                     \
    MI_STAT_COUNTER(commit_calls)           /* commits */                                          \
    MI_STAT_COUNTER(reset_calls)            /* resets */                                           \
    MI_STAT_COUNTER(purge_calls)            /* purges */                                           \
    MI_STAT_COUNTER(arena_count)            /* arenas ever made */                                 \
    MI_STAT_COUNTER(malloc_normal_count)    /* blocks in pages ever allocated */                   \
    MI_STAT_COUNTER(malloc_huge_count)      /* blocks with a span of their own ever allocated */   \
    MI_STAT_COUNTER(malloc_guarded_count)   /* guarded blocks ever allocated */                    \
    MI_STAT_COUNTER(arena_rollback_count)   /* claims of an arena that were given up */            \
    MI_STAT_COUNTER(arena_purges)           /* purges of an arena */                               \
    MI_STAT_COUNTER(pages_extended)         /* times a page got more blocks */                     \
    MI_STAT_COUNTER(pages_retire)           /* times a page became empty */                        \
    MI_STAT_COUNTER(page_searches)          /* pages looked at for a free block */                 \
    MI_STAT_COUNTER(page_searches_count)    /* searches for a free block */                        \
    MI_STAT_COUNTER(pages_reclaim_on_alloc) /* pages of ended threads taken over to allocate */    \
    MI_STAT_COUNTER(pages_reclaim_on_free)  /* the same, when freeing into them */                 \
    MI_STAT_COUNTER(pages_reabandon_full)   /* full pages left to others again */                  \
    MI_STAT_COUNTER(pages_unabandon_busy_wait) /* waits for a page in transition */                \
    MI_STAT_COUNT(heaps)                       /* heaps */                                         \
    MI_STAT_COUNT(theaps)                      /* thread heaps */

#define MI_STAT_BIN_COUNT 74 // size classes the statistics tell apart

typedef enum mi_chunkbin_e {
    MI_CBIN_SMALL,
    MI_CBIN_OTHER,
    MI_CBIN_MEDIUM,
    MI_CBIN_LARGE,
    MI_CBIN_HUGE,
    MI_CBIN_NONE,
    MI_CBIN_COUNT
} mi_chunkbin_t;

#define MI_STAT_COUNT(stat)   mi_stat_count_t stat;
#define MI_STAT_COUNTER(stat) mi_stat_counter_t stat;

// The caller sets size and version (mi_stats_t_decl does) before mi_stats_get.
typedef struct mi_stats_s {
    size_t size;    // sizeof(mi_stats_t) of the caller
    size_t version; // MI_STAT_VERSION of the caller
    MI_STAT_FIELDS()
    mi_stat_count_t _stat_reserved[4];
    mi_stat_counter_t _stat_counter_reserved[4];
    mi_stat_count_t malloc_bins[MI_STAT_BIN_COUNT]; // blocks per size class
    mi_stat_count_t page_bins[MI_STAT_BIN_COUNT];   // pages per size class
    mi_stat_count_t chunk_bins[MI_CBIN_COUNT];      // not kept, zero
} mi_stats_t;

#undef MI_STAT_COUNT
#undef MI_STAT_COUNTER

// Declares a structure that is ready for mi_stats_get.
#define mi_stats_t_decl(name)                                                                      \
    mi_stats_t name;                                                                               \
    name.size = sizeof(mi_stats_t);                                                                \
    name.version = MI_STAT_VERSION

#ifdef __cplusplus
extern "C" {
#endif

// The statistics of the process. false, and nothing is written, when stats is NULL or its size or
// version is another.
mi_decl_export bool mi_stats_get(mi_stats_t *stats) mi_attr_noexcept;
// The same as JSON text (docs/stats.schema.json), in buf (buf_size bytes) or, when buf is NULL, in
// a new block that the caller frees with mi_free. NULL when it does not fit or memory is short.
mi_decl_nodiscard mi_decl_export char *mi_stats_get_json(size_t buf_size,
                                                         char *buf) mi_attr_noexcept;
// Statistics that the caller has, as JSON text; buf as for mi_stats_get_json. NULL also when its
// size or version is another.
mi_decl_nodiscard mi_decl_export char *mi_stats_as_json(mi_stats_t *stats, size_t buf_size,
                                                        char *buf) mi_attr_noexcept;
// The largest block size in bytes of a bin of malloc_bins; 0 for a bin that does not exist.
mi_decl_nodiscard mi_decl_export size_t mi_stats_get_bin_size(size_t bin) mi_attr_noexcept;
// mi_stats_get for the pages and blocks of one heap. Other threads may go on: what is in their
// pages is counted as it was a moment ago, with blocks that they keep at hand, and those that
// others freed and they have not taken back yet.
mi_decl_export bool mi_heap_stats_get(mi_heap_t *heap, mi_stats_t *stats) mi_attr_noexcept;
// mi_stats_get_json for one heap.
mi_decl_nodiscard mi_decl_export char *mi_heap_stats_get_json(mi_heap_t *heap, size_t buf_size,
                                                              char *buf) mi_attr_noexcept;
// Prints the statistics of one heap through out, NULL for the registered output.
mi_decl_export void mi_heap_stats_print_out(mi_heap_t *heap, mi_output_fun *out,
                                            void *arg) mi_attr_noexcept;

// Does nothing: the figures of a heap are in the process' already, as soon as they are asked for.
mi_decl_export void mi_heap_stats_merge_to_subproc(mi_heap_t *heap) mi_attr_noexcept;
// Prints the statistics of each heap of a sub-process through out, NULL for the registered output.
mi_decl_export void mi_subproc_heap_stats_print_out(mi_subproc_id_t subproc_id, mi_output_fun *out,
                                                    void *arg) mi_attr_noexcept;

// mi_heap_stats_get for all heaps of a sub-process together.
mi_decl_export bool mi_subproc_stats_get(mi_subproc_id_t subproc_id,
                                         mi_stats_t *stats) mi_attr_noexcept;
// mi_heap_stats_get_json for all heaps of a sub-process together.
mi_decl_nodiscard mi_decl_export char *
mi_subproc_stats_get_json(mi_subproc_id_t subproc_id, size_t buf_size, char *buf) mi_attr_noexcept;
// mi_heap_stats_print_out for all heaps of a sub-process together.
mi_decl_export void mi_subproc_stats_print_out(mi_subproc_id_t subproc_id, mi_output_fun *out,
                                               void *arg) mi_attr_noexcept;

#ifdef __cplusplus
}
#endif

#endif
