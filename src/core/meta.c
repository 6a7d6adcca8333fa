// A bump allocator under its own lock, for structs that are recycled by those who make them. One
// that is larger than an OS page begins at one, so that as few as possible are touched.
#include "core/meta.h"

#include "core/arena.h"
#include "core/harden.h"
#include "core/lock.h"

#define META_PAGE_BYTES 4096u // of an OS page, where pages are as small as that

static mi_lock_t meta_lock;
static uint8_t *meta_next; // unused rest of the last slice, under the lock
static size_t meta_left;
static uint8_t
    *meta_apart; // the last slice that lies in no arena; its first word leads to the one before

void *mi_meta_alloc(size_t bytes) {
    const size_t rounded = mi_align_up(bytes, MI_CACHE_LINE_BYTES);
    MI_ASSERT(rounded <= MI_SLICE_BYTES - META_PAGE_BYTES);
    const size_t align = (bytes > META_PAGE_BYTES ? META_PAGE_BYTES : MI_CACHE_LINE_BYTES);
    mi_lock(&meta_lock);
    size_t skip = (size_t)(-(uintptr_t)meta_next & (align - 1));
    if (meta_left < rounded || meta_left - rounded < skip) {
        uint8_t *const slice =
            (uint8_t *)(MI_SECURE ? mi_hidden_reserve(MI_SLICE_BYTES) : mi_arena_alloc_meta(1));
        if (slice == NULL) {
            mi_unlock(&meta_lock);
            return NULL;
        }
        meta_next = slice;
        meta_left = MI_SLICE_BYTES;
        if (MI_SECURE) {
            *(uint8_t **)(void *)slice = meta_apart;
            meta_apart = slice;
            meta_next += MI_CACHE_LINE_BYTES;
            meta_left -= MI_CACHE_LINE_BYTES;
        }
        skip = (size_t)(-(uintptr_t)meta_next & (align - 1));
    }
    uint8_t *const p = meta_next + skip;
    meta_next = p + rounded;
    meta_left -= skip + rounded;
    mi_unlock(&meta_lock);
    return p;
}

void mi_meta_release(void) {
    while (meta_apart != NULL) {
        uint8_t *const slice = meta_apart;
        meta_apart = *(uint8_t **)(void *)slice;
        mi_hidden_release(slice, MI_SLICE_BYTES);
    }
    meta_left = 0;
}

void mi_meta_fork_prepare(void) {
    mi_lock(&meta_lock);
}

void mi_meta_fork_done(void) {
    mi_unlock(&meta_lock);
}
