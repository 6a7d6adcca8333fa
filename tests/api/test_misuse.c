// The caller's bugs: one clear line, nothing corrupted, no crash. Each message is checked word for
// word.
#include "api_test.h"
#include "api_visit.h"

// After a misuse the allocator still works.
static void check_alive(void) {
    void *blocks[200];
    for (size_t i = 0; i < 200; i++) {
        blocks[i] = mi_malloc(i * 37);
        fill(blocks[i], i * 37);
    }
    for (size_t i = 0; i < 200; i++) {
        CHECK(is_filled(blocks[i], i * 37));
        mi_free(blocks[i]);
    }
}

static int last_error;
static void see_error(int err, void *arg) {
    (void)arg;
    last_error = err;
}

// what happened must have said exactly this line.
static void check_line(const char *operation, const char *what, const void *p, int error) {
    char line[300];
    snprintf(line, sizeof(line), "mimalloc: error: %s of %s: 0x%llx\n", operation, what,
             (unsigned long long)(uintptr_t)p);
    CHECK_MSG(strcmp(caught_text, line) == 0, "said: \"%s\", expected: \"%s\"", caught_text, line);
    CHECK_MSG(last_error == error, "error %d", last_error);
    check_alive();
    catch_begin();
    last_error = 0;
}

#define FOREIGN "a pointer that this allocator did not allocate"
#define INSIDE  "a pointer that is not the start of a block"

#if MI_DEBUG
// What operation said of a block of that size, the first changed byte of which is `first`.
static void check_overwritten(const char *operation, const void *p, size_t size, size_t first) {
    char line[300];
    snprintf(line, sizeof(line),
             "mimalloc: error: %s of a block whose end was overwritten: 0x%llx, %zu bytes long, "
             "changed from byte %zu on\n",
             operation, (unsigned long long)(uintptr_t)p, size, first);
    CHECK_MSG(strcmp(caught_text, line) == 0, "said: \"%s\", expected: \"%s\"", caught_text, line);
    CHECK_MSG(last_error == EFAULT, "error %d", last_error);
    check_alive();
    catch_begin();
    last_error = 0;
}

// One byte too far, some further on, a run of zeroes; freed and resized, aligned blocks too.
static void check_overflows(void) {
    for (size_t size = 1; size < 6000000; size = (size < 300 ? size + 1 : size * 7 / 3)) {
        uint8_t *p = mi_malloc(size);
        p[size] ^= 0x55;
        mi_free(p);
        check_overwritten("free", p, size, size);
        p[size] ^= 0x55;
        p[size + 7] ^= 1;
        CHECK(mi_realloc(p, size + 100) == NULL);
        check_overwritten("realloc", p, size, size + 7);
        p[size + 7] ^= 1;
        mi_free(p);
        CHECK_MSG(caught_lines == 0, "%s", caught_text);
    }
    uint8_t *p = mi_malloc_aligned(100, 4096);
    p[101] = 0;
    mi_free(p);
    check_overwritten("free", p, 100, 101);
    p = mi_malloc_aligned_at(100, 256, 24);
    p[103] = 0;
    mi_free(p);
    check_overwritten("free", p, 100, 103);
    p = mi_malloc(17); // what grows moves, so that who keeps the old address is found out
    uint8_t *const q = mi_realloc(p, 18);
    CHECK(q != p && q != NULL);
    mi_free(q);
    p = mi_malloc(40); // too far to tell how long the block was
    memset(p + 40, 0, 24);
    mi_free(p);
    CHECK_MSG(strstr(caught_text, "whose end was overwritten") != NULL && last_error == EFAULT,
              "%s", caught_text);
    CHECK_MSG(strstr(caught_text, "at most 48 bytes long, its record is destroyed") != NULL, "%s",
              caught_text);
    catch_begin();
    last_error = 0;
}

