// A thread reserves an arena, and before it has its part others have taken all of it: it reserves
// another one. Those others are here what a lock calls that is wanted while another one is held.
#include "use.h"

#include "core/arena.h"
#include "core/arena_head.h"
#include "core/lock.h"

enum { THEFTS = 6, ARENA_LEAST = 50 };

static int thefts;      // new arenas that are still to be taken
static bool is_thief;   // takes what is there
static int taken_count; // slices, kept for good
static int locks;       // that are held or wanted

static void steal(void) {
    mi_span_t span;
    const int before = taken_count;
    is_thief = true;
    size_t free_slices = 0; // no more: to ask for them would reserve anew
    for (size_t i = 0; i < MI_ARENA_MAX_COUNT; i++)
        free_slices += (mi_arena_at(i) != NULL ? mi_arena_at(i)->free_slices : 0);
    for (; free_slices > 0 && mi_arena_alloc(&span, 1, 1, NULL); free_slices--)
        taken_count++;
    is_thief = false;
    thefts -= (taken_count - before >= ARENA_LEAST); // not what was left of older arenas
}

void mi_lock_wanted(void) {
    if (thefts > 0 && locks > 0 && !is_thief)
        steal();
    locks++;
}

void mi_lock_entered(mi_lock_t *lock) {
    (void)lock;
}

void mi_lock_left(void) {
    locks--;
}

int main(void) {
    static const size_t sizes[] = {8000, 60000, 300000, 3000000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *first = use_malloc(sizes[i]);
        CHECK(first != NULL);
        const int before = taken_count;
        thefts = THEFTS;
        // Until it needs memory that is not there.
        for (int n = 0; thefts > 0 && n < 100000; n++)
            CHECK_MSG(use_malloc(sizes[i]) != NULL, "%zu bytes, block %d", sizes[i], n);
        CHECK_MSG(thefts == 0 && taken_count > before, "%zu bytes: %d thefts left, %d slices",
                  sizes[i], thefts, taken_count - before);
        CHECK(use_free(first) == MI_FREE_OK);
    }
    return test_result();
}
