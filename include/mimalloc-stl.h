// The allocators for C++ containers; included by mimalloc.h.
//   mi_stl_allocator<T>               allocates as operator new does, from the calling thread's
//   heap mi_heap_stl_allocator<T>          from a heap, which it deletes with its last copy if it
//   made it itself mi_heap_destroy_stl_allocator<T>  the same, but frees nothing one by one and
//   destroys the heap at the end
// Copies of one allocator are equal and may free each other's blocks. A failure is that of the
// program's own C++ runtime: its new-handler is called, then std::bad_alloc is thrown; a count
// whose bytes overflow is a std::bad_array_new_length. Without exceptions, and before C++11: as
// mi_new_n.
#ifndef MIMALLOC_STL_H
#define MIMALLOC_STL_H

#include "mimalloc.h"

#ifdef __cplusplus

#    include <cstddef>
#    include <limits>
#    include <new>
#    if (__cplusplus >= 201103L) || (defined(_MSC_VER) && _MSC_VER > 1900)
#        include <memory>
#        include <type_traits>
#        include <utility>
#        define MI_STL_HAS_CXX11 1
#    else
#        define MI_STL_HAS_CXX11 0
#    endif

#    if MI_STL_HAS_CXX11 &&                                                                        \
        (defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND))
#        define MI_STL_THROWS 1
#    else
#        define MI_STL_THROWS 0
#    endif

#    if MI_STL_THROWS
// Calls attempt until it has something, as operator new does.
template <class F> inline void *_mi_stl_try(F attempt) {
    for (;;) {
        void *const p = attempt();
        if (p != nullptr)
            return p;
        const std::new_handler handler = std::get_new_handler();
        if (handler == nullptr)
            throw std::bad_alloc();
        handler();
    }
}
#    endif

template <class T> struct _mi_stl_allocator_common {
    typedef T value_type;
    typedef std::size_t size_type;
    typedef std::ptrdiff_t difference_type;
    typedef value_type &reference;
    typedef value_type const &const_reference;
    typedef value_type *pointer;
    typedef value_type const *const_pointer;

#    if MI_STL_HAS_CXX11
    using propagate_on_container_copy_assignment = std::true_type;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;
    template <class U, class... Args> void construct(U *p, Args &&...args) {
        ::new (const_cast<void *>(static_cast<const volatile void *>(p)))
            U(std::forward<Args>(args)...);
    }
    template <class U> void destroy(U *p) mi_attr_noexcept {
        p->~U();
    }
#    else
    void construct(pointer p, value_type const &val) {
        ::new (static_cast<void *>(p)) value_type(val);
    }
    void destroy(pointer p) {
        p->~value_type();
    }
#    endif

    size_type max_size() const mi_attr_noexcept {
        return static_cast<size_type>((std::numeric_limits<std::ptrdiff_t>::max)()) /
               sizeof(value_type);
    }
    pointer address(reference x) const {
        return &x;
    }
    const_pointer address(const_reference x) const {
        return &x;
    }
};

template <class T> struct mi_stl_allocator : public _mi_stl_allocator_common<T> {
    using typename _mi_stl_allocator_common<T>::size_type;
    using typename _mi_stl_allocator_common<T>::value_type;
    using typename _mi_stl_allocator_common<T>::pointer;
    template <class U> struct rebind { typedef mi_stl_allocator<U> other; };

    mi_stl_allocator() mi_attr_noexcept {
    }
    mi_stl_allocator(const mi_stl_allocator &) mi_attr_noexcept {
    }
    template <class U> mi_stl_allocator(const mi_stl_allocator<U> &) mi_attr_noexcept {
    }
    mi_stl_allocator &operator=(const mi_stl_allocator &) mi_attr_noexcept {
        return *this;
    }
    mi_stl_allocator select_on_container_copy_construction() const {
        return *this;
    }
    void deallocate(T *p, size_type) {
        mi_free(p);
    }
    mi_decl_nodiscard T *allocate(size_type count) {
#    if MI_STL_THROWS
        if (count > this->max_size())
            throw std::bad_array_new_length();
        if (alignof(T) > 2 * sizeof(void *))
            return static_cast<T *>(
                _mi_stl_try([=] { return mi_malloc_aligned(count * sizeof(T), alignof(T)); }));
        return static_cast<T *>(_mi_stl_try([=] { return mi_malloc(count * sizeof(T)); }));
#    elif MI_STL_HAS_CXX11
        if (alignof(T) > 2 * sizeof(void *) && count <= this->max_size())
            return static_cast<T *>(mi_new_aligned(count * sizeof(T), alignof(T)));
        return static_cast<T *>(mi_new_n(count, sizeof(T)));
#    else
        return static_cast<T *>(mi_new_n(count, sizeof(T)));
#    endif
    }
#    if !MI_STL_HAS_CXX11
    mi_decl_nodiscard T *allocate(size_type count, const void *) {
        return allocate(count);
    }
#    endif
#    if MI_STL_HAS_CXX11
    using is_always_equal = std::true_type;
#    endif
};

template <class T1, class T2>
bool operator==(const mi_stl_allocator<T1> &, const mi_stl_allocator<T2> &) mi_attr_noexcept {
    return true;
}
template <class T1, class T2>
bool operator!=(const mi_stl_allocator<T1> &, const mi_stl_allocator<T2> &) mi_attr_noexcept {
    return false;
}

#    if MI_STL_HAS_CXX11
#        define MI_HAS_HEAP_STL_ALLOCATOR 1

// What both heap allocators share: the heap, counted by the copies of the allocator that made it.
template <class T, bool _mi_destroy>
struct _mi_heap_stl_allocator_common : public _mi_stl_allocator_common<T> {
    using typename _mi_stl_allocator_common<T>::size_type;
    using typename _mi_stl_allocator_common<T>::value_type;
    using typename _mi_stl_allocator_common<T>::pointer;
    using is_always_equal = std::false_type;

