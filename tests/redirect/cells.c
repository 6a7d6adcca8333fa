// The writer of table cells over tables of our own making: cells at every place, straight, askew,
// and across two pages whose rights differ in every way; each change of rights fails once. It
// changes nothing that anybody runs.
#include "redirect/tables.h"
#include "refuse.h"

enum { PAGE = 4096, BYTES = 2 * PAGE, CELLS = 3 };

static uint8_t *table;
static uint8_t original[BYTES];

static void rights_set(const DWORD rights[2]) {
    DWORD before;
    for (unsigned k = 0; k < 2; k++)
        CHECK(real_protect(table + k * PAGE, PAGE, rights[k], &before));
}

static bool rights_are(const DWORD rights[2]) {
    for (unsigned k = 0; k < 2; k++) {
        MEMORY_BASIC_INFORMATION info;
        if (VirtualQuery(table + k * PAGE, &info, sizeof(info)) == 0 || info.Protect != rights[k]) {
            say("page %u has the rights %lx, not %lx\n", k, info.Protect, rights[k]);
            return false;
        }
    }
    return true;
}

static size_t cell_bytes(const mi_cell_t *c) {
    return c->is_short ? 4 : sizeof(uintptr_t);
}

// Do the cells hold what is wanted, and is every other byte as it was?
static bool table_is(const mi_cell_t *cells, bool is_written) {
    static uint8_t wanted[BYTES];
    memcpy(wanted, original, BYTES);
    for (unsigned k = 0; k < CELLS && is_written; k++)
        memcpy(wanted + ((uint8_t *)cells[k].at - table), &cells[k].after, cell_bytes(&cells[k]));
    for (size_t i = 0; i < BYTES; i++)
        if (table[i] != wanted[i]) {
            say("byte %zx is %x, not %x\n", i, table[i], wanted[i]);
            return false;
        }
    return true;
}

// One in the first page, one at the place in question, one in the second page.
static mi_cells_t cells_make(mi_cell_t cells[CELLS], size_t offset, bool is_short) {
    const size_t places[CELLS] = {0x20, offset, PAGE + 0x40};
    for (unsigned k = 0; k < CELLS; k++) {
        cells[k] = (mi_cell_t){.at = table + places[k], .is_short = (is_short && k == 1)};
        memcpy(&cells[k].before, original + places[k], cell_bytes(&cells[k]));
        cells[k].after = (cells[k].is_short ? (uint32_t)~cells[k].before : ~cells[k].before);
    }
    return (mi_cells_t){cells, CELLS, CELLS};
}

static bool is_across(const mi_cell_t *c) {
    return ((uintptr_t)c->at & (PAGE - 1)) + cell_bytes(c) > PAGE;
}

// Each change of rights fails in turn, until there is none left that could.
static void test_refused(const DWORD rights[2], const mi_cells_t *cells) {
    for (refused_call = 0; refused_call < 100; refused_call++) {
        asked = refusals = 0;
        refused_rights = PAGE_READWRITE | PAGE_EXECUTE_READWRITE; // not those that put rights back
        const mi_reason_t reason = mi_cells_write(cells);
        refused_rights = 0;
        CHECK(table_is(cells->cell, refusals == 0) && rights_are(rights));
        if (refusals == 0) {
            CHECK(reason == MI_REASON_NONE);
            break;
        }
        CHECK(reason ==
              (refusal == REFUSE_BLOCKED ? MI_REASON_DYNAMIC_CODE : MI_REASON_TABLES_READ_ONLY));
    }
    CHECK(refused_call == (is_across(&cells->cell[1]) ? CELLS + 1 : CELLS));
    CHECK(mi_cells_restore(cells) == MI_REASON_NONE);
    CHECK(table_is(cells->cell, false) && rights_are(rights));
}

static void test_place(const DWORD rights[2], size_t offset, bool is_short) {
    mi_cell_t cell[CELLS];
    const mi_cells_t cells = cells_make(cell, offset, is_short);
    rights_set(rights);
    CHECK(mi_cells_write(&cells) == MI_REASON_NONE);
    CHECK(table_is(cell, true) && rights_are(rights));
    CHECK(mi_cells_restore(&cells) == MI_REASON_NONE);
    CHECK(table_is(cell, false) && rights_are(rights));
    // A page that is writable anyway is made so with the same call that puts its rights back.
    if (rights[0] != PAGE_READWRITE && rights[0] != PAGE_EXECUTE_READWRITE &&
        rights[1] != PAGE_READWRITE && rights[1] != PAGE_EXECUTE_READWRITE)
        test_refused(rights, &cells);
}

void mainCRTStartup(void) {
    static const DWORD kinds[] = {PAGE_READONLY, PAGE_READWRITE, PAGE_EXECUTE_READ,
                                  PAGE_EXECUTE_READWRITE};
    real_protect = (protect_t)protect_export();
    table = (uint8_t *)VirtualAlloc(NULL, BYTES, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    for (size_t i = 0; table != NULL && i < BYTES; i++)
        table[i] = original[i] = (uint8_t)(i * 13 + i / PAGE);
    CHECK(table != NULL);
    CHECK(imports_lead(GetModuleHandleA(NULL), protect_export(), (uintptr_t)refusing_protect) == 1);
    for (unsigned a = 0; a < 16 && wtest_failed == 0; a++) {
        const DWORD rights[2] = {kinds[a / 4], kinds[a % 4]};
        refusal = (a % 2 == 0 ? ERROR_ACCESS_DENIED : REFUSE_BLOCKED);
        for (size_t offset = PAGE - sizeof(uintptr_t); offset <= PAGE; offset++)
            test_place(rights, offset, false);
        for (size_t offset = PAGE - 4; offset <= PAGE; offset++)
            test_place(rights, offset, true);
    }
    finish();
}
