// realloc: stay, grow in place, move page tables, or copy, in this order. Any thread; the block is
// the caller's alone.
#include "core/alloc.h"

#include "core/alloc_inline.h"
#include "core/heap.h"
#include "core/ledger.h"
#include "core/limits.h"
#include "core/life.h"
#include "os/os.h"

// What is to be resized, and how.
typedef struct realloc_job_s {
    mi_theap_t *theap; // where a new block comes from; NULL = no memory
    mi_page_t *page;   // of p
    uint8_t *p;
    size_t old_size; // the caller's bytes at p
    size_t room;     // bytes from p to the end of its block: more, where the exact size is kept
    size_t size;     // wanted
    size_t align;    // of the result, at offset
    size_t offset;
    unsigned flags;
} realloc_job_t;

static bool realloc_is_exact(const realloc_job_t *job) {
    return !MI_DEBUG && (job->flags & MI_REALLOC_EXACT) != 0;
}

// A huge block may keep its exact size from now on. A smaller one that has a page to itself may
// not: its page will serve blocks that do not.
static bool realloc_may_turn(const realloc_job_t *job) {
    return realloc_is_exact(job) && job->page->class_index == MI_CLASS_HUGE;
}

// The block has the wanted size from now on, in the room that it has. false: nothing was changed.
static bool realloc_note(const realloc_job_t *job) {
    const bool is_exact = mi_page_is_exact(job->page) || realloc_may_turn(job);
    if (!MI_DEBUG && !is_exact)
        return true;
    uint8_t *const block = (uint8_t *)mi_page_block_of(job->page, job->p);
    const size_t end = (size_t)(job->p - block) + job->size;
    mi_ledger_resize(job->page, block, job->p, job->size);
    return !is_exact || mi_exact_set(job->page, block, end);
}

// Where no size but the block's is kept, what a shrunk block has no more is zero from now on: else
// it would come back as it was with the next growth.
static bool realloc_stay(const realloc_job_t *job) {
    if ((job->flags & MI_REALLOC_ZERO) != 0) {
        if (job->size > job->old_size)
            mi_memzero(job->p + job->old_size, job->size - job->old_size);
        else if (!MI_DEBUG && !mi_page_is_exact(job->page))
            mi_memzero(job->p + job->size, job->old_size - job->size);
    }
    return realloc_note(job);
}

// The one block of a page of a class becomes one that may change its length. grows: by so many
// slices, or none.
static MI_NOINLINE bool realloc_loosen(const realloc_job_t *job, bool grows, size_t more) {
    return !MI_SECURE && (!grows || mi_page_may_grow(job->page, more)) &&
           mi_theap_loosen(job->theap, job->page);
}

// May the block change its length, from now on?
static bool realloc_is_loose(const realloc_job_t *job, bool grows, size_t more) {
    const mi_page_t *const page = job->page;
    return !MI_DEBUG && job->p == page->start &&
           (page->class_index == MI_CLASS_HUGE ||
            (page->reserved == 1 && realloc_loosen(job, grows, more)));
}

// A block that became much too large gives back what it needs no more, where it stands.
static MI_NOINLINE bool realloc_cut(const realloc_job_t *job) {
    if (job->size <= MI_SHARED_MAX || !realloc_is_loose(job, false, 0) ||
        !mi_page_cut(job->page, job->size))
        return false;
    if ((job->flags & MI_REALLOC_ZERO) != 0)
        mi_memzero(job->p + job->size, job->page->block_bytes - job->size);
    return realloc_note(job);
}

// What the block may use of the slices that it has now, or in a page of a class all of them, which
// may be more than that needs.
static size_t realloc_end(const mi_page_t *page) {
    const size_t all = (size_t)page->slices << MI_SLICE_SHIFT;
    const size_t used = mi_align_up(page->block_bytes + MI_GUARD_BYTES, MI_SLICE_BYTES);
    return (page->class_index == MI_CLASS_HUGE ? used : all) - MI_GUARD_BYTES;
}

// A huge block takes over the free slices behind it.
static bool realloc_extend(const realloc_job_t *job) {
    bool is_zero = false;
    const size_t end = realloc_end(job->page);
    const size_t missing = (job->size > end ? job->size - end : 0);
    const size_t least = (missing + MI_SLICE_BYTES - 1) >> MI_SLICE_SHIFT;
    if (job->size > MI_REQUEST_MAX || !realloc_is_loose(job, true, least))
        return false;
    if (mi_page_stretch(job->page, job->size)) {
        if ((job->flags & MI_REALLOC_ZERO) != 0)
            mi_memzero(job->p + job->old_size, job->page->block_bytes - job->old_size);
        return realloc_note(job);
    }
    // Headroom costs addresses only; where there is a guard, a growth may be two system calls.
    size_t more = least + (job->page->block_bytes >> MI_SLICE_SHIFT) / (MI_SECURE ? 2 : 8);
    if (!mi_page_grow(job->page, more, &is_zero)) {
        more = least;
        if (!mi_page_grow(job->page, more, &is_zero))
            return false;
    }
    if ((job->flags & MI_REALLOC_ZERO) != 0)
        mi_memzero(job->p + job->old_size,
                   end - job->old_size + (is_zero ? 0 : more << MI_SLICE_SHIFT));
    return realloc_note(job);
}

