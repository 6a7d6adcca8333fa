// Cells of import and export tables, as a set that is written as a whole or not at all. A cell that
// is one aligned word needs no care: a thread that reads it meanwhile gets the old address or the
// new one, both of which are right. Linkers also lay cells askew, where a reader could get half of
// each: they are written while every other thread stands still. It does not know what the addresses
// mean. Loader lock held.
#ifndef MI_REDIRECT_TABLES_H
#define MI_REDIRECT_TABLES_H

#include "pe/plan_reason.h"

typedef struct mi_cell_s {
    void *at;         // of any alignment
    uintptr_t before; // contents found
    uintptr_t after;  // contents wanted
    bool is_short;    // 32 bits: an RVA in an export table
} mi_cell_t;

typedef struct mi_cells_s {
    mi_cell_t *cell;
    size_t count;
    size_t room;
} mi_cells_t;

bool mi_cells_open(mi_cells_t *cells); // false = no memory
void mi_cells_close(mi_cells_t *cells);
bool mi_cells_add(mi_cells_t *cells, mi_cell_t cell); // false = full

// All cells hold `after`; or all hold `before` and the reason says why, except for
// MI_REASON_ROLLBACK_FAILED. Page rights are as before in each case.
mi_reason_t mi_cells_write(const mi_cells_t *cells);
// All cells that hold `after` hold `before` again.
mi_reason_t mi_cells_restore(const mi_cells_t *cells);

#endif
