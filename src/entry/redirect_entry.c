// The function table that the redirect DLL gets: CRT functions whose blocks are ours and whose
// errors are those of the C runtime that was called, through its context. Patched entries jump
// straight to them, so that malloc and free are the inline fast paths. All blocks keep their exact
// size, as the CRTs promise (core/exact.h). Works before our DllMain ran
// and after it was told of the process' end.
#include "entry/redirect_entry.h"

#include "base/atomic.h"
#include "core/alloc_inline.h"
#include "core/guest.h"
#include "core/ledger.h"
#include "core/snapshot.h"
#include "entry/entry.h"
#include "entry/guarded.h"
#include "mimalloc.h"
#include "os/os.h"

#define MI_DLL_EXPORT __declspec(dllexport)

static _Atomic(mi_crt_ctx_t *) foreign_ctx;

mi_crt_ctx_t *mi_redirect_foreign(void) {
    return mi_load_acquire(&foreign_ctx); // pairs with foreign_set
}

static void foreign_set(mi_crt_ctx_t *ctx) {
    mi_store_release(&foreign_ctx, ctx);
}

// ---- the CRT's shapes ----

static MI_NOINLINE void *crt_malloc_slow(size_t size, mi_crt_ctx_t *ctx) {
    size += (size == 0); // as in the Microsoft CRTs, whose _msize says 1 then
    for (;;) {
        void *p = mi_core_malloc_exact(size, false);
        if (p != NULL || !ctx->no_memory(ctx, size))
            return p;
    }
}

static void *crt_malloc(size_t size, mi_crt_ctx_t *ctx) {
    void *p = mi_malloc_exact_try(size);
    return MI_LIKELY(p != NULL) ? p : crt_malloc_slow(size, ctx);
}

static MI_NOINLINE void *crt_calloc_slow(size_t bytes, mi_crt_ctx_t *ctx) {
    bytes += (bytes == 0);
    for (;;) {
        void *p = mi_core_malloc_exact(bytes, true);
        if (p != NULL || !ctx->no_memory(ctx, bytes))
            return p;
    }
}

// A product that is too large fails later, with the errno and the handler of any other failure.
MI_INLINE size_t calloc_bytes(size_t count, size_t size) {
    size_t bytes;
    return MI_LIKELY(mi_mul_ok(count, size, &bytes)) ? bytes : SIZE_MAX;
}

static void *crt_calloc(size_t count, size_t size, mi_crt_ctx_t *ctx) {
    const size_t bytes = calloc_bytes(count, size);
    void *p = mi_zalloc_exact_try(bytes);
    return MI_LIKELY(p != NULL) ? p : crt_calloc_slow(bytes, ctx);
}

static MI_NOINLINE void crt_free_slowest(void *p, mi_crt_ctx_t *ctx) {
    if (MI_UNLIKELY(mi_guarded_is_used()))
        mi_guarded_release(p);
    const mi_free_result_t result = mi_core_free(p);
    if (result == MI_FREE_FOREIGN)
        ctx->foreign_free(ctx, p);
    else
        mi_report_pointer(result, p, "free");
}

static MI_NOINLINE void crt_free_slow(void *p, mi_crt_ctx_t *ctx) {
    if (p != NULL)
        crt_free_slowest(p, ctx);
}

static MI_NOINLINE void crt_free_far(void *p, mi_crt_ctx_t *ctx, uintptr_t entry,
                                     mi_theap_t *theap) {
    if (MI_UNLIKELY(!mi_guest_free(p, entry, theap)) && p != NULL)
        crt_free_slowest(p, ctx);
}

static void crt_free(void *p, mi_crt_ctx_t *ctx) {
    uintptr_t entry;
    mi_theap_t *theap;
    const mi_free_step_t step = mi_free_step(p, &entry, &theap);
    if (MI_UNLIKELY(step == MI_FREE_FAR))
        crt_free_far(p, ctx, entry, theap);
    else if (MI_UNLIKELY(step == MI_FREE_ASK))
        crt_free_slow(p, ctx);
}

static MI_NOINLINE void *crt_realloc_slow(void *p, size_t size, mi_crt_ctx_t *ctx) {
    if (MI_LIKELY(mi_realloc_exact_wide_try(p, size)))
        return p;
    if (p == NULL)
        return crt_malloc(size, ctx);
    if (size == 0) { // every Microsoft CRT frees here
        crt_free(p, ctx);
        return NULL;
    }
    void *guarded;
    if (MI_UNLIKELY(mi_guarded_is_used()) && mi_realloc_guarded(p, size, 0, &guarded))
        return guarded;
    for (;;) {
        mi_free_result_t result = MI_FREE_OK;
        void *q = mi_core_realloc(p, size, MI_REALLOC_EXACT, &result);
        if (q != NULL)
            return q;
        if (result == MI_FREE_FOREIGN)
            return ctx->foreign_realloc(ctx, p, size);
        if (result != MI_FREE_OK) {
            mi_report_pointer(result, p, "realloc");
            return NULL;
        }
        if (!ctx->no_memory(ctx, size))
            return NULL;
    }
}

