// Planning and writing an injection. Every change of the original's own bytes is a patch, noted
// with its old value in the undo record; everything else is inserted in one place. Undo header, at
// the start of the block:
//
//   0 "MINJECT1"   8 offset of the descriptors   12 block bytes   16 offset of the undo record   20
//   patches 24 original size   32 SHA-256   64 insert offset   72 insert bytes   80 cut offset   88
//   cut bytes   92 format
#include "pe/pe_edit.h"
#include "base/text.h"
#include "pe/pe_edit_layout.h"
#include "pe/pe_overlay.h"
#include "pe/pe_sha256.h"

#include <string.h>

#define SECTION_HEADER_BYTES 40u
#define SECTIONS_MAX         96u // what the Windows loader accepts
#define PAGE_BYTES           0x1000u
#define CHECKSUM_OFFSET      64u                   // from the optional header
#define COPY_MAX             (64u * 1024u * 1024u) // longest last section that is copied to be extended

static const char *const entry_names[2] = {"mi_allocator_init", "mi_version"};

// Offsets of the parts of a block, from its start.
typedef struct block_layout_s {
    uint32_t thunks; // for each new DLL: lookup table, then address table, two cells each
    uint32_t hints[2];
    uint32_t names[2]; // DLL names: redirect, allocator
    uint32_t record;
} block_layout_t;

