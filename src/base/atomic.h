// Atomics with the memory order in the name. Every use of release and acquire names its partner in
// a comment. Types are C11 _Atomic; MSVC 2022 has them with /experimental:c11atomics.
#ifndef MI_BASE_ATOMIC_H
#define MI_BASE_ATOMIC_H

#include "base/base.h"
#include <stdatomic.h>

#define mi_load_relaxed(p)         atomic_load_explicit((p), memory_order_relaxed)
#define mi_load_acquire(p)         atomic_load_explicit((p), memory_order_acquire)
#define mi_store_relaxed(p, v)     atomic_store_explicit((p), (v), memory_order_relaxed)
#define mi_store_release(p, v)     atomic_store_explicit((p), (v), memory_order_release)
#define mi_exchange_relaxed(p, v)  atomic_exchange_explicit((p), (v), memory_order_relaxed)
#define mi_exchange_acquire(p, v)  atomic_exchange_explicit((p), (v), memory_order_acquire)
#define mi_exchange_release(p, v)  atomic_exchange_explicit((p), (v), memory_order_release)
#define mi_exchange_acq_rel(p, v)  atomic_exchange_explicit((p), (v), memory_order_acq_rel)
#define mi_fetch_add_relaxed(p, v) atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define mi_fetch_sub_relaxed(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_relaxed)
#define mi_fetch_add_release(p, v) atomic_fetch_add_explicit((p), (v), memory_order_release)
#define mi_fetch_add_acq_rel(p, v) atomic_fetch_add_explicit((p), (v), memory_order_acq_rel)
#define mi_fetch_sub_acq_rel(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_acq_rel)
#define mi_fetch_or_relaxed(p, v)  atomic_fetch_or_explicit((p), (v), memory_order_relaxed)
#define mi_fetch_and_relaxed(p, v) atomic_fetch_and_explicit((p), (v), memory_order_relaxed)
#define mi_fetch_or_acq_rel(p, v)  atomic_fetch_or_explicit((p), (v), memory_order_acq_rel)
#define mi_fetch_and_acq_rel(p, v) atomic_fetch_and_explicit((p), (v), memory_order_acq_rel)

// Compare and swap: success order in the name, failure reloads *expected relaxed.
#define mi_cas_weak_relaxed(p, expected, v)                                                        \
    atomic_compare_exchange_weak_explicit((p), (expected), (v), memory_order_relaxed,              \
                                          memory_order_relaxed)
#define mi_cas_weak_release(p, expected, v)                                                        \
    atomic_compare_exchange_weak_explicit((p), (expected), (v), memory_order_release,              \
                                          memory_order_relaxed)
#define mi_cas_weak_acq_rel(p, expected, v)                                                        \
    atomic_compare_exchange_weak_explicit((p), (expected), (v), memory_order_acq_rel,              \
                                          memory_order_acquire)
#define mi_cas_strong_relaxed(p, expected, v)                                                      \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_relaxed,            \
                                            memory_order_relaxed)
#define mi_cas_strong_release(p, expected, v)                                                      \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_release,            \
                                            memory_order_relaxed)
#define mi_cas_strong_acq_rel(p, expected, v)                                                      \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_acq_rel,            \
                                            memory_order_acquire)

// A word that one thread writes without further ado, on fast paths, and that others may read for a
// figure that may be out of date when it is told. The processor reads and writes it whole. Where
// data races are looked for it is an atomic, so that only such readers are allowed for.
#if defined(__SANITIZE_THREAD__)
#    define MI_RACES_ARE_LOOKED_FOR 1
#elif defined(__has_feature)
#    if __has_feature(thread_sanitizer)
#        define MI_RACES_ARE_LOOKED_FOR 1
#    endif
#endif
#ifdef MI_RACES_ARE_LOOKED_FOR
#    define MI_SEEN(type) _Atomic(type)
#    define mi_seen(p)    mi_load_relaxed(p)
#else
#    define MI_SEEN(type) type
#    define mi_seen(p)    (*(const volatile __typeof__(*(p)) *)(p))
#endif

// Tells the CPU that this thread spins.
MI_INLINE void mi_cpu_relax(void) {
#if MI_ARCH_X64 || MI_ARCH_X86
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

#endif
