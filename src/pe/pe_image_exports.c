// The export directory: three parallel tables, none of which is believed further than it can be
// read.
#include "pe/pe_image.h"

#define EXPORT_DIR_BYTES 40u

// A table of count cells inside the view, or NULL; an unreadable tail shortens the table.
static const uint8_t *table_at(const mi_pe_t *pe, uint32_t rva, uint32_t cell, uint32_t *count) {
    size_t room = mi_pe_room(pe, rva) / cell;
    if (*count > room)
        *count = (uint32_t)room;
    return *count != 0 ? mi_pe_at(pe, rva, (size_t)*count * cell) : NULL;
}

bool mi_pe_exports_open(const mi_pe_t *pe, mi_pe_exports_t *ex) {
    *ex = (mi_pe_exports_t){.pe = pe};
    if (!mi_pe_directory(pe, MI_PE_DIR_EXPORT, &ex->range))
        return false;
    const uint8_t *d = mi_pe_at(pe, ex->range.rva, EXPORT_DIR_BYTES);
    if (d == NULL)
        return false;
    ex->ordinal_base = mi_pe_u32(d + 16);
    ex->function_count = mi_pe_u32(d + 20);
    ex->name_count = mi_pe_u32(d + 24);
    ex->functions = table_at(pe, mi_pe_u32(d + 28), 4, &ex->function_count);
    uint32_t ordinals = ex->name_count;
    ex->names = table_at(pe, mi_pe_u32(d + 32), 4, &ex->name_count);
    ex->ordinals = table_at(pe, mi_pe_u32(d + 36), 2, &ordinals);
    if (ordinals < ex->name_count)
        ex->name_count = ordinals;
    return ex->functions != NULL;
}

static bool export_function(const mi_pe_exports_t *ex, uint32_t index, mi_pe_export_t *out) {
    if (index >= ex->function_count)
        return false;
    *out = (mi_pe_export_t){.rva = mi_pe_u32(ex->functions + (size_t)index * 4),
                            .ordinal = ex->ordinal_base + index};
    if (out->rva == 0)
        return false;
    if (out->rva >= ex->range.rva && out->rva - ex->range.rva < ex->range.bytes) {
        out->forwarder = mi_pe_string(ex->pe, out->rva);
        out->rva = 0;
        return out->forwarder != NULL;
    }
    return true;
}

bool mi_pe_export_by_index(const mi_pe_exports_t *ex, uint32_t i, mi_pe_export_t *out) {
    if (i >= ex->name_count)
        return false;
    if (!export_function(ex, mi_pe_u16(ex->ordinals + (size_t)i * 2), out))
        return false;
    out->name = mi_pe_string(ex->pe, mi_pe_u32(ex->names + (size_t)i * 4));
    return out->name != NULL;
}

uint32_t mi_pe_exports_at(const mi_pe_exports_t *ex, uint32_t rva) {
    uint32_t count = 0; // without a way out: several at a time
    for (uint32_t k = 0; k < ex->function_count; k++)
        count += (mi_pe_u32(ex->functions + (size_t)k * 4) == rva);
    return count;
}

static bool name_equals(const char *a, const char *b) {
    while (*a != 0 && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

// The order of the name at an RVA and of a key, byte by byte as in the sorted table: below 0 = the
// name comes first. *same: how many bytes they have in common. A name that leaves the view comes
// last. It reads no further than the answer needs: the pages behind may be cold.
static int name_order(const mi_pe_t *pe, uint32_t rva, const char *key, size_t *same) {
    const size_t room = mi_pe_room(pe, rva);
    const uint8_t *s = mi_pe_at(pe, rva, room);
    for (*same = 0; s != NULL && *same < room; ++*same) {
        const int order = (int)s[*same] - (int)(uint8_t)key[*same];
        if (order != 0 || key[*same] == 0)
            return order;
    }
    return 1;
}

uint32_t mi_pe_export_lower(const mi_pe_exports_t *ex, uint32_t from, const char *key) {
    uint32_t low = from, high = ex->name_count;
    while (low < high) {
        const uint32_t mid = low + (high - low) / 2;
        size_t same;
        if (name_order(ex->pe, mi_pe_u32(ex->names + (size_t)mid * 4), key, &same) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool mi_pe_export_begins(const mi_pe_exports_t *ex, uint32_t i, const char *prefix) {
    size_t same = 0;
    if (i < ex->name_count)
        (void)name_order(ex->pe, mi_pe_u32(ex->names + (size_t)i * 4), prefix, &same);
    return prefix[same] == 0;
}

bool mi_pe_export_by_name(const mi_pe_exports_t *ex, const char *name, mi_pe_export_t *out) {
    for (uint32_t i = 0; i < ex->name_count; i++) {
        const char *s = mi_pe_string(ex->pe, mi_pe_u32(ex->names + (size_t)i * 4));
        if (s != NULL && name_equals(s, name) && mi_pe_export_by_index(ex, i, out))
            return true;
    }
    return false;
}

bool mi_pe_export_find(const mi_pe_t *pe, const char *name, mi_pe_export_t *out) {
    mi_pe_exports_t ex;
    return mi_pe_exports_open(pe, &ex) && mi_pe_export_by_name(&ex, name, out);
}
