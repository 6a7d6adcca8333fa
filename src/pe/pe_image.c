// Opening an image and turning addresses into bytes. What the loader would accept is accepted, what
// it would refuse is refused with a reason; nothing behind the headers is looked at before somebody
// asks for it.
//
//   file:  0 | MZ ... e_lfanew | PE\0\0 file header | optional header, directories | section table
//   | ... sections mapped: the same headers, then each section at its RVA
#include "pe/pe_image.h"

#define FILE_HEADER_BYTES    20u
#define SECTION_HEADER_BYTES 40u
#define PAGE_BYTES           0x1000u
#define SECTOR_BYTES         0x200u
#define SIZE_OF_IMAGE_END    84u // behind the field SizeOfImage, from "PE\0\0"

static bool view_has(const mi_pe_t *pe, uint64_t offset, uint64_t bytes) {
    return offset <= pe->size && bytes <= pe->size - offset;
}

// What an image without a PE header is, for the message.
static mi_pe_error_t kind_of_old_image(const mi_pe_t *pe, uint32_t nt) {
    if (!view_has(pe, nt, 4))
        return nt >= 0x40 && mi_pe_u16(pe->bytes + 0x18) >= 0x40 ? MI_PE_CUT : MI_PE_DOS;
    uint16_t tag = mi_pe_u16(pe->bytes + nt);
    if (tag == 0x454E || tag == 0x454C || tag == 0x584C)
        return MI_PE_NE;
    return MI_PE_DOS;
}

static mi_pe_error_t open_file_header(mi_pe_t *pe) {
    if (pe->size == 0)
        return MI_PE_EMPTY;
    if (pe->size < 2 || pe->bytes[0] != 'M' || pe->bytes[1] != 'Z')
        return MI_PE_NOT_PE;
    if (pe->size < 0x40)
        return MI_PE_CUT;
    uint32_t nt = mi_pe_u32(pe->bytes + 0x3C);
    if (!view_has(pe, nt, 4) || mi_pe_u32(pe->bytes + nt) != 0x4550)
        return kind_of_old_image(pe, nt);
    if (!view_has(pe, nt, 4 + FILE_HEADER_BYTES))
        return MI_PE_CUT;
    const uint8_t *h = pe->bytes + nt + 4;
    pe->nt_offset = nt;
    pe->machine = mi_pe_u16(h);
    pe->section_count = mi_pe_u16(h + 2);
    pe->time_stamp = mi_pe_u32(h + 4);
    pe->symbol_offset = mi_pe_u32(h + 8);
    pe->symbol_count = mi_pe_u32(h + 12);
    pe->characteristics = mi_pe_u16(h + 18);
    pe->optional_offset = nt + 4 + FILE_HEADER_BYTES;
    uint32_t optional_bytes = mi_pe_u16(h + 16);
    pe->sections_offset = pe->optional_offset + optional_bytes;
    if (!view_has(pe, pe->optional_offset, optional_bytes) ||
        !view_has(pe, pe->sections_offset, (uint64_t)pe->section_count * SECTION_HEADER_BYTES))
        return MI_PE_CUT;
    return MI_PE_OK;
}

static mi_pe_error_t open_optional_header(mi_pe_t *pe) {
    const uint8_t *o = pe->bytes + pe->optional_offset;
    uint32_t bytes = pe->sections_offset - pe->optional_offset;
    uint16_t magic = bytes >= 2 ? mi_pe_u16(o) : 0;
    if (magic != 0x10B && magic != 0x20B)
        return MI_PE_MALFORMED;
    pe->is_pe64 = magic == 0x20B;
    uint32_t fixed = pe->is_pe64 ? 112 : 96;
    if (bytes < fixed)
        return MI_PE_MALFORMED;
    pe->entry_rva = mi_pe_u32(o + 16);
    pe->image_base = pe->is_pe64 ? mi_pe_u64(o + 24) : mi_pe_u32(o + 28);
    pe->section_align = mi_pe_u32(o + 32);
    pe->file_align = mi_pe_u32(o + 36);
    pe->image_bytes = mi_pe_u32(o + 56);
    pe->header_bytes = mi_pe_u32(o + 60);
    pe->checksum = mi_pe_u32(o + 64);
    pe->subsystem = mi_pe_u16(o + 68);
    pe->dll_characteristics = mi_pe_u16(o + 70);
    pe->dirs_offset = pe->optional_offset + fixed;
    uint32_t said = mi_pe_u32(o + fixed - 4);
    uint32_t room = (bytes - fixed) / 8;
    pe->dir_count = said < room ? said : room;
    if (pe->dir_count > MI_PE_DIR_COUNT)
        pe->dir_count = MI_PE_DIR_COUNT;
    if (!mi_is_pow2(pe->section_align) || !mi_is_pow2(pe->file_align) ||
        pe->file_align > pe->section_align || pe->image_bytes == 0)
        return MI_PE_MALFORMED;
    bool is_32 = pe->machine == MI_PE_MACHINE_X86 || pe->machine == MI_PE_MACHINE_ARM;
    if (pe->machine != MI_PE_MACHINE_X86 && pe->machine != MI_PE_MACHINE_X64 &&
        pe->machine != MI_PE_MACHINE_ARM64)
        return MI_PE_MACHINE;
    return is_32 == pe->is_pe64 ? MI_PE_MALFORMED : MI_PE_OK;
}

