// Stands before the C library where handlers of fork() are registered, in libmimalloc.so, so that
// ours are the first although they are registered as late as possible (os_linux.c). Called by any
// thread, also before anything of ours was initialised.
#define _GNU_SOURCE 1
#include "os/os_atfork_linux.h"

#include <dlfcn.h>

#ifdef __GLIBC__
int mi_os_atfork_next(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                      void *module) {
    mi_os_atfork_t *const next = (mi_os_atfork_t *)dlsym(RTLD_NEXT, "__register_atfork");
    return next == NULL ? -1 : next(prepare, parent, child, module);
}

__attribute__((visibility("default"))) int
__register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *module) {
    mi_os_fork_before_others();
    return mi_os_atfork_next(prepare, parent, child, module);
}

extern mi_os_atfork_t mi_os_atfork_own __attribute__((alias("__register_atfork")));
#endif
