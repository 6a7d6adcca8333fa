// Lists of long blocks (guest.h): a thread heap of many pages keeps blocks of 64 KiB to 4 MiB for
// its next requests; they hold what they may hold, give it up for a class that needs it, and are
// whole, zero where they shall be, and gone when they should be.
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
        CHECK(use_check(h->block[i], h->size[i], (uint8_t)i));
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
    const size_t most = HELD * MI_LONG_SHARE * 5 / 4; // it has pages without live blocks, too
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
    CHECK_MSG(!HAS_LISTS || MI_SHRUNK || slow < 1500, "%d slow ones of 3000", slow);
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
}

// A thread heap of few pages has no such lists (any more), and pairs are fast there, too.
static void test_few(void) {
    const mi_theap_t *const theap = mi_core_theap();
    void *block[2];
    mi_core_collect(true);
    for (int i = 0; i < 100; i++) { // until it has looked at the clock
        for (int k = 0; k < 2; k++)
            block[k] = use_malloc(100000 + (size_t)i * 1000);
        for (int k = 0; k < 2; k++)
            CHECK(use_free(block[k]) == MI_FREE_OK);
    }
    CHECK(MI_SHRUNK || (theap->long_max == 0 && theap->long_bytes == 0));
    void *const other = use_malloc(100000);
    uint64_t slow = 0;
    for (int turn = 0; turn < 1000; turn++) {
        CHECK(use_free(use_malloc(100000)) == MI_FREE_OK);
        if (turn == 100)
            slow = use_stats().malloc_count;
    }
    slow = use_stats().malloc_count - slow;
    CHECK_MSG(MI_DEBUG || MI_SHRUNK || slow <= 20, "%d slow ones of 899", (int)slow);
    CHECK(use_free(other) == MI_FREE_OK);
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
    mi_core_config.purge_delay_ms = 1000 * 1000; // or a slow machine empties the lists all the time
    test_replace(&h);
    test_alone(&h);
    test_home(&h);
    test_few();
    test_end();
    test_threads();
    mi_core_collect(true);
    mi_core_collect(true); // takes what others freed meanwhile
    CHECK_MSG(use_stats().page_count == 0, "%d pages left", (int)use_stats().page_count);
    return test_result();
}
