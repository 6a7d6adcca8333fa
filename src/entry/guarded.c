#include "entry/guarded.h"

#include "base/atomic.h"
#include "core/arena.h"
#include "core/heap.h"
#include "core/page.h"
#include "core/page_map.h"
#include "diag/options.h"
#include "entry/entry.h"
#include "mimalloc.h"
#include "os/os.h"

#define HEAD_MAGIC ((uintptr_t)0x6D694775u) // mixed with the address, so that no stale copy passes

_Atomic(bool) mi_guarded_is_sampling;
_Atomic(bool) mi_guarded_was_used;

typedef struct guard_head_s {
    uintptr_t magic; // HEAD_MAGIC ^ address of the head
    uint8_t *guard;  // the inaccessible OS page
    uint8_t *user;   // what the program got
    size_t size;     // what it asked for
} guard_head_t;

// What the options say, for every thread heap that was told nothing else.
static struct {
    _Atomic(size_t) rate; // one of so many allocations; 0 = none
    _Atomic(size_t) seed; // where each thread heap's count begins
    _Atomic(size_t) min;  // bytes
    _Atomic(size_t) max;  // bytes
    _Atomic(uint64_t) count;
} guarded;

static size_t option_size(mi_option_t option) {
    const long value = mi_option_value(option);
    return value < 0 ? 0 : (size_t)value;
}

static size_t seed_of(size_t seed) {
    return seed != 0 ? seed : (size_t)mi_os_random();
}

void mi_guarded_configure(void) {
    static bool was_on; // set by whoever sets options
    mi_store_relaxed(&guarded.min, option_size(mi_option_guarded_min));
    mi_store_relaxed(&guarded.max, option_size(mi_option_guarded_max));
    const size_t rate = option_size(mi_option_guarded_sample_rate);
    mi_store_relaxed(&guarded.rate, rate);
    if ((rate != 0) == was_on)
        return;
    was_on = (rate != 0);
    mi_store_relaxed(&guarded.seed, seed_of(option_size(mi_option_guarded_sample_seed)));
    if (was_on)
        mi_store_relaxed(&mi_guarded_is_sampling, true);
    // Off the fast paths: nothing is sampled there.
    mi_core_count_all(was_on || mi_option_value(mi_option_show_stats) > 0);
}

static bool turn_is_due(mi_sampling_t *own, size_t size) {
    const size_t rate = (own->has_rate ? own->rate : mi_load_relaxed(&guarded.rate));
    const size_t min = (own->has_bound ? own->min : mi_load_relaxed(&guarded.min));
    const size_t max = (own->has_bound ? own->max : mi_load_relaxed(&guarded.max));
    if (rate == 0 || size < min || size > max)
        return false;
    const size_t start = (own->has_rate ? 0 : mi_load_relaxed(&guarded.seed));
    return (start + ++own->turns) % rate == 0;
}

void *mi_guarded_alloc(mi_heap_t *heap, size_t size, bool is_zero) {
    const size_t page_bytes = mi_os_page_bytes();
    mi_theap_t *const theap = mi_heap_thread_part(heap);
    if (theap == NULL || size > MI_REQUEST_MAX / 2 || !turn_is_due(&theap->sampling, size))
        return NULL;
    const mi_arena_t *const arena = mi_heap_arena(mi_theap_heap(theap));
    if (arena != NULL && mi_arena_stays_apart(arena)) // whoever unloads it reads all of it
        return NULL;
    // Blocks keep their alignment unless an exact end is asked for.
    const bool is_precise = mi_option_value(mi_option_guarded_precise) > 0;
    const size_t kept = (is_precise ? size : mi_align_up(size, MI_GRANULE_BYTES));
    const size_t front = mi_align_up(sizeof(guard_head_t) + kept, page_bytes);
    uint8_t *block = mi_core_heap_malloc_aligned(heap, front + page_bytes, page_bytes, 0, is_zero);
    if (block == NULL)
        return NULL;
    uint8_t *const guard = block + front;
    if (mi_os_protect(guard, page_bytes) != 0) {
        (void)mi_core_free(block);
        return NULL;
    }
    mi_page_set_interior(mi_page_map_find(block));
    guard_head_t *head = (guard_head_t *)(void *)block;
    head->magic = HEAD_MAGIC ^ (uintptr_t)head;
    head->guard = guard;
    head->user = guard - kept;
    head->size = size;
    mi_store_relaxed(&mi_guarded_was_used, true);
    mi_fetch_add_relaxed(&guarded.count, 1);
    return head->user;
}

