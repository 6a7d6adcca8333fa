// Counts when a thread heap's lists are about to change (mi_theap_enter), for tests that ask
// whether something marks its change: what goes wrong without shows only to a fork of another
// thread, or to who stops threads, in between.
#include "changes.h"

#include "core/theap.h"

static _Thread_local uint64_t changes_count;

void mi_change_entered(const mi_theap_t *theap) {
    (void)theap;
    changes_count++;
}

uint64_t changes_seen(void) {
    return changes_count;
}
