// free as the hot entries have it: the thread's own block at once, then another thread's, then
// whatever it may be.
#ifndef MI_ENTRY_FREE_ANY_H
#define MI_ENTRY_FREE_ANY_H

#include "core/alloc_inline.h"
#include "entry/entry.h"

// After mi_free_step said that it may be another thread's.
void mi_free_far(void *p, uintptr_t entry, mi_theap_t *theap);

MI_INLINE void mi_free_any(void *p) {
    uintptr_t entry;
    mi_theap_t *theap;
    const mi_free_step_t step = mi_free_step(p, &entry, &theap);
    if (MI_UNLIKELY(step == MI_FREE_FAR))
        mi_free_far(p, entry, theap);
    else if (MI_UNLIKELY(step == MI_FREE_ASK))
        mi_free_slow(p);
}

#endif
