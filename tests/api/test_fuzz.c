// The public interface at random: threads that come and go allocate, resize and free each other's
// blocks by any function (the table of calls is made from the headers, contract_table.py), in heaps
// that are deleted and destroyed meanwhile, in sub-processes and in arenas that are full, while
// options change. What must hold is checked at every step: a block holds all that was written to
// it, reads as zero where that is promised, is aligned, as large as asked for, and of the heap that
// it was taken from; a walk over a heap meets each of its blocks once.
//
//   test_fuzz turns SEED [STEPS]      one thread at a time: a seed does the same each time
//   test_fuzz together SEED [STEPS]   the threads run beside each other between two steps
//
// The allocator's state is what is hard to foresee, so rules of one function at a time are in
// test_contract.c.
#include "api_crew.h"
#include "api_test.h"
#include "api_visit.h"
#include "contract.h"

#include <stdlib.h>

enum {
    SLOTS = 2048,
    WORKERS = 3,
    HEAPS = 8,
    ARENA_HEAPS = 2, // the last ones of HEAPS: in an exclusive arena, and in one for everybody
    ARENA_BYTES = 48 * 1024 * 1024, // too small for what they are asked for
    LARGE_BYTES = 64 * 1024,        // longer ones are resized more often: in more ways
    PATTERN_BYTES = 65521 // a prime: what moved by OS pages or size classes does not look right
};

// What a slot holds. Whoever sets is_busy has the slot; when no worker works, whoever gives orders.
typedef struct slot_s {
    bool is_busy;
    bool is_zeroed; // made and resized by functions that zero, and by no other
    bool is_askew;  // p is not aligned to 16, as was asked for, until the block moves
    uint8_t *p;     // NULL: empty
    size_t size, align, offset;
    size_t tag; // where in the pattern its content begins
    mi_heap_t *heap;
} slot_t;

typedef struct worker_s {
    crew_member_t member;
    uint64_t random;         // for its orders, and for where each operation's numbers begin:
    uint64_t op_random;      // so that one that went otherwise does not change all that follow
    mi_heap_t *heap;         // where its plain allocations go
    mi_subproc_id_t subproc; // NULL: it is in the main one
    size_t ops_most;         // between two steps
} worker_t;

typedef struct call_s {
    const row_t *row;
    args_t args;
    size_t bytes;        // asked for
    mi_heap_t *heap;     // where a new block comes from
    mi_arena_id_t arena; // NULL: any memory
} call_t;

static slot_t slots[SLOTS];
static worker_t workers[WORKERS];
static mi_heap_t *heaps[HEAPS];
static mi_arena_id_t arenas[HEAPS]; // NULL: any
static mi_heap_t *main_heap;
static uint8_t pattern[PATTERN_BYTES];

