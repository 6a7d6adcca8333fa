#include "diag/stats.h"

#include "diag/message.h"

// Bytes as a short human figure; the result lives in buf.
static const char *bytes_text(int64_t bytes, char *buf, size_t cap) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    mi_text_t t;
    mi_text_init(&t, buf, cap);
    uint64_t v = (uint64_t)(bytes < 0 ? -bytes : bytes) * 10;
    size_t unit = 0;
    for (; v >= 10240 && unit < 4; unit++)
        v /= 1024;
    mi_text_fmt(&t, "%s%llu.%llu %s", bytes < 0 ? "-" : "", (unsigned long long)(v / 10),
                (unsigned long long)(v % 10), units[unit]);
    return buf;
}

// One printed row: where its figure lies in mi_stats_t and how it is shown. Figures that nothing
// was counted for are left out, unless they are the main ones.
typedef struct stats_row_s {
    const char *name;
    size_t offset;
    bool is_count; // peak, total and current; else only a total
    bool is_bytes;
    bool is_main;
} stats_row_t;

#define ROW(name, field, is_count, is_bytes, is_main)                                              \
    { name, offsetof(mi_stats_t, field), is_count, is_bytes, is_main }
static const stats_row_t stats_rows[] = {
    ROW("reserved", reserved, true, true, false),
    ROW("committed", committed, true, true, false),
    ROW("in pages", page_committed, true, true, true),
    ROW("blocks", malloc_normal, true, true, false), // known for one heap, not for the process
    ROW("large blocks", malloc_huge, true, true, false),
    ROW("purged", purged, false, true, false),
    ROW("pages", pages, true, false, false),
    ROW("abandoned pages", pages_abandoned, true, false, false),
    ROW("threads", threads, true, false, false),
    ROW("heaps", heaps, true, false, false),
    ROW("thread heaps", theaps, true, false, false),
    ROW("allocations", malloc_normal_count, false, false, true),
    ROW("large allocs", malloc_huge_count, false, false, false),
    ROW("guarded allocs", malloc_guarded_count, false, false, false),
    ROW("arenas", arena_count, false, false, false),
    ROW("purges", purge_calls, false, false, false),
    ROW("pages reclaimed", pages_reclaim_on_alloc, false, false, false),
};
#undef ROW

static const char *figure_text(int64_t value, bool is_bytes, char *buf, size_t cap) {
    if (is_bytes)
        return bytes_text(value, buf, cap);
    mi_text_t t;
    mi_text_init(&t, buf, cap);
    mi_text_fmt(&t, "%lld", (long long)value);
    return buf;
}

static void print_row(const mi_stats_t *s, const stats_row_t *row, mi_output_fun *out, void *arg) {
    const void *const at = (const char *)s + row->offset;
    char peak[24], total[24], current[24];
    const mi_stat_count_t none = {0, 0, 0};
    const mi_stat_count_t c = (row->is_count ? *(const mi_stat_count_t *)at : none);
    const int64_t sum = (row->is_count ? c.total : ((const mi_stat_counter_t *)at)->total);
    if (!row->is_main && sum == 0 && c.peak == 0 && c.current == 0)
        return;
    figure_text(sum, row->is_bytes, total, sizeof(total));
    if (row->is_count)
        mi_message_fmt(out, arg, "  %-16s %14s %14s %14s\n", row->name,
                       figure_text(c.peak, row->is_bytes, peak, sizeof(peak)), total,
                       figure_text(c.current, row->is_bytes, current, sizeof(current)));
    else
        mi_message_fmt(out, arg, "  %-16s %14s %14s\n", row->name, "", total);
}

