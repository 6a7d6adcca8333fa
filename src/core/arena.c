// Arenas over OS reservations: finding, committing, purging slices. All state is under arena_lock,
// except the table of arenas (append only). Knows pages only as structs that lie in its heads.
#include "core/arena.h"

#include "core/bitmap.h"
#include "core/harden.h"
#include "core/limits.h"
#include "core/lock.h"
#include "os/os.h"

#define ARENA_HINTS 9u // spans of fewer slices know exactly where to begin their search

struct mi_arena_s {
    uint8_t *base;              // slice 0
    size_t slices;              // all, the head included
    size_t head_slices;         // taken by this struct and what follows it
    size_t free_slices;         // under the lock, like everything below
    uint64_t *free;             // bit: nobody uses the slice
    uint64_t *committed;        // bit: usable without a commit
    uint64_t *dirty;            // bit: may not read as zero
    uint64_t *young;            // bit: free, dirty, freed since the last purge round
    uint64_t *old;              // bit: free, dirty, freed before it
    mi_page_t *pages;           // one for each slice
    uint64_t *guarded;          // bit: the last OS page of the slice is inaccessible (secure build)
    uint8_t *marks;             // of all blocks (secure build, harden.h): dense, then wide
    uint64_t purge_at_ms;       // next purge round, 0 = nothing to purge
    bool is_exclusive;          // for heaps made in this arena only
    bool is_pinned;             // the caller's memory: never purged
    uint32_t purging;           // rounds that have dropped the lock meanwhile
    uint64_t stamp;             // of an unloaded arena: fits this address and this build
    uint32_t hint[ARENA_HINTS]; // by length: no free run of that length begins below
};

mi_core_config_t mi_core_config = {250, 0, false, 0, false};

static mi_lock_t arena_lock;
static mi_lock_t arena_grow_lock; // one thread reserves at a time

// Entries below arena_count; one becomes NULL when its arena is unloaded, and may be used again.
// What others need to know of an exclusive arena is here, since its memory may go.
typedef struct arena_slot_s {
    _Atomic(mi_arena_t *) arena; // changes under the lock
    _Atomic(bool) is_exclusive;  // set before arena
    mi_heap_t *home;             // of a reloaded arena: has its blocks, nobody asked for it yet
} arena_slot_t;
static arena_slot_t arena_all[MI_ARENA_MAX_COUNT];
static mi_arena_t arena_gone; // has no slices: where heaps of an unloaded arena look
static _Atomic(size_t) arena_count;
static _Atomic(uintptr_t) arena_first; // where the first one lies
static size_t arena_reserved;          // bytes, under the lock, as all below
static size_t arena_reserved_bytes_peak;
static size_t arena_used_slices;
static size_t arena_used_peak;
static size_t arena_dirty_free; // slices that wait for their purge
static size_t arena_dirty_limit = MI_DIRTY_LIMIT / MI_SLICE_BYTES;
static uint64_t arena_forced_at_ms; // last purge because of the limit
static uint64_t arena_purged_slices;
static uint64_t arena_purge_calls;
static _Atomic(uint32_t) arena_pressure;
static _Atomic(uint64_t) arena_purge_at_ms; // earliest of all arenas, 0 = nothing to purge

uint32_t mi_arena_pressure(void) {
    return mi_load_relaxed(&arena_pressure);
}

// ---- Making arenas
// -----------------------------------------------------------------------------------------

// Marks of a page whose blocks have at least MI_MARKS_DENSE bytes, of others, and of a slice.
#define ARENA_DENSE_MARKS (MI_SLICE_BYTES / MI_MARKS_DENSE)
#define ARENA_WIDE_MARKS  (MI_SLICE_BYTES / MI_GRANULE_BYTES)
#define ARENA_MARKS       (MI_SECURE ? ARENA_DENSE_MARKS + ARENA_WIDE_MARKS : 0)
#define ARENA_MAPS        (MI_SECURE ? (size_t)6 : (size_t)5)

