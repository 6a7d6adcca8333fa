#include "redirect/tables.h"
#include "base/atomic.h"
#include "redirect/faults.h"
#include "redirect/nt.h"

typedef _Atomic(uint32_t) short_word_t;
typedef _Atomic(uintptr_t) word_t;

enum { CELLS_MAX = 65536, DYNAMIC_CODE_BLOCKED = 1655 };

bool mi_cells_open(mi_cells_t *cells) {
    *cells = (mi_cells_t){.room = CELLS_MAX};
    if (!mi_fault("table-memory"))
        cells->cell = (mi_cell_t *)VirtualAlloc(NULL, CELLS_MAX * sizeof(mi_cell_t),
                                                MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    return cells->cell != NULL;
}

void mi_cells_close(mi_cells_t *cells) {
    if (cells->cell != NULL)
        (void)VirtualFree(cells->cell, 0, MEM_RELEASE);
    *cells = (mi_cells_t){0};
}

bool mi_cells_add(mi_cells_t *cells, mi_cell_t cell) {
    if (cells->count >= cells->room)
        return false;
    cells->cell[cells->count++] = cell;
    return true;
}

static uintptr_t cell_value(const mi_cell_t *c) {
    if (c->is_short)
        return mi_load_relaxed((short_word_t *)c->at);
    return mi_load_relaxed((word_t *)c->at);
}

// Release: pairs with the dependency of every call through the cell; what the thunk reads was
// written before.
static void cell_store(const mi_cell_t *c, uintptr_t value) {
    if (c->is_short)
        mi_store_release((short_word_t *)c->at, (uint32_t)value);
    else
        mi_store_release((word_t *)c->at, value);
}

// The rights that let us write. Tables usually lie in read-only data. Old linkers put them among
// code, which must go on to run while the word is stored: only then the page is both for a moment.
static DWORD rights_to_write(DWORD rights) {
    const DWORD code =
        PAGE_EXECUTE | PAGE_EXECUTE_READ | PAGE_EXECUTE_READWRITE | PAGE_EXECUTE_WRITECOPY;
    return (rights & code) != 0 ? PAGE_EXECUTE_READWRITE : PAGE_READWRITE;
}

// One cell. The page rights are put back; false = they or the contents could not be changed.
static mi_reason_t cell_write(const mi_cell_t *c, uintptr_t value) {
    MEMORY_BASIC_INFORMATION info;
    DWORD before, ignored;
    const size_t bytes = (c->is_short ? 4 : sizeof(uintptr_t));
    if (mi_fault("table-protect") || VirtualQuery(c->at, &info, sizeof(info)) == 0)
        return MI_REASON_TABLES_READ_ONLY;
    if (!VirtualProtect(c->at, bytes, rights_to_write(info.Protect), &before))
        return GetLastError() == DYNAMIC_CODE_BLOCKED ? MI_REASON_DYNAMIC_CODE
                                                      : MI_REASON_TABLES_READ_ONLY;
    cell_store(c, value);
    const bool is_restored =
        VirtualProtect(c->at, bytes, before, &ignored) && !mi_fault("table-unprotect");
    const bool is_kept = (cell_value(c) == value && !mi_fault("table-write"));
    return is_restored && is_kept ? MI_REASON_NONE : MI_REASON_TABLES_READ_ONLY;
}

mi_reason_t mi_cells_restore(const mi_cells_t *cells) {
    mi_reason_t reason = MI_REASON_NONE;
    for (size_t i = 0; i < cells->count; i++) {
        const mi_cell_t *c = &cells->cell[i];
        DWORD before, ignored;
        MEMORY_BASIC_INFORMATION info;
        if (cell_value(c) != c->after || c->after == c->before)
            continue; // never written, or somebody else's by now
        const size_t bytes = (c->is_short ? 4 : sizeof(uintptr_t));
        if (mi_fault("table-rollback") || VirtualQuery(c->at, &info, sizeof(info)) == 0 ||
            !VirtualProtect(c->at, bytes, rights_to_write(info.Protect), &before)) {
            reason = MI_REASON_ROLLBACK_FAILED; // the others are put back all the same
            continue;
        }
        cell_store(c, c->before);
        (void)VirtualProtect(c->at, bytes, before, &ignored);
    }
    return reason;
}

mi_reason_t mi_cells_write(const mi_cells_t *cells) {
    mi_reason_t reason = MI_REASON_NONE;
    for (size_t i = 0; i < cells->count && reason == MI_REASON_NONE; i++)
        reason = cell_write(&cells->cell[i], cells->cell[i].after);
    if (reason != MI_REASON_NONE && mi_cells_restore(cells) != MI_REASON_NONE)
        return MI_REASON_ROLLBACK_FAILED;
    return reason;
}
