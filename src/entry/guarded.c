#include "entry/guarded.h"

#include "base/atomic.h"
#include "core/page.h"
#include "core/page_map.h"
#include "diag/options.h"
#include "entry/entry.h"
#include "mimalloc.h"
#include "os/os.h"

#define HEAD_MAGIC ((uintptr_t)0x6D694775u) // mixed with the address, so that no stale copy passes

bool mi_guarded_is_sampling;
bool mi_guarded_was_used;

typedef struct guard_head_s {
    uintptr_t magic; // HEAD_MAGIC ^ address of the head
    uint8_t *guard;  // the inaccessible OS page
    uint8_t *user;   // what the program got
    size_t size;     // what it asked for
} guard_head_t;

static struct {
    _Atomic(size_t) rate;  // one of so many allocations; 0 = none
    _Atomic(size_t) turns; // allocations seen
    _Atomic(size_t) min;   // bytes
    _Atomic(size_t) max;   // bytes
    _Atomic(uint64_t) count;
} guarded;

static void sampling_set(size_t rate, size_t seed) {
    mi_store_relaxed(&guarded.turns, rate == 0 ? 0 : seed % rate);
    mi_store_relaxed(&guarded.rate, rate);
    const bool is_on = (rate != 0);
    if (is_on == mi_guarded_is_sampling)
        return;
    mi_guarded_is_sampling = is_on;
    mi_core_count_all(is_on || mi_option_value(mi_option_show_stats) > 0); // off the fast paths
}

static size_t option_size(mi_option_t option) {
    const long value = mi_option_value(option);
    return value < 0 ? 0 : (size_t)value;
}

static size_t seed_of(size_t seed) {
    return seed != 0 ? seed : (size_t)mi_os_random();
}

void mi_guarded_configure(void) {
    mi_store_relaxed(&guarded.min, option_size(mi_option_guarded_min));
    mi_store_relaxed(&guarded.max, option_size(mi_option_guarded_max));
    const size_t rate = option_size(mi_option_guarded_sample_rate);
    if (rate != 0 || mi_guarded_is_sampling)
        sampling_set(rate, seed_of(option_size(mi_option_guarded_sample_seed)));
}

static bool turn_is_due(size_t size) {
    const size_t rate = mi_load_relaxed(&guarded.rate);
    if (rate == 0 || size < mi_load_relaxed(&guarded.min) || size > mi_load_relaxed(&guarded.max))
        return false;
    return (mi_fetch_add_relaxed(&guarded.turns, 1) + 1) % rate == 0;
}

void *mi_guarded_alloc(size_t size, bool is_zero) {
    const size_t page_bytes = mi_os_page_bytes();
    if (size > MI_REQUEST_MAX / 2 || !turn_is_due(size))
        return NULL;
    // Blocks keep their alignment unless an exact end is asked for.
    const bool is_precise = mi_option_value(mi_option_guarded_precise) > 0;
    const size_t kept = (is_precise ? size : mi_align_up(size, MI_GRANULE_BYTES));
    const size_t front = mi_align_up(sizeof(guard_head_t) + kept, page_bytes);
    uint8_t *block = mi_core_malloc_aligned(front + page_bytes, page_bytes, 0, is_zero);
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
    mi_guarded_was_used = true;
    mi_fetch_add_relaxed(&guarded.count, 1);
    return head->user;
}

static guard_head_t *head_of(const void *p) {
    const mi_page_t *page = mi_page_map_find(p);
    if (page == NULL || !mi_load_relaxed(&page->has_interior))
        return NULL;
    guard_head_t *head = mi_page_block_of(page, p);
    if (head == NULL || (const void *)head == p ||
        ((uintptr_t)head & (mi_os_page_bytes() - 1)) != 0)
        return NULL;
    return head->magic == (HEAD_MAGIC ^ (uintptr_t)head) && head->user == p ? head : NULL;
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

uint64_t mi_guarded_count(void) {
    return mi_load_relaxed(&guarded.count);
}

void mi_theap_guarded_set_sample_rate(mi_theap_t *theap, size_t sample_rate, size_t seed) {
    if (theap != NULL)
        sampling_set(sample_rate, seed_of(seed));
}

void mi_theap_guarded_set_size_bound(mi_theap_t *theap, size_t min, size_t max) {
    if (theap == NULL)
        return;
    mi_store_relaxed(&guarded.min, min);
    mi_store_relaxed(&guarded.max, max);
}

void mi_heap_guarded_set_sample_rate(mi_heap_t *heap, size_t sample_rate, size_t seed) {
    if (heap != NULL)
        sampling_set(sample_rate, seed_of(seed));
}

void mi_heap_guarded_set_size_bound(mi_heap_t *heap, size_t min, size_t max) {
    if (heap != NULL)
        mi_theap_guarded_set_size_bound(mi_heap_theap(heap), min, max);
}
