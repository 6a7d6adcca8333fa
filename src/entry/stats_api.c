// Statistics: the core's facts in the public structure, printed or as JSON.
#include "mimalloc-stats.h"

#include "base/base.h"
#include "base/atomic.h"
#include "base/text.h"
#include "core/alloc.h"
#include "core/size_class.h"
#include "diag/message.h"
#include "diag/stats.h"
#include "entry/entry.h"
#include "entry/guarded.h"
#include "os/os.h"

#define JSON_FIRST_BYTES ((size_t)16 * 1024)
#define JSON_MOST_BYTES  ((size_t)1024 * 1024)

// Bins of the public structure: the first eight are classes of their own, above that two classes
// share a bin.
#define BIN_SINGLES 8u
#define BIN_LAST    (BIN_SINGLES + 1 + (MI_CLASS_LAST - BIN_SINGLES - 1) / 2)
static_assert(BIN_LAST < MI_STAT_BIN_COUNT, "every class has a bin");

static size_t bin_of_class(uint32_t class_index) {
    return class_index <= BIN_SINGLES ? class_index
                                      : BIN_SINGLES + 1 + (class_index - BIN_SINGLES - 1) / 2;
}

size_t mi_stats_get_bin_size(size_t bin) mi_attr_noexcept {
    if (bin == 0 || bin > BIN_LAST)
        return 0;
    uint32_t class_index = (uint32_t)bin;
    if (bin > BIN_SINGLES)
        class_index = (uint32_t)(BIN_SINGLES + 2 + (bin - BIN_SINGLES - 1) * 2);
    return mi_class_bytes(class_index > MI_CLASS_LAST ? MI_CLASS_LAST : class_index);
}

static mi_stat_count_t count_of(uint64_t current, uint64_t peak, uint64_t total) {
    const mi_stat_count_t c = {.total = (int64_t)total,
                               .peak = (int64_t)(peak > current ? peak : current),
                               .current = (int64_t)current};
    return c;
}

// What is in the pages of a heap, area by area.
typedef struct area_sums_s {
    mi_stats_t *stats;
    int64_t pages;
    int64_t page_bytes;
    int64_t block_bytes;
    int64_t large_bytes;
} area_sums_t;

static bool area_add(const mi_heap_t *heap, const mi_core_area_t *area, void *block,
                     size_t block_bytes, void *arg) {
    (void)heap;
    (void)block;
    (void)block_bytes;
    area_sums_t *sums = arg;
    const int64_t live = (int64_t)(area->used * area->block_bytes);
    sums->pages++;
    sums->page_bytes += (int64_t)area->committed;
    if (area->block_bytes > MI_CLASSED_MAX) {
        sums->large_bytes += live;
        return true;
    }
    sums->block_bytes += live;
    const size_t bin = bin_of_class(mi_class_of(area->block_bytes));
    sums->stats->malloc_bins[bin].current += (int64_t)area->used;
    sums->stats->page_bins[bin].current++;
    return true;
}

static void stats_gather(mi_stats_t *stats) {
    mi_core_stats_t c;
    mi_core_stats(&c);
    mi_memzero(stats, sizeof(*stats));
    stats->size = sizeof(*stats);
    stats->version = MI_STAT_VERSION;
    stats->pages = count_of(c.page_count, c.page_count, c.page_total);
    stats->reserved = count_of(c.reserved_bytes, c.reserved_peak, c.reserved_peak);
    stats->committed = count_of(c.committed_bytes, c.committed_peak, c.committed_peak);
    stats->page_committed = count_of(c.page_bytes, c.page_bytes_peak, c.page_bytes_peak);
    stats->purged.total = (int64_t)c.purged_bytes;
    stats->purge_calls.total = (int64_t)c.reset_count;
    stats->arena_count.total = (int64_t)c.arena_count;
    stats->threads = count_of(c.thread_count, c.thread_count, c.thread_total);
    stats->pages_reclaim_on_alloc.total = (int64_t)c.stolen_count;
    stats->malloc_guarded_count.total = (int64_t)mi_guarded_count();
    stats->malloc_huge_count.total = (int64_t)c.huge_count;
    stats->malloc_normal_count.total = (int64_t)c.malloc_count;
    stats->heaps = count_of(c.heap_count, c.heap_count, c.heap_count);
}

// What another layout of the structure's reader would misread is not given out.
static bool stats_is_readable(const mi_stats_t *stats) {
    return stats != NULL && stats->size == sizeof(*stats) && stats->version == MI_STAT_VERSION;
}

