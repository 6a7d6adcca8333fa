// The lock of the slow paths: spins, then yields. It needs no initialisation and no system object.
// A thread that was killed by process exit never releases it, so once the process is exiting it is
// taken by force: the one thread left may then use what it protects.
#ifndef MI_CORE_LOCK_H
#define MI_CORE_LOCK_H

#include "base/atomic.h"
#include "os/os.h"

typedef struct mi_lock_s {
    _Atomic(uint32_t) taken; // 0 or 1
} mi_lock_t;

MI_INLINE bool mi_lock_try(mi_lock_t *lock) {
    return mi_exchange_acquire(&lock->taken, 1u) == 0; // with the release in mi_unlock
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
}

#endif