// SplitMix64 (Steele, Lea and Flood 2014): any seed will do.
static uint64_t random_next(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static size_t random_below(uint64_t *state, size_t end) {
    return (size_t)(random_next(state) % end);
}

// Small ones mostly, the borders of size classes, and some that are large, since those have paths
// of their own.
static size_t random_size(uint64_t *state) {
    static const size_t ends[] = {1,    9,     256,   256,    256,     256,    2048,
                                  2048, 20000, 20000, 200000, 1000000, 1500000};
    const size_t kind = random_below(state, 16);
    if (kind < sizeof(ends) / sizeof(ends[0]))
        return random_below(state, ends[kind]);
    if (kind == 13)
        return random_below(state, 64) == 0 ? random_below(state, 10000000) : 4096;
    return ((size_t)1 << random_below(state, 21)) + random_below(state, 3) - 1;
}

// By steps of a quarter mostly, as vectors grow, so that blocks grow large where they stand; and
// back.
static size_t random_next_size(uint64_t *state, size_t size) {
    switch (random_below(state, 4)) {
    case 0:
        return random_size(state);
    case 1:
        return random_below(state, size + 1);
    default:
        return size + random_below(state, size / 4 + 20);
    }
}

static bool has(const row_t *r, unsigned flag) {
    return (r->flags & flag) != 0;
}

static bool is_failed(void) {
    return __atomic_load_n(&test_failed, __ATOMIC_RELAXED) != 0;
}

// The functions that tell of failure by their result are no rows of the table.
static void *call_reallocarr(args_t *a) {
    return mi_reallocarr(&a->p, a->count, a->size) == 0 ? a->p : NULL;
}

static void *call_posix_memalign(args_t *a) {
    void *p = NULL;
    const size_t align = (a->align < sizeof(void *) ? sizeof(void *) : a->align);
    return mi_posix_memalign(&p, align, a->size) == 0 ? p : NULL;
}

static const row_t more_rows[] = {
    {"mi_reallocarr", call_reallocarr, HAS_COUNT | RESIZES},
    {"mi_posix_memalign", call_posix_memalign, HAS_ALIGN},
};
#define MORE_COUNT (sizeof(more_rows) / sizeof(more_rows[0]))

static const row_t *random_row(uint64_t *state, bool resizes, bool zeroes) {
    for (;;) {
        const size_t i = random_below(state, ROW_COUNT + MORE_COUNT);
        const row_t *const r = (i < ROW_COUNT ? &rows[i] : &more_rows[i - ROW_COUNT]);
        if (has(r, RESIZES) == resizes && (has(r, ZEROES) || !zeroes))
            return r;
    }
}

// A call of r for about so many bytes.
static call_t random_call(worker_t *w, const row_t *r, size_t bytes) {
    uint64_t *const state = &w->op_random;
    call_t c = {.row = r, .heap = w->heap};
    c.args.count = (has(r, HAS_COUNT) ? 1 + random_below(state, 4) : 1);
    c.args.size = bytes / c.args.count;
    if (has(r, IS_SMALL))
        c.args.size %= MI_SMALL_SIZE_MAX + 1;
    c.bytes = c.args.size * c.args.count;
    c.args.align = least_align(c.bytes);
    if (has(r, HAS_ALIGN))
        c.args.align = (size_t)1 << random_below(state, random_below(state, 8) == 0 ? 21 : 13);
    if (has(r, HAS_OFFSET) && random_below(state, 2) == 0)
        c.args.offset = random_below(state, random_below(state, 4) == 0 ? 5000 : c.bytes + 1);
    if (strncmp(r->name, "mi_heap_", 8) == 0) {
        // Who may not fail is kept from the heaps that will.
        const size_t i = random_below(state, has(r, THROWS) ? HEAPS - ARENA_HEAPS : HEAPS);
        c.args.heap = c.heap = heaps[i];
        c.arena = arenas[i];
    }
    return c;
}

// The content from byte begin to byte end is the slot's pattern.
static bool slot_is_good(const slot_t *s, size_t begin, size_t end) {
    for (size_t i = begin; i < end;) {
        const size_t at = (s->tag + i) % PATTERN_BYTES;
        const size_t n = (end - i < PATTERN_BYTES - at ? end - i : PATTERN_BYTES - at);
        if (memcmp(s->p + i, pattern + at, n) != 0)
            return false;
        i += n;
    }
    return true;
}

static void slot_fill(slot_t *s, size_t begin) {
    for (size_t i = begin; i < s->size;) {
        const size_t at = (s->tag + i) % PATTERN_BYTES;
        const size_t n = (s->size - i < PATTERN_BYTES - at ? s->size - i : PATTERN_BYTES - at);
        memcpy(s->p + i, pattern + at, n);
        i += n;
    }
}

static bool is_all_zero(const uint8_t *p, size_t n) {
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static void slot_check(const slot_t *s) {
    CHECK_MSG(mi_heap_of(s->p) == s->heap, "%p, %zu bytes", (void *)s->p, s->size);
    CHECK_MSG(mi_usable_size(s->p) >= s->size, "%p, %zu bytes", (void *)s->p, s->size);
    CHECK_MSG(slot_is_good(s, 0, s->size), "%p, %zu bytes", (void *)s->p, s->size);
}

// The slot has what the call gave, of which the first kept bytes have their content.
static void slot_set(slot_t *s, const call_t *c, uint8_t *p, size_t kept) {
    s->p = p;
    s->size = c->bytes;
    s->align = c->args.align;
    s->offset = c->args.offset;
    s->is_askew = !is_aligned(p, 16) && (has(c->row, HAS_ALIGN) || s->is_askew);
    const char *const name = c->row->name;
    CHECK_MSG(is_aligned(p + s->offset, s->align), "%s(%zu) = %p + %zu, not aligned to %zu", name,
              s->size, (void *)p, s->offset, s->align);
    CHECK_MSG(mi_is_in_heap_region(p), "%s(%zu)", name, s->size);
    CHECK_MSG(!has(c->row, TELLS_USABLE) || c->args.usable == mi_usable_size(p),
              "%s(%zu): tells of %zu bytes", name, s->size, c->args.usable);
    const slot_t old = {.p = p, .size = kept, .tag = s->tag, .heap = s->heap};
    slot_check(&old);
    CHECK_MSG(mi_usable_size(p) >= s->size, "%s(%zu) = %p", name, s->size, (void *)p);
    if (!is_failed())
        slot_fill(s, kept);
}

// Only heaps in a small arena may be out of memory.
static void slot_alloc(slot_t *s, worker_t *w) {
    const row_t *const r = random_row(&w->op_random, false, false);
    call_t c = random_call(w, r, random_size(&w->op_random));
    s->tag = random_below(&w->op_random, PATTERN_BYTES);
    uint8_t *const p = (uint8_t *)r->call(&c.args);
    CHECK_MSG(p != NULL || c.arena != NULL, "%s(%zu)", r->name, c.bytes);
    if (p == NULL)
        return;
    CHECK_MSG(!has(r, ZEROES) || is_all_zero(p, mi_usable_size(p)), "%s(%zu) = %p", r->name,
              c.bytes, (void *)p);
    CHECK_MSG(c.arena == NULL || mi_arena_contains(c.arena, p), "%s(%zu) = %p", r->name, c.bytes,
              (void *)p);
    s->heap = c.heap;
    s->is_zeroed = has(r, ZEROES);
    s->is_askew = false;
    slot_set(s, &c, p, 0);
}

static void slot_resize(slot_t *s, worker_t *w) {
    const bool zeroes = s->is_zeroed && random_below(&w->op_random, 4) != 0;
    const row_t *const r = random_row(&w->op_random, true, zeroes);
    const size_t size = random_next_size(&w->op_random, s->size);
    call_t c = random_call(w, r, size);
    c.args.p = s->p;
    const size_t before = s->size, usable = mi_usable_size(s->p);
    uint8_t *const p = (uint8_t *)r->call(&c.args);
    CHECK_MSG(p != NULL || c.arena != NULL || has(r, STAYS), "%s(%zu)", r->name, c.bytes);
    if (p == NULL) {
        if (has(r, FREES_ON_FAILURE))
            s->p = NULL;
        return;
    }
    CHECK_MSG(p == s->p || !has(r, STAYS), "%s(%zu)", r->name, c.bytes);
    CHECK_MSG(r->call != call_mi_urealloc || c.args.usable_before == usable, "%zu, not %zu",
              c.args.usable_before, usable);
    s->is_zeroed &= has(r, ZEROES);
    if (p != s->p) {
        s->heap = c.heap;
        s->is_askew = false;
    } else if (s->is_askew && !has(r, HAS_ALIGN)) {
        c.args.align = 1;
    }
    const size_t now = mi_usable_size(p);
    // Up to its end, since the next growth may make that a part of the block.
    CHECK_MSG(!s->is_zeroed || c.bytes <= before || is_all_zero(p + before, now - before),
              "%s(%zu) of %zu bytes = %p, usable %zu", r->name, c.bytes, before, (void *)p, now);
    slot_set(s, &c, p, before < c.bytes ? before : c.bytes);
}

static void slot_free(slot_t *s, uint64_t *state) {
    void *const p = s->p;
    const size_t usable = mi_usable_size(p);
    size_t told = usable;
    const size_t way = random_below(state, 7);
    errno = 77;
    if (way == 0)
        mi_free_size(p, s->size);
    else if (way == 1 && s->offset == 0)
        mi_free_aligned(p, s->align);
    else if (way == 2 && s->offset == 0)
        mi_free_size_aligned(p, s->size, s->align);
    else if (way == 3)
        mi_ufree(p, &told);
    else if (way == 4 && s->size <= MI_SMALL_SIZE_MAX && s->align <= 16 && s->offset == 0)
        mi_free_small(p);
    else if (way == 5)
        mi_cfree(p);
    else
        mi_free(p);
    CHECK_MSG(errno == 77, "errno %d", errno);
    CHECK_MSG(told == usable, "%zu, not %zu", told, usable);
    s->p = NULL;
}

// ---- orders: they draw from the worker's own random numbers ----

static void worker_collect(worker_t *w) {
    switch (random_below(&w->random, 4)) {
    case 0:
        mi_collect(true);
        break;
    case 1:
        mi_collect_reduce(random_below(&w->random, 10000000));
        break;
    case 2:
        mi_heap_collect(heaps[random_below(&w->random, HEAPS)], random_below(&w->random, 2) == 0);
        break;
    default:
        mi_collect(false);
    }
}

static void worker_work(void *me) {
    worker_t *const w = me;
    for (size_t n = 1 + random_below(&w->random, w->ops_most); n > 0 && !is_failed(); n--) {
        slot_t *const s = &slots[random_below(&w->random, SLOTS)];
        if (__atomic_exchange_n(&s->is_busy, true, __ATOMIC_ACQUIRE))
            continue;
        w->op_random = random_next(&w->random);
        if (s->p != NULL)
            slot_check(s);
        if (s->p == NULL)
            slot_alloc(s, w);
        else if (random_below(&w->op_random, 4) < (s->size < LARGE_BYTES ? 2 : 3))
            slot_resize(s, w);
        else
            slot_free(s, &w->op_random);
        __atomic_store_n(&s->is_busy, false, __ATOMIC_RELEASE); // pairs with the exchange
        if (random_below(&w->random, 3000) == 0)
            worker_collect(w);
    }
}

// Its blocks went with the heap, or are the main heap's now.
static void slots_leave(const mi_heap_t *heap, bool is_destroyed) {
    for (size_t i = 0; i < SLOTS; i++) {
        slot_t *const s = &slots[i];
        if (s->p == NULL || s->heap != heap)
            continue;
        s->heap = main_heap;
        if (is_destroyed)
            s->p = NULL;
    }
}

static void worker_begin(void *me) {
    worker_t *const w = me;
    w->heap = main_heap;
    w->subproc = NULL;
    const size_t kind = random_below(&w->random, 3);
    if (kind == 1) {
        w->heap = mi_heap_new();
        mi_heap_set_default(w->heap);
    } else if (kind == 2) {
        w->subproc = mi_subproc_new();
        mi_subproc_add_current_thread(w->subproc);
        w->heap = mi_heap_get_default();
    }
    CHECK(w->heap != NULL && mi_heap_get_default() == w->heap);
}

static void worker_leave(void *me) {
    worker_t *const w = me;
    const bool destroys = (random_below(&w->random, 2) == 0);
    if (w->subproc != NULL)
        (destroys ? mi_subproc_destroy : mi_subproc_delete)(w->subproc);
    else if (w->heap != main_heap)
        (destroys ? mi_heap_destroy : mi_heap_delete)(w->heap);
    if (w->heap != main_heap)
        slots_leave(w->heap, destroys);
    CHECK(mi_heap_get_default() == main_heap);
}

static void heap_begin(size_t i) {
    heaps[i] = (arenas[i] == NULL ? mi_heap_new() : mi_heap_new_in_arena(arenas[i]));
    CHECK(heaps[i] != NULL);
}

static void worker_ends_heap(void *me) {
    worker_t *const w = me;
    const size_t i = random_below(&w->random, HEAPS);
    const bool destroys = (random_below(&w->random, 2) == 0);
    (destroys ? mi_heap_destroy : mi_heap_delete)(heaps[i]);
    slots_leave(heaps[i], destroys);
    heap_begin(i);
}

static void worker_walks(void *me) {
    worker_t *const w = me;
    mi_heap_t *const heap = heaps[random_below(&w->random, HEAPS)];
    size_t expected = 0, seen = 0;
    for (size_t i = 0; i < SLOTS; i++)
        expected += (slots[i].p != NULL && slots[i].heap == heap);
    CHECK(mi_heap_visit_blocks(heap, true, count_block, &seen));
    CHECK_MSG(seen == expected, "%zu, not %zu", seen, expected);
}

// ---- whoever gives the orders ----

// Those that decide which of the allocator's paths are taken, and by how much.
static void option_change(uint64_t *state) {
    static const struct {
        mi_option_t option;
        long values[4];
    } choices[] = {
        {mi_option_purge_delay, {-1, 0, 1, 250}},
        {mi_option_purge_decommits, {0, 1, 1, 1}},
        {mi_option_arena_max_object_size, {64, 512, 2048, 131072}},
        {mi_option_disallow_arena_alloc, {0, 0, 0, 1}},
        {mi_option_page_max_reclaim, {-1, -1, 0, 3}},
        {mi_option_minimal_purge_size, {0, 0, 64, 1024}},
        {mi_option_generic_collect, {100, 1000, 10000, 100000}},
        {mi_option_guarded_sample_rate, {0, 0, 20, 500}},
    };
    const size_t i = random_below(state, sizeof(choices) / sizeof(choices[0]));
    mi_option_set(choices[i].option, choices[i].values[random_below(state, 4)]);
}

static void worker_start(worker_t *w, uint64_t *state, bool in_turns) {
    *w = (worker_t){.random = random_next(state), .ops_most = (in_turns ? 100 : 1000)};
    w->member.me = w;
    CHECK(crew_begin(&w->member));
    crew_do(&w->member, worker_begin);
}

static void step(uint64_t *state, bool in_turns) {
    worker_t *const w = &workers[random_below(state, WORKERS)];
    if (in_turns) {
        crew_do(&w->member, worker_work);
        if (random_below(state, 8) != 0)
            return;
    } else {
        for (size_t i = 0; i < WORKERS; i++)
            crew_order(&workers[i].member, worker_work);
        for (size_t i = 0; i < WORKERS; i++)
            crew_wait(&workers[i].member);
    }
    if (is_failed())
        return;
    switch (random_below(state, 4)) {
    case 0:
    case 1:
        crew_do(&w->member, worker_ends_heap);
        break;
    case 2:
    case 3:
        crew_do(&w->member, worker_walks);
        break;
    case 4:
        option_change(state);
        break;
    default:
        crew_end(&w->member, worker_leave);
        worker_start(w, state, in_turns);
    }
}

static bool count_heap(mi_heap_t *heap, void *arg) {
    (void)heap;
    ++*(size_t *)arg;
    return true;
}

static void end_all(uint64_t *state) {
    for (size_t i = 0; i < WORKERS; i++)
        crew_end(&workers[i].member, worker_leave);
    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].p == NULL)
            continue;
        slot_check(&slots[i]);
        slot_free(&slots[i], state);
    }
    for (size_t i = 0; i < HEAPS; i++)
        mi_heap_delete(heaps[i]);
    size_t left = 0;
    CHECK(mi_subproc_visit_heaps(mi_subproc_main(), count_heap, &left));
    CHECK_MSG(left == 1, "%zu heaps", left);
    mi_collect(true);
}

