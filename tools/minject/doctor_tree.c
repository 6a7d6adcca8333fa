// The doctor's answer for people: the verdict, the reasons with their cures, the tree of modules.
// Colours and lines on a terminal (unless NO_COLOR is set), plain ASCII elsewhere.
#include "minject/doctor.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 24u

typedef struct painter_s {
    const doctor_t *d;
    bool is_colored;
    bool is_shown[DOCTOR_MODULES_MAX]; // its own imports were printed
    bool is_last[DEPTH_MAX + 1];       // by depth: no sibling follows
} painter_t;

static const char *paint(const painter_t *p, const char *color) {
    return p->is_colored ? color : "";
}

static void print_finding(const painter_t *p, const doctor_finding_t *f) {
    static const char *const marks[] = {"ok  ", "    ", "WARN", "BAD "};
    static const char *const colors[] = {"\033[32m", "", "\033[33m", "\033[31m"};
    printf("  %s%s%s %s\n", paint(p, colors[f->level]), marks[f->level],
           paint(p, f->level != DOCTOR_INFO ? "\033[0m" : ""), f->text);
    if (f->cure[0] != 0)
        printf("       cure: %s\n", f->cure);
}

static void print_live(const doctor_live_t *l) {
    printf("  live %s was %s%s%s\n", l->name, l->happened ? "redirected" : "left alone",
           l->happened_late ? " late" : "",
           !l->is_foretold ? " (the program loaded it itself)"
           : l->happened == l->predicted && l->happened_late == l->predicted_late
               ? ", as foretold"
               : ", NOT as foretold");
}

// What a module is, in a few words.
static void describe(const doctor_t *d, const doctor_module_t *m, char *out, size_t cap) {
    static const char *const origins[] = {"", "", " (not at hand)", " NOT FOUND",
                                          " (side by side)"};
    mi_text_t t;
    mi_text_init(&t, out, cap);
    if (m->is_crt)
        mi_text_fmt(&t, "  C runtime%s",
                    m->crt_rung == MI_RUNG_ENTRY    ? ""
                    : m->crt_rung == MI_RUNG_TABLES ? ", by tables"
                                                    : ", refused");
    else if (m->role != MI_PE_ROLE_OTHER)
        mi_text_fmt(&t, "  %s", m->role == MI_PE_ROLE_REDIRECT ? "redirection" : "allocator");
    else if (m->crt_of != UINT32_MAX)
        mi_text_fmt(&t, "  malloc of %s", d->modules[m->crt_of]->name);
    else if (m->has_static_crt != DOCTOR_STATIC_NO)
        mi_text_fmt(&t, "  a runtime of its own, %u percent sure", m->evidence.confidence);
    mi_text_str(&t, origins[m->origin]);
}

static const char *color_of(const doctor_module_t *m) {
    if (m->origin == DOCTOR_MISSING)
        return "\033[31m";
    if (m->is_crt)
        return m->crt_reason == MI_REASON_NONE ? "\033[36m" : "\033[33m";
    if (m->role != MI_PE_ROLE_OTHER)
        return "\033[32m";
    return m->origin == DOCTOR_SYSTEM || m->origin == DOCTOR_KNOWN ? "\033[2m" : "\033[1m";
}

static void print_lines(const painter_t *p, uint32_t depth) {
    static const char *const lined[] = {"\u2502   ", "    ", "\u251C\u2500\u2500 ",
                                        "\u2514\u2500\u2500 "};
    static const char *const plain[] = {"|   ", "    ", "|-- ", "`-- "};
    const char *const *set = p->is_colored ? lined : plain;
    for (uint32_t i = 1; i < depth; i++)
        fputs(set[p->is_last[i] ? 1 : 0], stdout);
    if (depth != 0)
        fputs(set[p->is_last[depth] ? 3 : 2], stdout);
}

// Several descriptors may lead to one DLL: two API sets with one host.
static bool is_first_of_needs(const doctor_module_t *m, uint32_t i) {
    for (uint32_t k = 0; k < i; k++) {
        if (m->needs[k] == m->needs[i])
            return false;
    }
    return true;
}

// The system's own DLLs are leaves (what they import is the system's affair), except with
// --verbose. What was opened once is not repeated.
static void print_branch(painter_t *p, uint32_t index, uint32_t depth) {
    const doctor_module_t *m = p->d->modules[index];
    char words[DOCTOR_NAME_BYTES + 64];
    char order[16] = "";
    bool is_system = m->origin == DOCTOR_SYSTEM || m->origin == DOCTOR_KNOWN;
    bool opens = m->need_count != 0 && (!is_system || p->d->cli->is_verbose);
    print_lines(p, depth);
    describe(p->d, m, words, sizeof words);
    if (m->order != 0)
        snprintf(order, sizeof order, "%u ", m->order);
    printf("%s%s%s%s%s%s\n", order, paint(p, color_of(m)), m->name, paint(p, "\033[0m"), words,
           opens && p->is_shown[index] ? "  (as above)" : "");
    if (!opens || p->is_shown[index] || depth >= DEPTH_MAX)
        return;
    p->is_shown[index] = true;
    uint32_t last = 0; // the last that is not a repetition
    for (uint32_t i = 0; i < m->need_count; i++)
        last = is_first_of_needs(m, i) ? i : last;
    for (uint32_t i = 0; i <= last && i < m->need_count; i++) {
        p->is_last[depth + 1] = i == last;
        if (is_first_of_needs(m, i))
            print_branch(p, m->needs[i], depth + 1);
    }
}

void doctor_print(const doctor_t *d) {
    static painter_t p;
    static const char *const verdict_colors[] = {"\033[1;32m", "\033[1;33m", "\033[1;31m"};
    const char *no_color = getenv("NO_COLOR");
    memset(&p, 0, sizeof p);
    p.d = d;
    p.is_colored = plat_is_terminal(1) && (no_color == NULL || no_color[0] == 0);
    printf("%s: %s%s%s%s\n", d->modules[0]->path, paint(&p, verdict_colors[d->verdict]),
           doctor_verdict_text(d->verdict), paint(&p, "\033[0m"),
           d->is_late && d->verdict != DOCTOR_NOT ? ", late" : "");
    for (int level = DOCTOR_BAD; level >= DOCTOR_OK; level--) {
        for (uint32_t i = 0; i < d->finding_count; i++) {
            if ((int)d->findings[i].level == level)
                print_finding(&p, &d->findings[i]);
        }
    }
    for (uint32_t i = 0; i < d->live_count; i++)
        print_live(&d->live[i]);
    puts("modules (the numbers are the order of initialisation):");
    print_branch(&p, 0, 0);
}
