#include "redirect/rung_entry.h"
#include "redirect/crt_shims.h"
#include "redirect/faults.h"
#include "redirect/guard.h"
#include "redirect/proof.h"
#include "redirect/world.h"

// Does anybody call the original of this site?
static bool needs_original(const mi_crt_t *crt, const mi_plan_site_t *site) {
    return site->fn == MI_CRT_NEW || site->fn == MI_CRT_ALIGNED_MSIZE ||
           mi_crt_functions[site->fn].kind == MI_CRT_SURVEYS ||
           (crt->plan.is_debug && (site->flags & MI_CRT_DEBUG) != 0) ||
           (crt->plan.is_debug && site->fn == MI_CRT_ALIGNED_FREE);
}

static mi_reason_t prepare_original(mi_crt_t *crt, uint32_t index) {
    const mi_plan_site_t *site = &crt->plan.sites[index];
    const uint8_t *entry = crt->base + site->rva;
    uint8_t *slot = mi_island_slot(&crt->island);
    if (slot == NULL)
        return MI_REASON_NO_NEAR_MEMORY;
    if (mi_plan_move(crt->plan.cpu, entry, site->whole_bytes, (uintptr_t)entry, slot,
                     MI_ISLAND_BYTES, (uintptr_t)slot) != 0)
        crt->originals[index] = slot;
    else if (crt->plan.is_debug && site->fn != MI_CRT_NEW)
        return MI_REASON_NOT_RELOCATABLE; // the blocks of a debug heap would be lost
    return MI_REASON_NONE;
}

// What stands at the entry from now on. The shortest way that there is: straight to a function that
// knows the CRT, where that is near enough; else over an island.
static bool prepare_jump(mi_crt_t *crt, mi_crt_fn_t fn, mi_patch_t *patch) {
    const uintptr_t bound = mi_shim_bound(crt, fn);
    if (bound != 0 && !mi_fault_by_name("bound-far") &&
        mi_island_jump(patch->after, patch->at, (const uint8_t *)bound)) {
        crt->straight_count++;
        return true;
    }
    uint8_t *slot = mi_island_slot(&crt->island);
    if (slot == NULL)
        return false;
    if (bound != 0)
        mi_island_goto(slot, bound);
    else if (!mi_island_forward(slot, mi_crt_functions[fn].args, &crt->ctx,
                                mi_shim_target(crt, fn)))
        return false;
    return mi_island_jump(patch->after, patch->at, slot);
}

static mi_reason_t prepare_site(mi_crt_t *crt, uint32_t index) {
    const mi_plan_site_t *site = &crt->plan.sites[index];
    const mi_crt_fn_t fn = (mi_crt_fn_t)site->fn;
    mi_patch_t *patch = &crt->patches[crt->patch_count];
    patch->at = crt->base + site->rva;
    patch->bytes = site->patch_bytes;
    if (!prepare_jump(crt, fn, patch))
        return MI_REASON_NO_NEAR_MEMORY;
    memcpy(patch->before, patch->at, patch->bytes);
    crt->patch_site[crt->patch_count++] = (uint8_t)index;
    return needs_original(crt, site) ? prepare_original(crt, index) : MI_REASON_NONE;
}

static mi_reason_t prepare_stage(mi_crt_t *crt, mi_crt_stage_t stage) {
    for (uint32_t i = 0; i < crt->plan.site_count; i++) {
        const mi_plan_site_t *site = &crt->plan.sites[i];
        if (site->verdict != MI_SITE_PATCH || mi_crt_stage_of((mi_crt_fn_t)site->fn) != stage)
            continue;
        const mi_reason_t reason = prepare_site(crt, i);
        if (reason != MI_REASON_NONE) {
            crt->failed_name = site->name;
            return reason;
        }
    }
    return MI_REASON_NONE;
}

static mi_reason_t prepare_all(mi_crt_t *crt) {
    if (!mi_island_open(&crt->island, crt->base, crt->image_bytes, 2u * crt->plan.patch_count))
        return MI_REASON_NO_NEAR_MEMORY;
    mi_shim_bind(crt);
    for (mi_crt_stage_t stage = MI_CRT_STAGE_TAKES; stage < MI_CRT_STAGE_COUNT; stage++) {
        const mi_reason_t reason = prepare_stage(crt, stage);
        if (reason != MI_REASON_NONE)
            return reason;
        if (stage == MI_CRT_STAGE_TAKES)
            crt->taker_count = crt->patch_count;
    }
    mi_crt_find_originals(crt);
    return !mi_fault("island-seal") && mi_island_seal(&crt->island) ? MI_REASON_NONE
                                                                    : MI_REASON_DYNAMIC_CODE;
}

