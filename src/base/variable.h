// The environment variables of the redirection, as both DLLs read them: the redirect DLL, and the
// allocator where no redirect DLL is there to do it. (The allocator's own options: diag/options.c.)
#ifndef MI_BASE_VARIABLE_H
#define MI_BASE_VARIABLE_H

#include "base/base.h"

#if defined(_WIN32)
// The value of MIMALLOC_<name>, else of MI_<name>; false = neither is set, or is one of our words:
// empty or longer than cap. Whether it may be trusted (base/privilege.h) is the caller's question.
bool mi_variable_read(const char *name, char *buf, size_t cap);
// Does a value switch something off? "0", "false", "no", "off", in any case.
bool mi_variable_is_off(const char *value);
#endif

#endif