static size_t arena_head_bytes(size_t slices) {
    const size_t maps = ARENA_MAPS * mi_bitmap_words(slices) * sizeof(uint64_t);
    return mi_align_up(sizeof(mi_arena_t), MI_CACHE_LINE_BYTES) +
           mi_align_up(maps, MI_CACHE_LINE_BYTES) + slices * (sizeof(mi_page_t) + ARENA_MARKS) +
           (MI_SECURE ? 2 * ARENA_WIDE_MARKS : 0); // which are at multiples of their number
}

static size_t arena_head_slices(size_t slices) {
    return (arena_head_bytes(slices) + MI_SLICE_BYTES - 1) >> MI_SLICE_SHIFT;
}

// More than all that a head for so many slices takes, in slices.
static size_t arena_head_most(size_t slices) {
    return slices / (MI_SECURE ? 12 : 256) + 4;
}

// Notes in a where the parts of a head lie.
static void arena_head_parts(mi_arena_t *a, uint8_t *head, size_t slices) {
    const size_t words = mi_bitmap_words(slices);
    uint8_t *const maps = head + mi_align_up(sizeof(mi_arena_t), MI_CACHE_LINE_BYTES);
    uint8_t *const pages =
        maps + mi_align_up(ARENA_MAPS * words * sizeof(uint64_t), MI_CACHE_LINE_BYTES);
    a->free = (uint64_t *)maps;
    a->committed = a->free + words;
    a->dirty = a->free + 2 * words;
    a->young = a->free + 3 * words;
    a->old = a->free + 4 * words;
    a->guarded = (MI_SECURE ? a->free + 5 * words : NULL);
    a->pages = (mi_page_t *)pages;
    a->marks = (uint8_t *)mi_align_up((uintptr_t)(pages + slices * sizeof(mi_page_t)),
                                      MI_SECURE ? ARENA_WIDE_MARKS : 1);
}

// Lays a head that lies in the arena itself into memory that is zero then; *head_slices: what it
// takes. NULL = no memory.
static mi_arena_t *arena_head_inside(uint8_t *base, size_t slices, bool is_committed, bool is_zero,
                                     size_t *head_slices) {
    const size_t head = arena_head_slices(slices);
    const size_t guard = (MI_SECURE ? 1 : 0);
    *head_slices = head + guard;
    if (head + guard + 1 >= slices)
        return NULL;
    bool head_zero = is_zero;
    if (!is_committed && mi_os_commit(base, head << MI_SLICE_SHIFT, &head_zero) != 0)
        return NULL;
    if (!is_zero && !head_zero)
        mi_memzero(base, head << MI_SLICE_SHIFT);
    if (MI_SECURE)
        (void)mi_os_protect(base + (head << MI_SLICE_SHIFT), guard << MI_SLICE_SHIFT);
    return (mi_arena_t *)base;
}

// apart: a head that lies elsewhere, zero, or NULL.
static mi_arena_t *arena_lay_out(mi_arena_t *apart, uint8_t *base, size_t slices, bool is_committed,
                                 bool is_zero) {
    size_t head_slices = 0;
    mi_arena_t *const a =
        (apart != NULL ? apart
                       : arena_head_inside(base, slices, is_committed, is_zero, &head_slices));
    if (a == NULL)
        return NULL;
    arena_head_parts(a, (uint8_t *)a, slices);
    a->base = base;
    a->slices = slices;
    a->head_slices = head_slices;
    a->free_slices = slices - a->head_slices;
    mi_bitmap_set(a->free, a->head_slices, a->free_slices, true);
    if (is_committed)
        mi_bitmap_set(a->committed, 0, slices, true);
    if (!is_zero)
        mi_bitmap_set(a->dirty, 0, slices, true);
    return a;
}

static uint8_t *arena_wide_marks(const mi_arena_t *a, size_t slice) {
    const size_t dense = mi_align_up(a->slices * ARENA_DENSE_MARKS, ARENA_WIDE_MARKS);
    return a->marks + dense + slice * ARENA_WIDE_MARKS;
}

// Of slices that no page has, marks are zero: their memory goes too where it needs no commit to
// come back.
static void arena_purge_marks(mi_arena_t *a, size_t first, size_t count) {
    bool is_committed;
    if (MI_SECURE && !mi_os_needs_commit() && mi_os_page_bytes() <= ARENA_WIDE_MARKS)
        (void)mi_os_purge(arena_wide_marks(a, first), count * ARENA_WIDE_MARKS, &is_committed);
}

