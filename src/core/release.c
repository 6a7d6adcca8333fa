// Walks what was ever reserved: blocks with a reservation of their own, arenas, and the tables
// beside them. The order matters: structs lie in what is released later.
#include "core/release.h"

#include "core/arena.h"
#include "core/arena_head.h"
#include "core/limits.h"
#include "core/meta.h"
#include "core/page.h"
#include "core/snapshot.h"
#include "os/os.h"

bool mi_core_is_empty(void) {
    const void *damaged = NULL;
    return mi_core_snapshot(NULL, 0, &damaged) == 0;
}

static bool release_own(mi_page_t *page, void *arg) {
    (void)arg;
    const size_t slices = page->slices;
    mi_page_map_clear(page->start, slices);
    (void)mi_os_release(page->start, slices << MI_SLICE_SHIFT);
    return true;
}

void mi_core_release(void) {
    (void)mi_page_visit_own(release_own, NULL);
    for (size_t i = 0; i < MI_ARENA_MAX_COUNT; i++) {
        mi_arena_t *const a = mi_arena_at(i);
        if (a == NULL)
            continue;
        mi_page_map_clear(a->base, a->slices);
        if (mi_arena_is_own(a))
            mi_arena_memory_release(a);
    }
    mi_meta_release();
    mi_page_map_release();
}
