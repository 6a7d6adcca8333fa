#include "pe/plan.h"
#include "base/text.h"

// What only a CRT exports: one of these must accompany the family.
static const char *const crt_markers[] = {"_initterm", "_get_heap_handle", "_errno", "__doserrno"};

bool mi_plan_export(const mi_pe_exports_t *ex, const char *name, mi_pe_export_t *out) {
    const uint32_t i = mi_pe_export_lower(ex, 0, name);
    return mi_pe_export_begins(ex, i, name) && mi_pe_export_by_index(ex, i, out) &&
           mi_str_eq(out->name, name);
}

static bool has_code(const mi_pe_exports_t *ex, const char *name) {
    mi_pe_export_t e;
    return mi_plan_export(ex, name, &e) && e.forwarder == NULL;
}

bool mi_plan_is_crt(const mi_pe_t *pe) {
    mi_pe_exports_t ex;
    if (!mi_pe_exports_open(pe, &ex))
        return false;
    if (!has_code(&ex, "malloc") || !has_code(&ex, "free") || !has_code(&ex, "calloc") ||
        !has_code(&ex, "realloc") || !has_code(&ex, "_msize"))
        return false;
    // An allocator that also answers for foreign names is not a CRT.
    if (has_code(&ex, "mi_malloc") || has_code(&ex, "mi_version"))
        return false;
    for (size_t i = 0; i < sizeof(crt_markers) / sizeof(crt_markers[0]); i++)
        if (has_code(&ex, crt_markers[i]))
            return true;
    return false;
}

bool mi_plan_cpu(const mi_pe_t *pe, mi_cpu_t *cpu) {
    if (pe->machine == MI_PE_MACHINE_X64)
        *cpu = MI_CPU_X64;
    else if (pe->machine == MI_PE_MACHINE_X86)
        *cpu = MI_CPU_X86;
    else if (pe->machine == MI_PE_MACHINE_ARM64)
        *cpu = MI_CPU_ARM64;
    else
        return false;
    return true;
}

static mi_plan_site_t *plan_site_at(mi_plan_t *plan, uint32_t rva) {
    for (uint32_t i = 0; i < plan->site_count; i++)
        if (plan->sites[i].rva == rva && plan->sites[i].verdict != MI_SITE_ALIAS &&
            plan->sites[i].verdict != MI_SITE_FORWARDED)
            return &plan->sites[i];
    return NULL;
}

static mi_plan_site_t *plan_add(mi_plan_t *plan, const char *name, uint32_t rva, uint8_t fn,
                                uint8_t flags) {
    if (plan->site_count >= MI_PLAN_SITES_MAX) {
        plan->reason = MI_REASON_TOO_MANY;
        return NULL;
    }
    mi_plan_site_t *site = &plan->sites[plan->site_count++];
    *site = (mi_plan_site_t){
        .name = name, .rva = rva, .fn = fn, .flags = flags, .verdict = MI_SITE_PATCH};
    return site;
}

// Two names at one address: the first one's replacement serves both when it is the same, or when
// the table says that one may stand for the other (operator new as malloc). The stronger one wins.
static void plan_add_alias(mi_plan_t *plan, mi_plan_site_t *first, const mi_crt_name_t *row) {
    const mi_crt_fn_t a = mi_crt_functions[first->fn].same_as;
    const mi_crt_fn_t b = mi_crt_functions[row->fn].same_as;
    mi_plan_site_t *site = plan_add(plan, row->name, first->rva, row->fn, row->flags);
    if (site == NULL)
        return;
    site->verdict = MI_SITE_ALIAS;
    if (a == b)
        return;
    // In a release CRT the _dbg names may be stubs that share one address, "return 1" or the like.
    site->reason = MI_REASON_ALIAS_CONFLICT;
    site->verdict = (((row->flags & MI_CRT_DEBUG) != 0 && !plan->is_debug) || mi_crt_is_optional(b)
                         ? MI_SITE_LEFT
                         : MI_SITE_REFUSED);
    // Two questions about the heap at one address: neither can be answered, both stay.
    if (mi_crt_is_optional(a) && mi_crt_is_optional(b))
        site->verdict = first->verdict = MI_SITE_LEFT;
}

