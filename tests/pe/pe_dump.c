// Prints what the reader finds in an image, for comparison with another reader.  pe_dump FILE
// [mapped] With "mapped" the file is first laid out as the loader would, so that both views must
// print the same.
#include "pe/pe_image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void dump_exports(const mi_pe_t *pe) {
    mi_pe_exports_t ex;
    mi_pe_export_t e;
    mi_pe_export_t again;
    if (!mi_pe_exports_open(pe, &ex))
        return;
    for (uint32_t i = 0; i < ex.name_count; i++) {
        if (!mi_pe_export_by_index(&ex, i, &e))
            continue;
        if (e.forwarder != NULL)
            printf("export %u %s -> %s\n", e.ordinal, e.name, e.forwarder);
        else
            printf("export %u %s %#x\n", e.ordinal, e.name, e.rva);
        if (i % 64 == 0 && (!mi_pe_export_find(pe, e.name, &again) || again.ordinal != e.ordinal))
            printf("export %s is not found by name\n", e.name);
    }
}

static void dump_imports(const mi_pe_t *pe) {
    mi_pe_import_t imp;
    mi_pe_thunk_t t;
    for (uint32_t delay = 0; delay < 2; delay++) {
        for (uint32_t i = 0;
             delay ? mi_pe_delay_import_at(pe, i, &imp) : mi_pe_import_at(pe, i, &imp); i++) {
            printf("%s %s iat %#x\n", delay ? "delay" : "import", imp.dll, imp.iat_rva);
            for (uint32_t k = 0; mi_pe_thunk_at(pe, &imp, k, &t); k++) {
                if (t.name != NULL)
                    printf("  %s\n", t.name);
                else
                    printf("  #%u\n", t.ordinal);
            }
        }
    }
}

static void dump_functions(const mi_pe_t *pe) {
    mi_pe_extent_t e;
    mi_pe_extent_t whole;
    uint32_t n = mi_pe_function_count(pe);
    for (uint32_t i = 0; i < n; i++) {
        if (!mi_pe_function_at(pe, i, &e))
            continue;
        printf("function %#x %#x", e.begin, e.end);
        if (mi_pe_function_extent(pe, e.begin, &whole) &&
            (whole.begin != e.begin || whole.end != e.end))
            printf(" part of %#x %#x", whole.begin, whole.end);
        putchar('\n');
    }
}

static void dump_rest(const mi_pe_t *pe) {
    mi_pe_load_config_t config;
    mi_pe_version_t v;
    mi_pe_clr_t clr;
    if (mi_pe_load_config(pe, &config))
        printf("config cookie %#x hybrid %#x\n", config.cookie_rva, config.chpe_rva);
    if (mi_pe_clr(pe, &clr))
        printf("clr %#x\n", clr.flags);
    if (mi_pe_file_version(pe, &v))
        printf("version %u.%u.%u.%u\n", v.part[0], v.part[1], v.part[2], v.part[3]);
}

static uint8_t *map_image(const mi_pe_t *file) {
    mi_pe_section_t s;
    uint8_t *image = (uint8_t *)calloc(1, file->image_bytes);
    if (image == NULL)
        exit(2);
    memcpy(image, file->bytes, file->header_bytes < file->size ? file->header_bytes : file->size);
    for (uint32_t i = 0; mi_pe_section_at(file, i, &s); i++) {
        uint32_t n =
            s.virtual_bytes != 0 && s.virtual_bytes < s.raw_bytes ? s.virtual_bytes : s.raw_bytes;
        if (n != 0 && s.rva + n <= file->image_bytes)
            memcpy(image + s.rva, file->bytes + s.raw_offset, n);
    }
    return image;
}

int main(int argc, char **argv) {
    FILE *f = argc >= 2 ? fopen(argv[1], "rb") : NULL;
    if (f == NULL)
        return 2;
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    uint8_t *bytes = (uint8_t *)malloc(size + 1);
    if (bytes == NULL || fread(bytes, 1, size, f) != size)
        return 2;
    fclose(f);
    mi_pe_t pe;
    if (!mi_pe_open(&pe, bytes, size, false)) {
        printf("error: %s\n", mi_pe_error_text(pe.error));
        return 1;
    }
    uint8_t *image = NULL;
    if (argc >= 3) {
        image = map_image(&pe);
        if (!mi_pe_open_module(&pe, image))
            return 1;
    }
    dump_exports(&pe);
    dump_imports(&pe);
    dump_functions(&pe);
    dump_rest(&pe);
    free(image);
    free(bytes);
    return 0;
}
