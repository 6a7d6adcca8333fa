// check: the doctor's answer as text or JSON; check --plan: what would be patched in a C runtime's
// file.
#include "minject/doctor.h"
#include "base/text.h"
#include "pe/plan_com.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const level_names[] = {"ok", "info", "warning", "bad"};

// ---- JSON ----

static void json_string(const char *s) {
    char buf[8192];
    mi_text_t t;
    mi_text_init(&t, buf, sizeof buf);
    mi_text_json(&t, s);
    fputs(buf, stdout);
}

static void json_field(const char *name, const char *value, const char *end) {
    printf("\"%s\": ", name);
    json_string(value);
    fputs(end, stdout);
}

static void json_modules(const doctor_t *d) {
    static const char *const origins[] = {"program", "system", "known", "missing", "assembly"};
    static const char *const roles[] = {"other", "redirect", "allocator"};
    static const char *const statics[] = {"no", "maybe", "likely"};
    printf("  \"modules\": [");
    for (uint32_t i = 0; i < d->order_count; i++) {
        const doctor_module_t *m = d->modules[d->order[i]];
        printf("%s\n    {\"order\": %u, ", i != 0 ? "," : "", m->order);
        json_field("name", m->name, ", ");
        json_field("path", m->path, ", ");
        json_field("origin", origins[m->origin], ", ");
        json_field("machine", m->is_open ? mi_pe_machine_name(m->pe.machine) : "", ", ");
        json_field("role", m->is_crt ? "crt" : roles[m->role], ", ");
        json_field("static_crt", statics[m->has_static_crt], ", ");
        printf("\"static_confidence\": %u, ", m->evidence.confidence);
        json_field("malloc_of", m->crt_of != UINT32_MAX ? d->modules[m->crt_of]->name : "", ", ");
        printf("\"crt_functions\": %u, \"crt_rung\": \"%s\", \"crt_reason\": %d}", m->crt_functions,
               mi_rung_text(m->crt_rung), (int)m->crt_reason);
    }
    printf("\n  ]\n");
}

static void json_live(const doctor_t *d) {
    printf("  \"live\": [");
    for (uint32_t i = 0; i < d->live_count; i++) {
        const doctor_live_t *l = &d->live[i];
        printf("%s\n    {", i != 0 ? "," : "");
        json_field("name", l->name, ", ");
        printf("\"foretold\": %s, \"predicted\": %s, \"happened\": %s, \"predicted_late\": %s, "
               "\"happened_late\": %s}",
               l->is_foretold ? "true" : "false", l->predicted ? "true" : "false",
               l->happened ? "true" : "false", l->predicted_late ? "true" : "false",
               l->happened_late ? "true" : "false");
    }
    printf("\n  ],\n");
}

static void json_pairs(const doctor_t *d) {
    printf("  \"pairs\": [");
    for (uint32_t i = 0; i < d->pair_count; i++) {
        const doctor_pair_t *p = &d->pairs[i];
        const doctor_module_t *a = d->modules[p->caller];
        const doctor_module_t *b = d->modules[p->callee];
        printf("%s\n    {", i != 0 ? "," : "");
        json_field("caller", a->name, ", ");
        json_field("caller_crt", d->modules[a->crt_of]->name, ", ");
        json_field("callee", b->name, ", ");
        json_field("callee_crt", d->modules[b->crt_of]->name, ", ");
        printf("\"functions\": %u, \"debug_release\": %s}", p->functions,
               p->is_debug_release ? "true" : "false");
    }
    printf("\n  ],\n");
}

static void print_json(const doctor_t *d) {
    static const char *const verdicts[] = {"redirected", "partly", "not"};
    printf("{\n  \"schema\": 1,\n  ");
    json_field("program", d->modules[0]->path, ",\n  ");
    json_field("machine", mi_pe_machine_name(d->modules[0]->pe.machine), ",\n  ");
    json_field("verdict", verdicts[d->verdict], ",\n  ");
    printf("\"late\": %s,\n  \"findings\": [", d->is_late ? "true" : "false");
    for (uint32_t i = 0; i < d->finding_count; i++) {
        const doctor_finding_t *f = &d->findings[i];
        printf("%s\n    {", i != 0 ? "," : "");
        json_field("level", level_names[f->level], ", ");
        json_field("code", f->code, ", ");
        json_field("text", f->text, ", ");
        json_field("cure", f->cure, "}");
    }
    printf("\n  ],\n");
    json_pairs(d);
    json_live(d);
    json_modules(d);
    printf("}\n");
}

