// The process' start and end as this layer sees them: options are read and handed to the core,
// messages said. The first slow path of any thread does it when no constructor came before.
#include "entry/entry.h"

#include "base/atomic.h"
#include "core/limits.h"
#include "core/page_map.h"
#include "core/release.h"
#include "diag/hook.h"
#include "diag/message.h"
#include "diag/options.h"
#include "entry/guarded.h"
#include "entry/leaks.h"
#include "mimalloc.h"
#include "os/os.h"

_Atomic(bool) mi_entry_is_ready;

static uint64_t start_ms; // when the options were read
static _Atomic(bool) init_began;
static _Atomic(bool) exit_began;

// The program's own deferred frees. One thread at a time is in the callback, so that it cannot meet
// itself.
_Atomic(bool) mi_entry_has_deferred;
static struct {
    mi_hook_t hook; // mi_deferred_free_fun
    _Atomic(bool) is_running;
    unsigned long long heartbeat; // calls so far; who has set is_running
} deferred;

MI_NOINLINE void mi_deferred_run(bool force) {
    if (mi_exchange_acquire(&deferred.is_running, true))
        return;
    void *arg;
    mi_deferred_free_fun *const fun = (mi_deferred_free_fun *)mi_hook_get(&deferred.hook, &arg);
    if (fun != NULL)
        fun(force, deferred.heartbeat++, arg);
    mi_store_release(&deferred.is_running, false); // pairs with the exchange above
}

static void numa_options_changed(void) {
    const long nodes = mi_option_value(mi_option_use_numa_nodes);
    mi_config_set(numa_nodes, nodes > 0 && nodes < 1000 ? (size_t)nodes : 0);
    mi_config_set(is_numa_local, mi_option_value(mi_option_arena_is_numa_local) > 0);
}

// How memory comes from the OS and goes back to it.
static void memory_options_changed(void) {
    const long mult = mi_option_value(mi_option_arena_purge_mult);
    mi_config_set(purge_mult, (uint32_t)(mult < 0 ? 0 : mult > 1000000 ? 1000000 : mult));
    mi_config_set(purge_keeps_memory, mi_option_value(mi_option_purge_decommits) == 0);
    mi_config_set(purge_least, mi_option_bytes(mi_option_minimal_purge_size));
    // 2, the default: at once where that costs nothing, and there it is done anyway.
    mi_config_set(eager_commit, mi_option_value(mi_option_arena_eager_commit) == 1);
    const size_t largest = mi_option_bytes(mi_option_arena_max_object_size);
    mi_config_set(span_max, (mi_option_value(mi_option_disallow_arena_alloc) > 0 ? 0
                             : largest < MI_SPAN_MAX                             ? largest
                                                                                 : MI_SPAN_MAX));
    const long every = mi_option_value(mi_option_generic_collect);
    mi_core_collect_every((uint32_t)(!mi_option_is_set(mi_option_generic_collect) || every <= 0 ? 0
                                     : every > INT32_MAX ? INT32_MAX
                                                         : every));
    mi_config_set(never_steal, mi_option_value(mi_option_page_max_reclaim) == 0);
}

void mi_entry_options_changed(void) {
    mi_config_set(purge_delay_ms, mi_option_value(mi_option_purge_delay));
    if (mi_option_is_set(mi_option_arena_reserve))
        mi_config_set(arena_bytes, mi_option_bytes(mi_option_arena_reserve));
    mi_config_set(is_thp_allowed, mi_option_is_set(mi_option_allow_thp) &&
                                      mi_option_value(mi_option_allow_thp) > 0);
    mi_config_set(never_use_os, mi_option_value(mi_option_disallow_os_alloc) > 0);
    const long patience_ms = mi_option_value(mi_option_retry_on_oom);
    mi_os_set_commit_retry((uint32_t)(patience_ms < 0        ? 0
                                      : patience_ms > 600000 ? 600000
                                                             : patience_ms));
    memory_options_changed();
    numa_options_changed();
    mi_guarded_configure();
}

static void arenas_reserve(void) {
    const long huge = mi_option_value(mi_option_reserve_huge_os_pages);
    if (huge > 0) {
        const long node = mi_option_value(mi_option_reserve_huge_os_pages_at);
        if (node < 0)
            mi_reserve_huge_os_pages_interleave((size_t)huge, 0, (size_t)huge * 500);
        else
            mi_reserve_huge_os_pages_at((size_t)huge, (int)node, (size_t)huge * 500);
    }
    const size_t bytes = mi_option_bytes(mi_option_reserve_os_memory);
    if (bytes > 0)
        mi_reserve_os_memory(bytes, true, mi_option_value(mi_option_allow_large_os_pages) > 0);
}