// Of the block that p points into.
static guard_head_t *head_around(const void *p) {
    const mi_page_t *page = mi_page_map_find(p);
    if (page == NULL || !mi_page_has_interior(page))
        return NULL;
    guard_head_t *head = mi_page_block_of(page, p);
    if (head == NULL || ((uintptr_t)head & (mi_os_page_bytes() - 1)) != 0)
        return NULL;
    return head->magic == (HEAD_MAGIC ^ (uintptr_t)head) ? head : NULL;
}

static guard_head_t *head_of(const void *p) {
    guard_head_t *head = head_around(p);
    return head != NULL && head->user == p ? head : NULL;
}

bool mi_guarded_find(const void *p, size_t *size) {
    const guard_head_t *head = head_of(p);
    if (head == NULL)
        return false;
    *size = head->size;
    return true;
}

void mi_guarded_release(void *p) {
    guard_head_t *head = head_of(p);
    if (head == NULL)
        return;
    head->magic = 0;
    (void)mi_os_unprotect(head->guard, mi_os_page_bytes());
}

void *mi_guarded_within(void *block, size_t *size) {
    const guard_head_t *head = (mi_guarded_is_used() ? head_around(block) : NULL);
    if (head == NULL)
        return block;
    *size = head->size;
    return head->user;
}

static bool release_visited(const mi_heap_t *heap, const mi_core_area_t *area, void *block,
                            size_t bytes, void *arg) {
    (void)heap;
    (void)area;
    (void)bytes;
    (void)arg;
    guard_head_t *head = (block == NULL ? NULL : head_around(block));
    if (head != NULL)
        mi_guarded_release(head->user);
    return true;
}

void mi_guarded_release_heap(mi_heap_t *heap) {
    if (mi_guarded_is_used())
        (void)mi_core_heap_visit(heap, true, release_visited, NULL);
}

uint64_t mi_guarded_count(void) {
    return mi_load_relaxed(&guarded.count);
}

void mi_theap_guarded_set_sample_rate(mi_theap_t *theap, size_t sample_rate, size_t seed) {
    if (theap == NULL)
        return;
    theap->sampling.has_rate = true;
    theap->sampling.rate = sample_rate;
    theap->sampling.turns = (sample_rate == 0 ? 0 : seed_of(seed) % sample_rate);
    if (sample_rate != 0)
        mi_store_relaxed(&mi_guarded_is_sampling, true);
    if (theap == mi_core_theap()) // those of other heaps take the slow path anyway
        mi_core_watch_thread(sample_rate != 0);
}

void mi_theap_guarded_set_size_bound(mi_theap_t *theap, size_t min, size_t max) {
    if (theap == NULL)
        return;
    theap->sampling.has_bound = true;
    theap->sampling.min = min;
    theap->sampling.max = max;
}

void mi_heap_guarded_set_sample_rate(mi_heap_t *heap, size_t sample_rate, size_t seed) {
    mi_theap_guarded_set_sample_rate(mi_heap_theap(heap), sample_rate, seed);
}

void mi_heap_guarded_set_size_bound(mi_heap_t *heap, size_t min, size_t max) {
    mi_theap_guarded_set_size_bound(mi_heap_theap(heap), min, max);
}
