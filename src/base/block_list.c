#include "base/block_list.h"

// Heap sort: no memory, no recursion, no bad case.
static void sink(mi_redirect_block_t *b, size_t at, size_t count) {
    const mi_redirect_block_t moving = b[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && (uintptr_t)b[child].p < (uintptr_t)b[child + 1].p)
            child++;
        if ((uintptr_t)b[child].p <= (uintptr_t)moving.p)
            break;
        b[at] = b[child];
    }
    b[at] = moving;
}

static void sort(mi_redirect_block_t *b, size_t count) {
    for (size_t i = count / 2; i-- > 0;)
        sink(b, i, count);
    for (size_t n = count; n > 1; n--) {
        const mi_redirect_block_t top = b[0];
        b[0] = b[n - 1];
        b[n - 1] = top;
        sink(b, 0, n - 1);
    }
}

size_t mi_block_list_settle(mi_redirect_block_t *blocks, size_t count) {
    size_t kept = 0;
    sort(blocks, count);
    for (size_t i = 0; i < count;) {
        bool is_gone = false;
        size_t next = i;
        for (; next < count && blocks[next].p == blocks[i].p; next++)
            is_gone |= (blocks[next].size == MI_REDIRECT_GONE);
        if (!is_gone)
            blocks[kept++] = blocks[i];
        i = next;
    }
    return kept;
}
