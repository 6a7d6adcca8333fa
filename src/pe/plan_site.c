// One entry under the lens: can a jump be written over its first bytes without harm to anybody?
#include "pe/plan.h"

enum {
    WALK_STEPS_MAX =
        1024, // instructions followed from one entry; a prologue's neighbourhood, not the program
    WALK_PENDING_MAX = 64,
    HOOK_HOPS_MAX = 4,    // jumps inside the module that a patch may go over
    WALK_SEEN_SLOTS = 512 // power of two, of a hash set
};

// A walk over the code that can be reached from an entry by direct jumps.
typedef struct walk_s {
    const mi_pe_t *pe;
    mi_cpu_t cpu;
    uint32_t entry;
    uint32_t patch_end; // rva behind the patch
    uint32_t pending_count;
    uint32_t seen_count;
    uint32_t pending[WALK_PENDING_MAX];
    uint32_t seen[WALK_SEEN_SLOTS];
} walk_t;

static bool is_executable(const mi_pe_t *pe, uint32_t rva) {
    mi_pe_section_t s;
    return mi_pe_section_of(pe, rva, &s) && (s.flags & MI_PE_SECTION_EXECUTE) != 0;
}

static bool decode_at(const mi_pe_t *pe, mi_cpu_t cpu, uint32_t rva, mi_insn_t *out) {
    const size_t room = mi_pe_room(pe, rva);
    const size_t bytes = (room < 16 ? room : 16);
    const uint8_t *code = (bytes == 0 ? NULL : mi_pe_at(pe, rva, bytes));
    return code != NULL && mi_decode(cpu, code, bytes, out);
}

// Adds an address to the set; false = it was there, or the set is as full as it may be.
static bool walk_first_visit(walk_t *w, uint32_t rva) {
    if (w->seen_count >= WALK_SEEN_SLOTS / 4 * 3)
        return false;
    uint32_t slot = (rva * 2654435761u) & (WALK_SEEN_SLOTS - 1);
    while (w->seen[slot] != 0) {
        if (w->seen[slot] == rva)
            return false;
        slot = (slot + 1) & (WALK_SEEN_SLOTS - 1);
    }
    w->seen[slot] = rva;
    w->seen_count++;
    return true;
}

// false = the target lies inside the patch.
static bool walk_target(walk_t *w, uint32_t rva, const mi_insn_t *i) {
    const int64_t target = (int64_t)rva + i->rel;
    if (target <= 0 || target > UINT32_MAX)
        return true;
    const uint32_t t = (uint32_t)target;
    if (t > w->entry && t < w->patch_end)
        return false;
    if (i->flow != MI_FLOW_CALL && w->pending_count < WALK_PENDING_MAX && is_executable(w->pe, t))
        w->pending[w->pending_count++] = t;
    return true;
}

// Follows every direct jump from the entry. Bytes that cannot be decoded end a path quietly: what
// lies behind a call that never returns is not code.
static bool walk_is_clean(walk_t *w) {
    uint32_t steps = 0;
    w->pending[w->pending_count++] = w->entry;
    while (w->pending_count > 0) {
        uint32_t rva = w->pending[--w->pending_count];
        mi_insn_t i = {.flow = MI_FLOW_NEXT};
        while (steps++ < WALK_STEPS_MAX && walk_first_visit(w, rva)) {
            if (!decode_at(w->pe, w->cpu, rva, &i))
                break;
            if (i.rel_bytes != 0 && !walk_target(w, rva, &i))
                return false;
            if (i.flow == MI_FLOW_JUMP || i.flow == MI_FLOW_JUMP_IND || i.flow == MI_FLOW_END)
                break;
            rva += i.bytes;
        }
    }
    return true;
}

// An indirect jump "jmp [slot]": where it leads now; 0 = it is another one, or leads through an
// import. Such a slot of the image's own is how others patch, unless the import table holds it.
static uintptr_t slot_target(const mi_pe_t *pe, mi_cpu_t cpu, uint32_t rva) {
    const uint8_t *code = mi_pe_at(pe, rva, 6);
    mi_pe_range_t imports;
    if (cpu == MI_CPU_ARM64 || code == NULL || code[0] != 0xFF || code[1] != 0x25)
        return 0;
    const uint32_t displacement = mi_pe_u32(code + 2);
    const uintptr_t slot =
        (cpu == MI_CPU_X64 ? (uintptr_t)code + 6 + (uintptr_t)(int32_t)displacement
                           : (uintptr_t)displacement);
    const uintptr_t offset = slot - (uintptr_t)pe->bytes;
    if (offset >= pe->image_bytes)
        return slot; // a slot elsewhere is nobody's but a patch's
    if (mi_pe_directory(pe, MI_PE_DIR_IAT, &imports) && offset >= imports.rva &&
        offset - imports.rva < imports.bytes)
        return 0;
    const uint8_t *at = mi_pe_at(pe, (uint32_t)offset, cpu == MI_CPU_X64 ? 8 : 4);
    return at == NULL ? 0 : (uintptr_t)(cpu == MI_CPU_X64 ? mi_pe_u64(at) : mi_pe_u32(at));
}

