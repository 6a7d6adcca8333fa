// Walks the interleavings of what threads do to each other when one ends: its thread heap is left
// behind, others free into it, adopt it, steal from it, collect it. It is the real code of src/core
// that runs (model_steps.h), on fibers, one atomic operation at a time: every schedule with at most
// so many preemptions, where a preemption is worth something only before a word that several fibers
// use and one writes.
//
// After each schedule all blocks are freed; then whoever owns a page must find it empty, so that no
// page is left: a block that was lost on its way keeps one, a block that came back twice, or to the
// wrong list, shows as a count that does not add up, a tag that somebody else wrote, or a crash.
//
//   model_adopt [preemptions]     2 unless told otherwise
//
// The broken twins are copies of the sources in which model_twins.py has changed one line; each
// must be caught.
#include "core/alloc.h"
#include "core/alloc_inline.h"
#include "core/arena.h"
#include "core/guest.h"
#include "core/heap.h"
#include "core/life.h"
#include "core/remote.h"
#include "core/sleep.h"
#include "test.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static const char *twin = ""; // name of the broken twin that this program is

enum { FIBERS = 3, DECISIONS = 4096, STACK_BYTES = 256 * 1024, WORDS = 4096, STEPS_MAX = 200000 };

typedef void (*job_fn)(void);
typedef struct scene_s {
    const char *name;
    size_t size;           // of the blocks
    job_fn job[FIBERS];    // NULL = none
    job_fn before[FIBERS]; // one after the other, before the race, on the same fiber as the job
} scene_t;

typedef struct fiber_s {
    ucontext_t context; // how it began
    jmp_buf at;         // where it goes on; unlike a context it is saved without a system call
    bool has_begun;
    void *slot; // its thread-local pointer
    bool has_ended;
    bool is_done;
    bool waits;                   // spins on a lock
    const volatile void *refused; // the lock that it did not get
    job_fn job;
} fiber_t;

typedef struct decision_s {
    uint8_t choice;  // 0 = go on as one would
    uint8_t options; // other choices
    bool is_free;    // no preemption: the fiber could not go on
} decision_t;

// Words that fibers touch: who reads, who writes.
typedef struct word_s {
    const volatile void *at;
    uint8_t readers, writers; // a bit for each fiber
} word_t;

static fiber_t fibers[FIBERS];
static jmp_buf home;
static int current = -1; // -1 = the main program
static bool is_walking, may_switch_anywhere;
static decision_t plan[DECISIONS];
static size_t plan_length, decision_count;
static size_t step_count, shared_count;
static word_t words[WORDS];
static const volatile void *last_word;
static bool has_entered;
static const char *fault;
static size_t preemptions_max = 2;

// ---- Fibers ------------------------------------------------------------------------------------
static void fault_found(const char *what) {
    fault = what;
    printf("  fault: %s\n", what);
    fflush(stdout);
    _exit(3); // the fibers' stacks are in no state to go on
}

uintptr_t mi_model_thread_id(void) {
    return (uintptr_t)(1000 + current);
}

static void switch_to(int next) {
    fiber_t *const from = (current < 0 ? NULL : &fibers[current]);
    static void *home_slot;
    void **const from_slot = (from == NULL ? &home_slot : &from->slot);
    *from_slot = mi_thread_get();
    if (from != NULL)
        from->has_ended = mi_thread_has_ended;
    current = next;
    (void)mi_thread_set(next < 0 ? home_slot : fibers[next].slot);
    mi_thread_has_ended = (next < 0 || fibers[next].has_ended); // home frees, and gets no heap
    if (_setjmp(from == NULL ? home : from->at) != 0)
        return;
    if (next < 0 || fibers[next].has_begun)
        _longjmp(next < 0 ? home : fibers[next].at, 1);
    fibers[next].has_begun = true;
    (void)setcontext(&fibers[next].context);
    abort();
}

// The fibers that could go on but this one.
static int others_of(int self, int list[FIBERS]) {
    int count = 0;
    for (int i = 0; i < FIBERS; i++)
        if (i != self && !fibers[i].is_done && !fibers[i].waits)
            list[count++] = i;
    return count;
}

