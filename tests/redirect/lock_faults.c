// Part of a test build of the allocator DLL: knows every lock of the core by its address, in the
// order in which they are first taken, which threads may hold one, and stops a chosen thread for
// ever inside a chosen lock. The same inside a change of its thread heap: the heap that it leaves
// must be changed by nobody else.
#include "core/lock.h"
#include "core/theap.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

enum { LOCKS_MAX = 64, THREADS_MAX = 4096 };

static mi_lock_t *volatile locks[LOCKS_MAX];
static volatile LONG lock_count;
static volatile LONG depths[THREADS_MAX]; // by thread id: locks that it may hold
static volatile LONG armed = -1;          // which lock
static volatile DWORD victim;             // which thread
static volatile LONG is_stuck;

static LONG index_of(mi_lock_t *lock) {
    for (LONG i = 0; i < LOCKS_MAX; i++) {
        if (locks[i] == lock)
            return i;
        if (locks[i] == NULL &&
            InterlockedCompareExchangePointer((void *volatile *)&locks[i], lock, NULL) == NULL) {
            InterlockedIncrement(&lock_count);
            return i;
        }
        if (locks[i] == lock)
            return i;
    }
    return -1;
}

static volatile LONG *depth_of(DWORD thread) {
    return &depths[thread / 4 % THREADS_MAX];
}

void mi_lock_wanted(void) {
    InterlockedIncrement(depth_of(GetCurrentThreadId()));
}

void mi_lock_left(void) {
    InterlockedDecrement(depth_of(GetCurrentThreadId()));
}

// The victim stays where it is until it is killed.
static void stop_here(void) {
    InterlockedExchange(&is_stuck, 1);
    for (;;)
        SuspendThread(GetCurrentThread());
}

void mi_lock_entered(mi_lock_t *lock) {
    const LONG i = index_of(lock);
    if (i >= 0 && i == armed && victim == GetCurrentThreadId())
        stop_here();
}

__declspec(dllexport) LONG lock_faults_count(void);
LONG lock_faults_count(void) {
    return lock_count;
}

// From now on this thread stops inside the n-th lock; n = -1: nowhere.
__declspec(dllexport) void lock_faults_arm(LONG n);
void lock_faults_arm(LONG n) {
    victim = GetCurrentThreadId();
    armed = n;
}

__declspec(dllexport) LONG lock_faults_is_stuck(void);
LONG lock_faults_is_stuck(void) {
    return is_stuck;
}

// ---- changes of thread heaps ----

static volatile LONG changes_left;              // of the victim, until it stops
static const mi_theap_t *volatile changed_heap; // the heap that the victim left in a change
static volatile LONG changed_by_others;

void mi_change_entered(const mi_theap_t *theap) {
    if (victim == GetCurrentThreadId() && changes_left > 0 && --changes_left == 0) {
        changed_heap = theap;
        stop_here();
    }
    if (theap == changed_heap)
        InterlockedIncrement(&changed_by_others);
}

// From now on this thread stops inside its n-th change of a thread heap.
__declspec(dllexport) void lock_faults_arm_change(LONG n);
void lock_faults_arm_change(LONG n) {
    victim = GetCurrentThreadId();
    changes_left = n;
}

// Is the heap that the victim left marked as never to be touched?
__declspec(dllexport) LONG lock_faults_is_frozen(void);
LONG lock_faults_is_frozen(void) {
    return mi_load_relaxed(&changed_heap->state) == MI_THEAP_FROZEN;
}

__declspec(dllexport) LONG lock_faults_changed_by_others(void);
LONG lock_faults_changed_by_others(void) {
    return changed_by_others;
}

// May the thread, which does not run, hold a lock?
__declspec(dllexport) LONG lock_faults_holds(DWORD thread);
LONG lock_faults_holds(DWORD thread) {
    return *depth_of(thread) != 0;
}