// Moves the pages of a large block into a reservation of its own, with addresses to spare for the
// next growth.
static void *realloc_move_pages(const realloc_job_t *job) {
    mi_page_t *const old = job->page;
    if (MI_DEBUG || job->p != old->start || old->reserved != 1 || job->align > MI_SLICE_BYTES ||
        job->offset != 0 || job->size > MI_REQUEST_MAX / 2)
        return NULL;
    // Without what the span has in front of its guard to grow into.
    const size_t old_bytes = mi_align_up(old->block_bytes + MI_GUARD_BYTES, MI_SLICE_BYTES);
    mi_page_t *page = NULL;
    if (job->size < UINT32_MAX / 2 || !realloc_is_exact(job)) // slack must fit its field
        page = mi_page_new_own(job->theap, 2 * job->size);
    if (page == NULL)
        page = mi_page_new_own(job->theap, job->size);
    if (page == NULL)
        return NULL;
    mi_page_fill(page);
    page->is_zero = false;
    const bool is_own = (old->arena == NULL && mi_load_relaxed(&old->theap) == job->theap);
    // The old addresses may be another's as soon as they are given up, so they leave the map
    // before.
    if (is_own)
        mi_page_map_clear(old->start, old->slices);
    const size_t bytes = (size_t)page->slices << MI_SLICE_SHIFT;
    mi_page_set_guard(old, false); // it would move along
    mi_page_set_guard(page, false);
    if (mi_os_remap(old->start, old_bytes, page->start, bytes, !is_own) != 0) {
        mi_page_set_guard(old, true);
        if (is_own)
            mi_page_set_owner(old, job->theap); // its tables exist: this cannot fail
        mi_page_release(page);
        return NULL;
    }
    mi_page_set_guard(page, true);
    if (is_own)
        mi_page_forget(old);
    else
        (void)mi_core_free(job->p);
    if ((job->flags & MI_REALLOC_ZERO) != 0)
        mi_memzero(page->start + job->old_size, old_bytes - job->old_size);
    if (realloc_is_exact(job))
        (void)mi_exact_set(page, page->start, job->size);
    return page->start;
}

static void *realloc_new(const realloc_job_t *job, size_t size) {
    const bool zero = (job->flags & MI_REALLOC_ZERO) != 0;
    if (realloc_is_exact(job))
        return mi_core_malloc_aligned_exact(size, job->align, job->offset, zero);
    return mi_core_heap_malloc_aligned(mi_theap_heap(job->theap), size, job->align, job->offset,
                                       zero);
}

// A block that grows, and not by leaps, or that changed its length before, moves to where it can
// grow on in place. NULL = nowhere.
static void *realloc_roomy(const realloc_job_t *job, bool *is_zero) {
    const bool is_growing = (job->size > job->old_size && job->old_size >= job->size / 2);
    const bool is_loose =
        (job->page->class_index == MI_CLASS_HUGE && job->size > MI_SHARED_MAX && !MI_SECURE);
    if (MI_DEBUG || job->size <= MI_ROOMY_MIN || job->size > MI_REQUEST_MAX ||
        (!is_growing && !is_loose))
        return NULL;
    return mi_theap_alloc_roomy(job->theap, job->size, is_zero);
}

// A new block, the contents copied.
static void *realloc_copy(const realloc_job_t *job) {
    const bool zero = (job->flags & MI_REALLOC_ZERO) != 0;
    const size_t old = job->old_size;
    size_t wanted = job->size;
    if (!MI_DEBUG && wanted > old && old > MI_STEP_MIN && wanted - old < old / 4)
        wanted = old + old / 2;
    if (realloc_is_exact(job) && wanted - job->size >= UINT32_MAX - MI_SLICE_BYTES)
        wanted = job->size; // slack must fit its field
    bool is_zero = false;
    bool is_done = false; // zeroed all that is to be zero
    uint8_t *q;
    if (MI_DEBUG || job->align > MI_GRANULE_BYTES || job->offset != 0) {
        q = (uint8_t *)realloc_new(job, wanted);
        is_done = true;
    } else {
        q = realloc_roomy(job, &is_zero);
        if (q == NULL)
            q = (uint8_t *)mi_theap_alloc(job->theap, wanted,
                                          realloc_is_exact(job) ? MI_CLASS_EXACT : 0, &is_zero);
    }
    if (q == NULL)
        return NULL;
    const size_t kept = job->size < old ? job->size : old;
    if (zero && !is_done) { // of a fresh block only the first word was used, for a link
        const size_t dirty = is_zero ? sizeof(mi_block_t) : mi_page_map_find(q)->block_bytes;
        if (dirty > kept)
            mi_memzero(q + kept, dirty - kept);
    }
    mi_memcpy(q, job->p, kept);
    if (realloc_is_exact(job)) {
        mi_page_t *const page = mi_page_map_find(q);
        uint8_t *const block = (uint8_t *)mi_page_block_of(page, q);
        (void)mi_exact_set(page, block, (size_t)(q - block) + job->size);
    }
    (void)mi_core_free(job->p);
    return q;
}

