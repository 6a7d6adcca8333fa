// Contracts of options, statistics, callbacks and process facts. Runs with this environment (see
// CMakeLists.txt):
//   MIMALLOC_PURGE_DELAY=123  MI_ARENA_MAX_OBJECT_SIZE=3MiB  MIMALLOC_VERBOSE=no
//   MIMALLOC_MAX_ERRORS=junk MIMALLOC_LIMIT_OS_ALLOC=0 (a deprecated spelling)
//   MIMALLOC_RESERVE_OS_MEMORY=1000  MIMALLOC_SHOW_ERRORS=
#include "api_test.h"
#include "api_visit.h"
#include "mimalloc-stats.h"
#include <limits.h>
#include <stdlib.h>

// The earlier names of options are the names of what does their work now.
#define IS(old, now) _Static_assert((int)mi_option_##old == (int)mi_option_##now, #old)
IS(eager_commit, deprecated_eager_commit);
IS(segment_cache, deprecated_segment_cache);
IS(page_reset, deprecated_page_reset);
IS(abandoned_page_purge, deprecated_abandoned_page_purge);
IS(abandoned_page_reset, deprecated_abandoned_page_purge);
IS(abandoned_page_decommit, deprecated_abandoned_page_purge);
IS(segment_reset, deprecated_segment_reset);
IS(segment_decommit_delay, deprecated_segment_reset);
IS(eager_commit_delay, deprecated_eager_commit_delay);
IS(max_segment_reclaim, deprecated_max_segment_reclaim);
IS(purge_extend_delay, deprecated_purge_extend_delay);
IS(decommit_extend_delay, deprecated_purge_extend_delay);
IS(large_os_pages, allow_large_os_pages);
IS(eager_region_commit, arena_eager_commit);
IS(deprecated_eager_region_commit, arena_eager_commit);
IS(reset_decommits, purge_decommits);
IS(deprecated_reset_decommits, purge_decommits);
IS(allow_decommit, purge_decommits);
IS(reset_delay, purge_delay);
IS(decommit_delay, purge_delay);
IS(limit_os_alloc, disallow_os_alloc);
#undef IS

static void check_environment(void) {
    CHECK(mi_option_get(mi_option_purge_delay) == 123);
    CHECK(mi_option_get(mi_option_arena_max_object_size) == 3 * 1024); // KiB
    CHECK(mi_option_get_size(mi_option_arena_max_object_size) == 3u * 1024 * 1024);
    CHECK(mi_option_get(mi_option_verbose) == 0 && !mi_option_is_enabled(mi_option_verbose));
    CHECK(mi_option_get(mi_option_max_errors) == 32);       // junk: the default stays
    CHECK(mi_option_get(mi_option_reserve_os_memory) == 1); // 1000 bytes, rounded up to KiB
    CHECK(mi_option_is_enabled(mi_option_show_errors));     // empty means on
    CHECK(mi_option_get(mi_option_limit_os_alloc) == 0);
}

static void check_setting(void) {
    for (int i = 0; i < (int)_mi_option_last; i++) {
        const mi_option_t option = (mi_option_t)i;
        const long before = mi_option_get(option);
        mi_option_set(option, 5);
        CHECK_MSG(mi_option_get(option) == 5 && mi_option_is_enabled(option), "option %d", i);
        mi_option_set_default(option, 7); // already set
        CHECK(mi_option_get(option) == 5);
        mi_option_set_enabled_default(option, false);
        CHECK(mi_option_get(option) == 5);
        mi_option_disable(option);
        CHECK(mi_option_get(option) == 0 && !mi_option_is_enabled(option));
        mi_option_enable(option);
        CHECK(mi_option_get(option) == 1);
        mi_option_set_enabled(option, false);
        CHECK(mi_option_get(option) == 0);
        mi_option_set(option, -3);
        CHECK(mi_option_get(option) == -3 && mi_option_get_size(option) == 0);
        CHECK(mi_option_get_clamp(option, 0, 10) == 0 && mi_option_get_clamp(option, -5, 10) == -3);
        mi_option_set(option, 1000);
        CHECK(mi_option_get_clamp(option, 0, 10) == 10);
        mi_option_set(option, before);
    }
    const long usual = mi_option_get(mi_option_arena_max_object_size);
    mi_option_set(mi_option_arena_max_object_size, LONG_MAX); // KiB
    const size_t most = (size_t)LONG_MAX > SIZE_MAX / 1024 ? SIZE_MAX : (size_t)LONG_MAX * 1024;
    CHECK(mi_option_get_size(mi_option_arena_max_object_size) == most);
    mi_option_set(mi_option_arena_max_object_size, usual);
    const mi_option_t unknown = (mi_option_t)1000;
    mi_option_set(unknown, 5);
    CHECK(mi_option_get(unknown) == 0 && !mi_option_is_enabled(unknown) &&
          mi_option_get_size(unknown) == 0);
    CHECK(mi_option_get((mi_option_t)-1) == 0);
}

