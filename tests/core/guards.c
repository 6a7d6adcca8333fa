// The guards at the ends of pages (secure build): where they are after pages of all sizes have come
// and gone, and that a kernel without light guards is not asked for more mappings than it has.
#include "use.h"
#include "os/os.h"

#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static sigjmp_buf faulted;
static void see_fault(int number) {
    (void)number;
    siglongjmp(faulted, 1);
}

static bool is_readable(const uint8_t *p) {
    if (sigsetjmp(faulted, 1) != 0)
        return false;
    (void)*(const volatile uint8_t *)p;
    return true;
}

// Every byte of the block can be had, and nothing behind the page's end.
static bool is_guarded(const uint8_t *p, size_t size) {
    const mi_page_t *const page = mi_page_map_find(p);
    const uint8_t *const end =
        page->start + ((size_t)page->slices << MI_SLICE_SHIFT) - MI_GUARD_BYTES;
    for (size_t i = 0; i < size; i += 4096)
        if (!is_readable(p + i))
            CHECK_MSG(false, "byte %zu of %zu", i, size);
    CHECK_MSG(p + size <= end && is_readable(end - 1) && is_readable(p + size - 1), "size %zu",
              size);
    return !is_readable(end) && !is_readable(end + MI_GUARD_BYTES - 1);
}

// Blocks of all sizes replace each other: spans are split and joined in every way.
static void test_mix(int rounds) {
    enum { SLOTS = 200 };
    static uint8_t *held[SLOTS];
    static size_t sizes[SLOTS];
    uint64_t random = 11;
    for (int n = 0; n < rounds; n++) {
        const size_t i = use_random(&random) % SLOTS;
        const size_t size = use_random_size(&random, 23);
        if (use_random(&random) % 4 == 0 && held[i] != NULL) {
            held[i] = mi_core_realloc(held[i], size, 0, NULL);
        } else {
            (void)use_free(held[i]);
            held[i] = use_malloc(size);
        }
        sizes[i] = size;
        CHECK(held[i] != NULL);
        memset(held[i], (int)n, size);
        CHECK_MSG(is_guarded(held[i], size), "size %zu in round %d", size, n);
        const size_t k = use_random(&random) % SLOTS;
        if (held[k] != NULL)
            CHECK_MSG(is_guarded(held[k], sizes[k]), "size %zu later", sizes[k]);
        if (n % 500 == 499)
            mi_core_collect(true);
    }
    for (size_t i = 0; i < SLOTS; i++)
        (void)use_free(held[i]);
    memset(held, 0, sizeof(held));
    // A reservation of its own, moved and grown.
    size_t size = 5 * MI_MiB;
    for (uint8_t *p = use_malloc(size); p != NULL; size *= 3) {
        CHECK_MSG(is_guarded(p, size), "size %zu", size);
        if (size > 400 * MI_MiB) {
            (void)use_free(p);
            break;
        }
        p = mi_core_realloc(p, size * 3, 0, NULL);
        CHECK(p != NULL);
    }
}

// Where a block would start behind the last one, up to the end of the guard, none is freed; and the
// mark that is asked is one of the page's own.
static void test_tails(void) {
    for (uint32_t c = 1; c <= MI_CLASS_SHARED; c++) {
        uint8_t *const p = use_malloc(mi_class_bytes(c));
        const mi_page_t *const page = mi_page_map_find(p);
        const size_t bytes = (size_t)page->slices << MI_SLICE_SHIFT;
        const size_t last = mi_page_block_index(page, bytes - 1);
        const bool is_near = ((const uint8_t *)page->marks >= (const uint8_t *)page &&
                              (const uint8_t *)page->marks < (const uint8_t *)(page + 1));
        CHECK_MSG(!is_near ||
                      (const uint8_t *)&page->marks[last + 1] <= (const uint8_t *)(page + 1),
                  "class %u: mark %zu is beyond the page's struct", c, last);
        for (size_t i = page->capacity; i <= last; i++)
            if (mi_core_free(page->start + i * page->block_bytes) != MI_FREE_INVALID)
                CHECK_MSG(false, "class %u: block %zu of %u", c, i, page->reserved);
        CHECK(use_free(p) == MI_FREE_OK);
    }
}