// What to do now: 0 = nothing special, n = the n-th of the options.
static unsigned decide(unsigned options, bool is_free) {
    if (decision_count == DECISIONS)
        fault_found("too many decisions");
    decision_t *const d = &plan[decision_count++];
    if (decision_count > plan_length) { // beyond the plan: as one would
        *d = (decision_t){0, 0, false};
    }
    d->options = (uint8_t)options;
    d->is_free = is_free;
    if (d->choice > options && may_switch_anywhere)
        d->choice = 0; // the words are learned while thread heaps are made anew
    if (d->choice > options)
        fault_found("a schedule cannot be repeated: the model is not deterministic");
    return d->choice;
}

// The fiber cannot go on, or is done: another one must.
static void give_way(void) {
    int list[FIBERS];
    int count = others_of(current, list);
    if (count == 0) { // those that wait look again
        for (int i = 0; i < FIBERS; i++)
            fibers[i].waits = false;
        count = others_of(current, list);
    }
    if (count > 0)
        switch_to(list[decide((unsigned)count - 1, true)]);
    else if (fibers[current].is_done)
        switch_to(-1);
}

static void fiber_main(void) {
    for (;;) { // one job after the other, from give_way to give_way
        fibers[current].job();
        fibers[current].is_done = true;
        give_way();
    }
}

// ---- Steps -------------------------------------------------------------------------------------
static bool word_is_shared(const volatile void *p, bool is_write) {
    size_t i = ((uintptr_t)p >> 2) * 0x9E3779B1u % WORDS;
    for (size_t tries = 0; words[i].at != p; i = (i + 1) % WORDS) {
        if (words[i].at == NULL) {
            words[i].at = p;
            break;
        }
        if (++tries == WORDS)
            fault_found("too many words");
    }
    word_t *const w = &words[i];
    const uint8_t me = (uint8_t)(1u << current);
    const uint8_t all = (uint8_t)(w->readers | w->writers);
    const bool was = (w->writers != 0 && (all & (all - 1)) != 0);
    *(is_write ? &w->writers : &w->readers) |= me;
    const uint8_t now = (uint8_t)(w->readers | w->writers);
    if (!was && w->writers != 0 && (now & (now - 1)) != 0)
        shared_count++; // the walk begins anew with it
    return was;
}

static void model_step(const volatile void *p, bool is_write) {
    if (!is_walking || current < 0)
        return;
    fiber_t *const f = &fibers[current];
    last_word = p;
    if (++step_count > STEPS_MAX)
        fault_found("the threads go round in circles");
    if (p == f->refused && !is_write) { // spins
        f->waits = true;
        f->refused = NULL;
        give_way();
        return;
    }
    f->refused = NULL;
    const bool is_shared = (p == NULL || word_is_shared(p, is_write)); // NULL: a twin's own step
    if (!is_shared && !may_switch_anywhere)
        return;
    int list[FIBERS];
    const int count = others_of(current, list);
    const unsigned choice = (count == 0 ? 0 : decide((unsigned)count, false));
    if (choice != 0)
        switch_to(list[choice - 1]);
}

void *mi_model_step(const volatile void *p, bool is_write) {
    model_step(p, is_write);
    return (void *)(uintptr_t)p;
}

// What goes back to the system reads as zero afterwards. Each schedule gives all back and touches
// it anew, and page faults would be most of its time.
int mi_model_purge(void *p, size_t bytes, bool *is_committed) {
    if (MI_SECURE || bytes > 512 * MI_KiB) // there are guards in between
        return (mi_os_purge)(p, bytes, is_committed);
    *is_committed = true;
    memset(p, 0, bytes);
    return 0;
}

void mi_lock_wanted(void) {
    has_entered = false;
}

void mi_lock_entered(mi_lock_t *lock) {
    (void)lock;
    has_entered = true;
}

// Either it was not to be had, or it was given up.
void mi_lock_left(void) {
    if (current < 0)
        return;
    if (!has_entered)
        fibers[current].refused = last_word;
    else
        for (int i = 0; i < FIBERS; i++)
            fibers[i].waits = false;
    has_entered = true;
}