static void check_messages(void) {
    void *live = mi_malloc(100); // figures that are 0 are not printed
    catch_begin();
    mi_options_print();
    CHECK(strstr(caught_text, "version 3.4.0") != NULL &&
          strstr(caught_text, "option purge_delay: 123 (set)") != NULL);
    CHECK_MSG(caught_lines == (size_t)_mi_option_last + 1, "%zu lines", caught_lines);
    catch_begin();
    mi_options_print_out(catch_output, NULL);
    CHECK(strstr(caught_text, "option show_stats") != NULL);
    catch_begin();
    mi_process_info_print();
    CHECK(strstr(caught_text, "rss") != NULL);
    catch_begin();
    mi_process_info_print_out(catch_output, NULL);
    CHECK(strstr(caught_text, "elapsed") != NULL);
    catch_begin();
    mi_stats_print(NULL);
    CHECK(strstr(caught_text, "allocations") != NULL);
    catch_begin();
    mi_stats_print_out(catch_output, NULL);
    CHECK(strstr(caught_text, "committed") != NULL);
    catch_begin();
    mi_thread_stats_print_out(catch_output, NULL);
    CHECK(strstr(caught_text, "in pages") != NULL && strstr(caught_text, "reserved") == NULL);
    catch_begin();
    mi_arenas_print();
    CHECK(caught_lines > 0);
    catch_begin();
    mi_debug_show_arenas(true);
    CHECK(caught_lines > 0);
    catch_begin();
    mi_heap_stats_print_out(mi_heap_main(), catch_output, NULL);
    CHECK(strstr(caught_text, "in pages") != NULL);
    mi_heap_stats_print_out(NULL, catch_output, NULL);
    catch_end();
    mi_free(live);
}

// What a reader that was built with this header may count on for as long as MI_STAT_VERSION is 4.
#define COUNTS(field) offsetof(mi_stats_t, field)
#define WORD          (sizeof(size_t))
_Static_assert(MI_STAT_VERSION == 4, "another version, another layout");
_Static_assert(sizeof(mi_stat_count_t) == 24 && sizeof(mi_stat_counter_t) == 8, "64-bit figures");
_Static_assert(offsetof(mi_stat_count_t, total) == 0 && offsetof(mi_stat_count_t, peak) == 8 &&
                   offsetof(mi_stat_count_t, current) == 16,
               "total, peak, current");
