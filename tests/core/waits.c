// How much free memory may wait for its purge: arenas under a clock that stands still until the
// test moves it.
static unsigned long long fake_ms = 1000;
static unsigned long long fake_clock_ms(void) {
    return fake_ms;
}
#include "os/os.h"
#define mi_os_clock_ms fake_clock_ms
#include "core/arena.c"
#undef mi_os_clock_ms

#include "test.h"

// Every other of these spans is a hole between others that stay: what waits in holes serves none
// that is longer.
enum { HOLES = 24 };
#define HOLE_SLICES (MI_WAITS_LEAST / 6)
static mi_span_t hole[HOLES], between[HOLES];

static void take(int from, int count) {
    for (int i = from; i < from + count; i++)
        CHECK(mi_arena_alloc(&hole[i], HOLE_SLICES, 1, NULL));
}

static void give(const mi_span_t *span) {
    mi_arena_free(span->arena, span->start, span->slices);
}

// Frees them all; how often what waited had to go.
static uint32_t pressed_by(int from, int count) {
    const uint32_t before = mi_arena_pressure();
    for (int i = from; i < from + count; i++)
        give(&hole[i]);
    return mi_arena_pressure() - before;
}

// A program whose memory goes up and down: what it wants again at once may wait the next time.
static void test_raised(void) {
    CHECK(pressed_by(0, HOLES) == HOLES / 7); // six may wait, the seventh sends all away
    fake_ms += MI_REGRET_MS;
    take(0, HOLES);
    CHECK(pressed_by(0, HOLES) == 0);
    CHECK(arena_waits.slices == HOLES * HOLE_SLICES);
}

// It goes on: long after the last purge other memory is taken, while nearly as much waits as may.
static void test_kept(void) {
    const size_t before = arena_waits.limit;
    take(0, 4);
    for (int i = 0; i < 20; i++) {
        mi_span_t longer;
        fake_ms += MI_REGRET_MS + 1;
        CHECK(mi_arena_alloc(&longer, HOLE_SLICES + 1, 1, NULL));
        CHECK_MSG(arena_waits.limit == before, "round %d: %zu after %zu", i, arena_waits.limit,
                  before);
        mi_arena_free_purged(longer.arena, longer.start, longer.slices);
    }
    CHECK(pressed_by(0, 4) == 0);
}

// There is less of it: the limit falls to twice what waits when more is wanted, which is looked at
// now and then, and at last it is what it was at first.
static void test_lowered(void) {
    size_t before = arena_waits.limit;
    int taken = 0;
    for (int left = 10; left > 0; left -= 4) {
        const size_t twice = 2 * (size_t)left * HOLE_SLICES;
        mi_span_t longer;
        take(taken, HOLES - left - taken);
        taken = HOLES - left;
        CHECK(mi_arena_alloc(&longer, HOLE_SLICES + 1, 1, NULL));
        CHECK_MSG(arena_waits.limit == before, "too soon: %zu", arena_waits.limit);
        mi_arena_free_purged(longer.arena, longer.start, longer.slices);
        fake_ms += MI_REGRET_MS + 1;
        CHECK(mi_arena_alloc(&longer, HOLE_SLICES + 1, 1, NULL));
        before = (twice > MI_WAITS_LEAST ? twice : MI_WAITS_LEAST);
        CHECK_MSG(arena_waits.limit == before, "%zu, %d holes wait", arena_waits.limit, left);
        mi_arena_free_purged(longer.arena, longer.start, longer.slices);
    }
    CHECK(before == MI_WAITS_LEAST);
    CHECK(pressed_by(0, taken) == HOLES / 7); // the two that wait are the first of these
}

// The arena counts slices by words.
static void test_count(void) {
    uint64_t word = 1;
    for (int i = 0; i < 1000; i++) {
        size_t bits = 0;
        for (int k = 0; k < 64; k++)
            bits += (word >> k) & 1;
        CHECK(mi_bits_count(word) == bits);
        word = (i < 64 ? (word << 1) | 1 : word * 6364136223846793005u + 1442695040888963407u);
    }
    CHECK(mi_bits_count(0) == 0);
}

int main(void) {
    test_count();
    for (int i = 0; i < HOLES; i++) {
        take(i, 1);
        CHECK(mi_arena_alloc(&between[i], HOLE_SLICES, 1, NULL));
    }
    arena_peak_growth = 0; // else what waits may also have to make room for a longer span
    test_raised();
    test_kept();
    test_lowered();
    return test_result();
}
