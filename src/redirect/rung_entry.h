// The first rung of the ladder: the CRT's own entries jump to the replacements, so that every
// caller is reached, however it came by the address. Planned, prepared, written while all threads
// stand still, proven, or put back. Loader lock held.
#ifndef MI_REDIRECT_RUNG_ENTRY_H
#define MI_REDIRECT_RUNG_ENTRY_H

#include "redirect/crt.h"

// crt->plan is good. MI_REASON_NONE = redirected and proven; otherwise the code is as it was,
// except for MI_REASON_ROLLBACK_FAILED and with crt->keeps_takers.
mi_reason_t mi_rung_entry(mi_crt_t *crt);
// Puts the functions that make blocks back, or redirects them again: all of them, or, with the
// reason, none.
mi_reason_t mi_rung_entry_pause(mi_crt_t *crt, bool is_paused);

#endif
