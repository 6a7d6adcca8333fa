#include "entry/leaks.h"

#include "core/snapshot.h"
#include "diag/message.h"
#include "os/os.h"

enum { LINES_MAX = 200, TRIES = 100 };

typedef struct leaks_s {
    mi_snapshot_block_t *blocks;
    size_t room;  // entries
    size_t count; // of the last snapshot
} leaks_t;

// Guests: an entry that takes another one with its address back. Both lose their address.
static void leaks_take_back(leaks_t *leaks) {
    for (size_t i = 0; i < leaks->count; i++) {
        if (leaks->blocks[i].size != MI_SNAPSHOT_GONE)
            continue;
        for (size_t k = 0; k < leaks->count; k++)
            if (leaks->blocks[k].p == leaks->blocks[i].p && k != i)
                leaks->blocks[k].p = NULL;
        leaks->blocks[i].p = NULL;
    }
}

// false: a thread stood inside a lock each time, or there is no memory for the list.
static bool leaks_collect(leaks_t *leaks) {
    const void *damaged;
    for (unsigned n = 0; n < TRIES; n++) {
        leaks->count = mi_core_snapshot(leaks->blocks, leaks->room, &damaged);
        if (leaks->count == MI_SNAPSHOT_BUSY) {
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
        leaks->blocks = (mi_snapshot_block_t *)mi_os_reserve(bytes, page);
        bool is_zero;
        if (leaks->blocks == NULL || mi_os_commit(leaks->blocks, bytes, &is_zero) != 0)
            return false;
        leaks->room = bytes / sizeof(*leaks->blocks);
    }
    return false;
}

static void leaks_list(const leaks_t *leaks, mi_output_fun *out, void *arg) {
    size_t count = 0, bytes = 0, lines = 0;
    for (size_t i = 0; i < leaks->count; i++)
        if (leaks->blocks[i].p != NULL) {
            count++;
            bytes += leaks->blocks[i].size;
        }
    mi_message_fmt(out, arg, "mimalloc: %zu blocks of %zu bytes are live at the end\n", count,
                   bytes);
    for (size_t i = 0; i < leaks->count && lines < LINES_MAX; i++)
        if (leaks->blocks[i].p != NULL) {
            mi_message_fmt(out, arg, "  %p: %zu bytes\n", leaks->blocks[i].p,
                           leaks->blocks[i].size);
            lines++;
        }
    if (lines < count)
        mi_message_fmt(out, arg, "  ... and %zu more\n", count - lines);
}

void mi_leaks_print(mi_output_fun *out, void *arg) {
    leaks_t leaks = {0};
    if (leaks_collect(&leaks)) {
        leaks_take_back(&leaks);
        leaks_list(&leaks, out, arg);
    } else {
        mi_message_text(out, arg,
                        "mimalloc: the live blocks cannot be listed: a thread is at work in the "
                        "allocator, or there is no memory for the list\n");
    }
    if (leaks.room != 0)
        (void)mi_os_release(leaks.blocks, leaks.room * sizeof(*leaks.blocks));
}
