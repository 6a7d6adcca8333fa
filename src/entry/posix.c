// Linux: the C library's malloc family under its own names, so that a program that is linked with
// this library, or runs with it preloaded, uses it without knowing. malloc and free are the inline
// fast paths, not jumps to mi_malloc.
#include "base/base.h"
#include "core/alloc_inline.h"
#include "entry/entry.h"
#include "entry/free_any.h"
#include "mimalloc.h"
#include "os/os.h"

#define MI_EXPORT      __attribute__((visibility("default")))
#define MI_ALIAS(name) __attribute__((visibility("default"), alias(#name)))

MI_EXPORT void *malloc(size_t size);
MI_EXPORT void *calloc(size_t count, size_t size);
MI_EXPORT void *realloc(void *p, size_t size);
MI_EXPORT void free(void *p);
MI_EXPORT void cfree(void *p);
MI_EXPORT void *reallocarray(void *p, size_t count, size_t size);
MI_EXPORT void *reallocf(void *p, size_t size);
MI_EXPORT int reallocarr(void *p, size_t count, size_t size);
MI_EXPORT void *memalign(size_t align, size_t size);
MI_EXPORT void *aligned_alloc(size_t align, size_t size);
MI_EXPORT int posix_memalign(void **p, size_t align, size_t size);
MI_EXPORT int __posix_memalign(void **p, size_t align, size_t size);
MI_EXPORT void *valloc(size_t size);
MI_EXPORT void *pvalloc(size_t size);
MI_EXPORT void vfree(void *p);
MI_EXPORT size_t malloc_usable_size(void *p);
MI_EXPORT size_t malloc_size(const void *p);
MI_EXPORT size_t malloc_good_size(size_t size);

void *malloc(size_t size) {
    void *p = mi_malloc_try(size);
    return MI_LIKELY(p != NULL) ? p : mi_malloc_slow(size);
}

void free(void *p) {
    mi_free_any(p);
}

void *calloc(size_t count, size_t size) {
    return mi_calloc(count, size);
}

void *realloc(void *p, size_t size) {
    size_t usable;
    void *q = mi_realloc_try(p, size, &usable);
    return MI_LIKELY(q != NULL) ? q : mi_realloc_move(p, size, usable);
}

void *reallocarray(void *p, size_t count, size_t size) {
    return mi_reallocn(p, count, size);
}

void *reallocf(void *p, size_t size) {
    return mi_reallocf(p, size);
}

int reallocarr(void *p, size_t count, size_t size) {
    return mi_reallocarr(p, count, size);
}

void *memalign(size_t align, size_t size) {
    return mi_malloc_aligned(size, align);
}

void *aligned_alloc(size_t align, size_t size) {
    return mi_malloc_aligned(size, align);
}

int posix_memalign(void **p, size_t align, size_t size) {
    return mi_posix_memalign(p, align, size);
}

void *valloc(size_t size) {
    return mi_valloc(size);
}

void *pvalloc(size_t size) {
    return mi_pvalloc(size);
}

size_t malloc_usable_size(void *p) {
    return mi_usable_any(p, "malloc_usable_size");
}

size_t malloc_size(const void *p) {
    return mi_usable_any(p, "malloc_size");
}

size_t malloc_good_size(size_t size) {
    return mi_good_size(size);
}

void cfree(void *p) MI_ALIAS(free);
void vfree(void *p) MI_ALIAS(free);

// What old programs and parts of the C library call.
MI_EXPORT void *__libc_malloc(size_t size) MI_ALIAS(malloc);
MI_EXPORT void *__libc_calloc(size_t count, size_t size) MI_ALIAS(calloc);
MI_EXPORT void *__libc_realloc(void *p, size_t size) MI_ALIAS(realloc);
MI_EXPORT void __libc_free(void *p) MI_ALIAS(free);
MI_EXPORT void __libc_cfree(void *p) MI_ALIAS(free);
MI_EXPORT void *__libc_memalign(size_t align, size_t size) MI_ALIAS(memalign);
MI_EXPORT void *__libc_valloc(size_t size) MI_ALIAS(valloc);
MI_EXPORT void *__libc_pvalloc(size_t size) MI_ALIAS(pvalloc);
// No alias: gcc misses here the attributes that the C library's header gives to the other name.
int __posix_memalign(void **p, size_t align, size_t size) {
    return mi_posix_memalign(p, align, size);
}
