// The conclusions: what the files say about the redirection, each with a cure.
#include "minject/doctor.h"
#include "base/text.h"
#include "pe/pe_overlay.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// Percent of confidence. Measured on 21 programs of Microsoft's compilers, 6.0 to 14, and on
// mingw's DLLs: with a static runtime 99, without one at most 6; the imports alone give up to 60.
#define STATIC_LIKELY 60u
#define STATIC_MAYBE  35u

doctor_finding_t *doctor_say(doctor_t *d, doctor_level_t level, const char *code, const char *fmt,
                             ...) {
    // The last place is overwritten when there are too many; the verdict below is not affected.
    if (d->finding_count < DOCTOR_FINDINGS_MAX)
        d->finding_count++;
    doctor_finding_t *f = &d->findings[d->finding_count - 1];
    va_list args;
    f->level = level;
    f->code = code;
    f->cure[0] = 0;
    va_start(args, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, args);
    va_end(args);
    if (level == DOCTOR_BAD)
        d->verdict = DOCTOR_NOT;
    else if (level == DOCTOR_WARN && d->verdict == DOCTOR_REDIRECTED)
        d->verdict = DOCTOR_PARTLY;
    return f;
}

void doctor_cure(doctor_finding_t *f, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(f->cure, sizeof f->cure, fmt, args);
    va_end(args);
}

const char *doctor_verdict_text(doctor_verdict_t verdict) {
    if (verdict == DOCTOR_REDIRECTED)
        return "will be redirected";
    return verdict == DOCTOR_PARTLY ? "will be redirected only partly" : "will not be redirected";
}

// ---- facts about single modules ----

bool doctor_is_ours(const doctor_module_t *m) {
    return m->role != MI_PE_ROLE_OTHER;
}

// The C runtime from which a module takes allocation functions: known by what it exports, or, where
// it is not at hand, by its name.
static void find_crt_use(const doctor_t *d, doctor_module_t *m) {
    mi_pe_import_t imp;
    mi_pe_thunk_t t;
    for (uint32_t i = 0; m->is_open && m->crt_of == UINT32_MAX && mi_pe_import_at(&m->pe, i, &imp);
         i++) {
        if (i >= m->need_count || !(cli_is_crt_name(imp.dll) || d->modules[m->needs[i]]->is_crt))
            continue;
        for (uint32_t k = 0; mi_pe_thunk_at(&m->pe, &imp, k, &t); k++) {
            if (t.name != NULL && mi_crt_name_find(t.name) != NULL) {
                m->crt_of = m->needs[i];
                break;
            }
        }
    }
}

// Only for the program's own files: the system's DLLs are as they are.
static void find_static_crt(doctor_module_t *m) {
    if (!m->is_open || m->origin != DOCTOR_APP || m->crt_of != UINT32_MAX || m->is_crt ||
        doctor_is_ours(m))
        return;
    mi_pe_evidence(&m->pe, &m->evidence);
    if (m->evidence.confidence >= STATIC_LIKELY)
        m->has_static_crt = DOCTOR_STATIC_LIKELY;
    else if (m->evidence.confidence >= STATIC_MAYBE)
        m->has_static_crt = DOCTOR_STATIC_MAYBE;
}

static void examine_crt(doctor_module_t *m) {
    static mi_plan_t plan; // large; one thread
    if (!m->is_open || doctor_is_ours(m) || !mi_plan_is_crt(&m->pe))
        return;
    m->is_crt = true;
    mi_plan_make(&m->pe, &plan);
    m->crt_reason = plan.reason;
    m->crt_rung = mi_plan_rung(&plan);
    m->crt_functions = (m->crt_rung == MI_RUNG_ENTRY ? plan.patch_count : plan.table_count);
}

// ---- the program ----

static void judge_installer(doctor_t *d, const doctor_module_t *m) {
    mi_pe_undo_t undo;
    mi_pe_overlay_t kind = mi_pe_overlay(&m->pe);
    if (!mi_pe_overlay_breaks(kind))
        return;
    bool is_changed = mi_pe_undo_find(&undo, &m->pe) == MI_PE_EDIT_OK;
    doctor_cure(doctor_say(d, is_changed ? DOCTOR_BAD : DOCTOR_INFO, "installer", "%s is %s%s",
                           m->name, mi_pe_overlay_text(kind),
                           is_changed ? "; it was changed and will refuse to start" : ""),
                "%s", is_changed ? "minject remove, then minject run" : "use minject run");
}

