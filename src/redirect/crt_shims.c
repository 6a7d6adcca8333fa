#include "redirect/crt_shims.h"
#include "redirect/allocator.h"
#include "redirect/crt_foreign.h"
#include "redirect/debug_heap.h"
#include "redirect/debug_state.h"
#include "redirect/survey.h"

enum { CRT_ENOMEM = 12 };

// ---- over the plain functions of an original half ----

void *mi_shim_malloc(size_t size, mi_crt_ctx_t *ctx) {
    for (;;) {
        void *p = mi_alloc.alloc(size == 0 ? 1 : size);
        if (MI_LIKELY(p != NULL) || !ctx->no_memory(ctx, size))
            return p;
    }
}

void *mi_shim_calloc(size_t count, size_t size, mi_crt_ctx_t *ctx) {
    size_t bytes;
    if (!mi_mul_ok(count, size, &bytes))
        bytes = SIZE_MAX; // too large for any allocator: the way of all failures
    for (;;) {
        void *p = mi_alloc.alloc_zeroed(bytes == 0 ? 1 : bytes);
        if (MI_LIKELY(p != NULL) || !ctx->no_memory(ctx, bytes))
            return p;
    }
}

void *mi_shim_realloc(void *p, size_t size, mi_crt_ctx_t *ctx) {
    if (p == NULL)
        return mi_shim_malloc(size, ctx);
    if (MI_UNLIKELY(!mi_alloc.is_ours(p)))
        return ctx->foreign_realloc(ctx, p, size);
    if (size == 0) {
        mi_alloc.free(p);
        return NULL;
    }
    for (;;) {
        void *q = mi_alloc.realloc_plain(p, size);
        if (MI_LIKELY(q != NULL) || !ctx->no_memory(ctx, size))
            return q;
    }
}

void mi_shim_free(void *p, mi_crt_ctx_t *ctx) {
    if (p == NULL)
        return;
    if (MI_LIKELY(mi_alloc.is_ours(p)))
        mi_alloc.free(p);
    else
        ctx->foreign_free(ctx, p);
}

size_t mi_shim_msize(const void *p, mi_crt_ctx_t *ctx) {
    if (p == NULL) {
        mi_foreign_invalid_argument(mi_crt_of(ctx));
        return (size_t)-1;
    }
    if (MI_LIKELY(mi_alloc.is_ours(p)))
        return mi_alloc.usable_size(p);
    return ctx->foreign_msize(ctx, (void *)(uintptr_t)p);
}

// ---- the rest of the family ----

static void *shim_expand(void *p, size_t size, mi_crt_ctx_t *ctx) {
    if (p == NULL) {
        mi_foreign_invalid_argument(mi_crt_of(ctx));
        return NULL;
    }
    void *q = (mi_alloc.is_ours(p) ? mi_alloc.realloc_in_place(p, size == 0 ? 1 : size)
                                   : mi_foreign_expand(mi_crt_of(ctx), p, size));
    if (q == NULL)
        mi_foreign_set_errno(mi_crt_of(ctx), CRT_ENOMEM);
    return q;
}

void mi_shim_zero_behind(void *p, size_t old_bytes, size_t new_bytes) {
    const size_t kept = (old_bytes < new_bytes ? old_bytes : new_bytes);
    const size_t bytes = mi_alloc.usable_size(p);
    if (bytes > kept)
        memset((uint8_t *)p + kept, 0, bytes - kept);
}

// New bytes are zero; the old size is what _msize says.
static void *shim_recalloc(void *p, size_t count, size_t size, mi_crt_ctx_t *ctx) {
    size_t bytes;
    if (p == NULL)
        return mi_alloc.crt_calloc(count, size, ctx);
    if (!mi_mul_ok(count, size, &bytes)) {
        mi_foreign_set_errno(mi_crt_of(ctx), CRT_ENOMEM);
        return NULL;
    }
    const size_t old_bytes = mi_alloc.crt_msize(p, ctx);
    if (old_bytes == (size_t)-1)
        return NULL;
    void *q = mi_alloc.crt_realloc(p, bytes, ctx);
    if (q != NULL && mi_alloc.is_ours(q))
        mi_shim_zero_behind(q, old_bytes, bytes);
    return q;
}

