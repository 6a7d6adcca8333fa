// Memory by request: reserving it from the OS, or giving the allocator memory of one's own.
#include "mimalloc.h"

#include "base/base.h"
#include "core/alloc.h"
#include "core/arena.h"
#include "core/heap.h"
#include "diag/message.h"
#include "entry/entry.h"
#include "os/os.h"

// What mi_manage_os_memory needs at least: its own bookkeeping and a few slices to allocate from.
#define ARENA_LEAST_SLICES ((size_t)16)

int mi_reserve_os_memory_ex(size_t size, bool commit, bool allow_large, bool exclusive,
                            mi_arena_id_t *arena_id) mi_attr_noexcept {
    if (arena_id != NULL)
        *arena_id = NULL;
    if (size == 0 || size > MI_REQUEST_MAX)
        return MI_ENOMEM;
    const mi_memory_t wish = {
        .bytes = size, .is_committed = commit, .is_exclusive = exclusive, .numa_node = -1};
    void *arena;
    const bool is_good = mi_core_arena_reserve(&wish, allow_large, &arena);
    if (arena_id != NULL)
        *arena_id = arena;
    return is_good ? 0 : MI_ENOMEM;
}

int mi_reserve_os_memory(size_t size, bool commit, bool allow_large) mi_attr_noexcept {
    return mi_reserve_os_memory_ex(size, commit, allow_large, false, NULL);
}

int mi_reserve_huge_os_pages_at_ex(size_t pages, int numa_node, size_t timeout_msecs,
                                   bool exclusive, mi_arena_id_t *arena_id) mi_attr_noexcept {
    if (arena_id != NULL)
        *arena_id = NULL;
    if (pages == 0)
        return 0;
    size_t bytes;
    if (!mi_mul_ok(pages, MI_GiB, &bytes))
        return MI_ENOMEM;
    const uint64_t start = mi_os_clock_ms();
    void *p = mi_os_reserve_huge_pages(bytes, numa_node);
    if (p == NULL)
        return MI_ENOMEM;
    if (timeout_msecs != 0 && mi_os_clock_ms() - start > timeout_msecs)
        mi_message_warning("reserving %zu huge pages took longer than %zu ms", pages,
                           timeout_msecs);
    const bool is_good =
        mi_manage_memory(p, bytes, true, true, true, numa_node, exclusive, NULL, NULL, arena_id);
    return is_good ? 0 : MI_ENOMEM;
}

int mi_reserve_huge_os_pages_at(size_t pages, int numa_node,
                                size_t timeout_msecs) mi_attr_noexcept {
    return mi_reserve_huge_os_pages_at_ex(pages, numa_node, timeout_msecs, false, NULL);
}

// *missing: how many there are not.
static int reserve_spread(size_t pages, size_t numa_nodes, size_t timeout_msecs, size_t *missing) {
    const size_t nodes = (numa_nodes == 0 ? mi_arena_node_count() : numa_nodes);
    const size_t timeout = (timeout_msecs == 0 ? 0 : timeout_msecs / nodes + 1);
    *missing = pages;
    for (size_t node = 0; node < nodes && *missing != 0; node++) {
        const size_t part = *missing / (nodes - node) + (*missing % (nodes - node) != 0);
        const int error = mi_reserve_huge_os_pages_at(part, (int)node, timeout);
        if (error != 0)
            return error;
        *missing -= part;
    }
    return 0;
}

int mi_reserve_huge_os_pages_interleave(size_t pages, size_t numa_nodes,
                                        size_t timeout_msecs) mi_attr_noexcept {
    size_t missing;
    return reserve_spread(pages, numa_nodes, timeout_msecs, &missing);
}

int mi_reserve_huge_os_pages(size_t pages, double max_secs,
                             size_t *pages_reserved) mi_attr_noexcept {
    const size_t timeout_msecs = (max_secs > 0 && max_secs < 1e6 ? (size_t)(max_secs * 1000) : 0);
    size_t missing;
    const int error = reserve_spread(pages, 0, timeout_msecs, &missing);
    if (pages_reserved != NULL)
        *pages_reserved = pages - missing;
    return error;
}

bool mi_manage_os_memory_ex(void *start, size_t size, bool is_committed, bool is_large,
                            bool is_zero, int numa_node, bool exclusive,
                            mi_arena_id_t *arena_id) mi_attr_noexcept {
    return mi_manage_memory(start, size, is_committed, is_large, is_zero, numa_node, exclusive,
                            NULL, NULL, arena_id);
}

