// Process start, thread start and end, fork; the registry of thread heaps. Lists and states are
// under the life lock, which is taken before every other lock of the core.
#include "core/life.h"

#include "core/alloc.h"
#include "core/arena.h"
#include "core/heap.h"
#include "core/meta.h"
#include "core/orphan.h"
#include "core/remote.h"
#include "core/sleep.h"
#include "os/os.h"

// Every entry the same: what mi_theap_reset would fill in, for the one that is never filled in.
#define LIFE_2(x)        x, x
#define LIFE_4(x)        LIFE_2(x), LIFE_2(x)
#define LIFE_16(x)       LIFE_4(x), LIFE_4(x), LIFE_4(x), LIFE_4(x)
#define LIFE_64(x)       LIFE_16(x), LIFE_16(x), LIFE_16(x), LIFE_16(x)
#define LIFE_FIRST_CLASS 33 // of blocks above MI_DIRECT_MAX
static_assert(MI_DIRECT_COUNT == 65 && MI_CLASS_LAST + 1 - LIFE_FIRST_CLASS == 96,
              "the lengths spelled out below");

MI_READ_ONLY mi_theap_front_t mi_theap_empty = {
    .free_key = MI_KEY_NOBODY_PLACED,
    .key = MI_KEY_NOBODY_PLACED,
    .direct = {LIFE_64(&mi_page_empty), &mi_page_empty},
    .current = {[LIFE_FIRST_CLASS] = LIFE_64(&mi_page_empty),
                LIFE_16(&mi_page_empty),
                LIFE_16(&mi_page_empty)},
};
MI_THREAD_SLOT_DEFINE(&mi_theap_empty);

mi_lock_t mi_life_lock;
static _Atomic(mi_theap_t *) life_all; // pushed under the life lock
static mi_theap_t *life_pool;          // recycled structs, under the life lock
static uintptr_t life_next_id = 1;     // for keys, under the life lock
static uint32_t life_made;             // thread heaps ever made, under the life lock
#define LIFE_BURY_LEAST 8u
static uint32_t life_bury_at = LIFE_BURY_LEAST; // when the dead are looked for, the same
static _Atomic(bool) life_has_slotless;         // a thread's slot could not be written
static _Atomic(uint64_t) life_thread_total;     // threads that ever allocated
static _Atomic(uint64_t) life_thread_active;    // now
static _Atomic(uint64_t) life_adopted;
static _Atomic(uint64_t) life_ended_mallocs; // malloc_count of recycled thread heaps
static _Atomic(bool) life_counts_all;

typedef enum life_state_e { LIFE_BEFORE, LIFE_STARTING, LIFE_STARTED } life_state_t;
static _Atomic(uint32_t) life_state;        // life_state_t
static _Atomic(uintptr_t) life_main_thread; // thread id

mi_theap_t *mi_life_all(void) {
    return mi_load_acquire(&life_all); // with life_make
}

// ---- Fork
// --------------------------------------------------------------------------------------------------

static void life_fork_prepare(void) {
    mi_lock(&mi_life_lock);
    mi_page_fork_prepare();
    mi_meta_fork_prepare();
    mi_arena_fork_prepare();
    mi_page_map_fork_prepare();
}

static void life_fork_parent(void) {
    mi_page_map_fork_done();
    mi_arena_fork_done();
    mi_meta_fork_done();
    mi_page_fork_done();
    mi_unlock(&mi_life_lock);
}

// A thread heap whose thread is gone without having said so, as it was left between two stores
// (mi_fork_point). Caught in the middle of a change it is left alone for ever. The life lock is
// held.
static void life_bury(mi_theap_t *theap) {
    if (mi_load_relaxed(&theap->busy) != 0) {
        mi_store_relaxed(&theap->state, (uint32_t)MI_THEAP_FROZEN);
        return;
    }
    theap->side_count = 0; // those are buried on their own; whoever adopts this one has others
    mi_memzero(theap->heap_cache_id, sizeof(theap->heap_cache_id));
    mi_orphan_put(theap);
}