// ---- What the threads do -----------------------------------------------------------------------
enum { SIZE = 1500, HELD = 5 }; // two of them are a batch (remote.c): one alone is held back
// Each has a page of its own; LONG ones wait in lists (guest.h), too.
enum { LONG = 100 * 1024, LARGE = 300 * 1024, HUGE = 5 * 1024 * 1024 };
typedef struct held_s {
    uint8_t *block;
    uint8_t tag;
} held_t;
static held_t held[HELD];
static mi_theap_t *seen_theap[FIBERS];
static size_t size; // of the scene's blocks

// Of a large one some bytes say whose it is: a page that went back is touched anew in each
// schedule.
static size_t stride(void) {
    return size > SIZE ? size / 2 : 1;
}

static void keep(int i) {
    uint8_t *const p = (uint8_t *)mi_core_malloc(size, false);
    if (p == NULL)
        fault_found("no memory");
    for (int k = 0; k < HELD; k++)
        if (held[k].block == p)
            fault_found("a live block was handed out");
    held[i] = (held_t){p, (uint8_t)(i + 1)};
    for (size_t k = 0; k < size; k += stride())
        p[k] = held[i].tag;
}

static void drop(int i) {
    uint8_t *const p = held[i].block;
    if (p == NULL)
        return;
    for (size_t k = 0; k < size; k += stride())
        if (p[k] != held[i].tag)
            fault_found("a live block was written to");
    held[i].block = NULL;
    if (mi_core_free(p) != MI_FREE_OK)
        fault_found("a live block could not be freed");
}

static void end_thread(void) {
    seen_theap[current] = NULL;
    mi_core_thread_done();
}

static void begin_thread(void) {
    mi_theap_t *const theap = mi_core_theap();
    for (int i = 0; i < FIBERS; i++)
        if (i != current && seen_theap[i] == theap)
            fault_found("two threads have one thread heap");
    seen_theap[current] = theap;
}

// Two blocks of its own.
static void before_owner(void) {
    begin_thread();
    keep(0);
    keep(1);
}
static void before_other(void) {
    begin_thread();
}
static void before_full(void) { // what is linked of its page is in use
    begin_thread();
    keep(2);
    keep(3);
}
static void before_pageless(void) { // has allocated, and has nothing left
    begin_thread();
    keep(4);
    drop(4);
    mi_core_collect(true);
}
static void before_gone(void) {
    before_owner();
    keep(2);
    end_thread();
}
static void job_end(void) {
    drop(0);
    end_thread();
}
static void job_free_one(void) {
    drop(1);
    end_thread();
}
static void job_free_late(void) { // held back as a guest first, then sent home
    drop(1);
    mi_core_collect(false);
    end_thread();
}
static void job_steal(void) {
    keep(3);
    drop(3);
    end_thread();
}
static void job_adopt(void) {
    begin_thread();
    keep(3);
    drop(3);
    end_thread();
}
static void job_adopt_and_free(void) {
    begin_thread();
    drop(2);
    end_thread();
}
// Another's block is of use to it, and is kept for more such use.
static void job_use(void) {
    drop(1);
    keep(1);
    drop(1);
    end_thread();
}
static void job_adopt_in_turn(void) {
    begin_thread();
    keep(4);
    drop(4);
    end_thread();
}
// A thread that takes the owner for one that sleeps, whatever it does.
static void job_look(void) {
    for (int i = 0; i < 2; i++)
        mi_sleep_look(mi_core_theap(), (uint64_t)i, 0);
    drop(1);
    end_thread();
}
static void before_freed(void) {
    begin_thread();
    drop(2);
    mi_core_collect(false);
}
static void job_collect(void) {
    mi_core_collect(true);
    end_thread();
}
static void job_free_all(void) {
    drop(0);
    drop(1);
    mi_core_collect(false);
    end_thread();
}
static void before_three(void) {
    before_owner();
    keep(2);
}
static void job_only_free(void) { // gets a thread heap, maybe that of the owner, or none at all
    drop(1);
    drop(2);
    end_thread();
}
// Two pages that wait for their blocks, and the current one.
static void before_large(void) {
    before_owner();
    keep(2);
}
static void job_free_both(void) { // the owner may not have looked after the first
    drop(0);
    drop(1);
    end_thread();
}
static void job_free_and_use(void) { // its own, and the page serves again
    drop(0);
    drop(2);
    keep(0);
    end_thread();
}
// One that waited serves again, is full at once, waits again and becomes current; then the next.
static void job_use_again(void) {
    drop(0);
    keep(0);
    drop(0);
    keep(0);
    keep(3);
    end_thread();
}
static void job_free_both_and_use(void) {
    drop(1);
    drop(0);
    keep(1);
    end_thread();
}
static void job_free_first(void) {
    drop(0);
    end_thread();
}
static void job_free_last(void) { // in its current page
    drop(2);
    drop(1);
    end_thread();
}
static void job_only_end(void) {
    end_thread();
}
static void job_use_more(void) { // its current page is one of those that wait
    keep(3);
    keep(4);
    drop(3);
    end_thread();
}
static mi_heap_t *heap;
static void before_heap(void) {
    begin_thread();
    heap = mi_core_heap_new();
    held[0] = (held_t){(uint8_t *)mi_core_heap_malloc(heap, SIZE, false), 1};
    held[1] = (held_t){(uint8_t *)mi_core_heap_malloc(heap, SIZE, false), 2};
    memset(held[0].block, 1, SIZE);
    memset(held[1].block, 2, SIZE);
}
static void job_delete_heap(void) {
    mi_core_heap_delete(heap);
    drop(0);
    end_thread();
}