static void plan_collect(const mi_pe_exports_t *ex, mi_plan_t *plan) {
    for (size_t i = 0; i < mi_crt_name_count; i++) {
        const mi_crt_name_t *row = &mi_crt_names[i];
        mi_pe_export_t e;
        if (mi_crt_functions[row->fn].kind == MI_CRT_INSPECTS && !plan->is_debug)
            continue; // a release CRT has no debug heap to ask about
        if (!mi_plan_export(ex, row->name, &e))
            continue;
        if (e.forwarder != NULL) {
            mi_plan_site_t *site = plan_add(plan, row->name, 0, row->fn, row->flags);
            if (site != NULL) {
                site->verdict = MI_SITE_FORWARDED;
                site->reason = MI_REASON_FORWARDED;
            }
            continue;
        }
        mi_plan_site_t *first = plan_site_at(plan, e.rva);
        if (first != NULL)
            plan_add_alias(plan, first, row);
        else
            (void)plan_add(plan, row->name, e.rva, row->fn, row->flags);
    }
}

static bool is_code(const mi_pe_t *pe, int64_t rva) {
    mi_pe_section_t s;
    return rva > 0 && rva <= UINT32_MAX && mi_pe_section_of(pe, (uint32_t)rva, &s) &&
           (s.flags & MI_PE_SECTION_EXECUTE) != 0;
}

// The first direct jump or call reached in a straight line from rva that lands on a given address.
// Jumps are followed: over padding, or the thunks of incremental linking, whose functions may lie
// anywhere.
static bool reaches_directly(const mi_pe_t *pe, mi_cpu_t cpu, uint32_t rva, uint32_t wanted) {
    uint32_t steps = 0;
    for (uint32_t at = rva; steps < 64; steps++) {
        mi_insn_t i;
        const size_t room = mi_pe_room(pe, at);
        const uint8_t *code = (room == 0 ? NULL : mi_pe_at(pe, at, room < 16 ? room : 16));
        if (code == NULL || !mi_decode(cpu, code, room < 16 ? room : 16, &i))
            return false;
        if (i.rel_bytes != 0 && (int64_t)at + i.rel == (int64_t)wanted)
            return true;
        if (i.flow == MI_FLOW_JUMP && is_code(pe, (int64_t)at + i.rel))
            at = (uint32_t)((int64_t)at + i.rel);
        else if (i.flow == MI_FLOW_JUMP || i.flow == MI_FLOW_JUMP_IND || i.flow == MI_FLOW_END)
            return false;
        else
            at += i.bytes;
    }
    return false;
}

// In a debug CRT the plain functions hand over to their _dbg forms. Release CRTs may export those
// names too, but there the calls go the other way.
static bool plan_is_debug(const mi_pe_t *pe, const mi_pe_exports_t *ex, const mi_plan_t *plan) {
    static const char *const pairs[][2] = {{"free", "_free_dbg"},
                                           {"malloc", "_malloc_dbg"},
                                           {"realloc", "_realloc_dbg"},
                                           {"_msize", "_msize_dbg"}};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        mi_pe_export_t pub, dbg;
        if (!mi_plan_export(ex, pairs[i][0], &pub) || !mi_plan_export(ex, pairs[i][1], &dbg))
            continue;
        if (pub.rva != dbg.rva && pub.forwarder == NULL && dbg.forwarder == NULL &&
            reaches_directly(pe, plan->cpu, pub.rva, dbg.rva))
            return true;
    }
    return false;
}

