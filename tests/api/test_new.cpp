// Contracts of the C++ side: the operators in all their forms, new-handlers, std::bad_alloc, the
// container allocators.
#include "api_test.h"
#include <list>
#include <map>
#include <new>
#include <string>
#include <vector>
#ifdef MI_TEST_NEW_DELETE
#    include "mimalloc-new-delete.h"
#endif

[[maybe_unused]] static int handler_calls;
[[maybe_unused]] static void handler_gives_up() {
    if (++handler_calls == 3)
        std::set_new_handler(nullptr);
}
[[maybe_unused]] static void handler_throws() {
    handler_calls++;
    throw std::bad_alloc();
}

// Whether f ends with std::bad_alloc.
template <class F> [[maybe_unused]] static bool throws(F f) {
    try {
        f();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

struct alignas(256) wide {
    char c[300];
};

#ifdef MI_TEST_OPERATORS
static bool count_block(const mi_heap_t *, const mi_heap_area_t *, void *block, size_t, void *arg) {
    *static_cast<size_t *>(arg) += (block != nullptr);
    return true;
}

// Nothing that was allocated meanwhile is left, whichever form freed it.
struct all_freed {
    const char *what;
    mi_heap_t *heap = mi_heap_new(), *before = mi_heap_set_default(heap);
    explicit all_freed(const char *name) : what(name) {
    }
    ~all_freed() {
        size_t count = 0;
        CHECK(mi_heap_visit_blocks(heap, true, count_block, &count));
        CHECK_MSG(count == 0, "%s: %zu blocks are left", what, count);
        (void)mi_heap_set_default(before);
        mi_heap_destroy(heap);
    }
};

static void check_deletes() {
    const std::align_val_t align = std::align_val_t(64);
    {
        const all_freed check("plain");
        ::operator delete(::operator new(100));
        ::operator delete[](::operator new[](100));
    }
    {
        const all_freed check("nothrow");
        ::operator delete(::operator new(100, std::nothrow), std::nothrow);
        ::operator delete[](::operator new[](100, std::nothrow), std::nothrow);
    }
    {
        const all_freed check("sized");
        ::operator delete(::operator new(100), size_t(100));
        ::operator delete[](::operator new[](100), size_t(100));
    }
    {
        const all_freed check("aligned");
        ::operator delete(::operator new(100, align), align);
        ::operator delete[](::operator new[](100, align), align);
    }
    {
        const all_freed check("sized and aligned");
        ::operator delete(::operator new(100, align), size_t(100), align);
        ::operator delete[](::operator new[](100, align), size_t(100), align);
    }
    {
        const all_freed check("aligned nothrow");
        ::operator delete(::operator new(100, align, std::nothrow), align, std::nothrow);
        ::operator delete[](::operator new[](100, align, std::nothrow), align, std::nothrow);
    }
}

static void check_operators() {
    check_deletes();
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        const size_t size = test_sizes[i];
        void *const first = ::operator new(size); // the first of its page would be aligned anyway
        void *p = ::operator new(size);
        check_block(p, size, least_align(size), "operator new");
        ::operator delete(p);
        p = ::operator new[](size);
        check_block(p, size, least_align(size), "operator new[]");
        ::operator delete[](p);
        p = ::operator new(size, std::nothrow);
        check_block(p, size, least_align(size), "operator new nothrow");
        ::operator delete(p, std::nothrow);
        p = ::operator new[](size, std::nothrow);
        check_block(p, size, least_align(size), "operator new[] nothrow");
        ::operator delete[](p, std::nothrow);
        p = ::operator new(size);
        ::operator delete(p, size);
        p = ::operator new[](size);
        ::operator delete[](p, size);
        const std::align_val_t align = std::align_val_t(512);
        p = ::operator new(size, align);
        check_block(p, size, 512, "operator new aligned");
        ::operator delete(p, align);
        p = ::operator new[](size, align);
        check_block(p, size, 512, "operator new[] aligned");
        ::operator delete[](p, align);
        p = ::operator new(size, align, std::nothrow);
        check_block(p, size, 512, "operator new aligned nothrow");
        ::operator delete(p, align, std::nothrow);
        p = ::operator new[](size, align, std::nothrow);
        check_block(p, size, 512, "operator new[] aligned nothrow");
        ::operator delete[](p, align, std::nothrow);
        p = ::operator new(size, align);
        ::operator delete(p, size, align);
        p = ::operator new[](size, align);
        ::operator delete[](p, size, align);
        ::operator delete(first);
    }
    wide *w = new wide();
    CHECK(is_aligned(w, 256) && mi_is_in_heap_region(w));
    delete w;
    wide *many = new wide[10];
    CHECK(is_aligned(many, 256) && mi_is_in_heap_region(many));
    delete[] many;
    std::string s(100000, 'x');
    CHECK(mi_is_in_heap_region(s.data()));
    const size_t most = opaque(SIZE_MAX / 2 + 1);
    CHECK(throws([=] { (void)::operator new(most); }) &&
          throws([=] { (void)::operator new[](most); }));
    CHECK(throws([=] { (void)::operator new(most, std::align_val_t(64)); }));
    CHECK(::operator new(most, std::nothrow) == nullptr && ::operator new[](most, std::nothrow) ==
          nullptr);
    CHECK(::operator new(most, std::align_val_t(64), std::nothrow) == nullptr);
    std::set_new_handler(handler_gives_up);
    handler_calls = 0;
    CHECK(throws([=] { (void)::operator new(most); }) && handler_calls == 3);
    std::set_new_handler(handler_throws);
    CHECK(throws([=] { (void)::operator new(most); }));
#    ifdef MI_TEST_NEW_DELETE
    handler_calls = 0; // what the handler throws stays inside
    CHECK(::operator new(most, std::nothrow) ==
          nullptr && ::operator new[](most, std::align_val_t(64), std::nothrow) == nullptr);
    CHECK(handler_calls == 2);
#    endif
    std::set_new_handler(nullptr);
}
#endif

static void check_new_functions() {
    mi_heap_t *heap = mi_heap_new();
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        const size_t size = test_sizes[i];
        void *p = mi_new(size), *q = mi_new_nothrow(size), *n = mi_new_n(2, size);
        check_block(p, size, least_align(size), "mi_new");
        check_block(q, size, least_align(size), "mi_new_nothrow");
        check_block(n, 2 * size, least_align(2 * size), "mi_new_n");
        p = mi_new_realloc(p, 2 * size);
        CHECK(p != nullptr && is_filled(p, size));
        p = mi_new_reallocn(p, 3, size);
        CHECK(p != nullptr && is_filled(p, size) && mi_usable_size(p) >= 3 * size);
        void *a = mi_new_aligned(size, 128), *b = mi_new_aligned_nothrow(size, 128);
        check_block(a, size, 128, "mi_new_aligned");
        check_block(b, size, 128, "mi_new_aligned_nothrow");
        void *h = mi_heap_alloc_new(heap, size), *hn = mi_heap_alloc_new_n(heap, 2, size);
        check_block(h, size, least_align(size), "mi_heap_alloc_new");
        check_block(hn, 2 * size, least_align(2 * size), "mi_heap_alloc_new_n");
        CHECK(mi_heap_of(h) == heap && mi_heap_of(hn) == heap);
        void *const all[] = {p, q, n, a, b};
        for (void *x : all)
            mi_free(x);
    }
    const size_t most = opaque(SIZE_MAX);
    CHECK(mi_new_nothrow(most) == nullptr && mi_new_aligned_nothrow(most, 64) == nullptr);
#ifdef MI_TEST_THROWS
    void *kept = mi_new(40);
    fill(kept, 40);
    CHECK(throws([=] { (void)mi_new(most); }) && throws([=] { (void)mi_new_aligned(most, 64); }));
    CHECK(throws([=] { (void)mi_new_n(most, 2); }) &&
          throws([=] { (void)mi_new_realloc(kept, most); }));
    CHECK(throws([=] { (void)mi_new_reallocn(kept, most, 2); }) && is_filled(kept, 40));
    CHECK(throws([=] { (void)mi_heap_alloc_new(heap, most); }) &&
          throws([=] { (void)mi_heap_alloc_new_n(heap, most, 2); }));
    std::set_new_handler(handler_gives_up);
    handler_calls = 0;
    CHECK(mi_new_nothrow(most) == nullptr && handler_calls == 3); // the handler is asked here too
    std::set_new_handler(handler_throws);
    handler_calls = 0;
    CHECK(throws([=] { (void)mi_new(most); }) && handler_calls == 1);
    std::set_new_handler(nullptr);
    mi_free(kept);
#endif
    mi_heap_destroy(heap);
}

