// Linux: C++'s allocation operators under their mangled names (Itanium ABI, 64-bit size_t), all
// forms up to C++17. In C, so that no C++ runtime is needed. Compiled with exception tables:
// std::bad_alloc passes through.
#include "base/base.h"
#include "core/alloc_inline.h"
#include "entry/entry.h"
#include "entry/free_any.h"
#include "mimalloc.h"

#define MI_EXPORT      __attribute__((visibility("default")))
#define MI_ALIAS(name) __attribute__((visibility("default"), alias(#name)))

static_assert(sizeof(size_t) == 8, "the mangled names below say unsigned long");

typedef struct nothrow_s nothrow_t; // const std::nothrow_t &

// new
MI_EXPORT void *_Znwm(size_t size);
MI_EXPORT void *_ZnwmRKSt9nothrow_t(size_t size, const nothrow_t *tag);
MI_EXPORT void *_ZnwmSt11align_val_t(size_t size, size_t align);
MI_EXPORT void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const nothrow_t *tag);

void *_Znwm(size_t size) {
    return mi_new(size);
}

void *_ZnwmRKSt9nothrow_t(size_t size, const nothrow_t *tag) {
    (void)tag;
    return mi_new_nothrow(size);
}

void *_ZnwmSt11align_val_t(size_t size, size_t align) {
    return mi_new_aligned(size, align);
}

void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const nothrow_t *tag) {
    (void)tag;
    return mi_new_aligned_nothrow(size, align);
}

// new[]
MI_EXPORT void *_Znam(size_t size) MI_ALIAS(_Znwm);
MI_EXPORT void *_ZnamRKSt9nothrow_t(size_t size, const nothrow_t *tag)
    MI_ALIAS(_ZnwmRKSt9nothrow_t);
MI_EXPORT void *_ZnamSt11align_val_t(size_t size, size_t align) MI_ALIAS(_ZnwmSt11align_val_t);
MI_EXPORT void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const nothrow_t *tag)
    MI_ALIAS(_ZnwmSt11align_val_tRKSt9nothrow_t);

// delete: every form takes the block first; what else it is told is not needed
MI_EXPORT void _ZdlPv(void *p);

void _ZdlPv(void *p) {
    mi_free_any(p);
}

#define MI_DELETE(name, ...) MI_EXPORT void name(void *p, ##__VA_ARGS__)
MI_DELETE(_ZdlPvm, size_t size);
MI_DELETE(_ZdlPvRKSt9nothrow_t, const nothrow_t *tag);
MI_DELETE(_ZdlPvSt11align_val_t, size_t align);
MI_DELETE(_ZdlPvmSt11align_val_t, size_t size, size_t align);
MI_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, size_t align, const nothrow_t *tag);

void _ZdlPvm(void *p, size_t size) {
    mi_told(p, size, 1);
    _ZdlPv(p);
}

void _ZdlPvRKSt9nothrow_t(void *p, const nothrow_t *tag) {
    (void)tag;
    _ZdlPv(p);
}

void _ZdlPvSt11align_val_t(void *p, size_t align) {
    mi_told(p, 0, align);
    _ZdlPv(p);
}

void _ZdlPvmSt11align_val_t(void *p, size_t size, size_t align) {
    mi_told(p, size, align);
    _ZdlPv(p);
}

void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *p, size_t align, const nothrow_t *tag) {
    (void)align;
    (void)tag;
    _ZdlPv(p);
}

// delete[]
MI_EXPORT void _ZdaPv(void *p) MI_ALIAS(_ZdlPv);
MI_DELETE(_ZdaPvm, size_t size) MI_ALIAS(_ZdlPvm);
MI_DELETE(_ZdaPvRKSt9nothrow_t, const nothrow_t *tag) MI_ALIAS(_ZdlPvRKSt9nothrow_t);
MI_DELETE(_ZdaPvSt11align_val_t, size_t align) MI_ALIAS(_ZdlPvSt11align_val_t);
MI_DELETE(_ZdaPvmSt11align_val_t, size_t size, size_t align) MI_ALIAS(_ZdlPvmSt11align_val_t);
MI_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, size_t align, const nothrow_t *tag)
MI_ALIAS(_ZdlPvSt11align_val_tRKSt9nothrow_t);