// Where an entry that only passes its arguments on passes them to: a plain jump, or on x86 the
// empty frame "mov edi,edi; push ebp; mov ebp,esp; pop ebp; jmp". 0 = the entry does something of
// its own.
static uint32_t plan_tail_target(const mi_pe_t *pe, mi_cpu_t cpu, uint32_t rva) {
    static const uint8_t frame[] = {0x8B, 0xFF, 0x55, 0x8B, 0xEC, 0x5D};
    uint32_t at = rva;
    const uint8_t *code = mi_pe_at(pe, at, sizeof(frame) + 5);
    if (cpu == MI_CPU_X86 && code != NULL) {
        size_t same = 0;
        while (same < sizeof(frame) && code[same] == frame[same])
            same++;
        if (same == sizeof(frame))
            at += (uint32_t)sizeof(frame);
    }
    mi_insn_t i;
    const size_t room = mi_pe_room(pe, at);
    code = (room == 0 ? NULL : mi_pe_at(pe, at, room < 16 ? room : 16));
    if (code == NULL || !mi_decode(cpu, code, room < 16 ? room : 16, &i) || i.flow != MI_FLOW_JUMP)
        return 0;
    const int64_t target = (int64_t)at + i.rel;
    return is_code(pe, target) ? (uint32_t)target : 0;
}

// Is the address the start of a function, as far as the unwind table knows? Leaf functions have no
// entry.
static bool plan_may_begin(const mi_pe_t *pe, uint32_t rva) {
    mi_pe_extent_t e;
    return !mi_pe_function_extent(pe, rva, &e) || e.begin == rva;
}

// _msize, _recalloc and _expand are jumps to unexported functions that the CRT also calls from
// inside: those are patched as well, else the CRT would measure our blocks with HeapSize.
static void plan_derive(const mi_pe_t *pe, mi_plan_t *plan) {
    const uint32_t exported = plan->site_count;
    for (uint32_t k = 0; k < exported; k++) {
        const mi_plan_site_t site = plan->sites[k];
        if (site.verdict != MI_SITE_PATCH || mi_crt_is_optional((mi_crt_fn_t)site.fn))
            continue;
        const uint32_t target = plan_tail_target(pe, plan->cpu, site.rva);
        if (target == 0 || plan_site_at(plan, target) != NULL || !plan_may_begin(pe, target))
            continue;
        mi_plan_site_t *derived = plan_add(plan, site.name, target, site.fn, site.flags);
        if (derived != NULL)
            derived->is_derived = true;
    }
}

// A release CRT has no debug heap: the inspecting functions stay. A debug CRT's base functions lie
// below its debug heap, which goes on to hold the blocks of before: they stay, too.
static bool plan_is_wanted(const mi_plan_t *plan, const mi_plan_site_t *site) {
    if (mi_crt_functions[site->fn].kind == MI_CRT_INSPECTS)
        return plan->is_debug;
    return !(plan->is_debug && (site->flags & MI_CRT_BASE) != 0);
}

// A site that cannot be patched: does it spoil the CRT, or does it do no harm?
static void plan_forgive(const mi_pe_t *pe, mi_plan_t *plan, mi_plan_site_t *site) {
    const mi_crt_function_t *fn = &mi_crt_functions[site->fn];
    if (site->reason == MI_REASON_TOO_SHORT) {
        const uint32_t target = plan_tail_target(pe, plan->cpu, site->rva);
        const mi_plan_site_t *there = (target == 0 ? NULL : plan_site_at(plan, target));
        if (there != NULL && there != site && mi_crt_functions[there->fn].same_as == fn->same_as) {
            site->verdict = MI_SITE_COVERED;
            site->reason = MI_REASON_NONE;
            return;
        }
    }
    // What only makes blocks may go on to make the CRT's own: those are recognised when they come
    // back. The private and internal names end in the public functions, and so do the _dbg names of
    // a release CRT.
    const bool makes = (fn->kind != MI_CRT_TAKES && (!fn->is_core || site->flags != MI_CRT_PUBLIC));
    const bool ends_in_public = ((site->flags & (MI_CRT_PRIVATE | MI_CRT_INTERNAL)) != 0 ||
                                 ((site->flags & MI_CRT_DEBUG) != 0 && !plan->is_debug));
    if (site->is_derived || mi_crt_is_optional((mi_crt_fn_t)site->fn) ||
        ((makes || ends_in_public) && site->reason != MI_REASON_ALREADY_HOOKED))
        site->verdict = MI_SITE_LEFT;
}

