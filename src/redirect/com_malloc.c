#include "redirect/com_malloc.h"
#include "redirect/allocator.h"
#include "redirect/crt_foreign.h"
#include "redirect/report.h"

static mi_crt_ctx_t *process; // answers for blocks of any heap when no owner is there
// Written under the loader lock before an entry leads here, and when the owner leaves; 0 = nowhere.
static _Atomic(uintptr_t) originals[MI_COM_FN_COUNT];
static _Atomic(uint32_t) standing_back;
static _Atomic(uint64_t) foreign_calls;

// The proof: a call of this thread that changes nothing, whoever answers it.
static _Atomic(DWORD) prover; // 0 = nobody
static unsigned arrivals;     // loader lock

static bool is_proof(void) {
    if (MI_LIKELY(mi_load_relaxed(&prover) == 0) ||
        mi_load_relaxed(&prover) != GetCurrentThreadId())
        return false;
    arrivals++;
    return true;
}

static bool stands_back(void) {
    return MI_UNLIKELY(mi_load_relaxed(&standing_back) != 0);
}

static uintptr_t original(mi_com_fn_t fn) {
    return mi_load_relaxed(&originals[fn]);
}

// ---- the originals, and what is done for them when they have gone ----

static void *original_alloc(SIZE_T size) {
    const uintptr_t f = original(MI_COM_ALLOC);
    return f != 0 ? ((void *(WINAPI *)(SIZE_T))f)(size) : HeapAlloc(GetProcessHeap(), 0, size);
}

static void *original_realloc(mi_crt_ctx_t *ctx, void *p, size_t size) {
    const uintptr_t f = original(MI_COM_REALLOC);
    (void)ctx;
    (void)mi_fetch_add_relaxed(&foreign_calls, 1);
    return f != 0 ? ((void *(WINAPI *)(void *, SIZE_T))f)(p, size)
                  : mi_foreign_realloc(process, p, size);
}

static void original_free(mi_crt_ctx_t *ctx, void *p) {
    const uintptr_t f = original(MI_COM_FREE);
    (void)ctx;
    (void)mi_fetch_add_relaxed(&foreign_calls, 1);
    if (f != 0)
        ((void(WINAPI *)(void *))f)(p);
    else
        mi_foreign_free(process, p);
}

// COM's own IMalloc, or NULL.
static mi_com_malloc_t *original_malloc(void) {
    const uintptr_t f = original(MI_COM_GET_MALLOC);
    mi_com_malloc_t *m = NULL;
    if (f == 0 || ((HRESULT(WINAPI *)(DWORD, mi_com_malloc_t **))f)(1, &m) != S_OK)
        return NULL;
    return m;
}

static size_t original_size(mi_crt_ctx_t *ctx, void *p) {
    mi_com_malloc_t *const m = original_malloc();
    (void)ctx;
    (void)mi_fetch_add_relaxed(&foreign_calls, 1);
    return m != NULL ? m->vtbl->get_size(m, p) : mi_foreign_msize(process, p);
}

static bool no_memory(mi_crt_ctx_t *ctx, size_t size) {
    (void)ctx;
    (void)size;
    return false; // COM has no handler, and sets no errno
}

static mi_crt_ctx_t context = {no_memory, original_free, original_realloc, original_size};

// ---- the flat functions ----

static void *WINAPI com_alloc(SIZE_T size) {
    return stands_back() ? original_alloc(size) : mi_alloc.crt_malloc(size, &context);
}

static void *WINAPI com_realloc(void *p, SIZE_T size) {
    if (p == NULL)
        return com_alloc(size); // with size 0 as well
    return stands_back() ? original_realloc(&context, p, size)
                         : mi_alloc.crt_realloc(p, size, &context);
}

static void WINAPI com_free(void *p) {
    if (MI_UNLIKELY(p == NULL) && is_proof())
        return;
    if (stands_back())
        original_free(&context, p); // a spy sees NULL, too
    else
        mi_alloc.crt_free(p, &context);
}

// ---- IMalloc ----

static bool same_guid(const GUID *a, const GUID *b) {
    const uint8_t *x = (const uint8_t *)a, *y = (const uint8_t *)b;
    size_t same = 0;
    while (same < sizeof(GUID) && x[same] == y[same])
        same++;
    return same == sizeof(GUID);
}

