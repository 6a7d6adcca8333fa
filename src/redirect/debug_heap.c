#include "redirect/debug_heap.h"
#include "redirect/allocator.h"
#include "redirect/crt_foreign.h"
#include "redirect/debug_state.h"
#include "redirect/proof.h"
#include "redirect/report.h"

enum { HOOK_ALLOC = 1, HOOK_REALLOC = 2, HOOK_FREE = 3 };
enum { FILL_NEW = 0xCD, FILL_DEAD = 0xDD };
enum { CRT_WARN = 0, CRT_EINVAL = 22, CRT_ENOMEM = 12 };

// What the program says of an allocation.
typedef struct tag_s {
    int type;
    const char *file;
    int line;
    int32_t request; // its number, once it has begun
} tag_t;

// What it asks for.
typedef struct shape_s {
    size_t size;
    size_t align;
    size_t offset;
    bool is_aligned; // by one of the _aligned_ functions
    bool is_zeroed;  // all of it, or what a resizing adds
} shape_t;

static const tag_t plain_tag = {MI_DEBUG_NORMAL_BLOCK, NULL, 0, 0};

static tag_t tag_of(int type, const char *file, int line) {
    return (tag_t){type, file, line, 0};
}

static shape_t plain_shape(size_t size, bool is_zeroed) {
    return (shape_t){size, 1, 0, false, is_zeroed};
}

// ---- what the CRT keeps ----

int mi_debug_heap_flags(mi_crt_t *crt) {
    if (crt->own.debug_flag != NULL)
        return *(const volatile int *)crt->own.debug_flag;
    if (!mi_crt_is_attached(crt))
        return MI_DEBUG_FLAG_ALLOC_MEM;
    if (crt->own.debug_flag_at != NULL)
        return *(const volatile int *)crt->own.debug_flag_at();
    return crt->own.set_debug_flag != NULL ? crt->own.set_debug_flag(-1) : MI_DEBUG_FLAG_ALLOC_MEM;
}

void mi_debug_heap_say(mi_crt_t *crt, const char *text) {
    if (crt->own.report != NULL && mi_crt_is_attached(crt))
        (void)crt->own.report(CRT_WARN, NULL, 0, NULL, "%s", text);
    else
        mi_report(false, "%s: %s", crt->name, text);
}

// The program's hook: may this happen?
static bool hook_allows(mi_crt_t *crt, int operation, void *p, size_t size, tag_t tag) {
    if (crt->own.alloc_hook == NULL || !mi_crt_is_attached(crt) || mi_proof_is_running(crt))
        return true;
    mi_crt_alloc_hook_t (*const ask)(void) = crt->own.alloc_hook;
    const mi_crt_alloc_hook_t hook = ask();
    return hook == NULL || hook(operation, p, size, tag.type, tag.request,
                                (const unsigned char *)tag.file, tag.line) != 0;
}

static void say_vetoed(mi_crt_t *crt, const char *what, tag_t tag) {
    char text[512];
    mi_text_t t;
    mi_text_init(&t, text, sizeof(text));
    if (tag.file != NULL)
        mi_text_fmt(&t, "Client hook %s failure at file %s line %d.\n", what, tag.file, tag.line);
    else
        mi_text_fmt(&t, "Client hook %s failure.\n", what);
    mi_debug_heap_say(crt, text);
}

static int32_t break_number(mi_crt_t *crt) {
    if (crt->own.break_number != NULL)
        return (int32_t) * (const volatile long *)crt->own.break_number;
    if (crt->own.break_at != NULL && mi_crt_is_attached(crt))
        return (int32_t) * (const volatile long *)crt->own.break_at();
    return -1;
}

// The number of the request that begins now. Stops where the program wants to be stopped.
static int32_t request_begin(mi_crt_t *crt) {
    if (mi_proof_is_running(crt))
        return 0;
    const int32_t request = mi_fetch_add_relaxed(&crt->debug_requests, 1) + 1;
    if (request == break_number(crt))
        DebugBreak();
    return request;
}

// Checks all blocks every so many allocations, if the program wants that.
static void check_now_and_then(mi_crt_t *crt) {
    if (mi_proof_is_running(crt))
        return;
    const int flags = mi_debug_heap_flags(crt);
    uint32_t every = ((uint32_t)flags >> 16) & 0xFFFF;
    if ((flags & MI_DEBUG_FLAG_CHECK_ALWAYS) != 0)
        every = 1;
    else if (crt->own.check_count != NULL && mi_crt_is_attached(crt))
        every = (uint32_t)crt->own.check_count();
    if (every == 0 || mi_fetch_add_relaxed(&crt->debug_unchecked, 1) + 1 < every)
        return;
    mi_store_relaxed(&crt->debug_unchecked, 0);
    (void)mi_debug_state_check(crt);
}

