// The lock of the slow paths: spins, then yields. It needs no initialisation and no system object.
// A thread that was killed by process exit never releases it, so once the process is exiting it is
// taken by force: the one thread left may then use what it protects.
#ifndef MI_CORE_LOCK_H
#define MI_CORE_LOCK_H

#include "base/atomic.h"
#include "os/os.h"
#include "os/os_thread.h"

typedef struct mi_lock_s {
    _Atomic(uint32_t) taken; // 0 or 1
} mi_lock_t;

// For the test that kills threads inside each lock; the product has nothing here.
#ifndef MI_LOCK_FAULTS
#    define MI_LOCK_FAULTS 0
#endif
#if MI_LOCK_FAULTS
void mi_lock_wanted(void);             // may hold it from now on
void mi_lock_entered(mi_lock_t *lock); // holds it; may never return
void mi_lock_left(void);               // does not hold it
#else
MI_INLINE void mi_lock_wanted(void) {
}
MI_INLINE void mi_lock_entered(mi_lock_t *lock) {
    (void)lock;
}
MI_INLINE void mi_lock_left(void) {
}
#endif

MI_INLINE bool mi_lock_try(mi_lock_t *lock) {
    mi_os_fork_ready();
    mi_lock_wanted();
    const bool is_taken =
        (mi_exchange_acquire(&lock->taken, 1u) == 0); // with the release in mi_unlock
    if (is_taken)
        mi_lock_entered(lock);
    else
        mi_lock_left();
    return is_taken;
}

MI_INLINE void mi_lock(mi_lock_t *lock) {
    for (uint32_t spins = 0; !mi_lock_try(lock); spins++) {
        while (mi_load_relaxed(&lock->taken) != 0 && (spins & 63) != 63) {
            mi_cpu_relax();
            spins++;
        }
        if ((spins & 63) == 63) {
            if (mi_os_is_exiting())
                return;
            mi_os_yield();
        }
    }
}

MI_INLINE void mi_unlock(mi_lock_t *lock) {
    mi_store_release(&lock->taken, 0u); // with the acquire in mi_lock_try
    mi_lock_left();
}

#endif
