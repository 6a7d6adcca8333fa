// Only compiled: the public headers in one C language version.
#include "mimalloc-stats.h"
#include "mimalloc-override.h"
#include "mimalloc.h"

int *use_macros(void);
int *use_macros(void) {
    int *p = mi_calloc_tp(int, 10);
    p = mi_reallocn_tp(p, int, 20);
    free(p);
    return mi_heap_malloc_tp(mi_heap_main(), int);
}