// A walk over a heap is a check of its blocks.
static void check_walk(void) {
    mi_heap_t *const heap = mi_heap_new();
    uint8_t *blocks[100];
    size_t seen = 0;
    for (size_t i = 0; i < 100; i++)
        blocks[i] = mi_heap_malloc(heap, i * 31 + 1);
    for (size_t i = 0; i < 100; i += 2)
        mi_free(blocks[i]);
    CHECK(mi_heap_visit_blocks(heap, true, count_block, &seen) && seen == 50);
    CHECK_MSG(caught_lines == 0 && last_error == 0, "%s", caught_text);
    blocks[51][51 * 31 + 1 + 2] ^= 1;
    CHECK(mi_heap_visit_blocks(heap, false, count_block, &seen) && caught_lines == 0);
    CHECK(mi_heap_visit_blocks(heap, true, count_block, &seen) && seen == 100);
    check_overwritten("visit", blocks[51], 51 * 31 + 1, 51 * 31 + 1 + 2);
    blocks[51][51 * 31 + 1 + 2] ^= 1;
    CHECK(mi_heap_visit_blocks(heap, true, count_block, &seen));
    CHECK_MSG(caught_lines == 0 && last_error == 0, "%s", caught_text);
    mi_heap_destroy(heap);
    // Fill patterns: what was never written, what was freed.
    uint8_t *const fresh = mi_malloc(64);
    CHECK(fresh[0] == 0xD0 && fresh[63] == 0xD0);
    mi_free(fresh);
    CHECK(fresh[63] == 0xDF);
}
#endif

int main(void) {
    static char in_data[100];
    char on_stack[100];
    mi_register_error(see_error, NULL);
    mi_option_set(mi_option_max_errors, 1000);
    catch_begin();
    mi_free(in_data + 16);
    check_line("free", FOREIGN, in_data + 16, EINVAL);
    mi_free(on_stack);
    check_line("free", FOREIGN, on_stack, EINVAL);
    mi_free((void *)(uintptr_t)16);
    check_line("free", FOREIGN, (void *)(uintptr_t)16, EINVAL);
    mi_free((void *)(UINTPTR_MAX - 15));
    check_line("free", FOREIGN, (void *)(UINTPTR_MAX - 15), EINVAL);
    CHECK_FAILS(mi_realloc(in_data, 10), EINVAL);
    check_line("realloc", FOREIGN, in_data, EINVAL);
    CHECK_FAILS(mi_rezalloc(in_data, 10), EINVAL);
    check_line("realloc", FOREIGN, in_data, EINVAL);
    CHECK_FAILS(mi_realloc_aligned(in_data, 10, 64), EINVAL);
    check_line("realloc", FOREIGN, in_data, EINVAL);
    CHECK_FAILS(mi_heap_realloc(mi_heap_main(), in_data, 10), EINVAL);
    check_line("realloc", FOREIGN, in_data, EINVAL);
    CHECK_FAILS(mi_heap_realloc_aligned(mi_heap_main(), in_data, 10, 64), EINVAL);
    check_line("realloc", FOREIGN, in_data, EINVAL);
    CHECK(mi_expand(in_data, 10) == NULL);
    check_line("realloc", FOREIGN, in_data, EINVAL);
    CHECK(mi_usable_size(in_data) == 0);
    check_line("usable size", FOREIGN, in_data, EINVAL);
    static const size_t sizes[] = {16, 48, 100, 1000, 5000, 50000, 300000, 6000000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *p = mi_malloc(sizes[i]);
        mi_free(p + 1);
        check_line("free", INSIDE, p + 1, EINVAL);
        mi_free(p + 8);
        check_line("free", INSIDE, p + 8, EINVAL);
        CHECK(mi_realloc(p + 8, 10) == NULL);
        check_line("realloc", INSIDE, p + 8, EINVAL);
        CHECK(mi_usable_size(p + 8) == 0);
        check_line("usable size", INSIDE, p + 8, EINVAL);
        fill(p, sizes[i]);
        CHECK(is_filled(p, sizes[i]));
        mi_free(p);
    }
    CHECK_MSG(caught_lines == 0, "%s", caught_text);
#if MI_DEBUG
    check_overflows();
    check_walk();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *p = mi_malloc(sizes[i]);
        void *other = mi_malloc(sizes[i]);
        mi_free(p);
        mi_free(p);
        // The memory of a large block may have gone back already: then it is nobody's.
        const bool is_gone = strstr(caught_text, FOREIGN) != NULL && sizes[i] > 131072;
        check_line("free", is_gone ? FOREIGN : "a block that is already free", p,
                   is_gone ? EINVAL : EAGAIN);
        mi_free(other);
    }
#endif
    // No more than max_errors lines, but the handler hears of all; any number when it is negative.
    mi_option_set(mi_option_max_errors, -1);
    mi_free(in_data);
    check_line("free", FOREIGN, in_data, EINVAL);
    mi_option_set(mi_option_max_errors, 0);
    mi_free(in_data);
    CHECK(caught_lines == 0 && last_error == EINVAL);
    mi_option_set(mi_option_max_errors, 1000);
    mi_option_set(mi_option_show_errors, 0);
    mi_free(in_data);
    CHECK(caught_lines == 0);
    catch_end();
    return test_result();
}