static void judge_program(doctor_t *d) {
    const doctor_module_t *m = d->modules[0];
    mi_pe_clr_t clr;
    mi_pe_range_t range;
    mi_pe_import_t imp;
    if (mi_pe_clr(&m->pe, &clr))
        doctor_cure(
            doctor_say(d, clr.is_il_only ? DOCTOR_BAD : DOCTOR_INFO, "dotnet",
                       "%s is a .NET program%s", m->name,
                       clr.is_il_only ? " without native code; its import table is not read" : ""),
            "%s", clr.is_il_only ? "let a native DLL that it calls load mimalloc.dll" : "");
    if (mi_pe_hybrid(&m->pe) != MI_PE_HYBRID_NONE)
        doctor_cure(doctor_say(d, DOCTOR_BAD, "hybrid",
                               "%s is %s image: its tables exist once for each of two machines, "
                               "which is not supported",
                               m->name, mi_pe_hybrid_name(mi_pe_hybrid(&m->pe))),
                    "build it for one machine");
    if ((m->pe.dll_characteristics & MI_PE_DLLFLAG_INTEGRITY) != 0)
        doctor_say(d, DOCTOR_INFO, "integrity", "%s demands a valid signature of every module",
                   m->name);
    if ((m->pe.dll_characteristics & MI_PE_DLLFLAG_GUARD_CF) != 0)
        doctor_say(d, DOCTOR_INFO, "cfg",
                   "%s uses control flow guard; the redirection works with it", m->name);
    if ((m->pe.dll_characteristics & MI_PE_DLLFLAG_APPCONT) != 0)
        doctor_say(d, DOCTOR_INFO, "appcontainer",
                   "%s runs in an app container: the DLLs must be readable there", m->name);
    if (mi_pe_directory(&m->pe, MI_PE_DIR_SECURITY, &range) && range.bytes != 0)
        doctor_say(d, DOCTOR_INFO, "signed",
                   "%s is signed; injecting makes the signature void, run does not", m->name);
    else if (mi_pe_end_of_contents(&m->pe) < m->pe.size)
        doctor_say(d, DOCTOR_INFO, "overlay", "%s carries %llu bytes behind its last section",
                   m->name, (unsigned long long)(m->pe.size - mi_pe_end_of_contents(&m->pe)));
    judge_installer(d, m);
    if (mi_pe_directory(&m->pe, MI_PE_DIR_BOUND_IMPORT, &range))
        doctor_say(d, DOCTOR_INFO, "bound", "%s has bound imports; they are cleared by inject",
                   m->name);
    for (uint32_t i = 0; mi_pe_delay_import_at(&m->pe, i, &imp); i++)
        doctor_say(d, DOCTOR_INFO, "delay",
                   "%s is loaded on first use; its C runtime is redirected then", imp.dll);
}

// ---- the closure ----

static void judge_missing(doctor_t *d) {
    for (uint32_t i = 1; i < d->module_count; i++) {
        const doctor_module_t *m = d->modules[i];
        if (m->origin != DOCTOR_MISSING || doctor_is_ours(m))
            continue;
        // Only what the program's own files need is told; the system's DLLs have needs of their
        // own.
        if (d->modules[m->parent]->origin == DOCTOR_APP)
            doctor_cure(doctor_say(d, DOCTOR_INFO, "not-found",
                                   "%s, needed by %s, was not found here; it is judged as absent",
                                   m->name, d->modules[m->parent]->name),
                        "name its folder with --dll-folder");
    }
}

// What changes the meaning of names: side-by-side assemblies, .local, the system's settings.
static void judge_names(doctor_t *d) {
    static plat_policy_t policies[16];
    for (uint32_t i = 0; i < d->assembly_count; i++) {
        const doctor_assembly_t *a = &d->assemblies[i];
        const char *owner = d->modules[a->owner]->name;
        if (a->is_found)
            doctor_say(d, DOCTOR_INFO, "assembly",
                       "the manifest of %s takes the assembly %s %s from %s", owner, a->name,
                       a->version, a->folder[0] != 0 ? a->folder : ".");
        else
            doctor_say(d, DOCTOR_INFO, "assembly-missing",
                       "the manifest of %s needs the assembly %s, which was not found here", owner,
                       a->name);
    }
    if (d->local_folder[0] != 0)
        doctor_say(d, DOCTOR_INFO, "local",
                   "%s makes the loader prefer the DLLs beside the program (Windows asks for the "
                   "setting DevOverrideEnable, too)",
                   d->local_folder);
    uint32_t n = plat_policies(d->modules[0]->path, policies, 16);
    for (uint32_t i = 0; i < n; i++)
        doctor_say(d, DOCTOR_INFO, policies[i].code, "%s", policies[i].text);
}

