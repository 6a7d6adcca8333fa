#include "redirect/world.h"
#include "redirect/faults.h"

enum {
    THREADS_MAX = 8192,
    PASSES_MAX = 64 // looking for threads made meanwhile
};

static SRWLOCK world_lock = SRWLOCK_INIT;
// Under the lock. Not taken anew each time: that costs as much as a change of a page's protection.
static HANDLE thread_table[THREADS_MAX];
static DWORD id_table[THREADS_MAX];

void mi_world_open(mi_world_t *w) {
    AcquireSRWLockExclusive(&world_lock);
    *w = (mi_world_t){thread_table, id_table, 0};
}

void mi_world_close(mi_world_t *w) {
    *w = (mi_world_t){NULL, NULL, 0};
    ReleaseSRWLockExclusive(&world_lock);
}

static bool world_has(const mi_world_t *w, DWORD id) {
    for (size_t i = 0; i < w->count; i++)
        if (w->ids[i] == id)
            return true;
    return false;
}

// A suspension has really happened only when the context can be read. All are asked to stop first
// and waited for afterwards, so that they stop side by side.
static void world_wait(const mi_world_t *w, size_t first) {
    for (size_t i = first; i < w->count; i++) {
        CONTEXT context;
        context.ContextFlags = CONTEXT_CONTROL;
        (void)GetThreadContext(w->threads[i], &context);
    }
}

// One pass over the threads of the process; returns how many were newly stopped, -1 = the table is
// full.
static int world_pass(mi_world_t *w) {
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

void mi_world_resume(mi_world_t *w) {
    for (size_t i = 0; i < w->count; i++) {
        (void)ResumeThread(w->threads[i]);
        CloseHandle(w->threads[i]);
    }
    w->count = 0;
}

// One call of the system, where a pass takes four, each of which is a round trip to Wine's server.
// A thread that has been made and not begun counts; one that has ended does not.
bool mi_world_is_empty(void) {
    ULONG is_last = 0;
    return NtQueryInformationThread(GetCurrentThread(), MI_NT_THREAD_IS_LAST, &is_last,
                                    sizeof(is_last), NULL) >= 0 &&
           is_last != 0;
}

bool mi_world_stop(mi_world_t *w) {
    if (w->count == 0 && mi_world_is_empty())
        return !mi_fault("threads");
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

uintptr_t mi_world_ip(const mi_world_t *w, size_t i) {
    CONTEXT context;
    context.ContextFlags = CONTEXT_CONTROL;
    if (!GetThreadContext(w->threads[i], &context))
        return 0;
#if MI_ARCH_X64
    return (uintptr_t)context.Rip;
#elif MI_ARCH_X86
    return (uintptr_t)context.Eip;
#else
    return (uintptr_t)context.Pc;
#endif
}
