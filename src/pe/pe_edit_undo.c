// Taking an injection back. The record is found from the import directory, which points behind its
// header, and is believed only as far as it fits the file; the SHA-256 of the result has the last
// word.
#include "pe/pe_edit.h"
#include "pe/pe_edit_layout.h"
#include "pe/pe_sha256.h"

#include <string.h>

// The block's header at an RVA, or NULL.
static const uint8_t *block_at(const mi_pe_t *pe, uint32_t rva) {
    const uint8_t *b = mi_pe_at(pe, rva, MI_PE_UNDO_HEADER_BYTES);
    if (b == NULL || memcmp(b, MI_PE_UNDO_MAGIC, 8) != 0)
        return NULL;
    return mi_pe_u32(b + 92) == MI_PE_UNDO_FORMAT ? b : NULL;
}

// Another tool may have moved the import table since; then the section's name leads to the block.
static const uint8_t *find_block(const mi_pe_t *pe, uint32_t *rva) {
    mi_pe_range_t dir;
    mi_pe_section_t s;
    if (mi_pe_directory(pe, MI_PE_DIR_IMPORT, &dir) && dir.rva > MI_PE_UNDO_HEADER_BYTES) {
        *rva = dir.rva - MI_PE_UNDO_HEADER_BYTES;
        const uint8_t *b = block_at(pe, *rva);
        if (b != NULL)
            return b;
    }
    for (uint32_t i = 0; mi_pe_section_at(pe, i, &s); i++) {
        *rva = s.rva;
        if (memcmp(s.name, MI_PE_SECTION_NAME, 8) == 0)
            return block_at(pe, s.rva);
    }
    return NULL;
}

// The patch list lies inside the record and changes only bytes before the insertion.
static bool patches_fit(const mi_pe_undo_t *undo) {
    size_t at = 0;
    for (uint32_t i = 0; i < undo->patch_count; i++) {
        if (undo->patches_room - at < 8)
            return false;
        uint64_t offset = mi_pe_u32(undo->patches + at);
        uint64_t bytes = mi_pe_u32(undo->patches + at + 4);
        uint64_t padded = (bytes + 3) & ~(uint64_t)3;
        at += 8;
        if (padded > undo->patches_room - at || offset + bytes > undo->insert_offset)
            return false;
        at += (size_t)padded;
    }
    return undo->cut_bytes <= undo->patches_room - at;
}

mi_pe_edit_t mi_pe_undo_find(mi_pe_undo_t *undo, const mi_pe_t *pe) {
    memset(undo, 0, sizeof *undo);
    const uint8_t *b = find_block(pe, &undo->block_rva);
    if (b == NULL)
        return MI_PE_EDIT_NOT_OURS;
    undo->block_bytes = mi_pe_u32(b + 12);
    uint32_t record = mi_pe_u32(b + 16);
    undo->patch_count = mi_pe_u32(b + 20);
    undo->original_bytes = mi_pe_u64(b + 24);
    memcpy(undo->sha256, b + 32, sizeof undo->sha256);
    undo->insert_offset = mi_pe_u64(b + 64);
    undo->insert_bytes = mi_pe_u64(b + 72);
    undo->cut_offset = mi_pe_u64(b + 80);
    undo->cut_bytes = mi_pe_u32(b + 88);
    if (undo->block_bytes > mi_pe_room(pe, undo->block_rva) || record > undo->block_bytes ||
        undo->patch_count > MI_PE_EDIT_PATCHES)
        return MI_PE_EDIT_CHANGED;
    undo->patches = b + record;
    undo->patches_room = undo->block_bytes - record;
    if (undo->insert_offset > pe->size || undo->insert_bytes > pe->size - undo->insert_offset ||
        undo->original_bytes != pe->size - undo->insert_bytes + undo->cut_bytes ||
        (undo->cut_bytes != 0 && (undo->cut_offset < undo->insert_offset ||
                                  undo->cut_offset > undo->original_bytes - undo->cut_bytes)))
        return MI_PE_EDIT_CHANGED;
    return patches_fit(undo) ? MI_PE_EDIT_OK : MI_PE_EDIT_CHANGED;
}

void mi_pe_undo_read(const mi_pe_undo_t *undo, const mi_pe_t *pe, uint64_t at, uint8_t *out,
                     size_t bytes) {
    const mi_pe_window_t w = {at, bytes, out};
    uint64_t original = undo->original_bytes;
    uint64_t insert = undo->insert_offset;
    uint64_t cut = undo->cut_bytes != 0 ? undo->cut_offset : original;
    const uint8_t *behind = pe->bytes + insert + undo->insert_bytes;
    mi_pe_window_put(&w, 0, pe->bytes, insert);
    mi_pe_window_put(&w, insert, behind, cut - insert);
    mi_pe_window_put(&w, cut + undo->cut_bytes, behind + (cut - insert),
                     original - cut - undo->cut_bytes);
    const uint8_t *r = undo->patches;
    for (uint32_t i = 0; i < undo->patch_count; i++) {
        uint32_t patch_bytes = mi_pe_u32(r + 4);
        mi_pe_window_put(&w, mi_pe_u32(r), r + 8, patch_bytes);
        r += 8 + ((patch_bytes + 3) & ~3u);
    }
    mi_pe_window_put(&w, cut, r, undo->cut_bytes);
}

mi_pe_edit_t mi_pe_undo_write(const mi_pe_undo_t *undo, const mi_pe_t *pe, uint8_t *out) {
    uint8_t digest[MI_SHA256_BYTES];
    mi_pe_undo_read(undo, pe, 0, out, (size_t)undo->original_bytes);
    mi_sha256(out, (size_t)undo->original_bytes, digest);
    return mi_pe_undo_is(undo, digest) ? MI_PE_EDIT_OK : MI_PE_EDIT_CHANGED;
}

bool mi_pe_undo_is(const mi_pe_undo_t *undo, const uint8_t sha256[32]) {
    return memcmp(sha256, undo->sha256, sizeof undo->sha256) == 0;
}
