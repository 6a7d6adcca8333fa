// Memory comes back and small programs stay small: what the process occupies, as the system sees
// it.
#include "core/limits.h"
#include "use.h"
#include "os/os.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static size_t rss(void) {
    mi_os_process_info_t info;
    mi_os_process_info(&info);
    return info.current_rss;
}

// What the process occupies once it is at most this, or after ten seconds of such activity as any
// program has: a little is allocated and kept. Memory that is due goes back on the slow path of
// malloc, so there must be some: a block that is freed at once and allocated again never leads
// there. When memory is due depends on the clock (bench/ says how soon it is back), so no moment
// would be right on every machine; a program that keeps it never passes. At least as long as memory
// that was purged and is wanted again raises the limit of what may wait: the next peak begins with
// the usual one.
static size_t rss_at_last(size_t most) {
    static void *kept[10000];
    const int max = sizeof(kept) / sizeof(kept[0]);
    const uint64_t start = mi_os_clock_ns();
    const uint64_t enough = start + (MI_REGRET_MS + 100) * 1000000ull;
    const uint64_t end = start + 10 * 1000000000ull;
    size_t now = rss();
    int count = 0;
    for (; count < max && mi_os_clock_ns() < (now > most ? end : enough); count++) {
        kept[count] = use_malloc((size_t)(10 + count * 37 % 1000));
        usleep(1000);
        if (count % 50 == 49)
            now = rss();
    }
    while (count > 0)
        (void)use_free(kept[--count]);
    return now;
}

// Bytes that are the process' own, exactly: the system's short count may be wrong by some dozen
// pages for each processor. Which pages of files are mapped is up to the system (preload.layout has
// ours).
static size_t anonymous(void) {
    char line[200];
    size_t kib = 0;
    FILE *const f = fopen("/proc/self/smaps_rollup", "r");
    CHECK(f != NULL);
    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        (void)sscanf(line, "Anonymous: %zu kB", &kib);
    if (f != NULL)
        fclose(f);
    CHECK(kib != 0);
    return kib * MI_KiB;
}

static void test_start(void) {
    (void)anonymous(); // what stdio needs
    const size_t start = anonymous();
    (void)use_free(use_malloc(100));
    const size_t now = anonymous();
    CHECK_MSG(now > start && now < start + 64 * MI_KiB, "one block costs %zu KiB",
              (now - start) / 1024);
}

static void **hold(size_t total, size_t size, size_t *count) {
    *count = total / size;
    void **const blocks = malloc(*count * sizeof(void *));
    for (size_t i = 0; i < *count; i++) {
        blocks[i] = use_malloc(size);
        memset(blocks[i], 1, size);
    }
    return blocks;
}

static void let_go(void **blocks, size_t count) {
    for (size_t i = 0; i < count; i++)
        (void)use_free(blocks[i]);
    free(blocks);
}

// A peak of one block size: freed at once, and after some more life.
static void test_peak(size_t total, size_t size) {
    size_t count;
    const size_t before = rss();
    void **const blocks = hold(total, size, &count);
    const size_t peak = rss();
    CHECK_MSG(peak >= total, "%zu", peak);
    // The debug build pads each block; a pad may reach into the next size class.
    const size_t pads = (MI_DEBUG ? count * (16 + (size + 16) / 8) : 0);
    CHECK_MSG(peak <= before + total + pads + count * sizeof(void *) + total / 16 + 8 * MI_MiB,
              "%zu bytes in blocks of %zu cost %zu", total, size, peak - before);
    let_go(blocks, count);
    const size_t freed = rss();
    CHECK_MSG(freed <= before + 64 * MI_MiB, "blocks of %zu: %zu MiB right after", size,
              (freed - before) >> 20);
    const size_t later = rss_at_last(before + 12 * MI_MiB);
    CHECK_MSG(later <= before + 12 * MI_MiB, "blocks of %zu: %zu MiB later", size,
              (later - before) >> 20);
}

// Large blocks come and go while small ones stay between them: what waits for its purge serves no
// larger block, and goes when one comes, so that the process never has much more than its peak.
static void test_larger(void) {
    enum { COUNT = 7 };
    void *apart[COUNT], *blocks[COUNT];
    const size_t before = anonymous();
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = use_malloc(3 * MI_MiB);
        apart[i] = use_malloc(100 * MI_KiB);
        memset(blocks[i], 1, 3 * MI_MiB);
    }
    const size_t peak = anonymous();
    CHECK(peak >= before + COUNT * 3 * MI_MiB);
    for (int i = 0; i < COUNT; i++)
        (void)use_free(blocks[i]);
    void *const larger = use_malloc(16 * MI_MiB);
    memset(larger, 1, 16 * MI_MiB);
    const size_t now = anonymous();
    CHECK_MSG(now <= peak + 2 * MI_MiB + MI_EMPTY_ALL, "%zu KiB more than the peak",
              (now - peak) / 1024);
    (void)use_free(larger);
    for (int i = 0; i < COUNT; i++)
        (void)use_free(apart[i]);
}

