// The replacements of the CRT functions that the allocator does not replace itself: CRT shape plus
// the context of the CRT that was called. The meaning is the UCRT's documented one. Any thread, at
// any time after the allocator is bound.
#ifndef MI_REDIRECT_CRT_SHIMS_H
#define MI_REDIRECT_CRT_SHIMS_H

#include "base/redirect_abi.h"
#include "redirect/crt.h"

// The five that the allocator of ours brings itself; these serve an original half.
void *mi_shim_malloc(size_t size, mi_crt_ctx_t *ctx);
void *mi_shim_calloc(size_t count, size_t size, mi_crt_ctx_t *ctx);
void *mi_shim_realloc(void *p, size_t size, mi_crt_ctx_t *ctx);
void mi_shim_free(void *p, mi_crt_ctx_t *ctx);
size_t mi_shim_msize(const void *p, mi_crt_ctx_t *ctx);

// After a resizing of a block of ours from old_bytes to new_bytes: what lies behind the contents
// becomes zero, up to the last byte that _msize counts. So the next resizing finds zeros where this
// one ended, even if the allocator rounds sizes up.
void mi_shim_zero_behind(void *p, size_t old_bytes, size_t new_bytes);

// Where a patched entry of this function of this CRT goes, as an address. Never 0.
uintptr_t mi_shim_target(const mi_crt_t *crt, mi_crt_fn_t fn);
// Where it may jump straight to, since the function there knows the CRT; 0 = nowhere.
uintptr_t mi_shim_bound(const mi_crt_t *crt, mi_crt_fn_t fn);
// Asks the allocator for such functions. Before the two above, loader lock.
void mi_shim_bind(mi_crt_t *crt);

#endif
