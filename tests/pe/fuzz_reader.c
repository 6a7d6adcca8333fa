// Everything the reader and the planner can be asked, over arbitrary bytes, as a file and as a
// mapped module. A finding is a sanitizer report, a hang, or an answer that contradicts another.
#include "pe/pe_evidence.h"
#include "pe/pe_image.h"
#include "pe/pe_manifest.h"
#include "pe/pe_names.h"
#include "pe/pe_overlay.h"
#include "pe/plan.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX                                                                                  \
    2000u // per table; each table is bounded by the input, this keeps one execution short

static volatile uint32_t sink;

static void touch(const char *s) {
    while (s != NULL && *s != 0)
        sink += (uint8_t)*s++;
}

#define require(fact)                                                                              \
    do {                                                                                           \
        if (!(fact)) {                                                                             \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #fact);              \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void read_exports(const mi_pe_t *pe) {
    mi_pe_exports_t ex;
    mi_pe_export_t e;
    mi_pe_export_t same;
    if (!mi_pe_exports_open(pe, &ex))
        return;
    for (uint32_t i = 0; i < ex.name_count && i < STEPS_MAX; i++) {
        if (!mi_pe_export_by_index(&ex, i, &e))
            continue;
        touch(e.name);
        touch(e.forwarder);
        if (i < 20)
            require(mi_pe_export_by_name(&ex, e.name, &same));
    }
}

static void read_imports(const mi_pe_t *pe) {
    mi_pe_import_t imp;
    mi_pe_thunk_t thunk;
    for (int delay = 0; delay < 2; delay++) {
        for (uint32_t i = 0; i < 50; i++) {
            if (!(delay ? mi_pe_delay_import_at(pe, i, &imp) : mi_pe_import_at(pe, i, &imp)))
                break;
            touch(imp.dll);
            for (uint32_t k = 0; k < 200 && mi_pe_thunk_at(pe, &imp, k, &thunk); k++)
                touch(thunk.name);
        }
    }
    sink += mi_pe_import_count(pe);
}

static void read_functions(const mi_pe_t *pe) {
    mi_pe_extent_t e;
    uint32_t n = mi_pe_function_count(pe);
    for (uint32_t i = 0; i < n && i < 100; i++) {
        if (mi_pe_function_at(pe, i, &e)) {
            require(e.begin < e.end && e.end <= pe->image_bytes);
            if (mi_pe_function_extent(pe, e.begin, &e))
                require(e.begin < e.end && e.end <= pe->image_bytes);
        }
    }
    sink += mi_pe_function_after(pe, pe->entry_rva, &e);
}

static void read_rest(const mi_pe_t *pe) {
    uint32_t rva;
    uint32_t offset;
    mi_pe_load_config_t config;
    mi_pe_clr_t clr;
    mi_pe_debug_t debug;
    mi_pe_version_t version;
    for (uint32_t i = 0; i < STEPS_MAX && mi_pe_debug_at(pe, i, &debug); i++)
        sink += debug.type;
    sink += mi_pe_load_config(pe, &config) + mi_pe_clr(pe, &clr) + mi_pe_file_version(pe, &version);
    touch(mi_pe_hybrid_name(mi_pe_hybrid(pe)));
    require(mi_pe_end_of_contents(pe) <= pe->size);
    for (uint32_t i = 0; i < 64; i++) {
        rva = i * 0x333;
        size_t room = mi_pe_room(pe, rva);
        const uint8_t *p = room != 0 ? mi_pe_at(pe, rva, room) : NULL;
        require((room == 0) == (p == NULL) && mi_pe_at(pe, rva, room + 1) == NULL);
        if (p != NULL)
            sink += (uint32_t)p[0] + p[room - 1];
        sink += mi_pe_rva_to_offset(pe, rva, &offset);
    }
}

// What the doctor asks besides.
static void read_doctor(const mi_pe_t *pe) {
    mi_pe_evidence_t e;
    mi_pe_range_t range;
    mi_manifest_t manifest;
    mi_assembly_t a;
    mi_api_sets_t sets;
    char text[64];
    touch(mi_pe_overlay_text(mi_pe_overlay(pe)));
    mi_pe_evidence(pe, &e);
    require(e.confidence <= 99);
    mi_pe_evidence_text(&e, text, sizeof text);
    touch(text);
    if (mi_pe_version_word(pe, "MimallocVariant", text, sizeof text))
        touch(text);
    if (mi_pe_resource(pe, MI_PE_RESOURCE_MANIFEST, 1, &range)) {
        mi_manifest_open(&manifest, mi_pe_at(pe, range.rva, range.bytes), range.bytes);
        while (mi_manifest_next(&manifest, &a)) {
            touch(a.name);
            touch(a.version);
            touch(a.machine);
            touch(a.token);
        }
    }
    if (mi_api_sets_open(&sets, pe) &&
        (mi_api_sets_find(&sets, "api-ms-win-core-file-l1-1-0.dll", text, sizeof text) ||
         mi_api_sets_find(&sets, "ext-ms-nobody-l1-1-0.dll", text, sizeof text)))
        touch(text);
}

// An input that is no image is a manifest, and a policy for an assembly that it names itself.
static void read_manifest(const uint8_t *data, size_t size) {
    mi_manifest_t manifest;
    mi_assembly_t a;
    mi_assembly_t redirected;
    uint64_t version;
    if (mi_manifest_is_utf16(data, size)) {
        char *text = (char *)malloc(size / 2 * 3 + 1);
        size_t bytes = text != NULL ? mi_manifest_to_utf8(data, size, text) : 0;
        require(bytes <= size / 2 * 3);
        if (bytes != 0 && !mi_manifest_is_utf16(text, bytes))
            read_manifest((const uint8_t *)text, bytes);
        free(text);
        return;
    }
    mi_manifest_open(&manifest, data, size);
    while (mi_manifest_next(&manifest, &a)) {
        require(manifest.at <= size && a.name[0] != 0);
        touch(a.token);
        redirected = a;
        if (mi_manifest_redirect(data, size, &redirected))
            require(mi_manifest_version(a.version, &version) &&
                    mi_manifest_version(redirected.version, &version));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static mi_plan_t plan;
    if (size < 2 || data[0] != 'M')
        read_manifest(data, size);
    for (int mapped = 0; mapped < 2; mapped++) {
        mi_pe_t pe;
        if (!mi_pe_open(&pe, data, size, mapped != 0)) {
            touch(mi_pe_error_text(pe.error));
            require(pe.error != MI_PE_OK);
            continue;
        }
        read_exports(&pe);
        read_imports(&pe);
        read_functions(&pe);
        read_rest(&pe);
        if (mapped == 0) // as the doctor does
            read_doctor(&pe);
        if (mi_plan_is_crt(&pe))
            mi_plan_make(&pe, &plan);
    }
    return 0;
}
