// What is said about the redirection, and where: stderr, the debugger, the log file, and status
// texts on request. Never allocates, needs no CRT. Any thread; status texts are assembled under the
// loader lock.
#ifndef MI_REDIRECT_REPORT_H
#define MI_REDIRECT_REPORT_H

#include "redirect/crt.h"

// One line. Verbose ones are dropped unless they were asked for; the log file gets all.
void mi_report(bool is_verbose_only, const char *fmt, ...) MI_PRINTF(2, 3);
void mi_report_crt(const mi_crt_t *crt);
// "WHAT: reason 1 (name): cause cure", when asked for.
void mi_report_reason(const char *what, mi_reason_t reason);
void mi_report_com(void); // the line about COM's task memory, as in the status
void mi_report_unknown_pointer(const char *crt_name, const void *p, const char *what);

// The state of the whole redirection, set by dll.c and guard.c.
typedef struct mi_report_state_s {
    mi_reason_t reason; // why nothing is redirected at all; MI_REASON_NONE = see each CRT
    const char *guard;  // how the heap guard works: "entry", "off", ...
    mi_reason_t guard_reason;
    _Atomic(uint64_t) guarded_calls; // heap calls with one of our pointers
} mi_report_state_t;
extern mi_report_state_t mi_report_state;

void mi_report_status_text(mi_text_t *t);
void mi_report_status_json(mi_text_t *t);

// A debug CRT is redirected to an allocator without books for it: said once in a process, whoever
// listens.
void mi_report_debug_heap_lost(const mi_crt_t *crt);

#endif
