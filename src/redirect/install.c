#include "redirect/install.h"
#include "redirect/allocator.h"
#include "redirect/crt_foreign.h"
#include "redirect/debug_heap.h"
#include "redirect/report.h"
#include "redirect/roll.h"
#include "redirect/rung_entry.h"
#include "redirect/rung_tables.h"
#include "redirect/settings.h"

static bool is_switched_off; // mi_install_pause; whoever comes later is paused at once. Loader lock

static mi_reason_t install_plan(mi_crt_t *crt, const mi_pe_t *pe) {
    (void)mi_plan_make(pe, &crt->plan);
    if (crt->plan.reason != MI_REASON_NONE && crt->plan.site_count > 0)
        crt->failed_name = crt->plan.sites[crt->plan.reason_site].name;
    if (crt->plan.reason == MI_REASON_NONE && crt->plan.is_debug && !mi_settings()->is_debug_crt_on)
        return MI_REASON_DEBUG_LEFT_ALONE;
    crt->is_tracked = (crt->plan.is_debug && mi_alloc.debug_opt != NULL);
    return crt->plan.reason;
}

// Down the ladder, until a rung holds.
//
//   entries  --- refused, forbidden, lost, not proven --->  tables  --- the same --->  left alone
static void install_ladder(mi_crt_t *crt, const mi_pe_t *pe) {
    const mi_rungs_t rungs = mi_settings()->rungs;
    crt->entry_reason = crt->tables_reason = MI_REASON_NONE;
    crt->rung = MI_RUNG_NONE;
    mi_reason_t reason = install_plan(crt, pe);
    if (rungs == MI_RUNGS_NONE && (reason == MI_REASON_NONE || mi_reason_has_next_rung(reason)))
        reason = MI_REASON_RUNG_NONE;
    if (reason == MI_REASON_NONE && rungs != MI_RUNGS_TABLES) {
        reason = mi_rung_entry(crt);
        if (reason == MI_REASON_NONE)
            crt->rung = MI_RUNG_ENTRY;
    }
    crt->entry_reason = reason;
    const bool may_fall = (reason == MI_REASON_NONE || mi_reason_has_next_rung(reason)) &&
                          crt->plan.table_count > 0 && rungs != MI_RUNGS_ENTRY;
    if (crt->rung == MI_RUNG_NONE && may_fall) {
        const char *const failed_name = crt->failed_name;
        crt->tables_reason = mi_rung_tables(crt, pe);
        if (crt->tables_reason == MI_REASON_NONE)
            crt->rung = MI_RUNG_TABLES;
        if (failed_name != NULL)
            crt->failed_name = failed_name;
    }
    crt->reason = (crt->rung != MI_RUNG_NONE             ? MI_REASON_NONE
                   : crt->entry_reason != MI_REASON_NONE ? crt->entry_reason
                                                         : crt->tables_reason);
}

static void crt_describe(mi_crt_t *crt, uint8_t *base, const mi_nt_string_t *name,
                         const mi_pe_t *pe) {
    crt->ctx =
        (mi_crt_ctx_t){mi_foreign_no_memory, mi_foreign_free, mi_foreign_realloc, mi_foreign_msize};
    crt->base = base;
    crt->image_bytes = pe->image_bytes;
    crt->time_stamp = pe->time_stamp;
    crt->module_opt = mi_modules_of(base);
    mi_store_relaxed(&crt->was_attached, false);
    crt->is_late = mi_crt_is_attached(crt);
    crt->patch_count = crt->taker_count = crt->straight_count = 0;
    crt->thunk_count = 0;
    crt->table_imports = crt->table_exports = 0;
    crt->keeps_takers = crt->may_be_visited = false;
    crt->proof_count = 0;
    crt->failed_name = NULL;
    crt->is_tracked = false;
    crt->note = MI_REASON_NONE;
    crt->own = (mi_crt_helpers_t){0};
    mi_island_close(&crt->island); // of the CRT that had this object before, and has gone
    mi_island_close(&crt->export_island);
    memset(crt->originals, 0, sizeof(crt->originals));
    mi_module_name(name, crt->name, sizeof(crt->name));
    if (!mi_pe_file_version(pe, &crt->version))
        crt->version = (mi_pe_version_t){{0}};
    mi_store_relaxed(&crt->foreign_frees, 0);
    mi_store_relaxed(&crt->foreign_reallocs, 0);
    mi_store_relaxed(&crt->foreign_sizes, 0);
    mi_store_relaxed(&crt->unknown_pointers, 0);
    mi_crt_find_helpers(crt);
}

// What a debug CRT has lost with an allocator that keeps no books.
static mi_reason_t lasting_note(const mi_crt_t *crt) {
    return crt->plan.is_debug && !crt->is_tracked ? MI_REASON_DEBUG_HEAP_LOST : MI_REASON_NONE;
}

