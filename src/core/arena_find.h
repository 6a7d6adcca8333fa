// Which free slices of an arena a span takes, and what is remembered for the next search. Part of
// arena.c: all of it under its lock.
#ifndef MI_CORE_ARENA_FIND_H
#define MI_CORE_ARENA_FIND_H

#include "core/arena_head.h"
#include "core/bitmap.h"

#define MI_ARENA_ROOM 32 // free slices before a run: a place to grow in
#define MI_ARENA_LANE 16 // slices of a lane
#define MI_ARENA_WIDE 64 // slices beside which a huge page of the kernel is no loss

MI_INLINE bool mi_arena_has_guards(const mi_arena_t *a) {
    return MI_SECURE && mi_arena_is_own(a);
}

// A run of free slices that ends with a guard and has none inside, so that neither must be moved:
// the lowest of a few that was a span just so, else the lowest that was the end of one, unless so
// much is free before it that a block may want to grow there.
MI_INLINE size_t mi_arena_find_guarded(mi_arena_t *a, size_t slices, size_t from) {
    size_t end_of_one = MI_BITMAP_NONE, tries = 16;
    bool is_lowest = true; // no run was passed by yet
    uint32_t *const hint = (slices < MI_ARENA_HINTS ? &a->guarded_hint[slices] : NULL);
    from = (hint != NULL && *hint > from ? *hint : from);
    for (size_t at = from + slices - 1; tries > 0; at++) {
        at = mi_bitmap_next_both(a->free, a->guarded, a->slices, at);
        if (at >= a->slices)
            break;
        const size_t first = at + 1 - slices;
        tries--;
        if (!mi_bitmap_is(a->free, first, slices, true) ||
            !mi_bitmap_is(a->guarded, first, slices - 1, false))
            continue;
        const bool is_whole = (first == from || !mi_bitmap_get(a->free, first - 1) ||
                               mi_bitmap_get(a->guarded, first - 1));
        if (hint != NULL && is_lowest)
            *hint = (uint32_t)first;
        is_lowest = false;
        if (is_whole)
            return first;
        if (end_of_one == MI_BITMAP_NONE &&
            (first < MI_ARENA_ROOM ||
             !mi_bitmap_is(a->free, first - MI_ARENA_ROOM, MI_ARENA_ROOM, true)))
            end_of_one = first;
    }
    if (hint != NULL && is_lowest && tries > 0)
        *hint = (uint32_t)a->slices;
    return end_of_one;
}

// A run of free slices, the lowest.
MI_INLINE size_t mi_arena_find(mi_arena_t *a, size_t slices, size_t align, size_t phase) {
    if (a->free_slices < slices)
        return MI_BITMAP_NONE;
    // No run of this length begins below the hint of a shorter one.
    const size_t hint = a->hint[slices < MI_ARENA_HINTS ? slices : MI_ARENA_HINTS - 1];
    const size_t from = (hint > a->head_slices ? hint : a->head_slices);
    if (mi_arena_has_guards(a) && align == 1 && slices <= 64) {
        const size_t at = mi_arena_find_guarded(a, slices, from);
        if (at != MI_BITMAP_NONE)
            return at;
    }
    if (slices > 64 || align != 1)
        return mi_bitmap_find(a->free, a->slices, from, slices, align, phase);
    const size_t at = mi_bitmap_find_short(a->free, a->slices, from, slices);
    if (slices < MI_ARENA_HINTS)
        a->hint[slices] = (uint32_t)(at == MI_BITMAP_NONE ? a->slices : at);
    return at;
}

// A short span that shall grow has a lane, so many free slices that its block may become as large
// as those that move without a copy. Lanes are in the upper half, where other spans come last; the
// highest free one is taken, which is likely to be one that was used before. Where the kernel may
// use huge pages there are none: what grows stands alone, and would occupy 2 MiB.
MI_INLINE size_t mi_arena_find_lane(mi_arena_t *a) {
    const size_t words = a->slices / 64;
    const size_t upper = words - words / 2;
    const size_t small = mi_bitmap_words(a->small_from);
    const size_t from = (small > upper ? small : upper);
    for (; a->lane_words + from < words; a->lane_words++) {
        const size_t w = words - 1 - a->lane_words;
        uint64_t x = a->free[w];
        for (unsigned half = MI_ARENA_LANE / 2; half > 0; half /= 2)
            x &= x >> half;
        x &= 0x0001000100010001u; // where lanes begin
        if (x != 0)
            return w * 64 + 63 - mi_clz64(x);
    }
    return MI_BITMAP_NONE;
}

// A place in the longest stretch of free slices, with free ones behind it and, for others, before
// it: spans are taken lowest first.
MI_INLINE size_t mi_arena_find_roomy(mi_arena_t *a, size_t slices) {
    const size_t gap = (slices < 8 ? 32 : 4 * slices);
    size_t length = 0;
    if (slices == 1 && !MI_SECURE)
        return mi_arena_find_lane(a);
    if (slices > a->slices / 8 || a->free_slices < slices + 2 * gap)
        return MI_BITMAP_NONE;
    const size_t low = (slices < MI_ARENA_WIDE ? a->small_from : 0);
    const size_t from = (low > a->head_slices ? low : a->head_slices);
    const size_t at = mi_bitmap_longest(a->free, a->slices, from, &length);
    return length < slices + 2 * gap ? MI_BITMAP_NONE : at + gap;
}

// Slices became free: runs that contain them may begin as much lower as they are long.
MI_INLINE void mi_arena_set_free(mi_arena_t *a, size_t first, size_t count) {
    mi_bitmap_set(a->free, first, count, true);
    a->free_slices += count;
    const uint32_t above = (uint32_t)(a->slices / 64 - (first + count - 1) / 64);
    const uint32_t lanes = (above == 0 ? 0 : above - 1); // the last slices may be no whole word
    a->lane_words = (a->lane_words < lanes ? a->lane_words : lanes);
    for (uint32_t n = 1; n < MI_ARENA_HINTS; n++) {
        const uint32_t least = (uint32_t)(first >= n ? first - n + 1 : 0);
        a->hint[n] = (a->hint[n] < least ? a->hint[n] : least);
        if (MI_SECURE)
            a->guarded_hint[n] = (a->guarded_hint[n] < least ? a->guarded_hint[n] : least);
    }
}

#endif
