// Why something was not redirected: one number, one sentence, one cure, in one table. The numbers
// are public (reports, JSON, documentation) and never change their meaning. Constant data: any
// thread.
#ifndef MI_PE_PLAN_REASON_H
#define MI_PE_PLAN_REASON_H

#include "base/base.h"

typedef enum mi_reason_e {
    MI_REASON_NONE = 0,
    // the image and its functions (the planner)
    MI_REASON_NOT_A_CRT = 1,
    // 2 was never given: the reader opens no image of another machine.
    MI_REASON_HYBRID = 3,
    MI_REASON_MALFORMED = 4,
    MI_REASON_CORE_MISSING = 5,
    MI_REASON_NOT_CODE = 6,
    MI_REASON_UNKNOWN_INSTRUCTION = 7,
    MI_REASON_TOO_SHORT = 8,
    MI_REASON_OVERLAP = 9,
    MI_REASON_BRANCH_INTO = 10,
    MI_REASON_CALL_IN_RANGE = 11,
    MI_REASON_ALIAS_CONFLICT = 12,
    MI_REASON_TOO_MANY = 13,
    MI_REASON_ALREADY_HOOKED = 14,
    MI_REASON_NOT_RELOCATABLE = 15,
    MI_REASON_FORWARDED = 16,
    MI_REASON_TOO_LONG = 17,
    // switches and the partner
    MI_REASON_DISABLED = 20,
    MI_REASON_POLICY_OFF = 21,
    MI_REASON_NO_ALLOCATOR = 22,
    MI_REASON_ALLOCATOR_VERSION = 23,
    MI_REASON_ALLOCATOR_INCOMPLETE = 24,
    MI_REASON_NO_CRT = 25,
    MI_REASON_DEBUG_LEFT_ALONE = 26,
    MI_REASON_SECOND_REDIRECT = 27,
    MI_REASON_RUNG_NONE = 28,
    // the transaction
    MI_REASON_NO_NEAR_MEMORY = 30,
    MI_REASON_PROTECT_FAILED = 31,
    MI_REASON_DYNAMIC_CODE = 32,
    MI_REASON_THREADS = 33,
    MI_REASON_THREAD_IN_RANGE = 34,
    MI_REASON_WRITE_LOST = 35,
    MI_REASON_PROOF_FAILED = 36,
    MI_REASON_ROLLBACK_FAILED = 37,
    MI_REASON_REMOVED = 38,
    MI_REASON_UNLOADED = 39,
    MI_REASON_NO_THUNKS = 50,
    MI_REASON_TABLES_READ_ONLY = 51,
    // modules and pointers
    MI_REASON_MODULE_OWN_CRT = 40,
    MI_REASON_MODULE_CRT_LEFT = 41,
    // 42 was never given.
    MI_REASON_UNKNOWN_POINTER = 43,
    MI_REASON_GUARD_OFF = 44,
    MI_REASON_DEBUG_HEAP_LOST = 45,
    MI_REASON_MODULE_OTHER_MALLOC = 47,
    // COM's task memory
    MI_REASON_COM_OFF = 60,
    MI_REASON_COM_ABSENT = 61,
    MI_REASON_COM_NEEDS_GUARD = 62,
    MI_REASON_COM_INCOMPLETE = 63,
    MI_REASON_COM_SECOND = 64,
    MI_REASON_COM_SPIED = 65,
} mi_reason_t;

typedef struct mi_reason_row_s {
    mi_reason_t code;
    const char *name;  // short, stable, for JSON
    const char *cause; // one sentence
    const char *cure;  // one sentence
} mi_reason_row_t;

extern const mi_reason_row_t mi_reasons[];
extern const size_t mi_reason_count;

// Does the reason bar only the patching of entries, so that the import and export tables may be
// tried?
bool mi_reason_has_next_rung(mi_reason_t code);

// Never NULL: an unknown number has a row of its own.
const mi_reason_row_t *mi_reason_row(mi_reason_t code);

#endif
