// Reading and writing the exact size of a block; drawn in exact.h. Any thread that holds the block.
#include "core/exact.h"

bool mi_exact_set(mi_page_t *page, void *block, size_t end) {
    MI_ASSERT(end <= page->block_bytes);
    const size_t slack = page->block_bytes - end;
    if (page->reserved == 1) {
        if (slack > UINT32_MAX)
            return false;
        page->slack = (uint32_t)slack;
        page->is_exact = true;
        return true;
    }
    MI_ASSERT(page->is_exact);
    mi_exact_set_any(page, block, end);
    return true;
}

size_t mi_exact_end(const mi_page_t *page, const void *block) {
    if (page->reserved == 1)
        return page->block_bytes - page->slack;
    const size_t slack = (uint8_t)(page->block_bytes - *mi_exact_byte(page, block));
    if (MI_LIKELY(slack < MI_EXACT_LARGE))
        return page->block_bytes - slack; // wraps round when it is damaged
    const size_t end = *mi_exact_word(page, block);
    const bool is_sound =
        page->block_bytes >= MI_EXACT_LARGE && end <= page->block_bytes - MI_EXACT_LARGE;
    return is_sound ? end : SIZE_MAX;
}
