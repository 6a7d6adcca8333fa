// A program for the tools' tests: echoes its arguments and its standard input through allocated
// memory, writes to both streams, ends with 77. --spawn does that in a child. With
// SAMPLE_LINKS_ALLOCATOR it also calls the allocator's DLL, as a linked user would.
#include <process.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef SAMPLE_LINKS_ALLOCATOR
__declspec(dllimport) int mi_version(void);
#endif

int main(int argc, char **argv) {
    // --spawn: starts itself with the other arguments, and ends as that ended.
    if (argc >= 2 && strcmp(argv[1], "--spawn") == 0) {
        argv[1] = argv[0];
        return (int)_spawnv(_P_WAIT, argv[0], (const char *const *)(argv + 1));
    }
    char *line = (char *)malloc(1000);
    for (int i = 1; i < argc; i++) {
        char *copy = strdup(argv[i]);
        printf("[%s]", copy);
        free(copy);
    }
    if (line != NULL && fgets(line, 1000, stdin) != NULL)
        printf("input: %s", line);
    free(line);
#ifdef SAMPLE_LINKS_ALLOCATOR
    if (mi_version() <= 0)
        return 1;
#endif
    fprintf(stderr, "to standard error\n");
    return 77;
}
