// Contracts of thread heaps, default heaps, sub-processes, arenas, huge pages and guarded blocks.
#include "api_test.h"
#include "api_visit.h"
#include "mimalloc-stats.h"
#include <stdlib.h>
#ifdef _WIN32
#    include <windows.h>
#else
#    include <sys/mman.h>
#endif

static void check_theap(void) {
    mi_heap_t *heap = mi_heap_new();
    mi_theap_t *theap = mi_heap_theap(heap);
    CHECK(theap != NULL && mi_heap_theap(heap) == theap && mi_heap_theap(NULL) == NULL);
    CHECK(mi_theap_get_default() == mi_heap_theap(mi_heap_main()) &&
          mi_theap_get_default() != theap);
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        const size_t size = test_sizes[i];
        void *p = mi_theap_malloc(theap, size), *q = mi_theap_zalloc(theap, size),
             *r = mi_theap_calloc(theap, 2, size);
        CHECK(is_zero(q, 0, size) && is_zero(r, 0, 2 * size));
        check_block(p, size, least_align(size), "mi_theap_malloc");
        check_block(q, size, least_align(size), "mi_theap_zalloc");
        check_block(r, 2 * size, least_align(2 * size), "mi_theap_calloc");
        CHECK(mi_heap_of(p) == heap && mi_heap_of(q) == heap && mi_heap_of(r) == heap);
        p = mi_theap_realloc(theap, p, size * 3 + 1);
        CHECK(p != NULL && is_filled(p, size) && mi_heap_of(p) == heap);
        mi_free(p);
        void *a = mi_theap_malloc_aligned(theap, size, 512);
        CHECK(a != NULL && is_aligned(a, 512) && mi_heap_of(a) == heap);
    }
    void *s = mi_theap_malloc_small(theap, 100), *z = mi_theap_zalloc_small(theap, 100);
    CHECK(s != NULL && z != NULL && is_zero(z, 0, 100) && mi_heap_of(s) == heap);
    CHECK_FAILS(mi_theap_malloc(theap, opaque(SIZE_MAX)), ENOMEM);
    CHECK_FAILS(mi_theap_zalloc(theap, opaque(SIZE_MAX)), ENOMEM);
    CHECK_FAILS(mi_theap_calloc(theap, opaque(SIZE_MAX), 2), ENOMEM);
    CHECK_FAILS(mi_theap_realloc(theap, s, opaque(SIZE_MAX)), ENOMEM);
    CHECK_FAILS(mi_theap_malloc_aligned(theap, 10, opaque(3)), EINVAL);
    mi_theap_collect(theap, false);
    mi_theap_collect(theap, true);
    mi_theap_collect(NULL, true);
    mi_heap_destroy(heap);
}

static void check_default(void) {
    mi_heap_t *main_heap = mi_heap_main();
    mi_heap_t *heap = mi_heap_new();
    CHECK(mi_heap_set_default(heap) == main_heap && mi_heap_get_default() == heap);
    void *p = mi_malloc(100), *q = mi_zalloc(100000), *a = mi_malloc_aligned(100, 4096);
    CHECK(mi_heap_of(p) == heap && mi_heap_of(q) == heap && mi_heap_of(a) == heap &&
          mi_check_owned(p));
    CHECK(is_zero(q, 0, 100000) && is_aligned(a, 4096));
    CHECK(mi_heap_set_default(NULL) == heap && mi_heap_get_default() == heap); // left alone
    CHECK(mi_heap_set_default(main_heap) == heap && mi_heap_get_default() == main_heap);
    void *m = mi_malloc(100);
    CHECK(mi_heap_of(m) == main_heap && !mi_check_owned(p));
    mi_free(p); // frees of the other heap's blocks go where they belong
    mi_theap_t *before = mi_theap_set_default(mi_heap_theap(heap));
    CHECK(before == mi_heap_theap(main_heap) && mi_heap_get_default() == heap);
    mi_heap_delete(heap); // the thread's default: the main heap again
    CHECK(mi_heap_get_default() == main_heap && mi_heap_of(q) == main_heap);
    CHECK(mi_theap_set_default(NULL) == before);
    heap = mi_heap_new();
    CHECK(mi_heap_set_default(heap) == main_heap);
    fill(mi_malloc(100), 100);
    mi_heap_destroy(heap); // likewise
    CHECK(mi_heap_get_default() == main_heap);
    void *const d = mi_malloc(100);
    CHECK(mi_heap_of(d) == main_heap);
    mi_free(d);
    mi_free(q);
    mi_free(a);
    mi_free(m);
}

static bool count_heap(mi_heap_t *heap, void *arg) {
    *(int *)arg += (heap != NULL);
    return false;
}