// Has its block become so much too large that it shall move to a smaller one? A long block may have
// been twice as large as it had to be (guest.h).
static bool realloc_fits(const realloc_job_t *job) {
    const bool is_long = (job->room > MI_SHARED_MAX && job->room <= 2 * MI_SHARED_MAX);
    return job->size + 32 >= job->room / (is_long ? 4 : 2);
}

static void realloc_measure(realloc_job_t *job) {
    const uint8_t *const block = (const uint8_t *)mi_page_block_of(job->page, job->p);
    job->room = job->old_size;
    // A debug build moves whatever grows, so that stale pointers are found out, unless it must
    // stay; a block above 64 KiB only at the end of its size class: else many small steps would
    // take a copy each, and a program that lives for seconds would seem to hang.
    if (mi_page_is_exact(job->page) ||
        (MI_DEBUG && ((job->flags & MI_REALLOC_IN_PLACE) != 0 || job->old_size > MI_SHARED_MAX)))
        job->room = job->page->block_bytes - MI_PAD_BYTES - (size_t)(job->p - block);
}

static void *realloc_run(realloc_job_t *job, mi_free_result_t *result) {
    mi_free_result_t found;
    job->old_size = mi_core_usable(job->p, &found);
    if (result != NULL)
        *result = found;
    if (found != MI_FREE_OK)
        return NULL;
    mi_damage_t damage;
    if (MI_DEBUG && mi_core_damage(job->p, &damage)) { // a new pad would hide it
        if (result != NULL)
            *result = MI_FREE_CORRUPT;
        return NULL;
    }
    const bool stays = (job->flags & MI_REALLOC_IN_PLACE) != 0;
    const bool is_aligned = (((uintptr_t)job->p + job->offset) & (job->align - 1)) == 0;
    job->page = mi_page_map_find(job->p);
    realloc_measure(job);
    // A block that shall keep its size and cannot here moves to where it can.
    const bool is_good =
        !realloc_is_exact(job) || mi_page_is_exact(job->page) || realloc_may_turn(job);
    if (MI_LIKELY(job->size <= job->room && is_aligned &&
                  (stays || (is_good && realloc_fits(job)))) &&
        realloc_stay(job))
        return job->p;
    if (job->theap == NULL)
        return NULL;
    if (job->size <= job->room && is_aligned && !stays && is_good && realloc_cut(job))
        return job->p;
    if (job->size > job->room && is_aligned && realloc_extend(job))
        return job->p;
    if (stays || job->size > MI_REQUEST_MAX)
        return NULL;
    if (job->size > job->room && job->old_size >= MI_MOVE_MIN) {
        void *const q = realloc_move_pages(job);
        if (q != NULL)
            return q;
    }
    return realloc_copy(job);
}

static void *realloc_in(realloc_job_t *job, mi_free_result_t *result) {
    if (job->p != NULL)
        return realloc_run(job, result);
    if (result != NULL)
        *result = MI_FREE_OK;
    if (job->theap == NULL || (job->flags & MI_REALLOC_IN_PLACE) != 0)
        return NULL;
    return realloc_new(job, job->size);
}

void *mi_core_heap_resize(mi_heap_t *heap, void *p, const mi_core_resize_t *to,
                          mi_free_result_t *result) {
    MI_ASSERT(mi_is_pow2(to->align));
    realloc_job_t job = {mi_heap_thread_part(heap),
                         NULL,
                         (uint8_t *)p,
                         0,
                         0,
                         to->size,
                         to->align,
                         to->offset,
                         to->flags};
    return realloc_in(&job, result);
}

void *mi_core_realloc(void *p, size_t size, unsigned flags, mi_free_result_t *result) {
    const mi_core_resize_t to = {size, 1, 0, flags};
    return mi_core_heap_resize(NULL, p, &to, result);
}
