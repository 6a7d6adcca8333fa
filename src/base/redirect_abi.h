// The contract between the two DLLs, the only thing they share: the allocator (any file name, known
// by its export _mi_redirect_allocator) and the redirect DLL (any file name, known by its export
// mi_allocator_init). They meet at run time; neither links the other. A half that finds another
// major version falls back to the names that the original's halves use (mi_malloc, mi_free, ...;
// _mi_redirect_entry), see docs/windows.md.
//
//   redirect DLL                                      allocator DLL
//   ------------                                      -------------
//   finds _mi_redirect_allocator(version)      --->   returns its function table, NULL = version
//   unknown patches a CRT's free to jump to crt_free   --->   ours: freed.  Not ours:
//   ctx->foreign_free(ctx, p) exports mi_allocator_init(&message)        <---   called once at
//   process attach _mi_redirect_entry(reason)                 --->   process and thread attach and
//   detach
#ifndef MI_BASE_REDIRECT_ABI_H
#define MI_BASE_REDIRECT_ABI_H

#include "base/base.h"

#define MI_REDIRECT_ABI_MAJOR 1u // another major: the halves use the original's interface only
#define MI_REDIRECT_ABI_MINOR                                                                      \
    3u // fields are only ever added at the end; table_bytes says how many there are
#define MI_REDIRECT_ABI ((MI_REDIRECT_ABI_MAJOR << 16) | MI_REDIRECT_ABI_MINOR)

// One redirected CRT. The redirect DLL owns it and it lives until the process ends. The allocator
// sees only these first fields; it passes ctx through untouched and calls a field only off its fast
// path.
typedef struct mi_crt_ctx_s mi_crt_ctx_t;
struct mi_crt_ctx_s {
    // Out of memory for size bytes: true = a new-handler ran, try again; false = errno is set,
    // return NULL.
    bool (*no_memory)(mi_crt_ctx_t *ctx, size_t size);
    // p is not NULL and not in our heap.
    void (*foreign_free)(mi_crt_ctx_t *ctx, void *p);
    void *(*foreign_realloc)(mi_crt_ctx_t *ctx, void *p, size_t size);
    size_t (*foreign_msize)(mi_crt_ctx_t *ctx, void *p); // or NULL: -1, after the CRT's own error
};

// The block types of the debug CRTs, as <crtdbg.h> numbers them; a subtype may stand in the upper
// 16 bits.
enum {
    MI_DEBUG_FREE_BLOCK = 0,
    MI_DEBUG_NORMAL_BLOCK = 1,
    MI_DEBUG_CRT_BLOCK = 2,
    MI_DEBUG_IGNORE_BLOCK = 3,
    MI_DEBUG_CLIENT_BLOCK = 4,
    MI_DEBUG_USES = 5
};
#define MI_DEBUG_USE(use) ((use)&0xFFFF)

typedef struct mi_debug_totals_s {
    size_t counts[MI_DEBUG_USES]; // blocks there are
    size_t sizes[MI_DEBUG_USES];  // their bytes, as asked for
    size_t live;                  // bytes, all types
    size_t high;                  // the most there ever were
    size_t total;                 // ever allocated
} mi_debug_totals_t;

// One debug CRT, as the bookkeeping sees it. The redirect DLL gives it zeroed and keeps it; what is
// in it belongs to the bookkeeping.
typedef struct mi_debug_owner_s {
    mi_debug_totals_t totals;
    void *newest; // record
} mi_debug_owner_t;

// A block that a debug CRT gave out, and what the program said of it.
typedef struct mi_debug_block_s {
    const void *p;
    size_t size; // as asked for
    mi_debug_owner_t *owner;
    const char *file; // as the program passed it, or NULL; may lie in a module that has gone
    int32_t line;
    int32_t use;
    int32_t request; // number of the allocation, from 1
} mi_debug_block_t;

// The bookkeeping of the debug allocator. Any thread, any time; a block that is freed in whatever
// way is forgotten before its memory is used again.
typedef struct mi_redirect_debug_s {
    uint32_t table_bytes; // sizeof of this table in the allocator's build
    // At p + offset a multiple of align, never from a heap that can be destroyed. NULL = no memory.
    void *(*alloc)(size_t size, size_t align, size_t offset, bool is_zeroed);
    bool (*add)(
        const mi_debug_block_t *block); // instead of what was known of block->p; false = no memory
    bool (*find)(const void *p, mi_debug_block_t *out); // a block that starts at p
    bool (*set_use)(const void *p, int32_t use);
    void (*totals)(const mi_debug_owner_t *owner, mi_debug_totals_t *out);
    // The newest first, at most cap; returns how many there are.
    size_t (*list)(const mi_debug_owner_t *owner, mi_debug_block_t *out, size_t cap);
    // The same of those whose memory was overwritten behind their end.
    size_t (*damaged)(const mi_debug_owner_t *owner, mi_debug_block_t *out, size_t cap);
    void (*forget)(mi_debug_owner_t *owner); // all of its blocks, which stay allocated
} mi_redirect_debug_t;

