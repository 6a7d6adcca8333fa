#include "core/sleep.h"

#include "core/arena_head.h"
#include "core/harden.h"
#include "core/heap.h"
#include "core/life.h"
#include "core/limits.h"
#include "core/remote.h"
#include "os/os.h"

static _Atomic(uint32_t) sleep_is_looked; // 1 = a thread looks: what follows and mi_sleep_t are its
static mi_theap_t *sleep_next;            // where to go on, NULL = with the first

// What a block says behind its link when its memory was given back: whoever used it last may have
// left the same there, and then nothing is lost but that memory.
static uintptr_t sleep_note(const mi_block_t *block) {
    return ~(uintptr_t)block;
}

// Returns how many bytes it gave back.
static size_t sleep_give(const mi_page_t *page, mi_block_t *block) {
    const size_t os_page = mi_os_page_bytes();
    uintptr_t *const note = (uintptr_t *)block + 1;
    const uintptr_t first = mi_align_up((uintptr_t)(note + 1), os_page);
    const uintptr_t end = mi_align_down((uintptr_t)block + page->block_bytes, os_page);
    if (*note == sleep_note(block) || first >= end ||
        mi_os_discard((void *)first, end - first) != 0)
        return 0;
    *note = sleep_note(block);
    return end - first;
}

// Of a page that the caller holds, so that nobody takes blocks out of its remote list, while others
// may push. The same, and not more than one block beyond most.
static size_t sleep_give_page(const mi_page_t *page, size_t most) {
    size_t given = 0;
    uint32_t count = 0;
    mi_block_t *block = mi_page_remote_first(page);
    for (; block != NULL && count < page->reserved && given < most; count++) {
        if (MI_SECURE)
            mi_page_check_block(page, block);
        given += sleep_give(page, block);
        block = mi_block_next(page, block);
    }
    return given;
}

// Not in memory that the caller gave, who may share it or have pinned it.
static bool sleep_is_worth(const mi_page_t *page) {
    return page->block_bytes >= MI_SLEEP_LEAST &&
           (page->arena == NULL || mi_arena_is_own(page->arena));
}

// The pages that wait for the sleeper; NULL = none. Of the main heap only, whose pages stay as long
// as blocks of them wait: another heap may be destroyed at any time, or its arena unloaded. A
// thread heap changes its heap under the life lock, and not while it has pages.
static mi_page_t *sleep_take(mi_theap_t *sleeper) {
    mi_page_t *page = NULL;
    if (!mi_lock_try(&mi_life_lock))
        return NULL;
    if (mi_theap_heap(sleeper) == &mi_heap_main_state)
        page = mi_exchange_acq_rel(&sleeper->pending, NULL); // with remote_push_once
    mi_unlock(&mi_life_lock);
    return page;
}

// Rare, and so not part of what every process has in memory (first.txt).
static MI_NOINLINE void sleep_see_to(mi_theap_t *sleeper) {
    size_t given = 0;
    mi_page_t *page = sleep_take(sleeper);
    if (page == NULL)
        return;
    while (page != NULL) {
        mi_page_t *const next = page->pending_next;
        mi_theap_t *const owner = mi_load_acquire(&page->theap); // with mi_page_set_owner
        if (given < MI_SLEEP_BYTES && sleep_is_worth(page))
            given += sleep_give_page(page, MI_SLEEP_BYTES - given);
        if (owner != NULL)
            mi_remote_push_pending(owner, page);
        page = next;
    }
    sleeper->sleep.head = (given < MI_SLEEP_BYTES ? mi_load_relaxed(&sleeper->pending) : NULL);
}

void mi_sleep_look(const mi_theap_t *self, uint64_t now_ms, uint64_t delay_ms) {
    uint32_t nobody = 0;
    // With the release below.
    if (MI_DEBUG || !mi_cas_strong_acq_rel(&sleep_is_looked, &nobody, 1u))
        return;
    mi_theap_t *t = (sleep_next == NULL ? mi_life_all() : sleep_next);
    for (uint32_t i = 0; i < MI_SLEEP_HEAPS && t != NULL; i++, t = t->all_next) {
        const uint32_t tick = mi_load_relaxed(&t->tick);
        mi_page_t *const head = mi_load_relaxed(&t->pending);
        if (t == self || tick != t->sleep.tick) {
            t->sleep = (mi_sleep_t){.since_ms = now_ms, .tick = tick};
        } else if (head != NULL && head != t->sleep.head &&
                   now_ms - t->sleep.since_ms >= delay_ms) {
            sleep_see_to(t);
        }
    }
    sleep_next = t;
    mi_store_release(&sleep_is_looked, 0u); // with the acquire above
}

void mi_sleep_fork_child(void) {
    mi_store_release(&sleep_is_looked, 0u);
}
