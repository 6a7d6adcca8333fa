// All thread-local access of the allocator: one pointer per thread, the thread's heap (mi_theap_t).
//
// Linux: a compiler TLS variable of the initial-exec model: never allocated lazily, so that reading
// it cannot call malloc. It starts with a value that the core chooses, hence is never NULL.
// Windows: a TlsAlloc slot, read directly in the TEB (no compiler TLS: a freestanding DLL has none,
// and a DLL loaded late would not get any). A thread that has not allocated yet has NULL there.
#ifndef MI_OS_OS_THREAD_H
#define MI_OS_OS_THREAD_H

#include "base/atomic.h"
#include "base/base.h"

#if !defined(_WIN32)

#    define MI_THREAD_SLOT_MAY_BE_NULL 0
#    define MI_THREAD_SLOT_MAY_BE_FAR  0
extern __thread void *mi_thread_slot __attribute__((tls_model("initial-exec"))) MI_HIDDEN;
extern __thread bool mi_thread_has_ended __attribute__((tls_model("initial-exec"))) MI_HIDDEN;
extern __thread bool mi_thread_is_registering __attribute__((tls_model("initial-exec")))
MI_HIDDEN; // os_linux.c: its fork handlers
// Defines the variables; the core does it, once, with the value that a new thread starts with.
#    define MI_THREAD_SLOT_DEFINE(value)                                                           \
        __thread void *mi_thread_slot __attribute__((tls_model("initial-exec"))) MI_HIDDEN =       \
            (value);                                                                               \
        __thread bool mi_thread_has_ended __attribute__((tls_model("initial-exec"))) MI_HIDDEN;    \
        __thread bool mi_thread_is_registering __attribute__((tls_model("initial-exec"))) MI_HIDDEN

MI_INLINE void *mi_thread_get(void) {
    return mi_thread_slot;
}

MI_INLINE void *mi_thread_get_near(void) {
    return mi_thread_slot;
}

MI_INLINE bool mi_thread_is_far(void) {
    return false;
}

// Is it certain that a thread without a heap has its end before it, so that what is made for it now
// is cleared away?
MI_INLINE bool mi_thread_will_end(void) {
    return !mi_thread_has_ended;
}

// It was told of its end. The C library still frees this and that in its name.
MI_INLINE void mi_thread_note_end(void) {
    mi_thread_has_ended = true;
}

// 0 = good.
MI_INLINE int mi_thread_set(void *value) {
    mi_thread_slot = value;
    return 0;
}

// Before a lock is taken. Handlers of fork() that are not there yet are registered if another
// thread may fork meanwhile.
extern MI_HIDDEN _Atomic(bool) mi_os_fork_is_ready;
void mi_os_fork_make_ready(void);
MI_INLINE void mi_os_fork_ready(void) {
    if (MI_UNLIKELY(!mi_load_relaxed(&mi_os_fork_is_ready)))
        mi_os_fork_make_ready();
}

#else

#    define MI_THREAD_SLOT_MAY_BE_NULL   1
#    define MI_THREAD_SLOT_MAY_BE_FAR    1
#    define MI_THREAD_SLOT_DEFINE(value) static_assert(sizeof(value) != 0, "no TLS variable here")

// Byte offset of our slot in the TEB; 0 = no slot yet, or one of the expansion slots: ask the slow
// way.
extern size_t mi_thread_teb_offset;
void *mi_thread_get_slow(void); // any slot; NULL when there is none yet. Never allocates.
int mi_thread_set(void *value); // takes the slot at the first call; 0 = good

// Layout facts of the TEB, stable since Windows XP: TlsSlots at 0x1480 (64 bit) or 0xE10 (32 bit),
// 64 of them; TlsExpansionSlots at 0x1780 or 0xF94.
#    if MI_ARCH_X86
#        define MI_TEB_TLS_SLOTS           0xE10u
#        define MI_TEB_TLS_EXPANSION_SLOTS 0xF94u
#    else
#        define MI_TEB_TLS_SLOTS           0x1480u
#        define MI_TEB_TLS_EXPANSION_SLOTS 0x1780u
#    endif
#    define MI_TEB_TLS_SLOT_COUNT 64u

MI_INLINE void *mi_teb_load(size_t offset) {
#    if defined(_MSC_VER) && MI_ARCH_X64
    return (void *)__readgsqword((unsigned long)offset);
#    elif defined(_MSC_VER) && MI_ARCH_X86
    return (void *)__readfsdword((unsigned long)offset);
#    elif defined(_MSC_VER)
    return *(void **)((char *)__getReg(18) + offset);
#    else
    void *value;
#        if MI_ARCH_X64
    __asm__ volatile("movq %%gs:(%1), %0" : "=r"(value) : "r"(offset));
#        elif MI_ARCH_X86
    __asm__ volatile("movl %%fs:(%1), %0" : "=r"(value) : "r"(offset));
#        else
    __asm__ volatile("ldr %0, [x18, %1]" : "=r"(value) : "r"(offset));
#        endif
    return value;
#    endif
}

MI_INLINE void *mi_thread_get(void) {
    const size_t offset = mi_thread_teb_offset;
    return MI_LIKELY(offset != 0) ? mi_teb_load(offset) : mi_thread_get_slow();
}

// For fast paths, which then have no call in them and need no frame: NULL also where the slot is
// far, one of the expansion slots, and the slow twin finds out.
MI_INLINE void *mi_thread_get_near(void) {
    const size_t offset = mi_thread_teb_offset;
    return MI_LIKELY(offset != 0) ? mi_teb_load(offset) : NULL;
}

MI_INLINE bool mi_thread_is_far(void) {
    return mi_thread_teb_offset == 0;
}

MI_INLINE bool mi_thread_will_end(void) {
    return false; // nothing tells a slot that is still empty from one that is empty again
}

MI_INLINE void mi_thread_note_end(void) {
}

MI_INLINE void mi_os_fork_ready(void) {
}

#endif

#endif
