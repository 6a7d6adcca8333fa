// Status is behaviour: after patching, each patched entry is called at its own address, and what
// comes back must be in the allocator's heap. Functions that return nothing are proven with a
// probe, an address that is no block: it must arrive at the context of this CRT. Loader lock held.
#ifndef MI_REDIRECT_PROOF_H
#define MI_REDIRECT_PROOF_H

#include "redirect/crt.h"

// Calls every patched function; sets proof_count and, when false, failed_name.
bool mi_proof_run(mi_crt_t *crt);

// For crt_foreign.c: is this the probe? Then it has been noted, and nothing more is to be done.
bool mi_proof_is_probe(const mi_crt_t *crt, const void *p);

// Is this call one of the proof's? For what takes no pointer, and for what a proof must not set
// off: hooks, reports, numbers. If so, it is noted as having arrived at this CRT.
bool mi_proof_is_running(const mi_crt_t *crt);

#endif