// A live block, for walks over the heap.
typedef struct mi_redirect_block_s {
    const void *p;
    size_t size; // as asked for, where the allocator knows it, or MI_REDIRECT_GONE
} mi_redirect_block_t;

#define MI_REDIRECT_GONE SIZE_MAX // takes the other entry of this address back
#define MI_REDIRECT_BUSY SIZE_MAX

// The functions of one CRT, bound to its context: an entry jumps straight to them.
typedef struct mi_redirect_bound_s {
    void *(*crt_malloc)(size_t size);
    void *(*crt_calloc)(size_t count, size_t size);
    void *(*crt_realloc)(void *p, size_t size);
    void (*crt_free)(void *p);
    void *(*crt_new)(size_t size); // without memory: new_slow(ctx, size)
} mi_redirect_bound_t;
typedef void *(*mi_redirect_new_slow_fn)(mi_crt_ctx_t *ctx, size_t size);

// The allocator's side. The crt_ functions have the shape of the CRT function plus the context of
// the CRT that was called, so that a patched entry can jump straight to them.
typedef struct mi_redirect_allocator_s {
    uint32_t abi;                   // MI_REDIRECT_ABI of the allocator
    uint32_t table_bytes;           // sizeof of this table in the allocator's build
    uint32_t version;               // mi_version()
    uint32_t variant;               // 0 release, 1 debug, 2 secure
    bool (*is_ours)(const void *p); // any 64-bit value, O(1), never touches p's memory
    void *(*crt_malloc)(size_t size, mi_crt_ctx_t *ctx);
    void *(*crt_calloc)(size_t count, size_t size, mi_crt_ctx_t *ctx);
    void *(*crt_realloc)(void *p, size_t size, mi_crt_ctx_t *ctx);
    void (*crt_free)(void *p, mi_crt_ctx_t *ctx);
    size_t (*crt_msize)(const void *p, mi_crt_ctx_t *ctx);
    // Without a context; NULL = no memory, no errno, no handler.
    void *(*alloc)(size_t size);
    void *(*alloc_zeroed)(size_t size);
    void *(*alloc_aligned)(size_t size, size_t align, size_t offset); // align a power of two
    void *(*realloc_in_place)(void *p, size_t size);                  // p or NULL; never moves
    void (*free)(void *p);                                            // p is ours or NULL
    size_t (*usable_size)(const void *p);                             // p is ours
    // Who answers for pointers that mi_free, mi_realloc and mi_usable_size get and that are not
    // ours: NULL = nobody, they are reported as errors. Set once, by the redirect DLL.
    void (*set_foreign)(mi_crt_ctx_t *ctx);
    // Process-wide counters, for the report: blocks allocated so far through any entry.
    uint64_t (*allocation_count)(void);
    // Since minor version 1: the bookkeeping for debug CRTs, NULL = a build without it.
    const mi_redirect_debug_t *debug;
    // Since minor version 2: for the functions of a CRT that look at its whole heap.
    // Gives back what is free.
    void (*collect)(void);
    // Every live block; the caller has stopped all other threads, wherever they were. Writes at
    // most cap, returns how many there are, MI_REDIRECT_BUSY = a stopped thread stands in the way:
    // let it go on and ask again. *damaged: where the records contradict themselves, NULL =
    // nowhere; a thread stopped halfway may look like that once.
    size_t (*list)(mi_redirect_block_t *out, size_t cap, const void **damaged);
    // Since minor version 3: the same set whenever it is the same ctx; NULL = there is no more.
    // Loader lock; the functions may be called by any thread as soon as this has returned.
    const mi_redirect_bound_t *(*bind)(mi_crt_ctx_t *ctx, mi_redirect_new_slow_fn new_slow);
} mi_redirect_allocator_t;

// The first call of all: it readies the allocator, whose DllMain may not have run yet. NULL = it
// speaks another major version.
typedef const mi_redirect_allocator_t *(*mi_redirect_allocator_fn)(uint32_t abi);

#endif