void mi_process_print_to(const mi_os_process_info_t *info, mi_output_fun *out, void *arg) {
    char rss[24], peak[24];
    mi_message_fmt(
        out, arg, "  elapsed %llu.%03llu s, user %llu.%03llu s, system %llu.%03llu s\n",
        (unsigned long long)(info->elapsed_ms / 1000),
        (unsigned long long)(info->elapsed_ms % 1000), (unsigned long long)(info->user_ms / 1000),
        (unsigned long long)(info->user_ms % 1000), (unsigned long long)(info->system_ms / 1000),
        (unsigned long long)(info->system_ms % 1000));
    mi_message_fmt(out, arg, "  rss %s, peak rss %s, page faults from disk %zu\n",
                   bytes_text((int64_t)info->current_rss, rss, sizeof(rss)),
                   bytes_text((int64_t)info->peak_rss, peak, sizeof(peak)), info->page_faults);
}

void mi_stats_print_to(const mi_stats_t *s, mi_output_fun *out, void *arg) {
    mi_message_fmt(out, arg, "mimalloc statistics:\n  %-16s %14s %14s %14s\n", "", "peak", "total",
                   "current");
    for (size_t i = 0; i < sizeof(stats_rows) / sizeof(stats_rows[0]); i++)
        print_row(s, &stats_rows[i], out, arg);
}

static void json_count(mi_text_t *t, const char *name, mi_stat_count_t c) {
    mi_text_fmt(t, "  \"%s\": { \"total\": %lld, \"peak\": %lld, \"current\": %lld },\n", name,
                (long long)c.total, (long long)c.peak, (long long)c.current);
}

static void json_counter(mi_text_t *t, const char *name, mi_stat_counter_t c) {
    mi_text_fmt(t, "  \"%s\": { \"total\": %lld },\n", name, (long long)c.total);
}

static void json_bins(mi_text_t *t, const char *name, const mi_stat_count_t *bins,
                      mi_bin_bytes_fn bin_bytes) {
    mi_text_fmt(t, "  \"%s\": [", name);
    bool is_first = true;
    for (size_t i = 0; i < MI_STAT_BIN_COUNT; i++) {
        const mi_stat_count_t c = bins[i];
        if (c.total == 0 && c.current == 0 && c.peak == 0)
            continue;
        mi_text_fmt(t,
                    "%s\n    { \"bin\": %zu, \"size\": %zu, \"total\": %lld, \"peak\": %lld, "
                    "\"current\": %lld }",
                    is_first ? "" : ",", i, bin_bytes(i), (long long)c.total, (long long)c.peak,
                    (long long)c.current);
        is_first = false;
    }
    mi_text_fmt(t, "%s]", is_first ? "" : "\n  ");
}

void mi_stats_json_to(const mi_stats_t *stats, const mi_os_process_info_t *info,
                      mi_bin_bytes_fn bin_bytes, mi_text_t *t) {
    mi_text_fmt(t, "{\n  \"version\": %d,\n  \"mimalloc_version\": %d,\n", MI_STAT_VERSION,
                MI_MALLOC_VERSION);
    mi_text_fmt(t,
                "  \"process\": { \"elapsed_msecs\": %llu, \"user_msecs\": %llu, "
                "\"system_msecs\": %llu, \"page_faults\": %zu, \"rss_current\": %zu, "
                "\"rss_peak\": %zu, \"commit_current\": %zu, \"commit_peak\": %zu },\n",
                (unsigned long long)info->elapsed_ms, (unsigned long long)info->user_ms,
                (unsigned long long)info->system_ms, info->page_faults, info->current_rss,
                info->peak_rss, info->current_commit, info->peak_commit);
#define MI_STAT_COUNT(stat)   json_count(t, #stat, stats->stat);
#define MI_STAT_COUNTER(stat) json_counter(t, #stat, stats->stat);
    MI_STAT_FIELDS()
#undef MI_STAT_COUNT
#undef MI_STAT_COUNTER
    json_bins(t, "malloc_bins", stats->malloc_bins, bin_bytes);
    mi_text_str(t, ",\n");
    json_bins(t, "page_bins", stats->page_bins, bin_bytes);
    mi_text_str(t, "\n}\n");
}