static void *aligned_offset_malloc(size_t size, size_t align, size_t offset, mi_crt_ctx_t *ctx) {
    if (!mi_is_pow2(align) || (offset != 0 && offset >= size)) {
        mi_foreign_invalid_argument(mi_crt_of(ctx));
        return NULL;
    }
    const size_t least = (align < sizeof(void *) ? sizeof(void *) : align);
    for (;;) {
        void *p = mi_alloc.alloc_aligned(size == 0 ? 1 : size, least, offset);
        if (MI_LIKELY(p != NULL) || !ctx->no_memory(ctx, size))
            return p;
    }
}

static void *aligned_malloc(size_t size, size_t align, mi_crt_ctx_t *ctx) {
    return aligned_offset_malloc(size, align, 0, ctx);
}

static void aligned_free(void *p, mi_crt_ctx_t *ctx) {
    if (p == NULL)
        return;
    if (MI_LIKELY(mi_alloc.is_ours(p)))
        mi_alloc.crt_free(p, ctx);
    else
        mi_foreign_aligned_free(mi_crt_of(ctx), p);
}

static size_t aligned_msize(void *p, size_t align, size_t offset, mi_crt_ctx_t *ctx) {
    if (p == NULL) {
        mi_foreign_invalid_argument(mi_crt_of(ctx));
        return (size_t)-1;
    }
    if (MI_LIKELY(mi_alloc.is_ours(p)))
        return mi_alloc.crt_msize(p, ctx);
    return mi_foreign_aligned_msize(mi_crt_of(ctx), p, align, offset);
}

static void *aligned_offset_realloc(void *p, size_t size, size_t align, size_t offset,
                                    mi_crt_ctx_t *ctx) {
    if (p == NULL)
        return aligned_offset_malloc(size, align, offset, ctx);
    if (size == 0) {
        aligned_free(p, ctx);
        return NULL;
    }
    if (!mi_is_pow2(align) || (offset != 0 && offset >= size)) {
        mi_foreign_invalid_argument(mi_crt_of(ctx));
        return NULL;
    }
    const bool is_ours = mi_alloc.is_ours(p);
    if (is_ours && (((uintptr_t)p + offset) & (align - 1)) == 0 &&
        mi_alloc.realloc_in_place(p, size) != NULL)
        return p;
    const size_t old_size = aligned_msize(p, align, offset, ctx);
    if (old_size == (size_t)-1)
        return NULL;
    void *q = aligned_offset_malloc(size, align, offset, ctx);
    if (q == NULL)
        return NULL;
    memcpy(q, p, old_size < size ? old_size : size);
    aligned_free(p, ctx);
    return q;
}

static void *aligned_realloc(void *p, size_t size, size_t align, mi_crt_ctx_t *ctx) {
    return aligned_offset_realloc(p, size, align, 0, ctx);
}

static void *aligned_offset_recalloc(void *p, size_t count, size_t size, size_t align,
                                     size_t offset, mi_crt_ctx_t *ctx) {
    size_t bytes;
    if (!mi_mul_ok(count, size, &bytes)) {
        mi_foreign_set_errno(mi_crt_of(ctx), CRT_ENOMEM);
        return NULL;
    }
    const size_t old_bytes = (p == NULL ? 0 : aligned_msize(p, align, offset, ctx));
    if (old_bytes == (size_t)-1)
        return NULL;
    void *q = aligned_offset_realloc(p, bytes, align, offset, ctx);
    if (q != NULL)
        mi_shim_zero_behind(q, old_bytes, bytes);
    return q;
}

static void *aligned_recalloc(void *p, size_t count, size_t size, size_t align, mi_crt_ctx_t *ctx) {
    return aligned_offset_recalloc(p, count, size, align, 0, ctx);
}

