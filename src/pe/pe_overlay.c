#include "pe/pe_overlay.h"
#include "base/text.h"

#include <string.h>

#define NSIS_STEP         512u // its header lies at a multiple of it
#define NSIS_HEADER_BYTES 28u
#define NSIS_MARK         0xDEADBEEFu
#define NSIS_NO_CRC       4u // flags
#define NSIS_FORCE_CRC    8u
#define INNO_RESOURCE     11111u
#define RESOURCE_DATA     10u // RT_RCDATA

// NSIS' first header: flags, the mark, "NullsoftInst", two sizes. It is the first thing behind the
// sections.
static mi_pe_overlay_t nsis_kind(const mi_pe_t *pe, size_t end) {
    size_t at = mi_align_up(end, NSIS_STEP);
    if (at > pe->size || pe->size - at < NSIS_HEADER_BYTES)
        return MI_PE_OVERLAY_OTHER;
    const uint8_t *h = pe->bytes + at;
    if (mi_pe_u32(h + 4) != NSIS_MARK || memcmp(h + 8, "NullsoftInst", 12) != 0)
        return MI_PE_OVERLAY_OTHER;
    bool is_free = (mi_pe_u32(h) & (NSIS_NO_CRC | NSIS_FORCE_CRC)) == NSIS_NO_CRC;
    return is_free ? MI_PE_OVERLAY_NSIS_FREE : MI_PE_OVERLAY_NSIS;
}

// Inno Setup, since 5.1.5, keeps the table of its offsets in a resource of a fixed number.
static bool is_inno(const mi_pe_t *pe) {
    mi_pe_range_t range;
    if (!mi_pe_resource(pe, RESOURCE_DATA, INNO_RESOURCE, &range))
        return false;
    const uint8_t *b = mi_pe_at(pe, range.rva, 12);
    return b != NULL && memcmp(b, "rDlPtS\xCD\xE6\xD7\x7B\x0B\x2A", 12) == 0;
}

static bool is_burn(const mi_pe_t *pe) {
    mi_pe_section_t s;
    for (uint32_t i = 0; mi_pe_section_at(pe, i, &s); i++) {
        if (mi_str_eq(s.name, ".wixburn"))
            return true;
    }
    return false;
}

mi_pe_overlay_t mi_pe_overlay(const mi_pe_t *pe) {
    size_t end = mi_pe_end_of_contents(pe);
    if (end >= pe->size)
        return MI_PE_OVERLAY_NONE;
    if (is_inno(pe))
        return MI_PE_OVERLAY_INNO;
    return is_burn(pe) ? MI_PE_OVERLAY_BURN : nsis_kind(pe, end);
}

bool mi_pe_overlay_breaks(mi_pe_overlay_t kind) {
    return kind == MI_PE_OVERLAY_NSIS || kind == MI_PE_OVERLAY_INNO || kind == MI_PE_OVERLAY_BURN;
}

const char *mi_pe_overlay_text(mi_pe_overlay_t kind) {
    switch (kind) {
    case MI_PE_OVERLAY_NSIS:
        return "an NSIS installer, which verifies a checksum over its own file";
    case MI_PE_OVERLAY_NSIS_FREE:
        return "an NSIS installer without a checksum";
    case MI_PE_OVERLAY_INNO:
        return "an Inno Setup installer, which finds its data by offsets from the file's start";
    case MI_PE_OVERLAY_BURN:
        return "a WiX bundle, which finds its data by offsets from the file's start";
    case MI_PE_OVERLAY_OTHER:
        return "a program with data behind its last section";
    case MI_PE_OVERLAY_NONE:
        break;
    }
    return "a program without data behind its last section";
}
