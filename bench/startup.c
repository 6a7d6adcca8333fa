// What the redirection adds to the start of a process with many modules. Loads copies of one small
// DLL that imports a C runtime, and our two DLLs before or after them, and prints what each took:
//
//   startup FOLDER N early|late DLL...
//
// DLL...: ours, in the order in which they are loaded; mimalloc.dll loads the other one by itself.
// "early ours-ms modules-ms": ours first, so each module meets the loader's notification. "late":
// ours last, so it finds all modules at once. Whether anything is redirected, the environment says.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

static double now_ms(void) {
    LARGE_INTEGER count, per_second;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&per_second);
    return (double)count.QuadPart * 1000.0 / (double)per_second.QuadPart;
}

static double load_ms(const char *path) {
    const double begin = now_ms();
    if (LoadLibraryA(path) == NULL) {
        fprintf(stderr, "startup: %s cannot be loaded: error %lu\n", path, GetLastError());
        exit(2);
    }
    return now_ms() - begin;
}

static double load_modules_ms(const char *folder, int count) {
    double sum = 0;
    char path[MAX_PATH];
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof(path), "%s\\module%03d.dll", folder, i);
        sum += load_ms(path);
    }
    return sum;
}

int main(int argc, char **argv) {
    if (argc < 5 || atoi(argv[2]) < 1 || atoi(argv[2]) > 999) {
        fprintf(stderr, "usage: startup FOLDER N early|late DLL...\n");
        return 2;
    }
    const int count = atoi(argv[2]);
    const bool is_late = (strcmp(argv[3], "late") == 0);
    double ours_ms = 0, modules_ms = 0;
    if (is_late)
        modules_ms = load_modules_ms(argv[1], count);
    for (int i = 4; i < argc; i++)
        ours_ms += load_ms(argv[i]);
    if (!is_late)
        modules_ms = load_modules_ms(argv[1], count);
    printf("%s %.3f %.3f\n", argv[3], ours_ms, modules_ms);
    return 0;
}
