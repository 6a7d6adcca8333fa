// Status is behaviour: after redirecting, each function is called at the address that callers
// use, and what comes back must be in the allocator's heap. Functions that return nothing are
// proven with a probe, an address that is no block: it must arrive at the context of this CRT.
// Loader lock held.
#ifndef MI_REDIRECT_PROOF_H
#define MI_REDIRECT_PROOF_H

#include "redirect/crt.h"

// The blocks of a proof. Few different sizes, since the first block of a size takes memory of its
// own: mostly the process' very first blocks are these, so their sizes decide in which order the
// pages of small blocks lie. That is luck of addresses (24 instead of 60 made pairs of changing
// sizes a fifth slower in bench/redirect_cost.c). The larger one never fits where a smaller one
// lies.
enum { MI_PROOF_SMALL = 60, MI_PROOF_LARGE = 300 };

// Calls one redirected function at the address where callers reach it; counts in proof_count, or
// sets failed_name.
bool mi_proof_call(mi_crt_t *crt, const mi_plan_site_t *site, uintptr_t at);

// For crt_foreign.c: is this the probe? Then it has been noted, and nothing more is to be done.
bool mi_proof_is_probe(const mi_crt_t *crt, const void *p);

// Is this call one of the proof's? For what takes no pointer, and for what a proof must not set
// off: hooks, reports, numbers. If so, it is noted as having arrived at this CRT.
bool mi_proof_is_running(const mi_crt_t *crt);

#endif
