// What an image says about itself: function extents, load configuration, hybrid code, .NET header,
// debug entries, version.
#include "pe/pe_image.h"

#define DYNAMIC_RELOCS_AT  224u // in the 64-bit load configuration
#define ARM64X_SYMBOL      6u
#define CHAIN_MAX          32u // links of a .pdata chain that are followed; real ones have one or two
#define UNWIND_CHAINED     4u // flag of an x64 unwind record
#define RESOURCE_DIR_BYTES 16u

// ---- .pdata ----

static uint32_t pdata_entry_bytes(const mi_pe_t *pe) {
    if (pe->machine == MI_PE_MACHINE_X64)
        return 12;
    return pe->machine == MI_PE_MACHINE_ARM64 ? 8 : 0;
}

uint32_t mi_pe_function_count(const mi_pe_t *pe) {
    mi_pe_range_t dir;
    uint32_t entry = pdata_entry_bytes(pe);
    if (entry == 0 || !mi_pe_directory(pe, MI_PE_DIR_EXCEPTION, &dir))
        return 0;
    size_t room = mi_pe_room(pe, dir.rva);
    return (uint32_t)(room < dir.bytes ? room : dir.bytes) / entry;
}

// Entry i as written, or NULL. The range of i is checked by mi_pe_function_count.
static const uint8_t *pdata_entry(const mi_pe_t *pe, uint32_t i) {
    mi_pe_range_t dir;
    if (i >= mi_pe_function_count(pe) || !mi_pe_directory(pe, MI_PE_DIR_EXCEPTION, &dir))
        return NULL;
    uint32_t entry = pdata_entry_bytes(pe);
    return mi_pe_at(pe, dir.rva + i * entry, entry);
}

static bool arm64_length(const mi_pe_t *pe, uint32_t word, uint32_t *bytes) {
    if ((word & 3) == 0) { // not packed: the word is the RVA of a record in .xdata
        const uint8_t *x = mi_pe_at(pe, word, 4);
        if (x == NULL)
            return false;
        *bytes = (mi_pe_u32(x) & 0x3FFFF) * 4;
    } else {
        *bytes = ((word >> 2) & 0x7FF) * 4;
    }
    return true;
}

bool mi_pe_function_at(const mi_pe_t *pe, uint32_t i, mi_pe_extent_t *out) {
    const uint8_t *e = pdata_entry(pe, i);
    if (e == NULL)
        return false;
    out->begin = mi_pe_u32(e);
    if (pe->machine == MI_PE_MACHINE_X64) {
        out->end = mi_pe_u32(e + 4);
    } else {
        uint32_t bytes;
        if (!arm64_length(pe, mi_pe_u32(e + 4), &bytes))
            return false;
        out->end = out->begin + bytes;
    }
    return out->begin < out->end && out->end <= pe->image_bytes;
}

// The begin of the primary entry that entry i belongs to (x64 chains; ARM64 fragments are not
// linked).
static uint32_t primary_of(const mi_pe_t *pe, uint32_t i) {
    const uint8_t *e = pdata_entry(pe, i);
    for (uint32_t links = 0; e != NULL && links < CHAIN_MAX; links++) {
        if (pe->machine != MI_PE_MACHINE_X64)
            return mi_pe_u32(e);
        uint32_t unwind = mi_pe_u32(e + 8);
        // Bit 0 set: the RVA of another .pdata entry instead of an unwind record.
        if ((unwind & 1) != 0) {
            e = mi_pe_at(pe, unwind & ~1u, 12);
            continue;
        }
        const uint8_t *u = mi_pe_at(pe, unwind, 4);
        if (u == NULL)
            return 0;
        if (((u[0] >> 3) & UNWIND_CHAINED) == 0)
            return mi_pe_u32(e);
        uint32_t codes = ((uint32_t)u[2] + 1) & ~1u; // padded to an even number of two-byte codes
        e = mi_pe_at(pe, unwind + 4 + codes * 2, 12);
    }
    return 0;
}

// Binary search for the last entry that begins at or before the RVA; the table is sorted in every
// image that a linker made, and in others the answer is verified by the caller and comes out as
// "none".
static bool pdata_search(const mi_pe_t *pe, uint32_t rva, uint32_t *index) {
    uint32_t low = 0;
    uint32_t high = mi_pe_function_count(pe);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const uint8_t *e = pdata_entry(pe, middle);
        if (e == NULL)
            return false;
        if (mi_pe_u32(e) <= rva)
            low = middle + 1;
        else
            high = middle;
    }
    *index = low; // the first that begins behind the RVA
    return true;
}

