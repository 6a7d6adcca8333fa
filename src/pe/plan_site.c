// One entry under the lens: can a jump be written over its first bytes without harm to anybody?
#include "pe/plan.h"

enum {
    // Looked at from one entry; beyond that the function is refused. Of CRTs so far 238
    // instructions and 13 waiting places at most, of the heap functions of Wine's ntdll 487 and 28.
    WALK_INSNS_MAX = 4096,
    WALK_SHORT = 256, // so long a walk asks nothing that costs time
    WALK_PENDING_MAX = 128,
    WALK_PATHS_MAX = 256,
    NEAR_BYTES = 8, // a patch and more, so that it lies in two slots at most
    NEAR_SLOTS = 4096,
    HOOK_HOPS_MAX = 4 // jumps inside the module that a patch may go over
};

// A walk over the code that can be reached from an entry by direct jumps. It fits on a stack that
// grows without probes: less than a page.
typedef struct walk_s {
    const mi_pe_t *pe;
    mi_cpu_t cpu;
    uint32_t entry;
    uint32_t patch_end; // rva behind the patch
    bool is_into;       // something jumps into the patch
    bool is_cut;        // the code is more than can be looked through
    uint32_t insn_count;
    uint32_t pending_count;
    uint32_t path_count;
    uint32_t pending[WALK_PENDING_MAX]; // where paths begin that are still to be followed
    uint32_t begin[WALK_PATHS_MAX];     // the paths followed, without their common parts
    uint32_t end[WALK_PATHS_MAX];
} walk_t;
static_assert(sizeof(walk_t) < 3072, "less than a page, with its callers");

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

static bool walk_has_been(const walk_t *w, uint32_t rva) {
    for (uint32_t k = 0; k < w->path_count; k++)
        if (rva >= w->begin[k] && rva < w->end[k])
            return true;
    return false;
}

// Where a path that begins here meets one that was followed before.
static uint32_t walk_meets(const walk_t *w, uint32_t rva) {
    uint32_t meets = UINT32_MAX;
    for (uint32_t k = 0; k < w->path_count; k++)
        if (w->begin[k] > rva && w->begin[k] < meets)
            meets = w->begin[k];
    return meets;
}

// A place to be looked at later. Many branches may have one target: it waits once.
static void walk_later(walk_t *w, uint32_t rva) {
    if (walk_has_been(w, rva))
        return;
    for (uint32_t k = 0; k < w->pending_count; k++)
        if (w->pending[k] == rva)
            return;
    if (w->pending_count == WALK_PENDING_MAX)
        w->is_cut = true;
    else
        w->pending[w->pending_count++] = rva;
}

static void walk_target(walk_t *w, uint32_t rva, const mi_insn_t *i) {
    const int64_t target = (int64_t)rva + i->rel;
    if (target <= 0 || target > UINT32_MAX)
        return;
    const uint32_t t = (uint32_t)target;
    if (t > w->entry && t < w->patch_end)
        w->is_into = true;
    else if (i->flow != MI_FLOW_CALL && is_executable(w->pe, t))
        walk_later(w, t);
}

static bool is_nop(const walk_t *w, uint32_t rva) {
    const uint8_t *code = mi_pe_at(w->pe, rva, 4);
    if (code == NULL)
        return false;
    if (w->cpu == MI_CPU_ARM64)
        return mi_pe_u32(code) == 0xD503201Fu;
    return code[0] == 0x90 || (code[0] == 0x66 && code[1] == 0x90) ||
           (code[0] == 0x0F && code[1] == 0x1F);
}

static bool is_export(const mi_pe_t *pe, uint32_t rva) {
    mi_pe_exports_t ex;
    return mi_pe_exports_open(pe, &ex) && mi_pe_exports_at(&ex, rva) != 0;
}

// Does a function begin here? x86 has no unwind table, and functions that call none need no entry.
static bool is_beginning(const mi_pe_t *pe, uint32_t rva) {
    mi_pe_extent_t e;
    return mi_pe_function_extent(pe, rva, &e) ? e.begin == rva : is_export(pe, rva);
}

// Is this behind a call that never returned? Wine's stubs of functions that it lacks lie side by
// side by the hundred, each with such a call at its end. To look at the next function does no harm
// but to the length, so it is not asked early.
static bool walk_is_over(const walk_t *w, uint32_t rva) {
    return w->insn_count > WALK_SHORT && is_beginning(w->pe, rva);
}

// Follows one path to its end, and returns where that is. Bytes that cannot be decoded end it
// quietly: what lies behind a call that never returns is not code.
static uint32_t walk_path(walk_t *w, uint32_t rva) {
    const uint32_t meets = walk_meets(w, rva);
    bool is_after_call = false;
    while (rva < meets && !w->is_into) {
        mi_insn_t i;
        if ((is_after_call && walk_is_over(w, rva)) || !decode_at(w->pe, w->cpu, rva, &i))
            break;
        if (w->insn_count++ == WALK_INSNS_MAX) {
            w->is_cut = true;
            break;
        }
        if (i.rel_bytes != 0)
            walk_target(w, rva, &i);
        const bool is_call = (i.flow == MI_FLOW_CALL || i.flow == MI_FLOW_CALL_IND);
        is_after_call = (is_call || (is_after_call && is_nop(w, rva)));
        rva += i.bytes;
        if (i.flow == MI_FLOW_JUMP || i.flow == MI_FLOW_JUMP_IND || i.flow == MI_FLOW_END)
            break;
    }
    return rva;
}