static void fuzz(uint64_t *state, bool in_turns, long steps) {
    for (size_t i = 0; i < PATTERN_BYTES; i++)
        pattern[i] = (uint8_t)random_next(state);
    main_heap = mi_heap_main();
    for (size_t i = 0; i < HEAPS; i++) {
        if (i >= HEAPS - ARENA_HEAPS)
            CHECK(mi_reserve_os_memory_ex(ARENA_BYTES, false, false, i % 2 == 0, &arenas[i]) == 0);
        heap_begin(i);
    }
    for (size_t i = 0; i < WORKERS; i++)
        worker_start(&workers[i], state, in_turns);
    for (long i = 0; i < steps && !is_failed(); i++)
        step(state, in_turns);
    if (!is_failed())
        end_all(state);
}

int main(int argc, char **argv) {
    const bool in_turns = (argc > 2 && strcmp(argv[1], "turns") == 0);
    if (argc < 3 || (!in_turns && strcmp(argv[1], "together") != 0)) {
        fprintf(stderr, "usage: test_fuzz turns|together SEED [STEPS]\n");
        return 2;
    }
    const long seed = strtol(argv[2], NULL, 10);
    const long steps = (argc > 3 ? strtol(argv[3], NULL, 10) : in_turns ? 1500 : 60);
    printf("%s, seed %ld, %ld steps\n", argv[1], seed, steps);
    fflush(stdout); // a corrupt heap ends the process
    uint64_t state = (uint64_t)seed;
    fuzz(&state, in_turns, steps);
    const int result = test_result();
    if (result != 0)
        _Exit(result); // threads wait, and what is corrupt is left alone
    return 0;
}
