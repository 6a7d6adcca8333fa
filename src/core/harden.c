// Pads and free-list checks of the debug and secure builds. Works on blocks that the calling thread
// holds or owns.
#include "core/harden.h"

#include "os/os.h"

#define HARDEN_FILL_NEW   0xD0
#define HARDEN_FILL_FREED 0xDF
#define HARDEN_FILL_GAP   0xFD
#define HARDEN_FILL_MAX   ((size_t)4096) // of a block that is filled
#define HARDEN_GAP_MAX    ((size_t)256)  // behind the caller's bytes that is filled and checked
#define HARDEN_FREED      (~(uintptr_t)0)

#if MI_DEBUG

typedef struct pad_s {
    uintptr_t end;    // offset of the first byte that is not the caller's; HARDEN_FREED
    uintptr_t canary; // depends on the place, so that a copied pad does not fit
} pad_t;
static_assert(sizeof(pad_t) <= 16, "MI_PAD_BYTES");

static pad_t *pad_of(const mi_page_t *page, const void *block) {
    return (pad_t *)((uint8_t *)(uintptr_t)block + page->block_bytes - sizeof(pad_t));
}

static uintptr_t pad_canary(const void *block, uintptr_t end) {
    const uintptr_t x = ((uintptr_t)block >> MI_GRANULE_SHIFT) ^ (end * 31);
    return x * (uintptr_t)0x9E3779B97F4A7C15ull | 1;
}

static size_t pad_gap(const mi_page_t *page, uintptr_t end) {
    const size_t gap = page->block_bytes - sizeof(pad_t) - end;
    return gap < HARDEN_GAP_MAX ? gap : HARDEN_GAP_MAX;
}

void mi_pad_open(const mi_page_t *page, void *block, size_t size, bool is_zeroed) {
    pad_t *const pad = pad_of(page, block);
    uint8_t *const p = (uint8_t *)block;
    MI_ASSERT(size <= page->block_bytes - sizeof(pad_t));
    if (!is_zeroed)
        mi_memset(p, HARDEN_FILL_NEW, size < HARDEN_FILL_MAX ? size : HARDEN_FILL_MAX);
    mi_memset(p + size, HARDEN_FILL_GAP, pad_gap(page, size));
    pad->end = size;
    pad->canary = pad_canary(block, size);
}

static bool pad_gap_is_intact(const mi_page_t *page, const uint8_t *p, uintptr_t end) {
    const size_t gap = pad_gap(page, end);
    for (size_t i = 0; i < gap; i++)
        if (p[end + i] != HARDEN_FILL_GAP)
            return false;
    return true;
}

bool mi_pad_is_intact(const mi_page_t *page, const void *block) {
    const pad_t *const pad = pad_of(page, block);
    const uintptr_t end = pad->end;
    return pad->canary == pad_canary(block, end) && end != HARDEN_FREED &&
           pad_gap_is_intact(page, (const uint8_t *)block, end);
}

bool mi_pad_is_closed(const mi_page_t *page, const void *block) {
    const pad_t *const pad = pad_of(page, block);
    return pad->end == HARDEN_FREED && pad->canary == pad_canary(block, HARDEN_FREED);
}

mi_free_result_t mi_pad_close(const mi_page_t *page, void *block) {
    pad_t *const pad = pad_of(page, block);
    uint8_t *const p = (uint8_t *)block;
    const uintptr_t end = pad->end;
    if (pad->canary != pad_canary(block, end))
        return MI_FREE_CORRUPT;
    if (end == HARDEN_FREED)
        return MI_FREE_DOUBLE;
    if (!pad_gap_is_intact(page, p, end))
        return MI_FREE_CORRUPT;
    mi_memset(p, HARDEN_FILL_FREED, end < HARDEN_FILL_MAX ? end : HARDEN_FILL_MAX);
    pad->end = HARDEN_FREED;
    pad->canary = pad_canary(block, HARDEN_FREED);
    return MI_FREE_OK;
}

size_t mi_pad_end(const mi_page_t *page, const void *block) {
    const pad_t *const pad = pad_of(page, block);
    return pad->end > page->block_bytes - sizeof(pad_t) ? 0 : pad->end;
}

#endif

bool mi_block_is_free(const mi_page_t *page, const mi_block_t *block) {
    uint32_t left = page->capacity;
    for (const mi_block_t *b = page->free; b != NULL && left > 0; left--) {
        if (b == block)
            return true;
        b = mi_block_next(page, b);
        if (!mi_link_is_sane(page, b))
            return false;
    }
    return false;
}

void mi_page_check_list(const mi_page_t *page) {
    if (page->free != NULL && !mi_link_is_sane(page, mi_block_next(page, page->free)))
        mi_assert_fail("a free block was overwritten: the free list is corrupt", __FILE__,
                       __LINE__);
}
