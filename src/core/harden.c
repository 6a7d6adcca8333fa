// Pads and free-list checks of the debug and secure builds. Works on blocks that the calling thread
// holds or owns.
#include "core/harden.h"

#include "core/limits.h"
#include "os/os.h"

#define HARDEN_FILL_NEW   0xD0
#define HARDEN_FILL_FREED 0xDF
#define HARDEN_FILL_GAP   0xFD
#define HARDEN_FILL_MAX   ((size_t)4096) // of a block that is filled
#define HARDEN_GAP_MAX    ((size_t)256)  // behind the caller's bytes that is filled and checked
#define HARDEN_FREED      (~(uintptr_t)0)

#if MI_DEBUG

typedef struct pad_s {
    uintptr_t end;    // offset of the first byte that is not the caller's; HARDEN_FREED
    uintptr_t canary; // depends on the place, so that a copied pad does not fit
} pad_t;
static_assert(sizeof(pad_t) <= 16, "MI_PAD_BYTES");

static pad_t *pad_of(const mi_page_t *page, const void *block) {
    return (pad_t *)((uint8_t *)(uintptr_t)block + page->block_bytes - sizeof(pad_t));
}

static uintptr_t pad_canary(const void *block, uintptr_t end) {
    const uintptr_t x = ((uintptr_t)block >> MI_GRANULE_SHIFT) ^ (end * 31);
    return x * (uintptr_t)0x9E3779B97F4A7C15ull | 1;
}

static size_t pad_gap(const mi_page_t *page, uintptr_t end) {
    const size_t gap = page->block_bytes - sizeof(pad_t) - end;
    return gap < HARDEN_GAP_MAX ? gap : HARDEN_GAP_MAX;
}

void mi_pad_open(const mi_page_t *page, void *block, size_t size, bool is_zeroed) {
    pad_t *const pad = pad_of(page, block);
    uint8_t *const p = (uint8_t *)block;
    MI_ASSERT(size <= page->block_bytes - sizeof(pad_t));
    if (!is_zeroed)
        mi_memset(p, HARDEN_FILL_NEW, size < HARDEN_FILL_MAX ? size : HARDEN_FILL_MAX);
    mi_memset(p + size, HARDEN_FILL_GAP, pad_gap(page, size));
    pad->end = size;
    pad->canary = pad_canary(block, size);
}

static bool pad_gap_is_intact(const mi_page_t *page, const uint8_t *p, uintptr_t end) {
    const size_t gap = pad_gap(page, end);
    for (size_t i = 0; i < gap; i++)
        if (p[end + i] != HARDEN_FILL_GAP)
            return false;
    return true;
}

bool mi_pad_is_intact(const mi_page_t *page, const void *block) {
    const pad_t *const pad = pad_of(page, block);
    const uintptr_t end = pad->end;
    return pad->canary == pad_canary(block, end) && end != HARDEN_FREED &&
           pad_gap_is_intact(page, (const uint8_t *)block, end);
}

bool mi_pad_is_closed(const mi_page_t *page, const void *block) {
    const pad_t *const pad = pad_of(page, block);
    return pad->end == HARDEN_FREED && pad->canary == pad_canary(block, HARDEN_FREED);
}

mi_free_result_t mi_pad_close(const mi_page_t *page, void *block) {
    pad_t *const pad = pad_of(page, block);
    uint8_t *const p = (uint8_t *)block;
    const uintptr_t end = pad->end;
    if (pad->canary != pad_canary(block, end))
        return MI_FREE_CORRUPT;
    if (end == HARDEN_FREED)
        return MI_FREE_DOUBLE;
    if (!pad_gap_is_intact(page, p, end))
        return MI_FREE_CORRUPT;
    mi_memset(p, HARDEN_FILL_FREED, end < HARDEN_FILL_MAX ? end : HARDEN_FILL_MAX);
    pad->end = HARDEN_FREED;
    pad->canary = pad_canary(block, HARDEN_FREED);
    return MI_FREE_OK;
}

// The size that a canary was made of, when what lies before it was overwritten. false: that is
// lost, too.
static bool pad_size_in_canary(const mi_page_t *page, const void *block, size_t *size) {
    const uintptr_t factor = (uintptr_t)0x9E3779B97F4A7C15ull;
    uintptr_t inverse = factor; // each round doubles the bits that are right, three at first
    for (unsigned i = 0; i < 5; i++)
        inverse *= 2 - factor * inverse;
    for (uintptr_t bit = 0; bit < 2; bit++) { // the canary's lowest bit is always set
        const uintptr_t x = (pad_of(page, block)->canary - bit) * inverse;
        const uintptr_t product = x ^ ((uintptr_t)block >> MI_GRANULE_SHIFT);
        if (product % 31 == 0 && product / 31 <= page->block_bytes - sizeof(pad_t)) {
            *size = product / 31;
            return true;
        }
    }
    return false;
}

