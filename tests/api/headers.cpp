// Only compiled: the public headers in one C++ language version, each usable by itself and
// together.
#include "mimalloc-stats.h"
#include "mimalloc-stl.h"
#include "mimalloc.h"
#include <vector>

template struct mi_stl_allocator<int>;
template struct mi_heap_stl_allocator<double>;
template struct mi_heap_destroy_stl_allocator<char>;

int use_allocators();
int use_allocators() {
    std::vector<int, mi_stl_allocator<int>> v(10, 1);
    std::vector<int, mi_heap_stl_allocator<int>> h(10, 1);
    std::vector<int, mi_heap_destroy_stl_allocator<int>> d(10, 1);
    return v[0] + h[0] + d[0] + mi_version();
}
