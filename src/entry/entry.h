// What the files of the entry layer share: how an allocation fails, how a bad pointer is reported,
// and how the process' options reach the core. The core returns facts; here they become errno,
// messages and handlers.
#ifndef MI_ENTRY_ENTRY_H
#define MI_ENTRY_ENTRY_H

#include "base/atomic.h"
#include "base/base.h"
#include "core/alloc.h"
#include "mimalloc.h"
#include "os/os.h"

// ---- process.c ----
// The options were read; a slow path that sees false calls mi_entry_init.
extern MI_HIDDEN _Atomic(bool) mi_entry_is_ready;
extern MI_HIDDEN _Atomic(bool) mi_entry_has_deferred; // mi_register_deferred_free has a callback
void mi_deferred_run(bool force);                     // calls it, unless it is being called
void mi_entry_init(void); // reads the options, tells the core, says hello when verbose; once
void mi_entry_exit(void); // end of the process: statistics when asked for; once
// The library's own code is about to be unloaded. is_certain: it is not the process that ends.
void mi_entry_unload(bool is_certain);
void mi_entry_process_info(mi_os_process_info_t *info); // the OS' facts, elapsed since our start
void mi_entry_options_changed(void);                    // hands the options to the core again

// ---- report.c: the slow twins of the hot entries, and what failure means ----
void *mi_malloc_slow(size_t size); // after mi_malloc_try failed
void *mi_zalloc_any(size_t size);  // zeroed, any size; errno when it fails
void mi_free_slow(void *p);        // complete by itself; the fast one is in free_any.h
// NULL, after errno, the message and the error handler of a failed allocation.
void *mi_no_memory(size_t size);
// Reports a pointer that operation ("free", "realloc", ...) got and that is none of our blocks.
void mi_report_pointer(mi_free_result_t result, const void *p, const char *operation);
// p resized, with foreign pointers handed to whoever answers for them, else reported.
void *mi_realloc_any(void *p, size_t size, unsigned flags);
void *mi_realloc_move(void *p, size_t size, size_t usable); // after mi_realloc_try failed
// If p is a guarded block: resizes it by moving it to an ordinary block, *out is the result.
bool mi_realloc_guarded(void *p, size_t size, unsigned flags, void **out);
size_t mi_usable_any(const void *p, const char *operation);
// Debug and secure builds: reports a block of ours that is freed with a size larger than it is, or
// an alignment that it does not have: another block was meant, or another type.
void mi_told_check(const void *p, size_t size, size_t alignment);
MI_INLINE void mi_told(const void *p, size_t size, size_t alignment) {
    if (MI_DEBUG || MI_SECURE)
        mi_told_check(p, size, alignment);
}

// ---- platform_linux.c, platform_windows.c ----
void mi_platform_errno(
    int error); // MI_ENOMEM, MI_EINVAL as this system's errno; Windows has none here
// A new-handler of the program ran: true = try again. false = there is none, or, with is_caught, it
// ended with an exception.
bool mi_platform_new_handler(size_t size, bool is_caught);
MI_NORETURN void
mi_platform_new_failed(size_t size); // throws std::bad_alloc where it can, else aborts
const char *mi_platform_name(void);
mi_output_fun *mi_platform_exit_output(void); // for the last messages; NULL = as always
bool mi_platform_is_redirected(void);
// Somebody else's block: true = it was dealt with (Windows, redirected). *out is what the owner
// answered.
bool mi_platform_foreign_free(void *p);
bool mi_platform_foreign_realloc(void *p, size_t size, void **out);
bool mi_platform_foreign_usable(const void *p, size_t *out);

#endif
