#include "redirect/module_state.h"
#include "redirect/allocator.h"
#include "redirect/crt.h"

// What the imports of a module say.
typedef struct imports_s {
    uintptr_t malloc_slot; // value of the import of malloc, 0 = none
    uintptr_t free_slot;   // of free
    mi_crt_t *crt;         // a CRT that we know and that it imports from, or NULL
} imports_t;

static void look_at_thunk(const mi_pe_t *pe, const mi_pe_thunk_t *thunk, imports_t *out) {
    const uint8_t *slot = mi_pe_at(pe, thunk->iat_slot_rva, sizeof(void *));
    if (slot == NULL || thunk->name == NULL)
        return;
    uintptr_t value;
    memcpy(&value, slot, sizeof(value));
    const mi_crt_name_t *row = mi_crt_name_find(thunk->name);
    if (out->crt == NULL || row != NULL) {
        mi_crt_t *crt = mi_crt_at((const void *)value);
        if (crt != NULL)
            out->crt = crt;
    }
    if (row != NULL && row->fn == MI_CRT_MALLOC && out->malloc_slot == 0)
        out->malloc_slot = value;
    if (row != NULL && row->fn == MI_CRT_FREE && out->free_slot == 0)
        out->free_slot = value;
}

static imports_t look_at_imports(const mi_nt_module_t *module) {
    imports_t found = {0, 0, NULL};
    mi_pe_t pe;
    mi_pe_import_t import;
    mi_pe_thunk_t thunk;
    if (!mi_pe_open_module(&pe, module->base))
        return found;
    for (uint32_t i = 0; mi_pe_import_at(&pe, i, &import); i++)
        for (uint32_t k = 0; mi_pe_thunk_at(&pe, &import, k, &thunk); k++)
            look_at_thunk(&pe, &thunk, &found);
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
