#include "redirect/crt.h"

static mi_crt_t *_Atomic first_crt;
static mi_crt_t *last_crt; // loader lock

mi_crt_t *mi_crt_first(void) {
    // Acquire, here and for next: pairs with the releases in mi_crt_new.
    return mi_load_acquire(&first_crt);
}

mi_crt_t *mi_crt_new(void) {
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next))
        if (c->state == MI_CRT_UNLOADED || c->state == MI_CRT_FREE_SLOT) {
            c->state = MI_CRT_FREE_SLOT;
            return c;
        }
    mi_crt_t *c =
        (mi_crt_t *)VirtualAlloc(NULL, sizeof(mi_crt_t), MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    if (c == NULL)
        return NULL;
    if (last_crt != NULL)
        mi_store_release(&last_crt->next, c);
    else
        mi_store_release(&first_crt, c);
    last_crt = c;
    return c;
}

void mi_crt_release_all(void) {
    mi_crt_t *c = mi_crt_first();
    mi_store_release(&first_crt, NULL);
    last_crt = NULL;
    while (c != NULL) {
        mi_crt_t *next = mi_load_acquire(&c->next);
        mi_island_close(&c->island);
        (void)VirtualFree(c, 0, MEM_RELEASE);
        c = next;
    }
}

mi_crt_t *mi_crt_at(const void *address) {
    const uint8_t *p = (const uint8_t *)address;
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next))
        if ((c->state == MI_CRT_REDIRECTED || c->state == MI_CRT_REFUSED) && p >= c->base &&
            p < c->base + c->image_bytes)
            return c;
    return NULL;
}

bool mi_crt_is_attached(mi_crt_t *crt) {
    if (MI_LIKELY(mi_load_relaxed(&crt->was_attached)))
        return true;
    const mi_nt_module_t *m = crt->module_opt;
    if (m == NULL || (m->flags & MI_NT_MODULE_ATTACHED) == 0)
        return false;
    // The loader may take the flag back before the CRT's own detach, where a debug CRT looks for
    // leaks.
    mi_store_relaxed(&crt->was_attached, true);
    return true;
}

static uintptr_t first_export(const mi_crt_t *crt, const char *a, const char *b) {
    void *p = mi_module_export(crt->base, a);
    if (p == NULL && b != NULL)
        p = mi_module_export(crt->base, b);
    return (uintptr_t)p;
}

void mi_crt_find_helpers(mi_crt_t *crt) {
    mi_crt_helpers_t *own = &crt->own;
    own->errno_of = (int *(*)(void))first_export(crt, "_errno", NULL);
    own->query_new_mode =
        (int (*)(void))first_export(crt, "_query_new_mode", "?_query_new_mode@@YAHXZ");
    own->call_new_handler = (int (*)(size_t))first_export(crt, "_callnewh", NULL);
    own->heap_handle = (intptr_t(*)(void))first_export(crt, "_get_heap_handle", NULL);
    own->invalid_parameter = (void (*)(void))first_export(crt, "_invalid_parameter_noinfo", NULL);
    own->debug_flag_at = (int *(*)(void))first_export(crt, "__p__crtDbgFlag", NULL);
    own->debug_flag = (const int *)first_export(crt, "_crtDbgFlag", NULL);
    own->set_debug_flag = (int (*)(int))first_export(crt, "_CrtSetDbgFlag", NULL);
    own->break_at = (long *(*)(void))first_export(crt, "__p__crtBreakAlloc", NULL);
    own->break_number = (const long *)first_export(crt, "_crtBreakAlloc", NULL);
    own->alloc_hook = (mi_crt_alloc_hook_t(*)(void))first_export(crt, "_CrtGetAllocHook", NULL);
    own->dump_client = (mi_crt_dump_client_t(*)(void))first_export(crt, "_CrtGetDumpClient", NULL);
    own->check_count = (int (*)(void))first_export(crt, "_CrtGetCheckCount", NULL);
    own->report = (int (*)(int, const char *, int, const char *, const char *, ...))first_export(
        crt, "_CrtDbgReport", NULL);
}
