// The planner for COM's task memory: which module owns CoTaskMemAlloc and its kin, and what of it
// would be patched. The same proof for each entry as for a CRT's; the family has a table of its own
// here, since it is redirected only when asked for. Pure; any thread, each with its own plan.
//
//   ole32.dll    CoTaskMemAlloc: forwarder, or a stub "jmp [import]"     not an owner
//   combase.dll  CoTaskMemAlloc: code                                   owner (ole32 before Windows
//   8)
#ifndef MI_PE_PLAN_COM_H
#define MI_PE_PLAN_COM_H

#include "pe/plan.h"

typedef enum mi_com_fn_e {
    MI_COM_ALLOC,
    MI_COM_REALLOC,
    MI_COM_FREE,
    MI_COM_GET_MALLOC,
    // Who watches the family must be let in; an owner may lack them, or keep them as they are.
    MI_COM_REGISTER_SPY,
    MI_COM_REVOKE_SPY,
    MI_COM_FN_COUNT
} mi_com_fn_t;

extern const char *const mi_com_names[MI_COM_FN_COUNT]; // as exported

// Quick: does the module export CoTaskMemAlloc and CoTaskMemFree, with code of its own behind them?
bool mi_com_is_owner(const mi_pe_t *pe);

// Fills a plan whose sites are functions of this family: fn is an mi_com_fn_t. true = plan->reason
// is MI_REASON_NONE: every entry that is needed can be patched, and its original kept.
bool mi_com_plan_make(const mi_pe_t *pe, mi_plan_t *plan);

#endif