// Sections ascend, do not overlap, and (in a file) their contents are there.
static mi_pe_error_t check_sections(const mi_pe_t *pe) {
    uint64_t behind = 0;
    for (uint32_t i = 0; i < pe->section_count; i++) {
        mi_pe_section_t s;
        if (!mi_pe_section_at(pe, i, &s))
            return MI_PE_CUT;
        uint64_t bytes = s.virtual_bytes != 0 ? s.virtual_bytes : s.raw_bytes;
        if (s.rva < behind || s.rva + bytes > UINT32_MAX)
            return MI_PE_MALFORMED;
        behind = s.rva + bytes;
        if (!pe->is_mapped && s.raw_bytes != 0 && !view_has(pe, s.raw_offset, s.raw_bytes))
            return MI_PE_CUT;
    }
    return MI_PE_OK;
}

static bool open_headers(mi_pe_t *pe, const void *bytes, size_t size, bool is_mapped) {
    *pe = (mi_pe_t){.bytes = (const uint8_t *)bytes, .size = size, .is_mapped = is_mapped};
    pe->error = open_file_header(pe);
    if (pe->error == MI_PE_OK)
        pe->error = open_optional_header(pe);
    if (pe->error == MI_PE_OK && is_mapped && pe->size > pe->image_bytes)
        pe->size = pe->image_bytes;
    return pe->error == MI_PE_OK;
}

bool mi_pe_open(mi_pe_t *pe, const void *bytes, size_t size, bool is_mapped) {
    if (open_headers(pe, bytes, size, is_mapped))
        pe->error = check_sections(pe);
    return pe->error == MI_PE_OK;
}

bool mi_pe_glance_module(mi_pe_t *pe, const void *base) {
    // The loader maps whole pages, so the first one can be read. SizeOfImage stands in it unless
    // the DOS stub is longer than a page, and such a module is left alone.
    const uint8_t *bytes = (const uint8_t *)base;
    uint32_t nt = mi_pe_u32(bytes + 0x3C);
    *pe = (mi_pe_t){.bytes = bytes, .is_mapped = true, .error = MI_PE_CUT};
    if (nt > PAGE_BYTES - SIZE_OF_IMAGE_END)
        return false;
    return open_headers(pe, base, mi_pe_u32(bytes + nt + SIZE_OF_IMAGE_END - 4), true);
}

bool mi_pe_open_module(mi_pe_t *pe, const void *base) {
    if (mi_pe_glance_module(pe, base))
        pe->error = check_sections(pe);
    return pe->error == MI_PE_OK;
}

const char *mi_pe_error_text(mi_pe_error_t error) {
    switch (error) {
    case MI_PE_OK:
        return "a valid image";
    case MI_PE_EMPTY:
        return "the file is empty";
    case MI_PE_NOT_PE:
        return "not a Windows program or DLL (it does not start with MZ)";
    case MI_PE_DOS:
        return "a DOS program, without a Windows part";
    case MI_PE_NE:
        return "a 16-bit Windows or OS/2 program, or a VxD";
    case MI_PE_CUT:
        return "the file is cut off: its headers describe more than there is";
    case MI_PE_MALFORMED:
        return "its headers contradict themselves";
    case MI_PE_MACHINE:
        return "built for a processor other than x86, x64 or ARM64";
    }
    return "unknown";
}

bool mi_pe_section_at(const mi_pe_t *pe, uint32_t index, mi_pe_section_t *out) {
    if (index >= pe->section_count)
        return false;
    uint32_t offset = pe->sections_offset + index * SECTION_HEADER_BYTES;
    if (!view_has(pe, offset, SECTION_HEADER_BYTES))
        return false;
    const uint8_t *h = pe->bytes + offset;
    for (size_t i = 0; i < 8; i++)
        out->name[i] = (char)h[i];
    out->name[8] = 0;
    out->index = index;
    out->header_offset = offset;
    out->virtual_bytes = mi_pe_u32(h + 8);
    out->rva = mi_pe_u32(h + 12);
    out->raw_bytes = mi_pe_u32(h + 16);
    out->raw_offset = mi_pe_u32(h + 20);
    out->flags = mi_pe_u32(h + 36);
    // No place in the file, and a length: zeros of that length, as GNU's and older linkers write
    // them. The loader reads nothing for such a section.
    if (out->raw_offset == 0) {
        if (out->virtual_bytes == 0)
            out->virtual_bytes = out->raw_bytes;
        out->raw_bytes = 0;
    }
    return true;
}

