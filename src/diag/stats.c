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

typedef struct stats_printer_s {
    mi_output_fun *out;
    void *arg;
} stats_printer_t;

static void print_bytes(stats_printer_t p, const char *name, mi_stat_count_t c) {
    char peak[24], total[24], current[24];
    mi_message_fmt(
        p.out, p.arg, "  %-16s %14s %14s %14s\n", name, bytes_text(c.peak, peak, sizeof(peak)),
        bytes_text(c.total, total, sizeof(total)), bytes_text(c.current, current, sizeof(current)));
}

// Figures that nothing was counted for are left out from here on.
static void print_pieces(stats_printer_t p, const char *name, mi_stat_count_t c) {
    if (c.peak == 0 && c.total == 0 && c.current == 0)
        return;
    mi_message_fmt(p.out, p.arg, "  %-16s %14lld %14lld %14lld\n", name, (long long)c.peak,
                   (long long)c.total, (long long)c.current);
}

static void print_counter(stats_printer_t p, const char *name, mi_stat_counter_t c) {
    if (c.total == 0)
        return;
    mi_message_fmt(p.out, p.arg, "  %-16s %14s %14lld\n", name, "", (long long)c.total);
}

static void print_counter_bytes(stats_printer_t p, const char *name, mi_stat_counter_t c) {
    if (c.total == 0)
        return;
    char total[24];
    mi_message_fmt(p.out, p.arg, "  %-16s %14s %14s\n", name, "",
                   bytes_text(c.total, total, sizeof(total)));
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
    const stats_printer_t p = {out, arg};
    mi_message_fmt(out, arg, "mimalloc statistics:\n  %-16s %14s %14s %14s\n", "", "peak", "total",
                   "current");
    print_bytes(p, "reserved", s->reserved);
    print_bytes(p, "committed", s->committed);
    print_bytes(p, "in pages", s->page_committed);
    if (s->malloc_normal.total + s->malloc_huge.total >
        0) { // known for one heap, not for the process
        print_bytes(p, "blocks", s->malloc_normal);
        print_bytes(p, "large blocks", s->malloc_huge);
    }
    print_counter_bytes(p, "purged", s->purged);
    print_pieces(p, "pages", s->pages);
    print_pieces(p, "abandoned pages", s->pages_abandoned);
    print_pieces(p, "threads", s->threads);
    print_pieces(p, "heaps", s->heaps);
    mi_message_fmt(out, arg, "  %-16s %14s %14lld\n", "allocations", "",
                   (long long)s->malloc_normal_count.total);
    print_counter(p, "large allocs", s->malloc_huge_count);
    print_counter(p, "guarded allocs", s->malloc_guarded_count);
    print_counter(p, "arenas", s->arena_count);
    print_counter(p, "reservations", s->mmap_calls);
    print_counter(p, "commits", s->commit_calls);
    print_counter(p, "purges", s->purge_calls);
    print_counter(p, "pages extended", s->pages_extended);
    print_counter(p, "pages retired", s->pages_retire);
    print_counter(p, "pages reclaimed", s->pages_reclaim_on_alloc);
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
