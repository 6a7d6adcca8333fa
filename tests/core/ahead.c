// Memory of small blocks that comes in ahead of its use, where page faults are slow: what they cost
// is set here, since it is the machine's.
//
//   ahead slow | fast | refused
#include "core/limits.h"
#include "core/page_map.h"
#include "os/os.h"
#include "use.h"

enum { SIZE = 40, PART = MI_SLICE_BYTES / 4 };

static bool is_resident(const uint8_t *p, size_t bytes) {
    const size_t there = mi_os_resident((void *)(uintptr_t)p, bytes);
    CHECK(there != SIZE_MAX);
    return there >= bytes;
}

// Of so many parts of slices, in which a block is the first one: how many are in memory as a whole,
// though less of them was linked. What nobody has used reads as zero.
static int parts_ahead(int count) {
    static const uint8_t *seen;
    int ahead = 0;
    for (int parts = 0; parts < count;) {
        const uint8_t *const p = (const uint8_t *)use_malloc(SIZE); // stays
        const mi_page_t *const page = mi_page_map_find(p);
        const size_t linked = page->capacity * page->block_bytes;
        const uint8_t *const part = page->start + linked / PART * PART;
        use_fill((void *)(uintptr_t)p, SIZE, 7);
        if (part == seen || linked % PART > PART / 2 ||
            (size_t)(p - page->start) < linked / PART * PART)
            continue;
        seen = part;
        const bool is_whole = is_resident(part, PART - MI_GUARD_BYTES);
        ahead += is_whole;
        if (is_whole)
            CHECK(use_is_zero(page->start + linked, PART - MI_GUARD_BYTES - linked % PART));
        parts++;
    }
    return ahead;
}

int main(int argc, char **argv) {
    enum { PARTS = 100 };
    const char *const mode = (argc > 1 ? argv[1] : "slow");
    uint8_t *const probe = (uint8_t *)mi_os_reserve(MI_SLICE_BYTES, MI_SLICE_BYTES);
    if (mi_os_populate(probe, MI_SLICE_BYTES) != 0) {
        printf("skipped: this kernel brings no memory in by a call\n");
        return 77;
    }
    CHECK(is_resident(probe, MI_SLICE_BYTES) && use_is_zero(probe, MI_SLICE_BYTES));
    mi_config_set(fault_ns, strcmp(mode, "fast") == 0 ? UINT64_MAX : 0);
    while (mi_theap_pages(mi_core_theap()) < MI_AHEAD_PAGES + 2) {
        const int ahead = parts_ahead(1);
        // The first ones are looked at only.
        CHECK(ahead == 0 || mi_theap_pages(mi_core_theap()) >= MI_AHEAD_PAGES);
    }
    (void)parts_ahead(MI_AHEAD_LOOKS);
    if (strcmp(mode, "refused") == 0) { // then it is not asked for any more
        mi_os_fail_nth(1);
        (void)parts_ahead(8);
        mi_os_fail_nth(0);
    }
    // A few are found in another way: pages that were used before, and the last part of a slice.
    const int ahead = parts_ahead(PARTS);
    if (strcmp(mode, "slow") == 0)
        CHECK_MSG(ahead > PARTS / 2, "%d of %d", ahead, (int)PARTS);
    else
        CHECK_MSG(ahead < PARTS / 10, "%d of %d", ahead, (int)PARTS);
    return test_result();
}
