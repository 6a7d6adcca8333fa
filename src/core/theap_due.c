// What is due now and then in a thread heap: how much it may keep is found out anew, and what it
// has kept for long goes back. By its owner, from slow paths, or by whoever claimed it.
#include "core/theap.h"

#include "core/arena.h"
#include "core/bitmap.h"
#include "core/heap.h"
#include "core/life.h"
#include "core/limits.h"
#include "core/orphan.h"
#include "core/remote.h"
#include "core/sleep.h"
#include "os/os.h"

// A thread keeps more when it has more: a sixteenth of its addresses at least, up to a limit.
static size_t theap_empty_own(const mi_theap_t *theap) {
    const size_t share = mi_theap_pages(theap) * MI_EMPTY_SHARE;
    return share < MI_EMPTY_MAX   ? MI_EMPTY_MAX
           : share < MI_EMPTY_TOP ? share
                                  : MI_EMPTY_TOP + (share - MI_EMPTY_TOP) / 4;
}

// At least that, or a thread's part of what all threads keep. Not where memory shall go back at
// once, nor in other heaps than the main one: a thread may have many.
static size_t theap_empty_max(const mi_theap_t *theap) {
    const size_t own = theap->empty_own;
    const size_t part = MI_EMPTY_ALL / mi_life_threads();
    const bool may_wait = mi_config(purge_delay_ms) != 0 && mi_config(purge_mult) != 0;
    return part > own && may_wait && mi_theap_heap(theap) == mi_core_heap_main() ? part : own;
}

// What its lists of long blocks may have room for. Another heap than the main one has none, since
// it may be destroyed at any time, nor has a build whose checks go by the block's page.
static size_t theap_long_max(const mi_theap_t *theap) {
    const size_t part = MI_LONG_ALL / mi_life_threads();
    if (MI_SECURE || MI_DEBUG || mi_theap_heap(theap) != mi_core_heap_main())
        return 0;
    return part < MI_LONG_LEAST ? MI_LONG_LEAST : part;
}

void mi_theap_bound(mi_theap_t *theap) {
    theap->full_shift =
        (mi_theap_pages(theap) < MI_MANY_PAGES ? MI_FULL_SHIFT : MI_FULL_SHIFT_MANY);
    theap->empty_own = theap_empty_own(theap);
    theap->empty_max = theap_empty_max(theap);
    theap->long_max = theap_long_max(theap);
}

static void theap_trim_class(mi_theap_t *theap, uint32_t class_index, bool all) {
    for (mi_page_t *page = theap->queue[class_index].last, *prev; page != NULL; page = prev) {
        prev = page->prev;
        if (page->used != 0)
            continue;
        mi_theap_detach(theap, page);
        mi_page_release(page);
    }
    mi_page_t *const page = theap->current[class_index];
    if (page->state == MI_PAGE_CURRENT && page->used == 1 &&
        (all || mi_page_touched(page) > MI_CURRENT_KEEP)) {
        mi_theap_detach(theap, page);
        mi_page_release(page);
    }
}

void mi_theap_trim(mi_theap_t *theap, bool all) {
    for (uint32_t i = 0; i < sizeof(theap->homes) / sizeof(theap->homes[0]); i++)
        for (uint64_t homes = theap->homes[i]; homes != 0; homes &= homes - 1)
            theap_trim_class(theap, i * 64 + (uint32_t)mi_ctz64(homes), all);
}

// What is touched of a page that has no live block and that trim may give back.
static size_t page_idle(const mi_page_t *page) {
    const bool is_idle = (page->state == MI_PAGE_CURRENT || page->state == MI_PAGE_AVAILABLE) &&
                         mi_page_live(page) == 0;
    return is_idle ? mi_page_touched(page) : 0;
}

static size_t theap_give(mi_theap_t *theap, mi_page_t *page, bool *has_given) {
    const size_t bytes = page_idle(page);
    if (bytes == 0)
        return 0;
    mi_theap_detach(theap, page);
    mi_page_release(page);
    *has_given = true;
    return bytes;
}

size_t mi_theap_reduce(mi_theap_t *theap, size_t most, bool *has_given) {
    size_t idle = theap->empty_bytes;
    for (uint32_t c = 1; c < MI_CLASS_TOTAL; c++)
        idle += (theap->current[c]->class_index == c ? page_idle(theap->current[c]) : 0);
    for (uint32_t c = MI_CLASS_TOTAL; c-- > 1;) {
        mi_page_t *page = theap->queue[c].last;
        for (mi_page_t *prev; page != NULL && idle > most; page = prev) {
            prev = page->prev;
            idle -= theap_give(theap, page, has_given);
        }
        if (idle > most)
            idle -= theap_give(theap, theap->current[c], has_given);
    }
    return idle;
}

void mi_theap_fresh(mi_theap_t *theap) {
    bool has_given;
    mi_remote_flush_long(theap);
    if (!MI_SECURE && theap->empty_bytes > theap->empty_own)
        (void)mi_theap_reduce(theap, theap->empty_own, &has_given);
}

void mi_theap_tick(mi_theap_t *theap) {
    const uint32_t every = mi_config(collect_every);
    if (MI_UNLIKELY(every != 0) && ++theap->collect_tick >= every) {
        theap->collect_tick = 0;
        mi_remote_flush(theap, true);
        mi_theap_trim(theap, true);
        mi_arena_purge(false);
    }
    const uint32_t tick = mi_load_relaxed(&theap->tick) + 1;
    mi_store_relaxed(&theap->tick, tick);
    if (tick % MI_TICKS != 0)
        return;
    if (theap->looks_left_out > 0) {
        theap->looks_left_out--;
        return;
    }
    mi_theap_bound(theap);
    const uint64_t now = mi_os_clock_ms();
    theap->looks_left_out = (now - theap->looked_at_ms < MI_BUSY_MS ? MI_BUSY_LOOKS : 0);
    theap->looked_at_ms = now;
    const uint32_t pressure = mi_arena_pressure();
    if (now < theap->trim_at_ms && pressure == theap->pressure_seen)
        return;
    const long delay = mi_config(purge_delay_ms);
    theap->trim_at_ms = now + (uint64_t)(delay < 0 ? 1000 : delay);
    theap->pressure_seen = pressure;
    mi_remote_flush(theap, true);
    if (delay >= 0)
        mi_theap_trim(theap, false);
    mi_orphan_look(mi_theap_heap(theap));
    if (delay >= 0)
        mi_sleep_look(theap, now, (uint64_t)delay);
    mi_arena_purge(false);
}
