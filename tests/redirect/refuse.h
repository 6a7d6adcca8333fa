// A VirtualProtect that refuses, for the imports of the code under test (imports_lead of wtest.h).
#ifndef MI_TEST_REFUSE_H
#define MI_TEST_REFUSE_H

#include "wtest.h"

enum { REFUSE_EVERY = 10000, REFUSE_BLOCKED = 1655 }; // ERROR_DYNAMIC_CODE_BLOCKED

typedef BOOL(WINAPI *protect_t)(void *, SIZE_T, DWORD, DWORD *);
static protect_t real_protect;
static DWORD refused_rights;                 // a call for one of these, 0 = none,
static unsigned asked;                       // ... is counted
static unsigned refused_call = REFUSE_EVERY; // ... and only this one, or every one, is refused
static DWORD refusal = REFUSE_BLOCKED;       // with this error
static unsigned refusals;

static inline uintptr_t protect_export(void) {
    return proc(GetModuleHandleA("kernel32.dll"), "VirtualProtect");
}

static BOOL WINAPI refusing_protect(void *at, SIZE_T bytes, DWORD rights, DWORD *before) {
    if ((rights & refused_rights) != 0 &&
        (refused_call == REFUSE_EVERY || asked++ == refused_call)) {
        refusals++;
        SetLastError(refusal);
        return FALSE;
    }
    const BOOL is_good = real_protect(at, bytes, rights, before);
    SetLastError(ERROR_SUCCESS); // as any call may leave it
    return is_good;
}

#endif