// ---- blocks ----

static void *block_make(mi_crt_t *crt, shape_t shape, tag_t tag) {
    uint8_t *p;
    do {
        p = (uint8_t *)mi_alloc.debug_opt->alloc(shape.size, shape.align, shape.offset,
                                                 shape.is_zeroed);
    } while (p == NULL && crt->ctx.no_memory(&crt->ctx, shape.size));
    if (p == NULL)
        return NULL;
    if (!shape.is_zeroed)
        memset(p, FILL_NEW, shape.size);
    if ((mi_debug_heap_flags(crt) & MI_DEBUG_FLAG_ALLOC_MEM) == 0)
        tag.type = MI_DEBUG_IGNORE_BLOCK;
    const mi_debug_block_t block = {.p = p,
                                    .size = shape.size,
                                    .owner = &crt->debug_owner,
                                    .file = tag.file,
                                    .line = tag.line,
                                    .use = tag.type,
                                    .request = tag.request};
    (void)mi_alloc.debug_opt->add(&block); // without memory for the record: a block like any other
    return p;
}

static void *block_new(mi_crt_t *crt, shape_t shape, tag_t tag) {
    check_now_and_then(crt);
    tag.request = request_begin(crt);
    if (!hook_allows(crt, HOOK_ALLOC, NULL, shape.size, tag)) {
        say_vetoed(crt, "allocation", tag);
        return NULL;
    }
    return block_make(crt, shape, tag);
}

// A block that goes back to wherever it came from, without a hook.
static void block_release(mi_crt_t *crt, void *p, bool is_aligned) {
    if (mi_alloc.is_ours(p))
        mi_alloc.crt_free(p, &crt->ctx);
    else if (is_aligned)
        mi_foreign_aligned_free(crt, p);
    else
        mi_foreign_free(&crt->ctx, p);
}

static void block_free(mi_crt_t *crt, void *p, bool is_aligned) {
    mi_debug_block_t block;
    if (p == NULL)
        return;
    // The original serves what the CRT made before, and calls the hook itself.
    if (!mi_alloc.is_ours(p) || !mi_alloc.debug_opt->find(p, &block)) {
        block_release(crt, p, is_aligned);
        return;
    }
    const tag_t tag = tag_of(block.use, NULL, 0);
    if (block.use == MI_DEBUG_FREE_BLOCK) {
        mi_debug_heap_say(crt, "A block is freed twice; the first time it was kept "
                               "(_CRTDBG_DELAY_FREE_MEM_DF).\n");
        return;
    }
    if (!hook_allows(crt, HOOK_FREE, p, 0, tag)) {
        say_vetoed(crt, "free", tag);
        return;
    }
    if ((mi_debug_heap_flags(crt) & MI_DEBUG_FLAG_DELAY_FREE) != 0 && !mi_proof_is_running(crt)) {
        (void)mi_alloc.debug_opt->set_use(p, MI_DEBUG_FREE_BLOCK);
        memset(p, FILL_DEAD, block.size);
        return;
    }
    mi_alloc.crt_free(p, &crt->ctx);
}

// The bytes that the program may use; (size_t)-1 = nobody knows the block.
static size_t block_size(mi_crt_t *crt, void *p, shape_t shape) {
    mi_debug_block_t block;
    if (mi_alloc.is_ours(p))
        return mi_alloc.debug_opt->find(p, &block) ? block.size : mi_alloc.crt_msize(p, &crt->ctx);
    return shape.is_aligned ? mi_foreign_aligned_msize(crt, p, shape.align, shape.offset)
                            : mi_foreign_msize(&crt->ctx, p);
}

