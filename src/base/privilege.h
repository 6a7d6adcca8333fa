// May this process trust its environment variables? One rule for the allocator and for the redirect
// DLL, and the facts that Windows needs for it. (Linux says it by itself: secure_getenv.)
//
// The danger is a process that may do more than the one that wrote its environment: a program that
// UAC raises gets the variables of the user's unraised session, and MIMALLOC_LOG would let those
// write files with its rights.
#ifndef MI_BASE_PRIVILEGE_H
#define MI_BASE_PRIVILEGE_H

#include "base/base.h"

#define MI_INTEGRITY_UNKNOWN 0u
#define MI_INTEGRITY_MEDIUM  0x2000u // of a plain user's programs; raised ones have 0x3000

typedef struct mi_privilege_s {
    uint32_t integrity;        // level of this process, MI_INTEGRITY_UNKNOWN = cannot be asked
    uint32_t parent_integrity; // of the process that started it, the same when it has gone
    bool is_wine;              // every process is raised there, and none is protected from another
} mi_privilege_t;

// Up to the medium level (an app container is below it) nobody has less rights who could have set
// the variables. Above it the starter must stand as high, as in an administrator's own console.
MI_INLINE bool mi_privilege_trusts_environment(const mi_privilege_t *p) {
    if (p->is_wine)
        return true;
    if (p->integrity == MI_INTEGRITY_UNKNOWN)
        return false;
    return p->integrity <= MI_INTEGRITY_MEDIUM || p->parent_integrity >= p->integrity;
}

#if defined(_WIN32)
// The rule applied to this process; asks the system at the first call only. May be called before
// any DllMain and from every thread.
bool mi_environment_is_trusted(void);
// Whether it has a variable whose name begins with MI_ or MIMALLOC_; true also when it cannot be
// told. Most processes have none, and one look costs less than asking for many by name. Any thread.
bool mi_environment_has_ours(void);
#endif

#endif