typedef struct seen_s {
    mi_heap_t *heap[8];
    int count;
} seen_t;

static bool see_heap(mi_heap_t *heap, void *arg) {
    seen_t *const seen = arg;
    if (seen->count < 8)
        seen->heap[seen->count] = heap;
    seen->count++;
    return true;
}

// Heaps belong to the sub-process whose thread made them, whichever heap is the default.
static void check_subproc_heaps(void) {
    const mi_subproc_id_t main_process = mi_subproc_main();
    const mi_subproc_id_t other = mi_subproc_new();
    seen_t before = {{NULL}, 0};
    CHECK(mi_subproc_visit_heaps(main_process, see_heap, &before) &&
          before.heap[0] == mi_heap_main());
    mi_subproc_add_current_thread(other);
    mi_heap_t *const own = mi_heap_get_default();
    mi_heap_t *const first = mi_heap_new();
    (void)mi_heap_set_default(first);
    CHECK(mi_subproc_current() == other);
    mi_heap_t *const second = mi_heap_new();
    (void)mi_heap_set_default(own);
    seen_t seen = {{NULL}, 0};
    CHECK(mi_subproc_visit_heaps(other, see_heap, &seen) && seen.count == 3);
    CHECK(seen.heap[0] == own && seen.heap[1] == second && seen.heap[2] == first);
    seen = (seen_t){{NULL}, 0};
    CHECK(mi_subproc_visit_heaps(main_process, see_heap, &seen) && seen.count == before.count);
    mi_heap_destroy(second);
    seen = (seen_t){{NULL}, 0};
    CHECK(mi_subproc_visit_heaps(other, see_heap, &seen) && seen.count == 2);
    mi_subproc_add_current_thread(main_process);
    mi_subproc_delete(other); // its heap that is left is the main sub-process' now
    seen = (seen_t){{NULL}, 0};
    CHECK(mi_subproc_visit_heaps(main_process, see_heap, &seen) && seen.count == before.count + 1);
    void *const p = mi_heap_malloc(first, 100);
    CHECK(mi_heap_of(p) == first);
    mi_heap_destroy(first);
}

static void check_subproc(void) {
    const mi_subproc_id_t main_process = mi_subproc_main();
    CHECK(main_process != NULL && mi_subproc_current() == main_process);
    const mi_subproc_id_t other = mi_subproc_new();
    CHECK(other != NULL && other != main_process);
    mi_subproc_add_current_thread(NULL); // left alone
    mi_subproc_add_current_thread(other);
    CHECK(mi_subproc_current() == other);
    void *p = mi_malloc(500);
    fill(p, 500);
    mi_subproc_add_current_thread(main_process);
    CHECK(mi_subproc_current() == main_process);
    int heaps = 0;
    CHECK(!mi_subproc_visit_heaps(other, count_heap, &heaps) && heaps == 1);
    CHECK(!mi_subproc_visit_heaps(NULL, count_heap, &heaps) &&
          !mi_subproc_visit_heaps(other, NULL, NULL));
    size_t blocks = 0; // no thread of it has ended
    CHECK(mi_abandoned_visit_blocks(other, 0, true, count_block, &blocks) && blocks == 0);
    CHECK(mi_heap_visit_abandoned_blocks(mi_heap_main(), true, count_block, &blocks) &&
          blocks == 0);
    CHECK(!mi_heap_visit_abandoned_blocks(NULL, true, count_block, NULL));
    mi_subproc_delete(other); // blocks stay
    CHECK(is_filled(p, 500));
    mi_free(p);
    mi_subproc_destroy(mi_subproc_new());
    mi_subproc_delete(NULL);
    check_subproc_heaps();
}

