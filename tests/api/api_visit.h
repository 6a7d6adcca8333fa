// A visitor of heap walks for the contract tests.
#ifndef API_VISIT_H
#define API_VISIT_H

#include "api_test.h"

// Counts blocks in the size_t that arg points to.
static inline bool count_block(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                               size_t block_size, void *arg) {
    (void)heap;
    (void)area;
    (void)block_size;
    *(size_t *)arg += (block != NULL);
    return true;
}

#endif
