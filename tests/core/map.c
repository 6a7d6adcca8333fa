// The page map beyond its window: tables that cannot be had leave it as it was.
#include "use.h"
#include "core/page_map.h"
#include "os/os.h"

// Slices on both sides of a border between two tables; nothing is ever mapped there.
enum { SLICES = 6 };
static uint8_t *const start = (uint8_t *)(uintptr_t)(((uint64_t)0x6543 << 32) - 3 * MI_SLICE_BYTES);
static mi_page_t page;

static int found(void) {
    int count = 0;
    for (size_t i = 0; i < SLICES; i++)
        count += (mi_page_map_find(start + i * MI_SLICE_BYTES + 100) == &page);
    return count;
}

// The nth call of the system fails, and those after it.
static void check_fails(long n) {
    mi_os_fail_nth(n);
    CHECK_MSG(!mi_page_map_set(start, SLICES, &page, 0), "n = %ld", n);
    CHECK_MSG(found() == 0, "n = %ld: %d slices are in the map", n, found());
    mi_os_fail_nth(0);
}

// Slices on both sides of the window's end, and next to it: those beside them stay as they are.
static void check_border(size_t before_end) {
    const uintptr_t end =
        MI_MAP_WINDOW_SLICES * MI_SLICE_BYTES - mi_load_relaxed(&mi_page_map_offset);
    uint8_t *const first = (uint8_t *)(end - before_end * MI_SLICE_BYTES);
    static mi_page_t other;
    CHECK(mi_page_map_set(first - MI_SLICE_BYTES, SLICES + 2, &other, 0));
    CHECK(mi_page_map_set(first, SLICES, &page, 0));
    for (size_t i = 0; i < SLICES; i++)
        CHECK(mi_page_map_find(first + i * MI_SLICE_BYTES + 1) == &page);
    mi_page_map_clear(first, SLICES);
    for (size_t i = 0; i < SLICES; i++)
        CHECK(mi_page_map_find(first + i * MI_SLICE_BYTES + 1) == NULL);
    CHECK(mi_page_map_find(first - 1) == &other);
    CHECK(mi_page_map_find(first + SLICES * MI_SLICE_BYTES) == &other);
    mi_page_map_clear(first - MI_SLICE_BYTES, SLICES + 2);
}

int main(void) {
    check_fails(1); // the table of tables
    check_fails(2); // the first table
    check_fails(2); // the second one: the two before are there now
    mi_os_fail_nth(0);
    CHECK(mi_page_map_set(start, SLICES, &page, 0));
    CHECK_MSG(mi_os_fail_calls() == 1, "%ld", mi_os_fail_calls());
    CHECK(found() == SLICES);
    mi_page_map_clear(start, SLICES);
    CHECK(found() == 0);
    // No such address exists.
    uint8_t *const beyond = (uint8_t *)(uintptr_t)((uint64_t)1 << 48);
    CHECK(!mi_page_map_set(beyond, 1, &page, 0) && mi_page_map_find(beyond) == NULL);
    CHECK(!mi_page_map_set(beyond - MI_SLICE_BYTES, 2, &page, 0));
    CHECK(mi_page_map_find(beyond - MI_SLICE_BYTES) == NULL);
    for (size_t before_end = 0; before_end < SLICES + 3; before_end++)
        check_border(before_end);
    return test_result();
}
