// What options do, seen from outside: each effect with and without its option.
//
//   (no argument)  options that are set while the program runs
//   reserved       with MIMALLOC_RESERVE_OS_MEMORY=300M
#include "api_test.h"
#include "api_thread.h"
#include "mimalloc-stats.h"
#include <stdlib.h>

#define MIB ((size_t)1 << 20)

static mi_stats_t now_stats(void) {
    mi_stats_t_decl(stats);
    CHECK(mi_stats_get(&stats));
    return stats;
}

static size_t rss(void) {
    size_t bytes = 0;
    mi_process_info(NULL, NULL, NULL, &bytes, NULL, NULL, NULL, NULL);
    return bytes;
}

// Bytes given back since 21 MiB were freed, which is less than is given back at once in any case. A
// run of memory is given back when it was unused for two rounds.
static size_t purged_by_free(bool is_forced) {
    enum { COUNT = 7 };
    uint8_t *blocks[COUNT];
    mi_collect(true);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = mi_malloc(3 * MIB);
        memset(blocks[i], 0xEE, 3 * MIB);
    }
    const int64_t before = now_stats().purged.total;
    for (int i = 0; i < COUNT; i++)
        mi_free(blocks[i]);
    for (int i = 0; i < 4; i++)
        mi_collect(is_forced);
    return (size_t)(now_stats().purged.total - before);
}

static void check_purging(void) {
    const size_t most = 18 * MIB;
    mi_option_set(mi_option_purge_delay, 0);
    CHECK(purged_by_free(false) >= most);
    mi_option_set(mi_option_minimal_purge_size, 1 << 20); // KiB
    const size_t some = purged_by_free(false), all = purged_by_free(true);
    CHECK_MSG(some == 0 && all >= most, "%zu, %zu", some, all);
    mi_option_set(mi_option_minimal_purge_size, 0);
    mi_option_set(mi_option_purge_delay, 1000000);
    CHECK(purged_by_free(false) == 0 && purged_by_free(true) >= most);
    for (long mult = 0; mult >= -5; mult -= 5) {
        mi_option_set(mi_option_arena_purge_mult, mult);
        CHECK_MSG(purged_by_free(false) >= most, "%ld", mult);
    }
    mi_option_set(mi_option_arena_purge_mult, 1);
    mi_option_set(mi_option_purge_delay, -1); // never
    CHECK(purged_by_free(false) == 0 && purged_by_free(true) == 0);
    mi_option_set(mi_option_purge_delay, 250);
}

// The system has the memory back at once, or may take it.
static void check_decommit(void) {
    const size_t bytes = 12 * MIB; // on 32 bits larger ones are in no arena
    for (int decommits = 1; decommits >= 0; decommits--) {
        mi_option_set(mi_option_purge_decommits, decommits);
        mi_free(mi_malloc(3 * MIB)); // arenas that were told to keep all plan anew
        mi_collect(true);
        const size_t before = rss();
        uint8_t *p = mi_malloc(bytes);
        memset(p, 0xEE, bytes);
        CHECK_MSG(rss() >= before + bytes / 2, "%zu after %zu", rss(), before);
        const int64_t purged = now_stats().purged.total;
        mi_free(p);
        mi_collect(true);
        CHECK((size_t)(now_stats().purged.total - purged) >= bytes);
        CHECK_MSG(!decommits || rss() < before + bytes / 4, "%zu after %zu", rss(), before);
        p = mi_zalloc(bytes);
        CHECK(is_zero(p, 0, bytes));
        mi_free(p);
    }
    mi_option_set(mi_option_purge_decommits, 1);
}

static size_t pages_after(long slow_paths) {
    enum { COUNT = 40 };
    void *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        blocks[i] = mi_malloc(100 + 130 * i);
    for (size_t i = 0; i < COUNT; i++)
        mi_free(blocks[i]);
    for (long i = 0; i < slow_paths; i++)
        mi_free(mi_malloc(5 * MIB));
    return (size_t)now_stats().pages.current;
}

