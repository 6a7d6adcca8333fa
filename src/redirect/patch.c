#include "redirect/patch.h"
#include "redirect/faults.h"
#include "redirect/world.h"

enum {
    TRIES_MAX = 2000, // until no thread stands inside a patch
    PAGE_BYTES = 4096,
    PAGES_MAX = 2 // that a patch of at most 8 bytes lies in
};

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

// The pages that a patch lies in; patches in the same pages are written under one change of their
// protection, since such a change costs more than all else together.
typedef struct pages_s {
    uint8_t *begin;
    size_t bytes;
} pages_t;

static pages_t pages_of(const mi_patch_t *p) {
    const uintptr_t begin = mi_align_down((uintptr_t)p->at, PAGE_BYTES);
    const uintptr_t end = mi_align_up((uintptr_t)p->at + p->bytes, PAGE_BYTES);
    return (pages_t){p->at - ((uintptr_t)p->at - begin), end - begin};
}

static bool is_in(const mi_patch_t *p, const pages_t *pages) {
    const pages_t own = pages_of(p);
    return own.begin == pages->begin && own.bytes == pages->bytes;
}

// Is the i-th patch the first one in its pages?
static bool is_first_in(const mi_patch_t *patches, size_t i, const pages_t *pages) {
    for (size_t k = 0; k < i; k++)
        if (is_in(&patches[k], pages))
            return false;
    return true;
}

// Gives the first pages the rights back that they had; each has its own.
static bool pages_close(const pages_t *pages, const DWORD *rights, size_t bytes) {
    bool is_good = true;
    DWORD ignored;
    for (size_t at = 0; at < bytes; at += PAGE_BYTES)
        is_good &=
            VirtualProtect(pages->begin + at, PAGE_BYTES, rights[at / PAGE_BYTES], &ignored) != 0;
    FlushInstructionCache(GetCurrentProcess(), pages->begin, pages->bytes);
    return is_good;
}

// Makes all of them writable, or none: then the error is the system's.
static bool pages_open(const pages_t *pages, DWORD rights[PAGES_MAX]) {
    for (size_t at = 0; at < pages->bytes; at += PAGE_BYTES) {
        if (VirtualProtect(pages->begin + at, PAGE_BYTES, PAGE_EXECUTE_READWRITE,
                           &rights[at / PAGE_BYTES]))
            continue;
        const DWORD error = GetLastError();
        (void)pages_close(pages, rights, at);
        SetLastError(error);
        return false;
    }
    return true;
}

// Writes the patches of one group of pages. They keep their right to execute meanwhile: they may
// hold the very functions that make them writable. Their protection is put back.
static mi_reason_t pages_write(const mi_patch_t *patches, size_t count, const pages_t *pages) {
    DWORD rights[PAGES_MAX];
    if (mi_fault("protect"))
        return MI_REASON_PROTECT_FAILED;
    if (!pages_open(pages, rights)) {
        // ERROR_DYNAMIC_CODE_BLOCKED
        return GetLastError() == 1655 ? MI_REASON_DYNAMIC_CODE : MI_REASON_PROTECT_FAILED;
    }
    for (size_t i = 0; i < count; i++)
        if (is_in(&patches[i], pages))
            memcpy(patches[i].at, patches[i].after, patches[i].bytes);
    if (!pages_close(pages, rights, pages->bytes) || mi_fault("unprotect"))
        return MI_REASON_PROTECT_FAILED;
    for (size_t i = 0; i < count; i++)
        if (is_in(&patches[i], pages) &&
            (!is_same(patches[i].at, patches[i].after, patches[i].bytes) || mi_fault("write")))
            return MI_REASON_WRITE_LOST;
    return MI_REASON_NONE;
}

static bool needs_write_back(const mi_patch_t *p, const pages_t *pages) {
    return is_in(p, pages) && !is_same(p->at, p->before, p->bytes);
}

// Brings everything in these pages that differs back to what it was. false = it cannot be written.
static bool pages_write_back(const mi_patch_t *patches, size_t count, const pages_t *pages) {
    DWORD rights[PAGES_MAX];
    size_t first = 0;
    while (first < count && !needs_write_back(&patches[first], pages))
        first++;
    if (first == count)
        return true;
    if (mi_fault("rollback") || !pages_open(pages, rights))
        return false;
    for (size_t i = first; i < count; i++)
        if (needs_write_back(&patches[i], pages))
            memcpy(patches[i].at, patches[i].before, patches[i].bytes);
    (void)pages_close(pages, rights, pages->bytes);
    return true;
}

static mi_reason_t write_back(const mi_patch_t *patches, size_t count, mi_reason_t reason) {
    for (size_t i = 0; i < count; i++) {
        const pages_t pages = pages_of(&patches[i]);
        if (is_first_in(patches, i, &pages) && !pages_write_back(patches, count, &pages))
            return MI_REASON_ROLLBACK_FAILED;
    }
    return reason;
}

static mi_reason_t write_all(const mi_patch_t *patches, size_t count) {
    mi_reason_t reason = MI_REASON_NONE;
    for (size_t i = 0; i < count && reason == MI_REASON_NONE; i++) {
        const pages_t pages = pages_of(&patches[i]);
        if (is_first_in(patches, i, &pages))
            reason = pages_write(patches, count, &pages);
    }
    return reason == MI_REASON_NONE ? reason : write_back(patches, count, reason);
}

// Does what stands there stem from us? Another product may have patched an entry before us since we
// planned, or over our jump later: its patch is not ours to write over.
static bool is_known(const mi_patch_t *p, bool may_be_after) {
    return is_same(p->at, p->before, p->bytes) ||
           (may_be_after && is_same(p->at, p->after, p->bytes));
}

static bool are_known(const mi_patch_t *patches, size_t count, bool may_be_after) {
    for (size_t i = 0; i < count; i++)
        if (!is_known(&patches[i], may_be_after))
            return false;
    return true;
}

static mi_reason_t apply(const mi_patch_t *patches, size_t count, bool only_alone,
                         bool *was_alone_opt) {
    mi_world_t w;
    mi_world_open(&w);
    mi_reason_t reason = world_stop_outside(&w, patches, count);
    const bool is_alone = (reason == MI_REASON_NONE && w.count == 0);
    if (was_alone_opt != NULL)
        *was_alone_opt = is_alone;
    if (reason == MI_REASON_NONE && (is_alone || !only_alone))
        reason = (are_known(patches, count, false) ? write_all(patches, count)
                                                   : MI_REASON_ALREADY_HOOKED);
    mi_world_resume(&w);
    mi_world_close(&w);
    return reason;
}

mi_reason_t mi_patch_apply(const mi_patch_t *patches, size_t count, bool *was_alone_opt) {
    return apply(patches, count, false, was_alone_opt);
}

mi_reason_t mi_patch_apply_alone(const mi_patch_t *patches, size_t count, bool *was_alone) {
    return apply(patches, count, true, was_alone);
}

mi_reason_t mi_patch_undo(const mi_patch_t *patches, size_t count) {
    mi_world_t w;
    mi_world_open(&w);
    mi_reason_t reason = world_stop_outside(&w, patches, count);
    if (reason == MI_REASON_NONE)
        reason = (are_known(patches, count, true) ? write_back(patches, count, MI_REASON_NONE)
                                                  : MI_REASON_ALREADY_HOOKED);
    mi_world_resume(&w);
    mi_world_close(&w);
    return reason;
}

bool mi_patch_is_anything_left(const mi_patch_t *patches, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (is_same(patches[i].at, patches[i].after, patches[i].bytes))
            return true;
    return false;
}
