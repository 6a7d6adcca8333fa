// A DLL that lies in the program's static closure and makes blocks in its DllMain, wherever in the
// order of the imports it stands. See orders.h.
#include "orders.h"

static order_block_t blocks[ORDERS_MAX];
static order_blocks_t all = {blocks, 0, 0};

__declspec(dllexport) order_blocks_t *orders_blocks(void);
order_blocks_t *orders_blocks(void) {
    return &all;
}

static void keep(HMODULE crt, const char *maker, void *p, size_t size, order_kind_t kind) {
    if (p == NULL || all.count >= ORDERS_MAX) {
        all.failed++;
        return;
    }
    order_block_t *b = &blocks[all.count++];
    *b = (order_block_t){.p = (uint8_t *)p,
                         .size = size,
                         .measured = SIZE_MAX,
                         .crt = crt,
                         .maker = maker,
                         .kind = kind};
    for (size_t i = 0; i < size; i++)
        b->p[i] = order_byte(i, size);
    const size_t offset = (kind == ORDER_OFFSET ? ORDERS_OFFSET : 0);
    if (kind == ORDER_PLAIN)
        b->measured = ((size_t(*)(void *))proc(crt, "_msize"))(p);
    else if (proc(crt, "_aligned_msize") != 0)
        b->measured = ((size_t(*)(void *, size_t, size_t))proc(crt, "_aligned_msize"))(
            p, ORDERS_ALIGN, offset);
    if (size == 0)
        b->sum = order_sum(b->p, b->measured);
}

static void by_size(HMODULE crt, size_t size) {
    static const char *const one[] = {"malloc",        "_malloc_base",    "_o_malloc",
                                      "_malloc_crt",   "?\?2@YAPEAX_K@Z", "?\?_U@YAPEAX_K@Z",
                                      "?\?2@YAPAXI@Z", "?\?_U@YAPAXI@Z"};
    static const char *const two[] = {"calloc", "_calloc_base", "_calloc_crt"};
    static const char *const grown[] = {"realloc", "_realloc_base", "_realloc_crt"};
    static const char *const zeroed[] = {
        "_recalloc"}; // Wine's _recalloc_crt and _aligned_recalloc do not exist
    const void *const n = (const void *)(uintptr_t)size, *const zero = NULL,
                      *const unit = (void *)1;
    const void *const align = (void *)ORDERS_ALIGN, *const offset = (void *)ORDERS_OFFSET;
    for (unsigned i = 0; i < sizeof(one) / sizeof(one[0]); i++)
        if (proc(crt, one[i]) != 0)
            keep(crt, one[i], ((order_fn_t)proc(crt, one[i]))(n), size, ORDER_PLAIN);
    for (unsigned i = 0; i < sizeof(two) / sizeof(two[0]); i++)
        if (proc(crt, two[i]) != 0)
            keep(crt, two[i], ((order_fn_t)proc(crt, two[i]))(unit, n), size, ORDER_PLAIN);
    for (unsigned i = 0; i < sizeof(grown) / sizeof(grown[0]); i++)
        if (proc(crt, grown[i]) != 0)
            keep(crt, grown[i], ((order_fn_t)proc(crt, grown[i]))(zero, n), size, ORDER_PLAIN);
    for (unsigned i = 0; i < sizeof(zeroed) / sizeof(zeroed[0]); i++)
        if (proc(crt, zeroed[i]) != 0)
            keep(crt, zeroed[i], ((order_fn_t)proc(crt, zeroed[i]))(zero, unit, n), size,
                 ORDER_PLAIN);
    if (proc(crt, "_aligned_malloc") == 0)
        return;
    keep(crt, "_aligned_malloc", ((order_fn_t)proc(crt, "_aligned_malloc"))(n, align), size,
         ORDER_ALIGNED);
    keep(crt, "_aligned_realloc", ((order_fn_t)proc(crt, "_aligned_realloc"))(zero, n, align), size,
         ORDER_ALIGNED);
    if (size <= ORDERS_OFFSET)
        return;
    keep(crt, "_aligned_offset_malloc",
         ((order_fn_t)proc(crt, "_aligned_offset_malloc"))(n, align, offset), size, ORDER_OFFSET);
    keep(crt, "_aligned_offset_realloc",
         ((order_fn_t)proc(crt, "_aligned_offset_realloc"))(zero, n, align, offset), size,
         ORDER_OFFSET);
}

static void from_inside(HMODULE crt) {
    const void *const zero = NULL;
    void *value = NULL;
    size_t bytes;
    keep(crt, "_strdup", ((order_fn_t)proc(crt, "_strdup"))("a text that is copied"), 0,
         ORDER_PLAIN);
    keep(crt, "_wcsdup", ((order_fn_t)proc(crt, "_wcsdup"))(L"a text that is copied"), 0,
         ORDER_PLAIN);
    keep(crt, "_getcwd", ((order_fn_t)proc(crt, "_getcwd"))(zero, zero), 0, ORDER_PLAIN);
    keep(crt, "_fullpath", ((order_fn_t)proc(crt, "_fullpath"))(zero, "x", zero), 0, ORDER_PLAIN);
    keep(crt, "_tempnam", ((order_fn_t)proc(crt, "_tempnam"))("c:\\", "x"), 0, ORDER_PLAIN);
    if (proc(crt, "_dupenv_s") != 0) {
        (void)((order_fn_t)proc(crt, "_dupenv_s"))(&value, &bytes, "SystemRoot");
        keep(crt, "_dupenv_s", value, 0, ORDER_PLAIN);
    }
}

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
    static const size_t sizes[] = {1, 8, 24, 100, 1000, 3000, 70000, 200000};
    (void)self;
    (void)reserved;
    if (reason != DLL_PROCESS_ATTACH)
        return TRUE;
    for (unsigned i = ORDERS_FIRST_CRT; *argument(i) != 0; i++) {
        const HMODULE crt = LoadLibraryA(argument(i));
        if (crt == NULL)
            return FALSE;
        // Several of each, so that every way to end them meets every kind.
        for (unsigned k = 0; k < 4; k++)
            for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]) - (k == 0 ? 0 : 2); s++)
                by_size(crt, sizes[s]);
        from_inside(crt);
    }
    return TRUE;
}