// Follows every direct jump from the entry.
static mi_reason_t site_walk(const mi_pe_t *pe, mi_cpu_t cpu, const mi_plan_site_t *site) {
    walk_t w;
    w.pe = pe;
    w.cpu = cpu;
    w.entry = w.pending[0] = site->rva;
    w.patch_end = site->rva + site->patch_bytes;
    w.is_into = w.is_cut = false;
    w.insn_count = w.path_count = 0;
    w.pending_count = 1;
    while (w.pending_count > 0 && !w.is_into && !w.is_cut) {
        const uint32_t begin = w.pending[--w.pending_count];
        if (walk_has_been(&w, begin))
            continue;
        if (w.path_count == WALK_PATHS_MAX) {
            w.is_cut = true;
            break;
        }
        const uint32_t end = walk_path(&w, begin);
        w.begin[w.path_count] = begin;
        w.end[w.path_count++] = end;
    }
    return w.is_into ? MI_REASON_BRANCH_INTO : w.is_cut ? MI_REASON_TOO_LONG : MI_REASON_NONE;
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

// Does a function with unwind data begin behind the one RVA and before the other?
static bool begins_between(const mi_pe_t *pe, const mi_plan_t *plan, uint32_t rva, uint32_t end) {
    mi_pe_extent_t next;
    if (plan->is_sorted)
        return mi_pe_function_after(pe, rva, &next) && next.begin > rva && next.begin < end;
    const uint32_t count = mi_pe_function_count(pe);
    for (uint32_t k = 0; k < count; k++)
        if (mi_pe_function_at(pe, k, &next) && next.begin > rva && next.begin < end)
            return true;
    return false;
}

// Each address falls into one of many slots; a bit says whether a patch lies in one of them.
static void near_add(uint32_t bits[NEAR_SLOTS / 32], uint32_t rva) {
    const uint32_t slot = rva / NEAR_BYTES % NEAR_SLOTS;
    bits[slot / 32] |= 1u << (slot % 32);
}

static bool near_has(const uint32_t bits[NEAR_SLOTS / 32], uint32_t rva) {
    const uint32_t slot = rva / NEAR_BYTES % NEAR_SLOTS;
    return (bits[slot / 32] >> (slot % 32) & 1) != 0;
}

void mi_plan_note_near(const mi_pe_exports_t *ex, mi_plan_t *plan) {
    uint32_t bits[NEAR_SLOTS / 32] = {0};
    plan->near_count = 0;
    for (uint32_t k = 0; k < plan->site_count; k++) {
        near_add(bits, plan->sites[k].rva);
        near_add(bits, plan->sites[k].rva + NEAR_BYTES - 1);
    }
    for (uint32_t k = 0; k < ex->function_count && plan->near_count < MI_PLAN_NEAR_MAX; k++) {
        const uint32_t rva = mi_pe_u32(ex->functions + (size_t)k * 4);
        if (near_has(bits, rva))
            plan->near_rva[plan->near_count++] = rva;
    }
}

// Does an export begin behind the one RVA and before the other?
static bool is_export_between(const mi_pe_t *pe, const mi_plan_t *plan, uint32_t rva,
                              uint32_t end) {
    uint32_t inside = 0;
    mi_pe_exports_t ex;
    // Without a way out, so that the compiler compares several at a time.
    if (plan->near_count > 0 && plan->near_count < MI_PLAN_NEAR_MAX) {
        for (uint32_t k = 0; k < plan->near_count; k++)
            inside |= (plan->near_rva[k] - (rva + 1) < end - rva - 1);
        return inside != 0;
    }
    if (!mi_pe_exports_open(pe, &ex))
        return false;
    for (uint32_t k = 0; k < ex.function_count; k++)
        inside |= (mi_pe_u32(ex.functions + (size_t)k * 4) - (rva + 1) < end - rva - 1);
    return inside != 0;
}

// Does a function other than this one begin inside the patch?
static bool site_is_overlapped(const mi_pe_t *pe, const mi_plan_t *plan,
                               const mi_plan_site_t *site) {
    const uint32_t end = site->rva + site->patch_bytes;
    mi_pe_extent_t own;
    if (begins_between(pe, plan, site->rva, end))
        return true;
    // An unwind entry that covers the site but ends within the patch: code of the next function
    // follows.
    if (mi_pe_function_extent(pe, site->rva, &own) && own.end > site->rva && own.end < end)
        return true;
    for (uint32_t k = 0; k < plan->site_count; k++)
        if (plan->sites[k].rva > site->rva && plan->sites[k].rva < end)
            return true;
    return is_export_between(pe, plan, site->rva, end);
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
    site->reason = (uint8_t)site_walk(pe, plan->cpu, site);
    if (site->reason != MI_REASON_NONE)
        return;
    site->is_movable = site_is_movable(pe, plan->cpu, site);
    site->verdict = MI_SITE_PATCH;
}
