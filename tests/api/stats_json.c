// Writes what the library says as JSON, one document a line-separated block, for check_json.py,
// with the figures of the structure beside it.
#include "mimalloc-stats.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int faults;

static void must(int fact, const char *what) {
    if (!fact) {
        fprintf(stderr, "failed: %s\n", what);
        faults++;
    }
}

// The structure's own figures, which the text must agree with.
static void print_figures(const mi_stats_t *s) {
#undef MI_STAT_COUNT
#undef MI_STAT_COUNTER
#define MI_STAT_COUNT(stat)                                                                        \
    printf("count " #stat " %lld %lld %lld\n", (long long)s->stat.total, (long long)s->stat.peak,  \
           (long long)s->stat.current);
#define MI_STAT_COUNTER(stat) printf("counter " #stat " %lld\n", (long long)s->stat.total);
    MI_STAT_FIELDS()
    for (size_t i = 0; i < MI_STAT_BIN_COUNT; i++)
        printf("bin malloc_bins %zu %zu %lld %lld %lld\nbin page_bins %zu %zu %lld %lld %lld\n", i,
               mi_stats_get_bin_size(i), (long long)s->malloc_bins[i].total,
               (long long)s->malloc_bins[i].peak, (long long)s->malloc_bins[i].current, i,
               mi_stats_get_bin_size(i), (long long)s->page_bins[i].total,
               (long long)s->page_bins[i].peak, (long long)s->page_bins[i].current);
}

static void document(const char *name, const char *text, const mi_stats_t *s) {
    must(text != NULL, name);
    printf("== %s\n%s== figures\n", name, text == NULL ? "" : text);
    if (s != NULL)
        print_figures(s);
}

// Every buffer that is too small gives NULL and is not written beyond its end; the one that just
// fits gives the text.
static void check_rooms(mi_stats_t *s) {
    static char whole[400000], part[400000];
    must(mi_stats_as_json(s, sizeof(whole), whole) == whole, "a large buffer");
    const size_t bytes = strlen(whole) + 1;
    // The time in the text changes: only rooms far from the edge tell for sure.
    for (size_t room = 0; room + 200 < bytes; room += (room < 300 ? 1 : 97)) {
        memset(part, 'x', bytes + 100);
        must(mi_stats_as_json(s, room, part) == NULL, "a small buffer");
        for (size_t i = room; i < bytes + 100; i++)
            if (part[i] != 'x') {
                must(0, "written beyond the end");
                break;
            }
    }
    must(mi_stats_as_json(s, bytes + 200, part) == part && strlen(part) < bytes + 200, "it fits");
    char *const block = mi_stats_as_json(s, 0, NULL);
    must(block != NULL && mi_usable_size(block) > strlen(block), "a new block");
    mi_free(block);
}

int main(void) {
    mi_heap_t *const heap = mi_heap_new();
    for (size_t i = 0; i < 3000; i++) {
        void *const p = mi_heap_malloc(heap, i * 3);
        if (i % 3 == 0)
            mi_free(p);
    }
    mi_stats_t_decl(s);
    must(mi_heap_stats_get(heap, &s), "mi_heap_stats_get");
    char *text = mi_heap_stats_get_json(heap, 0, NULL);
    document("heap", text, &s);
    mi_free(text);
    must(mi_stats_get(&s), "mi_stats_get");
    text = mi_stats_as_json(&s, 0, NULL);
    document("given", text, &s);
    mi_free(text);
    text = mi_stats_get_json(0, NULL);
    document("process", text, NULL);
    mi_free(text);
    text = mi_subproc_stats_get_json(mi_subproc_main(), 0, NULL);
    document("subprocess", text, NULL);
    mi_free(text);
    check_rooms(&s);
    // Any figures that a caller may have.
    memset(&s, 0xFF, sizeof(s));
    s.size = sizeof(s);
    s.version = MI_STAT_VERSION;
    s.pages.total = LLONG_MIN;
    s.pages.peak = LLONG_MAX;
    for (size_t i = 0; i < MI_STAT_BIN_COUNT; i++)
        s.malloc_bins[i].current = LLONG_MIN + (long long)i;
    text = mi_stats_as_json(&s, 0, NULL);
    document("extreme", text, &s);
    mi_free(text);
    check_rooms(&s);
    memset(&s, 0, sizeof(s));
    s.size = sizeof(s);
    s.version = MI_STAT_VERSION;
    text = mi_stats_as_json(&s, 0, NULL);
    document("empty", text, &s);
    mi_free(text);
    mi_heap_destroy(heap);
    printf("== end %d\n", faults);
    return faults != 0;
}