static void *crt_realloc(void *p, size_t size, mi_crt_ctx_t *ctx) {
    return MI_LIKELY(mi_realloc_exact_try(p, size)) ? p : crt_realloc_slow(p, size, ctx);
}

static size_t crt_msize(const void *p, mi_crt_ctx_t *ctx) {
    mi_free_result_t result = MI_FREE_OK;
    size_t size;
    if (MI_UNLIKELY(p == NULL)) // an error of the caller's, which the CRT reports its own way
        return ctx->foreign_msize(ctx, NULL);
    if (MI_UNLIKELY(mi_guarded_is_used()) && mi_guarded_find(p, &size))
        return size;
    size = mi_core_usable(p, &result);
    if (result == MI_FREE_FOREIGN)
        return ctx->foreign_msize(ctx, (void *)(uintptr_t)p);
    mi_report_pointer(result, p, "_msize");
    return size;
}

// ---- without a context ----

static void *plain_alloc(size_t size) {
    size += (size == 0);
    void *p = mi_malloc_exact_try(size);
    if (MI_LIKELY(p != NULL))
        return p;
    return mi_core_malloc_exact(size, false);
}

static void *plain_alloc_zeroed(size_t size) {
    return mi_core_malloc_exact(size, true);
}

static void *plain_alloc_aligned(size_t size, size_t align, size_t offset) {
    size_t all;
    if (!mi_is_pow2(align) || !mi_add_ok(size, align, &all) || all > MI_REQUEST_MAX)
        return NULL;
    return mi_core_malloc_aligned_exact(size, align, offset, false);
}

static void *plain_realloc_in_place(void *p, size_t size) {
    return p == NULL ? NULL
                     : mi_core_realloc(p, size, MI_REALLOC_IN_PLACE | MI_REALLOC_EXACT, NULL);
}

static void plain_free(void *p) {
    if (MI_UNLIKELY(mi_guarded_is_used()))
        mi_guarded_release(p);
    mi_report_pointer(mi_core_free(p), p, "free");
}

static size_t plain_usable_size(const void *p) {
    return mi_core_usable(p, NULL);
}

static uint64_t plain_allocation_count(void) {
    mi_core_stats_t stats;
    mi_core_stats(&stats);
    return stats.malloc_count;
}

// ---- the same, bound to a context ----
//
// An entry that jumps straight here saves the island: two instructions and a jump, of the 50 that a
// pair takes. Enough sets for the CRTs that a process usually has; the others go the longer way.

static struct {
    mi_crt_ctx_t *ctx; // NULL = free; under the loader lock, before anything can call the set
    mi_redirect_new_slow_fn new_slow;
} bound[4];

static MI_NOINLINE void *bound_new_slow(size_t size, unsigned i) {
    size += (size == 0);
    void *p = mi_core_malloc_exact(size, false);
    return p != NULL ? p : bound[i].new_slow(bound[i].ctx, size);
}

// Whole cache lines of code: 4 % of a pair. The fast paths stand here once more since by way of
// crt_malloc and its like the context would be loaded before it is needed: 2 instructions a pair.
#define BOUND_HOT MI_NOINLINE MI_CODE_LINE
#define BOUND_SET(i)                                                                               \
    BOUND_HOT static void *bound_malloc_##i(size_t size) {                                         \
        void *p = mi_malloc_exact_try(size);                                                       \
        return MI_LIKELY(p != NULL) ? p : crt_malloc_slow(size, bound[i].ctx);                     \
    }                                                                                              \
    BOUND_HOT static void *bound_calloc_##i(size_t count, size_t size) {                           \
        const size_t bytes = calloc_bytes(count, size);                                            \
        void *p = mi_zalloc_exact_try(bytes);                                                      \
        return MI_LIKELY(p != NULL) ? p : crt_calloc_slow(bytes, bound[i].ctx);                    \
    }                                                                                              \
    BOUND_HOT static void *bound_realloc_##i(void *p, size_t size) {                               \
        const bool stays = mi_realloc_exact_try(p, size);                                          \
        return MI_LIKELY(stays) ? p : crt_realloc_slow(p, size, bound[i].ctx);                     \
    }                                                                                              \
    static MI_NOINLINE void bound_far_##i(void *p, uintptr_t entry, mi_theap_t *theap) {           \
        crt_free_far(p, bound[i].ctx, entry, theap);                                               \
    }                                                                                              \
    static MI_NOINLINE void bound_ask_##i(void *p) {                                               \
        crt_free_slow(p, bound[i].ctx);                                                            \
    }                                                                                              \
    BOUND_HOT static void bound_free_##i(void *p) {                                                \
        uintptr_t entry;                                                                           \
        mi_theap_t *theap;                                                                         \
        const mi_free_step_t step = mi_free_step(p, &entry, &theap);                               \
        if (MI_UNLIKELY(step == MI_FREE_FAR))                                                      \
            bound_far_##i(p, entry, theap);                                                        \
        else if (MI_UNLIKELY(step == MI_FREE_ASK))                                                 \
            bound_ask_##i(p);                                                                      \
    }                                                                                              \
    BOUND_HOT static void *bound_new_##i(size_t size) {                                            \
        void *p = mi_malloc_exact_try(size);                                                       \
        return MI_LIKELY(p != NULL) ? p : bound_new_slow(size, i);                                 \
    }
