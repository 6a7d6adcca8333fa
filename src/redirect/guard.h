// The heap guard: system code that gets a block from a CRT and hands it to HeapFree, HeapSize,
// HeapReAlloc, HeapValidate or LocalFree must find that the block is ours. The four functions of
// ntdll that all of those end in are patched at their entries, their originals are kept. So it
// covers every module, also those that come later.
//
//   RtlFreeHeap:  E9 rel32   --->  is_ours(p) ?  allocator's free  :  moved first instructions of
//   RtlFreeHeap
#ifndef MI_REDIRECT_GUARD_H
#define MI_REDIRECT_GUARD_H

#include "base/redirect_abi.h"
#include "pe/plan_reason.h"

// ctx serves failing reallocations. Before the first CRT is redirected.
void mi_guard_prepare(mi_crt_ctx_t *ctx);
// Loader lock held, allocator bound; only the first call does something. All four or none; the
// result is in mi_report_state.
void mi_guard_install(void);

#endif