static const scene_t scenes[] = {
    {"a thread ends, another frees into it, a third steals",
     SIZE,
     {job_end, job_free_one, job_steal},
     {before_owner, before_other, before_other}},
    {"a thread ends, another frees and collects, a third begins",
     SIZE,
     {job_end, job_free_late, job_adopt},
     {before_owner, before_other, NULL}},
    {"two begin and want the same, a third frees into it",
     SIZE,
     {job_adopt, job_adopt_and_free, job_free_all},
     {before_gone, NULL, before_other}},
    {"one adopts, one frees all and collects, one steals",
     SIZE,
     {job_adopt_and_free, job_free_all, job_steal},
     {before_gone, before_other, before_other}},
    {"two collect what a thread left, one frees into it",
     SIZE,
     {job_collect, job_free_all, job_collect},
     {before_gone, before_other, before_other}},
    {"a thread ends, one without a heap frees into it, a third steals",
     SIZE,
     {job_end, job_only_free, job_steal},
     {before_three, NULL, before_other}},
    {"a thread ends, another leaves a block of it that was of use, a third begins",
     SIZE,
     {job_end, job_use, job_adopt_in_turn},
     {before_owner, before_full, NULL}},
    {"a thread ends, another that has no page had a block of it in use, a third begins",
     SIZE,
     {job_end, job_use, job_adopt_in_turn},
     {before_owner, before_pageless, NULL}},
    {"one looks at what waits for a thread that ends, another steals its page",
     SIZE,
     {job_end, job_look, job_steal},
     {before_three, before_freed, before_other}},
    {"one looks at what waits for a thread that ends, another frees into it",
     SIZE,
     {job_end, job_free_all, job_look},
     {before_three, before_other, before_other}},
    {"a thread ends, another frees its large blocks, a third one more",
     LARGE,
     {job_only_end, job_free_both, job_free_last},
     {before_large, before_other, before_other}},
    {"a thread uses its large pages again, another frees them, a third steals",
     LARGE,
     {job_free_and_use, job_free_last, job_steal},
     {before_large, before_other, before_other}},
    {"a thread uses a large page again, another frees two and allocates",
     LARGE,
     {job_use_again, job_free_both_and_use, job_free_last},
     {before_large, before_other, before_other}},
    {"a thread allocates large blocks, another frees two and allocates",
     LARGE,
     {job_use_more, job_free_and_use, job_free_one},
     {before_large, before_other, before_other}},
    {"a thread allocates large blocks while two free what it had",
     LARGE,
     {job_use_more, job_free_both, job_free_last},
     {before_large, before_other, before_other}},
    {"a thread uses a long block of its list again, another frees two and allocates",
     LONG,
     {job_use_again, job_free_both_and_use, job_free_last},
     {before_large, before_other, before_other}},
    {"a thread ends with a long block in its list, another frees two, a third steals",
     LONG,
     {job_free_and_use, job_free_both, job_steal},
     {before_large, before_other, before_other}},
    {"a thread ends, two free its huge blocks, and one begins",
     HUGE,
     {job_only_end, job_free_first, job_free_one},
     {before_owner, before_other, before_other}},
    {"a heap is deleted while one frees into it and one steals",
     SIZE,
     {job_delete_heap, job_free_late, job_steal},
     {before_heap, before_other, before_other}},
};

