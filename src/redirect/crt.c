#include "redirect/crt.h"
#include "base/text.h"

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
    c->thunk_set = MI_THUNK_SET_NONE;
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
        mi_island_close(&c->island); // of a proof that failed; the rung "tables" leaves none
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

static mi_crt_fn_t site_fn(const mi_crt_t *crt, uint32_t rva) {
    for (uint32_t i = 0; i < crt->plan.site_count; i++)
        if (crt->plan.sites[i].rva == rva && rva != 0)
            return (mi_crt_fn_t)crt->plan.sites[i].fn;
    return MI_CRT_FN_COUNT;
}

// The thunk that a value stands for, if it is one of this CRT's.
static bool is_thunk_of(const mi_crt_t *crt, uintptr_t value, uint32_t *i) {
    uint8_t set;
    if (crt->thunk_set == MI_THUNK_SET_NONE)
        return false;
    const mi_island_t *island = &crt->export_island;
    if (island->base != NULL && value - (uintptr_t)island->base < island->used)
        *i = (uint32_t)((value - (uintptr_t)island->base) / MI_ISLAND_BYTES);
    else if (!mi_thunks_of(value, &set, i) || set != crt->thunk_set)
        return false;
    return *i < crt->thunk_count;
}

mi_crt_t *mi_crt_of_function(uintptr_t value, mi_crt_fn_t *fn) {
    *fn = MI_CRT_FN_COUNT;
    mi_crt_t *inside = mi_crt_at((const void *)value);
    if (inside != NULL) {
        *fn = site_fn(inside, (uint32_t)(value - (uintptr_t)inside->base));
        return inside;
    }
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next)) {
        uint32_t i;
        if (!is_thunk_of(c, value, &i))
            continue;
        *fn = (mi_crt_fn_t)c->plan.sites[c->thunk_site[i]].fn;
        return c;
    }
    return NULL;
}

bool mi_crt_is_engaged(const mi_crt_t *crt) {
    return crt->state == MI_CRT_REDIRECTED || (crt->state == MI_CRT_REFUSED && crt->keeps_takers);
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

static uintptr_t first_export(const mi_module_exports_t *ex, const char *a, const char *b) {
    void *p = mi_module_exports_find(ex, a);
    if (p == NULL && b != NULL)
        p = mi_module_exports_find(ex, b);
    return (uintptr_t)p;
}

void mi_crt_find_helpers(mi_crt_t *crt) {
    mi_crt_helpers_t *own = &crt->own;
    mi_module_exports_t ex;
    if (!mi_module_exports_open(&ex, crt->base))
        return;
    own->errno_of = (int *(*)(void))first_export(&ex, "_errno", NULL);
    own->query_new_mode =
        (int (*)(void))first_export(&ex, "_query_new_mode", "?_query_new_mode@@YAHXZ");
    own->call_new_handler = (int (*)(size_t))first_export(&ex, "_callnewh", NULL);
    own->heap_handle = (intptr_t(*)(void))first_export(&ex, "_get_heap_handle", NULL);
    own->invalid_parameter = (void (*)(void))first_export(&ex, "_invalid_parameter_noinfo", NULL);
    own->debug_flag_at = (int *(*)(void))first_export(&ex, "__p__crtDbgFlag", NULL);
    own->debug_flag = (const int *)first_export(&ex, "_crtDbgFlag", NULL);
    own->set_debug_flag = (int (*)(int))first_export(&ex, "_CrtSetDbgFlag", NULL);
    own->break_at = (long *(*)(void))first_export(&ex, "__p__crtBreakAlloc", NULL);
    own->break_number = (const long *)first_export(&ex, "_crtBreakAlloc", NULL);
    own->alloc_hook = (mi_crt_alloc_hook_t(*)(void))first_export(&ex, "_CrtGetAllocHook", NULL);
    own->dump_client = (mi_crt_dump_client_t(*)(void))first_export(&ex, "_CrtGetDumpClient", NULL);
    own->check_count = (int (*)(void))first_export(&ex, "_CrtGetCheckCount", NULL);
    own->report = (int (*)(int, const char *, int, const char *, const char *, ...))first_export(
        &ex, "_CrtDbgReport", NULL);
}

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

// Where the original of a function can still be called: its moved beginning, or the function if its
// entry is not patched.
static uintptr_t original_of(const mi_crt_t *crt, const char *name) {
    const mi_plan_site_t *site = site_of(crt, name);
    if (site == NULL)
        return 0;
    if (site->verdict != MI_SITE_PATCH || crt->patch_count == 0)
        return (uintptr_t)crt->base + site->rva;
    return (uintptr_t)crt->originals[site - crt->plan.sites];
}

void mi_crt_find_originals(mi_crt_t *crt) {
    mi_crt_helpers_t *own = &crt->own;
    own->new_original = (void *(*)(size_t))original_of(crt, sizeof(void *) == 8 ? "?\?2@YAPEAX_K@Z"
                                                                                : "?\?2@YAPAXI@Z");
    own->aligned_msize = (size_t(*)(void *, size_t, size_t))original_of(crt, "_aligned_msize");
    own->heap_check = (int (*)(void))original_of(crt, "_heapchk");
    own->heap_set = (int (*)(unsigned))original_of(crt, "_heapset");
    own->heap_min = (int (*)(void))original_of(crt, "_heapmin");
    own->heap_walk = (int (*)(mi_crt_heap_info_t *))original_of(crt, "_heapwalk");
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