static void put_u16(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static void put_u32(uint8_t *p, uint32_t v) {
    put_u16(p, v);
    put_u16(p + 2, v >> 16);
}

static void put_u64(uint8_t *p, uint64_t v) {
    put_u32(p, (uint32_t)v);
    put_u32(p + 4, (uint32_t)(v >> 32));
}

static uint32_t align_u32(uint32_t x, uint32_t align) {
    return (x + align - 1) & ~(align - 1);
}

const char *mi_pe_redirect_name(uint16_t machine) {
    if (machine == MI_PE_MACHINE_X86)
        return "mimalloc-redirect32.dll";
    return machine == MI_PE_MACHINE_ARM64 ? "mimalloc-redirect-arm64.dll" : "mimalloc-redirect.dll";
}

const char *mi_pe_machine_name(uint16_t machine) {
    if (machine == MI_PE_MACHINE_X86)
        return "x86";
    if (machine == MI_PE_MACHINE_X64)
        return "x64";
    return machine == MI_PE_MACHINE_ARM64 ? "arm64" : "unknown";
}

// What follows the prefix, or NULL.
static const char *behind_nocase(const char *s, const char *prefix) {
    for (; *prefix != 0; s++, prefix++) {
        char c = *s >= 'A' && *s <= 'Z' ? (char)(*s + 32) : *s;
        if (c != *prefix)
            return NULL;
    }
    return s;
}

// mimalloc.dll, MIMALLOC-Debug.dll, mimalloc_v3.dll, libmimalloc.dll (MSYS2), or without ".dll",
// which the loader adds; but not mimallocator.dll.
mi_pe_role_t mi_pe_role_of(const char *dll) {
    const char *name = behind_nocase(dll, "lib");
    const char *rest = behind_nocase(name != NULL ? name : dll, "mimalloc");
    if (rest == NULL || (*rest != 0 && *rest != '.' && *rest != '-' && *rest != '_'))
        return MI_PE_ROLE_OTHER;
    return *rest != 0 && behind_nocase(rest + 1, "redirect") != NULL ? MI_PE_ROLE_REDIRECT
                                                                     : MI_PE_ROLE_ALLOCATOR;
}

// ---- the plan ----

static bool add_patch(mi_pe_inject_t *plan, uint32_t offset, const uint8_t *value, uint32_t bytes) {
    if (plan->patch_count >= MI_PE_EDIT_PATCHES)
        return false;
    mi_pe_patch_t *p = &plan->patch[plan->patch_count++];
    p->offset = offset;
    p->bytes = bytes;
    memcpy(p->value, value, bytes);
    return true;
}

static bool add_patch_u32(mi_pe_inject_t *plan, uint32_t offset, uint32_t value) {
    uint8_t v[4];
    put_u32(v, value);
    return add_patch(plan, offset, v, 4);
}

static bool add_patch_dir(mi_pe_inject_t *plan, mi_pe_dir_t dir, uint32_t rva, uint32_t bytes) {
    uint8_t v[8];
    put_u32(v, rva);
    put_u32(v + 4, bytes);
    return add_patch(plan, plan->pe->dirs_offset + (uint32_t)dir * 8, v, 8);
}

// Counts the descriptors and finds out whether ours are among them. *is_done: nothing is left to
// change.
static bool survey_imports(mi_pe_inject_t *plan, bool *is_done) {
    const mi_pe_t *pe = plan->pe;
    mi_pe_role_t last = MI_PE_ROLE_REDIRECT;
    mi_pe_import_t imp;
    mi_pe_range_t dir;
    *is_done = true;
    while (mi_pe_import_at(pe, plan->old_count, &imp)) {
        mi_pe_role_t role = mi_pe_role_of(imp.dll);
        plan->old_count++;
        if (role == MI_PE_ROLE_OTHER) {
            last = role;
            continue;
        }
        if (role == MI_PE_ROLE_REDIRECT) {
            plan->has_redirect = true;
            *is_done =
                *is_done && last == role && mi_str_eq_nocase(imp.dll, plan->options.redirect_dll);
        } else {
            plan->has_allocator = true;
            *is_done = *is_done && last != MI_PE_ROLE_OTHER &&
                       (!plan->options.replace_variant ||
                        mi_str_eq_nocase(imp.dll, plan->options.allocator_dll));
            if (last == MI_PE_ROLE_REDIRECT)
                last = role;
        }
    }
    plan->new_count = (plan->has_redirect ? 0u : 1u) + (plan->has_allocator ? 0u : 1u);
    *is_done = *is_done && plan->new_count == 0;
    if (!mi_pe_directory(pe, MI_PE_DIR_IMPORT, &dir))
        return pe->dir_count > MI_PE_DIR_IMPORT;
    // The loop above also stops at a descriptor that cannot be read; the real end has no name or no
    // table.
    const uint8_t *end = mi_pe_at(pe, dir.rva + plan->old_count * MI_PE_DESCRIPTOR_BYTES, 20);
    return end != NULL && (mi_pe_u32(end + 12) == 0 || mi_pe_u32(end + 16) == 0);
}

static mi_pe_edit_t refuse_unsuitable(const mi_pe_t *pe, const mi_pe_inject_options_t *options) {
    mi_pe_clr_t clr;
    mi_pe_range_t range;
    if (pe->subsystem != 2 && pe->subsystem != 3 && pe->subsystem != 0)
        return MI_PE_EDIT_KERNEL;
    if (mi_pe_clr(pe, &clr) && clr.is_il_only)
        return MI_PE_EDIT_IL_ONLY;
    if (mi_pe_hybrid(pe) != MI_PE_HYBRID_NONE)
        return MI_PE_EDIT_HYBRID;
    bool is_signed = mi_pe_directory(pe, MI_PE_DIR_SECURITY, &range) && range.bytes != 0;
    if ((is_signed || (pe->dll_characteristics & MI_PE_DLLFLAG_INTEGRITY) != 0) &&
        !options->allow_signed)
        return MI_PE_EDIT_SIGNED;
    if (!options->allow_installer && mi_pe_overlay_breaks(mi_pe_overlay(pe)))
        return MI_PE_EDIT_INSTALLER;
    if (pe->section_count == 0)
        return MI_PE_EDIT_NO_ROOM;
    return MI_PE_EDIT_OK;
}

static uint32_t section_bytes(const mi_pe_section_t *s) {
    return s->virtual_bytes != 0 ? s->virtual_bytes : s->raw_bytes;
}

// Room for a 40-byte header means: inside SizeOfHeaders, before the first section, and nothing
// lives there except bound-import data, which is cleared anyway.
static bool header_has_room(const mi_pe_t *pe) {
    uint32_t at = pe->sections_offset + pe->section_count * SECTION_HEADER_BYTES;
    mi_pe_section_t s;
    mi_pe_range_t bound;
    if (pe->section_count >= SECTIONS_MAX || at + SECTION_HEADER_BYTES > pe->header_bytes ||
        at + SECTION_HEADER_BYTES > pe->size)
        return false;
    for (uint32_t i = 0; mi_pe_section_at(pe, i, &s); i++) {
        if (s.rva < at + SECTION_HEADER_BYTES ||
            (s.raw_bytes != 0 && s.raw_offset < at + SECTION_HEADER_BYTES))
            return false;
    }
    mi_pe_directory(pe, MI_PE_DIR_BOUND_IMPORT, &bound);
    for (uint32_t i = at; i < at + SECTION_HEADER_BYTES; i++) {
        bool is_bound = i >= bound.rva && i - bound.rva < bound.bytes;
        if (pe->bytes[i] != 0 && !is_bound)
            return false;
    }
    return true;
}

static block_layout_t layout_of(const mi_pe_inject_t *plan) {
    block_layout_t b;
    uint32_t cell = plan->pe->is_pe64 ? 8 : 4;
    uint32_t at =
        MI_PE_UNDO_HEADER_BYTES + (plan->old_count + plan->new_count + 1) * MI_PE_DESCRIPTOR_BYTES;
    b.thunks = align_u32(at, 8);
    at = b.thunks + plan->new_count * cell * 4;
    for (size_t i = 0; i < 2; i++) {
        b.hints[i] = at;
        at = align_u32(at + 2 + (uint32_t)mi_str_len(entry_names[i]) + 1, 2);
    }
    b.names[0] = at;
    at += (uint32_t)mi_str_len(plan->options.redirect_dll) + 1;
    b.names[1] = at;
    at += (uint32_t)mi_str_len(plan->options.allocator_dll) + 1;
    b.record = align_u32(at, 8);
    return b;
}

static uint32_t record_bytes(const mi_pe_inject_t *plan) {
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < plan->patch_count; i++)
        bytes += 8 + align_u32(plan->patch[i].bytes, 4);
    return bytes + plan->cut_bytes;
}

