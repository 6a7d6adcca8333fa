// Size classes: which block size serves a request. Pure arithmetic, no state.
//
//   class   1 ..   8    16, 32, ... 128               (16-byte granules)
//   class   9 ..  80    144 ... 64 KiB                8 per doubling: at most 12.5 % too large, 6 %
//                                                     on average
//   class  81 .. 128    72 KiB ... 4 MiB              the same, but a page holds one block
//   class 129           above that                    whole slices, no class size
//
// A class size in [2^n, 2^(n+1)) is a multiple of 2^(n-3), and blocks start at slice boundaries.
// Hence a request whose size is a multiple of a power of two gets a block at a multiple of it:
// aligned allocation is rounding.
#ifndef MI_CORE_SIZE_CLASS_H
#define MI_CORE_SIZE_CLASS_H

#include "base/base.h"

#define MI_GRANULE_SHIFT    4
#define MI_GRANULE_BYTES    ((size_t)1 << MI_GRANULE_SHIFT)
#define MI_SLICE_SHIFT      16
#define MI_SLICE_BYTES      ((size_t)1 << MI_SLICE_SHIFT)
#define MI_DIRECT_MAX       ((size_t)1024) // largest request of the fast path
#define MI_DIRECT_COUNT     ((MI_DIRECT_MAX >> MI_GRANULE_SHIFT) + 1)
#define MI_SHARED_MAX       ((size_t)64 * 1024)       // largest block that shares its page
#define MI_CLASSED_MAX      ((size_t)4 * 1024 * 1024) // largest block with a class size
#define MI_CLASS_SHARED     80u                       // the class of MI_SHARED_MAX
#define MI_CLASS_ONE_SLICE  48u                       // the largest whose page is one slice
#define MI_CLASS_TWO_SLICES 64u                       // or two (three, where there are guards)
#define MI_CLASS_LAST       128u                      // the class of MI_CLASSED_MAX
#define MI_CLASS_HUGE       129u
#define MI_CLASS_COUNT      130u
// Added to the class of a page whose blocks keep the exact size they were asked for (exact.h).
#define MI_CLASS_EXACT 130u
#define MI_CLASS_TOTAL 260u
// The end of a page's span that is inaccessible in the secure build: an OS page, whatever its size
// (of 64 KiB they are not supported, and then the end is only left empty).
#define MI_GUARD_BYTES ((size_t)(MI_SECURE ? (MI_ARCH_ARM64 ? 16384 : 4096) : 0))
// PTRDIFF_MAX less a slice: what no request may exceed, so that roundings cannot overflow.
#define MI_REQUEST_MAX ((size_t)PTRDIFF_MAX - MI_SLICE_BYTES)

// 128 < size <= MI_CLASSED_MAX.
MI_INLINE uint32_t mi_class_of_coarse(size_t size) {
    const size_t w = size - 1;
    const size_t b = mi_bsr(w);
    return (uint32_t)((b - 7) * 8 + ((w >> (b - 3)) & 7) + 9);
}

// size <= MI_CLASSED_MAX; 0 is served like 1.
MI_INLINE uint32_t mi_class_of(size_t size) {
    if (size <= 128)
        return (uint32_t)((size + (size == 0) + MI_GRANULE_BYTES - 1) >> MI_GRANULE_SHIFT);
    return mi_class_of_coarse(size);
}

// The class without MI_CLASS_EXACT.
MI_INLINE uint32_t mi_class_plain(uint32_t class_index) {
    return class_index >= MI_CLASS_EXACT ? class_index - MI_CLASS_EXACT : class_index;
}

// Of those from 9 on.
MI_INLINE size_t mi_class_bytes_coarse(uint32_t class_index) {
    const uint32_t k = class_index - 9;
    return (size_t)(9 + (k & 7)) << (4 + (k >> 3));
}

MI_INLINE size_t mi_class_bytes(uint32_t class_index) {
    return class_index <= 8 ? (size_t)class_index << MI_GRANULE_SHIFT
                            : mi_class_bytes_coarse(class_index);
}

// A thread heap of few pages does without some classes (theap.c): for this fineness, the class that
// serves this (plain) one. Its size is a multiple of every power of two that this one's is a
// multiple of.
#define MI_CLASS_COARSE_FROM 9u
#define MI_CLASS_FINE        2u // the fineness of all classes; 1: of every other; 0: of every fourth
MI_INLINE uint32_t mi_class_server(uint32_t plain, uint32_t fineness) {
    const uint32_t others = 3u >> fineness;
    return plain >= MI_CLASS_COARSE_FROM && plain <= MI_CLASS_SHARED ? (plain + others) & ~others
                                                                     : plain;
}

// Slices of a page that holds blocks of this size: enough blocks that page events are rare; what is
// never linked is never touched, so a long page costs addresses only. The guard takes less than a
// slice but would cost a whole block: such pages are a slice longer.
MI_INLINE size_t mi_class_slices(size_t block_bytes) {
    if (block_bytes <= 4 * MI_KiB)
        return 1;
    if (block_bytes > MI_SHARED_MAX)
        return (block_bytes + MI_GUARD_BYTES + MI_SLICE_BYTES - 1) >> MI_SLICE_SHIFT;
    return (block_bytes <= 16 * MI_KiB ? 2 : 4) + (MI_GUARD_BYTES != 0 ? 1 : 0);
}

// The class in whose queue pages of this one wait. Those with one block are as good for each class
// whose pages are as long: eight have two slices, four have three, four have four, then two each,
// then one. With a guard at their end a page of whole slices is one of the next.
MI_INLINE uint32_t mi_class_queue_plain(uint32_t plain) {
    const uint32_t guard = (MI_GUARD_BYTES != 0 ? 1 : 0);
    const uint32_t others = 7u >> ((plain + guard - (MI_CLASS_SHARED + 1)) / 8);
    return ((plain + guard + others) & ~others) - guard;
}

MI_INLINE uint32_t mi_class_queue_single(uint32_t class_index) {
    const uint32_t plain = mi_class_plain(class_index);
    return class_index - plain + mi_class_queue_plain(plain);
}

MI_INLINE uint32_t mi_class_queue(uint32_t class_index) {
    return mi_class_plain(class_index) > MI_CLASS_SHARED ? mi_class_queue_single(class_index)
                                                         : class_index;
}

// Classes first .. last have pages of the same length and kind as this one's, which is plain if it
// is of blocks that share their pages.
MI_INLINE void mi_class_siblings(uint32_t class_index, uint32_t *first, uint32_t *last) {
    if (class_index > MI_CLASS_SHARED) {
        *last = mi_class_queue(class_index);
        for (*first = *last; mi_class_queue(*first - 1) == *last;)
            --*first;
        return;
    }
    const bool is_first = (class_index <= MI_CLASS_ONE_SLICE);
    const bool is_second = (class_index <= MI_CLASS_TWO_SLICES);
    *first = (is_first ? 1 : is_second ? MI_CLASS_ONE_SLICE + 1 : MI_CLASS_TWO_SLICES + 1);
    *last = (is_first ? MI_CLASS_ONE_SLICE : is_second ? MI_CLASS_TWO_SLICES : MI_CLASS_SHARED);
}

#endif