bool mi_manage_os_memory(void *start, size_t size, bool is_committed, bool is_large, bool is_zero,
                         int numa_node) mi_attr_noexcept {
    return mi_manage_os_memory_ex(start, size, is_committed, is_large, is_zero, numa_node, false,
                                  NULL);
}

bool mi_manage_memory(void *start, size_t size, bool is_committed, bool is_pinned, bool is_zero,
                      int numa_node, bool exclusive, mi_commit_fun_t *commit_fun,
                      void *commit_fun_arg, mi_arena_id_t *arena_id) mi_attr_noexcept {
    if (arena_id != NULL)
        *arena_id = NULL;
    if (start == NULL || size == 0)
        return false;
    const mi_memory_t given = {.start = start,
                               .bytes = size,
                               .is_committed = is_committed,
                               .is_zero = is_zero,
                               .is_exclusive = exclusive,
                               .is_pinned = is_pinned,
                               .numa_node = numa_node,
                               .commit = commit_fun,
                               .commit_arg = commit_fun_arg};
    void *arena;
    const bool is_good = mi_core_arena_manage(&given, &arena);
    if (arena_id != NULL)
        *arena_id = arena;
    return is_good;
}

void *mi_arena_area(mi_arena_id_t arena_id, size_t *size) mi_attr_noexcept {
    size_t bytes = 0;
    void *start = (arena_id == NULL ? NULL : mi_core_arena_area(arena_id, &bytes));
    if (size != NULL)
        *size = bytes;
    return start;
}

bool mi_arena_contains(mi_arena_id_t arena_id, const void *p) mi_attr_noexcept {
    return arena_id != NULL && mi_core_arena_contains(arena_id, p);
}

size_t mi_arena_min_alignment(void) mi_attr_noexcept {
    return MI_SLICE_BYTES;
}

size_t mi_arena_min_size(void) {
    return ARENA_LEAST_SLICES * MI_SLICE_BYTES;
}

bool mi_arena_unload(mi_arena_id_t arena_id, void **base, size_t *accessed_size, size_t *size) {
    void *start = NULL;
    size_t accessed = 0;
    size_t bytes = 0;
    const bool is_good = mi_core_arena_unload(arena_id, &start, &accessed, &bytes);
    if (base != NULL)
        *base = start;
    if (accessed_size != NULL)
        *accessed_size = accessed;
    if (size != NULL)
        *size = bytes;
    return is_good;
}

bool mi_arena_reload(void *start, size_t size, mi_commit_fun_t *commit_fun, void *commit_fun_arg,
                     bool is_pinned, bool is_zero, int numa_node, mi_arena_id_t *arena_id) {
    (void)commit_fun; // all of it is usable: the caller has just put its content there
    (void)commit_fun_arg;
    (void)is_pinned; // the core never purges memory that it was given
    (void)numa_node;
    void *arena = NULL;
    if (!mi_load_acquire(&mi_entry_is_ready))
        mi_entry_init();
    const bool is_good = mi_core_arena_reload(start, size, is_zero, &arena);
    if (arena_id != NULL)
        *arena_id = arena;
    return is_good;
}

void mi_arenas_print(void) mi_attr_noexcept {
    mi_core_stats_t stats;
    mi_core_stats(&stats);
    mi_message_fmt(
        NULL, NULL,
        "mimalloc: %llu arenas: %llu KiB reserved, %llu KiB committed, %llu pages with "
        "%llu KiB, %llu KiB purged so far\n",
        (unsigned long long)stats.arena_count, (unsigned long long)(stats.reserved_bytes / MI_KiB),
        (unsigned long long)(stats.committed_bytes / MI_KiB), (unsigned long long)stats.page_count,
        (unsigned long long)(stats.page_bytes / MI_KiB),
        (unsigned long long)(stats.purged_bytes / MI_KiB));
}

void mi_debug_show_arenas(bool show_pages) mi_attr_noexcept {
    (void)show_pages;
    mi_arenas_print();
}

mi_heap_t *mi_heap_new_ex(int heap_tag, bool allow_destroy, mi_arena_id_t arena_id) {
    (void)heap_tag;
    (void)allow_destroy;
    return mi_heap_new_in_arena(arena_id);
}

mi_heap_t *mi_heap_new_in_arena(mi_arena_id_t arena_id) {
    if (arena_id == NULL)
        return mi_heap_new();
    mi_heap_t *const heap = mi_core_heap_new_in_arena(arena_id);
    return heap != NULL ? heap : mi_no_memory(sizeof(*heap));
}
