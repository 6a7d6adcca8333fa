// Arenas over OS reservations: finding, committing, purging slices. All state is under arena_lock,
// except the table of arenas (append only). Knows pages only as structs that lie in its heads.
#include "core/arena.h"

#include "core/arena_find.h"
#include "core/arena_head.h"
#include "core/arena_waits.h"
#include "core/bitmap.h"
#include "core/harden.h"
#include "core/heap.h"
#include "core/limits.h"
#include "core/lock.h"
#include "os/os.h"

mi_core_config_t mi_core_config = {.purge_delay_ms = 250,
                                   .purge_mult = 1,
                                   .span_max = MI_SPAN_MAX,
                                   .tick_mask = MI_TICKS - 1,
                                   .fault_ns = 4000};

#define ARENA_TRIES 8 // new arenas for one span: others may be quicker, but not for ever
#define ARENA_REACH ((uint64_t)24 * MI_GiB) // of hidden arenas to both sides of the first

static mi_lock_t arena_lock;
static mi_lock_t arena_grow_lock; // one thread reserves at a time

// Entries below arena_count; one becomes NULL when its arena is unloaded, and may be used again.
// What others need to know of an exclusive arena is here, since its memory may go.
typedef struct arena_slot_s {
    _Atomic(mi_arena_t *) arena; // changes under the lock
    _Atomic(bool) is_exclusive;  // set before arena
    _Atomic(int) numa_node;      // likewise; negative = none
    mi_heap_t *home;             // of a reloaded arena: has its blocks, nobody asked for it yet
} arena_slot_t;
MI_LARGE_TABLE MI_HIDDEN arena_slot_t mi_arena_all[MI_ARENA_MAX_COUNT];
static mi_arena_t arena_gone; // has no slices: where heaps of an unloaded arena look
static _Atomic(size_t) arena_count;
static _Atomic(bool) arena_has_nodes;  // some arena belongs to a NUMA node
static _Atomic(uintptr_t) arena_first; // where the first one lies
static size_t arena_reserved;          // bytes, under the lock, as all below
static size_t arena_reserved_bytes_peak;
static size_t arena_used_slices;
static size_t arena_used_peak;
static size_t arena_peak_growth; // slices that may be purged for it, see arena_take
static mi_waits_t arena_waits = {.limit = MI_WAITS_LEAST}; // slices that wait for their purge
static uint64_t arena_purged_slices;
static uint64_t arena_purge_calls;
static _Atomic(uint32_t) arena_pressure;
static _Atomic(uint64_t) arena_purge_at_ms; // earliest of all arenas, 0 = nothing to purge

uint32_t mi_arena_pressure(void) {
    return mi_load_relaxed(&arena_pressure);
}

// ---- Making arenas ------------------------------------------------------------

mi_arena_t *mi_arena_at(size_t i) {
    return mi_load_acquire(&mi_arena_all[i].arena); // with arena_publish
}

// Makes the arena visible to mi_arena_alloc.
static bool arena_publish(mi_arena_t *a) {
    mi_lock(&arena_lock);
    const size_t n = mi_load_relaxed(&arena_count);
    size_t at = 0;
    while (at < n && mi_load_relaxed(&mi_arena_all[at].arena) != NULL)
        at++;
    const bool has_room = (at < MI_ARENA_MAX_COUNT);
    if (has_room) {
        if (n == 0) {
            mi_page_map_init(a->base);
            mi_store_relaxed(&arena_first, (uintptr_t)a->base);
        }
        mi_store_relaxed(&mi_arena_all[at].is_exclusive, a->memory.is_exclusive);
        mi_store_relaxed(&mi_arena_all[at].numa_node, a->memory.numa_node);
        if (a->memory.numa_node >= 0)
            mi_store_relaxed(&arena_has_nodes, true);
        mi_store_release(&mi_arena_all[at].arena, a); // with mi_arena_at
        arena_reserved += a->slices << MI_SLICE_SHIFT;
        if (arena_reserved > arena_reserved_bytes_peak)
            arena_reserved_bytes_peak = arena_reserved;
        if (at == n)
            mi_store_release(&arena_count, n + 1); // with the acquires of arena_count
    }
    mi_unlock(&arena_lock);
    return has_room;
}

uintptr_t mi_arena_hint(void) {
    return mi_hidden_address(mi_load_relaxed(&arena_first), ARENA_REACH);
}