static void check_arena(void) {
    CHECK(mi_arena_min_alignment() >= 4096 && mi_arena_min_size() >= mi_arena_min_alignment());
    mi_arena_id_t arena = NULL;
    CHECK(mi_reserve_os_memory_ex(32u << 20, false, false, true, &arena) == 0 && arena != NULL);
    size_t size = 0;
    uint8_t *start = mi_arena_area(arena, &size);
    CHECK(start != NULL && size >= 32u << 20 && mi_arena_area(arena, NULL) == start);
    CHECK(mi_arena_area(NULL, &size) == NULL && size == 0);
    mi_heap_t *heap = mi_heap_new_in_arena(arena);
    CHECK(heap != NULL);
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        void *p = mi_heap_malloc(heap, test_sizes[i]);
        CHECK_MSG(p != NULL && mi_arena_contains(arena, p), "%zu", test_sizes[i]);
        void *q = mi_malloc(test_sizes[i]); // an exclusive arena serves its heaps only
        CHECK_MSG(q != NULL && !mi_arena_contains(arena, q), "%zu", test_sizes[i]);
        mi_free(q);
    }
    // Not even when nothing else is left.
    enum { MOST = 4000 };
    static void *blocks[MOST];
    size_t count = 0;
    bool is_apart = true;
    mi_option_set(mi_option_disallow_os_alloc, 1);
    while (count < MOST && (blocks[count] = mi_malloc(1000000)) != NULL)
        is_apart &= !mi_arena_contains(arena, blocks[count++]);
    CHECK_MSG(count < MOST && is_apart, "%zu blocks", count);
    while (count > 0)
        mi_free(blocks[--count]);
    mi_option_set(mi_option_disallow_os_alloc, 0);
    CHECK(!mi_arena_contains(NULL, start) && !mi_arena_contains(arena, &size) &&
          !mi_arena_contains(arena, NULL));
    CHECK_FAILS(mi_heap_malloc(heap, 64u << 20), ENOMEM); // larger than its arena
    mi_heap_destroy(heap);
    heap = mi_heap_new_ex(0, true, arena);
    CHECK(heap != NULL && mi_arena_contains(arena, mi_heap_malloc(heap, 10)));
    mi_heap_destroy(heap);
    heap = mi_heap_new_ex(0, true, NULL);
    CHECK(heap != NULL);
    mi_heap_delete(heap);
    CHECK(mi_reserve_os_memory(1u << 20, true, false) == 0);
    CHECK(mi_reserve_os_memory(0, true, false) == ENOMEM &&
          mi_reserve_os_memory(opaque(SIZE_MAX), true, false) == ENOMEM);
    arena = &size;
    CHECK(mi_reserve_os_memory_ex(opaque(SIZE_MAX / 2), false, false, false, &arena) == ENOMEM &&
          arena == NULL);
    void *base = &size;
    CHECK(!mi_arena_unload(NULL, &base, NULL, NULL) && base == NULL);
    arena = &size;
    CHECK(!mi_arena_reload(&size, 10, NULL, NULL, false, false, -1, &arena) && arena == NULL);
}

// Memory of which only what was committed can be touched.
typedef struct provider_s {
    uint8_t *start;
    size_t live;       // bytes committed now
    size_t decommits;  // calls
    bool is_unwilling; // commits fail
    bool is_wrong;     // it was asked for something that makes no sense
} provider_t;

static bool provide(bool is_commit, void *start, size_t size, bool *is_zero, void *user_arg) {
    provider_t *const own = user_arg;
    if ((uint8_t *)start < own->start || size == 0 || size % mi_arena_min_alignment() != 0)
        own->is_wrong = true;
    if (is_zero != NULL)
        *is_zero = false;
    if (is_commit && own->is_unwilling)
        return false;
    own->decommits += !is_commit;
    own->live += (is_commit ? size : (size_t)0 - size);
#ifdef _WIN32
    return is_commit ? VirtualAlloc(start, size, MEM_COMMIT, PAGE_READWRITE) != NULL
                     : VirtualFree(start, size, MEM_DECOMMIT) != 0;
#else
    if (mprotect(start, size, is_commit ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
        return false;
    if (is_commit)
        memset(start, 0xEE, size); // the allocator was told that it is not zero
    return true;
#endif
}

// Committed by the caller's function, piece by piece, and decommitted when it was unused.
static void check_provided(void) {
    const size_t bytes = 32u << 20;
    provider_t own = {0};
#ifdef _WIN32
    own.start = VirtualAlloc(NULL, bytes, MEM_RESERVE, PAGE_READWRITE);
#else
    own.start = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
#endif
    mi_arena_id_t arena = NULL;
    own.is_unwilling = true;
    CHECK(
        !mi_manage_memory(own.start, bytes, false, false, false, -1, true, provide, &own, &arena) &&
        arena == NULL);
    own.is_unwilling = false;
    CHECK(mi_manage_memory(own.start, bytes, false, false, false, -1, true, provide, &own, &arena));
    CHECK_MSG(own.live > 0 && own.live <= bytes / 8, "%zu bytes at once", own.live);
    mi_heap_t *const heap = mi_heap_new_in_arena(arena);
    void *blocks[100];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++) {
            blocks[i] = mi_heap_zalloc(heap, 100000);
            CHECK_MSG(blocks[i] != NULL && is_zero(blocks[i], 0, 100000), "round %d", round);
            fill(blocks[i], 100000);
        }
        CHECK_MSG(own.live >= 10000000 && own.live < bytes, "%zu", own.live);
        own.is_unwilling = true;
        int count = 0;
        void *last[400];
        while (count < 400 && (last[count] = mi_heap_malloc(heap, 100000)) != NULL)
            count++;
        CHECK_MSG(count < 100, "%d blocks without a commit", count);
        own.is_unwilling = false;
        void *const p = mi_heap_malloc(heap, 100000);
        CHECK(p != NULL);
        mi_free(p);
        while (count > 0)
            mi_free(last[--count]);
        const size_t before = own.decommits;
        for (int i = 0; i < 100; i++) {
            CHECK(is_filled(blocks[i], 100000));
            mi_free(blocks[i]);
        }
        mi_heap_collect(heap, true);
        mi_heap_destroy(mi_heap_new_in_arena(arena));
        mi_collect(true);
        CHECK_MSG(own.decommits > before || round > 0, "%zu decommits", own.decommits);
    }
    // What could not be committed is free as before.
    own.is_unwilling = true;
    for (int i = 0; i < 2000; i++)
        mi_free(mi_heap_malloc(heap, 3000000));
    own.is_unwilling = false;
    size_t sum = 0;
    while (mi_heap_malloc(heap, 500000) != NULL)
        sum += 500000;
    CHECK_MSG(sum >= bytes / 2, "%zu", sum); // spans lie where guards are (secure build)
    mi_heap_destroy(heap);
    mi_collect(true);
    CHECK_MSG(own.live <= bytes / 8 && !own.is_wrong, "%zu bytes are left", own.live);
}

