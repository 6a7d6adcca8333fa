// Exact sizes. Some blocks keep the size they were asked for, byte for byte: the C runtimes of
// Windows promise it (_msize, _recalloc). Such blocks live in pages of their own (MI_CLASS_EXACT is
// added to the class), which belong to the same thread heaps as all others, so freeing, remote
// frees, orphans and heaps need to know nothing of them.
//
//   page of small blocks, one slice   | b0 | b1 | ... |  unused  | one byte for each granule |
//   page of wide blocks               | b0 | b1 | ... |  unused  | four bytes for each KiB   |
//   page with one block               the last word is page->extent
//
// Small blocks are those of at most 1 KiB: the byte of a block's first granule is the low byte of
// its size, which tells its slack, the bytes at its end that nobody asked for. Slack 255: it is 255
// bytes or more; then the block's last word is the size itself. Wide blocks have the whole size (of
// one block alone in its page: the low 32 bits) at the KiB that they start in.
//
// Where a record lies follows from the block's address alone (small), or from that and one constant
// of its page (wide): no division and no multiplication. The records lie apart from the blocks,
// where a program that writes a byte too far does not reach them, and a block of a class' full size
// needs no room for them. Whoever holds the block reads and writes them; the debug build knows the
// sizes by its pads and has no such pages.
#ifndef MI_CORE_EXACT_H
#define MI_CORE_EXACT_H

#include "core/page.h"

#define MI_EXACT_LARGE       255u
#define MI_EXACT_SMALL_MAX   MI_DIRECT_MAX // bytes of the largest small block
#define MI_EXACT_SMALL_BYTES (MI_SLICE_BYTES >> MI_GRANULE_SHIFT) // of the records of a page
// Not at a multiple of 4 KiB: the record of the first block, whose link lies at one, would look
// like it to a processor that compares the low bits of addresses first (Zen 4: 5 cycles a pair).
#define MI_EXACT_SMALL_PLACE                                                                       \
    (MI_SLICE_BYTES - MI_GUARD_BYTES - MI_EXACT_SMALL_BYTES + 8) // of the first record in the slice
#define MI_EXACT_WIDE_SHIFT 10                                   // below the size of a wide block

static_assert(MI_EXACT_SMALL_MAX >> MI_EXACT_WIDE_SHIFT == 1, "two wide blocks share no record");

// Of an exact page.
MI_INLINE bool mi_exact_is_small(const mi_page_t *page) {
    return page->block_bytes <= MI_EXACT_SMALL_MAX;
}

// The record of a small block. *offset: where it lies in its page, which is one slice.
MI_INLINE uint8_t *mi_exact_byte_at(const void *block, uintptr_t *offset) {
    const uintptr_t slice = (uintptr_t)block & ~(uintptr_t)(MI_SLICE_BYTES - 1);
    *offset = (uintptr_t)block & (MI_SLICE_BYTES - 1);
    MI_OPAQUE(*offset);
    return (uint8_t *)(slice + MI_EXACT_SMALL_PLACE) + (*offset >> MI_GRANULE_SHIFT);
}

MI_INLINE uint8_t *mi_exact_byte(const void *block) {
    uintptr_t offset;
    return mi_exact_byte_at(block, &offset);
}

// Does a small block start at p, an address of its page? And its record in the same breath.
MI_INLINE bool mi_exact_is_start(const mi_page_t *page, const void *p, uint8_t **record) {
    uintptr_t offset;
    *record = mi_exact_byte_at(p, &offset);
    return (uint64_t)offset * page->recip < page->recip;
}

// The record of any other block of an exact page, or of the one block of any page.
MI_INLINE uint32_t *mi_exact_word(const mi_page_t *page, const void *block) {
    return (uint32_t *)(page->exact_sizes +
                        ((uintptr_t)block >> MI_EXACT_WIDE_SHIFT) * sizeof(uint32_t));
}

// A small block's last word, which is its size where the byte says so.
MI_INLINE size_t *mi_exact_last(const mi_page_t *page, const void *block) {
    return (size_t *)((uintptr_t)block + page->block_bytes - sizeof(size_t));
}

// Gives a page its records, when it is described. Returns the bytes for blocks, of so many.
size_t mi_exact_describe(mi_page_t *page, bool is_exact, bool is_shared, size_t span_bytes);
// A page without live blocks becomes one of another class: what lies behind the blocks of now reads
// as zero again.
void mi_exact_forget(mi_page_t *page);
// The caller's bytes end at this offset from the block's start. Any exact page, or one that holds a
// single block, which becomes exact. false: too much slack to keep, nothing was changed.
bool mi_exact_set(mi_page_t *page, void *block, size_t end);
// That offset; larger than the block: damaged. An exact page only.
size_t mi_exact_end(const mi_page_t *page, const void *block);

#endif