// Loaders look for an IAT directory to know what to make writable while they fill in addresses;
// without one they take the section of the import descriptors, which are about to move. Then the
// sections that hold the old address tables must be writable themselves.
static bool patch_iat_sections(mi_pe_inject_t *plan) {
    const mi_pe_t *pe = plan->pe;
    mi_pe_range_t iat;
    mi_pe_import_t imp;
    mi_pe_section_t s;
    uint32_t done = UINT32_MAX;
    if (mi_pe_directory(pe, MI_PE_DIR_IAT, &iat))
        return true;
    for (uint32_t i = 0; mi_pe_import_at(pe, i, &imp); i++) {
        if (!mi_pe_section_of(pe, imp.iat_rva, &s) || s.index == done ||
            (s.flags & MI_PE_SECTION_WRITE) != 0 ||
            (plan->extends_last && s.index + 1 == pe->section_count))
            continue;
        if (!add_patch_u32(plan, s.header_offset + 36, s.flags | MI_PE_SECTION_WRITE))
            return false;
        done = s.index;
    }
    return true;
}

// Debug data behind the contents (old linkers put it into what is overlay today) moves with the
// overlay.
static bool patch_debug_entries(mi_pe_inject_t *plan) {
    mi_pe_debug_t d;
    for (uint32_t i = 0; mi_pe_debug_at(plan->pe, i, &d); i++) {
        // Entries in the headers, and data beyond the file, exist in hostile images only.
        if (d.raw_offset < plan->insert_offset || d.raw_offset > plan->pe->size ||
            d.bytes > plan->pe->size - d.raw_offset || d.entry_offset < plan->pe->header_bytes)
            continue;
        if (!add_patch_u32(plan, d.entry_offset + 24, d.raw_offset + (uint32_t)plan->insert_bytes))
            return false;
    }
    return true;
}

