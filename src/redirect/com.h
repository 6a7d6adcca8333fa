// COM's task memory: CoTaskMemAlloc, CoTaskMemRealloc, CoTaskMemFree and the IMalloc of
// CoGetMalloc, when MIMALLOC_REDIRECT_COTASKMEM asks for it; otherwise nothing is looked for and
// nothing changed. Entry patches only, all of a module or none of it, in one transaction: the heap
// guard is in place before and knows our blocks wherever the old code takes them, so no function
// has to go first, and taking everything back is always safe. Without the guard the family is left
// alone. Loader lock.
#ifndef MI_REDIRECT_COM_H
#define MI_REDIRECT_COM_H

#include "redirect/crt.h"

typedef enum mi_com_phase_e {
    MI_COM_NOT_HERE, // not asked for, or no owner came yet
    MI_COM_LEFT_ALONE,
    MI_COM_REDIRECTED,
    MI_COM_GONE // its owner has left the process
} mi_com_phase_t;

// The owner that came last, or the one that is redirected.
typedef struct mi_com_state_s {
    mi_com_phase_t phase;
    mi_reason_t reason;      // MI_REASON_NONE = redirected
    const char *failed_name; // the function that caused it, or NULL
    const uint8_t *base;
    char name[64];
    mi_pe_version_t version; // of its file; zero = none
    bool is_late;            // its entry point had already run
    uint32_t patch_count;
    uint32_t proof_count; // functions that were called and found redirected
} mi_com_state_t;

// ctx answers for blocks of any heap. After the heap guard is prepared.
void mi_com_prepare(mi_crt_ctx_t *ctx);
void mi_com_install_all(void);
// A module that has just been mapped.
void mi_com_loaded(uint8_t *base, const mi_nt_string_t *name);
void mi_com_unloaded(const uint8_t *base);
void mi_com_forget_gone(void); // one that left without a notification
// The originals answer, or we again. The code stays as it is.
void mi_com_pause(bool is_paused);

const mi_com_state_t *mi_com_state(void);

#endif
