// The heap guard: system code that gets a block from a CRT and hands it to HeapFree, HeapSize, HeapReAlloc or
// HeapValidate must find that the block is ours. Loader lock held.
#ifndef MI_REDIRECT_GUARD_H
#define MI_REDIRECT_GUARD_H

#include "base/base.h"

void mi_guard_install(void);

#endif