static HRESULT WINAPI malloc_query_interface(mi_com_malloc_t *self, const GUID *iid, void **out) {
    static const GUID known[] = {{0x00000000, 0, 0, {0xC0, 0, 0, 0, 0, 0, 0, 0x46}},  // IUnknown
                                 {0x00000002, 0, 0, {0xC0, 0, 0, 0, 0, 0, 0, 0x46}}}; // IMalloc
    if (out == NULL)
        return E_INVALIDARG;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (iid != NULL && same_guid(iid, &known[i])) {
            *out = self;
            return S_OK;
        }
    *out = NULL;
    return E_NOINTERFACE;
}

// It lives as long as the process, as COM's own does.
static ULONG WINAPI malloc_add_ref(mi_com_malloc_t *self) {
    (void)self;
    return 2;
}

static ULONG WINAPI malloc_release(mi_com_malloc_t *self) {
    (void)self;
    return 1;
}

static void *WINAPI malloc_alloc(mi_com_malloc_t *self, SIZE_T size) {
    (void)self;
    return com_alloc(size);
}

static void *WINAPI malloc_realloc(mi_com_malloc_t *self, void *p, SIZE_T size) {
    (void)self;
    return com_realloc(p, size);
}

static void WINAPI malloc_free(mi_com_malloc_t *self, void *p) {
    (void)self;
    com_free(p);
}

static SIZE_T WINAPI malloc_get_size(mi_com_malloc_t *self, void *p) {
    (void)self;
    if (p == NULL && !stands_back())
        return (SIZE_T)-1;
    return stands_back() ? original_size(&context, p) : mi_alloc.crt_msize(p, &context);
}

static int WINAPI malloc_did_alloc(mi_com_malloc_t *self, void *p) {
    (void)self;
    if (p != NULL && !stands_back() && mi_alloc.is_ours(p))
        return 1;
    mi_com_malloc_t *const m = original_malloc();
    return m != NULL ? m->vtbl->did_alloc(m, p) : -1; // -1: cannot tell
}

static void WINAPI malloc_heap_minimize(mi_com_malloc_t *self) {
    (void)self;
    mi_com_malloc_t *const m = original_malloc();
    if (!stands_back() && mi_alloc.collect_opt != NULL)
        mi_alloc.collect_opt();
    if (m != NULL)
        m->vtbl->heap_minimize(m);
}

static const mi_com_malloc_vtbl_t malloc_vtbl = {
    malloc_query_interface, malloc_add_ref,   malloc_release,
    malloc_alloc,           malloc_realloc,   malloc_free,
    malloc_get_size,        malloc_did_alloc, malloc_heap_minimize};
static mi_com_malloc_t our_malloc = {&malloc_vtbl};

static HRESULT WINAPI com_get_malloc(DWORD which, mi_com_malloc_t **out) {
    const uintptr_t f = original(MI_COM_GET_MALLOC);
    const bool is_task = (which == 1 && out != NULL && !stands_back());
    if (!is_task && f != 0)
        return ((HRESULT(WINAPI *)(DWORD, mi_com_malloc_t **))f)(which, out);
    if (!is_task)
        return E_INVALIDARG;
    *out = &our_malloc;
    return S_OK;
}

// ---- IMallocSpy ----

static HRESULT WINAPI com_register_spy(void *spy) {
    const uintptr_t f = original(MI_COM_REGISTER_SPY);
    if (spy == NULL && is_proof())
        return S_OK;
    const HRESULT result = (f != 0 ? ((HRESULT(WINAPI *)(void *))f)(spy) : E_FAIL);
    if (SUCCEEDED(result)) {
        mi_com_malloc_stand_back(MI_COM_SPIED, true);
        mi_report_reason("COM memory", MI_REASON_COM_SPIED);
    }
    return result;
}

// Refused while blocks are about that were made under the spy's eyes: then it stays, and so do the
// originals, which alone know those blocks' true starts.
static HRESULT WINAPI com_revoke_spy(void) {
    const uintptr_t f = original(MI_COM_REVOKE_SPY);
    if (is_proof())
        return S_OK;
    const HRESULT result = (f != 0 ? ((HRESULT(WINAPI *)(void))f)() : E_FAIL);
    if (result == S_OK)
        mi_com_malloc_stand_back(MI_COM_SPIED, false);
    return result;
}