    // The heap is the caller's; it must outlive the container.
    _mi_heap_stl_allocator_common(mi_heap_t *hp) : heap(hp, [](mi_heap_t *) {}) {
    }
    _mi_heap_stl_allocator_common(const _mi_heap_stl_allocator_common &x) mi_attr_noexcept
        : heap(x.heap) {
    }
    template <class U>
    _mi_heap_stl_allocator_common(const _mi_heap_stl_allocator_common<U, _mi_destroy> &x)
        mi_attr_noexcept : heap(x.heap) {
    }
    _mi_heap_stl_allocator_common &
    operator=(const _mi_heap_stl_allocator_common &x) mi_attr_noexcept {
        heap = x.heap;
        return *this;
    }
    mi_decl_nodiscard T *allocate(size_type count) {
        mi_heap_t *const hp = heap.get();
#        if MI_STL_THROWS
        if (count > this->max_size())
            throw std::bad_array_new_length();
        if (alignof(T) > 2 * sizeof(void *))
            return static_cast<T *>(_mi_stl_try(
                [=] { return mi_heap_malloc_aligned(hp, count * sizeof(T), alignof(T)); }));
        return static_cast<T *>(_mi_stl_try([=] { return mi_heap_malloc(hp, count * sizeof(T)); }));
#        else
        void *p = nullptr;
        if (alignof(T) > 2 * sizeof(void *) && count <= this->max_size())
            p = mi_heap_malloc_aligned(hp, count * sizeof(T), alignof(T));
        return static_cast<T *>(p != nullptr ? p : mi_heap_alloc_new_n(hp, count, sizeof(T)));
#        endif
    }
    void collect(bool force) {
        mi_heap_collect(heap.get(), force);
    }
    template <class U> bool is_equal(const _mi_heap_stl_allocator_common<U, _mi_destroy> &x) const {
        return heap == x.heap;
    }

  protected:
    std::shared_ptr<mi_heap_t> heap;
    template <class U, bool D> friend struct _mi_heap_stl_allocator_common;

    // A heap of its own.
    _mi_heap_stl_allocator_common() : heap(heap_make(), _mi_destroy ? heap_destroy : heap_delete) {
    }

  private:
    static mi_heap_t *heap_make() {
#        if MI_STL_THROWS
        return static_cast<mi_heap_t *>(
            _mi_stl_try([] { return static_cast<void *>(mi_heap_new()); }));
#        else
        return mi_heap_new();
#        endif
    }
    static void heap_delete(mi_heap_t *hp) {
        if (hp != nullptr)
            mi_heap_delete(hp);
    }
    static void heap_destroy(mi_heap_t *hp) {
        if (hp != nullptr)
            mi_heap_destroy(hp);
    }
};

template <class T> struct mi_heap_stl_allocator : public _mi_heap_stl_allocator_common<T, false> {
    using typename _mi_heap_stl_allocator_common<T, false>::size_type;
    template <class U> struct rebind { typedef mi_heap_stl_allocator<U> other; };
    mi_heap_stl_allocator() : _mi_heap_stl_allocator_common<T, false>() {
    }
    mi_heap_stl_allocator(mi_heap_t *hp) : _mi_heap_stl_allocator_common<T, false>(hp) {
    }
    template <class U>
    mi_heap_stl_allocator(const mi_heap_stl_allocator<U> &x) mi_attr_noexcept
        : _mi_heap_stl_allocator_common<T, false>(x) {
    }
    mi_heap_stl_allocator select_on_container_copy_construction() const {
        return *this;
    }
    void deallocate(T *p, size_type) {
        mi_free(p);
    }
};

template <class T1, class T2>
bool operator==(const mi_heap_stl_allocator<T1> &x,
                const mi_heap_stl_allocator<T2> &y) mi_attr_noexcept {
    return x.is_equal(y);
}
template <class T1, class T2>
bool operator!=(const mi_heap_stl_allocator<T1> &x,
                const mi_heap_stl_allocator<T2> &y) mi_attr_noexcept {
    return !x.is_equal(y);
}

template <class T>
struct mi_heap_destroy_stl_allocator : public _mi_heap_stl_allocator_common<T, true> {
    using typename _mi_heap_stl_allocator_common<T, true>::size_type;
    template <class U> struct rebind { typedef mi_heap_destroy_stl_allocator<U> other; };
    mi_heap_destroy_stl_allocator() : _mi_heap_stl_allocator_common<T, true>() {
    }
    mi_heap_destroy_stl_allocator(mi_heap_t *hp) : _mi_heap_stl_allocator_common<T, true>(hp) {
    }
    template <class U>
    mi_heap_destroy_stl_allocator(const mi_heap_destroy_stl_allocator<U> &x) mi_attr_noexcept
        : _mi_heap_stl_allocator_common<T, true>(x) {
    }
    mi_heap_destroy_stl_allocator select_on_container_copy_construction() const {
        return *this;
    }
    void deallocate(T *, size_type) {
        // The blocks go with the heap.
    }
};

template <class T1, class T2>
bool operator==(const mi_heap_destroy_stl_allocator<T1> &x,
                const mi_heap_destroy_stl_allocator<T2> &y) mi_attr_noexcept {
    return x.is_equal(y);
}
template <class T1, class T2>
bool operator!=(const mi_heap_destroy_stl_allocator<T1> &x,
                const mi_heap_destroy_stl_allocator<T2> &y) mi_attr_noexcept {
    return !x.is_equal(y);
}
#    endif // MI_STL_HAS_CXX11

#endif // __cplusplus
#endif
