// Exact sizes. Some blocks keep the size they were asked for, byte for byte: the C runtimes of
// Windows promise it (_msize, _recalloc). Such blocks live in pages of their own (MI_CLASS_EXACT is
// added to the class), which belong to the same thread heaps as all others, so freeing, remote
// frees, orphans and heaps need to know nothing of them.
//
//   shared page  | b0 | b1 | b2 | ... | b(reserved-1) |  unused  | ... s2 | s1 | s0 |
//                                                       one byte for each block: the low byte of
//                                                       its size, which tells its slack, the bytes
//                                                       at its end that nobody asked for
//   slack 255: it is 255 bytes or more; then the block's last word is the size itself
//   page with one block: page->slack
//
// The bytes lie apart from the blocks, where a program that writes a byte too far does not reach
// them, and a block of a class' full size needs no room for them. Whoever holds the block reads and
// writes them; the debug build knows the sizes by its pads and has no such pages.
#ifndef MI_CORE_EXACT_H
#define MI_CORE_EXACT_H

#include "core/page.h"

#define MI_EXACT_LARGE 255u
// The largest request whose page is one slice and whose slack, as allocated, is below 255.
#define MI_EXACT_SMALL_MAX ((size_t)2048)

// The block was just handed out for a request of size bytes, at most MI_EXACT_SMALL_MAX.
MI_INLINE void mi_exact_set_small(const mi_page_t *page, void *block, size_t size) {
    const uintptr_t last = ((uintptr_t)block | (MI_SLICE_BYTES - 1)) - MI_GUARD_BYTES;
    const size_t index = mi_page_block_index(page, (uintptr_t)block & (MI_SLICE_BYTES - 1));
    *(uint8_t *)(last - index) = (uint8_t)size;
}

// The byte of a block, in a page that holds several.
MI_INLINE uint8_t *mi_exact_byte(const mi_page_t *page, const void *block) {
    uint8_t *const last =
        page->start + ((size_t)page->slices << MI_SLICE_SHIFT) - MI_GUARD_BYTES - 1;
    return last - mi_page_block_index(page, (size_t)((const uint8_t *)block - page->start));
}

// The block's last word, which is its size where the byte says so.
MI_INLINE size_t *mi_exact_word(const mi_page_t *page, const void *block) {
    return (size_t *)((uintptr_t)block + page->block_bytes - sizeof(size_t));
}

// As mi_exact_set_small, for a request of any size that has a class, of a page of exact sizes that
// is no list of guests.
MI_INLINE void mi_exact_set_any(mi_page_t *page, void *block, size_t size) {
    const size_t slack = page->block_bytes - size;
    if (page->reserved == 1) {
        page->slack = (uint32_t)slack;
        return;
    }
    const bool is_large = (slack >= MI_EXACT_LARGE);
    *mi_exact_byte(page, block) = (uint8_t)(is_large ? page->block_bytes - MI_EXACT_LARGE : size);
    if (MI_UNLIKELY(is_large))
        *mi_exact_word(page, block) = size;
}

// The caller's bytes end at this offset from the block's start. Any exact page, or one that holds a
// single block, which becomes exact. false: too much slack to keep, nothing was changed.
bool mi_exact_set(mi_page_t *page, void *block, size_t end);
// That offset; larger than the block: damaged. An exact page only.
size_t mi_exact_end(const mi_page_t *page, const void *block);

#endif
