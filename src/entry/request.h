// One form for every way to allocate or resize: which heap, how large, how aligned, zeroed or not.
// The many public shapes (heap_api.c, aligned_api.c, theap_api.c) only fill it in.
#ifndef MI_ENTRY_REQUEST_H
#define MI_ENTRY_REQUEST_H

#include "base/base.h"
#include "core/alloc.h"

typedef struct mi_request_s {
    mi_heap_t *heap; // NULL = what plain allocations of the calling thread use
    size_t size;     // bytes; SIZE_MAX = the product of count and size overflowed
    size_t align;    // 1 = as every block; else errno EINVAL unless a power of two
    size_t offset;   // of the address that is aligned
    unsigned flags;  // mi_realloc_flag_t
} mi_request_t;

// A new block; NULL after errno, the message and the handler.
void *mi_request_alloc(const mi_request_t *r);
// p (or NULL) resized; NULL after errno and the message, p is untouched then.
void *mi_request_realloc(void *p, const mi_request_t *r);

// count * size, or SIZE_MAX, which no request can have.
MI_INLINE size_t mi_request_bytes(size_t count, size_t size) {
    size_t bytes;
    return mi_mul_ok(count, size, &bytes) ? bytes : SIZE_MAX;
}

#endif
