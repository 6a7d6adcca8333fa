// Put before every source of the core in the builds of model_adopt.c: each atomic operation of the
// real code becomes a step at which another of the model's threads may go on. The threads are
// fibers of one system thread, so that a schedule can be told in full; what tells threads apart is
// asked of the model.
#ifndef MI_TESTS_MODEL_STEPS_H
#define MI_TESTS_MODEL_STEPS_H

#include "base/atomic.h"
#include "os/os.h"

// Before an operation on the word at p, which it returns. NULL: between two others.
void *mi_model_step(const volatile void *p, bool is_write);
uintptr_t mi_model_thread_id(void);
int mi_model_purge(void *p, size_t bytes, bool *is_committed);

#define mi_os_thread_id()                   mi_model_thread_id()
#define mi_os_thread_is_alive(id)           ((void)(id), true)
#define mi_os_clock_ms()                    ((uint64_t)1000)
#define mi_os_purge(p, bytes, is_committed) mi_model_purge(p, bytes, is_committed)
// No byte is a step: marks are bytes (harden.h), of blocks that come in random order, and nobody
// but the holder of a block changes its mark.
#define MI_MODEL_AT(p, is_write)                                                                   \
    (sizeof(*(p)) == 1 ? (p) : (__typeof__(p))mi_model_step((const volatile void *)(p), is_write))
#define MI_MODEL_ORDER(order)   memory_order_##order
#define MI_MODEL_LOAD(p, o)     atomic_load_explicit(MI_MODEL_AT(p, false), MI_MODEL_ORDER(o))
#define MI_MODEL_STORE(p, v, o) atomic_store_explicit(MI_MODEL_AT(p, true), (v), MI_MODEL_ORDER(o))
#define MI_MODEL_CHANGE(how, p, v, o)                                                              \
    atomic_##how##_explicit(MI_MODEL_AT(p, true), (v), MI_MODEL_ORDER(o))
#define MI_MODEL_CAS(how, p, e, v, good, bad)                                                      \
    atomic_compare_exchange_##how##_explicit(MI_MODEL_AT(p, true), (e), (v), MI_MODEL_ORDER(good), \
                                             MI_MODEL_ORDER(bad))

#undef mi_load_relaxed
#undef mi_load_acquire
#undef mi_store_relaxed
#undef mi_store_release
#undef mi_exchange_relaxed
#undef mi_exchange_acquire
#undef mi_exchange_acq_rel
#undef mi_fetch_add_relaxed
#undef mi_fetch_sub_relaxed
#undef mi_cas_weak_relaxed
#undef mi_cas_weak_release
#undef mi_cas_weak_acq_rel
#undef mi_cas_strong_relaxed
#undef mi_cas_strong_release
#undef mi_cas_strong_acq_rel
#define mi_load_relaxed(p)             MI_MODEL_LOAD(p, relaxed)
#define mi_load_acquire(p)             MI_MODEL_LOAD(p, acquire)
#define mi_store_relaxed(p, v)         MI_MODEL_STORE(p, v, relaxed)
#define mi_store_release(p, v)         MI_MODEL_STORE(p, v, release)
#define mi_exchange_relaxed(p, v)      MI_MODEL_CHANGE(exchange, p, v, relaxed)
#define mi_exchange_acquire(p, v)      MI_MODEL_CHANGE(exchange, p, v, acquire)
#define mi_exchange_acq_rel(p, v)      MI_MODEL_CHANGE(exchange, p, v, acq_rel)
#define mi_fetch_add_relaxed(p, v)     MI_MODEL_CHANGE(fetch_add, p, v, relaxed)
#define mi_fetch_sub_relaxed(p, v)     MI_MODEL_CHANGE(fetch_sub, p, v, relaxed)
#define mi_cas_weak_relaxed(p, e, v)   MI_MODEL_CAS(strong, p, e, v, relaxed, relaxed)
#define mi_cas_weak_release(p, e, v)   MI_MODEL_CAS(strong, p, e, v, release, relaxed)
#define mi_cas_weak_acq_rel(p, e, v)   MI_MODEL_CAS(strong, p, e, v, acq_rel, acquire)
#define mi_cas_strong_relaxed(p, e, v) MI_MODEL_CAS(strong, p, e, v, relaxed, relaxed)
#define mi_cas_strong_release(p, e, v) MI_MODEL_CAS(strong, p, e, v, release, relaxed)
#define mi_cas_strong_acq_rel(p, e, v) MI_MODEL_CAS(strong, p, e, v, acq_rel, acquire)

#endif