// Only the forking thread lives on. The others' thread heaps become orphans, except those that were
// being changed at that instant: those are left alone for ever.
static void life_fork_child(void) {
    const uintptr_t self = mi_os_thread_id();
    uint64_t active = 0;
    for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next) {
        if (mi_load_relaxed(&t->state) != MI_THEAP_ACTIVE)
            continue;
        if (mi_load_relaxed(&t->thread_id) == self)
            active = 1;
        else
            life_bury(t);
    }
    mi_store_relaxed(&life_thread_active, active);
    mi_sleep_fork_child();
    life_fork_parent();
}

// ---- Start
// -------------------------------------------------------------------------------------------------

void mi_core_process_init(void) {
    uint32_t state = LIFE_BEFORE;
    if (MI_LIKELY(mi_load_acquire(&life_state) == LIFE_STARTED)) // with the release below
        return;
    const uintptr_t self = mi_os_thread_id();
    if (mi_cas_strong_acq_rel(&life_state, &state, (uint32_t)LIFE_STARTING)) {
        mi_store_relaxed(&life_main_thread, self);
        (void)mi_os_on_thread_exit(mi_core_thread_done);
        (void)mi_os_on_fork(life_fork_prepare, life_fork_parent, life_fork_child);
        mi_store_release(&life_state, (uint32_t)LIFE_STARTED);
        return;
    }
    // Another thread is at it; or this one, which allocates while it registers its hooks.
    while (mi_load_acquire(&life_state) != LIFE_STARTED &&
           mi_load_relaxed(&life_main_thread) != self)
        mi_os_yield();
}

bool mi_core_is_main_thread(void) {
    mi_core_process_init();
    return mi_load_relaxed(&life_main_thread) == mi_os_thread_id();
}

// Threads that were killed, and those that allocated when they had been told of their end already,
// leave an active thread heap behind. They are looked for when so many more exist that asking for
// each costs next to nothing. The life lock is held.
static void life_bury_the_dead(void) {
    uint32_t alive = 0;
    for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next) {
        if (mi_load_relaxed(&t->state) != MI_THEAP_ACTIVE)
            continue;
        if (mi_os_thread_is_alive(mi_load_relaxed(&t->thread_id))) {
            alive++;
            continue;
        }
        if (mi_theap_heap(t) == &mi_heap_main_state)
            mi_fetch_sub_relaxed(&life_thread_active, 1);
        life_bury(t);
    }
    life_bury_at = life_made + (alive < LIFE_BURY_LEAST ? LIFE_BURY_LEAST : alive);
}

static mi_theap_t *life_make(void) {
    mi_theap_t *const theap = (mi_theap_t *)mi_meta_alloc(sizeof(mi_theap_t));
    if (theap == NULL)
        return NULL;
    mi_theap_reset(theap);
    const uintptr_t id = (life_next_id <= MI_KEY_LAST ? life_next_id++ : MI_KEY_NOBODY);
    theap->key = (MI_MAP_HAS_KEYS ? id << MI_MAP_KEY_SHIFT : 0);
    theap->free_key = theap->key;
    life_made++;
    theap->all_next = mi_load_relaxed(&life_all);
    mi_store_release(&life_all, theap); // with mi_life_all
    return theap;
}

// One that has no thread; NULL = there is none.
static mi_theap_t *life_reuse(mi_heap_t *heap) {
    mi_theap_t *theap = mi_orphan_claim(heap);
    if (theap != NULL) {
        mi_fetch_add_relaxed(&life_adopted, 1);
    } else if (life_pool != NULL) {
        theap = life_pool;
        life_pool = theap->list_next;
    }
    return theap;
}

mi_theap_t *mi_life_obtain(mi_heap_t *heap) {
    mi_lock(&mi_life_lock);
    mi_theap_t *theap = life_reuse(heap);
    if (theap == NULL && life_made >= life_bury_at) {
        life_bury_the_dead();
        theap = life_reuse(heap);
    }
    if (theap == NULL)
        theap = life_make();
    if (theap != NULL) {
        mi_store_relaxed(&theap->heap, heap);
        theap->default_heap = NULL;
        theap->is_watched = false;
        theap->free_key = theap->key;
        theap->far_turns = MI_FAR_TURNS;
        theap->far_count = 0;
        mi_memzero(&theap->sampling, sizeof(theap->sampling));
        mi_theap_bound(theap);
        mi_store_relaxed(&theap->busy, 0u);
        mi_store_relaxed(&theap->thread_id, mi_os_thread_id());
        mi_store_relaxed(&theap->state, (uint32_t)MI_THEAP_ACTIVE);
    }
    mi_unlock(&mi_life_lock);
    return theap;
}