_Static_assert(COUNTS(size) == 0 && COUNTS(version) == WORD, "they come first in every version");
// Before a field: so many counts and so many counters.
#define FOLLOWS(field, counts, counters)                                                           \
    _Static_assert(COUNTS(field) == 2 * WORD + (counts)*24 + (counters)*8, #field)
FOLLOWS(pages, 0, 0);
FOLLOWS(committed, 2, 0);
FOLLOWS(purged, 3, 1);
FOLLOWS(malloc_requested, 8, 2);
FOLLOWS(mmap_calls, 9, 2);
FOLLOWS(malloc_normal_count, 9, 7);
FOLLOWS(pages_unabandon_busy_wait, 9, 19);
FOLLOWS(heaps, 9, 20);
FOLLOWS(theaps, 10, 20);
FOLLOWS(_stat_reserved, 11, 20);
FOLLOWS(malloc_bins, 15, 24);
FOLLOWS(page_bins, 15 + 74, 24);
FOLLOWS(chunk_bins, 15 + 2 * 74, 24);
_Static_assert(sizeof(mi_stats_t) == 2 * WORD + (15 + 2 * 74 + 6) * 24 + 24 * 8, "the whole");

static void check_stats(void) {
    mi_stats_t stats;
    memset(&stats, 0, sizeof(stats));
    CHECK(!mi_stats_get(NULL) && !mi_stats_get(&stats)); // no size, no version
    stats.size = sizeof(stats);
    stats.version = MI_STAT_VERSION + 1;
    CHECK(!mi_stats_get(&stats));
    stats.version = MI_STAT_VERSION;
    stats.size--;
    CHECK(!mi_stats_get(&stats) && !mi_heap_stats_get(mi_heap_main(), &stats));
    mi_stats_t_decl(ready);
    void *blocks[2000];
    for (size_t i = 0; i < 2000; i++)
        blocks[i] = mi_malloc(5000);
    CHECK(mi_stats_get(&ready));
    CHECK(ready.committed.current >= 2000 * 5000 &&
          ready.reserved.current >= ready.committed.current);
    CHECK(ready.pages.current > 0 && ready.threads.current >= 1 &&
          ready.malloc_normal_count.total > 0);
    mi_stats_merge();
    mi_stats_reset(); // changes nothing
    mi_stats_t_decl(again);
    CHECK(mi_stats_get(&again) &&
          again.malloc_normal_count.total >= ready.malloc_normal_count.total);
    mi_stats_t_decl(heap_stats);
    CHECK(mi_heap_stats_get(mi_heap_main(), &heap_stats) &&
          heap_stats.malloc_normal.current >= 2000 * 5000);
    CHECK(!mi_heap_stats_get(NULL, &heap_stats) && !mi_heap_stats_get(mi_heap_main(), NULL));
    for (size_t i = 0; i < 2000; i++)
        mi_free(blocks[i]);
    size_t last = 0;
    for (size_t bin = 1; bin < MI_STAT_BIN_COUNT && mi_stats_get_bin_size(bin) != 0; bin++) {
        CHECK_MSG(mi_stats_get_bin_size(bin) > last, "bin %zu", bin);
        last = mi_stats_get_bin_size(bin);
    }
    CHECK(last >= 4u * 1024 * 1024 && mi_stats_get_bin_size(0) == 0 &&
          mi_stats_get_bin_size(100000) == 0);
}

// Each block counts in the bin whose size it has, or in none when it is large.
static void check_bins(void) {
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        mi_heap_t *const heap = mi_heap_new();
        size_t usable = 0, bin = 1;
        for (int n = 0; n < 3; n++)
            usable = mi_usable_size(mi_heap_malloc(heap, test_sizes[i]));
        mi_stats_t_decl(s);
        CHECK(mi_heap_stats_get(heap, &s));
        while (bin < MI_STAT_BIN_COUNT && s.malloc_bins[bin].current == 0)
            bin++;
        if (test_sizes[i] + (MI_DEBUG ? 16 : 0) > 4194304) {
            CHECK_MSG(bin == MI_STAT_BIN_COUNT && s.malloc_huge.current >= 3 * (int64_t)usable &&
                          s.malloc_normal.current == 0,
                      "%zu: bin %zu", test_sizes[i], bin);
        } else {
            CHECK_MSG(bin < MI_STAT_BIN_COUNT && s.malloc_bins[bin].current == 3 &&
                          s.page_bins[bin].current > 0 && mi_stats_get_bin_size(bin) >= usable &&
                          (MI_DEBUG || mi_stats_get_bin_size(bin - 1) < usable),
                      "%zu: bin %zu", test_sizes[i], bin);
            CHECK(s.malloc_normal.current >= 3 * (int64_t)usable && s.malloc_huge.current == 0);
        }
        mi_heap_destroy(heap);
    }
}