MI_COLD void mi_entry_init(void) {
    if (mi_exchange_acq_rel(&init_began, true))
        return; // some thread is at it; the core's defaults serve meanwhile
    start_ms = mi_os_clock_ms();
    mi_assert_set_sink(mi_message_assert);
    mi_corrupt_set_sink(mi_message_corrupt);
    mi_options_start();
    mi_entry_options_changed();
    if (mi_option_value(mi_option_show_stats) > 0)
        mi_core_count_all(true); // the printed number of allocations shall be exact
    mi_core_process_init();
    if (mi_option_value(mi_option_pagemap_commit) > 0)
        mi_page_map_commit();
    arenas_reserve();
    const bool is_verbose = (mi_option_value(mi_option_verbose) > 0);
    mi_options_started();
    mi_store_release(&mi_entry_is_ready, true); // with the acquires in the slow paths
    if (is_verbose)
        mi_options_print();
}

void mi_entry_exit(void) {
    if (mi_exchange_acq_rel(&exit_began, true))
        return;
    if (mi_option_value(mi_option_show_stats) > 0 || mi_option_value(mi_option_verbose) > 1)
        mi_stats_print_out(mi_platform_exit_output(), NULL);
    if (MI_DEBUG && mi_option_value(mi_option_show_stats) > 1)
        mi_leaks_print(mi_platform_exit_output(), NULL);
}

// Nobody can free anything any more, but blocks may be read as long as the process lives: without
// the option they keep their memory, and all else only where it is sure that nobody comes back.
void mi_entry_unload(bool is_certain) {
    mi_entry_exit();
    mi_os_threads_forget();
    if (mi_option_value(mi_option_destroy_on_exit) > 0 || (is_certain && mi_core_is_empty()))
        mi_core_release();
    else
        mi_core_collect(true);
}

void mi_entry_process_info(mi_os_process_info_t *info) {
    mi_os_process_info(info);
    if (info->current_commit == 0) { // the system counts no such thing: what arenas have in use
        mi_core_stats_t stats;
        mi_core_stats(&stats);
        info->current_commit = (size_t)stats.committed_bytes;
        info->peak_commit =
            (size_t)(stats.committed_peak > stats.committed_bytes ? stats.committed_peak
                                                                  : stats.committed_bytes);
    }
    const uint64_t elapsed_ms = mi_os_clock_ms() - start_ms;
    if (mi_entry_is_ready && info->elapsed_ms < elapsed_ms)
        info->elapsed_ms = elapsed_ms; // the OS may have begun to count later
}

void mi_process_init(void) mi_attr_noexcept {
    mi_entry_init();
}

void mi_process_done(void) mi_attr_noexcept {
    mi_entry_exit();
}

void mi_thread_init(void) mi_attr_noexcept {
    if (!mi_load_acquire(&mi_entry_is_ready))
        mi_entry_init();
    mi_core_thread_init();
}

void mi_thread_done(void) mi_attr_noexcept {
    mi_core_thread_done();
}

void mi_thread_set_in_threadpool(void) mi_attr_noexcept {
    // Other threads never take memory from a living thread here, so that there is nothing to
    // forbid.
}

void mi_collect(bool force) mi_attr_noexcept {
    mi_deferred_run(force);
    mi_core_collect(force);
}

void mi_collect_reduce(size_t target_thread_owned) mi_attr_noexcept {
    mi_deferred_run(false);
    mi_core_reduce(target_thread_owned);
}

int mi_version(void) mi_attr_noexcept {
    return MI_MALLOC_VERSION;
}

bool mi_is_redirected(void) mi_attr_noexcept {
    return mi_platform_is_redirected();
}

void mi_register_deferred_free(mi_deferred_free_fun *deferred_free, void *arg) mi_attr_noexcept {
    mi_hook_set(&deferred.hook, (uintptr_t)deferred_free, arg);
    mi_store_relaxed(&mi_entry_has_deferred, deferred_free != NULL);
}

void mi_register_output(mi_output_fun *out, void *arg) mi_attr_noexcept {
    mi_message_set_output(out, arg);
}

void mi_register_error(mi_error_fun *fun, void *arg) {
    mi_message_set_error(fun, arg);
}