bool mi_pe_section_of(const mi_pe_t *pe, uint32_t rva, mi_pe_section_t *out) {
    for (uint32_t i = 0; i < pe->section_count; i++) {
        if (!mi_pe_section_at(pe, i, out))
            return false;
        uint32_t bytes = out->virtual_bytes != 0 ? out->virtual_bytes : out->raw_bytes;
        if (rva >= out->rva && rva - out->rva < bytes)
            return true;
    }
    return false;
}

// The stored bytes at an RVA: their file offset and how many there are, 0 = none.
static uint32_t stored_room(const mi_pe_t *pe, uint32_t rva, uint32_t *offset) {
    *offset = rva;
    if (pe->section_align < PAGE_BYTES) // such images are mapped as they lie in the file
        return rva < pe->image_bytes ? pe->image_bytes - rva : 0;
    mi_pe_section_t s;
    if (!mi_pe_section_of(pe, rva, &s))
        return rva < pe->header_bytes ? pe->header_bytes - rva : 0;
    uint32_t raw = s.raw_bytes;
    if (s.virtual_bytes != 0 && s.virtual_bytes < raw)
        raw = s.virtual_bytes;
    uint32_t at = rva - s.rva;
    // The loader rounds the file offset down to a sector.
    *offset = (s.raw_offset & ~(SECTOR_BYTES - 1)) + at;
    return at < raw && *offset >= at ? raw - at : 0;
}

size_t mi_pe_room(const mi_pe_t *pe, uint32_t rva) {
    if (pe->is_mapped)
        return rva < pe->size ? pe->size - rva : 0;
    uint32_t offset;
    size_t room = stored_room(pe, rva, &offset);
    if (offset >= pe->size)
        return 0;
    return room < pe->size - offset ? room : pe->size - offset;
}

const uint8_t *mi_pe_at(const mi_pe_t *pe, uint32_t rva, size_t bytes) {
    if (mi_pe_room(pe, rva) < bytes || bytes == 0)
        return NULL;
    uint32_t offset = rva;
    if (!pe->is_mapped)
        stored_room(pe, rva, &offset);
    return pe->bytes + offset;
}

const char *mi_pe_string(const mi_pe_t *pe, uint32_t rva) {
    size_t room = mi_pe_room(pe, rva);
    if (room > MI_PE_NAME_MAX)
        room = MI_PE_NAME_MAX;
    const uint8_t *s = mi_pe_at(pe, rva, room);
    for (size_t i = 0; s != NULL && i < room; i++) {
        if (s[i] == 0)
            return (const char *)s;
    }
    return NULL;
}

bool mi_pe_rva_to_offset(const mi_pe_t *pe, uint32_t rva, uint32_t *offset) {
    return stored_room(pe, rva, offset) != 0;
}

bool mi_pe_va_to_rva(const mi_pe_t *pe, uint64_t va, uint32_t *rva) {
    // A loaded module's addresses are relocated; loaders also correct ImageBase, but that is not
    // promised.
    uint64_t actual = (uint64_t)(uintptr_t)pe->bytes;
    if (pe->is_mapped && va >= actual && va - actual < pe->image_bytes) {
        *rva = (uint32_t)(va - actual);
        return true;
    }
    if (va < pe->image_base || va - pe->image_base >= pe->image_bytes)
        return false;
    *rva = (uint32_t)(va - pe->image_base);
    return true;
}

bool mi_pe_directory(const mi_pe_t *pe, mi_pe_dir_t dir, mi_pe_range_t *out) {
    *out = (mi_pe_range_t){0, 0};
    if ((uint32_t)dir >= pe->dir_count)
        return false;
    const uint8_t *d = pe->bytes + pe->dirs_offset + (uint32_t)dir * 8;
    out->rva = mi_pe_u32(d);
    out->bytes = mi_pe_u32(d + 4);
    return out->rva != 0;
}

size_t mi_pe_end_of_contents(const mi_pe_t *pe) {
    uint64_t end = pe->header_bytes;
    for (uint32_t i = 0; i < pe->section_count; i++) {
        mi_pe_section_t s;
        if (mi_pe_section_at(pe, i, &s) && s.raw_bytes != 0 &&
            (uint64_t)s.raw_offset + s.raw_bytes > end)
            end = (uint64_t)s.raw_offset + s.raw_bytes;
    }
    // 18 bytes per symbol, then the string table, which starts with its own length.
    uint64_t strings = (uint64_t)pe->symbol_offset + (uint64_t)pe->symbol_count * 18;
    if (pe->symbol_offset != 0 && pe->symbol_count != 0 && view_has(pe, strings, 4)) {
        uint64_t tail = strings + mi_pe_u32(pe->bytes + strings);
        if (tail > end && tail <= pe->size)
            end = tail;
    }
    return end < pe->size ? (size_t)end : pe->size;
}