// What is pinned is never decommitted.
static void check_pinned(void) {
    const size_t bytes = 16u << 20;
    provider_t own = {0};
    mi_arena_id_t arena = NULL;
#ifdef _WIN32
    own.start = VirtualAlloc(NULL, bytes, MEM_RESERVE, PAGE_READWRITE);
#else
    own.start = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
#endif
    CHECK(mi_manage_memory(own.start, bytes, false, true, false, -1, true, provide, &own, &arena));
    mi_heap_t *const heap = mi_heap_new_in_arena(arena);
    void *const p = mi_heap_malloc(heap, 5000000);
    CHECK(p != NULL && own.live >= 5000000);
    mi_free(p);
    mi_heap_destroy(heap);
    mi_collect(true);
    CHECK(own.decommits == 0 && own.live >= 5000000 && !own.is_wrong);
}

// Two nodes, whether the machine has them or not.
static void check_numa(void) {
    enum { BYTES = 8 << 20 };
    static uint8_t memory[2][BYTES];
    mi_arena_id_t arenas[2];
    mi_option_set(mi_option_use_numa_nodes, 2);
    for (int i = 0; i < 2; i++)
        CHECK(mi_manage_os_memory_ex(memory[i], BYTES, true, false, false, i, false, &arenas[i]));
    mi_heap_t *const heap = mi_heap_new();
    for (int n = 0; n < 10; n++) {
        mi_heap_set_numa_affinity(heap, n % 2);
        void *const p = mi_heap_malloc(heap, 100000 + (size_t)n * 50000); // a page of its own
        CHECK_MSG(mi_arena_contains(arenas[n % 2], p), "%d", n);
    }
    mi_heap_set_numa_affinity(heap, 3); // modulo their number
    CHECK(mi_arena_contains(arenas[1], mi_heap_malloc(heap, 700000)));
    for (int node = -2; node < 0; node++) { // any: the arenas of no node come first
        mi_heap_set_numa_affinity(heap, node);
        void *const p = mi_heap_malloc(heap, 800000);
        CHECK(!mi_arena_contains(arenas[0], p) && !mi_arena_contains(arenas[1], p));
    }
    mi_heap_set_numa_affinity(heap, 1);
    mi_heap_destroy(heap);
    mi_heap_t *const next = mi_heap_new(); // whatever the one before it wished
    void *const p = mi_heap_malloc(next, 800000);
    CHECK(!mi_arena_contains(arenas[0], p) && !mi_arena_contains(arenas[1], p));
    mi_heap_destroy(next);
    // Arenas of other nodes serve nobody, not even when nothing else is left: this thread runs on
    // node 0, or on one that counts as 0 or 1 here, and never on both.
    mi_option_set(mi_option_disallow_os_alloc, 1);
    for (int is_local = 1; is_local >= 0; is_local--) {
        enum { MOST = 4000 };
        static void *blocks[MOST];
        size_t count = 0;
        bool used[2] = {false, false};
        mi_option_set(mi_option_arena_is_numa_local, is_local);
        while (count < MOST && (blocks[count] = mi_malloc(1000000)) != NULL) {
            for (int k = 0; k < 2; k++)
                used[k] |= mi_arena_contains(arenas[k], blocks[count]);
            count++;
        }
        CHECK_MSG(count < MOST, "%zu blocks and no end", count);
        CHECK_MSG(is_local ? used[0] != used[1] : used[0] && used[1], "%d: %d %d", is_local,
                  used[0], used[1]);
        while (count > 0)
            mi_free(blocks[--count]);
    }
    mi_option_set(mi_option_disallow_os_alloc, 0);
    mi_option_set(mi_option_arena_is_numa_local, 0);
    mi_option_set(mi_option_use_numa_nodes, 0);
}

