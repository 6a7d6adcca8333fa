// COM's task memory: does the program use it, and could it be redirected?
#include "minject/doctor.h"
#include "pe/plan_com.h"
#include "base/text.h"

static bool is_com_name(const char *name) {
    for (uint32_t fn = 0; name != NULL && fn < MI_COM_REGISTER_SPY; fn++)
        if (mi_str_eq(name, mi_com_names[fn]))
            return true;
    return false;
}

// The first function of the family that a module imports, NULL = none.
static const char *com_use_in(const mi_pe_t *pe,
                              bool (*import_at)(const mi_pe_t *, uint32_t, mi_pe_import_t *)) {
    mi_pe_import_t imp;
    mi_pe_thunk_t t;
    for (uint32_t i = 0; import_at(pe, i, &imp); i++)
        for (uint32_t k = 0; mi_pe_thunk_at(pe, &imp, k, &t); k++)
            if (is_com_name(t.name))
                return t.name;
    return NULL;
}

static const char *com_use(const mi_pe_t *pe) {
    const char *name = com_use_in(pe, mi_pe_import_at);
    return name != NULL ? name : com_use_in(pe, mi_pe_delay_import_at);
}

static const doctor_module_t *com_owner(const doctor_t *d) {
    for (uint32_t i = 1; i < d->module_count; i++)
        if (d->modules[i]->is_open && mi_com_is_owner(&d->modules[i]->pe))
            return d->modules[i];
    return NULL;
}

void doctor_judge_com(doctor_t *d) {
    static mi_plan_t plan; // large; one thread
    const doctor_module_t *user = NULL;
    const char *function = NULL;
    for (uint32_t i = 0; i < d->module_count && function == NULL; i++) {
        user = d->modules[i];
        if (user->is_open && !doctor_is_ours(user) &&
            (user->origin == DOCTOR_APP || user->origin == DOCTOR_ASSEMBLY))
            function = com_use(&user->pe);
    }
    if (function == NULL)
        return;
    const doctor_module_t *owner = com_owner(d);
    if (owner != NULL && !mi_com_plan_make(&owner->pe, &plan)) {
        doctor_say(d, DOCTOR_INFO, "com-memory",
                   "%s uses COM's task memory (%s), which stays that of %s: reason %d, %s",
                   user->name, function, owner->name, (int)plan.reason,
                   mi_reason_row(plan.reason)->cause);
        return;
    }
    doctor_cure(doctor_say(d, DOCTOR_INFO, "com-memory",
                           "%s uses COM's task memory (%s), which stays that of %s unless it is "
                           "asked for",
                           user->name, function, owner != NULL ? owner->name : "the system"),
                "MIMALLOC_REDIRECT_COTASKMEM=1");
}
