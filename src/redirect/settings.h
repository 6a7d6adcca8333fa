// What the environment asks for, read once at the first need. Both spellings are accepted,
// MIMALLOC_NAME first, then MI_NAME.
#ifndef MI_REDIRECT_SETTINGS_H
#define MI_REDIRECT_SETTINGS_H

#include "pe/plan_reason.h"
#include "redirect/nt.h"

typedef enum mi_policy_e { MI_POLICY_PREFERRED, MI_POLICY_REQUIRED, MI_POLICY_OFF } mi_policy_t;

// MIMALLOC_REDIRECT_RUNG: which rungs of the ladder may be tried.
typedef enum mi_rungs_e { MI_RUNGS_ALL, MI_RUNGS_ENTRY, MI_RUNGS_TABLES, MI_RUNGS_NONE } mi_rungs_t;

#define MI_LOG_UNITS 1024

typedef struct mi_settings_s {
    mi_reason_t off; // MI_REASON_NONE = redirect
    mi_policy_t
        policy; // MIMALLOC_REDIRECT=required|preferred|off, or the program's exported variable
    mi_rungs_t rungs;     // MIMALLOC_REDIRECT_RUNG=entry|tables|none; unset = the ladder
    bool is_verbose;      // MIMALLOC_VERBOSE
    bool is_debug_crt_on; // MIMALLOC_REDIRECT_DEBUG_CRT=0 leaves debug CRTs alone
    bool is_guard_on;     // MIMALLOC_REDIRECT_HEAP_GUARD=0 leaves the heap functions alone
    // MIMALLOC_REDIRECT_COTASKMEM=1, or the program's exported variable: COM's task memory as well
    bool is_com_on;
    // MIMALLOC_LOG, a file to append to, with its whole path; empty = none
    WCHAR log[MI_LOG_UNITS];
} mi_settings_t;

const mi_settings_t *mi_settings(void);

#endif
