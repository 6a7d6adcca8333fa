// Our two DLLs: are they there, do they fit, do they come first.
#include "minject/doctor.h"
#include "base/text.h"
#include "pe/pe_overlay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t find_role(const doctor_t *d, mi_pe_role_t role) {
    for (uint32_t i = 1; i < d->module_count; i++) {
        if (d->modules[i]->role == role)
            return i;
    }
    return UINT32_MAX;
}

static bool has_export(const doctor_module_t *m, const char *name) {
    mi_pe_export_t e;
    return mi_pe_export_find(&m->pe, name, &e);
}

// The two halves find each other by what they export, whatever their files are called, so a file of
// another name counts, too.
static void find_halves_by_exports(doctor_t *d) {
    for (uint32_t i = 1; i < d->module_count; i++) {
        doctor_module_t *m = d->modules[i];
        if (m->role != MI_PE_ROLE_OTHER || !m->is_open || m->origin != DOCTOR_APP)
            continue;
        if (has_export(m, "_mi_redirect_allocator") ||
            (has_export(m, "_mi_redirect_entry") && has_export(m, "mi_malloc") &&
             has_export(m, "mi_is_in_heap_region")))
            m->role = MI_PE_ROLE_ALLOCATOR;
        else if (has_export(m, "mi_allocator_init") && has_export(m, "mi_allocator_done"))
            m->role = MI_PE_ROLE_REDIRECT;
    }
}

// The words that our builds carry in their version resource; the original's builds do not.
#define VARIANT_WORD   "MimallocVariant"
#define HANDSHAKE_WORD "MimallocHandshake"

// mimalloc-debug.dll that is a release build, and the like: nothing breaks, but it is not what was
// asked for.
static void judge_variant(doctor_t *d, const doctor_module_t *m, const char *variant) {
    bool says_debug = strstr(m->name, "-debug") != NULL;
    bool says_secure = strstr(m->name, "-secure") != NULL;
    bool is_plain = mi_str_eq_nocase(m->name, "mimalloc.dll");
    if ((is_plain && !mi_str_eq(variant, "release")) ||
        (says_debug && !mi_str_eq(variant, "debug")) ||
        (says_secure && !mi_str_eq(variant, "secure")))
        doctor_cure(doctor_say(d, DOCTOR_INFO, "variant", "%s is a %s build by its contents",
                               m->name, variant),
                    "copy the build there that its name promises");
}

static void say_half(doctor_t *d, const doctor_module_t *m, const char *what) {
    mi_pe_version_t v;
    char word[32];
    char facts[160];
    mi_text_t t;
    mi_text_init(&t, facts, sizeof facts);
    if (mi_pe_file_version(&m->pe, &v))
        mi_text_fmt(&t, ", version %u.%u.%u.%u", (unsigned)v.part[0], (unsigned)v.part[1],
                    (unsigned)v.part[2], (unsigned)v.part[3]);
    bool has_variant = mi_pe_version_word(&m->pe, VARIANT_WORD, word, sizeof word);
    if (has_variant) {
        mi_text_fmt(&t, ", %s", word);
        judge_variant(d, m, word);
    }
    if (mi_pe_version_word(&m->pe, HANDSHAKE_WORD, word, sizeof word))
        mi_text_fmt(&t, ", handshake %s", word);
    else
        mi_text_str(&t, ", the original's interface");
    doctor_say(d, DOCTOR_OK, "dll", "%s is there: %s, %s%s", m->name, what,
               mi_pe_machine_name(m->pe.machine), facts);
}

// The two halves, each good by itself: do they speak the same version of their handshake.
static void judge_pairing(doctor_t *d, const doctor_module_t *redirect,
                          const doctor_module_t *allocator) {
    char r[32];
    char a[32];
    mi_pe_version_t rv;
    mi_pe_version_t av;
    if (!mi_pe_version_word(&redirect->pe, HANDSHAKE_WORD, r, sizeof r) ||
        !mi_pe_version_word(&allocator->pe, HANDSHAKE_WORD, a, sizeof a)) {
        doctor_say(d, DOCTOR_INFO, "handshake",
                   "%s and %s meet by the original's interface: blocks are told apart, but the "
                   "report knows less",
                   redirect->name, allocator->name);
        return;
    }
    if (strtoul(r, NULL, 10) != strtoul(a, NULL, 10))
        doctor_cure(doctor_say(d, DOCTOR_INFO, "handshake",
                               "%s speaks handshake %s, %s speaks %s: they meet by the original's "
                               "interface",
                               redirect->name, r, allocator->name, a),
                    "take both DLLs from one release");
    if (mi_pe_file_version(&redirect->pe, &rv) && mi_pe_file_version(&allocator->pe, &av) &&
        memcmp(&rv, &av, sizeof rv) != 0)
        doctor_cure(doctor_say(d, DOCTOR_INFO, "version-mix", "%s is version %u.%u.%u, %s %u.%u.%u",
                               redirect->name, rv.part[0], rv.part[1], rv.part[2], allocator->name,
                               av.part[0], av.part[1], av.part[2]),
                    "take both DLLs from one release");
}

