#include "redirect/modules.h"
#include "pe/plan.h"

mi_modules_lock_t mi_modules_lock(void) {
    mi_modules_lock_t lock = {0, false};
    lock.is_held = (LdrLockLoaderLock(0, NULL, &lock.cookie) >= 0);
    return lock;
}

void mi_modules_unlock(mi_modules_lock_t lock) {
    if (lock.is_held)
        (void)LdrUnlockLoaderLock(0, lock.cookie);
}

const mi_nt_module_t *mi_modules_next(const mi_nt_module_t *module) {
    mi_nt_loader_t *loader = RtlGetCurrentPeb()->loader;
    if (loader == NULL)
        return NULL;
    const LIST_ENTRY *head = &loader->load_order;
    const LIST_ENTRY *next = (module == NULL ? head->Flink : module->load_order.Flink);
    if (next == NULL || next == head)
        return NULL;
    return CONTAINING_RECORD(next, mi_nt_module_t, load_order);
}

const mi_nt_module_t *mi_modules_of(const void *address) {
    const uint8_t *p = (const uint8_t *)address;
    for (const mi_nt_module_t *m = mi_modules_next(NULL); m != NULL; m = mi_modules_next(m))
        if (p >= m->base && p < m->base + m->image_bytes)
            return m;
    return NULL;
}

bool mi_module_open(mi_pe_t *pe, const void *base) {
    // ntdll's function looks behind an exception handler: 8 ns under Wine, where asking for the
    // rights of the page takes 540.
    return RtlImageNtHeader((void *)(uintptr_t)base) != NULL && mi_pe_open_module(pe, base);
}

bool mi_module_glance(mi_pe_t *pe, const void *base) {
    return RtlImageNtHeader((void *)(uintptr_t)base) != NULL && mi_pe_glance_module(pe, base);
}

bool mi_module_is_mapped(const void *base) {
    MEMORY_BASIC_INFORMATION info;
    return VirtualQuery(base, &info, sizeof(info)) != 0 && info.State == MEM_COMMIT &&
           info.AllocationBase == base;
}

bool mi_module_exports_open(mi_module_exports_t *exports, const void *base) {
    return mi_module_open(&exports->pe, base) && mi_pe_exports_open(&exports->pe, &exports->table);
}

void *mi_module_exports_find(const mi_module_exports_t *exports, const char *name) {
    mi_pe_export_t e;
    if (!mi_plan_export(&exports->table, name, &e) || e.forwarder != NULL)
        return NULL;
    return (void *)((uintptr_t)exports->pe.bytes + e.rva);
}

void *mi_module_export(const void *base, const char *name) {
    mi_module_exports_t exports;
    return mi_module_exports_open(&exports, base) ? mi_module_exports_find(&exports, name) : NULL;
}

// How far memory can be read from here, 0 = not at all. A packer may have changed the pages.
static uintptr_t readable_end(uintptr_t at) {
    MEMORY_BASIC_INFORMATION info;
    if (VirtualQuery((const void *)at, &info, sizeof(info)) == 0 || info.State != MEM_COMMIT ||
        (info.Protect & (PAGE_NOACCESS | PAGE_GUARD)) != 0)
        return 0;
    return (uintptr_t)info.BaseAddress + info.RegionSize;
}

// One table: up to its zero.
static bool visit_table(const mi_pe_t *pe, uint32_t rva, mi_modules_visit_t visit, void *arg) {
    const size_t count = mi_pe_room(pe, rva) / sizeof(uintptr_t);
    uintptr_t end = 0;
    for (size_t i = 0; i < count; i++) {
        const uintptr_t cell = (uintptr_t)pe->bytes + rva + i * sizeof(uintptr_t);
        uintptr_t value = 0;
        if (cell + sizeof(value) > end)
            end = readable_end(cell);
        if (cell + sizeof(value) <= end)
            memcpy(&value, (const void *)cell, sizeof(value));
        if (value == 0)
            return true;
        if (!visit((void *)cell, value, arg))
            return false;
    }
    return true;
}

// The descriptors may lie behind the image: whoever starts a program with more imports than its
// file has (minject run) writes them there. Then the view reaches as far as they do; where there is
// nothing between, no descriptor that the loader has followed leads.
static bool open_descriptors(mi_pe_t *pe, mi_pe_dir_t which) {
    mi_pe_range_t dir;
    if (!mi_pe_directory(pe, which, &dir))
        return false;
    const uintptr_t at = (uintptr_t)pe->bytes + dir.rva;
    const uintptr_t end = (at < (uintptr_t)pe->bytes ? 0 : readable_end(at));
    if (end == 0)
        return false;
    if (end - (uintptr_t)pe->bytes > pe->size && dir.rva >= pe->size)
        pe->size = end - (uintptr_t)pe->bytes;
    return true;
}

bool mi_module_imports_open(mi_pe_t *pe, const void *base) {
    return mi_module_open(pe, base) && open_descriptors(pe, MI_PE_DIR_IMPORT);
}

void mi_modules_cells(const void *base, mi_modules_visit_t visit, void *arg) {
    mi_pe_t whole;
    mi_pe_import_t import;
    if (!mi_module_open(&whole, base))
        return;
    mi_pe_t pe = whole;
    const bool has_imports = open_descriptors(&pe, MI_PE_DIR_IMPORT);
    for (uint32_t i = 0; has_imports && mi_pe_import_at(&pe, i, &import); i++)
        if (!visit_table(&pe, import.iat_rva, visit, arg))
            return;
    pe = whole;
    const bool has_delayed = open_descriptors(&pe, MI_PE_DIR_DELAY_IMPORT);
    for (uint32_t i = 0; has_delayed && mi_pe_delay_import_at(&pe, i, &import); i++)
        if (!visit_table(&pe, import.iat_rva, visit, arg))
            return;
}

void mi_module_name(const mi_nt_string_t *name, char *buf, size_t cap) {
    mi_text_t t;
    mi_text_init(&t, buf, cap);
    if (name != NULL && name->text != NULL)
        mi_text_utf16(&t, (const uint16_t *)name->text, name->length / sizeof(WCHAR));
}