// A thread keeps some empty pages: until a time, or a number of slow paths.
static void check_generic_collect(void) {
    mi_option_set(mi_option_purge_delay, 1000000);
    (void)pages_after(100); // who looked at the clock before looks again in 1000 seconds
    const size_t usual = pages_after(12000);
    mi_option_set(mi_option_generic_collect, 10);
    const size_t collected = pages_after(100);
    mi_option_set(mi_option_generic_collect, 0);
    mi_option_set(mi_option_purge_delay, 250);
    CHECK_MSG(collected + 5 < usual, "%zu pages, else %zu", collected, usual);
}

// The page of a large block that was freed stays at hand until its time has come, which a slow path
// notices.
static void check_delay(void) {
    for (int delay = 0; delay <= 1000000; delay += 1000000) {
        mi_option_set(mi_option_purge_delay, delay);
        mi_collect(true);
        (void)pages_after(20); // whoever looks at the clock now looks by the new delay
        const int64_t before = now_stats().page_committed.current;
        mi_free(mi_malloc(3 * MIB / 2));
        for (int i = 0; i < 20; i++)
            mi_free(mi_malloc(5 * MIB));
        const int64_t more = now_stats().page_committed.current - before;
        CHECK_MSG(delay == 0 ? more < (int64_t)MIB : more >= (int64_t)MIB, "%d: %lld", delay,
                  (long long)more);
    }
    mi_option_set(mi_option_purge_delay, 250);
}

// Memory of arenas counts as committed, a reservation of its own does not.
static bool is_in_arena(size_t bytes) {
    mi_collect(true);
    const int64_t before = now_stats().committed.current;
    void *const p = mi_malloc(bytes);
    const bool is_in = now_stats().committed.current >= before + (int64_t)bytes;
    mi_free(p);
    return is_in;
}

static void check_own_reservations(void) {
    const long usual = mi_option_get(mi_option_arena_max_object_size);
    CHECK(is_in_arena(5 * MIB) && is_in_arena(3 * MIB));
    mi_option_set(mi_option_disallow_arena_alloc, 1);
    CHECK(!is_in_arena(5 * MIB) && is_in_arena(3 * MIB));
    mi_option_set(mi_option_disallow_arena_alloc, 0);
    mi_option_set(mi_option_arena_max_object_size, 6 * 1024); // KiB
    CHECK(is_in_arena(5 * MIB) && !is_in_arena(7 * MIB));
    mi_option_set(mi_option_arena_max_object_size, usual);
}

// Nothing more comes from the system but what is asked for by name.
static void check_no_os(void) {
    const int64_t before = now_stats().reserved.current;
    void *const p = mi_malloc(100);
    mi_option_set(mi_option_disallow_os_alloc, 1);
    errno = 0;
    CHECK(mi_malloc(opaque(900 * MIB)) == NULL);
    CHECK_ERRNO(ENOMEM);
    void *const q = mi_malloc(5000);
    void *const r = mi_realloc(mi_malloc(2 * MIB), opaque(900 * MIB));
    CHECK(p != NULL && q != NULL && r == NULL && now_stats().reserved.current == before);
    CHECK(mi_reserve_os_memory(8 * MIB, false, false) == 0);
    CHECK(now_stats().reserved.current >= before + 8 * (int64_t)MIB);
    mi_option_set(mi_option_disallow_os_alloc, 0);
    void *const large = mi_malloc(300 * MIB);
    CHECK(large != NULL);
    mi_free(large);
    mi_free(q);
    mi_free(p);
}

static void leave_blocks(void *arg) {
    void **const blocks = arg;
    for (int i = 0; i < 90; i++)
        blocks[i] = mi_malloc(5000); // the last page has room
}

static int64_t reclaimed(void) {
    void *blocks[90], *own[100];
    const int64_t before = now_stats().pages_reclaim_on_alloc.total;
    in_thread(leave_blocks, blocks);
    mi_collect(true); // this thread has no page of that size then
    for (int i = 0; i < 100; i++)
        own[i] = mi_malloc(5000);
    const int64_t count = now_stats().pages_reclaim_on_alloc.total - before;
    for (int i = 0; i < 100; i++)
        mi_free(own[i]);
    for (int i = 0; i < 90; i++)
        mi_free(blocks[i]);
    mi_collect(true);
    return count;
}

