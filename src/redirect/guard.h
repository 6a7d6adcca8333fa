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

// Loader lock held, allocator bound. All four or none; the result is in mi_report_state. ctx serves
// failing reallocations.
void mi_guard_install(mi_crt_ctx_t *ctx);

#endif
