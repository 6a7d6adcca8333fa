#include "pe/pe_evidence.h"
#include "base/text.h"

#include <string.h>

#define DEBUG_POGO    13u // names of the pieces that sections were linked from
#define RICH_WINDOW   0x1000u
#define RICH_MARK     0x68636952u         // "Rich"
#define RICH_DANS     0x536E6144u         // "DanS", masked
#define SCAN_MAX      (64u * 1024 * 1024) // of one section; runtimes' strings come early or late
#define OBJECTS_LEAST 40u // a program for the DLL runtime has about 20 objects of start-up code

static void count_imports(const mi_pe_t *pe, mi_pe_evidence_t *e) {
    static const char *const heap[] = {"HeapAlloc", "HeapFree", "HeapReAlloc", "HeapSize",
                                       "GetProcessHeap"};
    static const char *const startup[] = {
        "FlsAlloc",      "TlsAlloc",        "GetStringTypeW",
        "LCMapStringW",  "GetCommandLineA", "GetStartupInfoW",
        "SetStdHandle",  "GetCPInfo",       "GetEnvironmentStringsW",
        "EncodePointer", "WriteConsoleW"};
    mi_pe_import_t imp;
    mi_pe_thunk_t t;
    for (uint32_t i = 0; mi_pe_import_at(pe, i, &imp); i++) {
        for (uint32_t k = 0; mi_pe_thunk_at(pe, &imp, k, &t); k++) {
            for (size_t w = 0; t.name != NULL && w < sizeof heap / sizeof heap[0]; w++)
                e->heap_imports += mi_str_eq(t.name, heap[w]) ? 1 : 0;
            for (size_t w = 0; t.name != NULL && w < sizeof startup / sizeof startup[0]; w++)
                e->startup_imports += mi_str_eq(t.name, startup[w]) ? 1 : 0;
        }
    }
}

// Between the DOS stub and the PE header Microsoft's linker leaves, masked by a key, pairs of (tool
// and its build, number of objects): "DanS", three zeros, the pairs, "Rich", the key.
static void count_rich(const mi_pe_t *pe, mi_pe_evidence_t *e) {
    uint32_t end = pe->nt_offset < RICH_WINDOW ? pe->nt_offset : RICH_WINDOW;
    uint32_t rich = 0;
    for (uint32_t at = 0x40; at + 8 <= end && rich == 0; at += 4)
        rich = mi_pe_u32(pe->bytes + at) == RICH_MARK ? at : 0;
    if (rich == 0)
        return;
    uint32_t key = mi_pe_u32(pe->bytes + rich + 4);
    for (uint32_t at = rich; at >= 0x40 + 8; at -= 8) {
        uint32_t tool = mi_pe_u32(pe->bytes + at - 8) ^ key;
        uint32_t objects = mi_pe_u32(pe->bytes + at - 4) ^ key;
        if (tool == RICH_DANS || (tool == 0 && objects == 0))
            return;
        // Tool 1 counts imported symbols; a count beyond reason is not a count.
        if ((tool >> 16) <= 1 || objects > 100000)
            continue;
        e->rich_objects += objects;
        e->rich_tools++;
    }
}

// Pieces whose initialisers belong to the runtime's own start-up: with the DLL runtime they are
// inside the DLL. Not ".CRT$XCA" and the like, which every program has.
static void count_groups(const mi_pe_t *pe, mi_pe_evidence_t *e) {
    static const char *const groups[] = {".CRT$XIC", ".CRT$XPX", ".CRT$XPXA", ".CRT$XCL"};
    mi_pe_debug_t d;
    for (uint32_t i = 0; mi_pe_debug_at(pe, i, &d); i++) {
        const uint8_t *b = d.type == DEBUG_POGO && d.rva != 0 ? mi_pe_at(pe, d.rva, d.bytes) : NULL;
        // A signature, then entries: RVA, size, name with a NUL, padded to 4.
        for (uint32_t at = 4; b != NULL && d.bytes >= 12 && at <= d.bytes - 9;) {
            const char *name = (const char *)b + at + 8;
            uint32_t room = d.bytes - at - 8;
            uint32_t n = 0;
            while (n < room && name[n] != 0)
                n++;
            if (n == room)
                break;
            for (size_t k = 0; k < sizeof groups / sizeof groups[0]; k++)
                e->crt_groups += mi_str_eq(name, groups[k]) ? 1 : 0;
            at += 8 + ((n + 1 + 3) & ~3u);
        }
    }
}

