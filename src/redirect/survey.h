// What a CRT is asked about its whole heap: _heapchk, _heapset, _heapmin, _heapwalk. The answer is
// the CRT's own about its own heap, and then ours about our blocks: those of the whole process,
// whichever CRT gave them out, as the CRTs since Visual Studio 2012 share the process heap. Any
// thread; the heap may change meanwhile.
#ifndef MI_REDIRECT_SURVEY_H
#define MI_REDIRECT_SURVEY_H

#include "redirect/crt.h"

// Where a patched entry of this function goes; 0 = it is none of these.
uintptr_t mi_survey_target(mi_crt_fn_t fn);

#endif
