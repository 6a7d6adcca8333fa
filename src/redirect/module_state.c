#include "redirect/module_state.h"
#include "redirect/allocator.h"
#include "redirect/crt.h"

// What the imports of a module say.
typedef struct imports_s {
    uintptr_t malloc_slot; // value of the import of malloc, 0 = none
    uintptr_t free_slot;   // of free
    mi_crt_t *crt;         // a CRT that we know and that it imports from, or NULL
} imports_t;

static bool look_at_cell(uintptr_t *cell, void *arg) {
    imports_t *out = (imports_t *)arg;
    mi_crt_fn_t fn;
    mi_crt_t *crt = mi_crt_of_function(*cell, &fn);
    if (crt == NULL)
        return true;
    // A CRT that was refused before it was planned is known by its names only.
    if (fn == MI_CRT_FN_COUNT && crt->plan.site_count == 0) {
        if (*cell == (uintptr_t)mi_module_export(crt->base, "malloc"))
            fn = MI_CRT_MALLOC;
        else if (*cell == (uintptr_t)mi_module_export(crt->base, "free"))
            fn = MI_CRT_FREE;
    }
    // The CRT that it allocates with goes before one that it only prints with.
    if (out->crt == NULL || (fn != MI_CRT_FN_COUNT && out->malloc_slot == 0))
        out->crt = crt;
    if (fn == MI_CRT_MALLOC && out->malloc_slot == 0)
        out->malloc_slot = *cell;
    if (fn == MI_CRT_FREE && out->free_slot == 0)
        out->free_slot = *cell;
    return true;
}

static imports_t look_at_imports(const mi_nt_module_t *module) {
    imports_t found = {0, 0, NULL};
    mi_modules_cells(module->base, look_at_cell, &found);
    return found;
}

mi_module_state_t mi_module_state(const mi_nt_module_t *module) {
    mi_module_state_t state = {.reason = MI_REASON_NO_ALLOCATOR};
    if (!mi_allocator_is_bound())
        return state;
    imports_t found = look_at_imports(module);
    state.reason = MI_REASON_MODULE_OWN_CRT;
    if (mi_crt_at(module->base) != NULL)
        found = (imports_t){0, 0, mi_crt_at(module->base)}; // a CRT calls its own
    if (found.crt != NULL)
        state.crt = found.crt->name;
    // A CRT that is not initialised may not be called, unless its entries are ours.
    const bool may_call = (found.crt != NULL && (found.crt->state == MI_CRT_REDIRECTED ||
                                                 mi_crt_is_attached(found.crt)));
    if (found.malloc_slot != 0 && found.free_slot != 0 && may_call) {
        void *p = ((void *(*)(size_t))found.malloc_slot)(16);
        state.is_called = true;
        state.is_active = (p != NULL && mi_alloc.is_ours(p));
        ((void (*)(void *))found.free_slot)(p);
    } else if (found.crt != NULL) {
        state.is_active =
            (found.crt->state == MI_CRT_REDIRECTED && found.crt->reason == MI_REASON_NONE);
    }
    if (state.is_active)
        state.reason = MI_REASON_NONE;
    else if (found.crt != NULL)
        state.reason = MI_REASON_MODULE_CRT_LEFT;
    return state;
}
