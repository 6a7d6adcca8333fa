// What the table of calls (contract_table.py) is made of.
#ifndef CONTRACT_H
#define CONTRACT_H

#include "mimalloc.h"

typedef struct args_s {
    void *p;
    size_t size, count, align, offset;
    size_t usable, usable_before; // told by the function
    mi_heap_t *heap;
} args_t;

enum {
    HAS_COUNT = 1,
    HAS_ALIGN = 2,
    HAS_OFFSET = 4,
    RESIZES = 8,
    ZEROES = 16,
    IS_SMALL = 32,
    STAYS = 64, // resizes where the block stands, or not at all
    TELLS_USABLE = 128,
    FREES_ON_FAILURE = 256,
    THROWS = 512 // or ends the process: its failures are in test_contract_new.cpp
};

typedef struct row_s {
    const char *name;
    void *(*call)(args_t *a);
    unsigned flags;
} row_t;

#include "contract_table.h"
#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

#endif