// Is the site's own name the only one that leads there? As a rule it is.
static bool has_one_name(const mi_pe_exports_t *ex, const mi_plan_site_t *site) {
    mi_pe_export_t e;
    uint32_t names = 0; // without a way out: several at a time
    if (site->is_derived || !mi_plan_export(ex, site->name, &e) || e.rva != site->rva)
        return false;
    const uint16_t index = (uint16_t)(e.ordinal - ex->ordinal_base);
    for (uint32_t i = 0; i < ex->name_count; i++)
        names += (mi_pe_u16(ex->ordinals + (size_t)i * 2) == index);
    return names == 1 && mi_pe_exports_at(ex, site->rva) == 1;
}

// The _dbg names of a release CRT and the functions about its whole heap may be empty stubs that
// the linker has folded with quite other functions.
static bool plan_is_shared_stub(const mi_pe_exports_t *ex, const mi_plan_t *plan,
                                const mi_plan_site_t *site) {
    mi_pe_export_t e;
    const bool may_be_stub = ((site->flags & MI_CRT_DEBUG) != 0 && !plan->is_debug) ||
                             mi_crt_functions[site->fn].kind == MI_CRT_SURVEYS;
    if (!may_be_stub || has_one_name(ex, site))
        return false;
    for (uint32_t i = 0; i < ex->name_count; i++) {
        // The names are read where the address is the one: there are a thousand of them.
        const uint32_t index = mi_pe_u16(ex->ordinals + (size_t)i * 2);
        if (index >= ex->function_count ||
            mi_pe_u32(ex->functions + (size_t)index * 4) != site->rva)
            continue;
        if (mi_pe_export_by_index(ex, i, &e) && e.forwarder == NULL &&
            mi_crt_name_find(e.name) == NULL)
            return true;
    }
    return false;
}

// One function of its own address: its verdict, and whether tables may redirect it.
static void plan_verify_site(const mi_pe_t *pe, const mi_pe_exports_t *ex, mi_plan_t *plan,
                             mi_plan_site_t *site) {
    const bool is_stub = plan_is_shared_stub(ex, plan, site);
    if (is_stub || !plan_is_wanted(plan, site)) {
        site->verdict = MI_SITE_LEFT;
        site->reason = (uint8_t)(is_stub ? MI_REASON_ALIAS_CONFLICT : MI_REASON_NONE);
        return;
    }
    site->in_tables = !site->is_derived;
    plan->table_count += site->in_tables;
    if (plan->reason == MI_REASON_HYBRID) {
        // Which kind of code lies there, nobody needs to know who does not touch it.
        site->verdict = MI_SITE_LEFT;
        site->reason = MI_REASON_HYBRID;
        return;
    }
    mi_plan_judge(pe, plan, site);
    if (site->verdict == MI_SITE_REFUSED)
        plan_forgive(pe, plan, site);
    // The answers for blocks of before come from the original.
    if (site->verdict == MI_SITE_PATCH && !site->is_movable &&
        mi_crt_is_optional((mi_crt_fn_t)site->fn)) {
        site->verdict = MI_SITE_LEFT;
        site->reason = MI_REASON_NOT_RELOCATABLE;
    }
}

static void plan_verify(const mi_pe_t *pe, const mi_pe_exports_t *ex, mi_plan_t *plan) {
    mi_plan_note_near(ex, plan);
    for (uint32_t k = 0; k < plan->site_count; k++) {
        mi_plan_site_t *site = &plan->sites[k];
        if (site->verdict == MI_SITE_PATCH)
            plan_verify_site(pe, ex, plan, site);
        if (site->verdict == MI_SITE_PATCH)
            plan->patch_count++;
        // What bars both rungs is said before what bars one.
        if (site->verdict == MI_SITE_REFUSED &&
            (plan->reason == MI_REASON_NONE ||
             (mi_reason_has_next_rung(plan->reason) &&
              !mi_reason_has_next_rung((mi_reason_t)site->reason)))) {
            plan->reason = (mi_reason_t)site->reason;
            plan->reason_site = k;
        }
    }
}