// A block that grows by little to 1 MiB hardly moves the guard behind it: each time is two system
// calls, and they come again each time such a block grows.
static const uint8_t *grow_once(unsigned most) {
    unsigned moves = 0;
    const uint8_t *end = NULL;
    uint8_t *p = use_malloc(1024);
    for (size_t size = 2048; size <= MI_MiB; size += 1024) {
        p = mi_core_realloc(p, size, 0, NULL);
        CHECK(p != NULL);
        p[size - 1] = 1;
        const mi_page_t *const page = mi_page_map_find(p);
        const uint8_t *const guard = page->start + ((size_t)page->slices << MI_SLICE_SHIFT);
        if (guard == end)
            continue;
        CHECK_MSG(is_guarded(p, size), "size %zu", size);
        moves += (page->class_index == MI_CLASS_HUGE);
        end = guard;
    }
    CHECK_MSG(is_guarded(p, MI_MiB), "at the end");
    CHECK_MSG(moves <= most, "%u guards", moves);
    CHECK(use_free(p) == MI_FREE_OK);
    return p;
}

// Others that grow come to the same place, since no span was put into the middle of the free slices
// because of the guard that was left there: each other place would be more memory.
static void test_growth(void) {
    const uint8_t *last = NULL;
    unsigned places = 0;
    for (int i = 0; i < 12; i++) {
        const uint8_t *const p = grow_once(i < 6 ? 2 : 1); // what came before left few long runs
        places += (p != last);
        last = p;
    }
    CHECK_MSG(places <= 2, "%u places", places);
}

// Fresh blocks come in an order that is different each time, all of them equally often: of four
// blocks, that of the whole order is counted, of more that of the first block.
static void test_order(void) {
    enum { GROUPS = 4800 };
    unsigned seen[256] = {0}, first[64] = {0};
    const uint8_t *start = NULL;
    for (unsigned n = 0; n < GROUPS;) {
        unsigned order = 0;
        for (unsigned i = 0; i < 4; i++) {
            const uint8_t *const p = use_malloc(1024);
            start = (i == 0 ? mi_page_map_find(p)->start : start);
            order = order * 4 + (unsigned)((size_t)(p - start) / 1024) % 4;
        }
        seen[order]++;
        n++;
    }
    unsigned orders = 0;
    for (unsigned i = 0; i < 256; i++)
        if (seen[i] != 0) {
            orders++;
            CHECK_MSG(seen[i] > 100 && seen[i] < 300, "order %x: %u", i, seen[i]);
        }
    CHECK_MSG(orders == 24, "%u orders", orders);
    for (unsigned n = 0; n < 64 * 100; n++) {
        uint32_t left = 0;
        do {
            const uint8_t *const p = use_malloc(64);
            const mi_page_t *const page = mi_page_map_find(p);
            if (left == 0) {
                left = page->capacity % 64 == 0 ? 64 : page->capacity % 64;
                if (left == 64)
                    first[(size_t)(p - page->start) / 64 % 64]++;
            }
        } while (--left > 0);
    }
    for (unsigned i = 0; i < 64; i++)
        CHECK_MSG(first[i] > 40 && first[i] < 170, "block %u first %u times", i, first[i]);
}

static size_t mapping_count(void) {
    FILE *const f = fopen("/proc/self/maps", "r");
    size_t count = 0;
    for (int c; f != NULL && (c = fgetc(f)) != EOF;)
        count += (c == '\n');
    if (f != NULL)
        fclose(f);
    return count;
}

