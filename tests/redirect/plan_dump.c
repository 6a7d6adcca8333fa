// Prints the plan of each file: one line per file, one per function. For the tests of the planner.
//   plan_dump [--moved | --torment] file ...
//   plan_dump --relocate x86|x64|arm64 code source destination     all numbers hexadecimal
#include "pe/plan_com.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *read_file(const char *path, size_t *bytes) {
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return NULL;
    fseek(f, 0, SEEK_END);
    const long n = ftell(f);
    rewind(f);
    uint8_t *p = (uint8_t *)malloc(n > 0 ? (size_t)n : 1);
    *bytes = (p != NULL && n > 0 ? fread(p, 1, (size_t)n, f) : 0);
    fclose(f);
    return p;
}

// The first instructions as they are moved from SRC + rva to DST.
static void show_moved(const mi_pe_t *pe, const mi_plan_t *plan, const mi_plan_site_t *s) {
    enum { SRC = 0x10000000, DST = 0x10400000 };
    uint8_t out[80];
    const uint8_t *code = mi_pe_at(pe, s->rva, s->whole_bytes);
    const size_t bytes =
        (code == NULL ? 0
                      : mi_plan_move(plan->cpu, code, s->whole_bytes, (uint64_t)SRC + s->rva, out,
                                     sizeof(out), DST));
    putchar(' ');
    for (size_t i = 0; i < bytes; i++)
        printf("%02x", out[i]);
}

static void show(const char *path, const uint8_t *bytes, size_t size, bool is_moved_too) {
    static mi_plan_t plan;
    mi_pe_t pe;
    if (!mi_pe_open(&pe, bytes, size, false)) {
        printf("file %s unreadable\n", path);
        return;
    }
    const bool is_crt = mi_plan_is_crt(&pe);
    const bool is_good = mi_plan_make(&pe, &plan);
    printf("file %s %s %s %s reason=%s patches=%u\n", path, is_crt ? "crt" : "no-crt",
           is_good ? "good" : "refused", plan.is_debug ? "debug" : "release",
           mi_reason_row(plan.reason)->name, (unsigned)plan.patch_count);
    for (uint32_t i = 0; i < plan.site_count; i++) {
        const mi_plan_site_t *s = &plan.sites[i];
        printf("site %s%s %x %s %s %u %s", s->name, s->is_derived ? "!" : "", (unsigned)s->rva,
               mi_site_verdict_text((mi_site_verdict_t)s->verdict),
               mi_reason_row((mi_reason_t)s->reason)->name, (unsigned)s->whole_bytes,
               s->is_movable ? "movable" : "fixed");
        if (is_moved_too && s->is_movable)
            show_moved(&pe, &plan, s);
        putchar('\n');
    }
}

// Whole instructions from anywhere to anywhere; "0" = they cannot be moved there.
static int relocate(char **argv) {
    uint8_t code[16], out[80];
    size_t bytes = 0;
    for (const char *hex = argv[1]; bytes < sizeof(code) && hex[0] != 0 && hex[1] != 0; hex += 2) {
        const char pair[3] = {hex[0], hex[1], 0};
        code[bytes++] = (uint8_t)strtoul(pair, NULL, 16);
    }
    const mi_cpu_t cpu = (strcmp(argv[0], "x86") == 0   ? MI_CPU_X86
                          : strcmp(argv[0], "x64") == 0 ? MI_CPU_X64
                                                        : MI_CPU_ARM64);
    const size_t moved = mi_plan_move(cpu, code, bytes, strtoull(argv[2], NULL, 16), out,
                                      sizeof(out), strtoull(argv[3], NULL, 16));
    for (size_t i = 0; i < moved; i++)
        printf("%02x", out[i]);
    puts(moved == 0 ? "0" : "");
    return 0;
}

// What would be patched of COM's task memory, for its owner.
static void show_com(const char *path, const uint8_t *bytes, size_t size) {
    static mi_plan_t plan;
    mi_pe_t pe;
    if (!mi_pe_open(&pe, bytes, size, false) || !mi_com_is_owner(&pe))
        return;
    const bool is_good = mi_com_plan_make(&pe, &plan);
    printf("com %s %s reason=%s patches=%u\n", path, is_good ? "good" : "refused",
           mi_reason_row(plan.reason)->name, (unsigned)plan.patch_count);
    for (uint32_t i = 0; i < plan.site_count; i++)
        printf("function %s %s %s\n", plan.sites[i].name,
               mi_site_verdict_text((mi_site_verdict_t)plan.sites[i].verdict),
               mi_reason_row((mi_reason_t)plan.sites[i].reason)->name);
}

// Every prefix of the file, and copies with bytes changed, must be survived. With a sanitizer this
// finds wild reads.
static void torment(const uint8_t *bytes, size_t size) {
    static mi_plan_t plan;
    uint32_t state = 12345;
    uint8_t *copy = (uint8_t *)malloc(size);
    if (copy == NULL)
        return;
    for (int round = 0; round < 400; round++) {
        mi_pe_t pe;
        for (size_t i = 0; i < size; i++)
            copy[i] = bytes[i];
        for (int k = 0; k < 24; k++) {
            state = state * 1664525u + 1013904223u;
            const size_t at =
                (k % 2 == 0 ? (state >> 8) % (size < 4096 ? size : 4096) : (state >> 4) % size);
            copy[at] = (uint8_t)(state >> 24);
        }
        const size_t cut = (round % 4 == 0 ? (state >> 6) % size : size);
        if (mi_pe_open(&pe, copy, cut, round % 2 == 0)) {
            (void)mi_plan_is_crt(&pe);
            (void)mi_plan_make(&pe, &plan);
            (void)mi_com_plan_make(&pe, &plan);
        }
    }
    free(copy);
}

int main(int argc, char **argv) {
    if (argc == 6 && strcmp(argv[1], "--relocate") == 0)
        return relocate(argv + 2);
    const bool is_torment = (argc > 1 && argv[1][0] == '-' && argv[1][2] == 't');
    const bool is_moved_too = (argc > 1 && argv[1][0] == '-' && argv[1][2] == 'm');
    for (int i = 1 + (is_torment || is_moved_too); i < argc; i++) {
        size_t size = 0;
        uint8_t *bytes = read_file(argv[i], &size);
        if (bytes == NULL)
            return 2;
        show(argv[i], bytes, size, is_moved_too);
        show_com(argv[i], bytes, size);
        if (is_torment && size > 0)
            torment(bytes, size);
        free(bytes);
    }
    return 0;
}