// The kernel uses small pages in the last quarter of an arena, or in all of it. Returns the first
// slice of that.
static size_t arena_stay_small(uint8_t *base, size_t bytes, bool may_use_huge_pages) {
    const size_t large = (may_use_huge_pages ? mi_align_up(bytes - bytes / 4, 2 * MI_MiB) : 0);
    if (large < bytes)
        mi_os_allow_huge_pages(base + large, bytes - large, false);
    return large >> MI_SLICE_SHIFT;
}

// memory: what it shall be like; its start is chosen here.
static mi_arena_t *arena_make(mi_memory_t memory, bool may_use_huge_pages) {
    uint8_t *const base =
        (uint8_t *)mi_os_reserve_at(mi_arena_hint(), memory.bytes, MI_SLICE_BYTES);
    if (base == NULL)
        return NULL;
    const size_t small_from = arena_stay_small(base, memory.bytes, may_use_huge_pages);
    memory.start = base;
    memory.is_zero = true;
    if (!mi_os_needs_commit())
        memory.is_committed = true;
    else if (memory.is_committed) // at once, as somebody wishes
        memory.is_committed = mi_arena_memory_commit(&memory, base, memory.bytes, &memory.is_zero);
    // An exclusive one may be unloaded with all that is in it, the head too.
    const bool is_apart = (MI_SECURE && !memory.is_exclusive);
    const size_t head_bytes = mi_arena_head_slices(memory.bytes >> MI_SLICE_SHIFT)
                              << MI_SLICE_SHIFT;
    mi_arena_t *const apart = (mi_arena_t *)(is_apart ? mi_hidden_reserve(head_bytes) : NULL);
    mi_arena_t *const a = (is_apart && apart == NULL ? NULL : mi_arena_lay_out(apart, &memory));
    if (a != NULL)
        a->small_from = (uint32_t)small_from;
    if (a != NULL && arena_publish(a))
        return a;
    if (apart != NULL)
        mi_hidden_release(apart, head_bytes);
    mi_os_release(base, memory.bytes);
    return NULL;
}

// Reserves more, enough for a span of this many slices. Tries smaller ones when the system refuses.
static bool arena_grow(size_t slices, size_t align_slices) {
    const size_t n = mi_load_relaxed(&arena_count);
    size_t bytes =
        (mi_config(arena_bytes) != 0 ? mi_align_up(mi_config(arena_bytes), MI_SLICE_BYTES)
                                     : MI_ARENA_FIRST_BYTES);
    for (size_t i = 0; i < n && bytes < MI_ARENA_USUAL_BYTES; i++)
        bytes *= 2;
    for (size_t i = 24; i < n && sizeof(void *) == 8 && bytes < 64 * MI_GiB; i += 16)
        bytes *= 2;
    const size_t span = (slices + align_slices) << MI_SLICE_SHIFT;
    const size_t least =
        span + ((mi_arena_head_most(span >> MI_SLICE_SHIFT) + 4) << MI_SLICE_SHIFT);
    const size_t limit = mi_config(reserve_limit);
    for (;; bytes /= 2) {
        if (bytes < least)
            bytes = mi_align_up(least, MI_SLICE_BYTES);
        const bool is_allowed =
            !mi_config(never_use_os) && (limit == 0 || arena_reserved + bytes <= limit);
        const bool is_thp = mi_config(is_thp_allowed) || arena_reserved >= MI_ARENA_THP_BYTES;
        const mi_memory_t memory = {.bytes = mi_align_up(bytes, MI_SLICE_BYTES),
                                    .is_committed = mi_config(eager_commit),
                                    .numa_node = -1};
        if (is_allowed && arena_make(memory, is_thp) != NULL)
            return true;
        if (bytes / 2 < least)
            return false;
    }
}

// ---- Spans ------------------------------------------------------------

// Slices leave the set of those that wait for their purge.
static void arena_unlist(mi_arena_t *a, size_t first, size_t count) {
    arena_waits.slices -=
        mi_bitmap_count(a->young, first, count) + mi_bitmap_count(a->old, first, count);
    mi_bitmap_set(a->young, first, count, false);
    mi_bitmap_set(a->old, first, count, false);
}

// What slices are like that were taken.
typedef struct arena_taken_s {
    bool is_zero;
    bool is_ready;   // need no commit
    bool has_guards; // but for the last one
    bool is_guarded; // the last one
    bool is_excess;  // what waits for its purge should go now
} arena_taken_t;

