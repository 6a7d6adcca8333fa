// What a debug CRT is asked about its blocks: leaks, damage, states, types. Where the allocator
// keeps books (is_tracked) the answer is the CRT's own about blocks of before, and then ours; where
// it does not, the CRT's own, and "all is well" about our blocks. Any thread.
#ifndef MI_REDIRECT_DEBUG_STATE_H
#define MI_REDIRECT_DEBUG_STATE_H

#include "redirect/crt.h"

// Where a patched entry of this function goes; 0 = it is none of these.
uintptr_t mi_debug_state_target(mi_crt_fn_t fn);
// Are our blocks of the CRT undamaged? Says which are not. A tracked CRT only.
bool mi_debug_state_check(mi_crt_t *crt);

#endif
