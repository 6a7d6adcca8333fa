#include "pe/plan_com.h"
#include "base/text.h"

const char *const mi_com_names[MI_COM_FN_COUNT] = {
    [MI_COM_ALLOC] = "CoTaskMemAlloc",
    [MI_COM_REALLOC] = "CoTaskMemRealloc",
    [MI_COM_FREE] = "CoTaskMemFree",
    [MI_COM_GET_MALLOC] = "CoGetMalloc",
    [MI_COM_REGISTER_SPY] = "CoRegisterMallocSpy",
    [MI_COM_REVOKE_SPY] = "CoRevokeMallocSpy",
};

static bool is_needed(mi_com_fn_t fn) {
    return fn < MI_COM_REGISTER_SPY;
}

// Does the cell at this offset of the image belong to the import table?
static bool is_import_cell(const mi_pe_t *pe, uint64_t rva) {
    mi_pe_range_t imports;
    return mi_pe_directory(pe, MI_PE_DIR_IAT, &imports) && rva >= imports.rva &&
           rva - imports.rva < imports.bytes;
}

// "jmp [import]", behind the empty frame of a 32-bit function or not.
static bool is_stub_x86(const mi_pe_t *pe, uint32_t rva) {
    static const uint8_t frame[] = {0x8B, 0xFF, 0x55, 0x8B, 0xEC, 0x5D};
    uint64_t cell;
    uint32_t at = rva;
    const uint8_t *code = mi_pe_at(pe, at, sizeof(frame) + 6);
    if (pe->machine == MI_PE_MACHINE_X86 && code != NULL) {
        size_t same = 0;
        while (same < sizeof(frame) && code[same] == frame[same])
            same++;
        at += (same == sizeof(frame) ? (uint32_t)sizeof(frame) : 0);
    }
    code = mi_pe_at(pe, at, 7);
    if (code != NULL && pe->machine == MI_PE_MACHINE_X64 && code[0] == 0x48) {
        code++; // a prefix that means nothing here, but marks the end of a function
        at++;
    }
    if (code == NULL || code[0] != 0xFF || code[1] != 0x25)
        return false;
    if (pe->machine == MI_PE_MACHINE_X64)
        cell = (uint64_t)((int64_t)at + 6 + (int32_t)mi_pe_u32(code + 2));
    else if (pe->is_mapped)
        cell = (uint64_t)mi_pe_u32(code + 2) - (uint64_t)(uintptr_t)pe->bytes;
    else
        cell = (uint64_t)mi_pe_u32(code + 2) - pe->image_base;
    return is_import_cell(pe, cell);
}

// adrp x, page; ldr x, [x, offset]; br x
static bool is_stub_arm64(const mi_pe_t *pe, uint32_t rva) {
    const uint8_t *code = mi_pe_at(pe, rva, 12);
    if (code == NULL)
        return false;
    const uint32_t page = mi_pe_u32(code), load = mi_pe_u32(code + 4);
    const uint32_t x = page & 31u;
    if ((page & 0x9F000000u) != 0x90000000u ||
        (load & 0xFFC003FFu) != (0xF9400000u | (x << 5) | x) ||
        mi_pe_u32(code + 8) != (0xD61F0000u | (x << 5)))
        return false;
    // 21 bits of pages, signed: the low two of them stand in bits 29 and 30.
    const uint32_t pages = ((page >> 3) & 0x1FFFFCu) | ((page >> 29) & 3u);
    const int64_t distance = (int64_t)((pages ^ 0x100000u)) - 0x100000;
    const int64_t cell =
        ((int64_t)(rva & ~0xFFFu)) + distance * 4096 + (int64_t)((load >> 10) & 0xFFFu) * 8;
    return cell >= 0 && is_import_cell(pe, (uint64_t)cell);
}

static bool is_stub(const mi_pe_t *pe, uint32_t rva) {
    return pe->machine == MI_PE_MACHINE_ARM64 ? is_stub_arm64(pe, rva) : is_stub_x86(pe, rva);
}