bool mi_pad_damage(const mi_page_t *page, const void *block, mi_damage_t *damage) {
    const pad_t *const pad = pad_of(page, block);
    const uint8_t *const p = (const uint8_t *)block;
    const size_t most = page->block_bytes - sizeof(pad_t);
    if (mi_pad_is_intact(page, block) || mi_pad_is_closed(page, block))
        return false;
    *damage = (mi_damage_t){.size = most, .first = most};
    damage->is_known = pad_size_in_canary(page, block, &damage->size);
    if (!damage->is_known)
        return true;
    const uintptr_t end = damage->size;
    const uint8_t *const expected = (const uint8_t *)&end;
    const size_t gap = pad_gap(page, end);
    damage->first = end;
    while (damage->first < end + gap && p[damage->first] == HARDEN_FILL_GAP)
        damage->first++;
    if (damage->first < end + gap)
        return true;
    damage->first = most;
    for (size_t i = 0; i < sizeof(end) && ((const uint8_t *)&pad->end)[i] == expected[i]; i++)
        damage->first++;
    return true;
}

size_t mi_pad_end(const mi_page_t *page, const void *block) {
    const pad_t *const pad = pad_of(page, block);
    return pad->end > page->block_bytes - sizeof(pad_t) ? 0 : pad->end;
}

#endif

// ---- Marks
// -------------------------------------------------------------------------------------------------

#if MI_SECURE
mi_free_result_t mi_mark_fault(const mi_page_t *page, const void *block) {
    const size_t index = mi_page_block_index(page, (size_t)((const uint8_t *)block - page->start));
    return mi_load_relaxed(&page->marks[index]) == MI_MARK_FREE ? MI_FREE_DOUBLE : MI_FREE_INVALID;
}

void mi_marks_fill(mi_page_t *page, uint32_t first, uint32_t count, uint8_t value) {
    // Nobody else has one of these blocks.
    mi_memset((void *)(uintptr_t)&page->marks[first], value, count);
}
#endif

void mi_page_check_block(const mi_page_t *page, const mi_block_t *block) {
    mi_mark_t *mark;
    if (!mi_mark_is_free(page, block, &mark))
        mi_corrupt_fail("a free block was overwritten: its page's free list is corrupt, page",
                        page->start);
}

void mi_page_check_list(const mi_page_t *page) {
    if (page->free != NULL)
        mi_page_check_block(page, page->free);
    // A link that was changed into that of another free block is found here: what lay between is in
    // no list and not live. After fork() used may be one too large (mi_fork_point).
    else if (page->state == MI_PAGE_CURRENT && mi_page_live(page) < page->capacity)
        mi_corrupt_fail("a free block was overwritten: its page's free list is corrupt, page",
                        page->start);
}

// ---- Secrets: ChaCha with 8 rounds, a counter under a key that the system gave
// -----------------------------

static _Atomic(uint64_t) secret_count;
static _Atomic(uint64_t) secret_key[4];
static _Atomic(bool) secret_is_ready;

#if MI_HAS_LANES
MI_INLINE void lanes_add(mi_lanes_t *a, const mi_lanes_t *b) {
    *a += *b;
}

MI_INLINE void lanes_xor_rotate(mi_lanes_t *a, const mi_lanes_t *b, unsigned by) {
    const mi_lanes_t x = *a ^ *b;
    *a = (x << by) | (x >> (32 - by));
}

MI_INLINE void lanes_turn(mi_lanes_t *a, unsigned by) {
    const mi_lanes_t x = *a;
    *a = (mi_lanes_t){x[by % 4], x[(1 + by) % 4], x[(2 + by) % 4], x[(3 + by) % 4]};
}
#else
MI_INLINE void lanes_add(mi_lanes_t *a, const mi_lanes_t *b) {
    for (size_t i = 0; i < 4; i++)
        a->word[i] += b->word[i];
}

MI_INLINE void lanes_xor_rotate(mi_lanes_t *a, const mi_lanes_t *b, unsigned by) {
    for (size_t i = 0; i < 4; i++) {
        const uint32_t x = a->word[i] ^ b->word[i];
        a->word[i] = (x << by) | (x >> (32 - by));
    }
}

MI_INLINE void lanes_turn(mi_lanes_t *a, unsigned by) {
    const mi_lanes_t was = *a;
    for (size_t i = 0; i < 4; i++)
        a->word[i] = was.word[(i + by) % 4];
}
#endif

