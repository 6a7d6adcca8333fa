// Messages: what the allocator says, through the registered output function or raw to stderr.
// Nothing here allocates or waits, so that it may be called from anywhere in the allocator, at any
// time, by any thread.
//
// Three kinds: verbose (only when the option asks for it), warnings (at most option max_warnings of
// them) and errors (the caller's bug or corruption; at most max_errors are printed, the error
// handler hears of all).
#ifndef MI_DIAG_MESSAGE_H
#define MI_DIAG_MESSAGE_H

#include "base/base.h"
#include "mimalloc.h"

// Error numbers of mi_register_error; the values are Linux' errno values on every system.
#define MI_EAGAIN    11 // double free
#define MI_ENOMEM    12 // no memory
#define MI_EFAULT    14 // corruption
#define MI_EINVAL    22 // a pointer that is not ours, or a bad argument
#define MI_EOVERFLOW 75 // size arithmetic overflowed

void mi_message_verbose(const char *fmt, ...) MI_PRINTF(1, 2);
void mi_message_warning(const char *fmt, ...) MI_PRINTF(1, 2);
// Prints, then calls the error handler. Without one, MI_EFAULT and MI_EAGAIN end the process in
// debug and secure builds.
void mi_message_error(int error, const char *fmt, ...) MI_PRINTF(2, 3);
// Memory is short: not the caller's bug, so it is printed only when verbose; the error handler
// hears of it.
void mi_message_no_memory(size_t size);

// Text through out; out NULL: through the registered output function, without one to stderr.
void mi_message_text(mi_output_fun *out, void *arg, const char *text);
void mi_message_fmt(mi_output_fun *out, void *arg, const char *fmt, ...) MI_PRINTF(3, 4);

void mi_message_set_output(mi_output_fun *out, void *arg);
void mi_message_set_error(mi_error_fun *fun, void *arg);
// The corruption sink: an MI_EFAULT error. Installed by the process' start.
void mi_message_corrupt(const char *what, const void *where);
// The assertion sink: prints the fact. Installed by the process' start.
void mi_message_assert(const char *fact, const char *file, int line);

#endif