// operator new without memory: the CRT's own operator tries again, calls the new-handler as often
// as it always did, and throws. It may also find memory in its own heap: the block is recognised
// when it comes back.
static MI_NOINLINE void *new_slow(mi_crt_ctx_t *ctx, size_t size) {
    mi_crt_t *crt = mi_crt_of(ctx);
    if (crt->own.new_original != NULL)
        return crt->own.new_original(size);
    while (mi_foreign_new_handler(crt, size)) {
        void *p = mi_alloc.alloc(size == 0 ? 1 : size);
        if (p != NULL)
            return p;
    }
    return NULL;
}

static void *shim_new(size_t size, mi_crt_ctx_t *ctx) {
    void *p = mi_alloc.alloc(size == 0 ? 1 : size);
    return MI_LIKELY(p != NULL) ? p : new_slow(ctx, size);
}

static void *shim_new_nothrow(size_t size, mi_crt_ctx_t *ctx) {
    for (;;) {
        void *p = mi_alloc.alloc(size == 0 ? 1 : size);
        if (MI_LIKELY(p != NULL) || !mi_foreign_new_handler(mi_crt_of(ctx), size))
            return p;
    }
}

// ---- the _dbg forms where nobody keeps what they say of a block ----

static void *malloc_dbg(size_t size, int type, const char *file, int line, mi_crt_ctx_t *ctx) {
    (void)type;
    (void)file;
    (void)line;
    return mi_alloc.crt_malloc(size, ctx);
}

static void *calloc_dbg(size_t count, size_t size, int type, const char *file, int line,
                        mi_crt_ctx_t *ctx) {
    (void)type;
    (void)file;
    (void)line;
    return mi_alloc.crt_calloc(count, size, ctx);
}

static void *realloc_dbg(void *p, size_t size, int type, const char *file, int line,
                         mi_crt_ctx_t *ctx) {
    (void)type;
    (void)file;
    (void)line;
    return mi_alloc.crt_realloc(p, size, ctx);
}

static void *expand_dbg(void *p, size_t size, int type, const char *file, int line,
                        mi_crt_ctx_t *ctx) {
    (void)type;
    (void)file;
    (void)line;
    return shim_expand(p, size, ctx);
}

static void *recalloc_dbg(void *p, size_t count, size_t size, int type, const char *file, int line,
                          mi_crt_ctx_t *ctx) {
    (void)type;
    (void)file;
    (void)line;
    return shim_recalloc(p, count, size, ctx);
}

static void *aligned_malloc_dbg(size_t size, size_t align, const char *file, int line,
                                mi_crt_ctx_t *ctx) {
    (void)file;
    (void)line;
    return aligned_malloc(size, align, ctx);
}

static void *aligned_realloc_dbg(void *p, size_t size, size_t align, const char *file, int line,
                                 mi_crt_ctx_t *ctx) {
    (void)file;
    (void)line;
    return aligned_realloc(p, size, align, ctx);
}

static void *aligned_recalloc_dbg(void *p, size_t count, size_t size, size_t align,
                                  const char *file, int line, mi_crt_ctx_t *ctx) {
    (void)file;
    (void)line;
    return aligned_recalloc(p, count, size, align, ctx);
}

static void *aligned_offset_malloc_dbg(size_t size, size_t align, size_t offset, const char *file,
                                       int line, mi_crt_ctx_t *ctx) {
    (void)file;
    (void)line;
    return aligned_offset_malloc(size, align, offset, ctx);
}

static void *aligned_offset_realloc_dbg(void *p, size_t size, size_t align, size_t offset,
                                        const char *file, int line, mi_crt_ctx_t *ctx) {
    (void)file;
    (void)line;
    return aligned_offset_realloc(p, size, align, offset, ctx);
}

static void *new_dbg(size_t size, int type, const char *file, int line, mi_crt_ctx_t *ctx) {
    (void)type;
    (void)file;
    (void)line;
    return shim_new(size, ctx);
}