// ---- check --plan ----

static void print_sites(const mi_plan_t *plan) {
    for (uint32_t i = 0; i < plan->site_count; i++) {
        const mi_plan_site_t *s = &plan->sites[i];
        printf("  %-32s %08x  %-10s %s\n", s->name, s->rva,
               mi_site_verdict_text((mi_site_verdict_t)s->verdict),
               s->reason != MI_REASON_NONE ? mi_reason_row((mi_reason_t)s->reason)->name : "");
    }
}

// COM's task memory, when the file owns it: a family beside a C runtime's.
static bool plan_com(const char *path, const mi_pe_t *pe, mi_plan_t *plan) {
    bool good = mi_com_plan_make(pe, plan);
    const mi_reason_row_t *why = mi_reason_row(plan->reason);
    if (good)
        printf("%s: owns COM's task memory: %u functions would be patched, if "
               "MIMALLOC_REDIRECT_COTASKMEM=1 asks for it\n",
               path, plan->patch_count);
    else
        printf("%s: owns COM's task memory: refused, reason %d: %s\n  cure: %s\n", path,
               (int)plan->reason, why->cause, why->cure);
    print_sites(plan);
    return good;
}

static int plan_file(const char *path) {
    static mi_plan_t plan;
    plat_file_t file;
    mi_pe_t pe;
    minject_exit_t rc = cli_open(path, &file, &pe);
    if (rc != EXIT_OK)
        return (int)rc;
    bool good = false;
    if (!mi_plan_is_crt(&pe) && mi_com_is_owner(&pe)) {
        good = plan_com(path, &pe, &plan);
    } else if (!mi_plan_is_crt(&pe)) {
        printf("%s: not a C runtime (it does not export the allocation family)\n", path);
    } else {
        mi_plan_make(&pe, &plan);
        const mi_reason_row_t *why = mi_reason_row(plan.reason);
        const mi_rung_t rung = mi_plan_rung(&plan);
        good = (rung != MI_RUNG_NONE);
        if (rung == MI_RUNG_ENTRY)
            printf("%s: %u functions would be patched\n", path, plan.patch_count);
        else if (rung == MI_RUNG_TABLES)
            printf("%s: %u functions would be redirected by tables, not at their entries, "
                   "reason %d: %s\n  cure: %s\n",
                   path, plan.table_count, (int)plan.reason, why->cause, why->cure);
        else
            printf("%s: refused, reason %d: %s\n  cure: %s\n", path, (int)plan.reason, why->cause,
                   why->cure);
        printf("  rung: %s\n", mi_rung_text(rung));
        print_sites(&plan);
    }
    plat_free_file(&file);
    return good ? EXIT_OK : EXIT_CHECK_NOT;
}

static int check_file(const cli_t *cli, const char *path) {
    static const int codes[] = {EXIT_OK, EXIT_CHECK_PARTLY, EXIT_CHECK_NOT};
    static doctor_t d; // large
    bool agrees = true;
    int code = (int)doctor_load(&d, cli, path);
    if (code == EXIT_OK) {
        doctor_judge(&d);
        if (cli->is_live)
            code = (int)doctor_live(&d, cli->files, &agrees);
        if (cli->is_json)
            print_json(&d);
        else
            doctor_print(&d);
        if (code == EXIT_OK)
            code = agrees ? codes[d.verdict] : EXIT_CHECK_DIFFERS;
    }
    doctor_free(&d);
    return code;
}

int cmd_check(const cli_t *cli) {
    int worst = EXIT_OK;
    int count = cli->is_live ? 1 : cli->file_count; // the others are the program's arguments
    for (int i = 0; i < count; i++) {
        int code = cli->is_plan ? plan_file(cli->files[i]) : check_file(cli, cli->files[i]);
        if (code != EXIT_OK)
            worst = code;
    }
    return worst;
}