// The section header of the block: a new one, or the last one made longer.
static bool patch_section(mi_pe_inject_t *plan, uint32_t raw_at) {
    const mi_pe_t *pe = plan->pe;
    uint32_t raw_bytes = (uint32_t)plan->insert_bytes - (raw_at - (uint32_t)plan->insert_offset);
    uint32_t flags = MI_PE_SECTION_DATA | MI_PE_SECTION_READ | MI_PE_SECTION_WRITE;
    mi_pe_section_t last;
    uint8_t h[SECTION_HEADER_BYTES] = {0};
    if (!mi_pe_section_at(pe, pe->section_count - 1, &last))
        return false;
    if (plan->extends_last) {
        memcpy(h, pe->bytes + last.header_offset, SECTION_HEADER_BYTES);
        put_u32(h + 8, plan->block_rva + plan->block_bytes - last.rva);
        put_u32(h + 16, raw_bytes);
        put_u32(h + 20, raw_at);
        // Uninitialised data becomes initialised; what the loader may throw away must now stay.
        put_u32(h + 36, (last.flags & ~(MI_PE_SECTION_DISCARD | 0x80u)) | flags);
        return add_patch(plan, last.header_offset, h, SECTION_HEADER_BYTES);
    }
    uint8_t count[2];
    memcpy(h, MI_PE_SECTION_NAME, 8);
    put_u32(h + 8, plan->block_bytes);
    put_u32(h + 12, plan->block_rva);
    put_u32(h + 16, raw_bytes);
    put_u32(h + 20, raw_at);
    put_u32(h + 36, flags);
    put_u16(count, pe->section_count + 1);
    return add_patch(plan, pe->nt_offset + 6, count, 2) &&
           add_patch(plan, last.header_offset + SECTION_HEADER_BYTES, h, SECTION_HEADER_BYTES);
}

// All patches, with the values that the current numbers of the plan give.
static bool collect_patches(mi_pe_inject_t *plan, uint32_t raw_at) {
    const mi_pe_t *pe = plan->pe;
    uint32_t end = plan->block_rva + plan->block_bytes;
    mi_pe_range_t range;
    plan->patch_count = 0;
    bool ok = patch_section(plan, raw_at) &&
              add_patch_u32(plan, pe->optional_offset + 56, align_u32(end, pe->section_align)) &&
              add_patch_dir(plan, MI_PE_DIR_IMPORT, plan->block_rva + MI_PE_UNDO_HEADER_BYTES,
                            (plan->old_count + plan->new_count + 1) * MI_PE_DESCRIPTOR_BYTES);
    plan->had_bound = mi_pe_directory(pe, MI_PE_DIR_BOUND_IMPORT, &range);
    if (ok && plan->had_bound)
        ok = add_patch_dir(plan, MI_PE_DIR_BOUND_IMPORT, 0, 0);
    if (ok && mi_pe_directory(pe, MI_PE_DIR_SECURITY, &range))
        ok = add_patch_dir(plan, MI_PE_DIR_SECURITY, 0, 0);
    plan->had_checksum = pe->checksum != 0;
    if (ok && plan->had_checksum) // the value is known only when the file is complete
        ok = add_patch_u32(plan, pe->optional_offset + CHECKSUM_OFFSET, 0);
    return ok && patch_iat_sections(plan) && patch_debug_entries(plan);
}

// The certificate, when it lies where certificates lie: behind the contents.
static void plan_cut(mi_pe_inject_t *plan) {
    mi_pe_range_t cert;
    const mi_pe_t *pe = plan->pe;
    if (mi_pe_directory(pe, MI_PE_DIR_SECURITY, &cert) && cert.rva >= plan->insert_offset &&
        cert.rva <= pe->size && cert.bytes <= pe->size - cert.rva) {
        plan->cut_offset = cert.rva;
        plan->cut_bytes = cert.bytes;
    }
    plan->has_overlay = pe->size - plan->cut_bytes > plan->insert_offset;
}