bool mi_pe_function_extent(const mi_pe_t *pe, uint32_t rva, mi_pe_extent_t *out) {
    uint32_t i;
    if (!pdata_search(pe, rva, &i) || i == 0 || !mi_pe_function_at(pe, i - 1, out))
        return false;
    if (rva < out->begin || rva >= out->end)
        return false;
    uint32_t primary = primary_of(pe, i - 1);
    mi_pe_extent_t other;
    for (uint32_t k = i; mi_pe_function_at(pe, k, &other) && other.begin == out->end; k++) {
        if (primary == 0 || primary_of(pe, k) != primary)
            break;
        out->end = other.end;
    }
    for (uint32_t k = i - 1; k > 0 && mi_pe_function_at(pe, k - 1, &other); k--) {
        if (other.end != out->begin || primary == 0 || primary_of(pe, k - 1) != primary)
            break;
        out->begin = other.begin;
    }
    return true;
}

bool mi_pe_function_after(const mi_pe_t *pe, uint32_t rva, mi_pe_extent_t *out) {
    uint32_t i;
    return pdata_search(pe, rva, &i) && mi_pe_function_at(pe, i, out);
}

bool mi_pe_functions_are_sorted(const mi_pe_t *pe) {
    const uint32_t count = mi_pe_function_count(pe), entry = pdata_entry_bytes(pe);
    const uint8_t *e = pdata_entry(pe, 0); // the others follow, as the count says
    uint32_t before = 0;
    for (uint32_t i = 0; e != NULL && i < count; i++, e += entry) {
        if (mi_pe_u32(e) < before)
            return false;
        before = mi_pe_u32(e);
    }
    return true;
}

// ---- load configuration, hybrid code ----

// An address-sized field of the load configuration, 0 when the structure ends before it.
static uint64_t config_field(const mi_pe_t *pe, const uint8_t *d, uint32_t bytes, uint32_t at) {
    uint32_t cell = pe->is_pe64 ? 8 : 4;
    if (bytes < at + cell)
        return 0;
    return cell == 8 ? mi_pe_u64(d + at) : mi_pe_u32(d + at);
}

static uint32_t config_rva(const mi_pe_t *pe, const uint8_t *d, uint32_t bytes, uint32_t at) {
    uint32_t rva;
    uint64_t va = config_field(pe, d, bytes, at);
    return va != 0 && mi_pe_va_to_rva(pe, va, &rva) ? rva : 0;
}

bool mi_pe_load_config(const mi_pe_t *pe, mi_pe_load_config_t *out) {
    mi_pe_range_t dir;
    *out = (mi_pe_load_config_t){0};
    if (!mi_pe_directory(pe, MI_PE_DIR_LOAD_CONFIG, &dir))
        return false;
    const uint8_t *d = mi_pe_at(pe, dir.rva, 4);
    if (d == NULL)
        return false;
    size_t room = mi_pe_room(pe, dir.rva);
    uint32_t bytes = mi_pe_u32(d); // of the structure, as it says itself
    uint32_t n = bytes < room ? bytes : (uint32_t)room;
    bool is64 = pe->is_pe64;
    out->cookie_rva = config_rva(pe, d, n, is64 ? 88 : 60);
    out->chpe_rva = config_rva(pe, d, n, is64 ? 200 : 124);
    return true;
}

// The dynamic relocations, in the section and at the offset that the load configuration names:
// version and size, then for each symbol its number, the length of its rows, the rows. Symbol 6
// holds what makes the x64 view of an ARM64X image.
static bool has_arm64x_fixups(const mi_pe_t *pe) {
    mi_pe_range_t dir;
    mi_pe_section_t s;
    if (!pe->is_pe64 || !mi_pe_directory(pe, MI_PE_DIR_LOAD_CONFIG, &dir))
        return false;
    const uint8_t *d = mi_pe_at(pe, dir.rva, DYNAMIC_RELOCS_AT + 6);
    if (d == NULL || mi_pe_u32(d) < DYNAMIC_RELOCS_AT + 6)
        return false;
    uint32_t offset = mi_pe_u32(d + DYNAMIC_RELOCS_AT);
    uint32_t section = mi_pe_u16(d + DYNAMIC_RELOCS_AT + 4);
    if (section == 0 || !mi_pe_section_at(pe, section - 1, &s) || offset > UINT32_MAX - s.rva)
        return false;
    const uint8_t *t = mi_pe_at(pe, s.rva + offset, 8);
    if (t == NULL || mi_pe_u32(t) != 1)
        return false;
    size_t room = mi_pe_room(pe, s.rva + offset) - 8;
    size_t end = mi_pe_u32(t + 4) < room ? mi_pe_u32(t + 4) : room;
    t += 8;
    for (size_t at = 0; end - at >= 12;) {
        uint32_t bytes = mi_pe_u32(t + at + 8);
        if (mi_pe_u64(t + at) == ARM64X_SYMBOL)
            return true;
        at += 12;
        if (bytes > end - at)
            return false;
        at += bytes;
    }
    return false;
}