// Always to a new place: who goes on to use the old one is found out.
static void *block_resize(mi_crt_t *crt, void *p, shape_t shape, tag_t tag) {
    mi_debug_block_t block;
    if (p == NULL)
        return block_new(crt, shape, tag);
    if (shape.size == 0) {
        block_free(crt, p, shape.is_aligned);
        return NULL;
    }
    const bool is_ours = mi_alloc.is_ours(p);
    const size_t old_size = block_size(crt, p, shape);
    if (old_size == (size_t)-1)
        return NULL;
    if (is_ours && mi_alloc.debug_opt->find(p, &block))
        tag.type = block.use; // a block keeps its type
    check_now_and_then(crt);
    tag.request = request_begin(crt);
    if (!hook_allows(crt, HOOK_REALLOC, p, shape.size, tag)) {
        say_vetoed(crt, "re-allocation", tag);
        return NULL;
    }
    uint8_t *q = (uint8_t *)block_make(crt, shape, tag);
    if (q == NULL)
        return NULL;
    memcpy(q, p, old_size < shape.size ? old_size : shape.size);
    block_release(crt, p, shape.is_aligned);
    if (!is_ours)
        mi_fetch_add_relaxed(&crt->foreign_reallocs, 1);
    return q;
}

// ---- wrong arguments ----

static void *no_memory(mi_crt_t *crt) {
    mi_foreign_set_errno(crt, CRT_ENOMEM);
    return NULL;
}

static bool is_valid_aligned(mi_crt_t *crt, shape_t *shape) {
    if (!mi_is_pow2(shape->align) || (shape->offset != 0 && shape->offset >= shape->size)) {
        mi_foreign_invalid_argument(crt);
        return false;
    }
    if (shape->align < sizeof(void *))
        shape->align = sizeof(void *);
    return true;
}

static void *aligned_resize(mi_crt_t *crt, void *p, shape_t shape, tag_t tag) {
    if (p != NULL && shape.size == 0) {
        block_free(crt, p, true);
        return NULL;
    }
    return is_valid_aligned(crt, &shape) ? block_resize(crt, p, shape, tag) : NULL;
}

// ---- the functions: with what the program says of the block, and without ----

static void *malloc_dbg(size_t size, int type, const char *file, int line, mi_crt_ctx_t *ctx) {
    return block_new(mi_crt_of(ctx), plain_shape(size, false), tag_of(type, file, line));
}

static void *plain_malloc(size_t size, mi_crt_ctx_t *ctx) {
    return block_new(mi_crt_of(ctx), plain_shape(size, false), plain_tag);
}

static void *calloc_dbg(size_t count, size_t size, int type, const char *file, int line,
                        mi_crt_ctx_t *ctx) {
    size_t bytes;
    if (!mi_mul_ok(count, size, &bytes))
        return no_memory(mi_crt_of(ctx));
    return block_new(mi_crt_of(ctx), plain_shape(bytes, true), tag_of(type, file, line));
}

static void *plain_calloc(size_t count, size_t size, mi_crt_ctx_t *ctx) {
    return calloc_dbg(count, size, MI_DEBUG_NORMAL_BLOCK, NULL, 0, ctx);
}

static void *realloc_dbg(void *p, size_t size, int type, const char *file, int line,
                         mi_crt_ctx_t *ctx) {
    return block_resize(mi_crt_of(ctx), p, plain_shape(size, false), tag_of(type, file, line));
}

static void *plain_realloc(void *p, size_t size, mi_crt_ctx_t *ctx) {
    return block_resize(mi_crt_of(ctx), p, plain_shape(size, false), plain_tag);
}

static void *recalloc_dbg(void *p, size_t count, size_t size, int type, const char *file, int line,
                          mi_crt_ctx_t *ctx) {
    size_t bytes;
    if (!mi_mul_ok(count, size, &bytes))
        return no_memory(mi_crt_of(ctx));
    return block_resize(mi_crt_of(ctx), p, plain_shape(bytes, true), tag_of(type, file, line));
}

static void *plain_recalloc(void *p, size_t count, size_t size, mi_crt_ctx_t *ctx) {
    return recalloc_dbg(p, count, size, MI_DEBUG_NORMAL_BLOCK, NULL, 0, ctx);
}

static void *expand_dbg(void *p, size_t size, int type, const char *file, int line,
                        mi_crt_ctx_t *ctx) {
    mi_crt_t *crt = mi_crt_of(ctx);
    mi_debug_block_t block;
    if (p == NULL) {
        mi_foreign_invalid_argument(crt);
        return NULL;
    }
    if (!mi_alloc.is_ours(p))
        return mi_foreign_expand(crt, p, size);
    if (!mi_alloc.debug_opt->find(p, &block))
        return mi_alloc.realloc_in_place(p, size == 0 ? 1 : size);
    tag_t tag = tag_of(block.use, file, line);
    (void)type; // a block keeps its type
    block.request = tag.request = request_begin(crt);
    if (!hook_allows(crt, HOOK_REALLOC, p, size, tag)) {
        say_vetoed(crt, "re-allocation", tag);
        return NULL;
    }
    if (mi_alloc.realloc_in_place(p, size == 0 ? 1 : size) == NULL)
        return no_memory(crt);
    block.size = size;
    block.file = file;
    block.line = line;
    (void)mi_alloc.debug_opt->add(&block);
    return p;
}