mi_mark_t *mi_arena_marks(const mi_arena_t *a, const mi_page_t *page, bool is_dense) {
    const size_t slice = (size_t)(page - a->pages);
    return (mi_mark_t *)(is_dense ? a->marks + slice * ARENA_DENSE_MARKS
                                  : arena_wide_marks(a, slice));
}

static mi_arena_t *arena_at(size_t i) {
    return mi_load_acquire(&arena_all[i].arena); // with arena_publish
}

// Makes the arena visible to mi_arena_alloc.
static bool arena_publish(mi_arena_t *a) {
    mi_lock(&arena_lock);
    const size_t n = mi_load_relaxed(&arena_count);
    size_t at = 0;
    while (at < n && mi_load_relaxed(&arena_all[at].arena) != NULL)
        at++;
    const bool has_room = (at < MI_ARENA_MAX_COUNT);
    if (has_room) {
        if (n == 0) {
            mi_page_map_init(a->base);
            mi_store_relaxed(&arena_first, (uintptr_t)a->base);
        }
        mi_store_relaxed(&arena_all[at].is_exclusive, a->is_exclusive);
        mi_store_release(&arena_all[at].arena, a); // with arena_at
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
    return mi_hidden_address(mi_load_relaxed(&arena_first));
}

static mi_arena_t *arena_make(size_t bytes, bool may_use_huge_pages, bool is_exclusive) {
    uint8_t *const base = (uint8_t *)mi_os_reserve_at(mi_arena_hint(), bytes, MI_SLICE_BYTES);
    if (base == NULL)
        return NULL;
    if (!may_use_huge_pages)
        mi_os_allow_huge_pages(base, bytes, false);
    // An exclusive one may be unloaded with all that is in it, the head too.
    const size_t slices = bytes >> MI_SLICE_SHIFT;
    const bool is_apart = (MI_SECURE && !is_exclusive);
    const size_t head_bytes = arena_head_slices(slices) << MI_SLICE_SHIFT;
    mi_arena_t *const apart = (mi_arena_t *)(is_apart ? mi_hidden_reserve(head_bytes) : NULL);
    mi_arena_t *const a = (is_apart && apart == NULL
                               ? NULL
                               : arena_lay_out(apart, base, slices, !mi_os_needs_commit(), true));
    if (a != NULL) {
        a->is_exclusive = is_exclusive;
        if (arena_publish(a))
            return a;
    }
    if (apart != NULL)
        mi_hidden_release(apart, head_bytes);
    mi_os_release(base, bytes);
    return NULL;
}

// Reserves more, enough for a span of this many slices. Tries smaller ones when the system refuses.
static bool arena_grow(size_t slices, size_t align_slices) {
    const size_t n = mi_load_relaxed(&arena_count);
    size_t bytes =
        (mi_core_config.arena_bytes != 0 ? mi_align_up(mi_core_config.arena_bytes, MI_SLICE_BYTES)
                                         : MI_ARENA_FIRST_BYTES);
    for (size_t i = 0; i < n && bytes < MI_ARENA_USUAL_BYTES; i++)
        bytes *= 2;
    for (size_t i = 24; i < n && sizeof(void *) == 8 && bytes < 64 * MI_GiB; i += 16)
        bytes *= 2;
    const size_t span = (slices + align_slices) << MI_SLICE_SHIFT;
    const size_t least = span + ((arena_head_most(span >> MI_SLICE_SHIFT) + 4) << MI_SLICE_SHIFT);
    const size_t limit = mi_core_config.reserve_limit;
    for (;; bytes /= 2) {
        if (bytes < least)
            bytes = mi_align_up(least, MI_SLICE_BYTES);
        const bool is_allowed =
            !mi_core_config.never_use_os && (limit == 0 || arena_reserved + bytes <= limit);
        const bool is_thp = mi_core_config.is_thp_allowed || arena_reserved >= MI_ARENA_THP_BYTES;
        if (is_allowed && arena_make(mi_align_up(bytes, MI_SLICE_BYTES), is_thp, false) != NULL)
            return true;
        if (bytes / 2 < least)
            return false;
    }
}

// ---- Spans
// -------------------------------------------------------------------------------------------------

// Slices leave the set of those that wait for their purge.
static void arena_unlist(mi_arena_t *a, size_t first, size_t count) {
    arena_dirty_free -=
        mi_bitmap_count(a->young, first, count) + mi_bitmap_count(a->old, first, count);
    mi_bitmap_set(a->young, first, count, false);
    mi_bitmap_set(a->old, first, count, false);
}

static void arena_note_demand(size_t clean_slices) {
    if (arena_forced_at_ms == 0 || clean_slices == 0)
        return;
    if (mi_os_clock_ms() - arena_forced_at_ms > MI_REGRET_MS) {
        arena_forced_at_ms = 0;
        arena_dirty_limit = MI_DIRTY_LIMIT / MI_SLICE_BYTES;
        return;
    }
    arena_dirty_limit += clean_slices;
    if (arena_dirty_limit > MI_DIRTY_LIMIT_TOP / MI_SLICE_BYTES)
        arena_dirty_limit = MI_DIRTY_LIMIT_TOP / MI_SLICE_BYTES;
}

// What slices are like that were taken.
typedef struct arena_taken_s {
    bool is_zero;
    bool is_ready;   // need no commit
    bool has_guards; // but for the last one
    bool is_guarded; // the last one
} arena_taken_t;

// Takes free slices. Under the lock.
static arena_taken_t arena_take(mi_arena_t *a, size_t first, size_t count) {
    const size_t last = first + count;
    size_t dirty = 0;
    arena_taken_t taken = {.is_ready = true};
    if (MI_SECURE) {
        taken.has_guards = mi_bitmap_next(a->guarded, last - 1, first, true) < last - 1;
        taken.is_guarded = mi_bitmap_get(a->guarded, last - 1);
    }
    for (size_t i = first; i < last; i = (i / 64 + 1) * 64) {
        const uint64_t mask = mi_bitmap_mask(i, last);
        const size_t w = i / 64;
        dirty += mi_bits_count(a->dirty[w] & mask);
        arena_dirty_free -= mi_bits_count((a->young[w] | a->old[w]) & mask);
        taken.is_ready &= ((a->committed[w] & mask) == mask);
        a->free[w] &= ~mask;
        a->dirty[w] |= mask;
        a->young[w] &= ~mask;
        a->old[w] &= ~mask;
    }
    taken.is_zero = (dirty == 0);
    arena_note_demand(count - dirty);
    a->free_slices -= count;
    arena_used_slices += count;
    if (arena_used_slices > arena_used_peak)
        arena_used_peak = arena_used_slices;
    return taken;
}

// A run of free slices, the lowest. Under the lock.
static size_t arena_find(mi_arena_t *a, size_t slices, size_t align, size_t phase) {
    if (a->free_slices < slices)
        return MI_BITMAP_NONE;
    // No run of this length begins below the hint of a shorter one.
    const size_t hint = a->hint[slices < ARENA_HINTS ? slices : ARENA_HINTS - 1];
    const size_t from = (hint > a->head_slices ? hint : a->head_slices);
    if (slices > 64 || align != 1)
        return mi_bitmap_find(a->free, a->slices, from, slices, align, phase);
    const size_t at = mi_bitmap_find_short(a->free, a->slices, from, slices);
    if (slices < ARENA_HINTS)
        a->hint[slices] = (uint32_t)(at == MI_BITMAP_NONE ? a->slices : at);
    return at;
}

// Slices became free: runs that contain them may begin as much lower as they are long. Under the
// lock.
static void arena_set_free(mi_arena_t *a, size_t first, size_t count) {
    mi_bitmap_set(a->free, first, count, true);
    a->free_slices += count;
    for (uint32_t n = 1; n < ARENA_HINTS; n++) {
        const uint32_t least = (uint32_t)(first >= n ? first - n + 1 : 0);
        a->hint[n] = (a->hint[n] < least ? a->hint[n] : least);
    }
}

// Commits what was taken; gives it back when the system refuses.
static bool arena_commit(mi_arena_t *a, size_t first, size_t count) {
    bool is_zero;
    const int rc =
        mi_os_commit(a->base + (first << MI_SLICE_SHIFT), count << MI_SLICE_SHIFT, &is_zero);
    mi_lock(&arena_lock);
    if (rc == 0) {
        mi_bitmap_set(a->committed, first, count, true);
    } else {
        arena_set_free(a, first, count);
        arena_used_slices -= count;
    }
    mi_unlock(&arena_lock);
    return rc == 0;
}

// ---- Guards: the last OS page of a span that is in use (secure build)
// ----------------------------------------

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
    if (a->is_pinned)
        return;
    if (is_on)
        arena_guard_span(a, last, 1, (arena_taken_t){.is_ready = true});
    else if (arena_guard_take(a, last, last + 1) == last)
        (void)mi_os_unguard(arena_guard_at(a, last), MI_GUARD_BYTES);
}

