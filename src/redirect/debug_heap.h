// The allocation functions of a debug CRT over our heap: what Microsoft documents of its debug heap
// (types, request numbers, file and line, hooks, breaks, fills, delayed frees), with the
// allocator's books in the place of block headers. Only for CRTs with is_tracked; any thread, no
// lock is held while code of the program or of the CRT runs.
//
//   the CRT keeps, we read            the allocator keeps             we keep, per CRT
//   flags, hook, dump client,         type, size, file, line,         how many requests so far
//   break number, check count         request number of each block
#ifndef MI_REDIRECT_DEBUG_HEAP_H
#define MI_REDIRECT_DEBUG_HEAP_H

#include "redirect/crt.h"

// From <crtdbg.h>: what _CrtSetDbgFlag switches.
enum {
    MI_DEBUG_FLAG_ALLOC_MEM = 0x01,
    MI_DEBUG_FLAG_DELAY_FREE = 0x02,
    MI_DEBUG_FLAG_CHECK_ALWAYS = 0x04,
    MI_DEBUG_FLAG_CHECK_CRT = 0x10,
    MI_DEBUG_FLAG_LEAK_CHECK = 0x20,
};

// Where a patched entry of this function goes in a tracked CRT; 0 = as in every other CRT.
uintptr_t mi_debug_heap_target(mi_crt_fn_t fn);
// The CRT is redirected and proven: its numbers begin where the CRT's own stand.
void mi_debug_heap_begin(mi_crt_t *crt);

// The CRT's flags now; before its initialisation, those that it begins with.
int mi_debug_heap_flags(mi_crt_t *crt);
// Says something as the CRT would, through its _CrtDbgReport, so that report modes, files and hooks
// apply.
void mi_debug_heap_say(mi_crt_t *crt, const char *text);

#endif
