#include "redirect/patch.h"
#include "redirect/faults.h"
#include "redirect/nt.h"

enum {
    THREADS_MAX = 8192,
    PASSES_MAX = 64,  // looking for threads made meanwhile
    TRIES_MAX = 2000, // until no thread stands inside a patch
    PAGE_BYTES = 4096
};

// The stopped threads. Their table is not on the heap: a stopped thread may hold any lock.
typedef struct world_s {
    HANDLE *threads;
    DWORD *ids;
    size_t count;
} world_t;

static bool world_alloc(world_t *w) {
    const size_t bytes = THREADS_MAX * (sizeof(HANDLE) + sizeof(DWORD));
    w->threads = (HANDLE *)VirtualAlloc(NULL, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    if (w->threads == NULL)
        return false;
    w->ids = (DWORD *)(void *)(w->threads + THREADS_MAX);
    return true;
}

static bool world_has(const world_t *w, DWORD id) {
    for (size_t i = 0; i < w->count; i++)
        if (w->ids[i] == id)
            return true;
    return false;
}

// A suspension has really happened only when the context can be read. All are asked to stop first
// and waited for afterwards, so that they stop side by side.
static void world_wait(const world_t *w, size_t first) {
    for (size_t i = first; i < w->count; i++) {
        CONTEXT context;
        context.ContextFlags = CONTEXT_CONTROL;
        (void)GetThreadContext(w->threads[i], &context);
    }
}

// One pass over the threads of the process; returns how many were newly stopped, -1 = the table is
// full.
static int world_pass(world_t *w) {
    const ACCESS_MASK access =
        THREAD_SUSPEND_RESUME | THREAD_GET_CONTEXT | THREAD_QUERY_LIMITED_INFORMATION;
    const HANDLE process = GetCurrentProcess();
    HANDLE thread = NULL, next;
    bool is_kept = true;
    int stopped = 0;
    while (NtGetNextThread(process, thread, access, 0, 0, &next) >= 0) {
        if (!is_kept)
            CloseHandle(thread);
        thread = next;
        const DWORD id = GetThreadId(thread);
        is_kept = false;
        if (id == 0 || id == GetCurrentThreadId() || world_has(w, id))
            continue;
        if (w->count >= THREADS_MAX) {
            CloseHandle(thread);
            return -1;
        }
        if (SuspendThread(thread) == (DWORD)-1)
            continue; // it ends at this moment
        w->threads[w->count] = thread;
        w->ids[w->count++] = id;
        is_kept = true;
        stopped++;
    }
    if (!is_kept)
        CloseHandle(thread);
    return stopped;
}

static void world_resume(world_t *w) {
    for (size_t i = 0; i < w->count; i++) {
        (void)ResumeThread(w->threads[i]);
        CloseHandle(w->threads[i]);
    }
    w->count = 0;
}

static bool world_stop(world_t *w) {
    for (int pass = 0; pass < PASSES_MAX; pass++) {
        const size_t first = w->count;
        const int stopped = world_pass(w);
        world_wait(w, first);
        if (stopped == 0)
            return !mi_fault("threads");
        if (stopped < 0)
            break;
    }
    return false;
}

static uintptr_t instruction_pointer(const CONTEXT *c) {
#if MI_ARCH_X64
    return (uintptr_t)c->Rip;
#elif MI_ARCH_X86
    return (uintptr_t)c->Eip;
#else
    return (uintptr_t)c->Pc;
#endif
}

// Is a thread about to execute in the middle of a patch? At its first byte it may stand.
static bool world_is_inside(const world_t *w, const mi_patch_t *patches, size_t count) {
    for (size_t i = 0; i < w->count; i++) {
        CONTEXT context;
        context.ContextFlags = CONTEXT_CONTROL;
        if (!GetThreadContext(w->threads[i], &context))
            continue;
        const uintptr_t ip = instruction_pointer(&context);
        for (size_t k = 0; k < count; k++)
            if (ip > (uintptr_t)patches[k].at && ip < (uintptr_t)patches[k].at + patches[k].bytes)
                return true;
    }
    return false;
}

// Stops the world at a moment when no thread stands inside a patch.
static mi_reason_t world_stop_outside(world_t *w, const mi_patch_t *patches, size_t count) {
    for (int i = 0; i < TRIES_MAX; i++) {
        if (!world_stop(w)) {
            world_resume(w);
            return MI_REASON_THREADS;
        }
        if (!world_is_inside(w, patches, count) && !mi_fault("thread-in-range"))
            return MI_REASON_NONE;
        world_resume(w);
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
    world_t w = {0};
    if (!world_alloc(&w))
        return MI_REASON_THREADS;
    mi_reason_t reason = world_stop_outside(&w, patches, count);
    if (reason == MI_REASON_NONE) {
        for (size_t i = 0; i < count && reason == MI_REASON_NONE; i++)
            reason = patch_write(&patches[i], patches[i].after);
        if (reason != MI_REASON_NONE)
            reason = write_back(patches, count, reason);
    }
    world_resume(&w);
    (void)VirtualFree(w.threads, 0, MEM_RELEASE);
    return reason;
}

mi_reason_t mi_patch_undo(const mi_patch_t *patches, size_t count) {
    world_t w = {0};
    if (!world_alloc(&w))
        return MI_REASON_ROLLBACK_FAILED;
    mi_reason_t reason = world_stop_outside(&w, patches, count);
    if (reason == MI_REASON_NONE)
        reason = write_back(patches, count, MI_REASON_NONE);
    world_resume(&w);
    (void)VirtualFree(w.threads, 0, MEM_RELEASE);
    return reason;
}

bool mi_patch_is_alone(void) {
    HANDLE thread = NULL, next;
    bool is_alone = true;
    while (NtGetNextThread(GetCurrentProcess(), thread, THREAD_QUERY_LIMITED_INFORMATION, 0, 0,
                           &next) >= 0) {
        if (thread != NULL)
            CloseHandle(thread);
        thread = next;
        is_alone &= (GetThreadId(thread) == GetCurrentThreadId());
    }
    if (thread != NULL)
        CloseHandle(thread);
    return is_alone;
}