static bool arena_alloc_in(mi_arena_t *a, mi_span_t *span, size_t slices, size_t align) {
    const size_t phase = ((size_t)0 - ((uintptr_t)a->base >> MI_SLICE_SHIFT)) & (align - 1);
    arena_taken_t taken = {0};
    mi_lock(&arena_lock);
    const size_t first = arena_find(a, slices, align, phase);
    if (first != MI_BITMAP_NONE)
        taken = arena_take(a, first, slices);
    mi_unlock(&arena_lock);
    if (first == MI_BITMAP_NONE || (!taken.is_ready && !arena_commit(a, first, slices)))
        return false;
    if (MI_SECURE && !a->is_pinned)
        arena_guard_span(a, first, slices, taken);
    span->is_zero = taken.is_zero;
    span->start = a->base + (first << MI_SLICE_SHIFT);
    span->slices = slices;
    span->arena = a;
    span->page = &a->pages[first];
    return true;
}

static bool arena_alloc_any(mi_span_t *span, size_t slices, size_t align) {
    const size_t n = mi_load_acquire(&arena_count); // with the release in arena_publish
    for (size_t i = 0; i < n; i++) {
        mi_arena_t *const a = arena_at(i); // an exclusive one may go meanwhile: it is not touched
        if (a != NULL && !mi_load_relaxed(&arena_all[i].is_exclusive) &&
            arena_alloc_in(a, span, slices, align))
            return true;
    }
    return false;
}