// More pages than mappings are to be had: those that come too late have no guard, and all work.
static void test_many(size_t least, size_t most) {
    enum { PAGES = 12000 };
    static uint8_t *held[PAGES];
    for (size_t i = 0; i < PAGES; i++) {
        held[i] = use_malloc(131072);
        CHECK(held[i] != NULL);
        held[i][0] = 1;
    }
    size_t guarded = 0;
    for (size_t i = 0; i < PAGES; i++)
        guarded += is_guarded(held[i], 1);
    CHECK_MSG(guarded >= least, "%zu of %d pages guarded", guarded, PAGES);
    CHECK_MSG(mapping_count() < most, "%zu mappings", mapping_count());
    for (size_t i = 0; i < PAGES; i++)
        CHECK(use_free(held[i]) == MI_FREE_OK);
}

// Guards that are taken off count no more.
static void test_count(void) {
    for (int i = 0; i < 9000; i++) {
        void *const p = use_malloc(MI_SPAN_MAX + MI_MiB);
        CHECK(p != NULL && use_free(p) == MI_FREE_OK);
    }
}

// The bookkeeping lies apart from the blocks, between guards; each page has a key of its own.
static void test_apart(void) {
    enum { PAGES = 60 };
    const mi_page_t *pages[PAGES];
    uintptr_t bits = 0;
    for (size_t i = 0; i < PAGES; i++) {
        uint8_t *const p = use_malloc(1000 + i * 1000);
        const mi_page_t *const page = mi_page_map_find(p);
        const uint8_t *const head = (const uint8_t *)page->arena;
        size_t bytes = 0;
        const uint8_t *const base = mi_core_arena_area(page->arena, &bytes);
        CHECK((size_t)(head - base) >= bytes && (size_t)((const uint8_t *)page - base) >= bytes);
        CHECK(is_readable(head) && !is_readable(head - 1) && !is_readable(head - MI_SLICE_BYTES));
        pages[i] = page;
    }
    size_t same = 0;
    for (size_t i = 0; i < PAGES; i++) {
        bits |= pages[i]->link_key ^ pages[0]->link_key;
        for (size_t k = 0; k < i; k++) // blocks of neighbouring sizes may share a page
            same += pages[i] != pages[k] && pages[i]->link_key == pages[k]->link_key;
    }
    CHECK_MSG(same == 0, "%zu keys are the same", same);
    CHECK_MSG(sizeof(bits) - (size_t)__builtin_popcountll(bits) / 8 <= 2, "%llx",
              (unsigned long long)bits);
}

// Blocks that have reservations of their own do not follow each other, as those do that the kernel
// places, nor come back to where one was. (By chance two may, or one finds no room where it was
// meant to be: not eight times.)
static void test_own_places(void) {
    const size_t bytes = 300 * MI_MiB;
    const uint8_t *before = NULL;
    int close = 0, same = 0;
    for (int i = 0; i < 8; i++) {
        uint8_t *const p = use_malloc(bytes), *const q = use_malloc(bytes);
        const size_t apart = (size_t)(p > q ? p - q : q - p);
        CHECK(mi_page_map_find(p)->arena == NULL && mi_page_map_find(q)->arena == NULL);
        close += (apart < bytes + 16 * MI_MiB);
        same += (p == before);
        before = p;
        CHECK(use_free(p) == MI_FREE_OK && use_free(q) == MI_FREE_OK);
    }
    CHECK_MSG(close < 8 && same < 7, "%d of 8 pairs lie side by side, %d where one was", close,
              same);
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_handler = see_fault};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    if (argc > 1 && strcmp(argv[1], "plain") == 0) {
        mi_os_plain_guards();
        test_mix(1500);
        test_count();
        test_many(8000, 2 * 8192 + 2000);
        return test_result();
    }
    test_order(); // while all memory is fresh
    test_apart();
    test_own_places();
    test_growth();
    test_tails();
    test_mix(3000);
    // A kernel since 6.13 has room for all; before, as above.
    (void)use_free(use_malloc(100));
    const bool is_light = mapping_count() < 200;
    test_many(is_light ? 12000 : 8000, is_light ? 400 : 2 * 8192 + 2000);
    return test_result();
}
