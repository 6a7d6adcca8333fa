#include "redirect/rung_tables.h"
#include "redirect/crt_shims.h"
#include "redirect/faults.h"
#include "redirect/guard.h"
#include "redirect/proof.h"
#include "redirect/tables.h"
#include "redirect/world.h"

typedef struct collect_s {
    mi_crt_t *crt;
    mi_cells_t *cells;
    bool is_good; // there was room for all
} collect_t;

static const mi_plan_site_t *site_of(const mi_crt_t *crt, uint32_t thunk) {
    return &crt->plan.sites[crt->thunk_site[thunk]];
}

// A thunk for each function, all of them passing through to the originals for now.
static mi_reason_t prepare_thunks(mi_crt_t *crt) {
    if (crt->thunk_set == MI_THUNK_SET_NONE)
        crt->thunk_set = mi_thunks_take();
    if (crt->thunk_set == MI_THUNK_SET_NONE)
        return MI_REASON_NO_THUNKS;
    crt->thunk_count = 0;
    for (uint32_t i = 0; i < crt->plan.site_count; i++) {
        const mi_plan_site_t *site = &crt->plan.sites[i];
        const mi_crt_fn_t fn = (mi_crt_fn_t)site->fn;
        if (!site->in_tables)
            continue;
        if (crt->thunk_count >= MI_THUNK_SET_COUNT)
            return MI_REASON_TOO_MANY;
        if (mi_fault("table-fill") ||
            !mi_thunks_fill(crt->thunk_set, crt->thunk_count, mi_crt_functions[fn].args, &crt->ctx,
                            mi_shim_target(crt, fn), (uintptr_t)crt->base + site->rva))
            return MI_REASON_NO_THUNKS;
        crt->thunk_site[crt->thunk_count++] = (uint8_t)i;
    }
    return MI_REASON_NONE;
}

// The thunk that stands for an address in the CRT; false = none.
static bool thunk_for(const mi_crt_t *crt, uintptr_t value, uint32_t *thunk) {
    const uintptr_t rva = value - (uintptr_t)crt->base;
    if (rva >= crt->image_bytes)
        return false;
    for (uint32_t i = 0; i < crt->thunk_count; i++)
        if (site_of(crt, i)->rva == rva) {
            *thunk = i;
            return true;
        }
    return false;
}

static bool collect_import(void *cell, uintptr_t value, void *arg) {
    collect_t *c = (collect_t *)arg;
    uint32_t i;
    if (!thunk_for(c->crt, value, &i))
        return true;
    c->is_good = mi_cells_add(
        c->cells, (mi_cell_t){cell, value, mi_thunks_address(c->crt->thunk_set, i), false});
    return c->is_good;
}

static bool collect_imports(mi_crt_t *crt, mi_cells_t *cells) {
    collect_t c = {crt, cells, true};
    for (const mi_nt_module_t *m = mi_modules_next(NULL); m != NULL && c.is_good;
         m = mi_modules_next(m))
        mi_modules_cells(m->base, collect_import, &c);
    return c.is_good;
}

// An export cell is a distance of 32 bits upwards from the CRT. Thunks that are farther away, or
// below the CRT, are reached over an island. It needs new code: false = the process forbids it, or
// there is no room.
static bool prepare_exports(mi_crt_t *crt) {
    const uintptr_t base = (uintptr_t)crt->base;
    const uintptr_t first = mi_thunks_address(crt->thunk_set, 0);
    const uintptr_t last = mi_thunks_address(crt->thunk_set, crt->thunk_count);
    const bool is_far = (first < base || last - base >= UINT32_MAX ||
                         mi_fault_by_name("table-far") || mi_fault_by_name("table-acg"));
    if (sizeof(void *) == 4 || !is_far)
        return true;
    mi_island_t *island = &crt->export_island;
    if (!mi_island_open_above(island, crt->base, crt->image_bytes, crt->thunk_count))
        return false;
    for (uint32_t i = 0; i < crt->thunk_count; i++) {
        uint8_t *slot = mi_island_slot(island);
        if (slot == NULL)
            break;
        mi_island_goto(slot, mi_thunks_address(crt->thunk_set, i));
    }
    if (!mi_fault_by_name("table-acg") && mi_island_seal(island))
        return true;
    mi_island_close(island);
    return false;
}

static bool collect_exports(mi_crt_t *crt, const mi_pe_t *pe, mi_cells_t *cells) {
    mi_pe_exports_t ex;
    if (!mi_pe_exports_open(pe, &ex))
        return true;
    for (uint32_t k = 0; k < ex.function_count; k++) {
        uint8_t *cell = (uint8_t *)(uintptr_t)ex.functions + (size_t)k * 4;
        const uint32_t rva = mi_pe_u32(cell);
        uint32_t i;
        if (!thunk_for(crt, (uintptr_t)crt->base + rva, &i))
            continue;
        const uintptr_t to = (crt->export_island.base != NULL
                                  ? (uintptr_t)crt->export_island.base + i * MI_ISLAND_BYTES
                                  : mi_thunks_address(crt->thunk_set, i));
        if (!mi_cells_add(cells,
                          (mi_cell_t){cell, rva, (uint32_t)(to - (uintptr_t)crt->base), true}))
            return false;
    }
    return true;
}

static bool switch_thunk(mi_crt_t *crt, uint32_t i, bool is_on) {
    const unsigned args = mi_crt_functions[site_of(crt, i)->fn].args;
    return mi_thunks_switch(crt->thunk_set, i, args, is_on);
}