static void *plain_expand(void *p, size_t size, mi_crt_ctx_t *ctx) {
    return expand_dbg(p, size, MI_DEBUG_NORMAL_BLOCK, NULL, 0, ctx);
}

static void plain_free(void *p, mi_crt_ctx_t *ctx) {
    block_free(mi_crt_of(ctx), p, false);
}

static size_t plain_msize(void *p, mi_crt_ctx_t *ctx) {
    mi_crt_t *crt = mi_crt_of(ctx);
    if (p == NULL) {
        mi_foreign_invalid_argument(crt);
        return (size_t)-1;
    }
    return block_size(crt, p, plain_shape(0, false));
}

static void *aligned_offset_malloc_dbg(size_t size, size_t align, size_t offset, const char *file,
                                       int line, mi_crt_ctx_t *ctx) {
    shape_t shape = {size, align, offset, true, false};
    if (!is_valid_aligned(mi_crt_of(ctx), &shape))
        return NULL;
    return block_new(mi_crt_of(ctx), shape, tag_of(MI_DEBUG_NORMAL_BLOCK, file, line));
}

static void *aligned_offset_malloc(size_t size, size_t align, size_t offset, mi_crt_ctx_t *ctx) {
    return aligned_offset_malloc_dbg(size, align, offset, NULL, 0, ctx);
}

static void *aligned_malloc_dbg(size_t size, size_t align, const char *file, int line,
                                mi_crt_ctx_t *ctx) {
    return aligned_offset_malloc_dbg(size, align, 0, file, line, ctx);
}

static void *aligned_malloc(size_t size, size_t align, mi_crt_ctx_t *ctx) {
    return aligned_offset_malloc_dbg(size, align, 0, NULL, 0, ctx);
}

static void *aligned_offset_realloc_dbg(void *p, size_t size, size_t align, size_t offset,
                                        const char *file, int line, mi_crt_ctx_t *ctx) {
    return aligned_resize(mi_crt_of(ctx), p, (shape_t){size, align, offset, true, false},
                          tag_of(MI_DEBUG_NORMAL_BLOCK, file, line));
}

static void *aligned_offset_realloc(void *p, size_t size, size_t align, size_t offset,
                                    mi_crt_ctx_t *ctx) {
    return aligned_offset_realloc_dbg(p, size, align, offset, NULL, 0, ctx);
}

static void *aligned_realloc_dbg(void *p, size_t size, size_t align, const char *file, int line,
                                 mi_crt_ctx_t *ctx) {
    return aligned_offset_realloc_dbg(p, size, align, 0, file, line, ctx);
}

static void *aligned_realloc(void *p, size_t size, size_t align, mi_crt_ctx_t *ctx) {
    return aligned_offset_realloc_dbg(p, size, align, 0, NULL, 0, ctx);
}

static void *aligned_recalloc_any(mi_crt_t *crt, void *p, size_t count, shape_t shape, tag_t tag) {
    if (!mi_mul_ok(count, shape.size, &shape.size))
        return no_memory(crt);
    return aligned_resize(crt, p, shape, tag);
}

static void *aligned_offset_recalloc(void *p, size_t count, size_t size, size_t align,
                                     size_t offset, mi_crt_ctx_t *ctx) {
    return aligned_recalloc_any(mi_crt_of(ctx), p, count,
                                (shape_t){size, align, offset, true, true}, plain_tag);
}

static void *aligned_recalloc_dbg(void *p, size_t count, size_t size, size_t align,
                                  const char *file, int line, mi_crt_ctx_t *ctx) {
    return aligned_recalloc_any(mi_crt_of(ctx), p, count, (shape_t){size, align, 0, true, true},
                                tag_of(MI_DEBUG_NORMAL_BLOCK, file, line));
}

