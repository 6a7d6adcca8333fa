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
    return test_result();
}
