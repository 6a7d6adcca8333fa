// Reads the structures of stopped threads. Nothing here writes to a page or follows a link that it
// has not checked.
#include "core/snapshot.h"

#include "core/arena.h"
#include "core/exact.h"
#include "core/guest.h"
#include "core/harden.h"
#include "core/life.h"
#include "core/page.h"
#include "core/remote.h"
#include "os/os.h"

// One bit for each block of a page: is it free? A page has at most 4096 blocks.
#define SNAPSHOT_BLOCKS_MAX (MI_SLICE_BYTES / MI_GRANULE_BYTES)

typedef struct snapshot_job_s {
    mi_redirect_block_t *out;
    size_t cap;
    size_t count;
    const void *damaged;
    uint64_t is_free[SNAPSHOT_BLOCKS_MAX / 64];
} snapshot_job_t;

static void snapshot_is_damaged(snapshot_job_t *job, const void *where) {
    if (job->damaged == NULL)
        job->damaged = where;
}

// Marks a list of free blocks, from its head on.
static void snapshot_mark(snapshot_job_t *job, const mi_page_t *page, const mi_block_t *list) {
    uint32_t left = page->reserved;
    for (const mi_block_t *b = list; b != NULL; b = mi_block_next(page, b)) {
        if (left-- == 0 || !mi_link_is_sane(page, b) || !mi_page_is_block_start(page, b)) {
            snapshot_is_damaged(job, page->start);
            return;
        }
        const size_t i = mi_page_block_index(page, (size_t)((const uint8_t *)b - page->start));
        if (i >= page->reserved) {
            snapshot_is_damaged(job, page->start);
            return;
        }
        job->is_free[i / 64] |= (uint64_t)1 << (i % 64);
    }
}

// Blocks that other threads have freed and hold back.
static void snapshot_mark_batches(snapshot_job_t *job, const mi_page_t *page) {
    if (page->far_class == 0)
        return; // its blocks are never held back
    for (const mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next)
        for (uint32_t k = 0; k < MI_BATCH_SLOTS; k++) {
            const mi_batch_t *const batch = &t->batch[k];
            const mi_block_t *b = batch->head;
            // Only the first count blocks are linked to each other.
            for (uint32_t i = 0; batch->page == page && i < batch->count; i++) {
                if (b == NULL || !mi_link_is_sane(page, b) || !mi_page_is_block_start(page, b))
                    break; // it is being filled or handed over at this instant
                const size_t at =
                    mi_page_block_index(page, (size_t)((const uint8_t *)b - page->start));
                if (at < page->reserved)
                    job->is_free[at / 64] |= (uint64_t)1 << (at % 64);
                b = (i + 1 < batch->count ? mi_block_next(page, b) : NULL);
            }
        }
}

static void snapshot_put(snapshot_job_t *job, const void *block, size_t size) {
    if (job->count < job->cap)
        job->out[job->count] = (mi_redirect_block_t){block, size};
    job->count++;
}

static void snapshot_add(snapshot_job_t *job, const mi_page_t *page, const uint8_t *block) {
#if MI_DEBUG
    if (!mi_pad_is_intact(page, block) && !mi_pad_is_closed(page, block))
        snapshot_is_damaged(job, block);
#endif
    const size_t end = mi_pad_end(page, block);
    snapshot_put(job, block, end <= page->block_bytes ? end : page->block_bytes);
}

// The guests of one list. One block may have been put in that is not counted yet.
static void snapshot_guests(snapshot_job_t *job, const mi_page_t *list) {
    uint32_t left = mi_guest_held(list) + 1;
    for (const mi_block_t *b = list->free; b != NULL && left > 0; b = mi_block_next(list, b)) {
        const mi_page_t *const page = mi_page_map_find(b);
        if (page == NULL || !mi_page_is_block_start(page, b)) {
            snapshot_is_damaged(job, b);
            return;
        }
        snapshot_put(job, b, MI_REDIRECT_GONE);
        left--;
    }
}

static void snapshot_all_guests(snapshot_job_t *job) {
    for (const mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next)
        for (uint32_t i = 0; i < MI_GUEST_LISTS && t->guests != NULL; i++)
            if (t->guests[i].block_bytes != 0) // else the list was never made
                snapshot_guests(job, &t->guests[i]);
}

static bool snapshot_page(mi_page_t *page, void *arg) {
    snapshot_job_t *const job = (snapshot_job_t *)arg;
    const uint32_t words = ((uint32_t)page->reserved + 63) / 64;
    for (uint32_t i = 0; i < words; i++)
        job->is_free[i] = 0;
    snapshot_mark(job, page, page->free);
    snapshot_mark(job, page, mi_page_remote_first(page));
    snapshot_mark_batches(job, page);
    for (uint32_t i = 0; i < page->capacity && i < page->reserved; i++)
        if (((job->is_free[i / 64] >> (i % 64)) & 1) == 0)
            snapshot_add(job, page, page->start + i * page->block_bytes);
    return true;
}

// Is a stopped thread in the middle of a slow path, where pages change their class or owner? A
// thread that was killed there never gets on.
static bool snapshot_is_busy(const mi_theap_t *own) {
    for (const mi_theap_t *t = mi_life_all(); t != NULL; t = t->all_next)
        if (t != own && mi_load_relaxed(&t->state) == MI_THEAP_ACTIVE &&
            mi_load_relaxed(&t->busy) != 0 && mi_os_thread_is_alive(mi_load_relaxed(&t->thread_id)))
            return true;
    return false;
}

size_t mi_core_snapshot(mi_redirect_block_t *out, size_t cap, const void **damaged) {
    snapshot_job_t job = {.out = out, .cap = cap};
    mi_theap_t *const own = mi_theap_real();
    if (own != NULL)
        mi_remote_flush(own, true);
    if (snapshot_is_busy(own) || !mi_arena_try_visit_all(snapshot_page, &job) ||
        !mi_page_try_visit_own(snapshot_page, &job))
        return MI_REDIRECT_BUSY;
    snapshot_all_guests(&job);
    *damaged = job.damaged;
    return job.count;
}
