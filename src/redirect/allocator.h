// The other half: finds the allocator DLL in the process by what it exports and binds to it,
// through the versioned table (ours) or through the names that the original's halves use. After
// mi_allocator_bind has returned true the bound functions may be called from any thread at any
// time; before that nothing here may be called.
#ifndef MI_REDIRECT_ALLOCATOR_H
#define MI_REDIRECT_ALLOCATOR_H

#include "base/redirect_abi.h"
#include "pe/plan_reason.h"
#include "redirect/modules.h"

// The bound allocator. The crt_ functions are the allocator's own, or, with an original half, the
// shims of crt_shims.c over its plain functions.
typedef struct mi_allocator_s {
    const mi_redirect_allocator_t *table_opt; // NULL = an original half
    const mi_redirect_debug_t *debug_opt;     // bookkeeping for debug CRTs; NULL = none
    uint8_t *module;                          // base address of its DLL
    uint32_t version;                         // as mi_version() says: 30400 = 3.4.0
    char name[64];                            // file name

    bool (*is_ours)(const void *p);
    void *(*crt_malloc)(size_t size, mi_crt_ctx_t *ctx);
    void *(*crt_calloc)(size_t count, size_t size, mi_crt_ctx_t *ctx);
    void *(*crt_realloc)(void *p, size_t size, mi_crt_ctx_t *ctx);
    void (*crt_free)(void *p, mi_crt_ctx_t *ctx);
    size_t (*crt_msize)(const void *p, mi_crt_ctx_t *ctx);

    void *(*alloc)(size_t size);
    void *(*alloc_zeroed)(size_t size);
    void *(*alloc_aligned)(size_t size, size_t align, size_t offset);
    void *(*realloc_plain)(void *p, size_t size);    // original half only: p is ours or NULL
    void *(*realloc_in_place)(void *p, size_t size); // p or NULL
    void (*free)(void *p);                           // p is ours
    size_t (*usable_size)(const void *p);
    void (*collect_opt)(void); // gives back what is free; NULL = an original half
    // Every live block, see redirect_abi.h; NULL = an original half
    size_t (*list_opt)(mi_redirect_block_t *out, size_t cap, const void **damaged);
    // The functions bound to one CRT; NULL = an original half, or an older one
    const mi_redirect_bound_t *(*bind_opt)(mi_crt_ctx_t *ctx, mi_redirect_new_slow_fn new_slow);
    void (*entry)(DWORD reason); // original half only: process and thread attach and detach
} mi_allocator_t;

extern mi_allocator_t mi_alloc; // written once, by mi_allocator_bind

// Looks through the modules (loader lock held). MI_REASON_NONE = bound.
mi_reason_t mi_allocator_bind(void);
bool mi_allocator_is_bound(void);
// From now on code or tables of others point at both halves: neither DLL may ever go. Loader lock.
void mi_allocator_pin(void);

#endif
