// One of the many modules: it imports its C runtime's allocator, as most DLLs do.
#include <stdlib.h>

__declspec(dllexport) void *module_make(size_t size);
__declspec(dllexport) void module_end(void *p);

void *module_make(size_t size) {
    return calloc(1, size);
}

void module_end(void *p) {
    free(p);
}
