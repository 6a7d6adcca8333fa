// Linked with the package: is it the version of its header, and does it allocate? With an argument
// "malloc": the program's own malloc must be ours, too.
#include <mimalloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    void *const p = mi_malloc(1000);
    void *const q = malloc(1000);
    const int wants_malloc = (argc > 1 && strcmp(argv[1], "malloc") == 0);
    const int is_good =
        (mi_version() == MI_MALLOC_VERSION && p != NULL && q != NULL && mi_usable_size(p) >= 1000 &&
         mi_is_in_heap_region(p) && (!wants_malloc || mi_is_in_heap_region(q)));
    free(q);
    mi_free(p);
    printf("%s: version %d, malloc %s\n", is_good ? "good" : "bad", mi_version(),
           wants_malloc ? "ours" : "not asked");
    return is_good ? 0 : 1;
}
