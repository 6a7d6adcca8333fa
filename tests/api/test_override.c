// mimalloc-override.h: the C library's names become this library's.
#include "api_test.h"
#include <stdlib.h>

#include "mimalloc-override.h"

int main(void) {
    void *p = malloc(100);
    CHECK(mi_is_in_heap_region(p));
    fill(p, 100);
    p = realloc(p, 5000);
    CHECK(mi_is_in_heap_region(p) && is_filled(p, 100) && malloc_usable_size(p) >= 5000 &&
          _msize(p) >= 5000);
    free(p);
    p = calloc(10, 10);
    CHECK(mi_is_in_heap_region(p) && is_zero(p, 0, 100));
    free(p);
    char *s = strdup("copy");
    CHECK(mi_is_in_heap_region(s) && strcmp(s, "copy") == 0);
    free(s);
    p = aligned_alloc(64, 100);
    CHECK(mi_is_in_heap_region(p) && is_aligned(p, 64));
    free(p);
    p = _aligned_malloc(100, 64);
    CHECK(mi_is_in_heap_region(p) && is_aligned(p, 64) && _aligned_msize(p, 64, 0) >= 100);
    p = _aligned_realloc(p, 200, 64);
    CHECK(mi_is_in_heap_region(p));
    _aligned_free(p);
    CHECK(posix_memalign(&p, 64, 10) == 0 && mi_is_in_heap_region(p));
    cfree(p);
    return test_result();
}
