#include "redirect/com.h"
#include "redirect/allocator.h"
#include "redirect/com_malloc.h"
#include "redirect/faults.h"
#include "redirect/guard.h"
#include "redirect/report.h"
#include "redirect/roll.h"
#include "redirect/settings.h"

static mi_com_state_t state = {.reason = MI_REASON_COM_OFF};
static mi_plan_t plan;
static mi_patch_t patches[MI_COM_FN_COUNT];
static mi_com_fn_t patch_fn[MI_COM_FN_COUNT]; // whose they are
static mi_island_t island;
static bool is_island_used; // a thread may still be inside, although the owner stays

const mi_com_state_t *mi_com_state(void) {
    return &state;
}

void mi_com_prepare(mi_crt_ctx_t *ctx) {
    mi_com_malloc_prepare(ctx);
    if (mi_settings()->is_com_on)
        state.reason = MI_REASON_COM_ABSENT;
}

// One entry: the jump, over an island where the replacement is far away, and the moved beginning.
static mi_reason_t prepare(const mi_pe_t *pe, const mi_plan_site_t *site) {
    const mi_com_fn_t fn = (mi_com_fn_t)site->fn;
    mi_patch_t *patch = &patches[state.patch_count];
    uint8_t *slot = mi_island_slot(&island), *moved = mi_island_slot(&island);
    patch->at = (uint8_t *)(uintptr_t)pe->bytes + site->rva;
    patch->bytes = site->patch_bytes;
    if (slot == NULL || moved == NULL)
        return MI_REASON_NO_NEAR_MEMORY;
    if (mi_plan_move(plan.cpu, patch->at, site->whole_bytes, (uintptr_t)patch->at, moved,
                     MI_ISLAND_BYTES, (uintptr_t)moved) == 0)
        return MI_REASON_NOT_RELOCATABLE;
    mi_island_goto(slot, mi_com_malloc_target(fn));
    if (!mi_island_jump(patch->after, patch->at, slot))
        return MI_REASON_NO_NEAR_MEMORY;
    memcpy(patch->before, patch->at, patch->bytes);
    mi_com_malloc_set_original(fn, (uintptr_t)moved);
    patch_fn[state.patch_count++] = fn;
    return MI_REASON_NONE;
}

static mi_reason_t prepare_all(const mi_pe_t *pe) {
    if (!is_island_used)
        mi_island_close(&island); // of an owner that has gone
    is_island_used = false;
    if (mi_fault_by_name("com-island") ||
        !mi_island_open(&island, pe->bytes, pe->image_bytes, 2u * MI_COM_FN_COUNT))
        return MI_REASON_NO_NEAR_MEMORY;
    for (uint32_t i = 0; i < plan.site_count; i++) {
        const mi_plan_site_t *site = &plan.sites[i];
        const mi_reason_t reason =
            (site->verdict == MI_SITE_PATCH ? prepare(pe, site) : MI_REASON_NONE);
        if (reason != MI_REASON_NONE) {
            state.failed_name = site->name;
            return reason;
        }
    }
    return mi_island_seal(&island) ? MI_REASON_NONE : MI_REASON_DYNAMIC_CODE;
}

static bool prove(void) {
    for (uint32_t i = 0; i < state.patch_count; i++) {
        if (mi_fault_by_name("com-proof") ||
            !mi_com_malloc_prove(patch_fn[i], (uintptr_t)patches[i].at)) {
            state.failed_name = mi_com_names[patch_fn[i]];
            return false;
        }
        state.proof_count++;
    }
    return true;
}

// All entries are written while nobody else runs. What a thread got from us before a proof failed
// is known to the guard: everything can be put back. The island stays then, somebody may be in it.
static mi_reason_t commit(void) {
    const mi_reason_t reason =
        (mi_fault_by_name("com-patch") ? MI_REASON_PROTECT_FAILED
                                       : mi_patch_apply(patches, state.patch_count, NULL));
    if (reason != MI_REASON_NONE)
        return reason;
    mi_allocator_pin();
    if (prove())
        return MI_REASON_NONE;
    return mi_patch_undo(patches, state.patch_count) == MI_REASON_NONE ? MI_REASON_PROOF_FAILED
                                                                       : MI_REASON_ROLLBACK_FAILED;
}

