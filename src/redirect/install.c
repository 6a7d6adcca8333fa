#include "redirect/install.h"
#include "redirect/allocator.h"
#include "redirect/crt_foreign.h"
#include "redirect/crt_shims.h"
#include "redirect/debug_heap.h"
#include "redirect/proof.h"
#include "redirect/report.h"
#include "redirect/settings.h"

// The site whose code a name stands for, or NULL.
static const mi_plan_site_t *site_of(const mi_crt_t *crt, const char *name) {
    const mi_plan_t *plan = &crt->plan;
    uint32_t rva = 0;
    for (uint32_t i = 0; i < plan->site_count; i++)
        if (mi_str_eq(plan->sites[i].name, name) && plan->sites[i].verdict != MI_SITE_FORWARDED)
            rva = plan->sites[i].rva;
    const mi_plan_site_t *found = NULL;
    for (uint32_t i = 0; i < plan->site_count && rva != 0; i++)
        if (plan->sites[i].rva == rva && plan->sites[i].verdict != MI_SITE_ALIAS)
            found = &plan->sites[i];
    // An entry that is only a jump to an unexported function, which is patched as well: the code is
    // there.
    for (uint32_t i = 0; i < plan->site_count && found != NULL; i++)
        if (plan->sites[i].is_derived && plan->sites[i].name == found->name &&
            plan->sites[i].verdict == MI_SITE_PATCH)
            return &plan->sites[i];
    return found;
}

// Where the original of a function can still be called: its moved beginning, or the function if it
// is not patched.
static uintptr_t original_of(const mi_crt_t *crt, const char *name) {
    const mi_plan_site_t *site = site_of(crt, name);
    if (site == NULL)
        return 0;
    if (site->verdict != MI_SITE_PATCH)
        return (uintptr_t)crt->base + site->rva;
    return (uintptr_t)crt->originals[site - crt->plan.sites];
}

static void find_originals(mi_crt_t *crt) {
    mi_crt_helpers_t *own = &crt->own;
    own->new_original = (void *(*)(size_t))original_of(crt, sizeof(void *) == 8 ? "?\?2@YAPEAX_K@Z"
                                                                                : "?\?2@YAPAXI@Z");
    own->aligned_msize = (size_t(*)(void *, size_t, size_t))original_of(crt, "_aligned_msize");
    if (!crt->plan.is_debug)
        return;
    own->free_dbg = (void (*)(void *, int))original_of(crt, "_free_dbg");
    own->msize_dbg = (size_t(*)(void *, int))original_of(crt, "_msize_dbg");
    own->aligned_free_dbg = (void (*)(void *))original_of(crt, "_aligned_free_dbg");
    if (own->aligned_free_dbg == NULL)
        own->aligned_free_dbg = (void (*)(void *))original_of(crt, "_aligned_free");
    own->is_valid_heap_pointer = (int (*)(const void *))original_of(crt, "_CrtIsValidHeapPointer");
    own->report_block_type = (int (*)(const void *))original_of(crt, "_CrtReportBlockType");
    own->is_memory_block = (int (*)(const void *, unsigned, long *, char **, int *))original_of(
        crt, "_CrtIsMemoryBlock");
    own->set_block_type = (void (*)(void *, int))original_of(crt, "_CrtSetDbgBlockType");
    own->malloc_dbg = (void *(*)(size_t, int, const char *, int))original_of(crt, "_malloc_dbg");
    own->check_memory = (int (*)(void))original_of(crt, "_CrtCheckMemory");
    own->dump_leaks = (int (*)(void))original_of(crt, "_CrtDumpMemoryLeaks");
    own->checkpoint = (void (*)(mi_crt_mem_state_t *))original_of(crt, "_CrtMemCheckpoint");
    own->dump_since =
        (void (*)(const mi_crt_mem_state_t *))original_of(crt, "_CrtMemDumpAllObjectsSince");
    own->for_all_clients =
        (void (*)(void (*)(void *, void *), void *))original_of(crt, "_CrtDoForAllClientObjects");
}