static void check_managed(void) {
    const size_t bytes = 16u << 20;
    uint8_t *own = malloc(bytes + mi_arena_min_alignment());
    memset(own, 0xEE, bytes + mi_arena_min_alignment());
    uint8_t *start = (uint8_t *)(((uintptr_t)own + mi_arena_min_alignment() - 1) &
                                 ~(mi_arena_min_alignment() - 1));
    mi_arena_id_t arena = NULL;
    CHECK(!mi_manage_os_memory_ex(start, 100, true, false, false, -1, true, &arena) &&
          arena == NULL); // too small
    CHECK(!mi_manage_os_memory(NULL, bytes, true, false, false, -1) &&
          !mi_manage_os_memory(start, 0, true, false, false, -1));
    CHECK(mi_manage_os_memory_ex(start, bytes, true, false, false, -1, true, &arena) &&
          arena != NULL);
    mi_heap_t *heap = mi_heap_new_in_arena(arena);
    for (int i = 0; i < 100; i++) {
        uint8_t *p = mi_heap_zalloc(heap, 50000); // dirty memory must still come out as zero
        CHECK(p >= own && p < own + bytes + mi_arena_min_alignment() && is_zero(p, 0, 50000));
    }
    mi_heap_destroy(heap); // the arena keeps the memory for ever: it is not freed
    const size_t least = mi_arena_min_size(); // enough for the bookkeeping and something else
    start = (uint8_t *)(((uintptr_t)malloc(2 * least + mi_arena_min_alignment()) +
                         mi_arena_min_alignment() - 1) &
                        ~(mi_arena_min_alignment() - 1));
    CHECK(least >= 4 * mi_arena_min_alignment() && least <= 64 * mi_arena_min_alignment());
    // No byte beyond what was given, though that is not a whole number of slices.
    const size_t given = least + mi_arena_min_alignment() / 2;
    CHECK(mi_manage_os_memory_ex(start, given, true, false, false, -1, true, &arena));
    size_t area = 0;
    CHECK(mi_arena_area(arena, &area) == start && area == least);
    heap = mi_heap_new_in_arena(arena);
    void *const p = mi_heap_malloc(heap, least / 4);
    CHECK(p != NULL && mi_arena_contains(arena, p));
    mi_heap_destroy(heap);
    static uint8_t in_data[4u << 20];
    CHECK(mi_manage_os_memory(in_data, sizeof(in_data), true, true, true, -1));
}

// A mapped file that is given to the allocator: were it purged, it would read as the file again,
// and not as zero.
static void check_managed_file(void) {
#ifndef _WIN32
    const size_t bytes = 8u << 20;
    FILE *const file = tmpfile();
    CHECK(file != NULL);
    for (size_t i = 0; i < bytes / 8; i++)
        fwrite("not zero", 1, 8, file);
    fflush(file);
    void *const map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fileno(file), 0);
    mi_arena_id_t arena = NULL;
    CHECK(map != MAP_FAILED &&
          mi_manage_os_memory_ex(map, bytes, true, false, false, -1, true, &arena));
    mi_heap_t *const heap = mi_heap_new_in_arena(arena);
    for (int round = 0; round < 3; round++) {
        void *blocks[50];
        for (int i = 0; i < 50; i++) {
            blocks[i] = mi_heap_zalloc(heap, 50000);
            CHECK_MSG(blocks[i] != NULL && is_zero(blocks[i], 0, 50000), "round %d", round);
        }
        for (int i = 0; i < 50; i++)
            mi_free(blocks[i]);
        mi_heap_collect(heap, true);
        mi_collect(true);
    }
    mi_heap_destroy(heap);
    fclose(file);
#endif
}

