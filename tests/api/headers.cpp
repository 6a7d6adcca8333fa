// Only compiled: the public headers in one C++ language version, each usable by itself and
// together. Casts of C are warned about by many programs, so none is used here.
#include "mimalloc-stats.h"
#include "mimalloc-stl.h"
#include "mimalloc.h"
#include <vector>

template struct mi_stl_allocator<int>;

typedef mi_stl_allocator<int> ints;
int use_allocators();
int use_allocators() {
    std::vector<int, ints> v(10, 1);
    ints a;
    int *const p = a.allocate(1);
    a.construct(p, v[0]);
    const int n = *p + mi_version();
    a.destroy(p);
    a.deallocate(p, 1);
    return n;
}

#if __cplusplus >= 201103L
#    include "mimalloc-new-delete.h"

template struct mi_heap_stl_allocator<double>;
template struct mi_heap_destroy_stl_allocator<char>;

int use_heap_allocators();
int use_heap_allocators() {
    std::vector<int, mi_heap_stl_allocator<int>> h(10, 1);
    std::vector<int, mi_heap_destroy_stl_allocator<int>> d(10, 1);
    ints a;
    const int *const p = a.allocate(1);
    a.construct(p, 3); // also what is constant then
    a.deallocate(const_cast<int *>(p), 1);
    return h[0] + d[0];
}
#endif