// Takes free slices. Under the lock.
static arena_taken_t arena_take(mi_arena_t *a, size_t first, size_t count) {
    const size_t last = first + count;
    size_t dirty = 0;
    arena_taken_t taken = {.is_zero = true, .is_ready = true};
    if (MI_SECURE) {
        taken.is_zero = (mi_bitmap_next(a->exposed, last, first, true) == last);
        taken.has_guards = mi_bitmap_next(a->guarded, last - 1, first, true) < last - 1;
        taken.is_guarded = mi_bitmap_get(a->guarded, last - 1);
    }
    for (size_t i = first; i < last; i = (i / 64 + 1) * 64) {
        const uint64_t mask = mi_bitmap_mask(i, last);
        const size_t w = i / 64;
        dirty += mi_bits_count(a->dirty[w] & mask);
        arena_waits.slices -= mi_bits_count((a->young[w] | a->old[w]) & mask);
        taken.is_ready &= ((a->committed[w] & mask) == mask);
        a->free[w] &= ~mask;
        a->dirty[w] |= mask;
        a->young[w] &= ~mask;
        a->old[w] &= ~mask;
    }
    taken.is_zero &= (dirty == 0);
    mi_waits_note_demand(&arena_waits, count - dirty);
    a->free_slices -= count;
    arena_used_slices += count;
    if (arena_used_slices > arena_used_peak) {
        arena_peak_growth += arena_used_slices - arena_used_peak;
        arena_used_peak = arena_used_slices;
    }
    // A block takes untouched memory while more is touched than ever was in use: what waits is no
    // use. Paid for by growth, or changing sizes at a constant peak would purge again and again.
    taken.is_excess = (count > dirty + MI_WIDE_MOST &&
                       arena_used_slices + arena_waits.slices >= arena_used_peak + MI_EXCESS &&
                       arena_waits.slices <= arena_peak_growth);
    if (taken.is_excess)
        arena_peak_growth -= arena_waits.slices;
    return taken;
}

// Commits what was taken; gives it back when the system refuses.
static bool arena_commit(mi_arena_t *a, size_t first, size_t count) {
    bool is_zero;
    const bool is_good = mi_arena_memory_commit(&a->memory, a->base + (first << MI_SLICE_SHIFT),
                                                count << MI_SLICE_SHIFT, &is_zero);
    mi_lock(&arena_lock);
    if (is_good) {
        mi_bitmap_set(a->committed, first, count, true);
    } else {
        mi_arena_set_free(a, first, count);
        arena_used_slices -= count;
    }
    mi_unlock(&arena_lock);
    return is_good;
}

// ---- Guards: the last OS page of a span that is in use (secure build) ----

static uint8_t *arena_guard_at(const mi_arena_t *a, size_t slice) {
    return a->base + ((slice + 1) << MI_SLICE_SHIFT) - MI_GUARD_BYTES;
}

// The first slice in [first, last) with a guard, which is ours from now on; last = none.
static size_t arena_guard_take(mi_arena_t *a, size_t first, size_t last) {
    mi_lock(&arena_lock);
    const size_t at = mi_bitmap_next(a->guarded, last, first, true);
    if (at < last)
        mi_bitmap_set(a->guarded, at, 1, false);
    mi_unlock(&arena_lock);
    return at;
}

// A span in use gets its guard, and loses those that earlier spans have left inside. A span that is
// used again as it was costs nothing. Guards stay where they are when it is freed.
static void arena_guard_span(mi_arena_t *a, size_t first, size_t count, arena_taken_t taken) {
    const size_t last = first + count - 1;
    for (size_t at = first; taken.has_guards && (at = arena_guard_take(a, at, last)) < last; at++)
        (void)mi_os_unguard(arena_guard_at(a, at), MI_GUARD_BYTES);
    if (taken.is_guarded && taken.is_ready) // else its commit may have taken it off
        return;
    const bool is_done = mi_os_guard(arena_guard_at(a, last), MI_GUARD_BYTES) == 0;
    mi_lock(&arena_lock);
    mi_bitmap_set(a->guarded, last, 1, is_done);
    mi_unlock(&arena_lock);
}

void mi_arena_set_guard(mi_arena_t *a, uint8_t *start, size_t slices, bool is_on) {
    const size_t last = ((size_t)(start - a->base) >> MI_SLICE_SHIFT) + slices - 1;
    if (!mi_arena_has_guards(a))
        return;
    if (is_on)
        arena_guard_span(a, last, 1, (arena_taken_t){.is_ready = true});
    else if (arena_guard_take(a, last, last + 1) == last)
        (void)mi_os_unguard(arena_guard_at(a, last), MI_GUARD_BYTES);
}