void mi_life_pool_put(mi_theap_t *theap) {
    MI_ASSERT(mi_theap_pages(theap) == 0);
    mi_store_relaxed(&theap->page_count, (size_t)0);
    mi_store_relaxed(&theap->far_released, (size_t)0);
    mi_fetch_add_relaxed(&life_ended_mallocs, mi_load_relaxed(&theap->malloc_count));
    mi_store_relaxed(&theap->malloc_count, (uint64_t)0);
    theap->fineness = 0;
    mi_store_relaxed(&theap->state, (uint32_t)MI_THEAP_UNUSED);
    mi_store_relaxed(&theap->thread_id, (uintptr_t)0);
    theap->list_next = life_pool;
    life_pool = theap;
}

// A stand-in for the fast paths: it has no pages, so they all fail and the slow ones count.
static mi_theap_t *life_proxy(mi_theap_t *theap) {
    mi_theap_t *const proxy = (mi_theap_t *)mi_meta_alloc(sizeof(mi_theap_t));
    if (proxy == NULL)
        return theap;
    mi_theap_reset(proxy);
    proxy->key = MI_KEY_NOBODY_PLACED;
    proxy->free_key = MI_KEY_NOBODY_PLACED;
    proxy->real = theap;
    theap->proxy = proxy;
    return proxy;
}

static int life_set_slot(mi_theap_t *theap) {
    if (!mi_load_relaxed(&life_counts_all) && theap->default_heap == NULL && !theap->is_watched)
        return mi_thread_set(theap);
    return mi_thread_set(theap->proxy != NULL ? theap->proxy : life_proxy(theap));
}

// The thread heap of a thread whose slot could not be written: on Windows a process may have used
// up all of them. Such threads look for theirs in the list, at each slow path, and have no other.
// One that is being changed may be a killed thread's of the same id.
static mi_theap_t *life_find_mine(void) {
    if (MI_LIKELY(!mi_load_relaxed(&life_has_slotless)))
        return NULL;
    const uintptr_t self = mi_os_thread_id();
    for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next)
        if (mi_load_relaxed(&t->thread_id) == self && mi_theap_heap(t) == &mi_heap_main_state &&
            mi_load_relaxed(&t->state) == MI_THEAP_ACTIVE && mi_load_relaxed(&t->busy) == 0)
            return t;
    return NULL;
}

mi_theap_t *mi_life_thread(void) {
    mi_theap_t *theap = mi_theap_real();
    if (MI_LIKELY(theap != NULL))
        return theap;
    mi_core_process_init();
    theap = mi_theap_real();
    if (theap != NULL) // allocated while the hooks were registered
        return theap;
    theap = life_find_mine();
    if (theap != NULL)
        return theap;
    theap = mi_life_obtain(&mi_heap_main_state);
    if (theap == NULL)
        return theap;
    if (life_set_slot(theap) != 0)
        mi_store_relaxed(&life_has_slotless, true);
    mi_fetch_add_relaxed(&life_thread_total, 1);
    mi_fetch_add_relaxed(&life_thread_active, 1);
    mi_os_thread_watch();
    return theap;
}

void mi_core_thread_init(void) {
    (void)mi_life_thread();
}

// ---- End
// ---------------------------------------------------------------------------------------------------

// The thread heap loses its thread.
static void life_abandon(mi_theap_t *theap) {
    mi_orphan_tidy(theap, false);
    mi_lock(&mi_life_lock);
    mi_orphan_leave(theap);
    mi_unlock(&mi_life_lock);
}

