// Runs a fuzz target without a fuzzer: each file of a folder as it is, then a fixed number of small
// mutations of each, from a fixed seed, so that every run does the same.  fuzz_replay FOLDER
// MUTATIONS
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state = 0x9E3779B97F4A7C15u;

static uint32_t next(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below == 0 ? 0 : (uint32_t)((state >> 32) % below);
}

// Numbers that break arithmetic.
static const uint32_t nasty[] = {0,          1,          2,          3,         0x7F,   0x80,
                                 0xFF,       0x100,      0xFFF,      0x1000,    0x1001, 0x7FFFFFFF,
                                 0x80000000, 0xFFFFFFF0, 0xFFFFFFFE, 0xFFFFFFFF};

static size_t mutate(uint8_t *data, size_t size) {
    uint32_t changes = 1 + next(4);
    for (uint32_t i = 0; i < changes && size > 8; i++) {
        // Half of the changes in the headers, where the structure is.
        uint32_t at = next((uint32_t)(next(2) == 0 && size > 0x400 ? 0x400 : size) - 8);
        uint32_t value = nasty[next(sizeof nasty / sizeof nasty[0])];
        switch (next(5)) {
        case 0:
            data[at] ^= (uint8_t)(1u << next(8));
            break;
        case 1:
            memcpy(data + (at & ~3u), &value, 4);
            break;
        case 2:
            memcpy(data + (at & ~1u), &value, 2);
            break;
        case 3:
            memcpy(&value, data + (at & ~3u), 4);
            value += next(64) - 32;
            memcpy(data + (at & ~3u), &value, 4);
            break;
        default:
            if (next(8) == 0)
                size = next((uint32_t)size);
        }
    }
    return size;
}

static long replay(const char *path, long mutations) {
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return 0;
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    uint8_t *seed = (uint8_t *)malloc(size + 1);
    if (seed == NULL || fread(seed, 1, size, f) != size)
        exit(2);
    fclose(f);
    for (long i = 0; i <= mutations; i++) {
        // An allocation of exactly this size, so that a sanitizer sees the first byte too far.
        uint8_t *data = (uint8_t *)malloc(size + 1);
        if (data == NULL)
            exit(2);
        memcpy(data, seed, size);
        size_t n = i == 0 ? size : mutate(data, size);
        uint8_t *exact = (uint8_t *)realloc(data, n != 0 ? n : 1);
        LLVMFuzzerTestOneInput(exact, n);
        free(exact);
    }
    free(seed);
    return mutations + 1;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: fuzz_replay FOLDER MUTATIONS\n");
        return 2;
    }
    char path[4096];
    long done = 0;
    DIR *folder = opendir(argv[1]);
    for (struct dirent *e = folder != NULL ? readdir(folder) : NULL; e != NULL;
         e = readdir(folder)) {
        snprintf(path, sizeof path, "%s/%s", argv[1], e->d_name);
        if (e->d_name[0] != '.')
            done += replay(path, atol(argv[2]));
    }
    if (folder != NULL)
        closedir(folder);
    printf("%ld executions\n", done);
    return done > 0 ? 0 : 1;
}