static mi_crt_stage_t stage_of(const mi_crt_t *crt, uint32_t thunk) {
    return mi_crt_stage_of((mi_crt_fn_t)site_of(crt, thunk)->fn);
}

static bool switch_stage(mi_crt_t *crt, mi_crt_stage_t stage, bool is_on) {
    bool is_good = !(is_on && mi_fault("table-switch"));
    for (uint32_t i = 0; i < crt->thunk_count && is_good; i++)
        if (stage_of(crt, i) == stage)
            is_good = switch_thunk(crt, i, is_on);
    return is_good;
}

static bool prove(mi_crt_t *crt, uint32_t i) {
    return mi_proof_call(crt, site_of(crt, i), mi_thunks_address(crt->thunk_set, i));
}

// Until the last cell is written, every thunk passes through, so that the order of the cells does
// not matter. Then the functions that never return a new block are switched over in all modules at
// once, and proven; then those that resize; then those that make.
static mi_reason_t switch_all(mi_crt_t *crt) {
    for (mi_crt_stage_t stage = MI_CRT_STAGE_TAKES; stage < MI_CRT_STAGE_COUNT; stage++) {
        if (!switch_stage(crt, stage, true))
            return MI_REASON_TABLES_READ_ONLY;
        if (stage == MI_CRT_STAGE_MAKES)
            mi_fault_meet("proof");
        for (uint32_t i = 0; i < crt->thunk_count; i++)
            if (stage_of(crt, i) == stage && !prove(crt, i))
                return MI_REASON_PROOF_FAILED;
    }
    return MI_REASON_NONE;
}

// Like the retreat of the first rung: alone, everything is put back. Otherwise blocks may have been
// handed out, and addresses of thunks may have been fetched: the cells stay, the makers pass
// through again, and what takes a block stays with us as far as it is proven.
static mi_reason_t retreat(mi_crt_t *crt, const mi_cells_t *cells, bool was_alone,
                           mi_reason_t reason) {
    const char *const failed_name = crt->failed_name;
    bool is_back = true;
    was_alone &= mi_world_is_empty();
    for (uint32_t i = 0; i < crt->thunk_count; i++)
        if (was_alone || stage_of(crt, i) == MI_CRT_STAGE_MAKES || !prove(crt, i))
            is_back &= switch_thunk(crt, i, false);
    crt->failed_name = failed_name;
    if (!is_back)
        return MI_REASON_ROLLBACK_FAILED;
    if (!was_alone) {
        crt->keeps_takers = true;
        return reason;
    }
    return mi_cells_restore(cells) == MI_REASON_NONE ? reason : MI_REASON_ROLLBACK_FAILED;
}

static mi_reason_t commit(mi_crt_t *crt, const mi_cells_t *cells) {
    const mi_reason_t written = mi_cells_write(cells);
    if (written != MI_REASON_NONE)
        return written;
    // From the first maker on, an address that somebody has kept may free one of our blocks.
    mi_guard_install();
    const bool was_alone = mi_world_is_empty();
    const mi_reason_t reason = switch_all(crt);
    return reason == MI_REASON_NONE ? reason : retreat(crt, cells, was_alone, reason);
}

// Nothing leads to the thunks and the island any more.
static void forget(mi_crt_t *crt) {
    mi_island_close(&crt->export_island);
    mi_thunks_return(crt->thunk_set);
    crt->thunk_set = MI_THUNK_SET_NONE;
    crt->thunk_count = 0;
}

mi_reason_t mi_rung_tables(mi_crt_t *crt, const mi_pe_t *pe) {
    mi_cells_t cells;
    // What entry patches are left leads to the same replacements.
    mi_crt_find_originals(crt);
    crt->proof_count = 0;
    mi_reason_t reason = prepare_thunks(crt);
    if (reason == MI_REASON_NONE && !mi_cells_open(&cells))
        reason = MI_REASON_TOO_MANY;
    if (reason != MI_REASON_NONE) {
        forget(crt);
        return reason;
    }
    const bool is_alone = mi_world_is_empty();
    const bool has_exports = prepare_exports(crt);
    const bool is_collected = (!has_exports || collect_exports(crt, pe, &cells));
    crt->table_exports = (uint32_t)cells.count;
    reason =
        (is_collected && collect_imports(crt, &cells) ? commit(crt, &cells) : MI_REASON_TOO_MANY);
    crt->table_imports = (uint32_t)cells.count - crt->table_exports;
    mi_cells_close(&cells);
    if (reason != MI_REASON_NONE && reason != MI_REASON_ROLLBACK_FAILED && !crt->keeps_takers) {
        crt->table_imports = crt->table_exports = 0;
        if (is_alone && mi_world_is_empty())
            forget(crt);
        else // a thread may have fetched the address of a thunk: they go on to pass through
            crt->may_be_visited = true;
    }
    return reason;
}

mi_reason_t mi_rung_tables_pause(mi_crt_t *crt, bool is_paused) {
    return switch_stage(crt, MI_CRT_STAGE_MAKES, !is_paused) ? MI_REASON_NONE
                                                             : MI_REASON_TABLES_READ_ONLY;
}

void mi_rung_tables_sweep(void) {
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next)) {
        mi_cells_t cells;
        if (c->state != MI_CRT_REDIRECTED || c->rung != MI_RUNG_TABLES || !mi_cells_open(&cells))
            continue;
        if (collect_imports(c, &cells) && cells.count > 0 &&
            mi_cells_write(&cells) == MI_REASON_NONE)
            c->table_imports += (uint32_t)cells.count;
        mi_cells_close(&cells);
    }
}