// The heaps of a sub-process count together.
static void check_subproc(void) {
    const mi_subproc_id_t subproc = mi_subproc_new();
    mi_subproc_add_current_thread(subproc);
    mi_heap_t *const heap = mi_heap_new();
    const size_t first = mi_usable_size(mi_malloc(1000));
    const size_t second = mi_usable_size(mi_heap_malloc(heap, 3000));
    mi_subproc_add_current_thread(mi_subproc_main());
    mi_stats_t_decl(stats);
    CHECK(mi_subproc_stats_get(subproc, &stats));
    CHECK_MSG(stats.malloc_normal.current >= (int64_t)(first + second) && stats.pages.current == 2,
              "%d bytes, %d pages", (int)stats.malloc_normal.current, (int)stats.pages.current);
    CHECK(mi_heap_stats_get(heap, &stats) && stats.pages.current == 1);
    char *const text = mi_subproc_stats_get_json(subproc, 0, NULL);
    CHECK(text != NULL && strstr(text, "\"pages\": { \"total\": 2,") != NULL);
    mi_free(text);
    catch_begin();
    mi_subproc_stats_print_out(NULL, NULL, NULL);
    CHECK(caught_lines == 0);
    mi_subproc_stats_print_out(subproc, NULL, NULL);
    const char *const row = strstr(caught_text, "\n  pages ");
    long long peak = 0;
    CHECK(row != NULL && sscanf(row, " pages %lld", &peak) == 1 && peak == 2);
    catch_end();
    mi_subproc_destroy(subproc);
    mi_heap_destroy(heap);
}

// A text is one block, however long it is, and nothing else is left.
static void check_json_blocks(void) {
    mi_heap_t *const heap = mi_heap_new();
    mi_stats_t stats;
    char *text[5];
    memset(&stats, 0x80, sizeof(stats)); // long figures
    stats.size = sizeof(stats);
    stats.version = MI_STAT_VERSION;
    (void)mi_heap_set_default(heap);
    text[0] = mi_stats_get_json(0, NULL);
    text[1] = mi_heap_stats_get_json(mi_heap_main(), 0, NULL);
    text[2] = mi_subproc_stats_get_json(mi_subproc_main(), 0, NULL);
    text[3] = mi_stats_as_json(&stats, 0, NULL);
    text[4] = mi_stats_as_json(&stats, 0, NULL);
    (void)mi_heap_set_default(mi_heap_main());
    CHECK(text[4] != NULL && strlen(text[4]) > 20000);
    for (int i = 0; i < 6; i++) {
        size_t blocks = 0;
        CHECK(mi_heap_visit_blocks(heap, true, count_block, &blocks));
        CHECK_MSG(blocks == (size_t)(5 - i), "%zu blocks after %d", blocks, i);
        if (i < 5)
            mi_free(text[i]);
    }
    mi_heap_destroy(heap);
}

static void check_json(void) {
    char *text = mi_stats_get_json(0, NULL);
    CHECK(text != NULL && text[0] == '{' && strstr(text, "\"committed\"") != NULL &&
          strstr(text, "\"malloc_bins\"") != NULL);
    const size_t n = strlen(text);
    char *own = mi_malloc(n + 1000);
    CHECK(mi_stats_get_json(n + 1000, own) == own && own[0] == '{');
    CHECK(mi_stats_get_json(10, own) == NULL); // does not fit
    char *heap_text = mi_heap_stats_get_json(mi_heap_main(), 0, NULL);
    CHECK(heap_text != NULL && heap_text[0] == '{');
    CHECK(mi_heap_stats_get_json(NULL, 0, NULL) == NULL);
    mi_stats_t_decl(stats);
    CHECK(mi_stats_get(&stats) && mi_stats_as_json(&stats, n + 1000, own) == own);
    CHECK(strstr(own, "\"committed\"") != NULL && mi_stats_as_json(NULL, n, own) == NULL);
    stats.version++;
    CHECK(mi_stats_as_json(&stats, n + 1000, own) == NULL);
    stats.version--;
    const mi_subproc_id_t subproc = mi_subproc_main();
    CHECK(mi_subproc_stats_get(subproc, &stats) && stats.malloc_normal.current > 0);
    CHECK(!mi_subproc_stats_get(NULL, &stats));
    char *subproc_text = mi_subproc_stats_get_json(subproc, 0, NULL);
    CHECK(subproc_text != NULL && strstr(subproc_text, "\"malloc_bins\"") != NULL);
    mi_free(subproc_text);
    catch_begin();
    mi_subproc_stats_print_out(subproc, catch_output, NULL);
    CHECK(strstr(caught_text, "in pages") != NULL);
    catch_begin();
    mi_heap_t *const second = mi_heap_new();
    mi_heap_stats_merge_to_subproc(second);
    mi_subproc_heap_stats_print_out(subproc, catch_output, NULL);
    const char *const first_part = strstr(caught_text, "in pages");
    CHECK(first_part != NULL && strstr(first_part + 1, "in pages") != NULL); // the other heap's
    mi_heap_destroy(second);
    catch_end();
    mi_free(heap_text);
    mi_free(own);
    mi_free(text);
}

