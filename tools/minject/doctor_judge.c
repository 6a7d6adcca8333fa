// The conclusions: what the files say about the redirection, each with a cure.
#include "minject/doctor.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static doctor_finding_t *find_say(doctor_t *d, doctor_level_t level, const char *code,
                                  const char *fmt, ...) MI_PRINTF(4, 5);
static void find_cure(doctor_finding_t *f, const char *fmt, ...) MI_PRINTF(2, 3);

static doctor_finding_t *find_say(doctor_t *d, doctor_level_t level, const char *code,
                                  const char *fmt, ...) {
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

static void find_cure(doctor_finding_t *f, const char *fmt, ...) {
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

static bool is_ours(const doctor_module_t *m) {
    return m->role != MI_PE_ROLE_OTHER;
}

// The C runtime from which a module takes allocation functions.
static void find_crt_use(doctor_module_t *m) {
    mi_pe_import_t imp;
    mi_pe_thunk_t t;
    for (uint32_t i = 0; m->is_open && m->crt_of == UINT32_MAX && mi_pe_import_at(&m->pe, i, &imp);
         i++) {
        if (!cli_is_crt_name(imp.dll) || i >= m->need_count)
            continue;
        for (uint32_t k = 0; mi_pe_thunk_at(&m->pe, &imp, k, &t); k++) {
            if (t.name != NULL && mi_crt_name_find(t.name) != NULL) {
                m->crt_of = m->needs[i];
                break;
            }
        }
    }
}

// A linked-in runtime is recognised by what it must import itself: the whole heap family, together
// with the thread, console and locale functions that a runtime's start-up and standard streams use.
static void find_static_crt(doctor_module_t *m) {
    static const char *const heap[] = {"HeapAlloc", "HeapFree", "HeapReAlloc", "HeapSize",
                                       "GetProcessHeap"};
    static const char *const runtime[] = {
        "FlsAlloc",      "TlsAlloc",        "GetStringTypeW",
        "LCMapStringW",  "GetCommandLineA", "GetStartupInfoW",
        "SetStdHandle",  "GetCPInfo",       "GetEnvironmentStringsW",
        "EncodePointer", "WriteConsoleW"};
    mi_pe_import_t imp;
    mi_pe_thunk_t t;
    size_t heaps = 0;
    size_t others = 0;
    if (!m->is_open || m->origin != DOCTOR_APP || m->crt_of != UINT32_MAX || m->is_crt)
        return;
    for (uint32_t i = 0; mi_pe_import_at(&m->pe, i, &imp); i++) {
        for (uint32_t k = 0; mi_pe_thunk_at(&m->pe, &imp, k, &t); k++) {
            for (size_t w = 0; t.name != NULL && w < sizeof heap / sizeof heap[0]; w++)
                heaps += mi_str_eq(t.name, heap[w]) ? 1 : 0;
            for (size_t w = 0; t.name != NULL && w < sizeof runtime / sizeof runtime[0]; w++)
                others += mi_str_eq(t.name, runtime[w]) ? 1 : 0;
        }
    }
    if (heaps < 3 || others < 3)
        return;
    m->has_static_crt = heaps >= 4 && others >= 5 ? DOCTOR_STATIC_LIKELY : DOCTOR_STATIC_MAYBE;
    snprintf(m->static_evidence, sizeof m->static_evidence,
             "imports no C runtime's malloc, but %u of 5 heap functions and %u of 11 functions "
             "that a runtime's "
             "start-up uses",
             (unsigned)heaps, (unsigned)others);
}

static void examine_crt(doctor_module_t *m) {
    static mi_plan_t plan; // large; one thread
    if (!m->is_open || is_ours(m) || !mi_plan_is_crt(&m->pe))
        return;
    m->is_crt = true;
    mi_plan_make(&m->pe, &plan);
    m->crt_reason = plan.reason;
    m->crt_functions = plan.patch_count;
}

// ---- the program and our two DLLs ----

static uint32_t find_role(const doctor_t *d, mi_pe_role_t role) {
    for (uint32_t i = 1; i < d->module_count; i++) {
        if (d->modules[i]->role == role)
            return i;
    }
    return UINT32_MAX;
}

static void judge_program(doctor_t *d) {
    const doctor_module_t *m = d->modules[0];
    mi_pe_clr_t clr;
    mi_pe_load_config_t config;
    mi_pe_range_t range;
    mi_pe_import_t imp;
    if (mi_pe_clr(&m->pe, &clr))
        find_cure(
            find_say(d, clr.is_il_only ? DOCTOR_BAD : DOCTOR_INFO, "dotnet",
                     "%s is a .NET program%s", m->name,
                     clr.is_il_only ? " without native code; its import table is not read" : ""),
            "%s", clr.is_il_only ? "let a native DLL that it calls load mimalloc.dll" : "");
    if (mi_pe_load_config(&m->pe, &config) && config.chpe_rva != 0)
        find_say(d, DOCTOR_BAD, "hybrid", "%s holds ARM64EC or ARM64X code, which is not supported",
                 m->name);
    if ((m->pe.dll_characteristics & MI_PE_DLLFLAG_INTEGRITY) != 0)
        find_say(d, DOCTOR_INFO, "integrity", "%s demands a valid signature of every module",
                 m->name);
    if ((m->pe.dll_characteristics & MI_PE_DLLFLAG_GUARD_CF) != 0)
        find_say(d, DOCTOR_INFO, "cfg", "%s uses control flow guard; the redirection works with it",
                 m->name);
    if ((m->pe.dll_characteristics & MI_PE_DLLFLAG_APPCONT) != 0)
        find_say(d, DOCTOR_INFO, "appcontainer",
                 "%s runs in an app container: the DLLs must be readable there", m->name);
    if (mi_pe_directory(&m->pe, MI_PE_DIR_SECURITY, &range) && range.bytes != 0)
        find_say(d, DOCTOR_INFO, "signed",
                 "%s is signed; injecting makes the signature void, run does not", m->name);
    else if (mi_pe_end_of_contents(&m->pe) < m->pe.size)
        find_say(d, DOCTOR_INFO, "overlay", "%s carries %llu bytes behind its last section",
                 m->name, (unsigned long long)(m->pe.size - mi_pe_end_of_contents(&m->pe)));
    if (mi_pe_directory(&m->pe, MI_PE_DIR_BOUND_IMPORT, &range))
        find_say(d, DOCTOR_INFO, "bound", "%s has bound imports; they are cleared by inject",
                 m->name);
    for (uint32_t i = 0; mi_pe_delay_import_at(&m->pe, i, &imp); i++)
        find_say(d, DOCTOR_INFO, "delay",
                 "%s is loaded on first use; its C runtime is redirected then", imp.dll);
}

// One of our DLLs: there, of the right machine, with the exports that the other half looks for.
static bool judge_half(doctor_t *d, uint32_t index, const char *const *exports, const char *what) {
    const doctor_module_t *m = d->modules[index];
    mi_pe_export_t e;
    mi_pe_version_t v;
    uint16_t machine = d->modules[0]->pe.machine;
    if (m->path[0] == 0) {
        find_cure(find_say(d, DOCTOR_BAD, "dll-missing",
                           "%s is imported but not beside the program; it will not start", m->name),
                  "copy the %s build of %s beside %s", mi_pe_machine_name(machine), m->name,
                  d->modules[0]->name);
        return false;
    }
    if (!m->is_open || m->pe.machine != machine) {
        find_cure(find_say(d, DOCTOR_BAD, "dll-machine", "%s is %s, the program is %s", m->path,
                           m->is_open ? mi_pe_machine_name(m->pe.machine) : "not a valid DLL",
                           mi_pe_machine_name(machine)),
                  "copy the %s build there", mi_pe_machine_name(machine));
        return false;
    }
    for (; *exports != NULL; exports++) {
        if (mi_pe_export_find(&m->pe, *exports, &e))
            continue;
        find_cure(find_say(d, DOCTOR_BAD, "dll-exports", "%s does not export %s: it is not the %s",
                           m->path, *exports, what),
                  "replace it with the one that came with minject");
        return false;
    }
    char version[48] = "";
    if (mi_pe_file_version(&m->pe, &v))
        snprintf(version, sizeof version, ", version %u.%u.%u.%u", v.part[0], v.part[1], v.part[2],
                 v.part[3]);
    find_say(d, DOCTOR_OK, "dll", "%s is there: %s, %s%s", m->name, what,
             mi_pe_machine_name(machine), version);
    return true;
}

static uint32_t first_of_order(const doctor_t *d, bool (*is)(const doctor_module_t *)) {
    for (uint32_t i = 0; i < d->order_count; i++) {
        if (is(d->modules[d->order[i]]))
            return d->order[i];
    }
    return UINT32_MAX;
}

static bool is_crt(const doctor_module_t *m) {
    return m->is_crt || (m->origin == DOCTOR_KNOWN && cli_is_crt_name(m->name));
}

// "game.exe -> foo.dll -> msvcrt.dll"
static void path_to(const doctor_t *d, uint32_t index, char *out, size_t cap) {
    uint32_t chain[16];
    size_t n = 0;
    for (; n < 16; index = d->modules[index]->parent) {
        chain[n++] = index;
        if (index == 0)
            break;
    }
    out[0] = 0;
    while (n > 0) {
        size_t used = strlen(out);
        snprintf(out + used, cap - used, "%s%s", used != 0 ? " -> " : "",
                 d->modules[chain[--n]]->name);
    }
}

static void judge_order(doctor_t *d, uint32_t first_half) {
    char path[400];
    d->half = first_half;
    uint32_t crt = first_of_order(d, is_crt);
    if (crt == UINT32_MAX || d->modules[crt]->order > d->modules[first_half]->order) {
        find_say(d, DOCTOR_OK, "early", "%s is initialised before every C runtime",
                 d->modules[first_half]->name);
        return;
    }
    d->is_late = true;
    path_to(d, crt, path, sizeof path);
    find_cure(find_say(d, DOCTOR_INFO, "late",
                       "%s is initialised before the redirection (%s): it will be redirected late; "
                       "blocks from before "
                       "stay in its own heap and are handled there",
                       d->modules[crt]->name, path),
              "minject inject puts the redirection first");
}

static void judge_halves(doctor_t *d) {
    static const char *const redirect_exports[] = {"mi_allocator_init", NULL};
    static const char *const allocator_exports[] = {"mi_version", "_mi_redirect_entry", NULL};
    uint32_t redirect = find_role(d, MI_PE_ROLE_REDIRECT);
    uint32_t allocator = find_role(d, MI_PE_ROLE_ALLOCATOR);
    const char *wanted = mi_pe_redirect_name(d->modules[0]->pe.machine);
    char found[CLI_PATH_BYTES];
    if (allocator == UINT32_MAX) {
        find_cure(find_say(d, DOCTOR_BAD, "not-injected",
                           "neither %s nor its DLLs import the allocator's DLL",
                           d->modules[0]->name),
                  "minject inject %s, or start it with minject run", d->modules[0]->name);
        return;
    }
    bool good = judge_half(d, allocator, allocator_exports, "allocator");
    if (redirect != UINT32_MAX) {
        if (judge_half(d, redirect, redirect_exports, "redirection") && good)
            judge_order(d, redirect);
    } else if (!plat_find_in_folder(d->app_folder, wanted, found, sizeof found)) {
        find_cure(find_say(d, DOCTOR_BAD, "redirect-missing",
                           "%s is not imported, and not beside the program", wanted),
                  "copy %s beside %s", wanted, d->modules[0]->name);
    } else if (good) {
        find_say(d, DOCTOR_OK, "redirect-beside",
                 "%s is beside the program; the allocator's DLL loads it", wanted);
        judge_order(d, allocator);
    }
}

// ---- the closure ----

static void judge_missing(doctor_t *d) {
    for (uint32_t i = 1; i < d->module_count; i++) {
        const doctor_module_t *m = d->modules[i];
        if (m->origin != DOCTOR_MISSING || is_ours(m))
            continue;
        // Only what the program's own files need is told; the system's DLLs have needs of their
        // own.
        if (d->modules[m->parent]->origin == DOCTOR_APP)
            find_cure(find_say(d, DOCTOR_INFO, "not-found",
                               "%s, needed by %s, was not found here; it is judged as absent",
                               m->name, d->modules[m->parent]->name),
                      "name its folder with --dll-folder");
    }
}

static void judge_crts(doctor_t *d) {
    for (uint32_t i = 1; i < d->module_count; i++) {
        const doctor_module_t *m = d->modules[i];
        if (!m->is_crt)
            continue;
        const mi_reason_row_t *why = mi_reason_row(m->crt_reason);
        if (m->crt_reason == MI_REASON_NONE)
            find_say(d, DOCTOR_OK, "crt", "%s (%s): %u functions can be redirected", m->name,
                     m->path, m->crt_functions);
        else
            find_cure(find_say(d, DOCTOR_WARN, "crt-refused",
                               "%s (%s) cannot be redirected: reason %d, %s", m->name, m->path,
                               (int)m->crt_reason, why->cause),
                      "%s", why->cure);
    }
}

static void judge_static_crts(doctor_t *d) {
    for (uint32_t i = 0; i < d->module_count; i++) {
        const doctor_module_t *m = d->modules[i];
        if (m->has_static_crt == DOCTOR_STATIC_NO || m->origin != DOCTOR_APP || is_ours(m))
            continue;
        find_cure(find_say(d, DOCTOR_WARN, "static-crt",
                           "%s %s a statically linked C runtime: %s. Its own malloc stays as it is",
                           m->name, m->has_static_crt == DOCTOR_STATIC_LIKELY ? "has" : "may have",
                           m->static_evidence),
                  "link it with the DLL runtime (/MD), or link mimalloc into it");
    }
}

static bool is_debug_crt(const char *name) {
    size_t n = strlen(name);
    return cli_is_crt_name(name) && n > 5 && (name[n - 5] | 0x20) == 'd' &&
           !mi_str_eq_nocase(name, "crtdll.dll");
}

// Runtimes that the program's own files use side by side: blocks may cross between them.
static void judge_mixes(doctor_t *d) {
    uint32_t first = UINT32_MAX;
    bool has_debug = false;
    bool has_release = false;
    for (uint32_t i = 0; i < d->module_count; i++) {
        const doctor_module_t *m = d->modules[i];
        if (m->crt_of == UINT32_MAX || m->origin != DOCTOR_APP)
            continue;
        const char *crt = d->modules[m->crt_of]->name;
        has_debug = has_debug || is_debug_crt(crt);
        has_release = has_release || !is_debug_crt(crt);
        if (first == UINT32_MAX)
            first = i;
        else if (m->crt_of != d->modules[first]->crt_of)
            find_say(d, DOCTOR_INFO, "crt-mix",
                     "%s uses %s, %s uses %s: with both redirected, blocks may cross between them",
                     m->name, crt, d->modules[first]->name,
                     d->modules[d->modules[first]->crt_of]->name);
    }
    if (has_debug && has_release)
        find_cure(
            find_say(d, DOCTOR_WARN, "debug-release-mix", "debug and release runtimes are mixed"),
            "build all modules for the same runtime");
}

static void judge_second_allocators(doctor_t *d) {
    static const char *const names[] = {"tbbmalloc", "jemalloc",     "libjemalloc",
                                        "tcmalloc",  "libtcmalloc",  "libmimalloc",
                                        "vld",       "clang_rt.asan"};
    for (uint32_t i = 1; i < d->module_count; i++) {
        const char *name = d->modules[i]->name;
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            size_t n = strlen(names[k]);
            if (strlen(name) >= n && strncmp(name, names[k], n) == 0)
                find_cure(find_say(d, DOCTOR_WARN, "second-allocator",
                                   "%s is another allocator in the same process", name),
                          "use one of the two");
        }
    }
}

static void judge_use(doctor_t *d) {
    bool uses = false;
    for (uint32_t i = 0; i < d->module_count; i++)
        uses = uses || (d->modules[i]->crt_of != UINT32_MAX && d->modules[i]->origin == DOCTOR_APP);
    if (!uses && d->verdict == DOCTOR_REDIRECTED)
        find_say(
            d, DOCTOR_WARN, "no-use",
            "no file of the program calls a C runtime DLL's malloc, so nothing of its own changes");
}

void doctor_judge(doctor_t *d) {
    d->verdict = DOCTOR_REDIRECTED;
    for (uint32_t i = 0; i < d->module_count; i++) {
        examine_crt(d->modules[i]);
        find_crt_use(d->modules[i]);
        find_static_crt(d->modules[i]);
    }
    judge_halves(d);
    judge_crts(d);
    judge_static_crts(d);
    judge_use(d);
    judge_mixes(d);
    judge_second_allocators(d);
    judge_program(d);
    judge_missing(d);
}
