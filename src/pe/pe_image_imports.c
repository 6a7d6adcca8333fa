// Import and delay-import descriptors and their thunks.
//
//   descriptor -> name, lookup table (names or ordinals), address table (the cells that code calls
//   through)
#include "pe/pe_image.h"

#define IMPORT_BYTES 20u
#define DELAY_BYTES  32u

// The loader stops at a descriptor without a name or without an address table.
bool mi_pe_import_at(const mi_pe_t *pe, uint32_t i, mi_pe_import_t *out) {
    mi_pe_range_t dir;
    if (!mi_pe_directory(pe, MI_PE_DIR_IMPORT, &dir) || i >= mi_pe_room(pe, dir.rva) / IMPORT_BYTES)
        return false;
    uint32_t rva = dir.rva + i * IMPORT_BYTES;
    const uint8_t *d = mi_pe_at(pe, rva, IMPORT_BYTES);
    if (d == NULL || mi_pe_u32(d + 12) == 0 || mi_pe_u32(d + 16) == 0)
        return false;
    *out = (mi_pe_import_t){.dll = mi_pe_string(pe, mi_pe_u32(d + 12)),
                            .descriptor_rva = rva,
                            .lookup_rva = mi_pe_u32(d),
                            .time_stamp = mi_pe_u32(d + 4),
                            .forwarder_chain = mi_pe_u32(d + 8),
                            .iat_rva = mi_pe_u32(d + 16)};
    if (out->lookup_rva == 0)
        out->lookup_rva = out->iat_rva;
    return out->dll != NULL;
}

uint32_t mi_pe_import_count(const mi_pe_t *pe) {
    mi_pe_import_t imp;
    uint32_t n = 0;
    while (mi_pe_import_at(pe, n, &imp))
        n++;
    return n;
}

// Old 32-bit images (attribute bit 0 clear) hold addresses where newer ones hold RVAs.
static bool delay_rva(const mi_pe_t *pe, const uint8_t *field, bool holds_rva, uint32_t *rva) {
    *rva = mi_pe_u32(field);
    return holds_rva || mi_pe_va_to_rva(pe, *rva, rva);
}

bool mi_pe_delay_import_at(const mi_pe_t *pe, uint32_t i, mi_pe_import_t *out) {
    mi_pe_range_t dir;
    if (!mi_pe_directory(pe, MI_PE_DIR_DELAY_IMPORT, &dir) ||
        i >= mi_pe_room(pe, dir.rva) / DELAY_BYTES)
        return false;
    uint32_t rva = dir.rva + i * DELAY_BYTES;
    const uint8_t *d = mi_pe_at(pe, rva, DELAY_BYTES);
    if (d == NULL || mi_pe_u32(d + 4) == 0)
        return false;
    uint32_t name;
    *out = (mi_pe_import_t){.descriptor_rva = rva, .time_stamp = mi_pe_u32(d), .is_delay = true};
    bool holds_rva = (out->time_stamp & 1) != 0;
    if (!delay_rva(pe, d + 4, holds_rva, &name) ||
        !delay_rva(pe, d + 12, holds_rva, &out->iat_rva) ||
        !delay_rva(pe, d + 16, holds_rva, &out->lookup_rva))
        return false;
    out->dll = mi_pe_string(pe, name);
    return out->dll != NULL;
}

bool mi_pe_thunk_at(const mi_pe_t *pe, const mi_pe_import_t *imp, uint32_t i, mi_pe_thunk_t *out) {
    uint32_t cell = pe->is_pe64 ? 8 : 4;
    if (pe->is_mapped && imp->lookup_rva == imp->iat_rva)
        return false;
    if (i >= mi_pe_room(pe, imp->lookup_rva) / cell)
        return false;
    const uint8_t *t = mi_pe_at(pe, imp->lookup_rva + i * cell, cell);
    if (t == NULL)
        return false;
    uint64_t value = pe->is_pe64 ? mi_pe_u64(t) : mi_pe_u32(t);
    bool is_ordinal = (value >> (pe->is_pe64 ? 63 : 31)) != 0;
    *out = (mi_pe_thunk_t){.iat_slot_rva = imp->iat_rva + i * cell};
    if (value == 0)
        return false;
    if (is_ordinal) {
        out->ordinal = (uint32_t)(value & 0xFFFF);
        return true;
    }
    if (value > INT32_MAX)
        return false;
    uint32_t rva = (uint32_t)value;
    if (imp->is_delay && (imp->time_stamp & 1) == 0 && !mi_pe_va_to_rva(pe, value, &rva))
        return false;
    const uint8_t *hint = mi_pe_at(pe, rva, 2);
    if (hint == NULL)
        return false;
    out->hint = mi_pe_u16(hint);
    out->name = mi_pe_string(pe, rva + 2);
    return out->name != NULL;
}
