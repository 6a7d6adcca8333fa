// The blocks that orders_maker.dll makes in its DllMain, of every kind, by every CRT on the command
// line of the program; and what the program needs to know to end them. The program finds them by
// the export orders_blocks.
#ifndef MI_TEST_ORDERS_H
#define MI_TEST_ORDERS_H

#include "wtest.h"

enum { ORDERS_MAX = 8192, ORDERS_FIRST_CRT = 2, ORDERS_ALIGN = 64, ORDERS_OFFSET = 8 };

typedef enum order_kind_e { ORDER_PLAIN, ORDER_ALIGNED, ORDER_OFFSET } order_kind_t;

typedef struct order_block_s {
    uint8_t *p;
    size_t size;     // bytes that hold the pattern, or 0: what the CRT wrote, with its sum
    uint32_t sum;    // over the measured bytes, for those
    size_t measured; // by the CRT that made it, at once; (size_t)-1 = it cannot measure
    HMODULE crt;
    const char *maker; // name of the function
    order_kind_t kind;
} order_block_t;

typedef struct order_blocks_s {
    order_block_t *blocks;
    unsigned count;
    unsigned failed; // functions that gave NULL
} order_blocks_t;

static inline uint8_t order_byte(size_t i, size_t size) {
    return (uint8_t)(i * 13 + size * 7 + 1);
}

static inline uint32_t order_sum(const uint8_t *p, size_t bytes) {
    uint32_t sum = 2166136261u;
    for (size_t i = 0; i < bytes; i++)
        sum = (sum ^ p[i]) * 16777619u;
    return sum;
}

typedef void *(*order_fn_t)(const void *, ...); // __cdecl: any number of words

#endif