bool mi_arena_alloc(mi_span_t *span, size_t slices, size_t align_slices, mi_arena_t *only) {
    span->start = NULL;
    if (only != NULL)
        return arena_alloc_in(only, span, slices, align_slices);
    if (arena_alloc_any(span, slices, align_slices))
        return true;
    mi_lock(&arena_grow_lock);
    // Another thread may have reserved while we waited.
    bool is_good = arena_alloc_any(span, slices, align_slices);
    if (!is_good && arena_grow(slices, align_slices))
        is_good = arena_alloc_any(span, slices, align_slices);
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
    if (a->purge_at_ms != 0 || a->is_pinned || mi_core_config.purge_delay_ms < 0)
        return;
    a->purge_at_ms = mi_os_clock_ms() + (uint64_t)mi_core_config.purge_delay_ms;
    const uint64_t earliest = mi_load_relaxed(&arena_purge_at_ms);
    if (earliest == 0 || a->purge_at_ms < earliest)
        mi_store_relaxed(&arena_purge_at_ms, a->purge_at_ms);
}

void mi_arena_free(mi_arena_t *a, uint8_t *start, size_t slices) {
    const size_t first = (size_t)(start - a->base) >> MI_SLICE_SHIFT;
    mi_lock(&arena_lock);
    MI_ASSERT(mi_bitmap_is(a->free, first, slices, false));
    arena_set_free(a, first, slices);
    arena_used_slices -= slices;
    if (!a->is_pinned) {
        mi_bitmap_set(a->young, first, slices, true);
        arena_dirty_free += slices;
    }
    arena_plan_purge(a);
    const bool is_too_much =
        (arena_dirty_free > arena_dirty_limit && mi_core_config.purge_delay_ms >= 0);
    if (is_too_much)
        arena_forced_at_ms = mi_os_clock_ms();
    mi_unlock(&arena_lock);
    if (is_too_much) {
        mi_fetch_add_relaxed(&arena_pressure, 1u);
        mi_arena_purge(true);
    }
}

