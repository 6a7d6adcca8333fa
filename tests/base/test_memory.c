// memcpy, memmove and memset of the DLLs (src/base/memory.c), under other names: every short length
// and those around each step, every place within a vector, pieces that overlap by anything.
#include "test.h"

#include <stdint.h>
#include <string.h>

void *own_memcpy(void *to, const void *from, size_t bytes);
void *own_memmove(void *to, const void *from, size_t bytes);
void *own_memset(void *to, int value, size_t bytes);

enum { ROOM = 20000, MARGIN = 4200 };
static uint8_t is[ROOM], wanted[ROOM];
static uint32_t state = 1;

static void scramble(void) {
    for (int i = 0; i < ROOM; i++) {
        state = state * 1664525u + 1013904223u;
        is[i] = wanted[i] = (uint8_t)(state >> 24);
    }
}

// The whole room is compared: nothing beside the target may change.
static void check_same(const char *what, size_t to, size_t from, size_t bytes) {
    CHECK_MSG(memcmp(is, wanted, ROOM) == 0, "%s of %zu bytes from %zu to %zu", what, bytes, from,
              to);
}

static void check_move(size_t to, size_t from, size_t bytes) {
    static uint8_t between[ROOM];
    scramble();
    memcpy(between, wanted + from, bytes);
    memcpy(wanted + to, between, bytes);
    CHECK(own_memmove(is + to, is + from, bytes) == is + to);
    check_same("memmove", to, from, bytes);
    if (to > from && to < from + bytes)
        return;
    scramble();
    memcpy(between, wanted + from, bytes);
    memcpy(wanted + to, between, bytes);
    CHECK(own_memcpy(is + to, is + from, bytes) == is + to);
    check_same("memcpy", to, from, bytes);
}

static void check_set(size_t to, int value, size_t bytes) {
    scramble();
    for (size_t i = 0; i < bytes; i++)
        wanted[to + i] = (uint8_t)value;
    CHECK(own_memset(is + to, value, bytes) == is + to);
    check_same("memset", to, 0, bytes);
}

int main(void) {
    static const size_t steps[] = {255, 256, 512, 1023, 1024, 1025, 1031, 1032, 1040, 4096, 4103};
    for (size_t i = 0; i < 80 + sizeof(steps) / sizeof(steps[0]); i++) {
        const size_t bytes = (i < 80 ? i : steps[i - 80]);
        for (size_t place = 0; place < 17; place += (bytes < 40 ? 1 : 5)) {
            check_set(MARGIN + place, (int)(bytes * 7 + 0x1C3), bytes);
            check_set(MARGIN + place, 0, bytes);
            check_move(MARGIN + place, 2 * MARGIN + MARGIN / 2 + 3, bytes);
            check_move(2 * MARGIN + MARGIN / 2 + 3, MARGIN + place, bytes);
        }
        for (size_t apart = 0; apart < 40; apart++) {
            check_move(MARGIN, MARGIN + apart, bytes);
            check_move(MARGIN + apart, MARGIN, bytes);
        }
        check_move(MARGIN + bytes / 2, MARGIN, bytes);
        check_move(MARGIN, MARGIN + bytes / 2, bytes);
    }
    return test_result();
}