// What a debug CRT keeps of its meaning, and what not.
static void begin_debug_heap(mi_crt_t *crt) {
    crt->note = lasting_note(crt);
    if (crt->is_tracked)
        mi_debug_heap_begin(crt);
    else if (crt->note != MI_REASON_NONE)
        mi_report_debug_heap_lost(crt);
}

// Is the image that we redirected no longer there? Not every departure is told: a module that was
// mapped with DONT_RESOLVE_DLL_REFERENCES goes without a word under Wine.
static bool has_gone(const mi_crt_t *crt) {
    mi_pe_t pe;
    if (crt->state != MI_CRT_REDIRECTED && crt->state != MI_CRT_REFUSED)
        return false;
    if (!mi_module_is_mapped(crt->base))
        return true;
    if (!mi_module_open(&pe, crt->base))
        return false; // it hides its headers
    return pe.image_bytes != crt->image_bytes || pe.time_stamp != crt->time_stamp;
}

// Do we know the module that is said to have come? The same file may have been mapped anew in the
// same place.
static bool is_known(const uint8_t *base) {
    const mi_crt_t *crt = mi_crt_at(base);
    if (crt == NULL)
        return false;
    if (crt->base != base || !mi_crt_is_engaged(crt) || crt->patch_count == 0 ||
        mi_patch_is_anything_left(crt->patches, crt->patch_count))
        return true;
    mi_install_unloaded(base);
    return false;
}

void mi_install_forget_gone(void) {
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next))
        if (has_gone(c))
            mi_install_unloaded(c->base);
}

static void crt_pause(mi_crt_t *crt, bool is_paused) {
    const mi_reason_t failed = (crt->rung == MI_RUNG_TABLES ? mi_rung_tables_pause(crt, is_paused)
                                                            : mi_rung_entry_pause(crt, is_paused));
    if (failed == MI_REASON_NONE)
        crt->reason = (is_paused ? MI_REASON_REMOVED : MI_REASON_NONE);
    crt->note = (failed != MI_REASON_NONE ? failed : lasting_note(crt));
}

void mi_install_loaded(uint8_t *base, const mi_nt_string_t *name) {
    mi_pe_t pe;
    if (!mi_module_open(&pe, base) || !mi_plan_is_crt(&pe) || is_known(base))
        return;
    mi_crt_t *crt = mi_crt_new();
    if (crt == NULL)
        return;
    crt_describe(crt, base, name, &pe);
    install_ladder(crt, &pe);
    crt->state = (crt->reason == MI_REASON_NONE ? MI_CRT_REDIRECTED : MI_CRT_REFUSED);
    if (mi_crt_is_engaged(crt) || crt->may_be_visited || crt->reason == MI_REASON_ROLLBACK_FAILED)
        mi_allocator_pin();
    if (crt->state == MI_CRT_REDIRECTED)
        begin_debug_heap(crt);
    // Redirected all the same: blocks of ours may come to it from other CRTs.
    if (crt->state == MI_CRT_REDIRECTED && is_switched_off)
        crt_pause(crt, true);
    mi_report_crt(crt);
}

void mi_install_all(void) {
    for (const mi_nt_module_t *m = mi_roll_next(NULL); m != NULL; m = mi_roll_next(m))
        mi_install_loaded(m->base, &m->base_name);
}

void mi_install_unloaded(const uint8_t *base) {
    mi_crt_t *crt = mi_crt_at(base);
    if (crt == NULL || crt->base != base)
        return;
    crt->state = MI_CRT_UNLOADED;
    mi_store_relaxed(&crt->was_attached, false);
    crt->reason = MI_REASON_UNLOADED;
    crt->module_opt = NULL;
    crt->own = (mi_crt_helpers_t){0};
    if (crt->is_tracked)
        mi_alloc.debug_opt->forget(&crt->debug_owner);
    // Its islands stay until the object is used again: its own code goes away only after this
    // notification.
    mi_report_crt(crt);
}

bool mi_install_is_engaged(void) {
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next))
        if (mi_crt_is_engaged(c))
            return true;
    return false;
}

bool mi_install_is_active(void) {
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next))
        if (c->state == MI_CRT_REDIRECTED && c->reason == MI_REASON_NONE)
            return true;
    return false;
}

void mi_install_pause(bool is_paused) {
    is_switched_off = is_paused;
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next)) {
        const bool is_now = (c->reason == MI_REASON_REMOVED);
        if (c->state != MI_CRT_REDIRECTED || is_now == is_paused)
            continue;
        crt_pause(c, is_paused);
        mi_report_crt(c);
    }
}
