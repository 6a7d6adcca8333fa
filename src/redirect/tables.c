#include "redirect/tables.h"
#include "base/atomic.h"
#include "redirect/faults.h"
#include "redirect/world.h"

typedef _Atomic(uint32_t) short_word_t;
typedef _Atomic(uintptr_t) word_t;

enum { CELLS_MAX = 65536, DYNAMIC_CODE_BLOCKED = 1655, PAGE_BYTES = 4096, PARTS_MAX = 2 };

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

static size_t cell_bytes(const mi_cell_t *c) {
    return c->is_short ? sizeof(uint32_t) : sizeof(uintptr_t);
}

// Can it be written and read in one piece?
static bool is_straight(const mi_cell_t *c) {
    return ((uintptr_t)c->at & (cell_bytes(c) - 1)) == 0;
}

static uintptr_t cell_value(const mi_cell_t *c) {
    uint32_t part;
    uintptr_t value;
    if (!is_straight(c) && c->is_short)
        return *(uint32_t *)memcpy(&part, c->at, sizeof(part));
    if (!is_straight(c))
        return *(uintptr_t *)memcpy(&value, c->at, sizeof(value));
    if (c->is_short)
        return mi_load_relaxed((short_word_t *)c->at);
    return mi_load_relaxed((word_t *)c->at);
}

// Release: pairs with the dependency of every call through the cell; what the thunk reads was
// written before. Cells askew: nobody else runs.
static void cell_store(const mi_cell_t *c, uintptr_t value) {
    const uint32_t part = (uint32_t)value;
    if (!is_straight(c))
        memcpy(c->at, c->is_short ? (const void *)&part : (const void *)&value, cell_bytes(c));
    else if (c->is_short)
        mi_store_release((short_word_t *)c->at, part);
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

// What of a cell lies in one page, and the rights that this page had. A cell askew may lie in two,
// whose rights differ.
typedef struct part_s {
    uint8_t *at;
    size_t bytes;
    DWORD rights;
} part_t;

static unsigned cell_parts(const mi_cell_t *c, part_t parts[PARTS_MAX]) {
    const size_t bytes = cell_bytes(c);
    uint8_t *const at = (uint8_t *)c->at;
    const size_t room = PAGE_BYTES - ((uintptr_t)at & (PAGE_BYTES - 1));
    parts[0] = (part_t){at, bytes < room ? bytes : room, 0};
    parts[1] = (part_t){at + parts[0].bytes, bytes - parts[0].bytes, 0};
    return bytes <= room ? 1 : 2;
}

// Gives the first pages their own rights back.
static bool parts_close(const part_t *parts, unsigned count) {
    bool is_good = true;
    DWORD ignored;
    for (unsigned i = 0; i < count; i++)
        is_good &= VirtualProtect(parts[i].at, parts[i].bytes, parts[i].rights, &ignored) != 0;
    return is_good;
}

// Makes all of them writable, or none.
static mi_reason_t parts_open(part_t *parts, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        MEMORY_BASIC_INFORMATION info;
        if (VirtualQuery(parts[i].at, &info, sizeof(info)) != 0 &&
            VirtualProtect(parts[i].at, parts[i].bytes, rights_to_write(info.Protect),
                           &parts[i].rights))
            continue;
        const DWORD error = GetLastError();
        (void)parts_close(parts, i);
        return error == DYNAMIC_CODE_BLOCKED ? MI_REASON_DYNAMIC_CODE : MI_REASON_TABLES_READ_ONLY;
    }
    return MI_REASON_NONE;
}

// One cell. The page rights are put back; what is wrong if they or the contents could not be
// changed.
static mi_reason_t cell_write(const mi_cell_t *c, uintptr_t value) {
    part_t parts[PARTS_MAX];
    const unsigned count = cell_parts(c, parts);
    if (mi_fault("table-protect"))
        return MI_REASON_TABLES_READ_ONLY;
    const mi_reason_t reason = parts_open(parts, count);
    if (reason != MI_REASON_NONE)
        return reason;
    cell_store(c, value);
    const bool is_restored = parts_close(parts, count) && !mi_fault("table-unprotect");
    const bool is_kept = (cell_value(c) == value && !mi_fault("table-write"));
    return is_restored && is_kept ? MI_REASON_NONE : MI_REASON_TABLES_READ_ONLY;
}

static mi_reason_t restore(const mi_cells_t *cells, bool straight) {
    mi_reason_t reason = MI_REASON_NONE;
    for (size_t i = 0; i < cells->count; i++) {
        const mi_cell_t *c = &cells->cell[i];
        part_t parts[PARTS_MAX];
        if (is_straight(c) != straight || cell_value(c) != c->after || c->after == c->before)
            continue; // never written, or somebody else's by now
        const unsigned count = cell_parts(c, parts);
        if (mi_fault("table-rollback") || parts_open(parts, count) != MI_REASON_NONE) {
            reason = MI_REASON_ROLLBACK_FAILED; // the others are put back all the same
            continue;
        }
        cell_store(c, c->before);
        (void)parts_close(parts, count);
    }
    return reason;
}

static mi_reason_t write(const mi_cells_t *cells, bool straight) {
    mi_reason_t reason = MI_REASON_NONE;
    for (size_t i = 0; i < cells->count && reason == MI_REASON_NONE; i++)
        if (is_straight(&cells->cell[i]) == straight)
            reason = cell_write(&cells->cell[i], cells->cell[i].after);
    return reason;
}

// The cells askew, if any holds the wrong one of its two values, with all other threads stopped.
static mi_reason_t with_stopped_world(const mi_cells_t *cells, bool is_written,
                                      mi_reason_t (*what)(const mi_cells_t *, bool)) {
    mi_world_t w;
    size_t i = 0;
    for (; i < cells->count; i++) {
        const mi_cell_t *c = &cells->cell[i];
        if (!is_straight(c) && (cell_value(c) == c->after) == is_written && c->after != c->before)
            break;
    }
    if (i == cells->count)
        return MI_REASON_NONE;
    mi_world_open(&w);
    const mi_reason_t reason = (mi_world_stop(&w) ? what(cells, false) : MI_REASON_THREADS);
    mi_world_resume(&w);
    mi_world_close(&w);
    return reason;
}

mi_reason_t mi_cells_restore(const mi_cells_t *cells) {
    const mi_reason_t askew = with_stopped_world(cells, true, restore);
    const mi_reason_t reason = restore(cells, true);
    return askew == MI_REASON_NONE ? reason : MI_REASON_ROLLBACK_FAILED;
}

mi_reason_t mi_cells_write(const mi_cells_t *cells) {
    mi_reason_t reason = write(cells, true);
    if (reason == MI_REASON_NONE)
        reason = with_stopped_world(cells, false, write);
    if (reason != MI_REASON_NONE && mi_cells_restore(cells) != MI_REASON_NONE)
        return MI_REASON_ROLLBACK_FAILED;
    return reason;
}
