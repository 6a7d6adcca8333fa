// Lists of long blocks (guest.h): a thread keeps blocks of 64 to 256 KiB for its next requests; the
// lists hold what they may hold, serve all that they have room for, and are gone when they should
// be; the blocks are whole, zero where they shall be, and no longer than they have to be where that
// matters.
#include "core/limits.h"
#include "core/theap.h"
#include "use.h"

#include <pthread.h>

#define HAS_LISTS (!MI_SECURE && !MI_DEBUG)
enum { HELD = 300, LEAST = 66 * 1024, MOST = 250 * 1024 };

typedef struct held_s {
    uint8_t *block[HELD];
    size_t size[HELD];
} held_t;

static size_t random_size(uint64_t *state) {
    return LEAST + (size_t)(use_random(state) % (MOST - LEAST));
}

// zero: by calloc.
static void renew(held_t *h, int i, size_t size, bool zero) {
    if (h->block[i] != NULL) {
        CHECK(use_check(h->block[i], h->size[i], (uint8_t)i));
        CHECK(use_free(h->block[i]) == MI_FREE_OK);
    }
    h->size[i] = size;
    h->block[i] = (zero ? mi_core_malloc(size, true) : use_malloc(size));
    CHECK(!zero || use_is_zero(h->block[i], size));
    CHECK(mi_core_usable(h->block[i], NULL) >= size);
    use_fill(h->block[i], size, (uint8_t)i);
}

static void drop(held_t *h) {
    for (int i = 0; i < HELD; i++) {
        CHECK(h->block[i] == NULL || use_check(h->block[i], h->size[i], (uint8_t)i));
        CHECK(use_free(h->block[i]) == MI_FREE_OK);
        h->block[i] = NULL;
    }
}

// What the lists have room for, and what they hold, by counting.
static size_t room(const mi_theap_t *theap, size_t *held) {
    size_t sum = 0;
    *held = 0;
    for (uint32_t i = MI_GUEST_LONG; theap->guests != NULL && i < MI_GUEST_LISTS; i++) {
        const mi_page_t *const list = &theap->guests[i];
        size_t count = 0;
        for (const mi_block_t *b = list->free; b != NULL; b = mi_block_next(list, b), count++) {
            const mi_page_t *const page = mi_page_map_find(b);
            CHECK(page->class_index == list->class_index && mi_page_live(page) == 1);
            CHECK(page->free == NULL && page->block_bytes == list->block_bytes);
            CHECK(page->block_bytes <= (size_t)page->slices << MI_SLICE_SHIFT);
        }
        CHECK(list->block_bytes == 0 || count == mi_guest_held(list));
        CHECK(count <= list->capacity);
        sum += list->capacity * list->block_bytes;
        *held += count * list->block_bytes;
    }
    return sum;
}

// Blocks of random sizes are replaced at random: most are found in a list, and the lists keep to
// what they may have room for.
static void test_replace(held_t *h) {
    const mi_theap_t *const theap = mi_core_theap();
    uint64_t state = 11;
    size_t held;
    const size_t most = MI_LONG_ALL;
    for (int i = 0; i < HELD; i++)
        renew(h, i, random_size(&state), i % 4 == 0);
    for (int i = 0; i < 3000; i++)
        renew(h, (int)(use_random(&state) % HELD), random_size(&state), false);
    const uint64_t before = use_stats().malloc_count;
    for (int i = 0; i < 3000; i++) {
        renew(h, (int)(use_random(&state) % HELD), random_size(&state), false);
        CHECK_MSG(theap->long_bytes <= most, "room for %zu bytes of %zu", theap->long_bytes, most);
    }
    const int slow = (int)(use_stats().malloc_count - before);
    CHECK_MSG(!HAS_LISTS || MI_SHRUNK || slow < 1000, "%d slow ones of 3000", slow);
    CHECK(room(theap, &held) == theap->long_bytes);
    CHECK(!HAS_LISTS || MI_SHRUNK || held != 0);
    for (int i = 0; i < 1000; i++)
        renew(h, (int)(use_random(&state) % HELD), random_size(&state), true);
}

// One that comes and goes alone finds room, however long it is and whatever the others have.
static void test_alone(held_t *h) {
    const mi_theap_t *const theap = mi_core_theap();
    uint64_t state = 12;
    for (int i = 0; i < 1000; i++)
        renew(h, (int)(use_random(&state) % HELD), random_size(&state), false);
    for (size_t size = 4 * MI_MiB; size >= 100000; size /= 2) {
        void *const other = use_malloc(size);
        uint64_t slow = 0;
        for (int turn = 0; turn < 1000; turn++) {
            CHECK(use_free(use_malloc(size)) == MI_FREE_OK);
            if (turn == 100)
                slow = use_stats().malloc_count;
        }
        slow = use_stats().malloc_count - slow;
        CHECK_MSG(MI_DEBUG || MI_SHRUNK || slow <= 20, "%d slow ones of 899 of %zu bytes",
                  (int)slow, size);
        CHECK(use_free(other) == MI_FREE_OK);
    }
    size_t held;
    CHECK(room(theap, &held) == theap->long_bytes);
}

