// The program's C++ runtime, seen from a library that is not linked with it (cxx_linux.c).
#ifndef MI_ENTRY_CXX_H
#define MI_ENTRY_CXX_H

#include "base/base.h"

// Runs the program's new-handler: true = it came back, the allocation may be tried again. What it
// throws goes on to the caller; with is_caught it ends here, and the answer is false.
bool mi_cxx_handler_run(bool is_caught);
// Throws std::bad_alloc; comes back when there is no C++ runtime.
void mi_cxx_throw_bad_alloc(void);
// Calls f. false = it ended with an exception, which is gone now.
MI_HIDDEN bool mi_cxx_call(void (*f)(void));

#endif
