#include "redirect/patch.h"
#include "redirect/faults.h"
#include "redirect/world.h"

enum { TRIES_MAX = 2000 }; // until no thread stands inside a patch

// Is a thread about to execute in the middle of a patch? At its first byte it may stand.
static bool is_any_inside(const mi_world_t *w, const mi_patch_t *patches, size_t count) {
    for (size_t i = 0; i < w->count; i++) {
        const uintptr_t ip = mi_world_ip(w, i);
        for (size_t k = 0; k < count; k++)
            if (ip > (uintptr_t)patches[k].at && ip < (uintptr_t)patches[k].at + patches[k].bytes)
                return true;
    }
    return false;
}

// Stops the world at a moment when no thread stands inside a patch.
static mi_reason_t world_stop_outside(mi_world_t *w, const mi_patch_t *patches, size_t count) {
    for (int i = 0; i < TRIES_MAX; i++) {
        if (!mi_world_stop(w)) {
            mi_world_resume(w);
            return MI_REASON_THREADS;
        }
        if (!is_any_inside(w, patches, count) && !mi_fault("thread-in-range"))
            return MI_REASON_NONE;
        mi_world_resume(w);
        SwitchToThread();
    }
    return MI_REASON_THREAD_IN_RANGE;
}

static bool is_same(const uint8_t *a, const uint8_t *b, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

// Writes one patch. The page keeps its right to execute meanwhile: it may hold the very functions
// that make it writable. Its protection is put back.
static mi_reason_t patch_write(const mi_patch_t *p, const uint8_t *bytes) {
    DWORD before, ignored;
    if (mi_fault("protect"))
        return MI_REASON_PROTECT_FAILED;
    if (!VirtualProtect(p->at, p->bytes, PAGE_EXECUTE_READWRITE, &before)) {
        // ERROR_DYNAMIC_CODE_BLOCKED
        return GetLastError() == 1655 ? MI_REASON_DYNAMIC_CODE : MI_REASON_PROTECT_FAILED;
    }
    memcpy(p->at, bytes, p->bytes);
    const bool is_restored =
        VirtualProtect(p->at, p->bytes, before, &ignored) && !mi_fault("unprotect");
    FlushInstructionCache(GetCurrentProcess(), p->at, p->bytes);
    if (!is_restored)
        return MI_REASON_PROTECT_FAILED;
    return is_same(p->at, bytes, p->bytes) && !mi_fault("write") ? MI_REASON_NONE
                                                                 : MI_REASON_WRITE_LOST;
}

// Brings everything that differs back to what it was.
static mi_reason_t write_back(const mi_patch_t *patches, size_t count, mi_reason_t reason) {
    for (size_t i = 0; i < count; i++) {
        const mi_patch_t *p = &patches[i];
        DWORD before, ignored;
        if (is_same(p->at, p->before, p->bytes))
            continue;
        if (mi_fault("rollback") ||
            !VirtualProtect(p->at, p->bytes, PAGE_EXECUTE_READWRITE, &before))
            return MI_REASON_ROLLBACK_FAILED;
        memcpy(p->at, p->before, p->bytes);
        (void)VirtualProtect(p->at, p->bytes, before, &ignored);
        FlushInstructionCache(GetCurrentProcess(), p->at, p->bytes);
    }
    return reason;
}

mi_reason_t mi_patch_apply(const mi_patch_t *patches, size_t count) {
    mi_world_t w = {0};
    if (!mi_world_open(&w))
        return MI_REASON_THREADS;
    mi_reason_t reason = world_stop_outside(&w, patches, count);
    if (reason == MI_REASON_NONE) {
        for (size_t i = 0; i < count && reason == MI_REASON_NONE; i++)
            reason = patch_write(&patches[i], patches[i].after);
        if (reason != MI_REASON_NONE)
            reason = write_back(patches, count, reason);
    }
    mi_world_resume(&w);
    mi_world_close(&w);
    return reason;
}

mi_reason_t mi_patch_undo(const mi_patch_t *patches, size_t count) {
    mi_world_t w = {0};
    if (!mi_world_open(&w))
        return MI_REASON_ROLLBACK_FAILED;
    mi_reason_t reason = world_stop_outside(&w, patches, count);
    if (reason == MI_REASON_NONE)
        reason = write_back(patches, count, MI_REASON_NONE);
    mi_world_resume(&w);
    mi_world_close(&w);
    return reason;
}
