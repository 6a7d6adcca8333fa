// What os_linux.c and os_atfork_linux.c, which is in libmimalloc.so only, know of each other: who
// registers handlers of fork().
#ifndef MI_OS_OS_ATFORK_LINUX_H
#define MI_OS_OS_ATFORK_LINUX_H

#include "base/base.h"

typedef int(mi_os_atfork_t)(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                            void *module);

// What pthread_atfork is made of with glibc (Linux Standard Base, Core 5.0).
extern mi_os_atfork_t __register_atfork;
// Our own function of that name, and the next one, which is the C library's as a rule. Not there,
// NULL, but in libmimalloc.so.
extern mi_os_atfork_t mi_os_atfork_own __attribute__((weak)) MI_HIDDEN;
extern mi_os_atfork_t mi_os_atfork_next __attribute__((weak)) MI_HIDDEN;

// Registers our handlers if they are not.
void mi_os_fork_before_others(void);

#endif