void mi_core_thread_done(void) {
    mi_theap_t *theap = mi_theap_real();
    if (theap == NULL)
        theap = life_find_mine();
    if (theap == NULL)
        return;
    const uintptr_t self = mi_os_thread_id();
    if (theap->side_count > 0) {
        theap->side_count = 0;
        mi_memzero(theap->heap_cache_id, sizeof(theap->heap_cache_id));
        for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next)
            if (t != theap && mi_load_relaxed(&t->thread_id) == self)
                life_abandon(t);
    }
    (void)mi_thread_set(MI_THREAD_SLOT_MAY_BE_NULL ? NULL : &mi_theap_empty);
    mi_thread_note_end();
    life_abandon(theap);
    mi_fetch_sub_relaxed(&life_thread_active, 1);
}

// ---- The rest
// ----------------------------------------------------------------------------------------------

void mi_core_count_all(bool is_on) {
    mi_store_relaxed(&life_counts_all, is_on);
    mi_theap_t *const theap = mi_theap_real();
    if (theap != NULL)
        (void)life_set_slot(theap);
}

void mi_core_watch_thread(bool is_on) {
    mi_theap_t *const theap = mi_life_thread();
    if (theap == NULL || theap->is_watched == is_on)
        return;
    theap->is_watched = is_on;
    (void)life_set_slot(theap);
}

uint64_t mi_core_thread_malloc_count(void) {
    const uintptr_t self = mi_os_thread_id();
    uint64_t sum = 0;
    for (const mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next)
        if (mi_load_relaxed(&t->thread_id) == self)
            sum += mi_load_relaxed(&t->malloc_count);
    return sum;
}

mi_heap_t *mi_core_default_heap(void) {
    const mi_theap_t *const theap = mi_theap_real();
    return theap == NULL || theap->default_heap == NULL ? &mi_heap_main_state : theap->default_heap;
}

bool mi_core_set_default_heap(mi_heap_t *heap) {
    mi_theap_t *const theap = mi_life_thread();
    if (theap == NULL)
        return false;
    theap->default_heap = (heap == &mi_heap_main_state ? NULL : heap);
    return life_set_slot(theap) == 0;
}

mi_theap_t *mi_core_theap(void) {
    return mi_life_thread();
}

void mi_core_collect(bool is_forced) {
    mi_theap_t *const theap = mi_theap_real();
    if (theap != NULL)
        mi_remote_flush(theap, true);
    mi_orphan_collect(&mi_heap_main_state);
    if (theap != NULL) {
        const uint32_t was = mi_theap_enter(theap);
        mi_remote_collect(theap);
        mi_theap_trim(theap, is_forced);
        mi_theap_leave(theap, was);
    }
    mi_heap_collect_left();
    mi_arena_purge(is_forced);
}

void mi_core_reduce(size_t most) {
    mi_theap_t *const theap = mi_theap_real();
    bool has_given = false;
    if (theap == NULL)
        return;
    const uint32_t was = mi_theap_enter(theap);
    mi_remote_flush(theap, true);
    mi_remote_collect(theap);
    (void)mi_theap_reduce(theap, most, &has_given);
    mi_theap_leave(theap, was);
    if (has_given)
        mi_arena_purge(true);
}

size_t mi_life_threads(void) {
    const uint64_t active = mi_load_relaxed(&life_thread_active);
    return active == 0 ? 1 : (size_t)active;
}

void mi_core_stats(mi_core_stats_t *stats) {
    mi_memzero(stats, sizeof(*stats));
    mi_page_stats(stats);
    mi_arena_stats(stats);
    stats->malloc_count = mi_load_relaxed(&life_ended_mallocs);
    for (const mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next) {
        stats->malloc_count += mi_load_relaxed(&t->malloc_count);
        stats->page_count += mi_theap_pages(t);
        stats->page_total += mi_load_relaxed(&t->page_total);
    }
    stats->thread_count = mi_load_relaxed(&life_thread_active);
    stats->thread_total = mi_load_relaxed(&life_thread_total);
    stats->adopted_count = mi_load_relaxed(&life_adopted);
    stats->stolen_count = mi_orphan_stolen_count();
    stats->heap_count = mi_heap_count();
}