// ---- One schedule ------------------------------------------------------------------------------
static char *fiber_stack(int i) {
    static char stacks[FIBERS][STACK_BYTES];
    return stacks[i];
}

static void fiber_run(int i, job_fn job, bool is_race) {
    fiber_t *const f = &fibers[i];
    f->job = job;
    f->is_done = false;
    f->waits = false;
    f->refused = NULL;
    if (!f->has_begun) {
        (void)getcontext(&f->context);
        f->context.uc_stack.ss_sp = fiber_stack(i);
        f->context.uc_stack.ss_size = STACK_BYTES;
        f->context.uc_link = NULL;
        makecontext(&f->context, fiber_main, 0);
    }
    if (!is_race)
        switch_to(i);
}

// Thread heaps as they were: their counters decide when the clock is asked, and whether a list of
// guests has room.
static void forget_counters(void) {
    for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next) {
        t->tick = 0;
        t->single_class = 0;
        t->singles = MI_SINGLES - 1; // the second page of one block that is taken becomes current
        t->empty_max = MI_EMPTY_MAX;
        t->trim_at_ms = 0;
        t->looked_at_ms = 0;
        t->looks_left_out = 0;
        t->full_shift = MI_FULL_SHIFT;
        memset(&t->sleep, 0, sizeof(t->sleep));
        t->secrets.left = 0;
        mi_store_relaxed(&t->malloc_count, (uint64_t)0);
        t->long_bytes = t->long_max = 0;
        if (t->guests != NULL)
            memset(t->guests, 0, MI_GUEST_LISTS * sizeof(mi_page_t));
        memset(t->lent_at, 0, sizeof(t->lent_at));
        memset(t->lent_soon, 0, sizeof(t->lent_soon));
    }
}

// Those without a thread are handed out in the same order each time.
static void sort_pool(void) {
    static mi_theap_t *all[64];
    size_t count = 0;
    for (mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next)
        if (mi_load_relaxed(&t->state) == MI_THEAP_UNUSED && count < 64)
            all[count++] = t; // in the order of the list, which never changes
    for (size_t i = 0; i < count; i++)
        if (mi_load_relaxed(&mi_life_obtain(&mi_heap_main_state)->state) != MI_THEAP_ACTIVE)
            fault_found("a thread heap of the pool is not to be had");
    for (size_t i = 0; i < count; i++)
        mi_life_pool_put(all[i]);
}

static uint64_t page_count(void) {
    mi_core_stats_t stats;
    mi_core_stats(&stats);
    return stats.page_count;
}

static void check_end(void) {
    for (int i = 0; i < HELD; i++)
        drop(i);
    mi_core_collect(true);
    if (page_count() != 0)
        fault_found("a page is left: a block of it never came back");
    for (const mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next)
        if (mi_theap_pages(t) != 0 || mi_load_relaxed(&t->pending) != NULL)
            fault_found("a thread heap is left with something in it");
}

