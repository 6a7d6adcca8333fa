// The allocators for C++ containers, C++11 to C++23: every name and trait, containers that are
// copied, moved and swapped between heaps, heaps that end with their last user, and failures, which
// are the program's own exceptions on every system.
#include "api_test.h"
#include "mimalloc-stats.h"
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

struct alignas(256) wide {
    char c[300];
};

static long heaps_now() {
    mi_stats_t_decl(s);
    CHECK(mi_stats_get(&s));
    return static_cast<long>(s.heaps.current);
}

// What the standard asks of an allocator, and what the header says.
template <template <class> class A, bool always_equal> static void check_traits() {
    typedef std::allocator_traits<A<int>> traits;
    static_assert(std::is_same<typename traits::value_type, int>::value, "value_type");
    static_assert(std::is_same<typename traits::pointer, int *>::value, "pointer");
    static_assert(std::is_same<typename traits::const_pointer, const int *>::value,
                  "const_pointer");
    static_assert(std::is_same<typename traits::size_type, std::size_t>::value, "size_type");
    static_assert(std::is_same<typename traits::difference_type, std::ptrdiff_t>::value,
                  "difference_type");
    static_assert(std::is_same<typename A<int>::reference, int &>::value, "reference");
    static_assert(std::is_same<typename A<int>::const_reference, const int &>::value,
                  "const_reference");
    static_assert(std::is_same<typename traits::template rebind_alloc<wide>, A<wide>>::value,
                  "rebind");
    static_assert(std::is_same<typename A<int>::template rebind<wide>::other, A<wide>>::value,
                  "rebind");
    static_assert(traits::propagate_on_container_copy_assignment::value, "copy");
    static_assert(traits::propagate_on_container_move_assignment::value, "move");
    static_assert(traits::propagate_on_container_swap::value, "swap");
    static_assert(A<int>::is_always_equal::value == always_equal, "is_always_equal");
    static_assert(std::is_nothrow_copy_constructible<A<int>>::value, "copies do not throw");
    A<int> a;
    A<int> b(a), c(std::move(b));
    A<wide> other(a);
    CHECK(a == b && b == c && !(a != c) && other == a && !(other != a));
    CHECK(A<int>(other) == a && a.select_on_container_copy_construction() == a);
    CHECK(a.max_size() == static_cast<std::size_t>(PTRDIFF_MAX) / sizeof(int) &&
          traits::max_size(a) == a.max_size());
    int *const p = a.allocate(10);
    check_block(p, 10 * sizeof(int), 16, "allocate");
    CHECK(a.address(*p) == p && a.address(static_cast<const int &>(*p)) == p);
    a.construct(p, 42);
    CHECK(*p == 42);
    a.destroy(p);
    c.deallocate(p, 10); // a copy may
    wide *const w = other.allocate(3);
    check_block(w, 3 * sizeof(wide), 256, "allocate wide");
    other.deallocate(w, 3);
    int *const none = a.allocate(0);
    CHECK(none != nullptr);
    a.deallocate(none, 0);
    b = c;
    CHECK(b == a);
}

static int handler_calls;
static void handler_gives_up() {
    if (++handler_calls == 3)
        std::set_new_handler(nullptr);
}

enum outcome { GOOD, BAD_LENGTH, BAD_ALLOC };
template <class A> static outcome outcome_of(A &a, std::size_t count) {
    try {
        a.deallocate(a.allocate(opaque(count)), count);
    } catch (const std::bad_array_new_length &) {
        return BAD_LENGTH;
    } catch (const std::bad_alloc &) {
        return BAD_ALLOC;
    }
    return GOOD;
}

template <class A> static void check_failures(A a) {
    typedef typename std::allocator_traits<A>::value_type T;
    const std::size_t most = static_cast<std::size_t>(PTRDIFF_MAX) / sizeof(T);
    for (std::size_t count : {SIZE_MAX, SIZE_MAX / sizeof(T), SIZE_MAX / sizeof(T) + 1, most + 1}) {
        handler_calls = 0;
        std::set_new_handler(handler_gives_up);
        CHECK(outcome_of(a, count) == BAD_LENGTH && handler_calls == 0);
    }
    CHECK(outcome_of(a, most) == BAD_ALLOC && handler_calls == 3);
    std::set_new_handler(nullptr);
    CHECK(outcome_of(a, most) == BAD_ALLOC && outcome_of(a, 100) == GOOD);
}

template <class C> static mi_heap_t *heap_of(const C &c) {
    return mi_heap_of(&*c.begin());
}

