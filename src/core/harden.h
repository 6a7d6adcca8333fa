// What the debug and secure builds check in blocks. In the release build all of it is constant
// false.
//
//   debug block   | size bytes for the caller | 0xFD ... | pad: end, canary |     filled 0xD0 when
//   handed out,
//                                                                               0xDF when freed
//   secure block  | no pad; the link in a free block is encoded with the page's key |
//   marks         | one byte for each block of a page, far from the blocks: never linked, live,
//   free |
//
// A freed block's pad says so: freeing it again is found in O(1). The secure build asks the block's
// mark. It is also asked when a block is taken from the free list: whatever was written into a free
// block, the list yields free blocks of its page or the process ends. A mark that says live is
// changed by whoever holds the block (compare and swap where that is another thread than the
// owner), one that says free by the owner.
#ifndef MI_CORE_HARDEN_H
#define MI_CORE_HARDEN_H

#include "core/alloc.h"
#include "core/exact.h"
#include "core/page.h"
#include "core/theap.h"

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
// What was overwritten behind the end of a live block. false: nothing was.
bool mi_pad_damage(const mi_page_t *page, const void *block, mi_damage_t *damage);
#else
MI_INLINE bool mi_pad_damage(const mi_page_t *page, const void *block, mi_damage_t *damage) {
    (void)page;
    (void)block;
    (void)damage;
    return false;
}
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
MI_INLINE bool mi_pad_is_closed(const mi_page_t *page, const void *block) {
    (void)page;
    (void)block;
    return false;
}
MI_INLINE size_t mi_pad_end(const mi_page_t *page, const void *block) {
    return MI_LIKELY(!mi_page_is_exact(page)) ? page->block_bytes : mi_exact_end(page, block);
}
#endif

// Is it NULL or an address in the page?
MI_INLINE bool mi_link_is_sane(const mi_page_t *page, const mi_block_t *next) {
    return next == NULL || (uintptr_t)next - (uintptr_t)page->start < (uintptr_t)page->slices
                                                                          << MI_SLICE_SHIFT;
}

// Is p the start of a block that was linked once? Owner only.
MI_INLINE bool mi_block_is_plain(const mi_page_t *page, const void *p) {
    const size_t offset = (size_t)((const uint8_t *)p - page->start);
    const size_t index = mi_page_block_index(page, offset);
    return index * page->block_bytes == offset && index < page->capacity;
}

#define MI_MARKS_DENSE ((size_t)128) // pages of larger blocks have their marks close together

enum { MI_MARK_NONE, MI_MARK_LIVE, MI_MARK_FREE }; // NONE: never linked

#if MI_SECURE
// The head of the free list is about to be handed out: is it, whatever value it has, a free block
// of the page? Then *mark becomes MI_MARK_LIVE once the list is without it.
MI_INLINE bool mi_mark_is_free(const mi_page_t *page, const void *block, mi_mark_t **mark) {
    const size_t offset = (size_t)((const uint8_t *)block - page->start);
    const uint64_t recip = page->recip;
    const size_t index = (size_t)mi_mul_high64(offset, recip);
    *mark = &page->marks[index];
    return (uint64_t)offset * recip < recip && index < page->capacity &&
           mi_load_relaxed(*mark) == MI_MARK_FREE;
}

// Is p, an address in the page, the start of a live block? Whoever holds the block.
MI_INLINE bool mi_mark_is_live(const mi_page_t *page, const void *p) {
    const size_t offset = (size_t)((const uint8_t *)p - page->start);
    const uint64_t recip = page->recip;
    return (uint64_t)offset * recip < recip &&
           mi_load_relaxed(&page->marks[mi_mul_high64(offset, recip)]) == MI_MARK_LIVE;
}

