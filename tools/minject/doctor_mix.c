// What does not go together: runtimes across which blocks may cross, and other allocators.
#include "minject/doctor.h"
#include "base/text.h"

#include <string.h>

static const char *crt_name(const doctor_t *d, uint32_t module) {
    return d->modules[d->modules[module]->crt_of]->name;
}

static bool takes_part(const doctor_module_t *m) {
    return m->crt_of != UINT32_MAX && (m->origin == DOCTOR_APP || m->origin == DOCTOR_ASSEMBLY) &&
           !doctor_is_ours(m) && !m->is_crt;
}

// How many functions one module imports from another.
static uint32_t functions_between(const doctor_t *d, uint32_t caller, uint32_t callee) {
    const doctor_module_t *m = d->modules[caller];
    mi_pe_import_t imp;
    mi_pe_thunk_t t;
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->need_count && mi_pe_import_at(&m->pe, i, &imp); i++) {
        for (uint32_t k = 0; m->needs[i] == callee && mi_pe_thunk_at(&m->pe, &imp, k, &t); k++)
            n++;
    }
    return n;
}

static void add_pair(doctor_t *d, uint32_t caller, uint32_t callee, uint32_t functions) {
    if (d->pair_count >= DOCTOR_PAIRS_MAX)
        return;
    bool is_mixed =
        cli_is_debug_crt_name(crt_name(d, caller)) != cli_is_debug_crt_name(crt_name(d, callee));
    d->pairs[d->pair_count++] = (doctor_pair_t){caller, callee, functions, is_mixed};
}

static bool crts_are_paired(const doctor_t *d, uint32_t a, uint32_t b) {
    for (uint32_t i = 0; i < d->pair_count; i++) {
        uint32_t x = d->modules[d->pairs[i].caller]->crt_of;
        uint32_t y = d->modules[d->pairs[i].callee]->crt_of;
        if ((x == a && y == b) || (x == b && y == a))
            return true;
    }
    return false;
}

// First those that call each other; then, for runtimes that no call connects, two that share the
// process: a third module or a callback may pass a block between them.
static void find_pairs(doctor_t *d, bool linked) {
    for (uint32_t a = 0; a < d->module_count; a++) {
        for (uint32_t b = 0; takes_part(d->modules[a]) && b < d->module_count; b++) {
            uint32_t x = d->modules[a]->crt_of;
            uint32_t y = d->modules[b]->crt_of;
            if (!takes_part(d->modules[b]) || x == y || a == b)
                continue;
            uint32_t n = linked ? functions_between(d, a, b) : 0;
            if (linked ? n != 0 : a < b && !crts_are_paired(d, x, y))
                add_pair(d, a, b, n);
        }
    }
}

// A block that crosses is safe when both runtimes ask whose it is.
static bool is_redirectable(const doctor_module_t *crt) {
    return crt->is_crt && crt->crt_reason == MI_REASON_NONE;
}

static void judge_pair(doctor_t *d, const doctor_pair_t *p) {
    const doctor_module_t *a = d->modules[p->caller];
    const doctor_module_t *b = d->modules[p->callee];
    const doctor_module_t *a_crt = d->modules[a->crt_of];
    const doctor_module_t *b_crt = d->modules[b->crt_of];
    char how[DOCTOR_NAME_BYTES * 2 + 64];
    mi_text_t t;
    mi_text_init(&t, how, sizeof how);
    if (p->functions != 0)
        mi_text_fmt(&t, "%s calls %u function%s of %s", a->name, p->functions,
                    p->functions == 1 ? "" : "s", b->name);
    else
        mi_text_fmt(&t, "%s and %s share the process", a->name, b->name);
    bool both = is_redirectable(a_crt) && is_redirectable(b_crt);
    const doctor_module_t *odd = is_redirectable(a_crt) ? b_crt : a_crt;
    doctor_say(d, DOCTOR_INFO, "crt-mix", "%s uses %s, %s uses %s, and %s: %s%s", a->name,
               a_crt->name, b->name, b_crt->name, how,
               both ? "with both redirected, blocks may cross between them"
                    : "a block that crosses is safe only when both are redirected, which cannot be "
                      "foretold of ",
               both ? "" : odd->name);
    if (p->is_debug_release)
        doctor_cure(doctor_say(d, DOCTOR_WARN, "debug-release-mix",
                               "%s uses the %s runtime, %s the %s one", a->name,
                               cli_is_debug_crt_name(a_crt->name) ? "debug" : "release", b->name,
                               cli_is_debug_crt_name(b_crt->name) ? "debug" : "release"),
                    "build both for the same runtime");
}

static void judge_second_allocators(doctor_t *d) {
    static const char *const names[] = {"tbbmalloc",   "jemalloc", "libjemalloc",  "tcmalloc",
                                        "libtcmalloc", "vld",      "clang_rt.asan"};
    bool has_ours = false;
    for (uint32_t i = 1; i < d->module_count; i++) {
        const char *name = d->modules[i]->name;
        bool is_other = false;
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            size_t n = 0;
            while (names[k][n] != 0 && (name[n] | 0x20) == (names[k][n] | 0x20))
                n++;
            is_other = is_other || names[k][n] == 0;
        }
        if (d->modules[i]->role == MI_PE_ROLE_ALLOCATOR) {
            is_other = has_ours;
            has_ours = true;
        }
        if (is_other)
            doctor_cure(doctor_say(d, DOCTOR_WARN, "second-allocator",
                                   "%s is another allocator in the same process", name),
                        "use one of the two");
    }
}

// A program's own files on a debug runtime: does the allocator's DLL keep its debug heap?
static void judge_debug_heap(doctor_t *d) {
    const doctor_module_t *user = NULL;
    const doctor_module_t *allocator = NULL;
    char variant[32];
    for (uint32_t i = 0; i < d->module_count; i++) {
        const doctor_module_t *m = d->modules[i];
        if (user == NULL && takes_part(m) && cli_is_debug_crt_name(crt_name(d, i)))
            user = m;
        if (allocator == NULL && m->role == MI_PE_ROLE_ALLOCATOR)
            allocator = m;
    }
    if (user == NULL || allocator == NULL)
        return;
    const char *crt = d->modules[user->crt_of]->name;
    bool has_heap = mi_pe_version_word(&allocator->pe, "MimallocVariant", variant, sizeof variant)
                        ? mi_str_eq(variant, "debug")
                        : strstr(allocator->name, "-debug") != NULL;
    if (has_heap)
        doctor_say(d, DOCTOR_OK, "debug-heap", "%s uses %s, and %s keeps its debug heap",
                   user->name, crt, allocator->name);
    else
        doctor_cure(doctor_say(d, DOCTOR_INFO, "debug-heap-lost",
                               "%s uses %s, but %s keeps no debug heap: leak dumps, checks and "
                               "hooks will not see its blocks",
                               user->name, crt, allocator->name),
                    "minject inject --postfix=debug");
}

void doctor_judge_mixes(doctor_t *d) {
    find_pairs(d, true);
    find_pairs(d, false);
    for (uint32_t i = 0; i < d->pair_count; i++)
        judge_pair(d, &d->pairs[i]);
    judge_debug_heap(d);
    judge_second_allocators(d);
}
