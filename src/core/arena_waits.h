// How much free memory may wait for its purge: the arenas' account of it. Part of arena.c: all of
// it under its lock.
#ifndef MI_CORE_ARENA_WAITS_H
#define MI_CORE_ARENA_WAITS_H

#include "core/limits.h"
#include "core/size_class.h"
#include "os/os.h"

#define MI_WAITS_LEAST (MI_DIRTY_LIMIT / MI_SLICE_BYTES)
#define MI_WAITS_MOST  (MI_DIRTY_LIMIT_TOP / MI_SLICE_BYTES)

typedef struct mi_waits_s {
    size_t slices;          // that wait
    size_t limit;           // of them
    uint64_t forced_at_ms;  // last purge because of the limit, 0 = it is as at first
    uint64_t lowered_at_ms; // the limit was last looked at then
} mi_waits_t;

// Beyond the limit: all that waits is purged now.
MI_INLINE bool mi_waits_are_too_many(mi_waits_t *w) {
    if (w->slices <= w->limit)
        return false;
    w->forced_at_ms = mi_os_clock_ms();
    return true;
}

// Twice what waits now is enough.
MI_INLINE void mi_waits_lower(mi_waits_t *w) {
    const size_t twice = 2 * w->slices;
    const size_t enough = (twice > MI_WAITS_LEAST ? twice : MI_WAITS_LEAST);
    w->limit = (w->limit < enough ? w->limit : enough);
}

// Slices are taken that were given back, or never touched. Soon after a purge that the limit
// demanded, it is too low. Later it is looked at now and then, not each time: while sizes change
// there are moments when little waits.
MI_INLINE void mi_waits_note_demand(mi_waits_t *w, size_t clean_slices) {
    if (w->forced_at_ms == 0 || clean_slices == 0)
        return;
    const uint64_t now = mi_os_clock_ms();
    if (now - w->forced_at_ms <= MI_REGRET_MS) {
        w->limit += clean_slices;
        w->limit = (w->limit < MI_WAITS_MOST ? w->limit : MI_WAITS_MOST);
    } else if (now - w->lowered_at_ms > MI_REGRET_MS) {
        w->lowered_at_ms = now;
        mi_waits_lower(w);
        if (w->limit == MI_WAITS_LEAST)
            w->forced_at_ms = 0;
    }
}

#endif