static void *aligned_recalloc(void *p, size_t count, size_t size, size_t align, mi_crt_ctx_t *ctx) {
    return aligned_offset_recalloc(p, count, size, align, 0, ctx);
}

static void aligned_free(void *p, mi_crt_ctx_t *ctx) {
    block_free(mi_crt_of(ctx), p, true);
}

static size_t aligned_msize(void *p, size_t align, size_t offset, mi_crt_ctx_t *ctx) {
    mi_crt_t *crt = mi_crt_of(ctx);
    if (p == NULL) {
        mi_foreign_invalid_argument(crt);
        return (size_t)-1;
    }
    return block_size(crt, p, (shape_t){0, align, offset, true, false});
}

// operator new: the new-handler whatever the new-mode, then the CRT's own operator, which throws.
static void *new_dbg(size_t size, int type, const char *file, int line, mi_crt_ctx_t *ctx) {
    mi_crt_t *crt = mi_crt_of(ctx);
    for (;;) {
        void *p =
            block_new(crt, plain_shape(size == 0 ? 1 : size, false), tag_of(type, file, line));
        if (p != NULL)
            return p;
        if (!mi_foreign_new_handler(crt, size))
            return crt->own.new_original != NULL ? crt->own.new_original(size) : NULL;
    }
}

static void *plain_new(size_t size, mi_crt_ctx_t *ctx) {
    return new_dbg(size, MI_DEBUG_NORMAL_BLOCK, NULL, 0, ctx);
}

static void *new_nothrow(size_t size, mi_crt_ctx_t *ctx) {
    for (;;) {
        void *p = plain_malloc(size == 0 ? 1 : size, ctx);
        if (p != NULL || !mi_foreign_new_handler(mi_crt_of(ctx), size))
            return p;
    }
}

uintptr_t mi_debug_heap_target(mi_crt_fn_t fn) {
    static const uintptr_t targets[MI_CRT_FN_COUNT] = {
        [MI_CRT_MALLOC] = (uintptr_t)plain_malloc,
        [MI_CRT_CALLOC] = (uintptr_t)plain_calloc,
        [MI_CRT_REALLOC] = (uintptr_t)plain_realloc,
        [MI_CRT_FREE] = (uintptr_t)plain_free,
        [MI_CRT_MSIZE] = (uintptr_t)plain_msize,
        [MI_CRT_EXPAND] = (uintptr_t)plain_expand,
        [MI_CRT_RECALLOC] = (uintptr_t)plain_recalloc,
        [MI_CRT_ALIGNED_MALLOC] = (uintptr_t)aligned_malloc,
        [MI_CRT_ALIGNED_FREE] = (uintptr_t)aligned_free,
        [MI_CRT_ALIGNED_REALLOC] = (uintptr_t)aligned_realloc,
        [MI_CRT_ALIGNED_RECALLOC] = (uintptr_t)aligned_recalloc,
        [MI_CRT_ALIGNED_MSIZE] = (uintptr_t)aligned_msize,
        [MI_CRT_ALIGNED_OFFSET_MALLOC] = (uintptr_t)aligned_offset_malloc,
        [MI_CRT_ALIGNED_OFFSET_REALLOC] = (uintptr_t)aligned_offset_realloc,
        [MI_CRT_ALIGNED_OFFSET_RECALLOC] = (uintptr_t)aligned_offset_recalloc,
        [MI_CRT_NEW] = (uintptr_t)plain_new,
        [MI_CRT_NEW_NOTHROW] = (uintptr_t)new_nothrow,
        [MI_CRT_DELETE] = (uintptr_t)plain_free,
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

// A CRT that has already allocated goes on to count: a block of its own tells how far it is.
void mi_debug_heap_begin(mi_crt_t *crt) {
    char *file = NULL;
    long request = 0;
    int line = 0;
    mi_store_relaxed(&crt->debug_unchecked, 0);
    mi_store_relaxed(&crt->debug_requests, 0);
    if (!crt->is_late || crt->own.malloc_dbg == NULL || crt->own.free_dbg == NULL ||
        crt->own.is_memory_block == NULL)
        return;
    void *p = crt->own.malloc_dbg(1, MI_DEBUG_CRT_BLOCK, NULL, 0);
    if (p == NULL)
        return;
    if (crt->own.is_memory_block(p, 1, &request, &file, &line))
        mi_store_relaxed(&crt->debug_requests, (int32_t)request);
    crt->own.free_dbg(p, MI_DEBUG_CRT_BLOCK);
}
