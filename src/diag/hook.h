// A function of the program that is called with an argument of its own: one of them replaces the
// other as a pair, by any thread, while others call it.
//
//   sequence   odd while the pair changes: who reads meanwhile, or sees it change, reads again
#ifndef MI_DIAG_HOOK_H
#define MI_DIAG_HOOK_H

#include "base/atomic.h"
#include "base/base.h"

typedef struct mi_hook_s {
    _Atomic(uint32_t) sequence;
    _Atomic(uintptr_t) fun; // 0 = none
    _Atomic(void *) arg;
} mi_hook_t;

// So often is looked for the end of another thread's two stores. It may never come, in the child of
// a fork() or when that thread was killed.
#define MI_HOOK_TRIES 10000

MI_INLINE void mi_hook_set(mi_hook_t *hook, uintptr_t fun, void *arg) {
    uint32_t before = mi_load_relaxed(&hook->sequence);
    for (int tries = 0; tries < MI_HOOK_TRIES; tries++) {
        if ((before & 1) == 0 && mi_cas_weak_acq_rel(&hook->sequence, &before, before + 1))
            break;
        mi_cpu_relax();
        before = mi_load_relaxed(&hook->sequence);
    }
    atomic_thread_fence(memory_order_release); // with the acquire in mi_hook_get: odd comes first
    mi_store_relaxed(&hook->arg, arg);
    mi_store_relaxed(&hook->fun, fun);
    mi_store_release(&hook->sequence, (before | 1) + 1); // with the acquire in mi_hook_get
}

// 0 = there is none, or whoever replaces it does not get on.
MI_INLINE uintptr_t mi_hook_get(mi_hook_t *hook, void **arg) {
    for (int tries = 0; tries < MI_HOOK_TRIES; tries++) {
        const uint32_t before = mi_load_acquire(&hook->sequence); // with the release in mi_hook_set
        const uintptr_t fun = mi_load_relaxed(&hook->fun);
        *arg = mi_load_relaxed(&hook->arg);
        atomic_thread_fence(memory_order_acquire); // with the release in mi_hook_set
        if ((before & 1) == 0 && mi_load_relaxed(&hook->sequence) == before)
            return fun;
        mi_cpu_relax();
    }
    return 0;
}

#endif
