// Statistics: process-wide counters that the core raises on its slow paths, and their printed and
// JSON forms. Per-block figures are not counted here, a hot path has no time for that: the entry
// layer adds what the core derives from its pages when somebody asks. Any thread; nothing
// allocates.
#ifndef MI_DIAG_STATS_H
#define MI_DIAG_STATS_H

#include "base/atomic.h"
#include "base/base.h"
#include "base/text.h"
#include "mimalloc-stats.h"

typedef struct mi_live_count_s {
    _Atomic(int64_t) total; // all that was ever added
    _Atomic(int64_t)
        peak; // highest current; may miss a peak that two threads make together for a moment
    _Atomic(int64_t) current; // now
} mi_live_count_t;

typedef struct mi_live_counter_s {
    _Atomic(int64_t) total;
} mi_live_counter_t;

#define MI_STAT_COUNT(stat)   mi_live_count_t stat;
#define MI_STAT_COUNTER(stat) mi_live_counter_t stat;
typedef struct mi_live_stats_s {
    MI_STAT_FIELDS()
} mi_live_stats_t;
#undef MI_STAT_COUNT
#undef MI_STAT_COUNTER

extern mi_live_stats_t mi_live_stats;

// amount may be negative.
void mi_live_count_add(mi_live_count_t *count, int64_t amount);

// For the core, on slow paths: MI_STAT_ADD(pages, 1); MI_STAT_ADD(committed, -bytes);
// MI_STAT_INC(mmap_calls, 1).
#define MI_STAT_ADD(field, amount) mi_live_count_add(&mi_live_stats.field, (int64_t)(amount))
#define MI_STAT_INC(field, amount)                                                                 \
    ((void)mi_fetch_add_relaxed(&mi_live_stats.field.total, (int64_t)(amount)))

// Copies the live counters into a cleared structure; size and version are set.
void mi_stats_snapshot(mi_stats_t *stats);
void mi_stats_print_to(const mi_stats_t *stats, mi_output_fun *out, void *arg);
// bin_bytes tells the largest block of a bin; the size classes are the core's.
typedef size_t (*mi_bin_bytes_fn)(size_t bin);
void mi_stats_json_to(const mi_stats_t *stats, mi_bin_bytes_fn bin_bytes, mi_text_t *t);
void mi_process_print_to(mi_output_fun *out, void *arg);

#endif
