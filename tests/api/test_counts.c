// Statistics of heaps and sub-processes are asked for while other threads allocate and free in
// them: nothing happens to anybody, and the figures are those of the moment.
#include "api_crew.h"
#include "api_thread.h"
#include "api_user.h"

#include "mimalloc-stats.h"

#include <stdatomic.h>

enum { USERS = 2, STEPS = 60000, SMALL = 3000, LOOKS = 300, LEFT = 500 };

typedef struct owner_s {
    user_t user;
    void *small[SMALL]; // more than a page has room for
} owner_t;
static owner_t owners[USERS];
static atomic_int left; // users that are still at it

static void use(void *me) {
    user_t *const u = &((owner_t *)me)->user;
    for (int step = 0; step < STEPS; step++)
        user_replace(u, user_random(u, USER_HELD),
                     1 + user_random(u, step % 40 == 0 ? 300000 : 2000));
    atomic_fetch_sub(&left, 1);
}

// What a thread keeps at hand counts as live: none of it is kept then.
static void drop(void *me) {
    owner_t *const o = me;
    for (size_t i = 0; i < USER_HELD; i++)
        user_drop(&o->user, i);
    for (size_t i = 0; i < SMALL; i++) {
        mi_free(o->small[i]);
        o->small[i] = NULL;
    }
    mi_collect(true);
}

static int64_t live_bytes(const mi_stats_t *s) {
    return s->malloc_normal.current + s->malloc_huge.current;
}

static int64_t heap_bytes(mi_heap_t *heap) {
    mi_stats_t_decl(s);
    CHECK(mi_heap_stats_get(heap, &s));
    return live_bytes(&s);
}

static void look(mi_heap_t *heap, const char *what) {
    // All that the users may hold, each block in the next class, and pads; and what main holds.
    const int64_t most =
        USERS * USER_HELD * (int64_t)(300000 + 300000 / 4 + 4096) + 64 * 1024 * 1024;
    const int64_t bytes = heap_bytes(heap);
    CHECK_MSG(bytes >= 0 && bytes < most, "%s: %lld bytes", what, (long long)bytes);
}

// What an ended thread has left, in a heap and in the main one. Half of each page is free, for
// whoever takes pages over.
static void leave(void *heap) {
    for (int i = 0; i < 2 * LEFT; i++) {
        void *const p = mi_heap_malloc(heap, 1000);
        void *const q = mi_malloc(1000);
        if (i % 2 == 0) {
            mi_free(p);
            mi_free(q);
        }
    }
}

static bool count_left(const mi_heap_t *heap, const mi_heap_area_t *area, void *block, size_t size,
                       void *arg) {
    (void)heap;
    (void)area;
    *(int *)arg += (block != NULL && size >= 1000);
    return true;
}

static int left_in(mi_heap_t *heap) {
    int count = 0;
    CHECK(mi_heap_visit_abandoned_blocks(heap, true, count_left, &count));
    return count;
}

static void test_beside(mi_heap_t *heap, crew_member_t *member) {
    const int left_before = left_in(heap);
    in_thread(leave, heap);

    atomic_store(&left, USERS);
    for (int i = 0; i < USERS; i++)
        crew_order(&member[i], use);
    for (int n = 0; n < LOOKS || atomic_load(&left) > 0; n++) {
        mi_stats_t_decl(s);
        look(heap, "the heap");
        look(mi_heap_main(), "the main heap");
        CHECK(mi_subproc_stats_get(mi_subproc_main(), &s) && live_bytes(&s) >= 0);
        // The users take pages of what was left where they allocate.
        if (owners[0].user.heap == NULL)
            CHECK_MSG(left_in(heap) == left_before + LEFT, "%d", left_in(heap));
        (void)left_in(n % 2 == 0 ? mi_heap_main() : heap);
        if (n % 16 == 0) {
            char *const text = mi_heap_stats_get_json(heap, 0, NULL);
            CHECK(text != NULL && text[0] == '{');
            mi_free(text);
        }
    }
    for (int i = 0; i < USERS; i++) {
        crew_wait(&member[i]);
        CHECK_MSG(owners[i].user.lost == 0, "%d blocks of thread %d", owners[i].user.lost, i);
    }
}

// Nobody is at it: what other threads hold is known to the block, also what they freed among it.
static void take_some(void *me) {
    owner_t *const o = me;
    user_t *const u = &o->user;
    for (size_t i = 0; i < SMALL; i++)
        o->small[i] = user_get(u, 100);
    for (size_t i = 0; i < USER_HELD; i++)
        user_replace(u, i, 1 + i * 700 % 9000 + (i % 50 == 0 ? 100000 : 0));
    for (size_t i = 0; i < USER_HELD; i += 3)
        user_drop(u, i);
    mi_collect(true);
}

static void test_exact(mi_heap_t *heap, crew_member_t *member) {
    for (int i = 0; i < USERS; i++)
        crew_do(&member[i], drop);
    const int64_t before = heap_bytes(heap);
    int64_t sum = 0;
    for (int i = 0; i < USERS; i++) {
        crew_do(&member[i], take_some);
        for (size_t k = 0; k < USER_HELD; k++)
            sum += (int64_t)mi_usable_size(owners[i].user.block[k]);
        for (size_t k = 0; k < SMALL; k++)
            sum += (int64_t)mi_usable_size(owners[i].small[k]);
    }
    const int64_t counted = heap_bytes(heap) - before;
    // A pad counts in the debug build, and a quarter more is the most of a class there.
    CHECK_MSG(counted >= sum && counted <= sum + (MI_DEBUG    ? sum / 2
                                                  : MI_SECURE ? sum / 8
                                                              : 0),
              "%lld bytes counted, %lld held", (long long)counted, (long long)sum);
    for (int i = 0; i < USERS; i++)
        crew_do(&member[i], drop);
    CHECK_MSG(heap_bytes(heap) == before, "%lld bytes left",
              (long long)(heap_bytes(heap) - before));
}

int main(void) {
    static crew_member_t member[USERS];
    mi_heap_t *const heap = mi_heap_new();
    for (int i = 0; i < USERS; i++) {
        owners[i].user.random = (uint32_t)i + 1;
        member[i].me = &owners[i];
        CHECK(crew_begin(&member[i]));
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < USERS; i++)
            owners[i].user.heap = (round == 0 ? NULL : heap);
        test_beside(heap, member);
        test_exact(round == 0 ? mi_heap_main() : heap, member);
    }
    for (int i = 0; i < USERS; i++)
        crew_end(&member[i], drop);
    mi_heap_destroy(heap);
    return test_result();
}