static void *fill(void *arg) {
    size_t count;
    void **const blocks = hold(20 * MI_MiB, (size_t)(uintptr_t)arg, &count);
    let_go(blocks, count);
    return NULL;
}

static void test_threads(void) {
    enum { THREADS = 60 };
    const size_t before = rss();
    for (int n = 0; n < THREADS; n++) {
        pthread_t thread;
        pthread_create(&thread, NULL, fill, (void *)(uintptr_t)(50 + n * 5800 / THREADS));
        pthread_join(thread, NULL);
    }
    const size_t later = rss_at_last(before + 12 * MI_MiB);
    CHECK_MSG(later <= before + 12 * MI_MiB, "%zu MiB after %d threads", (later - before) >> 20,
              (int)THREADS);
}

// What a thread has made and another one freed comes back while the first one sleeps, but for an OS
// page of each block; and that one finds its blocks in order when it wakes up.
typedef struct sleeper_s {
    pthread_barrier_t made, seen;
    void **blocks;
    size_t total, size, count;
} sleeper_t;

static void *sleeper(void *arg) {
    sleeper_t *const s = (sleeper_t *)arg;
    s->blocks = hold(s->total, s->size, &s->count);
    pthread_barrier_wait(&s->made);
    pthread_barrier_wait(&s->seen);
    void **const again = hold(s->total, s->size, &s->count);
    for (size_t i = 0; i < s->count; i++)
        use_fill(again[i], s->size, (uint8_t)i);
    for (size_t i = 0; i < s->count; i++)
        CHECK(use_check(again[i], s->size, (uint8_t)i));
    let_go(again, s->count);
    return NULL;
}

static void test_sleeper(size_t size) {
    sleeper_t s = {.total = 200 * MI_MiB, .size = size};
    const size_t before = rss();
    pthread_t thread;
    pthread_barrier_init(&s.made, NULL, 2);
    pthread_barrier_init(&s.seen, NULL, 2);
    pthread_create(&thread, NULL, sleeper, &s);
    pthread_barrier_wait(&s.made);
    let_go(s.blocks, s.count);
    const size_t most = before + s.count * 4096 + 12 * MI_MiB;
    const size_t later = rss_at_last(most);
    CHECK_MSG(MI_DEBUG || later <= most, "%zu KiB more by blocks of %zu of a thread that sleeps",
              (later - before) / 1024, size);
    pthread_barrier_wait(&s.seen);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&s.made);
    pthread_barrier_destroy(&s.seen);
}

// Many looks at the clock, as if nothing had to wait.
static void look(void) {
    const long delay = mi_config(purge_delay_ms);
    mi_core_collect(false); // what this thread holds back
    mi_config_set(purge_delay_ms, 0);
    mi_theap_real()->trim_at_ms = 0;
    for (int i = 0; i < 100; i++)
        mi_theap_tick(mi_theap_real());
    mi_config_set(purge_delay_ms, delay);
}

// Not in other heaps than the main one: they may be destroyed, and their arenas given up,
// meanwhile.
enum { APART_SIZE = 20000, APART_COUNT = 20 };
typedef struct apart_s {
    pthread_barrier_t made, seen;
    mi_heap_t *heap;
    uint8_t *block[APART_COUNT];
} apart_t;

static void *apart(void *arg) {
    apart_t *const a = (apart_t *)arg;
    for (int i = 0; i < APART_COUNT; i++) {
        a->block[i] = mi_core_heap_malloc(a->heap, APART_SIZE, false);
        memset(a->block[i], 0x5A, APART_SIZE);
    }
    pthread_barrier_wait(&a->made);
    pthread_barrier_wait(&a->seen);
    return NULL;
}

static void test_apart(bool is_main) {
    apart_t a = {.heap = (is_main ? mi_core_heap_main() : mi_core_heap_new())};
    pthread_t thread;
    pthread_barrier_init(&a.made, NULL, 2);
    pthread_barrier_init(&a.seen, NULL, 2);
    pthread_create(&thread, NULL, apart, &a);
    pthread_barrier_wait(&a.made);
    for (int i = 0; i < APART_COUNT; i++)
        CHECK(use_free(a.block[i]) == MI_FREE_OK);
    look();
    int kept = 0;
    for (int i = 0; i < APART_COUNT; i++)
        kept += (a.block[i][APART_SIZE / 2] == 0x5A);
    CHECK_MSG(kept == (is_main && !MI_DEBUG ? 0 : APART_COUNT), "%d blocks of %s heap", kept,
              is_main ? "the main" : "another");
    pthread_barrier_wait(&a.seen);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&a.made);
    pthread_barrier_destroy(&a.seen);
}