// p, an address in the page, becomes free. false: no live block starts there. Owner only. A block
// that was never linked, and what is behind the last one, has a mark that says so.
MI_INLINE bool mi_mark_free(const mi_page_t *page, const void *p) {
    const size_t offset = (size_t)((const uint8_t *)p - page->start);
    const uint64_t recip = page->recip;
    mi_mark_t *const mark = &page->marks[mi_mul_high64(offset, recip)];
    if (MI_UNLIKELY((uint64_t)offset * recip >= recip || mi_load_relaxed(mark) != MI_MARK_LIVE))
        return false;
    mi_store_relaxed(mark, (uint8_t)MI_MARK_FREE);
    return true;
}

// The same by a thread that does not own the page; block: where a block of the page starts. What is
// wrong with it, if anything. Reads the page's second line only: the owner writes the first one all
// the time.
MI_INLINE mi_free_result_t mi_mark_free_far(const mi_page_t *page, const void *block) {
    const bool is_far = ((uint64_t)(uintptr_t)block >> 48) != 0; // far_start has no room for that
    const uint64_t start = MI_UNLIKELY(is_far) ? (uint64_t)(uintptr_t)page->start
                                               : (uint64_t)page->far_start << MI_SLICE_SHIFT;
    const uint64_t offset = (uint64_t)(uintptr_t)block - start;
    uint8_t mark = MI_MARK_LIVE;
    // Relaxed: the push on the page's remote list publishes it.
    if (MI_LIKELY(mi_cas_strong_relaxed(&page->far_marks[mi_mul_high64(offset, page->far_recip)],
                                        &mark, (uint8_t)MI_MARK_FREE)))
        return MI_FREE_OK;
    return mark == MI_MARK_FREE ? MI_FREE_DOUBLE : MI_FREE_INVALID;
}
// What freeing a block is wrong with whose mark does not say live.
mi_free_result_t mi_mark_fault(const mi_page_t *page, const void *block);
// Blocks [first, first + count) of the page are free from now on, or without a mark.
void mi_marks_fill(mi_page_t *page, uint32_t first, uint32_t count, uint8_t value);
#else
MI_INLINE bool mi_mark_is_free(const mi_page_t *page, const void *block, mi_mark_t **mark) {
    (void)page;
    (void)block;
    (void)mark;
    return true;
}
MI_INLINE bool mi_mark_is_live(const mi_page_t *page, const void *p) {
    (void)page;
    (void)p;
    return true;
}
MI_INLINE bool mi_mark_free(const mi_page_t *page, const void *p) {
    (void)page;
    (void)p;
    return true;
}
MI_INLINE mi_free_result_t mi_mark_free_far(const mi_page_t *page, const void *block) {
    (void)page;
    (void)block;
    return MI_FREE_OK;
}
MI_INLINE mi_free_result_t mi_mark_fault(const mi_page_t *page, const void *block) {
    (void)page;
    (void)block;
    return MI_FREE_INVALID;
}
MI_INLINE void mi_marks_fill(mi_page_t *page, uint32_t first, uint32_t count, uint8_t value) {
    (void)page;
    (void)first;
    (void)count;
    (void)value;
}
#endif

// Ends the process when the head of the free list is no free block, or when the list of the page
// that a class allocates from ended before its last block. Owner only.
void mi_page_check_list(const mi_page_t *page);
// The same for a block that was found by following links.
void mi_page_check_block(const mi_page_t *page, const mi_block_t *block);
// Memory for the allocator's own structs, zero and usable, at an address that nobody can foresee,
// between two guards. bytes: whole OS pages; never given back. NULL = no memory.
void *mi_hidden_reserve(size_t bytes);
void mi_hidden_release(void *p, size_t bytes);
// An address that nobody can foresee, less than reach from near, or anywhere when near is 0.
uintptr_t mi_hidden_address(uintptr_t near, uint64_t reach);
// 64 bits that nobody can foresee, whoever knows all others. The stock is the calling thread's.
uint64_t mi_secret_next(mi_secrets_t *stock);

#endif