static int errors_seen;
static int last_error;
static void see_error(int err, void *arg) {
    *(int *)arg += 1;
    last_error = err;
}

static int deferred_calls;
static bool deferred_forced;
static unsigned long long deferred_heartbeat;
static void deferred(bool force, unsigned long long heartbeat, void *arg) {
    *(int *)arg += 1;
    deferred_forced = deferred_forced || force;
    if (deferred_calls > 1 && heartbeat != deferred_heartbeat + 1) // it counts the calls
        last_error = -1;
    deferred_heartbeat = heartbeat;
    mi_free(mi_malloc(3000000)); // may allocate; is not called again from inside
}

static void check_callbacks(void) {
    mi_register_error(see_error, &errors_seen);
    catch_begin();
    CHECK(mi_malloc(opaque(SIZE_MAX)) == NULL);
    CHECK_MSG(errors_seen == 1 && last_error == 75, "%d errors, last %d", errors_seen,
              last_error);                          // EOVERFLOW
    CHECK(mi_malloc(opaque(SIZE_MAX / 4)) == NULL); // a size, but more than there is
    CHECK_MSG(errors_seen == 2 && last_error == ENOMEM, "%d errors, last %d", errors_seen,
              last_error);
    catch_end();
    mi_register_error(NULL, NULL);
    mi_register_deferred_free(deferred, &deferred_calls);
    mi_collect(false);
    CHECK(deferred_calls == 1 && !deferred_forced);
    mi_collect(true);
    CHECK(deferred_calls == 2 && deferred_forced);
    void *blocks[1000];
    for (size_t i = 0; i < 1000; i++)
        blocks[i] = mi_malloc(i * 100);
    for (size_t i = 0; i < 1000; i++)
        mi_free(blocks[i]);
    CHECK_MSG(deferred_calls > 2 && last_error != -1, "%d calls", deferred_calls);
    mi_register_deferred_free(NULL, NULL);
    const int calls = deferred_calls;
    mi_collect(true);
    CHECK(deferred_calls == calls);
}

static void check_process(void) {
    CHECK(mi_version() == MI_MALLOC_VERSION);
    size_t facts[8] = {0};
    mi_process_info(&facts[0], &facts[1], &facts[2], &facts[3], &facts[4], &facts[5], &facts[6],
                    &facts[7]);
    CHECK_MSG(facts[3] > 100000 && facts[4] >= facts[3] / 2, "rss %zu, peak %zu", facts[3],
              facts[4]);
    mi_process_info(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    mi_process_init(); // all four are never needed and always allowed
    mi_thread_init();
    mi_thread_set_in_threadpool();
    void *p = mi_malloc(100);
    fill(p, 100);
    mi_thread_done();
    CHECK(is_filled(p, 100));
    void *q = mi_malloc(100);
    CHECK(q != NULL);
    mi_free(q);
    mi_free(p);
#if !defined(_WIN32) && !defined(MI_TEST_NO_OVERRIDE)
    CHECK(mi_is_redirected()); // linked with the shared library: malloc is ours
    void *m = malloc(10);
    CHECK(mi_is_in_heap_region(m));
    free(m);
#else
    (void)mi_is_redirected();
#endif
}

int main(void) {
    check_environment();
    check_setting();
    check_messages();
    check_stats();
    check_bins();
    check_json();
    check_json_blocks();
    check_subproc();
    check_callbacks();
    check_process();
    mi_process_done(); // prints nothing: statistics were not asked for; the library still works
    mi_free(mi_malloc(10));
    return test_result();
}