// A quarter round on each of the four columns.
MI_INLINE void secret_quarters(mi_lanes_t x[4]) {
    lanes_add(&x[0], &x[1]);
    lanes_xor_rotate(&x[3], &x[0], 16);
    lanes_add(&x[2], &x[3]);
    lanes_xor_rotate(&x[1], &x[2], 12);
    lanes_add(&x[0], &x[1]);
    lanes_xor_rotate(&x[3], &x[0], 8);
    lanes_add(&x[2], &x[3]);
    lanes_xor_rotate(&x[1], &x[2], 7);
}

// Several threads may come first: each adds to the key, and none goes on before it has done so.
static void secret_begin(void) {
    for (size_t i = 0; i < 4; i++)
        mi_fetch_add_relaxed(&secret_key[i], mi_os_random());
    mi_store_release(&secret_is_ready, true); // with the acquire in secret_refill
}

static void secret_refill(uint64_t out[8]) {
    uint32_t first[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    mi_lanes_t begin[4], x[4];
    if (MI_UNLIKELY(!mi_load_acquire(&secret_is_ready))) // with secret_begin
        secret_begin();
    const uint64_t count = mi_fetch_add_relaxed(&secret_count, 1);
    for (size_t i = 0; i < 4; i++) {
        const uint64_t key = mi_load_relaxed(&secret_key[i]);
        first[4 + 2 * i] = (uint32_t)key;
        first[5 + 2 * i] = (uint32_t)(key >> 32);
    }
    first[12] = (uint32_t)count;
    first[13] = (uint32_t)(count >> 32);
    mi_memcpy(begin, first, sizeof(begin));
    mi_memcpy(x, first, sizeof(x));
    for (int round = 0; round < 4; round++) {
        secret_quarters(x);
        lanes_turn(&x[1], 1); // the diagonals become columns
        lanes_turn(&x[2], 2);
        lanes_turn(&x[3], 3);
        secret_quarters(x);
        lanes_turn(&x[1], 3);
        lanes_turn(&x[2], 2);
        lanes_turn(&x[3], 1);
    }
    for (size_t i = 0; i < 4; i++)
        lanes_add(&x[i], &begin[i]);
    mi_memcpy(out, x, sizeof(x));
}

uint64_t mi_secret_next(mi_secrets_t *stock) {
    if (!MI_SECURE)
        return 0;
    if (stock->left == 0) {
        uint64_t fresh[8];
        secret_refill(fresh);
        mi_memcpy(stock->number, fresh, sizeof(stock->number));
        stock->left = (uint32_t)(sizeof(stock->number) / sizeof(stock->number[0]));
    }
    const uint64_t next = stock->number[--stock->left];
    stock->number[stock->left] = 0; // it is the key of something now
    return next;
}

// ---- Hidden memory
// -----------------------------------------------------------------------------------------

// Where a 64-bit process has nothing else as a rule: between 1 and 64 TiB.
#define HIDDEN_FIRST ((uint64_t)1 << 40)
#define HIDDEN_BITS  46

uintptr_t mi_hidden_address(uintptr_t near, uint64_t reach) {
    mi_secrets_t stock = {{0}, 0};
    if (!MI_SECURE || !MI_IS_64BIT)
        return 0;
    const uint64_t random = mi_secret_next(&stock);
    uint64_t at = HIDDEN_FIRST + (random >> (64 - HIDDEN_BITS));
    if (near != 0)
        at = near - reach + random % (2 * reach);
    return mi_align_down((uintptr_t)at, MI_SLICE_BYTES);
}

void *mi_hidden_reserve(size_t bytes) {
    const size_t guard = MI_SLICE_BYTES; // on both sides; addresses only
    bool is_zero;
    uint8_t *const p =
        (uint8_t *)mi_os_reserve_at(mi_hidden_address(0, 0), bytes + 2 * guard, MI_SLICE_BYTES);
    if (p == NULL)
        return NULL;
    if (mi_os_needs_commit()) { // what is not committed is a guard
        if (mi_os_commit(p + guard, bytes, &is_zero) == 0)
            return p + guard;
    } else if (mi_os_protect(p, guard) == 0 && mi_os_protect(p + guard + bytes, guard) == 0) {
        return p + guard;
    }
    (void)mi_os_release(p, bytes + 2 * guard);
    return NULL;
}

void mi_hidden_release(void *p, size_t bytes) {
    (void)mi_os_release((uint8_t *)p - MI_SLICE_BYTES, bytes + 2 * MI_SLICE_BYTES);
}
