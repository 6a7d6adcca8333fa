#include "redirect/roll.h"

enum { NOTED_MAX = 64 };

// Under the loader lock.
static const mi_nt_module_t *noted[NOTED_MAX];
static size_t noted_count; // NOTED_MAX + 1 = too many: all modules are looked at

static bool may_concern(const mi_nt_module_t *module) {
    // As they stand in the table: each search begins where the one before has ended.
    static const char *const prefixes[] = {"CoTaskMemAlloc", "_mi_", "malloc", "mi_"};
    mi_pe_t pe;
    mi_pe_exports_t exports;
    uint32_t from = 0;
    if (!mi_module_glance(&pe, module->base) || !mi_pe_exports_open(&pe, &exports))
        return false;
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        from = mi_pe_export_lower(&exports, from, prefixes[i]);
        if (mi_pe_export_begins(&exports, from, prefixes[i]))
            return true;
    }
    return false;
}

void mi_roll_call(void) {
    noted_count = 0;
    for (const mi_nt_module_t *m = mi_modules_next(NULL); m != NULL && noted_count <= NOTED_MAX;
         m = mi_modules_next(m)) {
        if (!may_concern(m))
            continue;
        if (noted_count < NOTED_MAX)
            noted[noted_count] = m;
        noted_count++;
    }
}

const mi_nt_module_t *mi_roll_next(const mi_nt_module_t *module) {
    size_t i = 0;
    if (noted_count > NOTED_MAX)
        return mi_modules_next(module);
    while (module != NULL && i < noted_count && noted[i++] != module) {
    }
    return i < noted_count ? noted[i] : NULL;
}