// A walk and a collection find no block in a list; those of a thread that has ended are gone.
static void test_home(held_t *h) {
    const mi_theap_t *const theap = mi_core_theap();
    size_t held;
    mi_core_collect(true);
    CHECK(room(theap, &held) == 0 && held == 0 && theap->long_bytes == 0);
    CHECK_MSG(use_stats().page_count == HELD, "%d pages of %d blocks", (int)use_stats().page_count,
              HELD);
    drop(h);
    CHECK_MSG(theap->long_bytes <= MI_LONG_ALL, "room for %zu bytes", theap->long_bytes);
}

static int slow_of(held_t *h, int count, uint64_t *state) {
    const uint64_t before = use_stats().malloc_count;
    for (int i = 0; i < 1000; i++)
        renew(h, (int)(use_random(state) % (uint64_t)count), random_size(state), false);
    return (int)(use_stats().malloc_count - before);
}

// A thread heap of few blocks has lists, too. What is longer than was asked for serves when nothing
// else waits.
static void test_few(held_t *h) {
    uint64_t state = 13;
    mi_core_collect(true);
    for (int i = 0; i < 10; i++)
        renew(h, i, random_size(&state), false);
    (void)slow_of(h, 10, &state);
    const int slow = slow_of(h, 10, &state);
    CHECK_MSG(!HAS_LISTS || MI_SHRUNK || slow < 200, "%d slow ones of 1000", slow);
    drop(h);
    if (!HAS_LISTS || MI_SHRUNK)
        return;
    mi_core_collect(true);
    void *const large[] = {use_malloc(250 * 1024), use_malloc(250 * 1024)};
    CHECK(use_free(large[0]) == MI_FREE_OK && use_free(large[1]) == MI_FREE_OK);
    void *const small = use_malloc(70 * 1024);
    CHECK(small == large[0] || small == large[1]);
    CHECK(use_free(small) == MI_FREE_OK);
}

// Where memory that nobody has touched is taken, the lists give up theirs.
static void test_fresh(void) {
    const mi_theap_t *const theap = mi_core_theap();
    enum { COUNT = 4 };
    void *block[COUNT];
    if (!HAS_LISTS)
        return;
    mi_core_collect(true);
    for (int i = 0; i < COUNT; i++)
        block[i] = use_malloc(100000);
    for (int i = 0; i < COUNT; i++)
        CHECK(use_free(block[i]) == MI_FREE_OK);
    size_t held;
    CHECK(room(theap, &held) != 0 && held == theap->long_bytes);
    void *const fresh = use_malloc(3 * MI_MiB);
    CHECK(room(theap, &held) == 0 && held == 0);
    for (int i = 0; i < COUNT; i++)
        block[i] = use_malloc(100000);
    CHECK(theap->long_bytes == 0);
    for (int i = 0; i < COUNT; i++)
        CHECK(use_free(block[i]) == MI_FREE_OK);
    CHECK(use_free(fresh) == MI_FREE_OK);
}

// A block from a list may use all of its slices; one that shall be zero is no longer than it must
// be, and one that was resized neither moves for little nor stays for ever.
static void test_length(void) {
    mi_core_collect(true);
    for (int turn = 0; turn < 3; turn++) {
        uint8_t *const held = (uint8_t *)use_malloc(70 * 1024);
        uint8_t *const p = (uint8_t *)use_malloc(70 * 1024);
        const size_t least = mi_core_good_size(70 * 1024);
        if (!MI_DEBUG) // there the size is told by a pad
            CHECK(mi_core_usable(p, NULL) == (HAS_LISTS && turn != 0 ? 2 * MI_SLICE_BYTES : least));
        memset(p, 7, 70 * 1024);
        uint8_t *q = (uint8_t *)mi_core_realloc(p, 60 * 1024, 0, NULL);
        CHECK(q == p && q[0] == 7 && q[60 * 1024 - 1] == 7);
        q = (uint8_t *)mi_core_realloc(p, 10 * 1024, 0, NULL);
        CHECK(q != p && mi_core_usable(q, NULL) < 15 * 1024);
        CHECK(q[0] == 7 && q[10 * 1024 - 1] == 7);
        CHECK(use_free(q) == MI_FREE_OK);
        uint8_t *const zero = (uint8_t *)mi_core_malloc(70 * 1024, true);
        CHECK(mi_core_usable(zero, NULL) <= least);
        CHECK(use_is_zero(zero, mi_core_usable(zero, NULL)));
        memset(zero, 1, 70 * 1024);
        CHECK(use_free(held) == MI_FREE_OK);
        CHECK(use_free(zero) == MI_FREE_OK);
    }
}