static void judge_crts(doctor_t *d) {
    for (uint32_t i = 1; i < d->module_count; i++) {
        const doctor_module_t *m = d->modules[i];
        if (!m->is_crt)
            continue;
        const mi_reason_row_t *why = mi_reason_row(m->crt_reason);
        if (m->crt_reason == MI_REASON_NONE)
            doctor_say(d, DOCTOR_OK, "crt",
                       "%s (%s): %u functions can be redirected at their entries", m->name, m->path,
                       m->crt_functions);
        else if (m->crt_rung == MI_RUNG_TABLES)
            doctor_cure(
                doctor_say(d, DOCTOR_INFO, "crt-tables",
                           "%s (%s): %u functions can be redirected by import and export tables "
                           "only, calls inside it stay its own: reason %d, %s",
                           m->name, m->path, m->crt_functions, (int)m->crt_reason, why->cause),
                "%s", why->cure);
        else
            doctor_cure(doctor_say(d, DOCTOR_WARN, "crt-refused",
                                   "%s (%s) cannot be redirected: reason %d, %s", m->name, m->path,
                                   (int)m->crt_reason, why->cause),
                        "%s", why->cure);
    }
}

static void judge_static_crts(doctor_t *d) {
    for (uint32_t i = 0; i < d->module_count; i++) {
        const doctor_module_t *m = d->modules[i];
        char evidence[300];
        if (m->has_static_crt == DOCTOR_STATIC_NO)
            continue;
        mi_pe_evidence_text(&m->evidence, evidence, sizeof evidence);
        doctor_cure(doctor_say(d, DOCTOR_WARN, "static-crt",
                               "%s %s a statically linked C runtime (%u percent sure): %s. Its own "
                               "malloc stays as it is",
                               m->name,
                               m->has_static_crt == DOCTOR_STATIC_LIKELY ? "has" : "may have",
                               m->evidence.confidence, evidence),
                    "link it with the DLL runtime (/MD), or link mimalloc into it");
    }
}

static void judge_use(doctor_t *d) {
    bool uses = false;
    for (uint32_t i = 0; i < d->module_count; i++)
        uses = uses || (d->modules[i]->crt_of != UINT32_MAX && d->modules[i]->origin == DOCTOR_APP);
    if (!uses && d->verdict == DOCTOR_REDIRECTED)
        doctor_say(
            d, DOCTOR_WARN, "no-use",
            "no file of the program calls a C runtime DLL's malloc, so nothing of its own changes");
}

// The files of the program that allocate from a C runtime, and whether none of those can be
// redirected, on whichever rung.
static void judge_refusals(doctor_t *d) {
    uint32_t uses = 0, refused = 0;
    for (uint32_t i = 0; i < d->module_count; i++) {
        const doctor_module_t *m = d->modules[i];
        if (m->crt_of == UINT32_MAX || m->origin != DOCTOR_APP)
            continue;
        const doctor_module_t *crt = d->modules[m->crt_of];
        uses++;
        refused += (crt->is_crt && crt->crt_rung == MI_RUNG_NONE);
    }
    if (uses > 0 && refused == uses)
        doctor_cure(doctor_say(d, DOCTOR_BAD, "crt-all-refused",
                               "no C runtime that a file of the program allocates from can be "
                               "redirected"),
                    "link the allocator into the program");
}

void doctor_judge(doctor_t *d) {
    d->verdict = DOCTOR_REDIRECTED;
    for (uint32_t i = 0; i < d->module_count; i++)
        examine_crt(d->modules[i]);
    for (uint32_t i = 0; i < d->module_count; i++) {
        find_crt_use(d, d->modules[i]);
        find_static_crt(d->modules[i]);
    }
    doctor_judge_halves(d);
    judge_crts(d);
    judge_static_crts(d);
    judge_use(d);
    doctor_judge_mixes(d);
    doctor_judge_com(d);
    judge_program(d);
    judge_names(d);
    judge_missing(d);
    d->installs = (d->verdict != DOCTOR_NOT);
    judge_refusals(d);
}