// ---- for com.c ----

void mi_com_malloc_prepare(mi_crt_ctx_t *ctx) {
    process = ctx;
}

uintptr_t mi_com_malloc_target(mi_com_fn_t fn) {
    static const uintptr_t targets[MI_COM_FN_COUNT] = {
        [MI_COM_ALLOC] = (uintptr_t)com_alloc,
        [MI_COM_REALLOC] = (uintptr_t)com_realloc,
        [MI_COM_FREE] = (uintptr_t)com_free,
        [MI_COM_GET_MALLOC] = (uintptr_t)com_get_malloc,
        [MI_COM_REGISTER_SPY] = (uintptr_t)com_register_spy,
        [MI_COM_REVOKE_SPY] = (uintptr_t)com_revoke_spy,
    };
    return targets[fn];
}

void mi_com_malloc_set_original(mi_com_fn_t fn, uintptr_t address) {
    // Relaxed: the entries that lead here are written later, with all other threads stopped.
    mi_store_relaxed(&originals[fn], address);
}

void mi_com_malloc_stand_back(uint32_t why, bool is_back) {
    if (is_back)
        (void)mi_fetch_or_relaxed(&standing_back, why);
    else
        (void)mi_fetch_and_relaxed(&standing_back, ~why);
}

bool mi_com_malloc_stands_back(uint32_t why) {
    return (mi_load_relaxed(&standing_back) & why) != 0;
}

uint64_t mi_com_malloc_foreign_calls(void) {
    return mi_load_relaxed(&foreign_calls);
}

// ---- the proof ----

static bool take_back(void *p) {
    const bool is_good =
        (p != NULL && mi_alloc.is_ours(p) && ((uintptr_t)p & (2 * sizeof(void *) - 1)) == 0);
    if (is_good)
        mi_alloc.free(p);
    return is_good;
}

static bool prove_alloc(void *(WINAPI *alloc)(SIZE_T)) {
    void *empty = alloc(0), *p = alloc(40);
    const bool is_good = take_back(empty);
    return take_back(p) && is_good;
}

// A block of ours would also be resized by the original, through the heap guard: that proves
// nothing. A new one does.
static bool prove_realloc(void *(WINAPI *resize)(void *, SIZE_T)) {
    uint8_t *p = (uint8_t *)resize(NULL, 24);
    if (p == NULL || !mi_alloc.is_ours(p))
        return false;
    memset(p, 0x5A, 24);
    p = (uint8_t *)resize(p, 4000);
    if (p == NULL)
        return false;
    for (size_t i = 0; i < 24; i++)
        if (p[i] != 0x5A)
            return false;
    return mi_alloc.is_ours(p) && resize(p, 0) == NULL;
}

static bool prove_one(mi_com_fn_t fn, uintptr_t entry) {
    mi_com_malloc_t *m = NULL;
    arrivals = 0;
    switch (fn) {
    case MI_COM_ALLOC:
        return prove_alloc((void *(WINAPI *)(SIZE_T))entry);
    case MI_COM_REALLOC:
        return prove_realloc((void *(WINAPI *)(void *, SIZE_T))entry);
    case MI_COM_GET_MALLOC:
        return ((HRESULT(WINAPI *)(DWORD, mi_com_malloc_t **))entry)(1, &m) == S_OK &&
               m == &our_malloc;
    case MI_COM_FREE:
        ((void(WINAPI *)(void *))entry)(NULL);
        return arrivals == 1;
    case MI_COM_REGISTER_SPY:
        return ((HRESULT(WINAPI *)(void *))entry)(NULL) == S_OK && arrivals == 1;
    default: // MI_COM_REVOKE_SPY
        return ((HRESULT(WINAPI *)(void))entry)() == S_OK && arrivals == 1;
    }
}

bool mi_com_malloc_prove(mi_com_fn_t fn, uintptr_t entry) {
    const uint32_t before = mi_load_relaxed(&standing_back); // what is paused is proven as well
    mi_com_malloc_stand_back(before, false);
    mi_store_relaxed(&prover, GetCurrentThreadId());
    const bool is_proven = prove_one(fn, entry);
    mi_store_relaxed(&prover, 0);
    mi_com_malloc_stand_back(before, true);
    return is_proven;
}