static void forget_originals(void) {
    for (mi_com_fn_t fn = 0; fn < MI_COM_FN_COUNT; fn++)
        mi_com_malloc_set_original(fn, 0);
}

static mi_reason_t install(const mi_pe_t *pe) {
    const mi_rungs_t rungs = mi_settings()->rungs;
    if (rungs == MI_RUNGS_TABLES || rungs == MI_RUNGS_NONE)
        return MI_REASON_RUNG_NONE; // this family has no other
    if (!mi_com_plan_make(pe, &plan)) {
        if (plan.reason_site < plan.site_count)
            state.failed_name = plan.sites[plan.reason_site].name;
        return plan.reason;
    }
    mi_guard_install();
    if (mi_report_state.guard_reason != MI_REASON_NONE)
        return MI_REASON_COM_NEEDS_GUARD;
    mi_reason_t reason = prepare_all(pe);
    if (reason == MI_REASON_NONE)
        reason = commit();
    is_island_used = (reason == MI_REASON_PROOF_FAILED || reason == MI_REASON_ROLLBACK_FAILED);
    if (reason != MI_REASON_NONE && !is_island_used) {
        forget_originals();
        mi_island_close(&island); // nobody has seen it
    }
    return reason;
}

// Not every departure is told: see install.c.
void mi_com_forget_gone(void) {
    if (state.base != NULL && !mi_module_is_mapped(state.base))
        mi_com_unloaded(state.base);
}

// Do we know the module that is said to have come? The same file may have been mapped anew in the
// same place.
static bool is_known(const uint8_t *base) {
    if (base != state.base)
        return false;
    if (state.phase != MI_COM_REDIRECTED || mi_patch_is_anything_left(patches, state.patch_count))
        return true;
    mi_com_unloaded(base);
    return false;
}

void mi_com_loaded(uint8_t *base, const mi_nt_string_t *name) {
    mi_pe_t pe;
    if (!mi_settings()->is_com_on || !mi_module_open(&pe, base) || !mi_com_is_owner(&pe) ||
        is_known(base))
        return;
    char text[64];
    mi_module_name(name, text, sizeof(text));
    if (state.phase == MI_COM_REDIRECTED) {
        mi_report_reason(text, MI_REASON_COM_SECOND);
        return;
    }
    const mi_nt_module_t *const m = mi_modules_of(base);
    state = (mi_com_state_t){.base = base};
    memcpy(state.name, text, sizeof(text));
    state.is_late = (m != NULL && (m->flags & MI_NT_MODULE_ATTACHED) != 0);
    if (!mi_pe_file_version(&pe, &state.version))
        state.version = (mi_pe_version_t){{0}};
    state.reason = install(&pe);
    state.phase = (state.reason == MI_REASON_NONE ? MI_COM_REDIRECTED : MI_COM_LEFT_ALONE);
    if (state.phase == MI_COM_LEFT_ALONE && state.reason != MI_REASON_ROLLBACK_FAILED)
        state.patch_count = 0;
    if (state.phase == MI_COM_REDIRECTED && mi_com_malloc_stands_back(MI_COM_PAUSED))
        state.reason = MI_REASON_REMOVED;
    mi_report_com();
}

void mi_com_install_all(void) {
    if (!mi_settings()->is_com_on)
        return;
    for (const mi_nt_module_t *m = mi_roll_next(NULL); m != NULL; m = mi_roll_next(m))
        mi_com_loaded(m->base, &m->base_name);
}

void mi_com_unloaded(const uint8_t *base) {
    if (state.base != base || base == NULL)
        return;
    state.base = NULL;
    state.phase = MI_COM_GONE;
    state.reason = MI_REASON_UNLOADED;
    // Its spy has gone with it. The island stays until the next owner comes.
    mi_com_malloc_stand_back(MI_COM_SPIED, false);
    forget_originals();
    mi_report_com();
}

void mi_com_pause(bool is_paused) {
    mi_com_malloc_stand_back(MI_COM_PAUSED, is_paused);
    if (state.phase != MI_COM_REDIRECTED)
        return;
    state.reason = (is_paused ? MI_REASON_REMOVED : MI_REASON_NONE);
    mi_report_com();
}