// align 0: where it has room to grow.
static bool arena_alloc_in(mi_arena_t *a, mi_span_t *span, size_t slices, size_t align) {
    const size_t phase = ((size_t)0 - ((uintptr_t)a->base >> MI_SLICE_SHIFT)) & (align - 1);
    arena_taken_t taken = {0};
    mi_lock(&arena_lock);
    const size_t first =
        (align == 0 ? mi_arena_find_roomy(a, slices) : mi_arena_find(a, slices, align, phase));
    if (first != MI_BITMAP_NONE)
        taken = arena_take(a, first, slices);
    mi_unlock(&arena_lock);
    if (taken.is_excess)
        mi_arena_purge(true);
    if (first == MI_BITMAP_NONE || (!taken.is_ready && !arena_commit(a, first, slices)))
        return false;
    if (mi_arena_has_guards(a))
        arena_guard_span(a, first, slices, taken);
    span->is_zero = taken.is_zero;
    span->start = a->base + (first << MI_SLICE_SHIFT);
    span->slices = slices;
    span->arena = a;
    span->page = &a->pages[first];
    return true;
}

size_t mi_arena_node_count(void) {
    const size_t wish = mi_config(numa_nodes);
    return wish != 0 ? wish : mi_os_numa_node_count();
}

// Arenas that the nodes allow: kind 0: of the node; 1: of none; 2: of others.
static bool arena_alloc_kind(mi_span_t *span, size_t slices, size_t align, int node, int kind) {
    const size_t n = mi_load_acquire(&arena_count); // with the release in arena_publish
    for (size_t i = 0; i < n; i++) {
        mi_arena_t *const a =
            mi_arena_at(i); // an exclusive one may go meanwhile: it is not touched
        if (a == NULL || mi_load_relaxed(&mi_arena_all[i].is_exclusive))
            continue;
        const int its = mi_load_relaxed(&mi_arena_all[i].numa_node);
        const int its_kind = (its < 0 ? 1 : its == node ? 0 : 2);
        if ((node < 0 || its_kind == kind) && arena_alloc_in(a, span, slices, align))
            return true;
    }
    return false;
}

// node: where the memory should be, negative = anywhere. Nobody asks in which node a thread runs
// unless some arena belongs to one.
static bool arena_alloc_any(mi_span_t *span, size_t slices, size_t align, int node) {
    const bool is_local = mi_config(is_numa_local) && mi_load_relaxed(&arena_has_nodes);
    if (node < 0 && is_local)
        node = (int)(mi_os_numa_node() % mi_arena_node_count());
    if (node < 0 || !mi_load_relaxed(&arena_has_nodes))
        return arena_alloc_kind(span, slices, align, -1, 0);
    return arena_alloc_kind(span, slices, align, node, 0) ||
           arena_alloc_kind(span, slices, align, node, 1) ||
           (!is_local && arena_alloc_kind(span, slices, align, node, 2));
}

bool mi_arena_alloc(mi_span_t *span, size_t slices, size_t align_slices, const mi_heap_t *heap) {
    mi_arena_t *const only = (heap == NULL ? NULL : heap->arena);
    const int node = (heap == NULL ? -1 : heap->node_plus_1 - 1);
    span->start = NULL;
    if (only != NULL)
        return arena_alloc_in(only, span, slices, align_slices);
    if (arena_alloc_any(span, slices, align_slices, node))
        return true;
    if (align_slices == 0)
        return false;
    mi_lock(&arena_grow_lock);
    // Another thread may have reserved while we waited. And others may take all of a new arena
    // before we have our part, if the system lets us wait: they need no lock of us for that.
    bool is_good = arena_alloc_any(span, slices, align_slices, node);
    for (int i = 0; !is_good && i < ARENA_TRIES && arena_grow(slices, align_slices); i++)
        is_good = arena_alloc_any(span, slices, align_slices, node);
    mi_unlock(&arena_grow_lock);
    return is_good;
}

void *mi_arena_alloc_meta(size_t slices) {
    mi_span_t span;
    if (!mi_arena_alloc(&span, slices, 1, NULL))
        return NULL;
    if (!span.is_zero)
        mi_memzero(span.start, slices << MI_SLICE_SHIFT);
    return span.start;
}

// The next round of this arena, unless one is planned.
static void arena_plan_purge(mi_arena_t *a) {
    if (a->purge_at_ms != 0 || a->memory.is_pinned || mi_config(purge_delay_ms) < 0)
        return;
    a->purge_at_ms = mi_os_clock_ms() + (uint64_t)mi_config(purge_delay_ms) * mi_config(purge_mult);
    const uint64_t earliest = mi_load_relaxed(&arena_purge_at_ms);
    if (earliest == 0 || a->purge_at_ms < earliest)
        mi_store_relaxed(&arena_purge_at_ms, a->purge_at_ms);
}