// "mov rax, address; jmp rax", and in 32-bit code "push address; ret" as well. 0 = neither.
static uintptr_t constant_target(const mi_pe_t *pe, mi_cpu_t cpu, uint32_t rva) {
    const uint8_t *code = mi_pe_at(pe, rva, 12);
    if (code == NULL)
        return 0;
    if (cpu == MI_CPU_X64 && code[0] == 0x48 && code[1] == 0xB8 && code[10] == 0xFF &&
        code[11] == 0xE0)
        return (uintptr_t)mi_pe_u64(code + 2);
    if (cpu == MI_CPU_X86 && ((code[0] == 0xB8 && code[5] == 0xFF && code[6] == 0xE0) ||
                              (code[0] == 0x68 && code[5] == 0xC3)))
        return (uintptr_t)mi_pe_u32(code + 1);
    return 0;
}

// Has somebody else led the function out of its module? Directly, by way of the padding before it,
// through a slot, or with the address in the code. Only what is mapped can say so.
static bool is_hooked(const mi_pe_t *pe, mi_cpu_t cpu, uint32_t rva) {
    for (int hop = 0; hop < HOOK_HOPS_MAX && pe->is_mapped; hop++) {
        mi_insn_t i;
        const uintptr_t slot = slot_target(pe, cpu, rva);
        const uintptr_t there = (slot != 0 ? slot : constant_target(pe, cpu, rva));
        if (there != 0)
            return there - (uintptr_t)pe->bytes >= pe->image_bytes;
        if (!decode_at(pe, cpu, rva, &i) || i.flow != MI_FLOW_JUMP)
            return false;
        const int64_t target = (int64_t)rva + i.rel;
        if (target < 0 || target >= (int64_t)pe->image_bytes)
            return true;
        rva = (uint32_t)target;
    }
    return false;
}

// Reads whole instructions until they contain the patch. MI_REASON_NONE, or what is wrong with
// them.
static mi_reason_t site_entry(const mi_pe_t *pe, mi_cpu_t cpu, mi_plan_site_t *site) {
    uint32_t at = 0;
    if (is_hooked(pe, cpu, site->rva))
        return MI_REASON_ALREADY_HOOKED;
    while (at < site->patch_bytes) {
        mi_insn_t i;
        if (!decode_at(pe, cpu, site->rva + at, &i))
            return MI_REASON_UNKNOWN_INSTRUCTION;
        at += i.bytes;
        const bool is_over =
            (i.flow == MI_FLOW_JUMP || i.flow == MI_FLOW_JUMP_IND || i.flow == MI_FLOW_END);
        if (at < site->patch_bytes && is_over)
            return MI_REASON_TOO_SHORT;
        if (at < site->patch_bytes && (i.flow == MI_FLOW_CALL || i.flow == MI_FLOW_CALL_IND))
            return MI_REASON_CALL_IN_RANGE;
    }
    site->whole_bytes = (uint8_t)at;
    return MI_REASON_NONE;
}

// Does a function other than this one begin inside the patch?
static bool site_is_overlapped(const mi_pe_t *pe, const mi_plan_t *plan,
                               const mi_plan_site_t *site) {
    const uint32_t end = site->rva + site->patch_bytes;
    mi_pe_extent_t next, own;
    if (mi_pe_function_after(pe, site->rva, &next) && next.begin > site->rva && next.begin < end)
        return true;
    // An unwind entry that covers the site but ends within the patch: code of the next function
    // follows.
    if (mi_pe_function_extent(pe, site->rva, &own) && own.end > site->rva && own.end < end)
        return true;
    for (uint32_t k = 0; k < plan->site_count; k++)
        if (plan->sites[k].rva > site->rva && plan->sites[k].rva < end)
            return true;
    mi_pe_exports_t ex;
    if (!mi_pe_exports_open(pe, &ex))
        return false;
    // Without a way out, so that the compiler compares several at a time: a CRT has more than a
    // thousand exports, and this is done for each site.
    uint32_t inside = 0;
    for (uint32_t k = 0; k < ex.function_count; k++)
        inside |= (mi_pe_u32(ex.functions + (size_t)k * 4) - (site->rva + 1) < end - site->rva - 1);
    return inside != 0;
}

static bool site_is_movable(const mi_pe_t *pe, mi_cpu_t cpu, const mi_plan_site_t *site) {
    uint8_t out[80];
    const uint8_t *code = mi_pe_at(pe, site->rva, site->whole_bytes);
    // The distance does not matter here: a place near the entry is always meant.
    return code != NULL && mi_plan_move(cpu, code, site->whole_bytes, 0x10000000u, out, sizeof(out),
                                        0x10400000u) != 0;
}

void mi_plan_judge(const mi_pe_t *pe, const mi_plan_t *plan, mi_plan_site_t *site) {
    site->verdict = MI_SITE_REFUSED;
    site->patch_bytes = (plan->cpu == MI_CPU_ARM64 ? MI_PLAN_PATCH_ARM64 : MI_PLAN_PATCH_X86);
    if (!is_executable(pe, site->rva) || mi_pe_room(pe, site->rva) < site->patch_bytes) {
        site->reason = MI_REASON_NOT_CODE;
        return;
    }
    site->reason = (uint8_t)site_entry(pe, plan->cpu, site);
    if (site->reason != MI_REASON_NONE)
        return;
    if (site_is_overlapped(pe, plan, site)) {
        site->reason = MI_REASON_OVERLAP;
        return;
    }
    walk_t w = {
        .pe = pe, .cpu = plan->cpu, .entry = site->rva, .patch_end = site->rva + site->patch_bytes};
    if (!walk_is_clean(&w)) {
        site->reason = MI_REASON_BRANCH_INTO;
        return;
    }
    site->is_movable = site_is_movable(pe, plan->cpu, site);
    site->verdict = MI_SITE_PATCH;
}