typedef enum whose_e { OF_PROCESS, OF_THREAD, OF_HEAP, OF_SUBPROC } whose_t;

static bool heap_add(mi_heap_t *heap, void *arg) {
    mi_core_heap_count(heap, area_add, arg);
    return true;
}

// What lies in the pages of the calling thread, of a heap, or of all heaps of the sub-process that
// the heap stands for.
static void heap_gather(whose_t whose, mi_heap_t *heap, mi_stats_t *stats) {
    mi_memzero(stats, sizeof(*stats));
    stats->size = sizeof(*stats);
    stats->version = MI_STAT_VERSION;
    area_sums_t sums = {.stats = stats};
    if (whose == OF_SUBPROC) {
        (void)mi_subproc_visit_heaps((mi_subproc_id_t)(void *)heap, heap_add, &sums);
    } else if (whose == OF_HEAP) {
        (void)heap_add(heap, &sums);
    } else {
        mi_core_thread_visit(area_add, &sums);
        stats->malloc_normal_count.total = (int64_t)mi_core_thread_malloc_count();
    }
    stats->pages = count_of((uint64_t)sums.pages, 0, (uint64_t)sums.pages);
    stats->page_committed = count_of((uint64_t)sums.page_bytes, 0, (uint64_t)sums.page_bytes);
    stats->malloc_normal = count_of((uint64_t)sums.block_bytes, 0, (uint64_t)sums.block_bytes);
    stats->malloc_huge = count_of((uint64_t)sums.large_bytes, 0, (uint64_t)sums.large_bytes);
}

bool mi_stats_get(mi_stats_t *stats) mi_attr_noexcept {
    if (!stats_is_readable(stats))
        return false;
    stats_gather(stats);
    return true;
}

static bool heap_stats_get(whose_t whose, mi_heap_t *heap, mi_stats_t *stats) {
    if (heap == NULL || !stats_is_readable(stats))
        return false;
    heap_gather(whose, heap, stats);
    return true;
}

bool mi_heap_stats_get(mi_heap_t *heap, mi_stats_t *stats) mi_attr_noexcept {
    return heap_stats_get(OF_HEAP, heap, stats);
}

// The text in the caller's buffer, or in a block that grows until it fits.
static char *json_make(const mi_stats_t *stats, size_t buf_size, char *buf) {
    mi_os_process_info_t info;
    mi_entry_process_info(&info);
    mi_text_t t;
    if (buf != NULL) {
        mi_text_init(&t, buf, buf_size);
        mi_stats_json_to(stats, &info, mi_stats_get_bin_size, &t);
        return t.is_cut || buf_size == 0 ? NULL : buf;
    }
    for (size_t bytes = JSON_FIRST_BYTES; bytes <= JSON_MOST_BYTES; bytes *= 2) {
        char *block = mi_malloc(bytes);
        if (block == NULL)
            return NULL;
        mi_text_init(&t, block, bytes);
        mi_stats_json_to(stats, &info, mi_stats_get_bin_size, &t);
        if (!t.is_cut)
            return block;
        mi_free(block);
    }
    return NULL;
}

char *mi_stats_as_json(mi_stats_t *stats, size_t buf_size, char *buf) mi_attr_noexcept {
    return stats_is_readable(stats) ? json_make(stats, buf_size, buf) : NULL;
}

char *mi_stats_get_json(size_t buf_size, char *buf) mi_attr_noexcept {
    mi_stats_t *stats = mi_malloc(sizeof(*stats));
    if (stats == NULL)
        return NULL;
    stats_gather(stats);
    char *text = json_make(stats, buf_size, buf);
    mi_free(stats);
    return text;
}

static char *heap_json(whose_t whose, mi_heap_t *heap, size_t buf_size, char *buf) {
    mi_stats_t *stats = (heap == NULL ? NULL : mi_malloc(sizeof(*stats)));
    if (stats == NULL)
        return NULL;
    heap_gather(whose, heap, stats);
    char *text = json_make(stats, buf_size, buf);
    mi_free(stats);
    return text;
}

char *mi_heap_stats_get_json(mi_heap_t *heap, size_t buf_size, char *buf) mi_attr_noexcept {
    return heap_json(OF_HEAP, heap, buf_size, buf);
}