// Blocks that grow step by step where none has a place to grow in, the second time into blocks from
// lists, which are longer than they have to be: they do not move at each step. Returns the moves.
static int grow(uint8_t **block, int count) {
    enum { STEP = 500, LAST = 200 * 1024 };
    int moves = 0;
    for (size_t size = 1000; size <= LAST; size += STEP)
        for (int i = 0; i < count; i++) {
            uint8_t *const q = (uint8_t *)mi_core_realloc(block[i], size, 0, NULL);
            CHECK(size == 1000 || use_check(q, 1000, (uint8_t)i));
            moves += (q != block[i] ? 1 : 0);
            block[i] = q;
            if (size == 1000)
                use_fill(q, size, (uint8_t)i);
        }
    for (int i = 0; i < count; i++)
        CHECK(use_free(block[i]) == MI_FREE_OK);
    return moves;
}

static void test_growth(void) {
    enum { COUNT = 20 };
    uint8_t *block[COUNT];
    const size_t span_max = mi_config(span_max);
    int moves = 0;
    mi_config_set(span_max, 0);
    for (int turn = 0; turn < 3; turn++) {
        memset(block, 0, sizeof(block));
        moves = grow(block, COUNT);
    }
    mi_config_set(span_max, span_max);
    CHECK_MSG(MI_DEBUG || moves < 40 * COUNT, "%d moves of %d blocks", moves, COUNT);
}

// Blocks that keep their exact size have lists of their own, and keep it.
static void test_exact(void) {
    enum { COUNT = 10 };
    static uint8_t *block[COUNT];
    static size_t size[COUNT];
    uint64_t state = 14, slow = 0;
    mi_core_collect(true);
    for (int i = 0; i < 3000; i++) {
        const int k = (int)(use_random(&state) % COUNT);
        if (block[k] != NULL) {
            CHECK(mi_core_usable(block[k], NULL) == size[k]);
            CHECK(use_check(block[k], size[k], (uint8_t)k));
            CHECK(use_free(block[k]) == MI_FREE_OK);
        }
        size[k] = random_size(&state);
        const uint64_t pages = use_stats().page_total;
        block[k] = (uint8_t *)mi_core_malloc_exact(size[k], i % 8 == 0);
        CHECK(i % 8 != 0 || use_is_zero(block[k], size[k]));
        slow += use_stats().page_total - pages;
        use_fill(block[k], size[k], (uint8_t)k);
        if (i % 16 == 0 && use_stats().page_count != 0) { // others in between
            void *const other = use_malloc(random_size(&state));
            CHECK(mi_core_usable(other, NULL) >= LEAST);
            CHECK(use_free(other) == MI_FREE_OK);
        }
    }
    CHECK_MSG(!HAS_LISTS || MI_SHRUNK || slow < 200, "%d pages for 3000 blocks", (int)slow);
    for (int k = 0; k < COUNT; k++)
        CHECK(use_free(block[k]) == MI_FREE_OK);
}

// A thread that ends leaves none.
static void *brief_thread(void *arg) {
    static held_t h;
    (void)arg;
    test_replace(&h);
    drop(&h);
    CHECK(!HAS_LISTS || MI_SHRUNK || mi_core_theap()->long_bytes != 0);
    return NULL;
}

static void test_end(void) {
    pthread_t thread;
    mi_core_collect(true);
    pthread_create(&thread, NULL, brief_thread, NULL);
    pthread_join(thread, NULL);
    CHECK_MSG(use_stats().page_count == 0, "%d pages left", (int)use_stats().page_count);
}

// Another thread frees what came from a list, and hands over what it made itself.
typedef struct pair_s {
    pthread_barrier_t made, done;
    held_t mine, theirs;
} pair_t;

static void *other_thread(void *arg) {
    pair_t *const p = (pair_t *)arg;
    test_replace(&p->theirs);
    pthread_barrier_wait(&p->made);
    drop(&p->mine);
    pthread_barrier_wait(&p->done);
    return NULL; // with blocks in its lists
}

static void test_threads(void) {
    static pair_t p;
    pthread_t thread;
    pthread_barrier_init(&p.made, NULL, 2);
    pthread_barrier_init(&p.done, NULL, 2);
    test_replace(&p.mine);
    pthread_create(&thread, NULL, other_thread, &p);
    pthread_barrier_wait(&p.made);
    pthread_barrier_wait(&p.done);
    drop(&p.theirs);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&p.made);
    pthread_barrier_destroy(&p.done);
}

int main(void) {
    static held_t h;
    mi_config_set(purge_delay_ms, 1000 * 1000); // or a slow machine empties the lists all the time
    test_replace(&h);
    test_alone(&h);
    test_home(&h);
    test_few(&h);
    test_fresh();
    test_length();
    test_growth();
    test_exact();
    test_end();
    test_threads();
    mi_core_collect(true);
    mi_core_collect(true); // takes what others freed meanwhile
    CHECK_MSG(use_stats().page_count == 0, "%d pages left", (int)use_stats().page_count);
    return test_result();
}
