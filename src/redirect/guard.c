#include "redirect/guard.h"
#include "pe/plan.h"
#include "redirect/allocator.h"
#include "redirect/crt_shims.h"
#include "redirect/faults.h"
#include "redirect/patch.h"
#include "redirect/proof.h"
#include "redirect/report.h"
#include "redirect/settings.h"

enum { GUARDED = 4 };

static BOOLEAN(NTAPI *original_free)(void *heap, ULONG flags, void *p);
static SIZE_T(NTAPI *original_size)(void *heap, ULONG flags, const void *p);
static void *(NTAPI *original_realloc)(void *heap, ULONG flags, void *p, SIZE_T size);
static BOOLEAN(NTAPI *original_validate)(void *heap, ULONG flags, const void *p);

static mi_crt_ctx_t *guard_ctx;
static mi_plan_t ntdll_plan; // no sites, only what mi_plan_judge needs
static mi_patch_t patches[GUARDED];
static mi_island_t island;

static void answered(void) {
    mi_fetch_add_relaxed(&mi_report_state.guarded_calls, 1);
}

static BOOLEAN NTAPI guard_free(void *heap, ULONG flags, void *p) {
    if (MI_LIKELY(p == NULL || !mi_alloc.is_ours(p)))
        return original_free(heap, flags, p);
    answered();
    mi_alloc.free(p);
    return TRUE;
}

static SIZE_T NTAPI guard_size(void *heap, ULONG flags, const void *p) {
    if (MI_LIKELY(p == NULL || !mi_alloc.is_ours(p)))
        return original_size(heap, flags, p);
    answered();
    return mi_alloc.usable_size(p);
}

static void *NTAPI guard_realloc(void *heap, ULONG flags, void *p, SIZE_T size) {
    if (MI_LIKELY(p == NULL || !mi_alloc.is_ours(p)))
        return original_realloc(heap, flags, p, size);
    answered();
    const size_t before = mi_alloc.usable_size(p);
    const size_t bytes = (size == 0 ? 1 : size); // the heap functions do not free here
    void *q =
        ((flags & HEAP_REALLOC_IN_PLACE_ONLY) != 0 ? mi_alloc.realloc_in_place(p, bytes)
                                                   : mi_alloc.crt_realloc(p, bytes, guard_ctx));
    if (q != NULL && (flags & HEAP_ZERO_MEMORY) != 0)
        mi_shim_zero_behind(q, before, bytes);
    if (MI_UNLIKELY(q == NULL && (flags & HEAP_GENERATE_EXCEPTIONS) != 0))
        RaiseException(STATUS_NO_MEMORY, 0, 0, NULL); // its handler may go on: then NULL it is
    return q;
}

static BOOLEAN NTAPI guard_validate(void *heap, ULONG flags, const void *p) {
    if (MI_LIKELY(p == NULL || !mi_alloc.is_ours(p)))
        return original_validate(heap, flags, p);
    answered();
    return TRUE;
}

// One function: its patch, its island and its moved beginning.
static mi_reason_t prepare(const mi_module_exports_t *ntdll, mi_patch_t *patch, const char *name,
                           uintptr_t guard, uintptr_t *original) {
    uint8_t *entry = (uint8_t *)mi_module_exports_find(ntdll, name);
    if (entry == NULL)
        return MI_REASON_CORE_MISSING;
    mi_plan_site_t site = {.name = name, .rva = (uint32_t)(entry - ntdll->pe.bytes)};
    mi_plan_judge(&ntdll->pe, &ntdll_plan, &site);
    if (site.verdict != MI_SITE_PATCH)
        return (mi_reason_t)site.reason;
    uint8_t *slot = mi_island_slot(&island), *moved = mi_island_slot(&island);
    if (slot == NULL || moved == NULL)
        return MI_REASON_NO_NEAR_MEMORY;
    if (!site.is_movable || mi_plan_move(ntdll_plan.cpu, entry, site.whole_bytes, (uintptr_t)entry,
                                         moved, MI_ISLAND_BYTES, (uintptr_t)moved) == 0)
        return MI_REASON_NOT_RELOCATABLE;
    mi_island_goto(slot, guard);
    patch->at = entry;
    patch->bytes = site.patch_bytes;
    memcpy(patch->before, entry, patch->bytes);
    *original = (uintptr_t)moved;
    return mi_island_jump(patch->after, entry, slot) ? MI_REASON_NONE : MI_REASON_NO_NEAR_MEMORY;
}