// Not a CRT, or one whose functions live in another DLL?
static mi_reason_t plan_family(const mi_pe_t *pe, const mi_plan_t *plan) {
    if (mi_plan_is_crt(pe))
        return MI_REASON_NONE;
    for (uint32_t k = 0; k < plan->site_count; k++)
        if (mi_crt_functions[plan->sites[k].fn].is_core &&
            plan->sites[k].verdict == MI_SITE_FORWARDED)
            return MI_REASON_CORE_MISSING;
    return MI_REASON_NOT_A_CRT;
}

static mi_reason_t plan_open(const mi_pe_t *pe, mi_plan_t *plan, mi_pe_exports_t *ex) {
    mi_pe_range_t dir;
    if (!mi_plan_cpu(pe, &plan->cpu)) // the reader opens no such image
        return MI_REASON_NOT_A_CRT;
    if (!mi_pe_exports_open(pe, ex))
        return mi_pe_directory(pe, MI_PE_DIR_EXPORT, &dir) ? MI_REASON_MALFORMED
                                                           : MI_REASON_NOT_A_CRT;
    return mi_pe_hybrid(pe) != MI_PE_HYBRID_NONE ? MI_REASON_HYBRID : MI_REASON_NONE;
}

// Refused before anything was judged: nothing of it would be patched.
static bool plan_unjudged(mi_plan_t *plan) {
    for (uint32_t k = 0; k < plan->site_count; k++)
        if (plan->sites[k].verdict == MI_SITE_PATCH) {
            plan->sites[k].verdict = MI_SITE_LEFT;
            plan->sites[k].reason = (uint8_t)plan->reason;
        }
    return false;
}

// The code of a hybrid CRT is not looked at, so nobody can say whether it is a debug CRT. One that
// has the names of a debug heap is left alone altogether: its blocks might have headers.
static bool plan_hybrid(const mi_pe_t *pe, const mi_pe_exports_t *ex, mi_plan_t *plan) {
    mi_pe_export_t e;
    if (mi_plan_export(ex, "_free_dbg", &e))
        return false;
    plan_collect(ex, plan);
    const mi_reason_t family = plan_family(pe, plan);
    if (family != MI_REASON_NONE)
        plan->reason = family;
    if (plan->reason != MI_REASON_HYBRID)
        return plan_unjudged(plan);
    plan_verify(pe, ex, plan);
    return false;
}

bool mi_plan_make(const mi_pe_t *pe, mi_plan_t *plan) {
    mi_pe_exports_t ex;
    plan->site_count = 0;
    plan->patch_count = 0;
    plan->table_count = 0;
    plan->reason_site = 0;
    plan->near_count = 0;
    plan->is_debug = plan->is_sorted = false;
    plan->reason = plan_open(pe, plan, &ex);
    if (plan->reason == MI_REASON_HYBRID)
        return plan_hybrid(pe, &ex, plan);
    if (plan->reason != MI_REASON_NONE)
        return false;
    plan->is_debug = plan_is_debug(pe, &ex, plan);
    plan_collect(&ex, plan);
    if (plan->reason == MI_REASON_NONE)
        plan->reason = plan_family(pe, plan);
    if (plan->reason != MI_REASON_NONE)
        return plan_unjudged(plan);
    plan->is_sorted = mi_pe_functions_are_sorted(pe);
    if (!plan->is_debug)
        plan_derive(pe, plan);
    plan_verify(pe, &ex, plan);
    return plan->reason == MI_REASON_NONE;
}

mi_rung_t mi_plan_rung(const mi_plan_t *plan) {
    if (plan->reason == MI_REASON_NONE)
        return MI_RUNG_ENTRY;
    return mi_reason_has_next_rung(plan->reason) && plan->table_count > 0 ? MI_RUNG_TABLES
                                                                          : MI_RUNG_NONE;
}

const char *mi_rung_text(mi_rung_t rung) {
    static const char *const text[] = {"none", "tables", "entry"};
    return text[rung];
}

const char *mi_site_verdict_text(mi_site_verdict_t verdict) {
    static const char *const text[] = {"patch", "alias", "covered", "forwarded", "left", "refused"};
    return text[verdict];
}
