// The editor's promises, over arbitrary bytes: what can be injected can be taken out again byte for
// byte, a second injection finds nothing to do, a result read in windows is the one written at
// once, and an undo record from hostile hands never writes outside its buffer.
#include "pe/pe_edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(fact)                                                                              \
    do {                                                                                           \
        if (!(fact)) {                                                                             \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #fact);              \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

// A window of an odd place and length, in a buffer of exactly that size.
static void read_window(const mi_pe_inject_t *plan, const uint8_t *out) {
    size_t at = plan->out_bytes / 3;
    size_t bytes = plan->out_bytes / 2 + 1;
    uint8_t *window = (uint8_t *)malloc(bytes);
    if (window == NULL)
        return;
    mi_pe_inject_read(plan, out + plan->insert_offset + plan->block_at, at, window, bytes);
    require(memcmp(window, out + at, bytes) == 0);
    free(window);
}

static void undo(const uint8_t *data, size_t size, const uint8_t *original, size_t original_size) {
    mi_pe_t pe;
    mi_pe_undo_t record;
    if (!mi_pe_open(&pe, data, size, false) || mi_pe_undo_find(&record, &pe) != MI_PE_EDIT_OK) {
        require(original == NULL);
        return;
    }
    require(record.original_bytes <= size * 2); // what an undo writes is bounded by the file
    uint8_t *out = (uint8_t *)malloc((size_t)record.original_bytes + 1);
    if (out == NULL)
        return;
    mi_pe_edit_t result = mi_pe_undo_write(&record, &pe, out);
    if (original != NULL) {
        require(result == MI_PE_EDIT_OK && record.original_bytes == original_size);
        require(memcmp(out, original, original_size) == 0);
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static mi_pe_inject_t plan;
    static mi_pe_inject_t again;
    mi_pe_t pe;
    undo(data, size, NULL, 0);
    if (!mi_pe_open(&pe, data, size, false))
        return 0;
    // The last byte of an image means nothing to the reader, so the fuzzer chooses with it.
    uint8_t choice = size != 0 ? data[size - 1] : 0;
    const mi_pe_inject_options_t options = {mi_pe_redirect_name(pe.machine), "mimalloc-debug.dll",
                                            (choice & 1) != 0, (choice & 2) == 0,
                                            (choice & 4) == 0};
    // A last section that is repeated may be long; that costs time and shows nothing new.
    if (mi_pe_inject_plan(&plan, &pe, &options) != MI_PE_EDIT_OK ||
        plan.out_bytes > size + (1u << 18))
        return 0;
    uint8_t *out = (uint8_t *)malloc(plan.out_bytes);
    if (out == NULL)
        return 0;
    mi_pe_inject_write(&plan, out);
    read_window(&plan, out);
    mi_pe_t result;
    if (mi_pe_inject_is_sound(&plan, out)) {
        require(mi_pe_open(&result, out, plan.out_bytes, false));
        require(mi_pe_inject_plan(&again, &result, &options) == MI_PE_EDIT_NOTHING);
        undo(out, plan.out_bytes, data, size);
    }
    free(out);
    return 0;
}
