#include "entry/leaks.h"

#include "base/block_list.h"
#include "core/alloc.h"
#include "core/snapshot.h"
#include "diag/message.h"
#include "entry/guarded.h"
#include "os/os.h"

enum { LINES_MAX = 200, TRIES = 100 };

typedef struct leaks_s {
    mi_redirect_block_t *blocks;
    size_t room;  // entries
    size_t count; // of the last snapshot
} leaks_t;

// false: a thread stood inside a lock each time, or there is no memory for the list.
static bool leaks_collect(leaks_t *leaks) {
    const void *damaged;
    for (unsigned n = 0; n < TRIES; n++) {
        leaks->count = mi_core_snapshot(leaks->blocks, leaks->room, &damaged);
        if (leaks->count == MI_REDIRECT_BUSY) {
            mi_os_yield();
            continue;
        }
        if (leaks->count <= leaks->room)
            return true;
        if (leaks->blocks != NULL)
            (void)mi_os_release(leaks->blocks, leaks->room * sizeof(*leaks->blocks));
        const size_t page = mi_os_page_bytes();
        const size_t bytes = (leaks->count * sizeof(*leaks->blocks) / page + 2) * page;
        leaks->room = 0;
        leaks->blocks = (mi_redirect_block_t *)mi_os_reserve(bytes, page);
        bool is_zero;
        if (leaks->blocks == NULL || mi_os_commit(leaks->blocks, bytes, &is_zero) != 0)
            return false;
        leaks->room = bytes / sizeof(*leaks->blocks);
    }
    return false;
}

static void leaks_list(const leaks_t *leaks, mi_output_fun *out, void *arg) {
    const size_t lines = (leaks->count < LINES_MAX ? leaks->count : LINES_MAX);
    size_t bytes = 0;
    for (size_t i = 0; i < leaks->count; i++) {
        size_t size = leaks->blocks[i].size;
        (void)mi_guarded_within((void *)(uintptr_t)leaks->blocks[i].p, &size);
        bytes += size;
    }
    mi_message_fmt(out, arg, "mimalloc: %zu blocks of %zu bytes are live at the end\n",
                   leaks->count, bytes);
    for (size_t i = 0; i < lines; i++) {
        size_t size = leaks->blocks[i].size;
        const void *const p = mi_guarded_within((void *)(uintptr_t)leaks->blocks[i].p, &size);
        mi_damage_t damage;
        const bool is_damaged = mi_core_damage(leaks->blocks[i].p, &damage);
        mi_message_fmt(out, arg, "  %p: %zu bytes%s\n", p, is_damaged ? damage.size : size,
                       is_damaged ? ", its end was overwritten" : "");
    }
    if (lines < leaks->count)
        mi_message_fmt(out, arg, "  ... and %zu more\n", leaks->count - lines);
}

void mi_leaks_print(mi_output_fun *out, void *arg) {
    leaks_t leaks = {0};
    if (leaks_collect(&leaks)) {
        leaks.count = mi_block_list_settle(leaks.blocks, leaks.count);
        leaks_list(&leaks, out, arg);
    } else {
        mi_message_text(out, arg,
                        "mimalloc: the live blocks cannot be listed: a thread is at work in the "
                        "allocator, or there is no memory for the list\n");
    }
    if (leaks.room != 0)
        (void)mi_os_release(leaks.blocks, leaks.room * sizeof(*leaks.blocks));
}