static void check_reclaim(void) {
    CHECK(reclaimed() > 0);
    mi_option_set(mi_option_page_max_reclaim, 0);
    CHECK(reclaimed() == 0);
    mi_option_set(mi_option_page_max_reclaim, -1);
}

// The next arena is as large as was asked for.
static void check_arena_reserve(void) {
    enum { MOST = 64 };
    void *blocks[MOST];
    const int64_t wish = 200 * (int64_t)MIB;
    int64_t grown = 0;
    int count = 0;
    mi_option_set(mi_option_arena_reserve, (long)(wish / 1024));
    mi_option_set(mi_option_arena_eager_commit, 1);
    while (count < MOST && grown == 0) {
        const int64_t before = now_stats().reserved.current;
        blocks[count++] = mi_malloc(16 * MIB);
        grown = now_stats().reserved.current - before;
    }
    CHECK_MSG(grown >= wish && grown % wish == 0, "%lld MiB after %d blocks",
              (long long)(grown >> 20), count);
#ifdef _WIN32 // where memory is committed, and this arena as a whole
    MEMORY_BASIC_INFORMATION info;
    CHECK(VirtualQuery((uint8_t *)blocks[count - 1] + 100 * MIB, &info, sizeof(info)) != 0 &&
          info.State == MEM_COMMIT);
#endif
    mi_option_set(mi_option_arena_eager_commit, 2);
    while (count > 0)
        mi_free(blocks[--count]);
}

#ifdef __linux__
// Whether the kernel may use huge pages where p lies: 0 or 1, -1 = it does not tell.
static int may_be_huge(const void *p) {
    char line[600];
    int answer = -1;
    bool is_here = false;
    FILE *const f = fopen("/proc/self/smaps", "r");
    while (f != NULL && answer < 0 && fgets(line, sizeof(line), f) != NULL) {
        unsigned long long first = 0, last = 0;
        if (sscanf(line, "%llx-%llx", &first, &last) == 2)
            is_here = (uintptr_t)p >= first && (uintptr_t)p < last;
        else if (is_here && strncmp(line, "VmFlags:", 8) == 0)
            answer = strstr(line, " nh") == NULL;
    }
    if (f != NULL)
        fclose(f);
    return answer;
}

// A small process touches no 2 MiB at its first block, whatever the system's setting.
static void check_huge_pages(void) {
    void *const p = mi_malloc(100);
    CHECK_MSG(may_be_huge(p) <= 0, "%d", may_be_huge(p));
    mi_free(p);
}
#else
static void check_huge_pages(void) {
}
#endif

// What the system does not count, the allocator does.
static void check_commit(void) {
#ifndef _WIN32
    size_t before = 0, now = 0, peak = 0, later = 0;
    mi_collect(true);
    mi_process_info(NULL, NULL, NULL, NULL, NULL, &before, NULL, NULL);
    uint8_t *const p = mi_malloc(30 * MIB);
    memset(p, 1, 30 * MIB);
    mi_process_info(NULL, NULL, NULL, NULL, NULL, &now, &peak, NULL);
    CHECK_MSG(now >= before + 30 * MIB && peak >= now, "%zu, %zu, %zu", before, now, peak);
    mi_free(p);
    mi_collect(true);
    mi_free(mi_malloc(2 * MIB));
    mi_process_info(NULL, NULL, NULL, NULL, NULL, &later, &peak, NULL);
    CHECK_MSG(later + 20 * MIB <= now && peak >= now, "%zu, %zu", later, peak);
#endif
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) {
        CHECK(now_stats().reserved.current >= 300 * (int64_t)MIB);
        return test_result();
    }
    CHECK(now_stats().reserved.current < 300 * (int64_t)MIB);
    check_delay(); // first: a thread looks at the clock again when it meant to
    check_huge_pages();
    check_commit();
    check_purging();
    check_decommit();
    check_generic_collect();
    check_own_reservations();
    check_no_os();
    check_reclaim();
    check_arena_reserve();
    return test_result();
}
