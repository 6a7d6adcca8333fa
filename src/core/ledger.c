#include "core/ledger.h"

#if MI_DEBUG

#    include "core/harden.h"
#    include "core/lock.h"
#    include "core/meta.h"
#    include "core/page_map.h"
#    include "os/os.h"

enum { FIRST_BUCKETS = 256, RECORDS_AT_A_TIME = 32 };

typedef struct record_s record_t;
struct record_s {
    mi_debug_block_t block;
    record_t *chain; // in its bucket, or in the list of free records
    record_t *newer; // of the same owner; NULL = this is the newest
    record_t *older;
};

_Atomic(size_t) mi_ledger_count;

// All under the lock.
static mi_lock_t ledger_lock;
static record_t *first_buckets[FIRST_BUCKETS];
static record_t **buckets = first_buckets;
static size_t bucket_count = FIRST_BUCKETS; // a power of two
static record_t *free_records;

static size_t bucket_of(const void *p, size_t count) {
    const uint64_t x = (uint64_t)((uintptr_t)p >> MI_GRANULE_SHIFT) * 0x9E3779B97F4A7C15ull;
    return (size_t)(x >> 32) & (count - 1);
}

static record_t **place_of(const void *p) {
    record_t **at = &buckets[bucket_of(p, bucket_count)];
    while (*at != NULL && (*at)->block.p != p)
        at = &(*at)->chain;
    return at;
}

// Four times the buckets, so that chains stay short. Without memory they grow longer.
static void grow(void) {
    const size_t page_bytes = mi_os_page_bytes();
    const size_t count = bucket_count * 4;
    const size_t bytes = mi_align_up(count * sizeof(record_t *), page_bytes);
    bool is_zero;
    record_t **fresh = (record_t **)mi_os_reserve(bytes, page_bytes);
    if (fresh == NULL)
        return;
    if (mi_os_needs_commit() && mi_os_commit(fresh, bytes, &is_zero) != 0) {
        (void)mi_os_release(fresh, bytes);
        return;
    }
    for (size_t i = 0; i < bucket_count; i++)
        for (record_t *r = buckets[i], *next; r != NULL; r = next) {
            next = r->chain;
            record_t **const to = &fresh[bucket_of(r->block.p, count)];
            r->chain = *to;
            *to = r;
        }
    if (buckets != first_buckets)
        (void)mi_os_release(buckets, mi_align_up(bucket_count * sizeof(record_t *), page_bytes));
    buckets = fresh;
    bucket_count = count;
}

static record_t *record_new(void) {
    if (free_records == NULL) {
        record_t *fresh = (record_t *)mi_meta_alloc(RECORDS_AT_A_TIME * sizeof(record_t));
        for (size_t i = 0; fresh != NULL && i < RECORDS_AT_A_TIME; i++) {
            fresh[i].chain = free_records;
            free_records = &fresh[i];
        }
    }
    record_t *const r = free_records;
    if (r != NULL)
        free_records = r->chain;
    return r;
}

static void count_in(const mi_debug_block_t *b) {
    mi_debug_totals_t *const t = &b->owner->totals;
    const unsigned use = (unsigned)MI_DEBUG_USE(b->use);
    if (use < MI_DEBUG_USES) {
        t->counts[use]++;
        t->sizes[use] += b->size;
    }
}

static void count_out(const mi_debug_block_t *b) {
    mi_debug_totals_t *const t = &b->owner->totals;
    const unsigned use = (unsigned)MI_DEBUG_USE(b->use);
    if (use < MI_DEBUG_USES) {
        t->counts[use]--;
        t->sizes[use] -= b->size;
    }
}

static void unlink_at(record_t **at) {
    record_t *const r = *at;
    mi_debug_owner_t *const owner = r->block.owner;
    *at = r->chain;
    if (r->newer != NULL)
        r->newer->older = r->older;
    else
        owner->newest = r->older;
    if (r->older != NULL)
        r->older->newer = r->newer;
    count_out(&r->block);
    owner->totals.live -= r->block.size;
    r->chain = free_records;
    free_records = r;
    mi_fetch_sub_relaxed(&mi_ledger_count, 1);
}