// Places the block and finds its size; the patches are collected twice, since their values depend
// on it and their number does not.
static bool plan_place(mi_pe_inject_t *plan) {
    const mi_pe_t *pe = plan->pe;
    mi_pe_section_t last;
    if (!mi_pe_section_at(pe, pe->section_count - 1, &last))
        return false;
    uint32_t raw_align = pe->file_align < 512 ? 512 : pe->file_align;
    uint64_t raw_at = mi_align_up((size_t)plan->insert_offset, raw_align);
    uint32_t last_bytes = section_bytes(&last);
    uint32_t copied = plan->extends_last ? align_u32(last_bytes, 16) : 0;
    uint64_t rva = plan->extends_last ? (uint64_t)last.rva + copied
                                      : ((uint64_t)last.rva + last_bytes + pe->section_align - 1) &
                                            ~(uint64_t)(pe->section_align - 1);
    uint32_t table_end = pe->sections_offset + pe->section_count * SECTION_HEADER_BYTES;
    if (pe->header_bytes < table_end || last.rva < pe->header_bytes ||
        last_bytes > UINT32_MAX - 16 || copied > COPY_MAX || raw_at > INT32_MAX || rva > INT32_MAX)
        return false;
    // A section that shows the headers themselves cannot be repeated: they are about to change.
    if (plan->extends_last && last.raw_bytes != 0 && (last.raw_offset & ~511u) < pe->header_bytes)
        return false;
    plan->block_rva = (uint32_t)rva;
    plan->block_at = (uint32_t)(raw_at - plan->insert_offset) + copied;
    if (!collect_patches(plan, (uint32_t)raw_at))
        return false;
    plan->block_bytes = layout_of(plan).record + record_bytes(plan);
    uint32_t raw_bytes = align_u32(copied + plan->block_bytes, raw_align);
    plan->insert_bytes = raw_at - plan->insert_offset + raw_bytes;
    plan->out_bytes = (size_t)(pe->size + plan->insert_bytes - plan->cut_bytes);
    return collect_patches(plan, (uint32_t)raw_at);
}

mi_pe_edit_t mi_pe_inject_plan(mi_pe_inject_t *plan, const mi_pe_t *pe,
                               const mi_pe_inject_options_t *options) {
    bool is_done;
    memset(plan, 0, sizeof *plan);
    plan->pe = pe;
    plan->options = *options;
    if (pe->section_align < PAGE_BYTES)
        return MI_PE_EDIT_ALIGNMENT;
    if (!survey_imports(plan, &is_done))
        return MI_PE_EDIT_IMPORTS;
    if (is_done)
        return MI_PE_EDIT_NOTHING;
    mi_pe_edit_t refusal = refuse_unsuitable(pe, options);
    if (refusal != MI_PE_EDIT_OK)
        return refusal;
    plan->insert_offset = mi_pe_end_of_contents(pe);
    plan->extends_last = !header_has_room(pe);
    plan_cut(plan);
    return plan_place(plan) ? MI_PE_EDIT_OK : MI_PE_EDIT_NO_ROOM;
}

// ---- writing ----

// A descriptor of the original, unbound, with another DLL name when new_name_rva is not 0.
static void write_old_descriptor(const mi_pe_inject_t *plan, uint8_t *d, const mi_pe_import_t *imp,
                                 uint32_t new_name_rva) {
    memcpy(d, mi_pe_at(plan->pe, imp->descriptor_rva, 20), MI_PE_DESCRIPTOR_BYTES);
    if (imp->time_stamp != 0 && imp->lookup_rva != imp->iat_rva) {
        put_u32(d + 4, 0);
        put_u32(d + 8, 0);
    }
    if (new_name_rva != 0)
        put_u32(d + 12, new_name_rva);
}