bool mi_arena_extend(mi_arena_t *a, uint8_t *start, size_t slices, size_t more, bool *is_zero) {
    const size_t first = ((size_t)(start - a->base) >> MI_SLICE_SHIFT) + slices;
    arena_taken_t taken = {0};
    mi_lock(&arena_lock);
    const bool is_free = (first + more <= a->slices && mi_bitmap_is(a->free, first, more, true));
    if (is_free)
        taken = arena_take(a, first, more);
    mi_unlock(&arena_lock);
    if (!is_free || (!taken.is_ready && !arena_commit(a, first, more)))
        return false;
    taken.has_guards = true; // the one of the span as it was
    if (MI_SECURE && !a->is_pinned)
        arena_guard_span(a, first - slices, slices + more, taken);
    *is_zero = taken.is_zero;
    return true;
}

// ---- Purging
// -----------------------------------------------------------------------------------------------

// Purges the run of slices that begins at first. They are taken out of the free set meanwhile.
// Called with the lock, returns with it.
static void arena_purge_run(mi_arena_t *a, size_t first, size_t count) {
    bool is_committed = true;
    mi_bitmap_set(a->free, first, count, false);
    arena_unlist(a, first, count);
    a->free_slices -= count;
    a->purging++;
    mi_unlock(&arena_lock);
    const int rc =
        mi_os_purge(a->base + (first << MI_SLICE_SHIFT), count << MI_SLICE_SHIFT, &is_committed);
    arena_purge_marks(a, first, count);
    mi_lock(&arena_lock);
    a->purging--;
    if (rc == 0) {
        mi_bitmap_set(a->dirty, first, count, false);
        if (!is_committed) {
            mi_bitmap_set(a->committed, first, count, false);
            if (MI_SECURE) // the guards went with the memory
                mi_bitmap_set(a->guarded, first, count, false);
        }
        arena_purged_slices += count;
        arena_purge_calls++;
    }
    arena_set_free(a, first, count);
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
        mi_arena_t *const a = arena_at(i);
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

// ---- Everything else
// ---------------------------------------------------------------------------------------

// The next page at or after a slice that is taken, and its slice; NULL = none. Under the lock the
// arena cannot be unloaded.
static mi_page_t *arena_next_page_locked(size_t index, const mi_theap_t *of, size_t *slice) {
    mi_arena_t *const a = arena_at(index);
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

bool mi_arena_try_visit_all(mi_page_visit_fn visit, void *arg) {
    if (!mi_lock_try(&arena_lock))
        return false;
    const size_t n = mi_load_acquire(&arena_count); // with the release in arena_publish
    for (size_t i = 0; i < n; i++) {
        size_t slice = 0;
        for (mi_page_t *page; (page = arena_next_page_locked(i, NULL, &slice)) != NULL;)
            (void)visit(page, arg);
    }
    mi_unlock(&arena_lock);
    return true;
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

bool mi_core_arena_reserve(size_t bytes, bool is_committed, bool allow_large, bool is_exclusive,
                           void **arena) {
    if (bytes > MI_REQUEST_MAX)
        return false;
    const size_t head = arena_head_most(bytes >> MI_SLICE_SHIFT) << MI_SLICE_SHIFT;
    const size_t rounded = mi_align_up(bytes + head, MI_SLICE_BYTES);
    mi_arena_t *const a = arena_make(rounded, allow_large, is_exclusive);
    (void)is_committed; // the commit stays lazy: it costs less and means the same
    if (arena != NULL)
        *arena = a;
    return a != NULL;
}

bool mi_core_arena_manage(void *start, size_t bytes, bool is_committed, bool is_zero,
                          bool is_exclusive, void **arena) {
    uint8_t *const base = (uint8_t *)mi_align_up((uintptr_t)start, MI_SLICE_BYTES);
    const size_t lost = (size_t)(base - (uint8_t *)start);
    mi_arena_t *a = NULL;
    if (bytes > lost)
        a = arena_lay_out(NULL, base, (bytes - lost) >> MI_SLICE_SHIFT, is_committed, is_zero);
    if (a != NULL) {
        a->is_exclusive = is_exclusive;
        a->is_pinned = true; // purged, a file mapping would read as its file again
        if (!arena_publish(a))
            a = NULL;
    }
    if (arena != NULL)
        *arena = a;
    return a != NULL;
}

void *mi_core_arena_area(const void *arena, size_t *bytes) {
    const mi_arena_t *const a = (const mi_arena_t *)arena;
    *bytes = (a == NULL ? 0 : a->slices << MI_SLICE_SHIFT);
    return a == NULL ? NULL : a->base;
}

bool mi_core_arena_contains(const void *arena, const void *p) {
    const mi_arena_t *const a = (const mi_arena_t *)arena;
    return a != NULL && (const uint8_t *)p >= a->base &&
           (size_t)((const uint8_t *)p - a->base) < a->slices << MI_SLICE_SHIFT;
}

void mi_arena_stats(mi_core_stats_t *stats) {
    mi_lock(&arena_lock);
    stats->reserved_bytes = arena_reserved;
    stats->reserved_peak = arena_reserved_bytes_peak;
    stats->committed_bytes = (arena_used_slices + arena_dirty_free) << MI_SLICE_SHIFT;
    stats->committed_peak = arena_used_peak << MI_SLICE_SHIFT;
    stats->page_bytes = arena_used_slices << MI_SLICE_SHIFT;
    stats->page_bytes_peak = arena_used_peak << MI_SLICE_SHIFT;
    stats->purged_bytes = arena_purged_slices << MI_SLICE_SHIFT;
    stats->reset_count = arena_purge_calls;
    stats->arena_count = mi_load_relaxed(&arena_count);
    mi_unlock(&arena_lock);
}

// ---- Unloading
// ---------------------------------------------------------------------------------------------

// Of this layout, in this build, at this address.
static uint64_t arena_stamp(const void *base) {
    const uint64_t layout = sizeof(mi_page_t) * 1000003u + sizeof(mi_arena_t) * 1009u +
                            MI_SLICE_BYTES + MI_CLASS_COUNT * 17u + MI_DEBUG * 5u + MI_SECURE * 3u;
    return (layout * 0x9E3779B97F4A7C15ull) ^ (uint64_t)(uintptr_t)base;
}

static arena_slot_t *arena_slot_of(const mi_arena_t *a) {
    const size_t n = mi_load_acquire(&arena_count); // with the release in arena_publish
    for (size_t i = 0; i < n; i++)
        if (a != NULL && arena_at(i) == a)
            return &arena_all[i];
    return NULL;
}

bool mi_arena_is_exclusive(const mi_arena_t *a) {
    const arena_slot_t *const slot = arena_slot_of(a);
    return slot != NULL && mi_load_relaxed(&slot->is_exclusive);
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
    mi_store_release(&slot->arena, NULL); // with arena_at
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
    a->stamp = arena_stamp(a->base);
    return last << MI_SLICE_SHIFT;
}

// Is it a head that this build has laid out for an arena of that size?
static bool arena_head_fits(const mi_arena_t *a, size_t bytes) {
    const size_t slices = a->slices;
    if (slices == 0 || slices != bytes >> MI_SLICE_SHIFT || slices > UINT32_MAX)
        return false;
    mi_arena_t right = {.base = a->base};
    arena_head_parts(&right, (uint8_t *)(uintptr_t)a, slices);
    return a->head_slices == arena_head_slices(slices) + (MI_SECURE ? 1 : 0) &&
           a->free == right.free && a->committed == right.committed && a->dirty == right.dirty &&
           a->young == right.young && a->old == right.old && a->pages == right.pages &&
           a->guarded == right.guarded && a->marks == right.marks &&
           a->free_slices == mi_bitmap_count(a->free, a->head_slices, slices - a->head_slices);
}

mi_arena_t *mi_arena_readmit(void *start, size_t bytes, bool is_zero) {
    mi_arena_t *const a = (mi_arena_t *)start;
    if (start == NULL || ((uintptr_t)start & (MI_SLICE_BYTES - 1)) != 0 || bytes < MI_SLICE_BYTES ||
        a->stamp != arena_stamp(start) || a->base != start || !arena_head_fits(a, bytes))
        return NULL;
    a->stamp = 0;
    a->is_exclusive = true;
    a->is_pinned = true;
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