// Two containers of different heaps, and their blocks go where their allocators go.
template <class C, class A> static void check_containers(C (*filled)(const A &, int)) {
    mi_heap_t *const heap1 = mi_heap_new(), *const heap2 = mi_heap_new();
    {
        const A one(heap1), two(heap2), same(heap1);
        CHECK(one != two && one == same);
        C c1 = filled(one, 100), c2 = filled(two, 200);
        CHECK(heap_of(c1) == heap1 && heap_of(c2) == heap2);
        CHECK(c1.get_allocator() == one && c2.get_allocator() == two);
        std::swap(c1, c2);
        CHECK(c1.size() == 200 && c2.size() == 100 && heap_of(c1) == heap2 &&
              heap_of(c2) == heap1 && c1.get_allocator() == two && c2.get_allocator() == one);
        const void *const first = &*c1.begin();
        c2 = std::move(c1); // the blocks move, with the allocator
        CHECK(&*c2.begin() == first && c2.size() == 200 && c2.get_allocator() == two);
        C c3(std::move(c2));
        CHECK(&*c3.begin() == first && c3.get_allocator() == two);
        C c4 = filled(one, 10);
        c4 = c3; // a copy in the other's heap
        CHECK(c4.size() == 200 && heap_of(c4) == heap2 && c4.get_allocator() == two);
        C c5(c4, one); // a copy in a heap that is told
        CHECK(c5.size() == 200 && heap_of(c5) == heap1);
        C c6(std::move(c5), two); // other heaps: each element moves
        CHECK(c6.size() == 200 && heap_of(c6) == heap2);
        c1 = filled(one, 5); // moved from, and used again
        CHECK(c1.size() == 5 && heap_of(c1) == heap1);
    }
    mi_heap_destroy(heap1);
    mi_heap_destroy(heap2);
}

template <template <class> class A> struct fill_of {
    typedef std::pair<const int, int> pair;
    typedef std::vector<int, A<int>> vector;
    typedef std::deque<int, A<int>> deque;
    typedef std::list<int, A<int>> list;
    typedef std::set<int, std::less<int>, A<int>> set;
    typedef std::map<int, int, std::less<int>, A<pair>> map;
    typedef std::unordered_map<int, int, std::hash<int>, std::equal_to<int>, A<pair>> hash;
    template <class C> static C sequence(const A<int> &a, int n) {
        C c(a);
        for (int i = 0; i < n; i++)
            c.insert(c.end(), i);
        return c;
    }
    template <class C> static C pairs(const A<pair> &a, int n) {
        C c(a);
        for (int i = 0; i < n; i++)
            c[i] = i;
        return c;
    }
    static void check() {
        check_containers<vector, A<int>>(sequence<vector>);
        check_containers<deque, A<int>>(sequence<deque>);
        check_containers<list, A<int>>(sequence<list>);
        check_containers<set, A<int>>(sequence<set>);
        check_containers<map, A<pair>>(pairs<map>);
        check_containers<hash, A<pair>>(pairs<hash>);
    }
};

// A heap that an allocator made lives as long as one copy of it.
template <template <class> class A> static void check_lifetime() {
    const long before = heaps_now();
    std::unique_ptr<A<wide>> kept;
    {
        std::vector<int, A<int>> v(1000, 7);
        CHECK(heaps_now() == before + 1 && heap_of(v) != mi_heap_main());
        kept.reset(new A<wide>(v.get_allocator()));
        A<int> another;
        CHECK(heaps_now() == before + 2 && another != v.get_allocator());
        another.collect(true);
    }
    CHECK(heaps_now() == before + 1);
    wide *const w = kept->allocate(1);
    CHECK(w != nullptr && mi_heap_of(w) != mi_heap_main());
    kept->deallocate(w, 1);
    kept.reset();
    CHECK(heaps_now() == before);
    for (int i = 0; i < 50; i++) {
        std::list<std::vector<int, A<int>>, A<std::vector<int, A<int>>>> nested(
            3, std::vector<int, A<int>>(10));
        nested.pop_back();
    }
    CHECK(heaps_now() == before);
}

#ifndef MI_HAS_HEAP_STL_ALLOCATOR
#    error "the heap allocators are there from C++11 on"
#endif

int main() {
    check_traits<mi_stl_allocator, true>();
    check_traits<mi_heap_stl_allocator, false>();
    check_traits<mi_heap_destroy_stl_allocator, false>();
    check_failures(mi_stl_allocator<int>());
    check_failures(mi_stl_allocator<wide>());
    check_failures(mi_heap_stl_allocator<int>());
    check_failures(mi_heap_stl_allocator<wide>());
    check_failures(mi_heap_destroy_stl_allocator<int>());
    check_failures(mi_heap_destroy_stl_allocator<wide>(mi_heap_main()));
    fill_of<mi_heap_stl_allocator>::check();
    fill_of<mi_heap_destroy_stl_allocator>::check();
    check_lifetime<mi_heap_stl_allocator>();
    check_lifetime<mi_heap_destroy_stl_allocator>();
    std::basic_string<char, std::char_traits<char>, mi_stl_allocator<char>> s(1000, 'x');
    CHECK(mi_heap_of(s.data()) == mi_heap_main());
    return test_result();
}