// The structure is too large for a small stack, and at the end of the process nothing may be
// allocated.
MI_LARGE_TABLE MI_HIDDEN mi_stats_t mi_print_stats;
static _Atomic(bool) print_is_busy;

static void stats_print(whose_t whose, mi_heap_t *heap, mi_output_fun *out, void *arg) {
    if (mi_exchange_acq_rel(&print_is_busy, true))
        return; // another thread is printing
    if (whose == OF_PROCESS)
        stats_gather(&mi_print_stats);
    else
        heap_gather(whose, heap, &mi_print_stats);
    mi_stats_print_to(&mi_print_stats, out, arg);
    if (whose == OF_PROCESS)
        mi_process_info_print_out(out, arg);
    mi_store_release(&print_is_busy, false); // pairs with the exchange above
}

void mi_stats_print_out(mi_output_fun *out, void *arg) mi_attr_noexcept {
    stats_print(OF_PROCESS, NULL, out, arg);
}

void mi_heap_stats_print_out(mi_heap_t *heap, mi_output_fun *out, void *arg) mi_attr_noexcept {
    if (heap != NULL)
        stats_print(OF_HEAP, heap, out, arg);
}

void mi_stats_print(void *out) mi_attr_noexcept {
    (void)out;
    mi_stats_print_out(NULL, NULL);
}

void mi_thread_stats_print_out(mi_output_fun *out, void *arg) mi_attr_noexcept {
    stats_print(OF_THREAD, NULL, out, arg);
}

// ---- sub-processes: all heaps of each ----

bool mi_subproc_stats_get(mi_subproc_id_t subproc_id, mi_stats_t *stats) mi_attr_noexcept {
    return heap_stats_get(OF_SUBPROC, (mi_heap_t *)(void *)subproc_id, stats);
}

char *mi_subproc_stats_get_json(mi_subproc_id_t subproc_id, size_t buf_size,
                                char *buf) mi_attr_noexcept {
    return heap_json(OF_SUBPROC, (mi_heap_t *)(void *)subproc_id, buf_size, buf);
}

void mi_subproc_stats_print_out(mi_subproc_id_t subproc_id, mi_output_fun *out,
                                void *arg) mi_attr_noexcept {
    if (subproc_id != NULL)
        stats_print(OF_SUBPROC, (mi_heap_t *)(void *)subproc_id, out, arg);
}

typedef struct heap_print_s {
    mi_output_fun *out;
    void *arg;
} heap_print_t;

static bool heap_print(mi_heap_t *heap, void *arg) {
    const heap_print_t *const to = arg;
    mi_heap_stats_print_out(heap, to->out, to->arg);
    return true;
}

void mi_subproc_heap_stats_print_out(mi_subproc_id_t subproc_id, mi_output_fun *out,
                                     void *arg) mi_attr_noexcept {
    heap_print_t to = {out, arg};
    (void)mi_subproc_visit_heaps(subproc_id, heap_print, &to);
}

void mi_heap_stats_merge_to_subproc(mi_heap_t *heap) mi_attr_noexcept {
    (void)heap; // as mi_stats_merge
}

void mi_stats_reset(void) mi_attr_noexcept {
}

void mi_stats_merge(void) mi_attr_noexcept {
    // The core's figures are gathered over all threads whenever they are asked for.
}

void mi_process_info_print_out(mi_output_fun *out, void *arg) mi_attr_noexcept {
    mi_os_process_info_t info;
    mi_entry_process_info(&info);
    mi_process_print_to(&info, out, arg);
}

void mi_process_info_print(void) mi_attr_noexcept {
    mi_process_info_print_out(NULL, NULL);
}

void mi_process_info(size_t *elapsed_msecs, size_t *user_msecs, size_t *system_msecs,
                     size_t *current_rss, size_t *peak_rss, size_t *current_commit,
                     size_t *peak_commit, size_t *page_faults) mi_attr_noexcept {
    mi_os_process_info_t info;
    mi_entry_process_info(&info);
    size_t *const to[] = {elapsed_msecs, user_msecs,     system_msecs, current_rss,
                          peak_rss,      current_commit, peak_commit,  page_faults};
    const size_t from[] = {(size_t)info.elapsed_ms, (size_t)info.user_ms, (size_t)info.system_ms,
                           info.current_rss,        info.peak_rss,        info.current_commit,
                           info.peak_commit,        info.page_faults};
    for (size_t i = 0; i < 8; i++)
        if (to[i] != NULL)
            *to[i] = from[i];
}
