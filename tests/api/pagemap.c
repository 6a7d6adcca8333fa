// MIMALLOC_PAGEMAP_COMMIT: all of the page map is in memory from the start (argument 1), else only
// what is used of it (0).
#include "../test.h"
#include "mimalloc.h"
#include <stdlib.h>

int main(int argc, char **argv) {
    size_t rss = 0;
    void *const p = mi_malloc(100);
    mi_process_info(NULL, NULL, NULL, &rss, NULL, NULL, NULL, NULL);
    const int is_wanted = (argc > 1 && atoi(argv[1]) != 0);
    CHECK_MSG((rss >= ((size_t)8 << 20)) == is_wanted, "%zu bytes are in memory", rss);
    mi_free(p);
    return test_result();
}
