// The C++ headers of the package: the operators in one source, and the allocator for containers.
#include <mimalloc-new-delete.h>
#include <mimalloc.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

int main() {
    std::vector<int, mi_stl_allocator<int>> numbers(1000, 7);
    const auto text = std::make_unique<std::string>(1000, 'x');
    const bool is_good = mi_is_in_heap_region(numbers.data()) && mi_is_in_heap_region(text.get()) &&
                         mi_is_in_heap_region(text->data());
    std::printf("%s: operators\n", is_good ? "good" : "bad");
    return is_good ? 0 : 1;
}