// The descriptors of one role that were there before, in their old order. Returns how many.
static uint32_t write_old_descriptors(const mi_pe_inject_t *plan, uint8_t *d, mi_pe_role_t role,
                                      uint32_t name_rva) {
    mi_pe_import_t imp;
    uint32_t n = 0;
    for (uint32_t i = 0; i < plan->old_count && mi_pe_import_at(plan->pe, i, &imp); i++) {
        if (mi_pe_role_of(imp.dll) != role)
            continue;
        bool renames = role == MI_PE_ROLE_REDIRECT ||
                       (role == MI_PE_ROLE_ALLOCATOR && plan->options.replace_variant);
        write_old_descriptor(plan, d + n * MI_PE_DESCRIPTOR_BYTES, &imp, renames ? name_rva : 0);
        n++;
    }
    return n;
}

// A new descriptor with its two tables: one symbol, by name.
static void write_new_descriptor(const mi_pe_inject_t *plan, uint8_t *block, uint8_t *d,
                                 uint32_t thunks, size_t which) {
    const block_layout_t b = layout_of(plan);
    uint32_t cell = plan->pe->is_pe64 ? 8 : 4;
    put_u32(d, plan->block_rva + thunks);
    put_u32(d + 12, plan->block_rva + b.names[which]);
    put_u32(d + 16, plan->block_rva + thunks + 2 * cell);
    put_u32(block + thunks, plan->block_rva + b.hints[which]);
    put_u32(block + thunks + (size_t)2 * cell, plan->block_rva + b.hints[which]);
}

static void write_imports(const mi_pe_inject_t *plan, uint8_t *block) {
    const block_layout_t b = layout_of(plan);
    uint32_t cell = plan->pe->is_pe64 ? 8 : 4;
    uint32_t thunks = b.thunks;
    uint8_t *d = block + MI_PE_UNDO_HEADER_BYTES;
    const mi_pe_role_t roles[2] = {MI_PE_ROLE_REDIRECT, MI_PE_ROLE_ALLOCATOR};
    const bool has[2] = {plan->has_redirect, plan->has_allocator};
    for (size_t i = 0; i < 2; i++) {
        if (has[i]) {
            uint32_t name = plan->block_rva + b.names[i];
            d += write_old_descriptors(plan, d, roles[i], name) * MI_PE_DESCRIPTOR_BYTES;
        } else {
            write_new_descriptor(plan, block, d, thunks, i);
            thunks += 4 * cell;
            d += MI_PE_DESCRIPTOR_BYTES;
        }
    }
    write_old_descriptors(plan, d, MI_PE_ROLE_OTHER, 0);
    for (size_t i = 0; i < 2; i++)
        memcpy(block + b.hints[i] + 2, entry_names[i], mi_str_len(entry_names[i]));
    memcpy(block + b.names[0], plan->options.redirect_dll, mi_str_len(plan->options.redirect_dll));
    memcpy(block + b.names[1], plan->options.allocator_dll,
           mi_str_len(plan->options.allocator_dll));
}

static void write_undo(const mi_pe_inject_t *plan, const uint8_t sha256[32], uint8_t *block) {
    const mi_pe_t *pe = plan->pe;
    const block_layout_t b = layout_of(plan);
    memcpy(block, MI_PE_UNDO_MAGIC, 8);
    put_u32(block + 8, MI_PE_UNDO_HEADER_BYTES);
    put_u32(block + 12, plan->block_bytes);
    put_u32(block + 16, b.record);
    put_u32(block + 20, plan->patch_count);
    put_u64(block + 24, pe->size);
    memcpy(block + 32, sha256, MI_SHA256_BYTES);
    put_u64(block + 64, plan->insert_offset);
    put_u64(block + 72, plan->insert_bytes);
    put_u64(block + 80, plan->cut_offset);
    put_u32(block + 88, plan->cut_bytes);
    put_u32(block + 92, MI_PE_UNDO_FORMAT);
    uint8_t *r = block + b.record;
    for (uint32_t i = 0; i < plan->patch_count; i++) {
        const mi_pe_patch_t *p = &plan->patch[i];
        put_u32(r, p->offset);
        put_u32(r + 4, p->bytes);
        memcpy(r + 8, pe->bytes + p->offset, p->bytes);
        r += 8 + align_u32(p->bytes, 4);
    }
    if (plan->cut_bytes != 0)
        memcpy(r, pe->bytes + plan->cut_offset, plan->cut_bytes);
}