// Nor where the memory was given by the caller, who may share or have pinned it.
enum {
    GIVEN_BYTES = 16 * 1024 * 1024,
    GIVEN_SIZE = 1024 * 1024,
    GIVEN_COUNT = 8,
    GIVEN_MOST = 4000
};
typedef struct given_s {
    pthread_barrier_t made, seen;
    void *arena;
    uint8_t *block[GIVEN_MOST];
    int count;    // of all blocks
    int there[8]; // which of them lie in the given memory
} given_t;

static void *given(void *arg) {
    given_t *const g = (given_t *)arg;
    int there = 0;
    while (there < GIVEN_COUNT &&
           g->count < GIVEN_MOST) { // of no other memory is anything left then
        uint8_t *const p = use_malloc(GIVEN_SIZE);
        if (mi_core_arena_contains(g->arena, p)) {
            memset(p, 0x5A, GIVEN_SIZE);
            g->there[there++] = g->count;
        }
        g->block[g->count++] = p;
    }
    CHECK_MSG(there == GIVEN_COUNT, "%d blocks in the given memory, %d in all", there, g->count);
    pthread_barrier_wait(&g->made);
    pthread_barrier_wait(&g->seen);
    for (int i = 0; i < g->count; i++)
        (void)use_free(g->block[i]);
    return NULL;
}

static void test_given(void) {
    static given_t g;
    void *const start =
        mmap(NULL, GIVEN_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const mi_memory_t memory = {
        .start = start, .bytes = GIVEN_BYTES, .is_committed = true, .numa_node = -1};
    uint8_t *freed[GIVEN_COUNT];
    CHECK(start != MAP_FAILED && mi_core_arena_manage(&memory, &g.arena));
    pthread_t thread;
    pthread_barrier_init(&g.made, NULL, 2);
    pthread_barrier_init(&g.seen, NULL, 2);
    pthread_create(&thread, NULL, given, &g);
    pthread_barrier_wait(&g.made);
    for (int i = 0; i < GIVEN_COUNT; i++) {
        freed[i] = g.block[g.there[i]];
        CHECK(use_free(freed[i]) == MI_FREE_OK);
        g.block[g.there[i]] = NULL;
    }
    look();
    int kept = 0;
    for (int i = 0; i < GIVEN_COUNT; i++)
        kept += (freed[i][GIVEN_SIZE / 2] == 0x5A);
    CHECK_MSG(MI_DEBUG || kept == GIVEN_COUNT, "%d blocks of the caller's memory", kept);
    pthread_barrier_wait(&g.seen);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&g.made);
    pthread_barrier_destroy(&g.seen);
}

// Does the kernel keep to small pages at this address?
static bool is_of_small_pages(const void *p) {
    char line[400];
    bool is_there = false, is_small = false;
    FILE *const f = fopen("/proc/self/smaps", "r");
    CHECK(f != NULL);
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        uintptr_t first, last;
        if (sscanf(line, "%zx-%zx ", &first, &last) == 2)
            is_there = (first <= (uintptr_t)p && (uintptr_t)p < last);
        if (is_there && strncmp(line, "VmFlags:", 8) == 0)
            is_small = (strstr(line, " nh") != NULL);
    }
    if (f != NULL)
        fclose(f);
    return is_small;
}

// A block that grows stands alone: in a huge page of the kernel it would occupy 2 MiB. So it never
// lies in one, also where others may.
static void test_alone(bool may_use_huge_pages) {
    enum { BLOCKS = 4, KINDS = 3 };
    static const size_t first[KINDS] = {1000, 100000, 400000},
                        most[KINDS] = {30000, 500000, 900000};
    const mi_memory_t wish = {.bytes = 256 * MI_MiB, .is_exclusive = true, .numa_node = -1};
    void *arena = NULL;
    CHECK(mi_core_arena_reserve(&wish, may_use_huge_pages, &arena));
    mi_heap_t *const heap = mi_core_heap_new_in_arena(arena);
    CHECK(is_of_small_pages(mi_core_heap_malloc(heap, 1000, false)) != may_use_huge_pages);
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < BLOCKS; i++) {
            uint8_t *p = mi_core_heap_malloc(heap, first[kind], false);
            for (size_t size = first[kind]; p != NULL && size < most[kind]; size += size / 4)
                p = mi_core_heap_resize(heap, p, &(mi_core_resize_t){size + size / 4, 1, 0, 0},
                                        NULL);
            CHECK(p != NULL && mi_core_arena_contains(arena, p));
            CHECK_MSG(MI_DEBUG || most[kind] < MI_ROOMY_MIN || is_of_small_pages(p),
                      "a block of %zu bytes that grew", most[kind]);
        }
    mi_core_heap_destroy(heap);
}

