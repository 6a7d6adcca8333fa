#include "pe/pe_names.h"
#include "base/text.h"

// ---- API sets ----
//
//   0 version (6)   4 size   8 flags   12 count   16 offset of the entries   20 of the hashes   24
//   entry, 24 bytes: flags, name offset, name bytes, hashed bytes, values offset, value count
//   value, 20 bytes: flags, importing name offset, bytes, host offset, bytes
#define SET_HEADER_BYTES 28u
#define SET_ENTRY_BYTES  24u
#define SET_VALUE_BYTES  20u

static bool set_has(const mi_api_sets_t *sets, uint32_t at, uint32_t bytes) {
    return at <= sets->size && bytes <= sets->size - at;
}

bool mi_api_sets_open(mi_api_sets_t *sets, const mi_pe_t *schema) {
    mi_pe_section_t s;
    *sets = (mi_api_sets_t){NULL, 0, 0, 0};
    for (uint32_t i = 0; mi_pe_section_at(schema, i, &s); i++) {
        if (!mi_str_eq(s.name, ".apiset"))
            continue;
        size_t room = mi_pe_room(schema, s.rva);
        const uint8_t *b = mi_pe_at(schema, s.rva, SET_HEADER_BYTES);
        if (b == NULL || mi_pe_u32(b) != 6)
            return false;
        *sets = (mi_api_sets_t){b, (uint32_t)room, mi_pe_u32(b + 12), mi_pe_u32(b + 16)};
        return sets->count <= sets->size / SET_ENTRY_BYTES &&
               set_has(sets, sets->entries, sets->count * SET_ENTRY_BYTES);
    }
    return false;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool mi_api_set_is(const char *name) {
    static const char *const starts[] = {"api-", "ext-"};
    for (size_t i = 0; i < 2; i++) {
        size_t k = 0;
        while (k < 4 && lower(name[k]) == starts[i][k])
            k++;
        if (k == 4)
            return true;
    }
    return false;
}

// The length that counts: up to the last hyphen.
static size_t hashed_length(const char *name) {
    size_t n = 0;
    for (size_t i = 0; name[i] != 0; i++)
        n = name[i] == '-' ? i : n;
    return n;
}

static bool utf16_is(const uint8_t *s, const char *name, size_t length) {
    for (size_t i = 0; i < length; i++) {
        uint16_t c = mi_pe_u16(s + 2 * i);
        if (c > 0x7F || lower((char)c) != lower(name[i]))
            return false;
    }
    return true;
}

// The host for everybody: the value without an importing name. (A set may name another host for
// one importer; that matters to that importer only.)
static bool read_host(const mi_api_sets_t *sets, const uint8_t *entry, char *host, size_t cap) {
    uint32_t values = mi_pe_u32(entry + 16);
    uint32_t count = mi_pe_u32(entry + 20);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = values + i * SET_VALUE_BYTES;
        if (at < values || !set_has(sets, at, SET_VALUE_BYTES))
            return false;
        const uint8_t *v = sets->bytes + at;
        uint32_t text = mi_pe_u32(v + 12);
        uint32_t bytes = mi_pe_u32(v + 16);
        if (mi_pe_u32(v + 8) != 0)
            continue;
        if (!set_has(sets, text, bytes) || bytes / 2 >= cap)
            return false;
        for (uint32_t k = 0; k < bytes / 2; k++)
            host[k] = (char)(mi_pe_u16(sets->bytes + text + 2 * k) & 0x7F);
        host[bytes / 2] = 0;
        return true;
    }
    host[0] = 0;
    return count == 0;
}

bool mi_api_sets_find(const mi_api_sets_t *sets, const char *name, char *host, size_t cap) {
    size_t length = hashed_length(name);
    for (uint32_t i = 0; i < sets->count; i++) {
        const uint8_t *e = sets->bytes + sets->entries + i * SET_ENTRY_BYTES;
        uint32_t at = mi_pe_u32(e + 4);
        if (mi_pe_u32(e + 12) == length * 2 && set_has(sets, at, (uint32_t)length * 2) &&
            utf16_is(sets->bytes + at, name, length))
            return read_host(sets, e, host, cap);
    }
    return false;
}

// ---- version words ----

// A string of the resource: its key in UTF-16 with a NUL, padding to 4 from the resource's start,
// the value in UTF-16 with a NUL.
bool mi_pe_version_word(const mi_pe_t *pe, const char *key, char *out, size_t cap) {
    mi_pe_range_t range;
    size_t length = mi_str_len(key);
    if (!mi_pe_resource(pe, MI_PE_RESOURCE_VERSION, 0, &range) || cap == 0)
        return false;
    const uint8_t *b = mi_pe_at(pe, range.rva, range.bytes);
    for (size_t at = 0; b != NULL && at + 2 * (length + 1) <= range.bytes; at += 2) {
        if (!utf16_is(b + at, key, length) || mi_pe_u16(b + at + 2 * length) != 0)
            continue;
        size_t value = (at + 2 * (length + 1) + 3) & ~(size_t)3;
        for (size_t n = 0; value + 2 * n + 2 <= range.bytes && n < cap; n++) {
            uint16_t c = mi_pe_u16(b + value + 2 * n);
            out[n] = c < 0x80 ? (char)c : '?';
            if (c == 0)
                return true;
        }
        return false;
    }
    return false;
}