static void run(const scene_t *scene) {
    int first = -1;
    decision_count = 0;
    step_count = 0;
    size = scene->size;
    memset(held, 0, sizeof(held));
    memset(seen_theap, 0, sizeof(seen_theap));
    forget_counters();
    sort_pool();
    for (int i = 0; i < FIBERS; i++) {
        fibers[i].slot = &mi_theap_empty;
        fibers[i].has_ended = false;
        fibers[i].is_done = true;
    }
    for (int i = 0; i < FIBERS; i++)
        if (scene->before[i] != NULL)
            fiber_run(i, scene->before[i], false);
    for (int i = FIBERS - 1; i >= 0; i--)
        if (scene->job[i] != NULL) {
            fiber_run(i, scene->job[i], true);
            first = i;
        }
    is_walking = true;
    switch_to(first);
    is_walking = false;
    check_end();
}

// ---- The walk ----------------------------------------------------------------------------------
// The next plan in depth-first order; false = that was the last.
static bool plan_next(void) {
    size_t used = 0; // preemptions up to each decision
    size_t best = SIZE_MAX;
    for (size_t d = 0; d < decision_count; d++) {
        const bool is_taken = (!plan[d].is_free && plan[d].choice != 0);
        if (plan[d].choice < plan[d].options &&
            (plan[d].is_free || is_taken || used < preemptions_max))
            best = d;
        used += is_taken;
    }
    if (best == SIZE_MAX)
        return false;
    plan[best].choice++;
    plan_length = best + 1;
    return true;
}

// Finds words that several fibers use: any step may be the last before another fiber goes on.
static void learn(const scene_t *scene) {
    uint64_t random = 1;
    may_switch_anywhere = true;
    for (int i = 0; i < 400; i++) {
        plan_length = 0;
        run(scene);
        const size_t most = decision_count;
        for (int k = 0; k < 3 && most > 0; k++) { // one preemption, anywhere
            random = random * 6364136223846793005u + 1442695040888963407u;
            const size_t at = (size_t)(random >> 33) % most;
            for (size_t d = 0; d < at; d++)
                plan[d].choice = 0;
            if (plan[at].options > 0)
                plan[at].choice = (uint8_t)(1 + (random >> 20) % plan[at].options);
            plan_length = at + 1;
            run(scene);
        }
    }
    may_switch_anywhere = false;
}

// A twin may hang for good, as a loop without a step. Seconds of the processor's time, since the
// machine may be busy, for a number of schedules, since it may be slow.
static void limit_time(void) {
    const struct itimerval most = {.it_value = {.tv_sec = 100}};
    if (setitimer(ITIMER_PROF, &most, NULL) != 0)
        fault_found("no timer");
}

static size_t walk(const scene_t *scene, size_t preemptions) {
    size_t count = 0;
    size_t known;
    memset(words, 0, sizeof(words));
    learn(scene);
    preemptions_max = preemptions;
    do {
        known = shared_count;
        count = 0;
        plan_length = 0;
        do {
            if (count++ % 1024 == 0)
                limit_time();
            run(scene);
        } while (plan_next() && known == shared_count);
    } while (known != shared_count);
    return count;
}

static int walk_all(size_t preemptions) {
    size_t total = 0;
    for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
        if (strncmp(twin, "large-", 6) == 0 && scenes[i].size == SIZE)
            continue; // a fault of pages with one block
        const size_t count = walk(&scenes[i], preemptions);
        printf("%s: %zu schedules, %zu steps in the last\n", scenes[i].name, count, step_count);
        fflush(stdout);
        total += count;
        if (count < 10)
            fault_found("so few schedules cannot be all");
    }
    printf("%zu schedules, no fault\n", total);
    return 0;
}

// core-model-adopt [preemptions]; core-model-twin-NAME preemptions NAME
int main(int argc, char **argv) {
    const size_t preemptions = (argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 2);
    twin = (argc > 2 ? argv[2] : twin);
    const bool is_twin = (twin[0] != 0);
    int status = 0;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        mi_thread_note_end(); // home's
        _exit(walk_all(preemptions) + (fflush(stdout) != 0));
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    const bool is_good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    printf("%s%s: %s\n", is_twin ? "twin " : "the real code", twin,
           is_good               ? "no fault"
           : WIFSIGNALED(status) ? "crashed or hung"
                                 : "a fault was found");
    CHECK(is_good != is_twin);
    return test_result();
}
