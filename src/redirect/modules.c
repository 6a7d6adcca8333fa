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

void *mi_module_export(const void *base, const char *name) {
    mi_pe_t pe;
    mi_pe_exports_t ex;
    mi_pe_export_t e;
    if (!mi_pe_open_module(&pe, base) || !mi_pe_exports_open(&pe, &ex))
        return NULL;
    if (!mi_plan_export(&ex, name, &e) || e.forwarder != NULL)
        return NULL;
    return (void *)((uintptr_t)base + e.rva);
}

void mi_module_name(const mi_nt_string_t *name, char *buf, size_t cap) {
    mi_text_t t;
    mi_text_init(&t, buf, cap);
    if (name != NULL && name->text != NULL)
        mi_text_utf16(&t, (const uint16_t *)name->text, name->length / sizeof(WCHAR));
}