void mi_pe_inject_block(const mi_pe_inject_t *plan, const uint8_t sha256[32], uint8_t *block) {
    memset(block, 0, plan->block_bytes);
    write_imports(plan, block);
    write_undo(plan, sha256, block);
}

// Everything that is not inserted: the original without the certificate, patched.
static void read_body(const mi_pe_inject_t *plan, const mi_pe_window_t *w) {
    const mi_pe_t *pe = plan->pe;
    uint64_t insert = plan->insert_offset;
    uint64_t inserted = plan->insert_bytes;
    uint64_t cut = plan->cut_bytes != 0 ? plan->cut_offset : pe->size;
    uint64_t after_cut = cut + plan->cut_bytes;
    mi_pe_window_put(w, 0, pe->bytes, insert);
    mi_pe_window_put(w, insert + inserted, pe->bytes + insert, cut - insert);
    mi_pe_window_put(w, cut + inserted, pe->bytes + after_cut, pe->size - after_cut);
    for (uint32_t i = 0; i < plan->patch_count; i++)
        mi_pe_window_put(w, plan->patch[i].offset, plan->patch[i].value, plan->patch[i].bytes);
}

// In extend mode the last section's contents, patched as they are, are repeated in front of the
// block.
static void read_copied_section(const mi_pe_inject_t *plan, const mi_pe_window_t *w) {
    const mi_pe_t *pe = plan->pe;
    mi_pe_section_t last;
    uint64_t common[3];
    if (!plan->extends_last || !mi_pe_section_at(pe, pe->section_count - 1, &last))
        return;
    uint32_t bytes = section_bytes(&last);
    uint32_t stored = last.raw_bytes < bytes ? last.raw_bytes : bytes;
    uint32_t raw_at = last.raw_offset & ~511u; // as the loader rounds it
    uint64_t to = plan->insert_offset + plan->block_at - align_u32(bytes, 16);
    if (mi_pe_window_meets(w, to, stored, common)) {
        const mi_pe_window_t source = {raw_at + common[0], (size_t)common[2], w->out + common[1]};
        read_body(plan, &source);
    }
}

void mi_pe_inject_read(const mi_pe_inject_t *plan, const uint8_t *block, uint64_t at, uint8_t *out,
                       size_t bytes) {
    const mi_pe_window_t w = {at, bytes, out};
    uint64_t common[3];
    if (mi_pe_window_meets(&w, plan->insert_offset, plan->insert_bytes, common))
        memset(out + common[1], 0, (size_t)common[2]);
    read_body(plan, &w);
    read_copied_section(plan, &w);
    mi_pe_window_put(&w, plan->insert_offset + plan->block_at, block, plan->block_bytes);
}

// The sum of 16-bit words that the checksum folds; 64 bits hold it for any file.
uint64_t mi_pe_checksum_add(uint64_t sum, const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i + 1 < count; i += 2)
        sum += mi_pe_u16(bytes + i);
    return sum + ((count & 1) != 0 ? bytes[count - 1] : 0);
}

void mi_pe_inject_set_checksum(mi_pe_inject_t *plan, uint64_t sum) {
    while (sum >> 16 != 0)
        sum = (sum & 0xFFFF) + (sum >> 16);
    for (uint32_t i = 0; i < plan->patch_count; i++) {
        if (plan->patch[i].offset == plan->pe->optional_offset + CHECKSUM_OFFSET)
            put_u32(plan->patch[i].value, (uint32_t)sum + (uint32_t)plan->out_bytes);
    }
}