static bool prove_patch(mi_crt_t *crt, uint32_t k) {
    return mi_proof_call(crt, &crt->plan.sites[crt->patch_site[k]], (uintptr_t)crt->patches[k].at);
}

static bool prove_patches(mi_crt_t *crt, uint32_t first, uint32_t end) {
    for (uint32_t k = first; k < end; k++)
        if (!prove_patch(crt, k))
            return false;
    return true;
}

static mi_crt_stage_t stage_of_patch(const mi_crt_t *crt, uint32_t k) {
    return mi_crt_stage_of((mi_crt_fn_t)crt->plan.sites[crt->patch_site[k]].fn);
}

// The proof of a function that makes blocks failed while every thread could call it. If there is no
// other thread, nothing was handed out, and everything is put back. Else the makers are put back,
// and the functions that take a block stay as far as they are proven: what was handed out comes
// home.
static mi_reason_t retreat(mi_crt_t *crt, bool was_alone) {
    static mi_patch_t back[MI_PLAN_SITES_MAX]; // loader lock
    const char *const failed_name = crt->failed_name;
    uint32_t count = 0;
    for (uint32_t k = crt->taker_count; k < crt->patch_count; k++)
        if (stage_of_patch(crt, k) == MI_CRT_STAGE_MAKES || !prove_patch(crt, k))
            back[count++] = crt->patches[k];
    crt->failed_name = failed_name;
    if (mi_patch_undo(back, count) != MI_REASON_NONE)
        return MI_REASON_ROLLBACK_FAILED;
    if (was_alone && mi_world_is_empty())
        return mi_patch_undo(crt->patches, crt->patch_count) == MI_REASON_NONE
                   ? MI_REASON_PROOF_FAILED
                   : MI_REASON_ROLLBACK_FAILED;
    crt->keeps_takers = true;
    return MI_REASON_PROOF_FAILED;
}

// Whether there are other threads is found out in the very moment in which nobody but this one
// runs: a look of its own before it would cost four calls of the system, and be true only then.
static mi_reason_t commit_makers(mi_crt_t *crt, bool *was_alone) {
    const mi_patch_t *const makers = crt->patches + crt->taker_count;
    const uint32_t count = crt->patch_count - crt->taker_count;
    if (*was_alone) {
        const mi_reason_t reason = mi_patch_apply_alone(makers, count, was_alone);
        if (reason != MI_REASON_NONE || *was_alone)
            return reason;
    }
    // From the first maker on, a CRT that is not redirected yet may hand a block of ours to
    // HeapFree.
    mi_guard_install();
    return mi_patch_apply(makers, count, NULL);
}

// First the functions that never return a new block: until they are proven, nothing of ours can be
// in the hands of others.
static mi_reason_t commit(mi_crt_t *crt) {
    const uint32_t takers = crt->taker_count;
    bool was_alone;
    mi_reason_t reason = mi_patch_apply(crt->patches, takers, &was_alone);
    if (reason != MI_REASON_NONE)
        return reason;
    if (prove_patches(crt, 0, takers)) {
        mi_fault_meet("stops");
        reason = commit_makers(crt, &was_alone);
    } else {
        reason = MI_REASON_PROOF_FAILED;
    }
    if (reason != MI_REASON_NONE)
        return mi_patch_undo(crt->patches, takers) == MI_REASON_NONE ? reason
                                                                     : MI_REASON_ROLLBACK_FAILED;
    mi_fault_meet("proof");
    return prove_patches(crt, takers, crt->patch_count) ? MI_REASON_NONE : retreat(crt, was_alone);
}

mi_reason_t mi_rung_entry(mi_crt_t *crt) {
    mi_reason_t reason = prepare_all(crt);
    if (reason != MI_REASON_NONE) {
        mi_island_close(&crt->island); // nobody has seen it
        crt->patch_count = 0;
        return reason;
    }
    reason = commit(crt);
    // After a proof that failed a thread may still be inside an island: it stays.
    crt->may_be_visited |= (reason != MI_REASON_NONE && !mi_world_is_empty());
    if (reason != MI_REASON_NONE && reason != MI_REASON_ROLLBACK_FAILED && !crt->keeps_takers)
        crt->patch_count = 0;
    return reason;
}

mi_reason_t mi_rung_entry_pause(mi_crt_t *crt, bool is_paused) {
    static mi_patch_t makes[MI_PLAN_SITES_MAX]; // loader lock
    uint32_t count = 0;
    for (uint32_t k = 0; k < crt->patch_count; k++)
        if (stage_of_patch(crt, k) == MI_CRT_STAGE_MAKES)
            makes[count++] = crt->patches[k];
    return is_paused ? mi_patch_undo(makes, count) : mi_patch_apply(makes, count, NULL);
}