void mi_arena_free(mi_arena_t *a, uint8_t *start, size_t slices) {
    const size_t first = (size_t)(start - a->base) >> MI_SLICE_SHIFT;
    mi_lock(&arena_lock);
    MI_ASSERT(mi_bitmap_is(a->free, first, slices, false));
    mi_arena_set_free(a, first, slices);
    arena_used_slices -= slices;
    if (!a->memory.is_pinned) {
        mi_bitmap_set(a->young, first, slices, true);
        arena_waits.slices += slices;
    }
    arena_plan_purge(a);
    const bool is_too_much = mi_config(purge_delay_ms) >= 0 && mi_waits_are_too_many(&arena_waits);
    mi_unlock(&arena_lock);
    if (is_too_much) {
        mi_fetch_add_relaxed(&arena_pressure, 1u);
        mi_arena_purge(true);
    }
}

// By who holds the lock: the slices behind a span, if so many are free. MI_BITMAP_NONE = they are
// not.
static size_t arena_behind(const mi_arena_t *a, const uint8_t *start, size_t slices, size_t more) {
    const size_t first = ((size_t)(start - a->base) >> MI_SLICE_SHIFT) + slices;
    const bool is_free = (first + more <= a->slices && mi_bitmap_is(a->free, first, more, true));
    return is_free ? first : MI_BITMAP_NONE;
}

bool mi_arena_may_extend(const mi_arena_t *a, const uint8_t *start, size_t slices, size_t more) {
    mi_lock(&arena_lock);
    const size_t first = arena_behind(a, start, slices, more);
    mi_unlock(&arena_lock);
    return first != MI_BITMAP_NONE && first >= a->small_from;
}

bool mi_arena_extend(mi_arena_t *a, uint8_t *start, size_t slices, size_t more, bool *is_zero) {
    arena_taken_t taken = {0};
    mi_lock(&arena_lock);
    const size_t first = arena_behind(a, start, slices, more);
    if (first != MI_BITMAP_NONE)
        taken = arena_take(a, first, more);
    mi_unlock(&arena_lock);
    if (taken.is_excess)
        mi_arena_purge(true);
    if (first == MI_BITMAP_NONE || (!taken.is_ready && !arena_commit(a, first, more)))
        return false;
    taken.has_guards = true; // the one of the span as it was
    if (mi_arena_has_guards(a))
        arena_guard_span(a, first - slices, slices + more, taken);
    *is_zero = taken.is_zero;
    return true;
}

// ---- Purging ------------------------------------------------------------

// *is_zero: it reads as zero when it is used again.
static bool arena_purge_memory(const mi_arena_t *a, size_t first, size_t count, bool *is_committed,
                               bool *is_zero) {
    uint8_t *const start = a->base + (first << MI_SLICE_SHIFT);
    const size_t bytes = count << MI_SLICE_SHIFT;
    *is_committed = true;
    *is_zero = false;
    if (a->memory.commit != NULL) { // what it brings later may hold anything
        *is_committed = !a->memory.commit(false, start, bytes, NULL, a->memory.commit_arg);
        return !*is_committed;
    }
    if (mi_config(purge_keeps_memory))
        return mi_os_reset(start, bytes) == 0;
    *is_zero = true;
    return mi_os_purge(start, bytes, is_committed) == 0;
}

// Purges slices that are in no set, and adds them to the free ones. Called with the lock, returns
// with it.
static void arena_purge_taken(mi_arena_t *a, size_t first, size_t count) {
    bool is_committed = true;
    a->purging++;
    mi_unlock(&arena_lock);
    bool is_zero = true;
    const bool is_good = arena_purge_memory(a, first, count, &is_committed, &is_zero);
    mi_arena_purge_marks(a, first, count);
    mi_lock(&arena_lock);
    a->purging--;
    if (is_good) {
        if (is_zero)
            mi_bitmap_set(a->dirty, first, count, false);
        if (MI_SECURE && is_committed)
            mi_bitmap_set(a->exposed, first, count, true);
        if (!is_committed) {
            mi_bitmap_set(a->committed, first, count, false);
            if (MI_SECURE) // the guards went with the memory
                mi_bitmap_set(a->guarded, first, count, false);
        }
        arena_purged_slices += count;
        arena_purge_calls++;
    }
    mi_arena_set_free(a, first, count);
}