// One of our DLLs: there, of the right machine, with the exports that the other half looks for.
static bool judge_half(doctor_t *d, uint32_t index, const char *const *exports, const char *what) {
    const doctor_module_t *m = d->modules[index];
    uint16_t machine = d->modules[0]->pe.machine;
    if (m->path[0] == 0) {
        doctor_cure(doctor_say(d, DOCTOR_BAD, "dll-missing",
                               "%s is imported but not beside the program; it will not start",
                               m->name),
                    "copy the %s build of %s beside %s", mi_pe_machine_name(machine), m->name,
                    d->modules[0]->name);
        return false;
    }
    if (!m->is_open || m->pe.machine != machine) {
        doctor_cure(doctor_say(d, DOCTOR_BAD, "dll-machine", "%s is %s, the program is %s", m->path,
                               m->is_open ? mi_pe_machine_name(m->pe.machine) : "not a valid DLL",
                               mi_pe_machine_name(machine)),
                    "copy the %s build there", mi_pe_machine_name(machine));
        return false;
    }
    // An allocator that offers the newer interface needs no names.
    bool is_newer = m->role == MI_PE_ROLE_ALLOCATOR && has_export(m, "_mi_redirect_allocator");
    for (; *exports != NULL && !is_newer; exports++) {
        if (has_export(m, *exports))
            continue;
        doctor_cure(doctor_say(d, DOCTOR_BAD, "dll-exports",
                               "%s does not export %s: it is not the %s", m->path, *exports, what),
                    "replace it with the one that came with minject");
        return false;
    }
    say_half(d, m, what);
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
        doctor_say(d, DOCTOR_OK, "early", "%s is initialised before every C runtime",
                   d->modules[first_half]->name);
        return;
    }
    d->is_late = true;
    path_to(d, crt, path, sizeof path);
    doctor_cure(
        doctor_say(d, DOCTOR_INFO, "late",
                   "%s is initialised before the redirection (%s): it will be redirected late; "
                   "blocks from before "
                   "stay in its own heap and are handled there",
                   d->modules[crt]->name, path),
        "minject inject puts the redirection first");
}

void doctor_judge_halves(doctor_t *d) {
    static const char *const redirect_exports[] = {"mi_allocator_init", NULL};
    static const char *const allocator_exports[] = {"mi_version", "_mi_redirect_entry", NULL};
    find_halves_by_exports(d);
    uint32_t redirect = find_role(d, MI_PE_ROLE_REDIRECT);
    uint32_t allocator = find_role(d, MI_PE_ROLE_ALLOCATOR);
    const char *wanted = mi_pe_redirect_name(d->modules[0]->pe.machine);
    char found[CLI_PATH_BYTES];
    if (allocator == UINT32_MAX) {
        doctor_cure(doctor_say(d, DOCTOR_BAD, "not-injected",
                               "neither %s nor its DLLs import the allocator's DLL",
                               d->modules[0]->name),
                    mi_pe_overlay_breaks(mi_pe_overlay(&d->modules[0]->pe))
                        ? "start it with minject run %s"
                        : "minject inject %s, or start it with minject run",
                    d->modules[0]->name);
        return;
    }
    bool good = judge_half(d, allocator, allocator_exports, "allocator");
    if (redirect != UINT32_MAX) {
        if (judge_half(d, redirect, redirect_exports, "redirection") && good) {
            judge_pairing(d, d->modules[redirect], d->modules[allocator]);
            judge_order(d, redirect);
        }
    } else if (!plat_find_in_folder(d->app_folder, wanted, found, sizeof found)) {
        doctor_cure(doctor_say(d, DOCTOR_BAD, "redirect-missing",
                               "%s is not imported, and not beside the program", wanted),
                    "copy %s beside %s", wanted, d->modules[0]->name);
    } else if (good) {
        doctor_say(d, DOCTOR_OK, "redirect-beside",
                   "%s is beside the program; the allocator's DLL loads it", wanted);
        judge_order(d, allocator);
    }
}
