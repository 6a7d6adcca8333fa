// Reading and writing the exact size of a block; drawn in exact.h. Any thread that holds the block.
#include "core/exact.h"

#include "os/os.h"

// What a block may leave unused as it is resized in place: from here on less memory is worth a
// copy, and slack 255 has another record. The slowest way to the same answer is in realloc.c.
static uint8_t exact_stay(size_t block_bytes) {
    size_t most = block_bytes / 2 + 32;
    most = (most < block_bytes - 1 ? most : block_bytes - 1); // 0 is no size
    return (uint8_t)(most < MI_EXACT_LARGE ? most + 1 : MI_EXACT_LARGE);
}

size_t mi_exact_describe(mi_page_t *page, bool is_exact, bool is_shared, size_t span_bytes) {
    size_t records = 0;
    uintptr_t place = 0; // of the first block's
    page->extent = 0;
    page->exact_sizes = 0;
    page->exact_stay = 0;
    mi_store_relaxed(&page->traits, (uint8_t)(is_exact ? MI_PAGE_IS_EXACT : 0));
    if (!is_shared) {
        place = (uintptr_t)&page->extent;
    } else if (is_exact && mi_exact_is_small(page)) {
        records = MI_EXACT_SMALL_BYTES;
        page->exact_stay = exact_stay(page->block_bytes);
    } else if (is_exact) {
        records =
            ((size_t)page->slices << (MI_SLICE_SHIFT - MI_EXACT_WIDE_SHIFT)) * sizeof(uint32_t);
        place = (uintptr_t)page->start + span_bytes - records;
    }
    if (place != 0)
        page->exact_sizes =
            place - ((uintptr_t)page->start >> MI_EXACT_WIDE_SHIFT) * sizeof(uint32_t);
    return span_bytes - records;
}

void mi_exact_forget(mi_page_t *page) {
    if (mi_page_is_exact(page) && mi_exact_is_small(page) && page->is_zero && page->capacity != 0)
        mi_memzero(page->start + MI_SLICE_BYTES - MI_GUARD_BYTES - MI_EXACT_SMALL_BYTES,
                   MI_EXACT_SMALL_BYTES);
}

bool mi_exact_set(mi_page_t *page, void *block, size_t end) {
    MI_ASSERT(end <= page->block_bytes);
    const size_t slack = page->block_bytes - end;
    if (page->reserved == 1) {
        if (slack > UINT32_MAX)
            return false;
        page->extent = (uint32_t)end;
        mi_page_set_trait(page, MI_PAGE_IS_EXACT);
        return true;
    }
    MI_ASSERT(mi_page_is_exact(page));
    if (!mi_exact_is_small(page)) {
        *mi_exact_word(page, block) = (uint32_t)end;
        return true;
    }
    const bool is_large = (slack >= MI_EXACT_LARGE);
    *mi_exact_byte(block) = (uint8_t)(is_large ? page->block_bytes - MI_EXACT_LARGE : end);
    if (is_large)
        *mi_exact_last(page, block) = end;
    return true;
}

size_t mi_exact_end(const mi_page_t *page, const void *block) {
    if (page->reserved == 1)
        return page->block_bytes - (uint32_t)(page->block_bytes - page->extent);
    if (!mi_exact_is_small(page))
        return *mi_exact_word(page, block);
    const size_t slack = (uint8_t)(page->block_bytes - *mi_exact_byte(block));
    if (MI_LIKELY(slack < MI_EXACT_LARGE))
        return page->block_bytes - slack; // wraps round when it is damaged
    const size_t end = *mi_exact_last(page, block);
    const bool is_sound =
        page->block_bytes >= MI_EXACT_LARGE && end <= page->block_bytes - MI_EXACT_LARGE;
    return is_sound ? end : SIZE_MAX;
}