// Purges the run of free slices that begins at first. They are taken out of the free set meanwhile.
// Called with the lock, returns with it.
static void arena_purge_run(mi_arena_t *a, size_t first, size_t count) {
    mi_bitmap_set(a->free, first, count, false);
    arena_unlist(a, first, count);
    a->free_slices -= count;
    arena_purge_taken(a, first, count);
}

void mi_arena_free_purged(mi_arena_t *a, uint8_t *start, size_t slices) {
    mi_lock(&arena_lock);
    arena_used_slices -= slices;
    arena_purge_taken(a, (size_t)(start - a->base) >> MI_SLICE_SHIFT, slices);
    mi_unlock(&arena_lock);
}

// Under the lock. Purges the old ones (all when forced), then the young ones are the old ones.
static void arena_purge_round(mi_arena_t *a, bool is_forced) {
    const size_t words = mi_bitmap_words(a->slices);
    if (is_forced)
        for (size_t i = 0; i < words; i++) {
            a->old[i] |= a->young[i];
            a->young[i] = 0;
        }
    for (size_t at = a->head_slices; at < a->slices;) {
        const size_t first = mi_bitmap_next(a->old, a->slices, at, true);
        if (first >= a->slices)
            break;
        const size_t last = mi_bitmap_next(a->old, a->slices, first, false);
        if (is_forced || (last - first) << MI_SLICE_SHIFT >= mi_config(purge_least))
            arena_purge_run(a, first, last - first);
        at = last;
    }
    bool has_more = false;
    for (size_t i = 0; i < words; i++) {
        a->old[i] |= a->young[i];
        a->young[i] = 0;
        has_more |= (a->old[i] != 0);
    }
    a->purge_at_ms = 0;
    if (has_more)
        arena_plan_purge(a);
}

void mi_arena_purge(bool is_forced) {
    const uint64_t due = mi_load_relaxed(&arena_purge_at_ms);
    if (due == 0)
        return;
    const uint64_t now = mi_os_clock_ms();
    if (!is_forced && now < due)
        return;
    mi_lock(&arena_lock);
    mi_store_relaxed(&arena_purge_at_ms, (uint64_t)0);
    const size_t n = mi_load_acquire(&arena_count); // with the release in arena_publish
    for (size_t i = 0; i < n; i++) {
        mi_arena_t *const a = mi_arena_at(i);
        if (a == NULL)
            continue;
        if (a->purge_at_ms != 0 && (is_forced || now >= a->purge_at_ms))
            arena_purge_round(a, is_forced);
        const uint64_t earliest = mi_load_relaxed(&arena_purge_at_ms);
        if (a->purge_at_ms != 0 && (earliest == 0 || a->purge_at_ms < earliest))
            mi_store_relaxed(&arena_purge_at_ms, a->purge_at_ms);
    }
    mi_unlock(&arena_lock);
}

// ---- Everything else ------------------------------------------------------------

// The next page at or after a slice that is taken, and its slice; NULL = none. Under the lock the
// arena cannot be unloaded.
static mi_page_t *arena_next_page_locked(size_t index, const mi_theap_t *of, size_t *slice) {
    mi_arena_t *const a = mi_arena_at(index);
    for (size_t s = (*slice == 0 && a != NULL ? a->head_slices : *slice);
         a != NULL && s < a->slices; s++) {
        s = mi_bitmap_next(a->free, a->slices, s, false);
        if (s >= a->slices)
            break;
        const mi_theap_t *const theap = mi_load_acquire(&a->pages[s].theap); // with mi_page_new
        if (theap != NULL && (of == NULL || theap == of)) {
            *slice = s + 1;
            return &a->pages[s];
        }
    }
    return NULL;
}

static mi_page_t *arena_next_page(size_t index, const mi_theap_t *of, size_t *slice) {
    mi_lock(&arena_lock);
    mi_page_t *const found = arena_next_page_locked(index, of, slice);
    mi_unlock(&arena_lock);
    return found;
}

// Under the lock.
static void arena_visit_locked(const mi_theap_t *of, mi_page_visit_fn visit, void *arg) {
    const size_t n = mi_load_acquire(&arena_count); // with the release in arena_publish
    for (size_t i = 0; i < n; i++) {
        size_t slice = 0;
        for (mi_page_t *page; (page = arena_next_page_locked(i, of, &slice)) != NULL;)
            (void)visit(page, arg);
    }
}