BOUND_SET(0)
BOUND_SET(1)
BOUND_SET(2)
BOUND_SET(3)
#undef BOUND_SET

#define BOUND_ROW(i)                                                                               \
    { bound_malloc_##i, bound_calloc_##i, bound_realloc_##i, bound_free_##i, bound_new_##i }

static const mi_redirect_bound_t *bind(mi_crt_ctx_t *ctx, mi_redirect_new_slow_fn new_slow) {
    static const mi_redirect_bound_t sets[] = {BOUND_ROW(0), BOUND_ROW(1), BOUND_ROW(2),
                                               BOUND_ROW(3)};
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        if (bound[i].ctx != NULL && bound[i].ctx != ctx)
            continue;
        bound[i].ctx = ctx;
        bound[i].new_slow = new_slow;
        return &sets[i];
    }
    return NULL;
}

// ---- the whole heap ----

static void whole_collect(void) {
    mi_collect(true);
}

// ---- debug CRTs ----

#if MI_DEBUG

// From the main heap: a leak report may name the block when every other heap is gone.
static void *debug_alloc(size_t size, size_t align, size_t offset, bool is_zeroed) {
    size_t all;
    if (!mi_is_pow2(align) || !mi_add_ok(size, align, &all) || all > MI_REQUEST_MAX)
        return NULL;
    return mi_core_heap_malloc_aligned(mi_core_heap_main(), size, align, offset, is_zeroed);
}

static const mi_redirect_debug_t debug_table = {
    .table_bytes = sizeof(mi_redirect_debug_t),
    .alloc = debug_alloc,
    .add = mi_ledger_add,
    .find = mi_ledger_find,
    .set_use = mi_ledger_set_use,
    .totals = mi_ledger_totals,
    .list = mi_ledger_list,
    .damaged = mi_ledger_damaged,
    .forget = mi_ledger_forget,
};
#    define DEBUG_TABLE (&debug_table)
#else
#    define DEBUG_TABLE NULL
#endif

MI_DLL_EXPORT const mi_redirect_allocator_t *_mi_redirect_allocator(uint32_t abi);

const mi_redirect_allocator_t *_mi_redirect_allocator(uint32_t abi) {
    static const mi_redirect_allocator_t table = {
        .abi = MI_REDIRECT_ABI,
        .table_bytes = sizeof(mi_redirect_allocator_t),
        .version = MI_MALLOC_VERSION,
        .variant = MI_DEBUG    ? 1
                   : MI_SECURE ? 2
                               : 0,
        .is_ours = mi_core_contains,
        .crt_malloc = crt_malloc,
        .crt_calloc = crt_calloc,
        .crt_realloc = crt_realloc,
        .crt_free = crt_free,
        .crt_msize = crt_msize,
        .alloc = plain_alloc,
        .alloc_zeroed = plain_alloc_zeroed,
        .alloc_aligned = plain_alloc_aligned,
        .realloc_in_place = plain_realloc_in_place,
        .free = plain_free,
        .usable_size = plain_usable_size,
        .set_foreign = foreign_set,
        .allocation_count = plain_allocation_count,
        .debug = DEBUG_TABLE,
        .collect = whole_collect,
        .list = mi_core_snapshot,
        .bind = bind,
    };
    // The redirect DLL asks before it uses anything, mostly before our DllMain.
    if (!mi_load_acquire(&mi_entry_is_ready))
        mi_entry_init();
    return abi >> 16 == MI_REDIRECT_ABI_MAJOR ? &table : NULL;
}