// Blocks of calloc that the program only reads hold pages that are not its own, and cost the next
// who writes there: they go back to the system when they are freed, by whomever. Those that it has
// written stay. The block that was allocated last is not looked at: its page may be used again
// without a slow path. Nor is the first that is freed, which waits for its owner when another
// thread does, or in a list of long blocks.
enum { BARE_COUNT = 8 };
typedef struct bare_s {
    uint8_t *block[BARE_COUNT + 1];
    bool is_bare[BARE_COUNT + 1];
} bare_t;

static void *bare_free(void *arg) {
    const bare_t *const b = (const bare_t *)arg;
    for (int i = 0; i < BARE_COUNT; i++)
        CHECK(use_free(b->block[i]) == MI_FREE_OK);
    return NULL;
}

// written: every so many bytes, 0 = nowhere. is_far: another thread frees.
static void test_bare(size_t size, size_t written, bool is_far) {
    bare_t b;
    const size_t whole = mi_align_down(size, mi_os_page_bytes());
    const long delay = mi_config(purge_delay_ms);
    mi_config_set(purge_delay_ms, 1000 * 1000); // nothing else goes back
    mi_core_collect(true);                      // what is there is fresh
    for (int i = 0; i <= BARE_COUNT; i++) {
        b.block[i] = (uint8_t *)mi_core_malloc(size, true);
        b.is_bare[i] = (mi_os_resident(b.block[i], whole) <= mi_os_page_bytes());
        size_t written_before = 0;
        for (size_t at = 0; at < size; at++) // reads all of it
            written_before += (b.block[i][at] != 0);
        CHECK(written_before == 0);
        for (size_t at = 0; written != 0 && at < size; at += written)
            b.block[i][at] = 1;
    }
    pthread_t thread;
    if (is_far) {
        pthread_create(&thread, NULL, bare_free, &b);
        pthread_join(thread, NULL);
    } else {
        (void)bare_free(&b);
    }
    size_t resident = 0, count = 0;
    for (int i = 1; i < BARE_COUNT; i++) {
        resident += (b.is_bare[i] ? mi_os_resident(b.block[i], whole) : 0);
        count += b.is_bare[i];
    }
    // In the secure build memory that was given back is cleared: somebody may have written there.
    CHECK(MI_SECURE || count == BARE_COUNT - 1);
    // Where the thread looked at the clock meanwhile another one is the first.
    CHECK_MSG(written == 0 ? resident <= whole : resident == count * whole,
              "%zu bytes of %zu blocks of %zu stay", resident, count, size);
    for (int i = 0; i < BARE_COUNT; i++) {
        b.block[i] = (uint8_t *)mi_core_malloc(size, true);
        CHECK(use_is_zero(b.block[i], size));
    }
    for (int i = 0; i <= BARE_COUNT; i++)
        CHECK(use_free(b.block[i]) == MI_FREE_OK);
    mi_config_set(purge_delay_ms, delay);
}

int main(void) {
    // Where the kernel uses huge pages at will, large heaps occupy what lies between their blocks,
    // too (MI_ARENA_THP_BYTES): here the allocator's own part is measured.
    CHECK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
    test_start();
    test_larger();
    const size_t sizes[] = {32, 300, 3000, 30000, 200000, 3000000, 300 * MI_MiB};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        test_peak(600 * MI_MiB, sizes[i]);
    test_threads();
    test_sleeper(10000);
    test_sleeper(100000);
    test_sleeper(2000000);
    test_apart(true);
    test_apart(false);
    test_given();
    static void *other[100];                   // with them the thread heap has lists of long blocks
    for (int k = 0; k < 4 && !MI_DEBUG; k++) { // which fills what is freed
        const bool is_far = (k % 2 != 0);
        for (int i = 0; i < 100 && k == 2; i++)
            other[i] = use_malloc(70000);
        test_bare(100000, 0, is_far);
        test_bare(1000000, 0, is_far);
        test_bare(100000, 4096, is_far);
        test_bare(1000000, 4096, is_far);
        test_bare(10000000, 0, is_far); // with whole slices, and more than is asked about
    }
    for (int i = 0; i < 100; i++)
        (void)use_free(other[i]);
    if (access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0) {
        test_alone(true);
        test_alone(false);
    }
    return test_result();
}