bool mi_arena_try_visit_all(mi_page_visit_fn visit, void *arg) {
    if (!mi_lock_try(&arena_lock))
        return false;
    arena_visit_locked(NULL, visit, arg);
    mi_unlock(&arena_lock);
    return true;
}

void mi_arena_visit_held(const mi_theap_t *of, mi_page_visit_fn visit, void *arg) {
    mi_lock(&arena_lock);
    arena_visit_locked(of, visit, arg);
    mi_unlock(&arena_lock);
}

bool mi_arena_visit_pages(const mi_theap_t *of, mi_page_visit_fn visit, void *arg) {
    const size_t n = mi_load_acquire(&arena_count); // with the release in arena_publish
    for (size_t i = 0; i < n; i++) {
        size_t slice = 0;
        for (mi_page_t *page; (page = arena_next_page(i, of, &slice)) != NULL;)
            if (!visit(page, arg))
                return false;
    }
    return true;
}

bool mi_core_arena_reserve(const mi_memory_t *wish, bool allow_large, void **arena) {
    mi_memory_t memory = *wish;
    *arena = NULL;
    if (memory.bytes > MI_REQUEST_MAX)
        return false;
    const size_t head = mi_arena_head_most(memory.bytes >> MI_SLICE_SHIFT) << MI_SLICE_SHIFT;
    memory.bytes = mi_align_up(memory.bytes + head, MI_SLICE_BYTES);
    *arena = arena_make(memory, allow_large);
    return *arena != NULL;
}

bool mi_core_arena_manage(const mi_memory_t *given, void **arena) {
    mi_memory_t memory = *given;
    uint8_t *const base = (uint8_t *)mi_align_up((uintptr_t)given->start, MI_SLICE_BYTES);
    const size_t lost = (size_t)(base - (uint8_t *)given->start);
    mi_arena_t *a = NULL;
    memory.start = base;
    // Only the caller may take back what only the caller can bring: of anything else a purge would
    // make a file mapping read as its file again.
    memory.is_pinned |= (memory.commit == NULL);
    if (given->bytes > lost) {
        memory.bytes = mi_align_down(given->bytes - lost, MI_SLICE_BYTES);
        a = mi_arena_lay_out(NULL, &memory);
    }
    *arena = (a != NULL && arena_publish(a) ? a : NULL);
    return *arena != NULL;
}

void mi_arena_stats(mi_core_stats_t *stats) {
    mi_lock(&arena_lock);
    stats->reserved_bytes = arena_reserved;
    stats->reserved_peak = arena_reserved_bytes_peak;
    stats->committed_bytes = (arena_used_slices + arena_waits.slices) << MI_SLICE_SHIFT;
    stats->committed_peak = arena_used_peak << MI_SLICE_SHIFT;
    stats->page_bytes = arena_used_slices << MI_SLICE_SHIFT;
    stats->page_bytes_peak = arena_used_peak << MI_SLICE_SHIFT;
    stats->purged_bytes = arena_purged_slices << MI_SLICE_SHIFT;
    stats->reset_count = arena_purge_calls;
    stats->arena_count = mi_load_relaxed(&arena_count);
    mi_unlock(&arena_lock);
}

// The slice lies in no page now. A page that was there last, or began a few slices before, has left
// its struct as it was but for the state; nobody changes it while its slices are free.
static bool arena_had_block(const mi_arena_t *a, size_t slice, const void *p) {
    for (size_t s = slice; s >= a->head_slices && slice - s < MI_WIDE_MOST; s--) {
        const mi_page_t *const page = &a->pages[s];
        if (!mi_bitmap_get(a->free, s))
            return false;
        if (page->start == a->base + (s << MI_SLICE_SHIFT) && page->state == MI_PAGE_FREE)
            return page->slices > slice - s &&
                   (mi_page_has_interior(page) || mi_page_is_block_start_far(page, p));
    }
    return false;
}

bool mi_arena_had_block(const void *p) {
    bool had = false;
    mi_lock(&arena_lock);
    for (size_t i = 0; !had && i < MI_ARENA_MAX_COUNT; i++) {
        const mi_arena_t *const a = mi_arena_at(i);
        if (a != NULL && mi_core_arena_contains(a, p))
            had = arena_had_block(a, (size_t)((const uint8_t *)p - a->base) >> MI_SLICE_SHIFT, p);
    }
    mi_unlock(&arena_lock);
    return had;
}

// ---- Unloading ------------------------------------------------------------

static arena_slot_t *arena_slot_of(const mi_arena_t *a) {
    const size_t n = mi_load_acquire(&arena_count); // with the release in arena_publish
    for (size_t i = 0; i < n; i++)
        if (a != NULL && mi_arena_at(i) == a)
            return &mi_arena_all[i];
    return NULL;
}

