// The modules that may concern us, found in one look at each module of the process: two hundred
// others are dismissed by the names that they export, once, however many questions there are.
// Loader lock held.
#ifndef MI_REDIRECT_ROLL_H
#define MI_REDIRECT_ROLL_H

#include "redirect/modules.h"

// Looks at all modules. Whoever asks below wants it done since the last module came or went.
void mi_roll_call(void);

// In load order: every module that exports malloc, CoTaskMemAlloc, or a name that begins with mi_
// or _mi_ (C runtimes, allocators, redirect DLLs), and perhaps others. NULL = no more; start with
// NULL.
const mi_nt_module_t *mi_roll_next(const mi_nt_module_t *module);

#endif
