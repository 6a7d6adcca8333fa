// Whose malloc does a module call? Answered by behaviour: the module's own import is called, and
// the result looked up in the allocator. Loader lock held.
#ifndef MI_REDIRECT_MODULE_STATE_H
#define MI_REDIRECT_MODULE_STATE_H

#include "pe/plan_reason.h"
#include "redirect/modules.h"

typedef struct mi_module_state_s {
    bool is_active;     // its allocations land in the allocator
    bool is_called;     // known by a call; otherwise from the proof of the CRT that it imports
    mi_reason_t reason; // when not active
    const char *crt;    // name of the CRT that it imports, or NULL
} mi_module_state_t;

mi_module_state_t mi_module_state(const mi_nt_module_t *module);

#endif