mi_pe_hybrid_t mi_pe_hybrid(const mi_pe_t *pe) {
    mi_pe_load_config_t config;
    if (!mi_pe_load_config(pe, &config))
        return MI_PE_HYBRID_NONE;
    if (config.chpe_rva != 0 && pe->machine == MI_PE_MACHINE_X86)
        return MI_PE_HYBRID_CHPE;
    if (config.chpe_rva != 0 && pe->machine == MI_PE_MACHINE_X64)
        return MI_PE_HYBRID_ARM64EC;
    return config.chpe_rva != 0 || has_arm64x_fixups(pe) ? MI_PE_HYBRID_ARM64X : MI_PE_HYBRID_NONE;
}

const char *mi_pe_hybrid_name(mi_pe_hybrid_t kind) {
    static const char *const names[] = {"no hybrid", "a CHPE", "an ARM64EC", "an ARM64X"};
    return names[kind];
}

// ---- .NET, debug, version ----

bool mi_pe_clr(const mi_pe_t *pe, mi_pe_clr_t *out) {
    mi_pe_range_t dir;
    if (!mi_pe_directory(pe, MI_PE_DIR_CLR, &dir))
        return false;
    const uint8_t *d = mi_pe_at(pe, dir.rva, 72);
    if (d == NULL)
        return false;
    out->flags = mi_pe_u32(d + 16);
    out->is_il_only = (out->flags & 1) != 0;
    return true;
}

bool mi_pe_debug_at(const mi_pe_t *pe, uint32_t i, mi_pe_debug_t *out) {
    mi_pe_range_t dir;
    if (!mi_pe_directory(pe, MI_PE_DIR_DEBUG, &dir) || i >= dir.bytes / 28 ||
        i >= mi_pe_room(pe, dir.rva) / 28)
        return false;
    const uint8_t *d = mi_pe_at(pe, dir.rva + i * 28, 28);
    if (d == NULL || !mi_pe_rva_to_offset(pe, dir.rva + i * 28, &out->entry_offset))
        return false;
    out->type = mi_pe_u32(d + 12);
    out->bytes = mi_pe_u32(d + 16);
    out->rva = mi_pe_u32(d + 20);
    out->raw_offset = mi_pe_u32(d + 24);
    return true;
}

// One level of the resource tree: the entry with this id (0 = the first), as an offset from the
// tree's root with its is-a-directory bit.
static bool resource_entry(const mi_pe_t *pe, uint32_t root, uint32_t at, uint32_t id,
                           uint32_t *to) {
    const uint8_t *d = mi_pe_at(pe, root + at, RESOURCE_DIR_BYTES);
    if (d == NULL)
        return false;
    uint32_t count = (uint32_t)mi_pe_u16(d + 12) + mi_pe_u16(d + 14);
    const uint8_t *e = mi_pe_at(pe, root + at + RESOURCE_DIR_BYTES, (size_t)count * 8);
    for (uint32_t i = 0; e != NULL && i < count; i++, e += 8) {
        if (id != 0 && mi_pe_u32(e) != id)
            continue;
        *to = mi_pe_u32(e + 4);
        return true;
    }
    return false;
}

bool mi_pe_resource(const mi_pe_t *pe, uint32_t type, uint32_t id, mi_pe_range_t *out) {
    mi_pe_range_t dir;
    uint32_t at = 0x80000000u;
    const uint32_t ids[3] = {type, id, 0 /* any language */};
    if (!mi_pe_directory(pe, MI_PE_DIR_RESOURCE, &dir))
        return false;
    for (size_t level = 0; level < 3; level++) {
        if ((at >> 31) == 0 || !resource_entry(pe, dir.rva, at & 0x7FFFFFFF, ids[level], &at))
            return false;
    }
    const uint8_t *leaf = (at >> 31) == 0 ? mi_pe_at(pe, dir.rva + at, 16) : NULL;
    if (leaf == NULL)
        return false;
    *out = (mi_pe_range_t){mi_pe_u32(leaf), mi_pe_u32(leaf + 4)};
    return out->bytes != 0 && mi_pe_room(pe, out->rva) >= out->bytes;
}

bool mi_pe_file_version(const mi_pe_t *pe, mi_pe_version_t *out) {
    mi_pe_range_t range;
    if (!mi_pe_resource(pe, MI_PE_RESOURCE_VERSION, 0, &range))
        return false;
    // Length, value length and type (2 bytes each), then "VS_VERSION_INFO" in UTF-16 and the fixed
    // part, aligned to 4 from the start: 6 + 32 + 2 = 40.
    const uint8_t *v = mi_pe_at(pe, range.rva, 40 + 52);
    if (v == NULL || mi_pe_u32(v + 40) != 0xFEEF04BDu)
        return false;
    out->part[0] = mi_pe_u16(v + 40 + 10);
    out->part[1] = mi_pe_u16(v + 40 + 8);
    out->part[2] = mi_pe_u16(v + 40 + 14);
    out->part[3] = mi_pe_u16(v + 40 + 12);
    return true;
}
