// Blocks that are not ours but reach a redirected function: made by a CRT before it was redirected,
// by another CRT, or by nobody. Each is found in the heap that knows it and served by that heap.
// Off every hot path; any thread.
//
//   release CRT   a heap block of the CRT's heap      HeapFree, HeapSize, HeapReAlloc on it
//   aligned       [ true start | gap | p ... ]         the word below p names the heap block
//   debug CRT     [ header | 4 guard bytes | p ... ]   only the CRT's own original functions may
//   touch it unknown       in no heap of the process            counted, reported once, left alone
#ifndef MI_REDIRECT_CRT_FOREIGN_H
#define MI_REDIRECT_CRT_FOREIGN_H

#include "redirect/crt.h"

// The functions of mi_crt_ctx_t.
bool mi_foreign_no_memory(mi_crt_ctx_t *ctx, size_t size);
void mi_foreign_free(mi_crt_ctx_t *ctx, void *p);
void *mi_foreign_realloc(mi_crt_ctx_t *ctx, void *p, size_t size);
size_t mi_foreign_msize(mi_crt_ctx_t *ctx, void *p); // (size_t)-1 = unknown

// In place only; NULL = impossible.
void *mi_foreign_expand(mi_crt_t *crt, void *p, size_t size);
// A block made by one of the aligned functions of a CRT.
void mi_foreign_aligned_free(mi_crt_t *crt, void *p);
size_t mi_foreign_aligned_msize(mi_crt_t *crt, void *p, size_t align, size_t offset);

// Runs the new-handler of the CRT; true = it did something, try again. Does not set errno.
bool mi_foreign_new_handler(mi_crt_t *crt, size_t size);
void mi_foreign_set_errno(mi_crt_t *crt, int value);
// A wrong argument: what the CRT does, by its own handler, which by default ends the program.
void mi_foreign_invalid_argument(mi_crt_t *crt);

#endif
