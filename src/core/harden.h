// What the debug and secure builds check in blocks. In the release build all of it is constant
// false.
//
//   debug block   | size bytes for the caller | 0xFD ... | pad: end, canary |     filled 0xD0 when
//   handed out,
//                                                                               0xDF when freed
//   secure block  | no pad; links of the free list encoded with the page's key, each checked when
//   it is followed
//
// A freed block's pad says so: freeing it again is found in O(1). The secure build looks at the
// first word of a freed block: when it decodes to a link into the page, the free list is searched
// for the block.
#ifndef MI_CORE_HARDEN_H
#define MI_CORE_HARDEN_H

#include "core/alloc.h"
#include "core/exact.h"
#include "core/page.h"

#define MI_PAD_BYTES ((size_t)(MI_DEBUG ? 16 : 0))

// The block size that a request needs. size <= MI_REQUEST_MAX.
MI_INLINE size_t mi_padded(size_t size) {
    return size + MI_PAD_BYTES;
}

#if MI_DEBUG
// A block was handed out: size bytes from its start are the caller's.
void mi_pad_open(const mi_page_t *page, void *block, size_t size, bool is_zeroed);
// The block is about to be freed.
mi_free_result_t mi_pad_close(const mi_page_t *page, void *block);
// Is the live block's pad, and what lies before it, as it was left?
bool mi_pad_is_intact(const mi_page_t *page, const void *block);
// Was it freed properly, wherever it waits now?
bool mi_pad_is_closed(const mi_page_t *page, const void *block);
// Bytes from the block's start that are the caller's; more than the block has: the record is
// damaged.
size_t mi_pad_end(const mi_page_t *page, const void *block);
#else
MI_INLINE void mi_pad_open(const mi_page_t *page, void *block, size_t size, bool is_zeroed) {
    (void)page;
    (void)block;
    (void)size;
    (void)is_zeroed;
}
MI_INLINE mi_free_result_t mi_pad_close(const mi_page_t *page, void *block) {
    (void)page;
    (void)block;
    return MI_FREE_OK;
}
MI_INLINE size_t mi_pad_end(const mi_page_t *page, const void *block) {
    return MI_LIKELY(!page->is_exact) ? page->block_bytes : mi_exact_end(page, block);
}
#endif

// Is it NULL or an address in the page?
MI_INLINE bool mi_link_is_sane(const mi_page_t *page, const mi_block_t *next) {
    return next == NULL || (uintptr_t)next - (uintptr_t)page->start < (uintptr_t)page->slices
                                                                          << MI_SLICE_SHIFT;
}

// Could this block be free already? Then it is worth a search.
MI_INLINE bool mi_block_looks_free(const mi_page_t *page, const mi_block_t *block) {
    return MI_SECURE && mi_link_is_sane(page, mi_block_next(page, block));
}

// Is p the start of a block that was linked once? Owner only.
MI_INLINE bool mi_block_is_plain(const mi_page_t *page, const void *p) {
    const size_t offset = (size_t)((const uint8_t *)p - page->start);
    const size_t index = mi_page_block_index(page, offset);
    return index * page->block_bytes == offset && index < page->capacity;
}

// Is it in the free list? Owner only.
bool mi_block_is_free(const mi_page_t *page, const mi_block_t *block);
// Ends the process when the head of the free list was overwritten. Owner only.
void mi_page_check_list(const mi_page_t *page);

#endif
