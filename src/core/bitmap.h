// Bitmaps over slices: plain words, guarded by whoever owns them (the arena lock). One bit for each
// slice.
#ifndef MI_CORE_BITMAP_H
#define MI_CORE_BITMAP_H

#include "base/base.h"

#define MI_BITMAP_NONE SIZE_MAX

MI_INLINE size_t mi_bitmap_words(size_t bits) {
    return (bits + 63) / 64;
}

MI_INLINE bool mi_bitmap_get(const uint64_t *map, size_t bit) {
    return (map[bit / 64] >> (bit % 64)) & 1;
}

// The mask of the bits of [first, last) that fall into the word that holds first.
MI_INLINE uint64_t mi_bitmap_mask(size_t first, size_t last) {
    const size_t low = first % 64;
    const size_t count = (last - first < 64 - low ? last - first : 64 - low);
    return (count == 64 ? ~(uint64_t)0 : (((uint64_t)1 << count) - 1)) << low;
}

MI_INLINE void mi_bitmap_set(uint64_t *map, size_t first, size_t count, bool value) {
    const size_t last = first + count;
    for (size_t i = first; i < last; i = (i / 64 + 1) * 64) {
        if (value)
            map[i / 64] |= mi_bitmap_mask(i, last);
        else
            map[i / 64] &= ~mi_bitmap_mask(i, last);
    }
}

// Are all bits of [first, first + count) equal to value?
MI_INLINE bool mi_bitmap_is(const uint64_t *map, size_t first, size_t count, bool value) {
    const size_t last = first + count;
    for (size_t i = first; i < last; i = (i / 64 + 1) * 64) {
        const uint64_t mask = mi_bitmap_mask(i, last);
        if ((map[i / 64] & mask) != (value ? mask : 0))
            return false;
    }
    return true;
}

// Number of set bits: in pairs, then in fours, in eights, and the sum of the bytes. No CPU feature
// is taken for granted.
MI_INLINE size_t mi_bits_count(uint64_t w) {
    if (w == 0)
        return 0;
    w -= (w >> 1) & 0x5555555555555555u;
    w = (w & 0x3333333333333333u) + ((w >> 2) & 0x3333333333333333u);
    w = (w + (w >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
    return (size_t)((w * 0x0101010101010101u) >> 56);
}

// Number of set bits in [first, first + count).
MI_INLINE size_t mi_bitmap_count(const uint64_t *map, size_t first, size_t count) {
    const size_t last = first + count;
    size_t sum = 0;
    for (size_t i = first; i < last; i = (i / 64 + 1) * 64)
        sum += mi_bits_count(map[i / 64] & mi_bitmap_mask(i, last));
    return sum;
}

// Bits [first, first + count), at most 64, as a number.
MI_INLINE uint64_t mi_bitmap_part(const uint64_t *map, size_t first, size_t count) {
    const size_t low = first % 64;
    uint64_t w = map[first / 64] >> low;
    if (low + count > 64)
        w |= map[first / 64 + 1] << (64 - low);
    return count == 64 ? w : w & (((uint64_t)1 << count) - 1);
}

// First bit at or after from with the value, or bits.
MI_INLINE size_t mi_bitmap_next(const uint64_t *map, size_t bits, size_t from, bool value) {
    for (size_t i = from; i < bits; i = (i / 64 + 1) * 64) {
        const uint64_t w = (value ? map[i / 64] : ~map[i / 64]) & mi_bitmap_mask(i, bits);
        if (w != 0)
            return i / 64 * 64 + mi_ctz64(w);
    }
    return bits;
}

// First bit at or after from that is set in both, or bits.
MI_INLINE size_t mi_bitmap_next_both(const uint64_t *a, const uint64_t *b, size_t bits,
                                     size_t from) {
    for (size_t i = from; i < bits; i = (i / 64 + 1) * 64) {
        const uint64_t w = a[i / 64] & b[i / 64] & mi_bitmap_mask(i, bits);
        if (w != 0)
            return i / 64 * 64 + mi_ctz64(w);
    }
    return bits;
}

// Bit k of the result: a run of count set bits begins at bit k of low and may go on into high.
// count is 1 to 64. Each step doubles the length that a bit stands for.
MI_INLINE uint64_t mi_bitmap_runs(uint64_t low, uint64_t high, size_t count) {
    for (size_t have = 1; have < count;) {
        const size_t more = (have < count - have ? have : count - have);
        low &= low >> more | high << 1 << (63 - more);
        high &= high >> more;
        have += more;
    }
    return low;
}

// The lowest run of count set bits, at most 64, not below from; MI_BITMAP_NONE = none. Bits beyond
// the last one are clear. Looks at a word at a time, however many runs it holds.
MI_INLINE size_t mi_bitmap_find_short(const uint64_t *map, size_t bits, size_t from, size_t count) {
    const size_t words = mi_bitmap_words(bits);
    for (size_t i = from / 64; i < words; i++) {
        uint64_t runs = map[i];
        if (runs == 0)
            continue;
        runs = mi_bitmap_runs(runs, i + 1 < words ? map[i + 1] : 0, count);
        if (i == from / 64)
            runs &= ~(uint64_t)0 << (from % 64);
        if (runs != 0)
            return i * 64 + mi_ctz64(runs);
    }
    return MI_BITMAP_NONE;
}

// The lowest run of count set bits that begins at bit `phase` modulo align, not below from;
// MI_BITMAP_NONE = none.
MI_INLINE size_t mi_bitmap_find(const uint64_t *map, size_t bits, size_t from, size_t count,
                                size_t align, size_t phase) {
    size_t at = from;
    for (;;) {
        at = mi_bitmap_next(map, bits, at, true);
        at += (align - 1) & (phase - at);
        if (at >= bits || bits - at < count)
            return MI_BITMAP_NONE;
        const size_t end = mi_bitmap_next(map, at + count, at, false);
        if (end == at + count)
            return at;
        at = end + 1;
    }
}

// The longest run of set bits, not below from, of which only whole words count. *count: its length.
MI_INLINE size_t mi_bitmap_longest(const uint64_t *map, size_t bits, size_t from, size_t *count) {
    size_t best = 0;
    size_t end = 0;
    size_t run = 0;
    for (size_t w = mi_bitmap_words(from); w < bits / 64; w++) {
        run = (map[w] == ~(uint64_t)0 ? run + 1 : 0);
        if (run > best) {
            best = run;
            end = w + 1;
        }
    }
    *count = best * 64;
    return (end - best) * 64;
}

#endif