// An arena is saved, its memory overwritten, and loaded again, several times.
static void check_unload(void) {
    const size_t align = mi_arena_min_alignment(), bytes = 24u << 20;
    uint8_t *const own = malloc(bytes + align);
    uint8_t *const start = (uint8_t *)(((uintptr_t)own + align - 1) & ~(align - 1));
    mi_arena_id_t arena = NULL;
    CHECK(mi_manage_os_memory_ex(start, bytes, true, false, false, -1, true, &arena));
    mi_heap_t *heap = mi_heap_new_in_arena(arena);
    void *blocks[400];
    for (size_t i = 0; i < 400; i++) {
        blocks[i] = mi_heap_malloc(heap, i * 97);
        fill(blocks[i], i * 97);
    }
    for (int round = 0; round < 3; round++) {
        void *base = NULL;
        size_t accessed = 0, size = 0;
        CHECK(mi_arena_unload(arena, &base, &accessed, &size));
        CHECK(base == start && size == bytes && accessed > 0 && accessed <= size);
        CHECK(!mi_is_in_heap_region(blocks[100]) && !mi_arena_unload(arena, NULL, NULL, NULL));
        CHECK_FAILS(mi_heap_malloc(heap, 100), ENOMEM);
        mi_heap_destroy(heap); // the blocks are not its own any more
        uint8_t *const saved = malloc(accessed);
        memcpy(saved, base, accessed);
        memset(base, 0xEE, size);
        CHECK(!mi_arena_reload(base, size, NULL, NULL, true, false, -1, &arena) && arena == NULL);
        memcpy(base, saved, accessed);
        CHECK(!mi_arena_reload(base, size - align, NULL, NULL, true, false, -1, &arena));
        CHECK(mi_arena_reload(base, size, NULL, NULL, true, false, -1, &arena) && arena == base);
        CHECK(!mi_arena_reload(base, size, NULL, NULL, true, false, -1, NULL)); // it is loaded
        free(saved);
        heap = mi_heap_new_in_arena(arena);
        size_t seen = 0;
        CHECK(mi_heap_visit_blocks(heap, true, count_block, &seen) && seen == 400);
        for (size_t i = (size_t)round; i < 400; i += 3) {
            CHECK_MSG(is_filled(blocks[i], i * 97) && mi_heap_of(blocks[i]) == heap, "%zu", i);
            mi_free(blocks[i]);
            blocks[i] = mi_heap_zalloc(heap, i * 97);
            CHECK_MSG(blocks[i] != NULL && is_zero(blocks[i], 0, i * 97), "%zu", i);
            fill(blocks[i], i * 97);
        }
    }
    mi_heap_delete(heap); // its blocks are the main heap's: it cannot be unloaded any more
    CHECK(!mi_arena_unload(arena, NULL, NULL, NULL));
    for (size_t i = 0; i < 400; i++) {
        CHECK(is_filled(blocks[i], i * 97));
        mi_free(blocks[i]);
    }
}

// Of memory that reads as zero only what was used need be saved; is_zero: what was not saved is
// zero again.
static void check_unload_reserved(bool is_zero_again) {
    mi_arena_id_t arena = NULL;
    mi_stats_t_decl(at_first);
    mi_stats_t_decl(meanwhile);
    mi_collect(true);
    CHECK(mi_stats_get(&at_first));
    void *base = NULL;
    size_t accessed = 0, size = 0, area = 0;
    CHECK(mi_reserve_os_memory_ex(32u << 20, true, false, true, &arena) == 0);
    CHECK(mi_arena_area(arena, &area) == arena);
    mi_heap_t *heap = mi_heap_new_in_arena(arena);
    void *const p = mi_heap_malloc(heap, 100000);
    fill(p, 100000);
    CHECK(mi_arena_unload(arena, &base, &accessed, &size));
    CHECK_MSG(size == area && accessed >= 100000 && accessed < area / 4, "%zu of %zu", accessed,
              size);
    CHECK(mi_stats_get(&meanwhile) && meanwhile.reserved.current == at_first.reserved.current &&
          meanwhile.committed.current == at_first.committed.current);
    uint8_t *const saved = malloc(accessed);
    memcpy(saved, base, accessed);
    memset(base, is_zero_again ? 0 : 0xEE, size);
    memcpy(base, saved, accessed);
    free(saved);
    CHECK(mi_arena_reload(base, size, NULL, NULL, true, is_zero_again, -1, &arena));
    mi_heap_destroy(heap);
    heap = mi_heap_new_in_arena(arena);
    CHECK(mi_heap_of(p) == heap && is_filled(p, 100000));
    mi_free(p);
    uint8_t *const q = mi_heap_zalloc(heap, 20u << 20);
    CHECK(q != NULL && is_zero(q, 0, 20u << 20));
    mi_heap_destroy(heap);
}

// What a deleted heap left in an exclusive arena is freed there, though no heap is left to notice.
static void check_left(void) {
    mi_arena_id_t arena = NULL;
    CHECK(mi_reserve_os_memory_ex(32u << 20, true, false, true, &arena) == 0);
    mi_heap_t *const heap = mi_heap_new_in_arena(arena);
    mi_stats_t_decl(before);
    mi_stats_t_decl(after);
    mi_collect(true);
    CHECK(mi_stats_get(&before));
    void *const p = mi_heap_malloc(heap, 8000000);
    mi_heap_delete(heap);
    mi_free(p);
    mi_collect(true);
    CHECK(mi_stats_get(&after));
    CHECK_MSG(after.committed.current < before.committed.current + 4000000, "%zu after %zu",
              (size_t)after.committed.current, (size_t)before.committed.current);
}

