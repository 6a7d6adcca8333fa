// The closure: every DLL that the loader will bring in before the program starts, and their order.
#include "minject/doctor.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t doctor_find(const doctor_t *d, const char *name) {
    for (uint32_t i = 0; i < d->module_count; i++) {
        if (mi_str_eq_nocase(d->modules[i]->name, name))
            return i;
    }
    return UINT32_MAX;
}

static doctor_module_t *add_module(doctor_t *d, const char *name, uint32_t parent) {
    if (d->module_count >= DOCTOR_MODULES_MAX)
        return NULL;
    doctor_module_t *m = (doctor_module_t *)calloc(1, sizeof *m);
    if (m == NULL)
        return NULL;
    snprintf(m->name, sizeof m->name, "%s", name);
    m->parent = parent;
    m->crt_of = UINT32_MAX;
    m->role = mi_pe_role_of(name);
    d->modules[d->module_count++] = m;
    return m;
}

static void open_module(doctor_module_t *m) {
    if (m->path[0] == 0 || plat_map_file(m->path, &m->file) != PLAT_OK)
        return;
    m->is_open = mi_pe_open(&m->pe, m->file.bytes, m->file.size, false);
}

// The module of an imported name, added and located when it is new. UINT32_MAX = no room.
static uint32_t need(doctor_t *d, const char *dll, uint32_t parent) {
    char host[DOCTOR_NAME_BYTES];
    const char *name = doctor_names_host(d, dll, host, sizeof host);
    uint32_t i = doctor_find(d, name);
    if (i != UINT32_MAX)
        return i;
    doctor_module_t *m = add_module(d, name, parent);
    if (m == NULL)
        return UINT32_MAX;
    doctor_names_locate(d, m, parent);
    open_module(m);
    uint32_t index = d->module_count - 1;
    if (m->origin == DOCTOR_APP || m->origin == DOCTOR_ASSEMBLY)
        doctor_names_manifest(d, index);
    return index;
}

static void read_needs(doctor_t *d, uint32_t index) {
    doctor_module_t *m = d->modules[index];
    mi_pe_import_t imp;
    uint32_t n = m->is_open ? mi_pe_import_count(&m->pe) : 0;
    m->needs = (uint32_t *)calloc((size_t)n + 1, sizeof *m->needs);
    for (uint32_t i = 0; i < n && m->needs != NULL && mi_pe_import_at(&m->pe, i, &imp); i++) {
        uint32_t k = need(d, imp.dll, index);
        if (k != UINT32_MAX)
            m->needs[m->need_count++] = k;
    }
}

// A module is initialised after everything it imports, siblings in import order; a cycle is broken
// where it was entered first. Not a promise of Windows, but what it and Wine do.
static void walk(doctor_t *d, uint32_t index) {
    doctor_module_t *m = d->modules[index];
    if (m->is_visited)
        return;
    m->is_visited = true;
    for (uint32_t i = 0; i < m->need_count; i++)
        walk(d, m->needs[i]);
    d->order[d->order_count++] = index;
    m->order = d->order_count;
}

minject_exit_t doctor_load(doctor_t *d, const cli_t *cli, const char *path) {
    static const char *const always[] = {"ntdll.dll", "kernelbase.dll", "kernel32.dll"};
    memset(d, 0, sizeof *d);
    d->cli = cli;
    size_t folder = plat_folder_length(path);
    doctor_module_t *program = add_module(d, path + folder, 0);
    if (program == NULL || !cli_join(d->app_folder, sizeof d->app_folder, path, folder, "") ||
        !cli_join(program->path, sizeof program->path, path, strlen(path), ""))
        return EXIT_INTERNAL;
    minject_exit_t rc = cli_open(path, &program->file, &program->pe);
    if (rc != EXIT_OK)
        return rc;
    program->is_open = true;
    if (!plat_system_folder(program->pe.machine, d->system_folder, sizeof d->system_folder))
        d->system_folder[0] = 0;
    doctor_names_open(d);
    doctor_names_manifest(d, 0);
    // The list grows while it is read: each module adds what it needs.
    for (uint32_t i = 0; i < d->module_count; i++)
        read_needs(d, i);
    for (size_t i = 0; i < sizeof always / sizeof always[0]; i++) {
        uint32_t k = doctor_find(d, always[i]);
        if (k != UINT32_MAX)
            walk(d, k);
    }
    walk(d, 0);
    return EXIT_OK;
}

void doctor_free(doctor_t *d) {
    for (uint32_t i = 0; i < d->module_count; i++) {
        plat_free_file(&d->modules[i]->file);
        free(d->modules[i]->needs);
        free(d->modules[i]);
    }
    plat_free_file(&d->schema);
    d->module_count = 0;
}