static uintptr_t plain_target(mi_crt_fn_t fn) {
    const uintptr_t targets[MI_CRT_FN_COUNT] = {
        [MI_CRT_MALLOC] = (uintptr_t)mi_alloc.crt_malloc,
        [MI_CRT_CALLOC] = (uintptr_t)mi_alloc.crt_calloc,
        [MI_CRT_REALLOC] = (uintptr_t)mi_alloc.crt_realloc,
        [MI_CRT_FREE] = (uintptr_t)mi_alloc.crt_free,
        [MI_CRT_MSIZE] = (uintptr_t)mi_alloc.crt_msize,
        [MI_CRT_EXPAND] = (uintptr_t)shim_expand,
        [MI_CRT_RECALLOC] = (uintptr_t)shim_recalloc,
        [MI_CRT_ALIGNED_MALLOC] = (uintptr_t)aligned_malloc,
        [MI_CRT_ALIGNED_FREE] = (uintptr_t)aligned_free,
        [MI_CRT_ALIGNED_REALLOC] = (uintptr_t)aligned_realloc,
        [MI_CRT_ALIGNED_RECALLOC] = (uintptr_t)aligned_recalloc,
        [MI_CRT_ALIGNED_MSIZE] = (uintptr_t)aligned_msize,
        [MI_CRT_ALIGNED_OFFSET_MALLOC] = (uintptr_t)aligned_offset_malloc,
        [MI_CRT_ALIGNED_OFFSET_REALLOC] = (uintptr_t)aligned_offset_realloc,
        [MI_CRT_ALIGNED_OFFSET_RECALLOC] = (uintptr_t)aligned_offset_recalloc,
        [MI_CRT_NEW] = (uintptr_t)shim_new,
        [MI_CRT_NEW_NOTHROW] = (uintptr_t)shim_new_nothrow,
        [MI_CRT_DELETE] = (uintptr_t)mi_alloc.crt_free,
        [MI_CRT_MALLOC_DBG] = (uintptr_t)malloc_dbg,
        [MI_CRT_CALLOC_DBG] = (uintptr_t)calloc_dbg,
        [MI_CRT_REALLOC_DBG] = (uintptr_t)realloc_dbg,
        [MI_CRT_EXPAND_DBG] = (uintptr_t)expand_dbg,
        [MI_CRT_RECALLOC_DBG] = (uintptr_t)recalloc_dbg,
        [MI_CRT_ALIGNED_MALLOC_DBG] = (uintptr_t)aligned_malloc_dbg,
        [MI_CRT_ALIGNED_REALLOC_DBG] = (uintptr_t)aligned_realloc_dbg,
        [MI_CRT_ALIGNED_RECALLOC_DBG] = (uintptr_t)aligned_recalloc_dbg,
        [MI_CRT_ALIGNED_OFFSET_MALLOC_DBG] = (uintptr_t)aligned_offset_malloc_dbg,
        [MI_CRT_ALIGNED_OFFSET_REALLOC_DBG] = (uintptr_t)aligned_offset_realloc_dbg,
        [MI_CRT_NEW_DBG] = (uintptr_t)new_dbg,
    };
    return targets[fn];
}

uintptr_t mi_shim_target(const mi_crt_t *crt, mi_crt_fn_t fn) {
    uintptr_t target = mi_debug_state_target(fn);
    if (target == 0)
        target = mi_survey_target(fn);
    if (target == 0 && crt->is_tracked)
        target = mi_debug_heap_target(fn);
    return target != 0 ? target : plain_target(fn);
}

void mi_shim_bind(mi_crt_t *crt) {
    const bool is_plain = (!crt->is_tracked && mi_alloc.bind_opt != NULL);
    crt->bound_opt = (is_plain ? mi_alloc.bind_opt(&crt->ctx, new_slow) : NULL);
}

uintptr_t mi_shim_bound(const mi_crt_t *crt, mi_crt_fn_t fn) {
    const mi_redirect_bound_t *bound = crt->bound_opt;
    if (bound == NULL)
        return 0;
    switch (fn) {
    case MI_CRT_MALLOC:
        return (uintptr_t)bound->crt_malloc;
    case MI_CRT_CALLOC:
        return (uintptr_t)bound->crt_calloc;
    case MI_CRT_REALLOC:
        return (uintptr_t)bound->crt_realloc;
    case MI_CRT_FREE:
    case MI_CRT_DELETE:
        return (uintptr_t)bound->crt_free;
    case MI_CRT_NEW:
        return (uintptr_t)bound->crt_new;
    default:
        return 0;
    }
}