static void check_huge(void) {
    // The machine may have such pages or not: a result, never a crash.
    mi_arena_id_t arena = &arena;
    int error = mi_reserve_huge_os_pages_at_ex(1, -1, 100, true, &arena);
    CHECK(error == 0 ? arena != NULL : error == ENOMEM && arena == NULL);
    CHECK(mi_reserve_huge_os_pages_at(0, -1, 100) == 0);
    CHECK(mi_reserve_huge_os_pages_at(opaque(SIZE_MAX), -1, 100) == ENOMEM);
    size_t reserved = 99;
    error = mi_reserve_huge_os_pages(opaque(SIZE_MAX), 0.1, &reserved);
    CHECK(error == ENOMEM && reserved == 0);
    CHECK(mi_reserve_huge_os_pages_interleave(0, 0, 10) == 0);
}

// A walk tells what the program has of a guarded block, all of which can be used.
static bool see_guarded(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                        size_t block_size, void *arg) {
    (void)heap;
    (void)area;
    if (block == NULL)
        return true;
    CHECK_MSG(block_size == 55 && mi_usable_size(block) == 55, "%zu", block_size);
    CHECK(is_filled(block, 55));
    ++*(int *)arg;
    return true;
}

// Of a heap that is destroyed no guard is left: who gets that memory next can use it.
static void check_guarded_end(mi_heap_t *heap) {
    enum { COUNT = 50, LENGTH = 3000 };
    static void *again[COUNT * 4];
    int seen = 0;
    mi_heap_guarded_set_sample_rate(heap, 1, 1);
    for (int i = 0; i < COUNT; i++)
        fill(mi_heap_malloc(heap, 55), 55);
    CHECK(mi_heap_visit_blocks(heap, true, see_guarded, &seen) && seen == COUNT);
    mi_heap_destroy(heap);
    for (int i = 0; i < COUNT * 4; i++) {
        again[i] = mi_malloc_aligned(LENGTH, 8);
        fill(again[i], LENGTH);
    }
    for (int i = 0; i < COUNT * 4; i++)
        mi_free(again[i]);
}

static void check_guarded(void) {
    mi_heap_t *heap = mi_heap_main();
    mi_heap_guarded_set_size_bound(heap, 10, 100000);
    mi_heap_guarded_set_sample_rate(heap, 1, 1); // every one
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        const size_t size = test_sizes[i];
        uint8_t *p = mi_malloc(size), *z = mi_zalloc(size);
        CHECK(is_zero(z, 0, size));
        check_block(p, size, least_align(size), "guarded");
        check_block(z, size, least_align(size), "guarded");
        if (size >= 10 && size <= 100000) // it ends at an OS page
            CHECK_MSG(((uintptr_t)(p + size + 15) & 4095) < 16 && mi_usable_size(p) == size,
                      "%zu: %p", size, (void *)p);
        p = mi_realloc(p, size * 2 + 10);
        CHECK_MSG(p != NULL && is_filled(p, size), "%zu", size);
        p = mi_realloc_aligned(p, size * 2 + 100, 256);
        CHECK(p != NULL && is_filled(p, size) && is_aligned(p, 256));
        z = mi_rezalloc(z, size + 5000);
        CHECK(z != NULL && is_filled(z, size) && is_zero(z, size, size + 5000));
        mi_free(z);
        mi_free(p);
        void *e = mi_malloc(size);
        CHECK(mi_expand(e, size) == e);
        mi_free(e);
    }
    // Another heap has a rate of its own, here none; and its own bound, when it has a rate.
    mi_heap_t *other = mi_heap_new();
    mi_stats_t_decl(at_first);
    mi_stats_t_decl(then);
    CHECK(mi_stats_get(&at_first));
    for (int i = 0; i < 100; i++)
        mi_free(mi_heap_malloc(other, 100));
    CHECK(mi_stats_get(&then) &&
          then.malloc_guarded_count.total == at_first.malloc_guarded_count.total);
    mi_heap_guarded_set_size_bound(other, 50, 60);
    mi_heap_guarded_set_sample_rate(other, 5, 5);
    for (int i = 0; i < 100; i++) {
        mi_free(mi_heap_malloc(other, 100));
        uint8_t *p = mi_heap_zalloc(other, 55);
        CHECK(mi_heap_of(p) == other && is_zero(p, 0, 55));
        p = mi_heap_realloc(other, p, 300);
        CHECK(mi_heap_of(p) == other && is_zero(p, 0, 55));
        mi_free(p);
    }
    CHECK_MSG(mi_stats_get(&then) &&
                  then.malloc_guarded_count.total - at_first.malloc_guarded_count.total == 20,
              "%d guarded",
              (int)(then.malloc_guarded_count.total - at_first.malloc_guarded_count.total));
    check_guarded_end(other);
    mi_theap_guarded_set_size_bound(mi_heap_theap(heap), 0, 1000000);
    mi_theap_guarded_set_sample_rate(mi_heap_theap(heap), 0, 0); // none any more
    mi_theap_guarded_set_sample_rate(NULL, 1, 0);
    mi_theap_guarded_set_size_bound(NULL, 1, 0);
    mi_heap_guarded_set_sample_rate(NULL, 1, 0);
    mi_heap_guarded_set_size_bound(NULL, 1, 0);
    mi_stats_t_decl(before);
    mi_stats_t_decl(after);
    CHECK(mi_stats_get(&before) && before.malloc_guarded_count.total > 20);
    for (int i = 0; i < 1000; i++)
        mi_free(mi_malloc(33));
    CHECK(mi_stats_get(&after) &&
          after.malloc_guarded_count.total == before.malloc_guarded_count.total);
}