static mi_reason_t prepare_all(const mi_module_exports_t *ntdll) {
    uintptr_t originals[GUARDED];
    static const char *const names[GUARDED] = {"RtlFreeHeap", "RtlSizeHeap", "RtlReAllocateHeap",
                                               "RtlValidateHeap"};
    const uintptr_t guards[GUARDED] = {(uintptr_t)guard_free, (uintptr_t)guard_size,
                                       (uintptr_t)guard_realloc, (uintptr_t)guard_validate};
    if (mi_pe_hybrid(&ntdll->pe) != MI_PE_HYBRID_NONE)
        return MI_REASON_HYBRID;
    ntdll_plan.is_sorted = mi_pe_functions_are_sorted(&ntdll->pe);
    ntdll_plan.cpu = (MI_ARCH_ARM64 ? MI_CPU_ARM64 : MI_ARCH_X64 ? MI_CPU_X64 : MI_CPU_X86);
    if (mi_fault_by_name("guard-island") ||
        !mi_island_open(&island, ntdll->pe.bytes, ntdll->pe.image_bytes, 2u * GUARDED))
        return MI_REASON_NO_NEAR_MEMORY;
    for (unsigned i = 0; i < GUARDED; i++) {
        const mi_reason_t reason = prepare(ntdll, &patches[i], names[i], guards[i], &originals[i]);
        if (reason != MI_REASON_NONE)
            return reason;
    }
    original_free = (BOOLEAN(NTAPI *)(void *, ULONG, void *))originals[0];
    original_size = (SIZE_T(NTAPI *)(void *, ULONG, const void *))originals[1];
    original_realloc = (void *(NTAPI *)(void *, ULONG, void *, SIZE_T))originals[2];
    original_validate = (BOOLEAN(NTAPI *)(void *, ULONG, const void *))originals[3];
    return mi_island_seal(&island) ? MI_REASON_NONE : MI_REASON_DYNAMIC_CODE;
}

// A block of each kind through the system's own entries.
static bool prove(void) {
    const HANDLE heap = GetProcessHeap();
    if (mi_fault_by_name("guard-proof"))
        return false;
    void *theirs = HeapAlloc(heap, 0, MI_PROOF_SMALL), *ours = mi_alloc.alloc(MI_PROOF_SMALL);
    const bool is_good =
        (theirs != NULL && ours != NULL && HeapSize(heap, 0, theirs) == MI_PROOF_SMALL &&
         HeapValidate(heap, 0, theirs) && HeapSize(heap, 0, ours) == mi_alloc.usable_size(ours) &&
         HeapValidate(heap, 0, ours));
    void *moved = (is_good ? HeapReAlloc(heap, 0, ours, MI_PROOF_LARGE) : ours);
    const bool is_moved = (moved != NULL && mi_alloc.is_ours(moved) && HeapFree(heap, 0, moved));
    return HeapFree(heap, 0, theirs) && is_good && is_moved;
}

void mi_guard_prepare(mi_crt_ctx_t *ctx) {
    guard_ctx = ctx;
}

// What could not be put back goes on to lead to us, by way of the island.
static mi_reason_t commit(void) {
    mi_reason_t reason = (mi_fault_by_name("guard-patch") ? MI_REASON_PROTECT_FAILED
                                                          : mi_patch_apply(patches, GUARDED, NULL));
    if (reason == MI_REASON_NONE && mi_fault_by_name("guard-rollback"))
        reason = MI_REASON_ROLLBACK_FAILED;
    if (reason == MI_REASON_NONE || reason == MI_REASON_ROLLBACK_FAILED)
        mi_allocator_pin();
    if (reason != MI_REASON_NONE || prove())
        return reason;
    return mi_patch_undo(patches, GUARDED) == MI_REASON_NONE ? MI_REASON_PROOF_FAILED
                                                             : MI_REASON_ROLLBACK_FAILED;
}

void mi_guard_install(void) {
    static bool is_tried;
    mi_module_exports_t ntdll;
    mi_reason_t reason = MI_REASON_GUARD_OFF;
    if (is_tried || guard_ctx == NULL)
        return;
    is_tried = true;
    const HMODULE module = GetModuleHandleW(L"ntdll.dll");
    if (mi_settings()->is_guard_on && module != NULL && mi_module_exports_open(&ntdll, module)) {
        reason = prepare_all(&ntdll);
        if (reason == MI_REASON_NONE)
            reason = commit();
        // Else somebody may be in it, or may yet come.
        if (reason != MI_REASON_NONE && reason != MI_REASON_PROOF_FAILED &&
            reason != MI_REASON_ROLLBACK_FAILED)
            mi_island_close(&island);
    }
    mi_store_relaxed(&mi_report_state.guarded_calls, 0); // those of the proof do not count
    mi_report_state.guard_reason = reason;
    mi_report_state.guard = (reason == MI_REASON_NONE ? "entry" : "off");
    const mi_reason_row_t *row = mi_reason_row(reason);
    mi_report(true, "heap guard: %s%s%s", mi_report_state.guard,
              reason == MI_REASON_NONE ? "" : ", ", reason == MI_REASON_NONE ? "" : row->cause);
}