// Does anybody call the original of this site?
static bool needs_original(const mi_crt_t *crt, const mi_plan_site_t *site) {
    return site->fn == MI_CRT_NEW || site->fn == MI_CRT_ALIGNED_MSIZE ||
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

static mi_reason_t prepare_site(mi_crt_t *crt, uint32_t index) {
    const mi_plan_site_t *site = &crt->plan.sites[index];
    const mi_crt_fn_t fn = (mi_crt_fn_t)site->fn;
    mi_patch_t *patch = &crt->patches[crt->patch_count];
    uint8_t *slot = mi_island_slot(&crt->island);
    patch->at = crt->base + site->rva;
    patch->bytes = site->patch_bytes;
    if (slot == NULL ||
        !mi_island_forward(slot, mi_crt_functions[fn].args, &crt->ctx, mi_shim_target(crt, fn)) ||
        !mi_island_jump(patch->after, patch->at, slot))
        return MI_REASON_NO_NEAR_MEMORY;
    memcpy(patch->before, patch->at, patch->bytes);
    crt->patch_count++;
    return needs_original(crt, site) ? prepare_original(crt, index) : MI_REASON_NONE;
}

static mi_reason_t install_prepare(mi_crt_t *crt) {
    if (!mi_island_open(&crt->island, crt->base, crt->image_bytes, 2u * crt->plan.patch_count))
        return MI_REASON_NO_NEAR_MEMORY;
    for (uint32_t i = 0; i < crt->plan.site_count; i++) {
        if (crt->plan.sites[i].verdict != MI_SITE_PATCH)
            continue;
        const mi_reason_t reason = prepare_site(crt, i);
        if (reason != MI_REASON_NONE) {
            crt->failed_name = crt->plan.sites[i].name;
            return reason;
        }
    }
    find_originals(crt);
    return mi_island_seal(&crt->island) ? MI_REASON_NONE : MI_REASON_DYNAMIC_CODE;
}

static mi_reason_t install_plan(mi_crt_t *crt, const mi_pe_t *pe) {
    (void)mi_plan_make(pe, &crt->plan);
    if (crt->plan.reason != MI_REASON_NONE && crt->plan.site_count > 0)
        crt->failed_name = crt->plan.sites[crt->plan.reason_site].name;
    if (crt->plan.reason == MI_REASON_NONE && crt->plan.is_debug && !mi_settings()->is_debug_crt_on)
        return MI_REASON_DEBUG_LEFT_ALONE;
    crt->is_tracked = (crt->plan.is_debug && mi_alloc.debug_opt != NULL);
    return crt->plan.reason;
}

static mi_reason_t install_transaction(mi_crt_t *crt, const mi_pe_t *pe) {
    mi_reason_t reason = install_plan(crt, pe);
    if (reason != MI_REASON_NONE)
        return reason;
    reason = install_prepare(crt);
    if (reason == MI_REASON_NONE)
        reason = mi_patch_apply(crt->patches, crt->patch_count);
    if (reason == MI_REASON_NONE && !mi_proof_run(crt)) {
        const mi_reason_t undone = mi_patch_undo(crt->patches, crt->patch_count);
        reason = (undone == MI_REASON_NONE ? MI_REASON_PROOF_FAILED : MI_REASON_ROLLBACK_FAILED);
    }
    if (reason != MI_REASON_NONE && reason != MI_REASON_ROLLBACK_FAILED &&
        reason != MI_REASON_PROOF_FAILED)
        mi_island_close(&crt->island); // nobody has seen it: no thread can be inside
    return reason;
}

static void crt_describe(mi_crt_t *crt, uint8_t *base, const mi_nt_string_t *name,
                         const mi_pe_t *pe) {
    crt->ctx =
        (mi_crt_ctx_t){mi_foreign_no_memory, mi_foreign_free, mi_foreign_realloc, mi_foreign_msize};
    crt->base = base;
    crt->image_bytes = pe->image_bytes;
    crt->module_opt = mi_modules_of(base);
    mi_store_relaxed(&crt->was_attached, false);
    crt->is_late = mi_crt_is_attached(crt);
    crt->patch_count = 0;
    crt->proof_count = 0;
    crt->failed_name = NULL;
    crt->is_tracked = false;
    crt->note = MI_REASON_NONE;
    crt->own = (mi_crt_helpers_t){0};
    mi_island_close(&crt->island); // of the CRT that had this object before, and has gone
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

// From now on code points at us: neither DLL may ever go.
static void pin(void) {
    static bool is_pinned;
    static const uint8_t here;
    const mi_nt_module_t *self = mi_modules_of(&here);
    if (is_pinned || self == NULL)
        return;
    is_pinned = true;
    (void)LdrAddRefDll(1, self->base);
    (void)LdrAddRefDll(1, mi_alloc.module);
}

// What a debug CRT keeps of its meaning, and what not.
static void begin_debug_heap(mi_crt_t *crt) {
    if (crt->is_tracked) {
        mi_debug_heap_begin(crt);
    } else if (crt->plan.is_debug) {
        crt->note = MI_REASON_DEBUG_HEAP_LOST;
        mi_report_debug_heap_lost(crt);
    }
}

void mi_install_loaded(uint8_t *base, const mi_nt_string_t *name) {
    mi_pe_t pe;
    if (!mi_pe_open_module(&pe, base) || !mi_plan_is_crt(&pe) || mi_crt_at(base) != NULL)
        return;
    mi_crt_t *crt = mi_crt_new();
    if (crt == NULL)
        return;
    crt_describe(crt, base, name, &pe);
    crt->reason = install_transaction(crt, &pe);
    crt->state = (crt->reason == MI_REASON_NONE ? MI_CRT_REDIRECTED : MI_CRT_REFUSED);
    if (crt->state == MI_CRT_REDIRECTED) {
        pin();
        begin_debug_heap(crt);
    }
    mi_report_crt(crt);
}

void mi_install_all(void) {
    for (const mi_nt_module_t *m = mi_modules_next(NULL); m != NULL; m = mi_modules_next(m))
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

bool mi_install_is_active(void) {
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next))
        if (c->state == MI_CRT_REDIRECTED && c->reason == MI_REASON_NONE)
            return true;
    return false;
}

static void pause_crt(mi_crt_t *crt, bool is_paused) {
    static mi_patch_t makes[MI_PLAN_SITES_MAX]; // loader lock
    uint32_t count = 0, k = 0;
    for (uint32_t i = 0; i < crt->plan.site_count; i++) {
        const mi_plan_site_t *site = &crt->plan.sites[i];
        if (site->verdict != MI_SITE_PATCH)
            continue;
        if (mi_crt_functions[site->fn].kind == MI_CRT_MAKES)
            makes[count++] = crt->patches[k];
        k++;
    }
    const mi_reason_t reason =
        (is_paused ? mi_patch_undo(makes, count) : mi_patch_apply(makes, count));
    crt->reason = (reason != MI_REASON_NONE ? reason
                   : is_paused              ? MI_REASON_REMOVED
                                            : MI_REASON_NONE);
    mi_report_crt(crt);
}

void mi_install_pause(bool is_paused) {
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next)) {
        const bool is_now = (c->reason == MI_REASON_REMOVED);
        if (c->state == MI_CRT_REDIRECTED && is_now != is_paused)
            pause_crt(c, is_paused);
    }
}