static int64_t guarded_count(void) {
    mi_stats_t_decl(stats);
    CHECK(mi_stats_get(&stats));
    return stats.malloc_guarded_count.total;
}

// When no block is guarded any more, allocation is as fast as before: most are not seen by the slow
// paths, which count them. Before a rate is set for this thread.
static void check_guarded_option(void) {
    const int64_t before = guarded_count();
    mi_option_set(mi_option_guarded_sample_rate, 1);
    void *const p = mi_malloc(100);
    CHECK(guarded_count() == before + 1);
    mi_free(p);
    mi_option_set(mi_option_guarded_sample_rate, 0);
    mi_stats_t_decl(early);
    mi_stats_t_decl(late);
    CHECK(mi_stats_get(&early));
    for (int i = 0; i < 1000; i++)
        mi_free(mi_malloc(100));
    CHECK(mi_stats_get(&late));
    CHECK(guarded_count() == before + 1);
    CHECK(MI_DEBUG || late.malloc_normal_count.total - early.malloc_normal_count.total < 100);
}

// Which allocations are guarded is told by rate and seed.
static void check_guarded_turns(void) {
    mi_heap_t *const heap = mi_heap_new();
    mi_heap_guarded_set_size_bound(heap, 10, 1000);
    mi_heap_guarded_set_sample_rate(heap, 5, 13);
    for (int i = 1; i <= 20; i++) {
        const int64_t before = guarded_count();
        mi_free(mi_heap_malloc(heap, 100));
        CHECK_MSG(guarded_count() - before == ((13 + i) % 5 == 0), "%d", i);
    }
    mi_heap_destroy(heap);
}

// A guarded block that is resized: nothing beside it changes, and nothing of it is left.
static void check_guarded_resize(void) {
    enum { COUNT = 64, SIZE = 64 };
    mi_heap_t *const heap = mi_heap_new();
    uint8_t *beside[COUNT];
    for (int i = 0; i < COUNT; i++) {
        beside[i] = mi_heap_malloc(heap, SIZE);
        fill(beside[i], SIZE);
    }
    mi_heap_guarded_set_size_bound(heap, 1000, 10000);
    mi_heap_guarded_set_sample_rate(heap, 1, 1);
    uint8_t *p = mi_heap_malloc(heap, 5000);
    fill(p, 5000);
    CHECK(mi_usable_size(p) == 5000);
    CHECK(mi_expand(p, 4000) == p && mi_expand(p, 5001) == NULL && is_filled(p, 5000));
    mi_free(beside[COUNT / 2]); // the next small block is this one
    p = mi_heap_realloc(heap, p, SIZE);
    CHECK(p != NULL && is_filled(p, SIZE));
    beside[COUNT / 2] = p;
    size_t blocks = 0;
    CHECK(mi_heap_visit_blocks(heap, true, count_block, &blocks));
    CHECK_MSG(blocks == COUNT, "%zu blocks", blocks);
    for (int i = 0; i < COUNT; i++)
        CHECK_MSG(is_filled(beside[i], SIZE), "%d", i);
    mi_heap_destroy(heap);
}

int main(void) {
    check_theap();
    check_default();
    check_subproc();
    check_arena();
    check_managed();
    check_provided();
    check_pinned();
    check_managed_file();
    check_unload();
    check_unload_reserved(true);
    check_unload_reserved(false);
    check_left();
    check_huge();
    check_guarded_option();
    check_guarded();
    check_guarded_resize();
    check_guarded_turns();
    check_numa();
    return test_result();
}
