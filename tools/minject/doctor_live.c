// The prediction against reality: the program runs once with the redirection's report going to a
// file, and the report is compared with what the files said. A line of the report that matters:
//   mimalloc-redirect: msvcrt.dll 7.0.2600.2180 at 0x228280000: redirected, 14 functions ...,
//   early, proof: ...
#include "minject/doctor.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#define PREFIX     "mimalloc-redirect: "
#define LIVE_MAX   (sizeof((doctor_t *)0)->live / sizeof(doctor_live_t))
#define LINE_BYTES 1024u

static doctor_live_t *live_row(doctor_t *d, const char *name) {
    for (uint32_t i = 0; i < d->live_count; i++) {
        if (mi_str_eq_nocase(d->live[i].name, name))
            return &d->live[i];
    }
    if (d->live_count >= LIVE_MAX)
        return NULL;
    doctor_live_t *row = &d->live[d->live_count++];
    *row = (doctor_live_t){.is_foretold = false};
    snprintf(row->name, sizeof row->name, "%s", name);
    return row;
}

static void note_line(doctor_t *d, const char *line) {
    char name[DOCTOR_NAME_BYTES];
    const char *state = strstr(line, ": redirected, ");
    const char *left = strstr(line, ": left alone");
    if ((state == NULL && left == NULL) || strstr(line, " at 0x") == NULL)
        return;
    size_t n = strcspn(line, " ");
    if (n == 0 || n >= sizeof name)
        return;
    memcpy(name, line, n);
    name[n] = 0;
    doctor_live_t *row = live_row(d, name);
    if (row == NULL)
        return;
    row->happened = state != NULL;
    row->happened_late = state != NULL && strstr(state, ", late") != NULL;
}

static void read_log(doctor_t *d, const plat_file_t *log) {
    char line[LINE_BYTES];
    size_t at = 0;
    while (at < log->size) {
        size_t n = 0;
        for (; at < log->size && log->bytes[at] != '\n'; at++) {
            if (n + 1 < sizeof line)
                line[n++] = (char)log->bytes[at];
        }
        at++;
        line[n] = 0;
        if (mi_str_starts(line, PREFIX))
            note_line(d, line + sizeof PREFIX - 1);
    }
}

// Every C runtime of the closure gets a row with the prediction, whether the report names it or
// not.
static void add_predictions(doctor_t *d) {
    for (uint32_t i = 1; i < d->module_count; i++) {
        const doctor_module_t *m = d->modules[i];
        if (!m->is_crt || m->order == 0)
            continue;
        doctor_live_t *row = live_row(d, m->name);
        if (row == NULL)
            continue;
        row->is_foretold = true;
        row->predicted = d->half != 0 && d->installs && m->crt_rung != MI_RUNG_NONE;
        row->predicted_late = row->predicted && m->order < d->modules[d->half]->order;
    }
}

minject_exit_t doctor_live(doctor_t *d, char **args, bool *agrees) {
    plat_file_t log;
    int exit_code = 0;
    *agrees = true;
    if (!plat_run_logged(args, &log, &exit_code)) {
        say_error("%s: cannot be started: %s; without --live it is only read", args[0],
                  plat_last_error());
        return EXIT_NO_RUNNER;
    }
    add_predictions(d);
    read_log(d, &log);
    plat_free_file(&log);
    for (uint32_t i = 0; i < d->live_count; i++) {
        const doctor_live_t *l = &d->live[i];
        if (l->is_foretold &&
            (l->predicted != l->happened || l->predicted_late != l->happened_late))
            *agrees = false;
    }
    say_note(d->cli, "%s ended with exit code %d", args[0], exit_code);
    return EXIT_OK;
}
