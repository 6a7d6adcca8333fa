// Options are set and callbacks replaced while other threads allocate: blocks stay as they are, and
// each callback is called with the argument that it was registered with.
#include "api_crew.h"
#include "api_user.h"

#include <stdatomic.h>

enum { USERS = 2, STEPS = 20000, ROUNDS = 1500, SWAPS = 20000 };

// ---- Callbacks: either of two, each with an argument of its own ----

static int first_arg, second_arg;
static atomic_int calls, mismatched;

static void seen(const void *arg, const void *wanted) {
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&mismatched, arg != wanted, memory_order_relaxed);
}

static void first_output(const char *text, void *arg) {
    (void)text;
    seen(arg, &first_arg);
}
static void second_output(const char *text, void *arg) {
    (void)text;
    seen(arg, &second_arg);
}
static void first_error(int error, void *arg) {
    (void)error;
    seen(arg, &first_arg);
}
static void second_error(int error, void *arg) {
    (void)error;
    seen(arg, &second_arg);
}
static void first_deferred(bool force, unsigned long long heartbeat, void *arg) {
    (void)force;
    (void)heartbeat;
    seen(arg, &first_arg);
}
static void second_deferred(bool force, unsigned long long heartbeat, void *arg) {
    (void)force;
    (void)heartbeat;
    seen(arg, &second_arg);
}

static void swap(void *me) {
    (void)me;
    for (int i = 0; i < SWAPS; i++) {
        const bool is_first = (i % 2 == 0);
        void *const arg = (is_first ? &first_arg : &second_arg);
        mi_register_output(is_first ? first_output : second_output, arg);
        mi_register_error(is_first ? first_error : second_error, arg);
        mi_register_deferred_free(is_first ? first_deferred : second_deferred, arg);
    }
}

// ---- Options ----

static const struct {
    mi_option_t option;
    long values[3];
} changed[] = {
    {mi_option_purge_delay, {0, -1, 250}},
    {mi_option_arena_purge_mult, {0, 10, 1}},
    {mi_option_purge_decommits, {0, 1, 1}},
    {mi_option_minimal_purge_size, {256, 0, 0}},
    {mi_option_arena_eager_commit, {1, 0, 2}},
    {mi_option_arena_reserve, {128 * 1024, 64 * 1024, 64 * 1024}},
    {mi_option_arena_max_object_size, {1024, 256 * 1024, 8 * 1024}},
    {mi_option_disallow_arena_alloc, {1, 0, 0}},
    {mi_option_generic_collect, {50, 10000, 0}},
    {mi_option_page_max_reclaim, {0, 1, -1}},
    {mi_option_use_numa_nodes, {2, 1, 0}},
    {mi_option_arena_is_numa_local, {1, 0, 0}},
    {mi_option_allow_thp, {1, 0, 0}},
    {mi_option_retry_on_oom, {0, 10, 400}},
    {mi_option_guarded_min, {100, 0, 0}},
    {mi_option_guarded_max, {5000, 100000, 1024 * 1024}},
    {mi_option_guarded_sample_rate, {100, 0, 0}},
    {mi_option_guarded_sample_seed, {7, 0, 0}},
    {mi_option_show_errors, {1, 1, 1}},
};
enum { CHANGED = sizeof(changed) / sizeof(changed[0]) };

static void set_all(int which) {
    for (size_t i = 0; i < CHANGED; i++)
        mi_option_set(changed[i].option, changed[i].values[which]);
}

static void change(void *me) {
    (void)me;
    for (int round = 0; round < ROUNDS; round++)
        set_all(round % 3);
}

// ---- The threads that allocate ----

static void use(void *me) {
    user_t *const u = me;
    for (int step = 0; step < STEPS; step++) {
        user_replace(u, user_random(u, USER_HELD), user_random(u, step % 50 == 0 ? 3000000 : 3000));
        if (step % 16 == 0)
            u->lost += (mi_malloc(opaque(SIZE_MAX)) != NULL); // an error, and its message
        if (step % 64 == 0)
            mi_collect(step % 1024 == 0);
    }
    for (size_t i = 0; i < USER_HELD; i++)
        user_drop(u, i);
}

int main(void) {
    static user_t users[USERS];
    static crew_member_t member[USERS + 2];
    mi_option_set(mi_option_max_errors, 1000 * 1000 * 1000);
    swap(NULL); // so that there always is one
    for (int i = 0; i < USERS + 2; i++) {
        member[i].me = (i < USERS ? &users[i] : NULL);
        if (i < USERS)
            users[i].random = (uint32_t)i + 1;
        CHECK(crew_begin(&member[i]));
    }
    for (int i = 0; i < USERS + 2; i++)
        crew_order(&member[i], i < USERS ? use : i == USERS ? change : swap);
    for (int i = 0; i < USERS + 2; i++)
        crew_wait(&member[i]);
    for (int i = 0; i < USERS; i++)
        CHECK_MSG(users[i].lost == 0, "%d blocks of thread %d", users[i].lost, i);
    CHECK_MSG(atomic_load(&mismatched) == 0, "%d of %d callbacks with another's argument",
              atomic_load(&mismatched), atomic_load(&calls));
    CHECK(atomic_load(&calls) >= USERS * STEPS / 16);
    set_all(2);
    for (size_t i = 0; i < CHANGED; i++)
        CHECK(mi_option_get(changed[i].option) == changed[i].values[2]);
    mi_register_output(NULL, NULL);
    mi_register_error(NULL, NULL);
    mi_register_deferred_free(NULL, NULL);
    for (int i = 0; i < USERS + 2; i++)
        crew_end(&member[i], change);
    return test_result();
}