// In ASCII or in UTF-16, which is the same with a stride of two.
static bool has_text(const uint8_t *b, size_t at, size_t room, const char *text) {
    size_t n = mi_str_len(text);
    size_t stride = at + 1 < room && b[at + 1] == 0 ? 2 : 1;
    if (n * stride > room - at)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (b[at + i * stride] != (uint8_t)text[i] || (stride == 2 && b[at + i * 2 + 1] != 0))
            return false;
    }
    return true;
}

static void find_strings(const mi_pe_t *pe, mi_pe_evidence_t *e) {
    static const struct {
        const char *text;
        uint32_t bit;
    } texts[] = {{"R6008", MI_EVIDENCE_R6XXX},
                 {"R6009", MI_EVIDENCE_R6XXX},
                 {"R6018", MI_EVIDENCE_R6XXX},
                 {"Microsoft Visual C++ Runtime Library", MI_EVIDENCE_LIBRARY},
                 {"CorExitProcess", MI_EVIDENCE_MANAGED},
                 {"LCMapStringEx", MI_EVIDENCE_LOCALE},
                 {"LocaleNameToLCID", MI_EVIDENCE_LOCALE}};
    mi_pe_section_t s;
    for (uint32_t i = 0; mi_pe_section_at(pe, i, &s); i++) {
        size_t room = mi_pe_room(pe, s.rva);
        room = room < SCAN_MAX ? room : SCAN_MAX;
        const uint8_t *b = mi_pe_at(pe, s.rva, room);
        for (size_t at = 0; b != NULL && at < room; at++) {
            if (b[at] != 'R' && b[at] != 'M' && b[at] != 'C' && b[at] != 'L')
                continue;
            for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
                if ((uint8_t)texts[k].text[0] == b[at] && has_text(b, at, room, texts[k].text))
                    e->strings |= texts[k].bit;
            }
        }
    }
}

// The weights: imports alone can make it likely (stripped images of any linker), what a linker or a
// runtime wrote itself weighs more than what a program may do on its own.
static uint32_t weigh(const mi_pe_evidence_t *e) {
    uint32_t score = 0;
    if (e->heap_imports >= 3 && e->startup_imports >= 3)
        score += e->heap_imports >= 4 && e->startup_imports >= 5 ? 60 : 40;
    if (e->rich_objects >= OBJECTS_LEAST && e->rich_tools >= 3)
        score += 15;
    score += e->crt_groups >= 2 ? 35 : e->crt_groups * 15;
    score += (e->strings & MI_EVIDENCE_R6XXX) != 0 ? 25 : 0;
    score += (e->strings & MI_EVIDENCE_LIBRARY) != 0 ? 20 : 0;
    score += (e->strings & MI_EVIDENCE_MANAGED) != 0 ? 20 : 0;
    score += (e->strings & MI_EVIDENCE_LOCALE) != 0 ? 5 : 0;
    score += e->has_cookie && score != 0 ? 5 : 0;
    // A runtime that allocates needs a heap from somewhere.
    if (e->heap_imports < 2)
        score /= 3;
    return score < 99 ? score : 99;
}

void mi_pe_evidence(const mi_pe_t *pe, mi_pe_evidence_t *out) {
    mi_pe_load_config_t config;
    memset(out, 0, sizeof *out);
    count_imports(pe, out);
    count_rich(pe, out);
    count_groups(pe, out);
    find_strings(pe, out);
    out->has_cookie = mi_pe_load_config(pe, &config) && config.cookie_rva != 0;
    out->confidence = weigh(out);
}

void mi_pe_evidence_text(const mi_pe_evidence_t *e, char *out, size_t cap) {
    static const char *const texts[] = {"R6xxx messages", "the title of the runtime's messages",
                                        "CorExitProcess", "the runtime's locale functions"};
    mi_text_t t;
    mi_text_init(&t, out, cap);
    mi_text_fmt(&t, "%u of 5 heap functions and %u of 11 start-up functions imported",
                e->heap_imports, e->startup_imports);
    if (e->rich_objects != 0)
        mi_text_fmt(&t, ", %u objects of %u tools in the Rich header", e->rich_objects,
                    e->rich_tools);
    if (e->crt_groups != 0)
        mi_text_fmt(&t, ", %u of a runtime's own .CRT$X pieces", e->crt_groups);
    for (uint32_t i = 0; i < 4; i++) {
        if ((e->strings >> i & 1) != 0)
            mi_text_fmt(&t, ", %s", texts[i]);
    }
    if (e->has_cookie)
        mi_text_str(&t, ", a security cookie");
}