bool mi_arena_is_exclusive(const mi_arena_t *a) {
    const arena_slot_t *const slot = arena_slot_of(a);
    return slot != NULL && mi_load_relaxed(&slot->is_exclusive);
}

bool mi_arena_stays_apart(const mi_arena_t *a) {
    return a == &arena_gone || mi_arena_is_exclusive(a);
}

mi_arena_t *mi_arena_gone(void) {
    return &arena_gone;
}

mi_heap_t *mi_arena_home(mi_arena_t *a, mi_heap_t *set) {
    arena_slot_t *const slot = arena_slot_of(a);
    if (slot == NULL)
        return NULL;
    mi_lock(&arena_lock);
    mi_heap_t *const home = slot->home;
    slot->home = set;
    mi_unlock(&arena_lock);
    return home;
}

// The guard between head and slices: it must be readable while the arena is saved.
static void arena_guard(mi_arena_t *a, bool is_on) {
    uint8_t *const guard = a->base + ((a->head_slices - 1) << MI_SLICE_SHIFT);
    if (MI_SECURE)
        (void)(is_on ? mi_os_protect(guard, MI_SLICE_BYTES)
                     : mi_os_unprotect(guard, MI_SLICE_BYTES));
}

size_t mi_arena_withdraw(mi_arena_t *a) {
    arena_slot_t *const slot = arena_slot_of(a);
    mi_lock(&arena_lock);
    while (a->purging != 0) {
        mi_unlock(&arena_lock);
        mi_os_yield();
        mi_lock(&arena_lock);
    }
    mi_store_release(&slot->arena, NULL); // with mi_arena_at
    slot->home = NULL;
    arena_unlist(a, 0, a->slices);
    arena_used_slices -= a->slices - a->head_slices - a->free_slices;
    arena_reserved -= a->slices << MI_SLICE_SHIFT;
    mi_unlock(&arena_lock);
    size_t last = a->slices;
    while (last > a->head_slices && !mi_bitmap_get(a->dirty, last - 1))
        last--;
    arena_guard(a, false);
    if (MI_SECURE) // it must be readable while it is saved
        for (size_t at = 0; (at = arena_guard_take(a, at, a->slices)) < a->slices; at++)
            (void)mi_os_unguard(arena_guard_at(a, at), MI_GUARD_BYTES);
    a->purge_at_ms = 0;
    a->stamp = mi_arena_stamp(a->base);
    return last << MI_SLICE_SHIFT;
}

mi_arena_t *mi_arena_readmit(void *start, size_t bytes, bool is_zero) {
    mi_arena_t *const a = (mi_arena_t *)start;
    if (start == NULL || ((uintptr_t)start & (MI_SLICE_BYTES - 1)) != 0 || bytes < MI_SLICE_BYTES ||
        a->stamp != mi_arena_stamp(start) || a->base != start || !mi_arena_head_fits(a, bytes))
        return NULL;
    a->stamp = 0;
    a->memory = (mi_memory_t){.start = start,
                              .bytes = bytes,
                              .is_committed = true,
                              .is_exclusive = true,
                              .is_pinned = true,
                              .numa_node = -1};
    if (!is_zero)
        mi_bitmap_set(a->dirty, 0, a->slices, true);
    mi_bitmap_set(a->committed, 0, a->slices, true);
    arena_guard(a, true);
    if (!arena_publish(a))
        return NULL;
    mi_lock(&arena_lock);
    arena_used_slices += a->slices - a->head_slices - a->free_slices;
    mi_unlock(&arena_lock);
    return a;
}

bool mi_arena_visit_parked(mi_arena_t *a, mi_page_visit_fn visit, void *arg) {
    for (size_t s = a->head_slices; s < a->slices;) {
        s = mi_bitmap_next(a->free, a->slices, s, false);
        if (s >= a->slices)
            return true;
        mi_page_t *const page = &a->pages[s];
        if (page->start != a->base + (s << MI_SLICE_SHIFT) || page->arena != a ||
            page->slices == 0 || page->slices > a->slices - s || !visit(page, arg))
            return false;
        s += page->slices;
    }
    return true;
}

void mi_arena_fork_prepare(void) {
    mi_lock(&arena_grow_lock);
    mi_lock(&arena_lock);
}

void mi_arena_fork_done(void) {
    mi_unlock(&arena_lock);
    mi_unlock(&arena_grow_lock);
}
