#include "redirect/module_state.h"
#include "redirect/allocator.h"
#include "redirect/crt.h"

// What the imports of a module say.
typedef struct imports_s {
    uintptr_t malloc_slot; // value of the import of malloc, 0 = none
    uintptr_t free_slot;   // of free
    mi_crt_t *crt;         // a CRT that we know and that it imports from, or NULL
    bool is_other;         // malloc and free are imported by these names, and lead to no CRT
} imports_t;

static bool look_at_cell(void *cell, uintptr_t value, void *arg) {
    imports_t *out = (imports_t *)arg;
    mi_crt_fn_t fn;
    mi_crt_t *crt = mi_crt_of_function(value, &fn);
    (void)cell;
    if (crt == NULL)
        return true;
    // A CRT that was refused before it was planned is known by its names only.
    if (fn == MI_CRT_FN_COUNT && crt->plan.site_count == 0) {
        if (value == (uintptr_t)mi_module_export(crt->base, "malloc"))
            fn = MI_CRT_MALLOC;
        else if (value == (uintptr_t)mi_module_export(crt->base, "free"))
            fn = MI_CRT_FREE;
    }
    // The CRT that it allocates with goes before one that it only prints with.
    if (out->crt == NULL || (fn != MI_CRT_FN_COUNT && out->malloc_slot == 0))
        out->crt = crt;
    if (fn == MI_CRT_MALLOC && out->malloc_slot == 0)
        out->malloc_slot = value;
    if (fn == MI_CRT_FREE && out->free_slot == 0)
        out->free_slot = value;
    return true;
}

// The values of malloc and free where both are imported from one DLL by these names.
static void look_at_names(const mi_nt_module_t *module, imports_t *out) {
    mi_pe_t pe;
    mi_pe_import_t import;
    if (!mi_module_imports_open(&pe, module->base))
        return;
    for (uint32_t i = 0; mi_pe_import_at(&pe, i, &import); i++) {
        uintptr_t malloc_slot = 0, free_slot = 0;
        mi_pe_thunk_t thunk;
        for (uint32_t k = 0; mi_pe_thunk_at(&pe, &import, k, &thunk); k++) {
            const uint8_t *cell = mi_pe_at(&pe, thunk.iat_slot_rva, sizeof(uintptr_t));
            if (thunk.name == NULL || cell == NULL)
                continue;
            if (mi_str_eq(thunk.name, "malloc"))
                memcpy(&malloc_slot, cell, sizeof(malloc_slot));
            else if (mi_str_eq(thunk.name, "free"))
                memcpy(&free_slot, cell, sizeof(free_slot));
        }
        if (malloc_slot == 0 || free_slot == 0)
            continue;
        out->malloc_slot = malloc_slot;
        out->free_slot = free_slot;
        out->is_other = true;
        return;
    }
}

// A function of nobody's is the trampoline of a product that hooks; a DLL's may be called once it
// is initialised.
static bool is_callable(uintptr_t function) {
    const mi_nt_module_t *m = mi_modules_of((const void *)function);
    return m == NULL || (m->flags & MI_NT_MODULE_ATTACHED) != 0;
}

static imports_t look_at_imports(const mi_nt_module_t *module) {
    imports_t found = {0, 0, NULL, false};
    mi_modules_cells(module->base, look_at_cell, &found);
    if (found.malloc_slot == 0)
        look_at_names(module, &found);
    return found;
}

static bool may_call(const imports_t *found) {
    if (found->malloc_slot == 0 || found->free_slot == 0)
        return false;
    if (found->is_other)
        return is_callable(found->malloc_slot) && is_callable(found->free_slot);
    // A CRT that is not initialised may not be called, unless its entries are ours.
    return found->crt != NULL &&
           (found->crt->state == MI_CRT_REDIRECTED || mi_crt_is_attached(found->crt));
}

static mi_reason_t reason_of(const imports_t *found) {
    return found->is_other      ? MI_REASON_MODULE_OTHER_MALLOC
           : found->crt != NULL ? MI_REASON_MODULE_CRT_LEFT
                                : MI_REASON_MODULE_OWN_CRT;
}

mi_module_state_t mi_module_state(const mi_nt_module_t *module) {
    mi_module_state_t state = {.reason = MI_REASON_NO_ALLOCATOR};
    if (!mi_allocator_is_bound())
        return state;
    imports_t found = look_at_imports(module);
    if (mi_crt_at(module->base) != NULL)
        found = (imports_t){0, 0, mi_crt_at(module->base), false}; // a CRT calls its own
    if (found.crt != NULL)
        state.crt = found.crt->name;
    if (may_call(&found)) {
        void *p = ((void *(*)(size_t))found.malloc_slot)(16);
        state.is_called = true;
        state.is_active = (p != NULL && mi_alloc.is_ours(p));
        ((void (*)(void *))found.free_slot)(p);
    } else if (found.crt != NULL && !found.is_other) {
        state.is_active =
            (found.crt->state == MI_CRT_REDIRECTED && found.crt->reason == MI_REASON_NONE);
    }
    state.reason = (state.is_active ? MI_REASON_NONE : reason_of(&found));
    return state;
}
