// What mimalloc-redirect.dll exports. The allocator DLL of ours and of the original call the first
// five; programs may look up the last two with GetProcAddress.
#ifndef MI_REDIRECT_REDIRECT_H
#define MI_REDIRECT_REDIRECT_H

#include "base/base.h"

#if defined(_WIN32)
#    define MI_REDIRECT_EXPORT __declspec(dllexport)
#else
#    define MI_REDIRECT_EXPORT
#endif

enum { MI_REDIRECT_TEXT = 0, MI_REDIRECT_JSON = 1 };
// Exit code of a process whose policy is "required" and that could not be redirected.
enum { MI_REDIRECT_EXIT_REQUIRED = 120 };

// Ordinal 1. Called by the allocator when it is loaded. true = at least one CRT is redirected to
// it, proven by calls. *message is NULL, or one line that says why not; it stays valid.
MI_REDIRECT_EXPORT bool mi_allocator_init(const char **message);
// Called by the allocator when the process ends. Everything stays redirected: code of the process
// goes on to run.
MI_REDIRECT_EXPORT void mi_allocator_done(void);

// Switches the allocating functions of every CRT back to the original code (disable) or to the
// allocator (enable, the state at start), also of those that are loaded later. The functions that
// take a block stay redirected, so that blocks of either kind go home.
MI_REDIRECT_EXPORT void mi_redirect_enable(void);
MI_REDIRECT_EXPORT void mi_redirect_disable(void);
// The original's switch to functions that check whose block they get. Ours always do: nothing to
// switch.
MI_REDIRECT_EXPORT void mi_redirect_enable_term(void);

// Does malloc, called by the module that contains this address, return memory of the allocator?
// Answered by calling what that module imports. NULL = the program itself. Any thread; takes the
// loader lock.
MI_REDIRECT_EXPORT bool mi_redirect_is_active(void *module_address);

// Writes the state of the redirection to buf, at most cap bytes with a NUL at the end, as text for
// people or as JSON for programs (format: MI_REDIRECT_TEXT, MI_REDIRECT_JSON; with JSON per module,
// too). Returns the bytes that the whole text needs with its NUL, so that a caller can try again
// with a larger buffer; 0 = unknown format.
MI_REDIRECT_EXPORT size_t mi_redirect_status(char *buf, size_t cap, int format);

#endif