template <class V> static void use_container(V &v) {
    for (int i = 0; i < 10000; i++)
        v.push_back(i);
    long sum = 0;
    for (int x : v)
        sum += x;
    CHECK(sum == 10000L * 9999 / 2);
}

static void check_allocators() {
    std::vector<int, mi_stl_allocator<int>> v;
    use_container(v);
    CHECK(mi_is_in_heap_region(v.data()));
    std::list<int, mi_stl_allocator<int>> l;
    use_container(l);
    std::vector<wide, mi_stl_allocator<wide>> wides(3);
    CHECK(is_aligned(wides.data(), 256));
    std::map<int, std::string, std::less<int>, mi_stl_allocator<std::pair<const int, std::string>>>
        m;
    for (int i = 0; i < 1000; i++)
        m[i] = std::string(50, 'a');
    CHECK(m.size() == 1000);
    CHECK(mi_stl_allocator<int>() == mi_stl_allocator<char>() &&
          !(mi_stl_allocator<int>() != mi_stl_allocator<char>()));
    std::vector<int, mi_heap_stl_allocator<int>> hv; // a heap of its own
    use_container(hv);
    CHECK(mi_heap_of(hv.data()) != mi_heap_main() && mi_heap_of(hv.data()) != nullptr);
    auto copy = hv;
    CHECK(copy == hv && copy.get_allocator() == hv.get_allocator());
    mi_heap_t *heap = mi_heap_new();
    {
        mi_heap_stl_allocator<int> given(heap);
        std::vector<int, mi_heap_stl_allocator<int>> gv(given);
        use_container(gv);
        CHECK(mi_heap_of(gv.data()) == heap && given != hv.get_allocator());
        std::vector<wide, mi_heap_stl_allocator<wide>> aligned(3, wide(),
                                                               mi_heap_stl_allocator<wide>(heap));
        CHECK(is_aligned(aligned.data(), 256) && mi_heap_of(aligned.data()) == heap);
    }
    mi_heap_destroy(heap);
    for (int i = 0; i < 100; i++) { // the heap goes with the container, its blocks too
        std::list<int, mi_heap_destroy_stl_allocator<int>> dl;
        use_container(dl);
    }
}

int main() {
#ifdef MI_TEST_OPERATORS
    check_operators();
#endif
    check_new_functions();
    check_allocators();
    return test_result();
}
