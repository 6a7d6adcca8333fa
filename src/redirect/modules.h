// The modules of this process: walks the loader's own list, so that it works inside the loader lock
// and before any CRT exists. Every function wants the loader lock held (mi_modules_lock), which may
// be taken recursively. Knows nothing of allocators or CRTs.
#ifndef MI_REDIRECT_MODULES_H
#define MI_REDIRECT_MODULES_H

#include "base/text.h"
#include "pe/pe_image.h"
#include "redirect/nt.h"

typedef struct mi_modules_lock_s {
    ULONG_PTR cookie;
    bool is_held;
} mi_modules_lock_t;

mi_modules_lock_t mi_modules_lock(void);
void mi_modules_unlock(mi_modules_lock_t lock);

// In load order, beginning with the program itself; NULL = no more. Start with NULL.
const mi_nt_module_t *mi_modules_next(const mi_nt_module_t *module);
// The module that contains the address, or NULL.
const mi_nt_module_t *mi_modules_of(const void *address);

// Opens the headers of a module for reading. false = it has none, or hides them: packers and
// protectors wipe them, or take away the right to read them.
bool mi_module_open(mi_pe_t *pe, const void *base);
// The same for its directories only.
bool mi_module_glance(mi_pe_t *pe, const void *base);
// Is an image still mapped there? Not every departure is told.
bool mi_module_is_mapped(const void *base);

// An exported function of a module, by its name; NULL = absent, or a forwarder.
void *mi_module_export(const void *base, const char *name);
// The same for several names: the headers are read once. A module that exports nothing is dismissed
// here, with false.
typedef struct mi_module_exports_s {
    mi_pe_t pe;
    mi_pe_exports_t table;
} mi_module_exports_t;
bool mi_module_exports_open(mi_module_exports_t *exports, const void *base);
void *mi_module_exports_find(const mi_module_exports_t *exports, const char *name);

// Visits every import address cell of a module, delay imports included, until visit says false. The
// cells are found by where they lie, not by name, so that imports by ordinal, api-sets and
// forwarded functions need no care: a cell holds the address that they led to.
// Linkers do not always align the cells.
typedef bool (*mi_modules_visit_t)(void *cell, uintptr_t value, void *arg);
void mi_modules_cells(const void *base, mi_modules_visit_t visit, void *arg);
// For mi_pe_import_at and mi_pe_thunk_at, wherever the descriptors lie.
bool mi_module_imports_open(mi_pe_t *pe, const void *base);

// The file name in UTF-8, without its folder.
void mi_module_name(const mi_nt_string_t *name, char *buf, size_t cap);

#endif