bool mi_ledger_add(const mi_debug_block_t *block) {
    mi_lock(&ledger_lock);
    record_t **at = place_of(block->p);
    if (*at != NULL)
        unlink_at(at);
    else if (mi_load_relaxed(&mi_ledger_count) >= bucket_count)
        grow();
    record_t *const r = record_new();
    if (r != NULL) {
        mi_debug_owner_t *const owner = block->owner;
        r->block = *block;
        at = &buckets[bucket_of(block->p, bucket_count)];
        r->chain = *at;
        *at = r;
        r->newer = NULL;
        r->older = (record_t *)owner->newest;
        if (r->older != NULL)
            r->older->newer = r;
        owner->newest = r;
        count_in(block);
        owner->totals.total += block->size;
        owner->totals.live += block->size;
        if (owner->totals.live > owner->totals.high)
            owner->totals.high = owner->totals.live;
        mi_fetch_add_relaxed(&mi_ledger_count, 1);
    }
    mi_unlock(&ledger_lock);
    return r != NULL;
}

void mi_ledger_remove(const void *p) {
    mi_lock(&ledger_lock);
    record_t **const at = place_of(p);
    if (*at != NULL)
        unlink_at(at);
    mi_unlock(&ledger_lock);
}

bool mi_ledger_find(const void *p, mi_debug_block_t *out) {
    mi_lock(&ledger_lock);
    const record_t *const r = *place_of(p);
    if (r != NULL)
        *out = r->block;
    mi_unlock(&ledger_lock);
    return r != NULL;
}

bool mi_ledger_set_use(const void *p, int32_t use) {
    mi_lock(&ledger_lock);
    record_t *const r = *place_of(p);
    if (r != NULL) {
        count_out(&r->block);
        r->block.use = use;
        count_in(&r->block);
    }
    mi_unlock(&ledger_lock);
    return r != NULL;
}

void mi_ledger_totals(const mi_debug_owner_t *owner, mi_debug_totals_t *out) {
    mi_lock(&ledger_lock);
    *out = owner->totals;
    mi_unlock(&ledger_lock);
}

void mi_ledger_resize(const mi_page_t *page, void *block, void *p, size_t size) {
    const size_t end = (size_t)((uint8_t *)p - (uint8_t *)block) + size;
    if (MI_LIKELY(mi_load_relaxed(&mi_ledger_count) == 0)) { // as in mi_ledger_drop
        mi_pad_open(page, block, end, true);
        return;
    }
    mi_lock(&ledger_lock);
    record_t *const r = *place_of(p);
    mi_pad_open(page, block, end, true);
    if (r != NULL) {
        mi_debug_totals_t *const t = &r->block.owner->totals;
        count_out(&r->block);
        t->live = t->live - r->block.size + size;
        t->high = (t->live > t->high ? t->live : t->high);
        r->block.size = size;
        count_in(&r->block);
    }
    mi_unlock(&ledger_lock);
}

static bool is_damaged(const void *p) {
    const mi_page_t *const page = mi_page_map_find(p);
    return page == NULL || !mi_pad_is_intact(page, mi_page_block_of(page, p));
}

static size_t list_some(const mi_debug_owner_t *owner, mi_debug_block_t *out, size_t cap,
                        bool damaged_only) {
    size_t count = 0;
    mi_lock(&ledger_lock);
    for (const record_t *r = (const record_t *)owner->newest; r != NULL; r = r->older) {
        if (damaged_only && !is_damaged(r->block.p))
            continue;
        if (count < cap)
            out[count] = r->block;
        count++;
    }
    mi_unlock(&ledger_lock);
    return count;
}

size_t mi_ledger_list(const mi_debug_owner_t *owner, mi_debug_block_t *out, size_t cap) {
    return list_some(owner, out, cap, false);
}

size_t mi_ledger_damaged(const mi_debug_owner_t *owner, mi_debug_block_t *out, size_t cap) {
    return list_some(owner, out, cap, true);
}

void mi_ledger_forget(mi_debug_owner_t *owner) {
    mi_lock(&ledger_lock);
    while (owner->newest != NULL)
        unlink_at(place_of(((const record_t *)owner->newest)->block.p));
    owner->totals = (mi_debug_totals_t){{0}, {0}, 0, 0, 0};
    mi_unlock(&ledger_lock);
}

#endif
