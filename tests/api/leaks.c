// Leaves blocks behind and tells which, for run_leaks.py, which reads what is listed at the end.
#include <mimalloc.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    const int many = (argc > 1 ? atoi(argv[1]) : 0);
    void *kept[3] = {mi_malloc(111), mi_malloc(70000), mi_zalloc_aligned(3000, 256)};
    void *const freed = mi_malloc(222);
    static void *volatile held;
    for (int i = 0; i < many; i++) {
        void **const p = (void **)mi_malloc(40);
        *p = held;
        held = p;
    }
    mi_free(freed);
    if (argc > 2) { // damaged, and never freed
        ((char *)kept[0])[111] = 1;
        ((char *)kept[1])[70002] = 1;
    }
    for (int i = 0; i < 3; i++)
        printf("kept %p %d\n", kept[i], i == 0 ? 111 : i == 1 ? 70000 : 3000);
    printf("freed %p\n", freed);
    fflush(stdout);
    return 0;
}