// Exported, and code of this module.
static bool is_here(const mi_pe_exports_t *ex, mi_com_fn_t fn, mi_pe_export_t *out) {
    return mi_plan_export(ex, mi_com_names[fn], out) && out->forwarder == NULL &&
           !is_stub(ex->pe, out->rva);
}

bool mi_com_is_owner(const mi_pe_t *pe) {
    mi_pe_exports_t ex;
    mi_pe_export_t e;
    return mi_pe_exports_open(pe, &ex) && is_here(&ex, MI_COM_ALLOC, &e) &&
           is_here(&ex, MI_COM_FREE, &e);
}

// The first site that is refused is the plan's reason.
static void plan_note(mi_plan_t *plan, uint32_t index) {
    const mi_plan_site_t *site = &plan->sites[index];
    if (site->verdict != MI_SITE_REFUSED || plan->reason != MI_REASON_NONE)
        return;
    plan->reason = (mi_reason_t)site->reason;
    plan->reason_site = index;
}

// Each function gets a site, also one that is not there: the reader of a plan sees what is missing.
static void plan_collect(const mi_pe_exports_t *ex, mi_plan_t *plan) {
    for (mi_com_fn_t fn = 0; fn < MI_COM_FN_COUNT; fn++) {
        mi_pe_export_t e = {0};
        mi_plan_site_t *site = &plan->sites[plan->site_count++];
        *site = (mi_plan_site_t){.name = mi_com_names[fn], .fn = (uint8_t)fn};
        if (is_here(ex, fn, &e)) {
            site->rva = e.rva;
            site->verdict = MI_SITE_PATCH;
            for (uint32_t k = 0; k + 1 < plan->site_count; k++)
                if (plan->sites[k].rva == e.rva)
                    site->reason = MI_REASON_ALIAS_CONFLICT;
        } else {
            site->verdict = (is_needed(fn) ? MI_SITE_REFUSED : MI_SITE_LEFT);
            site->reason = MI_REASON_COM_INCOMPLETE;
        }
        if (site->reason == MI_REASON_ALIAS_CONFLICT)
            site->verdict = MI_SITE_REFUSED;
        plan_note(plan, plan->site_count - 1);
    }
}

static void plan_judge(const mi_pe_t *pe, mi_plan_t *plan, uint32_t index) {
    mi_plan_site_t *site = &plan->sites[index];
    mi_plan_judge(pe, plan, site);
    // Blocks of before, and those that COM makes behind our back, go to the original.
    if (site->verdict == MI_SITE_PATCH && !site->is_movable) {
        site->verdict = MI_SITE_REFUSED;
        site->reason = MI_REASON_NOT_RELOCATABLE;
    }
    if (site->verdict == MI_SITE_REFUSED && !is_needed((mi_com_fn_t)site->fn))
        site->verdict = MI_SITE_LEFT;
    plan->patch_count += (site->verdict == MI_SITE_PATCH);
    plan_note(plan, index);
}

bool mi_com_plan_make(const mi_pe_t *pe, mi_plan_t *plan) {
    mi_pe_exports_t ex;
    plan->site_count = plan->patch_count = plan->table_count = plan->reason_site = 0;
    plan->near_count = 0;
    plan->is_debug = plan->is_sorted = false;
    plan->reason = MI_REASON_COM_ABSENT;
    if (!mi_plan_cpu(pe, &plan->cpu) || !mi_pe_exports_open(pe, &ex) || !mi_com_is_owner(pe))
        return false;
    plan->reason = (mi_pe_hybrid(pe) != MI_PE_HYBRID_NONE ? MI_REASON_HYBRID : MI_REASON_NONE);
    plan->is_sorted = mi_pe_functions_are_sorted(pe);
    plan_collect(&ex, plan);
    for (uint32_t i = 0; i < plan->site_count; i++) {
        mi_plan_site_t *site = &plan->sites[i];
        if (site->verdict == MI_SITE_PATCH && plan->reason != MI_REASON_HYBRID) {
            plan_judge(pe, plan, i);
        } else if (site->verdict == MI_SITE_PATCH) {
            site->verdict = MI_SITE_LEFT;
            site->reason = MI_REASON_HYBRID;
        }
    }
    return plan->reason == MI_REASON_NONE;
}