void mi_pe_inject_write(mi_pe_inject_t *plan, uint8_t *out) {
    uint8_t digest[MI_SHA256_BYTES];
    uint8_t *block = out + plan->insert_offset + plan->block_at;
    mi_sha256(plan->pe->bytes, plan->pe->size, digest);
    // The block is written in its place, so the windows leave it out.
    const mi_pe_window_t before = {0, (size_t)(block - out), out};
    const mi_pe_window_t behind = {(uint64_t)(block - out) + plan->block_bytes,
                                   plan->out_bytes - (size_t)(block - out) - plan->block_bytes,
                                   block + plan->block_bytes};
    mi_pe_inject_block(plan, digest, block);
    mi_pe_inject_read(plan, block, before.at, before.out, before.bytes);
    mi_pe_inject_read(plan, block, behind.at, behind.out, behind.bytes);
    if (plan->had_checksum) {
        mi_pe_inject_set_checksum(plan, mi_pe_checksum_add(0, out, plan->out_bytes));
        mi_pe_inject_read(plan, block, 0, out, plan->pe->optional_offset + CHECKSUM_OFFSET + 4);
    }
}

// The imports that are not ours: the same names in the same order, before and after.
static bool others_are_kept(const mi_pe_t *before, const mi_pe_t *after) {
    mi_pe_import_t a;
    mi_pe_import_t b;
    uint32_t k = 0;
    for (uint32_t i = 0; mi_pe_import_at(before, i, &a); i++) {
        if (mi_pe_role_of(a.dll) != MI_PE_ROLE_OTHER)
            continue;
        do {
            if (!mi_pe_import_at(after, k++, &b))
                return false;
        } while (mi_pe_role_of(b.dll) != MI_PE_ROLE_OTHER);
        if (!mi_str_eq(a.dll, b.dll) || a.iat_rva != b.iat_rva)
            return false;
    }
    return true;
}

bool mi_pe_inject_is_sound(const mi_pe_inject_t *plan, const uint8_t *out) {
    mi_pe_t result;
    mi_pe_undo_t undo;
    mi_pe_inject_t again = {.pe = &result, .options = plan->options};
    bool is_done;
    return mi_pe_open(&result, out, plan->out_bytes, false) && survey_imports(&again, &is_done) &&
           is_done && again.old_count == plan->old_count + plan->new_count &&
           others_are_kept(plan->pe, &result) && mi_pe_undo_find(&undo, &result) == MI_PE_EDIT_OK &&
           undo.original_bytes == plan->pe->size;
}

// ---- in memory ----

mi_pe_edit_t mi_pe_memory_plan(mi_pe_inject_t *plan, const mi_pe_t *pe,
                               const mi_pe_inject_options_t *options) {
    bool is_done;
    memset(plan, 0, sizeof *plan);
    plan->pe = pe;
    plan->options = *options;
    if (!survey_imports(plan, &is_done))
        return MI_PE_EDIT_IMPORTS;
    if (is_done)
        return MI_PE_EDIT_NOTHING;
    mi_pe_edit_t refusal = refuse_unsuitable(pe, options);
    if (refusal != MI_PE_EDIT_OK && refusal != MI_PE_EDIT_SIGNED)
        return refusal;
    plan->block_bytes = layout_of(plan).record;
    return MI_PE_EDIT_OK;
}

void mi_pe_memory_write(mi_pe_inject_t *plan, uint32_t block_rva, uint8_t *block,
                        mi_pe_range_t *imports) {
    plan->block_rva = block_rva;
    memset(block, 0, plan->block_bytes);
    write_imports(plan, block);
    imports->rva = block_rva + MI_PE_UNDO_HEADER_BYTES;
    imports->bytes = (plan->old_count + plan->new_count + 1) * MI_PE_DESCRIPTOR_BYTES;
}
