// Replaces all of C++'s allocation operators by this allocator. When memory is short the
// new-handler of the program's own C++ runtime is called, then std::bad_alloc is thrown; the
// nothrow forms give NULL then, also when the handler throws. Include it in exactly one source file
// of a program or DLL: the operators are ordinary functions that the linker then takes instead of
// the library's.
#ifndef MIMALLOC_NEW_DELETE_H
#define MIMALLOC_NEW_DELETE_H

#if defined(__cplusplus)
#    include <new>
#    include "mimalloc.h"

#    if defined(_MSC_VER) && defined(_Ret_notnull_) && defined(_Post_writable_byte_size_)
#        define mi_decl_new(n)                                                                     \
            mi_decl_nodiscard mi_decl_restrict _Ret_notnull_ _Post_writable_byte_size_(n)
#        define mi_decl_new_nothrow(n)                                                             \
            mi_decl_nodiscard mi_decl_restrict _Ret_maybenull_ _Success_(return != NULL)           \
                _Post_writable_byte_size_(n)
#    else
#        define mi_decl_new(n)         mi_decl_nodiscard mi_decl_restrict
#        define mi_decl_new_nothrow(n) mi_decl_nodiscard mi_decl_restrict
#    endif

#    if MI_STL_THROWS
static inline void *_mi_operator_new(std::size_t n) {
    return _mi_stl_try([=] { return mi_malloc(n); });
}
static inline void *_mi_operator_new_nothrow(std::size_t n) noexcept {
    try {
        return _mi_operator_new(n);
    } catch (...) {
        return nullptr;
    }
}
static inline void *_mi_operator_new_aligned(std::size_t n, std::size_t al) {
    if (al == 0 || (al & (al - 1)) != 0) // no handler cures that
        throw std::bad_alloc();
    return _mi_stl_try([=] { return mi_malloc_aligned(n, al); });
}
static inline void *_mi_operator_new_aligned_nothrow(std::size_t n, std::size_t al) noexcept {
    try {
        return _mi_operator_new_aligned(n, al);
    } catch (...) {
        return nullptr;
    }
}
#    else
static inline void *_mi_operator_new(std::size_t n) {
    return mi_new(n);
}
static inline void *_mi_operator_new_nothrow(std::size_t n) noexcept {
    return mi_new_nothrow(n);
}
static inline void *_mi_operator_new_aligned(std::size_t n, std::size_t al) {
    return mi_new_aligned(n, al);
}
static inline void *_mi_operator_new_aligned_nothrow(std::size_t n, std::size_t al) noexcept {
    return mi_new_aligned_nothrow(n, al);
}
#    endif

// clang-format off
void operator delete(void *p) noexcept              { mi_free(p); }
void operator delete[](void *p) noexcept            { mi_free(p); }
void operator delete(void *p, const std::nothrow_t &) noexcept   { mi_free(p); }
void operator delete[](void *p, const std::nothrow_t &) noexcept { mi_free(p); }

mi_decl_new(n) void *operator new(std::size_t n) noexcept(false)   { return _mi_operator_new(n); }
mi_decl_new(n) void *operator new[](std::size_t n) noexcept(false) { return _mi_operator_new(n); }
mi_decl_new_nothrow(n) void *operator new(std::size_t n, const std::nothrow_t &) noexcept   { return _mi_operator_new_nothrow(n); }
mi_decl_new_nothrow(n) void *operator new[](std::size_t n, const std::nothrow_t &) noexcept { return _mi_operator_new_nothrow(n); }

#    if (__cplusplus >= 201402L || (defined(_MSC_VER) && _MSC_VER >= 1916))
void operator delete(void *p, std::size_t n) noexcept   { mi_free_size(p, n); }
void operator delete[](void *p, std::size_t n) noexcept { mi_free_size(p, n); }
#    endif

#    if (__cplusplus > 201402L || defined(__cpp_aligned_new))
void operator delete(void *p, std::align_val_t al) noexcept   { mi_free_aligned(p, static_cast<std::size_t>(al)); }
void operator delete[](void *p, std::align_val_t al) noexcept { mi_free_aligned(p, static_cast<std::size_t>(al)); }
void operator delete(void *p, std::size_t n, std::align_val_t al) noexcept   { mi_free_size_aligned(p, n, static_cast<std::size_t>(al)); }
void operator delete[](void *p, std::size_t n, std::align_val_t al) noexcept { mi_free_size_aligned(p, n, static_cast<std::size_t>(al)); }
void operator delete(void *p, std::align_val_t al, const std::nothrow_t &) noexcept   { mi_free_aligned(p, static_cast<std::size_t>(al)); }
void operator delete[](void *p, std::align_val_t al, const std::nothrow_t &) noexcept { mi_free_aligned(p, static_cast<std::size_t>(al)); }

void *operator new(std::size_t n, std::align_val_t al) noexcept(false)   { return _mi_operator_new_aligned(n, static_cast<std::size_t>(al)); }
void *operator new[](std::size_t n, std::align_val_t al) noexcept(false) { return _mi_operator_new_aligned(n, static_cast<std::size_t>(al)); }
void *operator new(std::size_t n, std::align_val_t al, const std::nothrow_t &) noexcept   { return _mi_operator_new_aligned_nothrow(n, static_cast<std::size_t>(al)); }
void *operator new[](std::size_t n, std::align_val_t al, const std::nothrow_t &) noexcept { return _mi_operator_new_aligned_nothrow(n, static_cast<std::size_t>(al)); }
#    endif
// clang-format on
#endif

#endif
