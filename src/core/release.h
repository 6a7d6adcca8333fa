// All memory goes back to the OS at once, whoever uses it: for an allocator whose code is about to
// leave the process, with the plugin that it was linked into.
#ifndef MI_CORE_RELEASE_H
#define MI_CORE_RELEASE_H

#include "base/base.h"

// Whether no block is live in any heap. false also when that cannot be told: a thread is at work.
bool mi_core_is_empty(void);
// Gives back everything that was taken from the OS but for what the program has given
// (mi_manage_memory) and pages of 1 GiB. No thread may allocate any more; what is freed later is
// found to be nobody's.
void mi_core_release(void);

#endif
