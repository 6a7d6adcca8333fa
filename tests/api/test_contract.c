// The contract that all allocating functions have in common, over all of them: the table of calls
// is made from the headers (contract_table.py). Result, alignment, usable size, zeroing, zero
// bytes, NULL, sizes that overflow or that nobody has, alignments that are none, errno, and what a
// failed resizing leaves behind.
//
// Built with MI_OS_FAULTS: each of them while the n-th call of the operating system fails, for
// every n.
#include "api_test.h"
#include "contract.h"
#ifndef MI_OS_FAULTS
#    define MI_OS_FAULTS 0
#endif
#if MI_OS_FAULTS
#    include "os/os.h"
#    include <sys/wait.h>
#    include <unistd.h>
#endif
#include <stdio.h>

static mi_heap_t *heap;

static bool has(const row_t *r, unsigned flag) {
    return (r->flags & flag) != 0;
}

static args_t args_of(size_t size) {
    return (args_t){.size = size, .count = 1, .align = 16, .heap = heap};
}

#if !MI_OS_FAULTS
static size_t usable_in(const void *p) {
    return mi_usable_size(p);
}

// A block of so many bytes that is as the function promises. before: bytes of a.p that were filled.
static void *check_good(const row_t *r, args_t a, size_t before) {
    const size_t bytes = a.size * (has(r, HAS_COUNT) ? a.count : 1);
    const size_t old_usable = (a.p == NULL ? 0 : usable_in(a.p));
    errno = 77;
    uint8_t *const p = (uint8_t *)r->call(&a);
    CHECK_MSG(p != NULL, "%s(%zu)", r->name, bytes);
    if (p == NULL)
        return NULL;
    CHECK_MSG(errno == 77, "%s(%zu): errno %d after success", r->name, bytes, errno);
    const size_t offset = (has(r, HAS_OFFSET) ? a.offset : 0);
    const size_t align = (has(r, HAS_ALIGN) ? a.align : least_align(bytes));
    CHECK_MSG(is_aligned(p + offset, align), "%s(%zu) = %p + %zu, not aligned to %zu", r->name,
              bytes, (void *)p, offset, align);
    CHECK_MSG(usable_in(p) >= bytes && mi_is_in_heap_region(p), "%s(%zu): usable %zu", r->name,
              bytes, usable_in(p));
    CHECK_MSG(!has(r, TELLS_USABLE) || a.usable == usable_in(p), "%s(%zu): tells of %zu bytes",
              r->name, bytes, a.usable);
    const size_t kept = (before < bytes ? before : bytes);
    CHECK_MSG(is_filled(p, kept), "%s(%zu): the content is lost", r->name, bytes);
    if (has(r, ZEROES) && bytes > old_usable)
        CHECK_MSG(is_zero(p, old_usable, bytes), "%s(%zu) is not zero", r->name, bytes);
    fill(p, bytes);
    CHECK_MSG(is_filled(p, bytes), "%s(%zu) does not hold what is written", r->name, bytes);
    return p;
}

// Leaves blocks of about this size behind that are all but zero.
static void make_dirty(size_t size) {
    void *held[4];
    for (int i = 0; i < 4; i++) {
        held[i] = mi_malloc(size);
        memset(held[i], 0xA5, size);
    }
    for (int i = 0; i < 4; i++)
        mi_free(held[i]);
}

static void check_results(const row_t *r) {
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        args_t a = args_of(test_sizes[i]);
        if (has(r, IS_SMALL) && a.size > MI_SMALL_SIZE_MAX)
            continue;
        make_dirty(a.size);
        if (has(r, HAS_COUNT) && i % 2 == 1) {
            a.count = 3;
            a.size = (a.size + 2) / 3;
        }
        mi_free(check_good(r, a, 0));
        static const size_t aligns[] = {8, 16, 64, 256, 4096, 65536};
        for (size_t k = 0; has(r, HAS_ALIGN) && k < 6; k++) {
            a = args_of(test_sizes[i]);
            a.align = aligns[k];
            a.offset = (k % 2 == 0 || a.size < 24 ? 0 : 16);
            mi_free(check_good(r, a, 0));
        }
    }
}

// From one size to another, and what is beyond the old block reads as zero if so promised.
static void check_resizes(const row_t *r) {
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        args_t a = args_of(test_sizes[i]);
        a.p = (has(r, ZEROES) ? mi_zalloc(a.size) : mi_malloc(a.size));
        const size_t before = (has(r, ZEROES) ? usable_in(a.p) : a.size);
        fill(a.p, before);
        const size_t old = a.size;
        a.size = (i % 3 == 0 ? old * 2 + 100 : i % 3 == 1 ? old + old / 8 : old / 2 + 1);
        make_dirty(a.size);
        mi_free(check_good(r, a, before < old ? before : old));
    }
}

// Who shrinks and grows again by a function that zeroes finds nothing of what was there before.
static void check_shrunk(const row_t *r) {
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        args_t a = args_of(test_sizes[i]);
        a.p = mi_zalloc(a.size);
        fill(a.p, a.size);
        static const size_t parts[] = {100, 75, 90, 55, 100, 10, 100}; // of a hundred
        for (size_t k = 0; k < 7; k++) {
            const size_t before = a.size;
            a.size = test_sizes[i] / 100 * parts[k] + test_sizes[i] % 100 * parts[k] / 100;
            uint8_t *const p = (uint8_t *)r->call(&a);
            CHECK_MSG(p != NULL && is_filled(p, a.size < before ? a.size : before), "%s(%zu)",
                      r->name, a.size);
            CHECK_MSG(before >= a.size || is_zero(p, before, a.size), "%s: from %zu to %zu bytes",
                      r->name, before, a.size);
            fill(p, a.size);
            a.p = p;
        }
        mi_free(a.p);
    }
}

// A block that shrinks and moves between others leaves those as they are.
static void check_beside(const row_t *r) {
    enum { COUNT = 64, BESIDE = 48 };
    void *beside[COUNT];
    args_t a = args_of(BESIDE);
    a.p = (has(r, ZEROES) ? mi_zalloc(900) : mi_malloc(900));
    fill(a.p, 900);
    for (int i = 0; i < COUNT; i++) {
        beside[i] = mi_malloc(BESIDE);
        fill(beside[i], BESIDE);
    }
    mi_free(beside[COUNT / 2]); // the next block of that size is this one
    beside[COUNT / 2] = r->call(&a);
    for (int i = 0; i < COUNT; i++) {
        CHECK_MSG(is_filled(beside[i], BESIDE), "%s: block %d", r->name, i);
        mi_free(beside[i]);
    }
}

// What is left of a block when its resizing fails.
static void check_refused(const row_t *r, args_t a, int expected) {
    (void)expected; // where there is no errno
    if (has(r, RESIZES)) {
        a.p = mi_malloc(100);
        fill(a.p, 100);
    }
    errno = 0;
    void *const q = r->call(&a);
    CHECK_MSG(q == NULL, "%s(%zu, %zu, align %zu)", r->name, a.count, a.size, a.align);
    if (!has(r, STAYS))
        CHECK_ERRNO(expected);
    if (a.p == NULL)
        return;
    if (has(r, FREES_ON_FAILURE)) { // then the next block of its size is this one
        void *const next = mi_malloc(100);
        CHECK_MSG(next == a.p, "%s: the block was not freed", r->name);
        mi_free(next);
        return;
    }
    CHECK_MSG(is_filled(a.p, 100), "%s: the block is lost", r->name);
    mi_free(a.p);
}

static void check_failures(const row_t *r) {
    for (size_t i = 0; i < IMPOSSIBLE_COUNT; i++)
        if (!has(r, IS_SMALL))
            check_refused(r, args_of(opaque(impossible_sizes[i])), ENOMEM);
    for (size_t i = 0; has(r, HAS_COUNT) && i < OVERFLOW_COUNT; i++) {
        args_t a = args_of(opaque(overflowing[i].size));
        a.count = opaque(overflowing[i].count);
        check_refused(r, a, ENOMEM);
    }
    static const size_t aligns[] = {0, 3, 24, SIZE_MAX, SIZE_MAX / 2 + 1};
    for (size_t i = 0; has(r, HAS_ALIGN) && i < 5; i++) {
        args_t a = args_of(100);
        a.align = opaque(aligns[i]);
        check_refused(r, a, i == 4 ? ENOMEM : EINVAL);
    }
    for (size_t align = 64; has(r, HAS_ALIGN) && align <= 65536;
         align *= 32) { // their sum overflows
        args_t a = args_of(opaque(SIZE_MAX - align + 1));
        a.align = align;
        check_refused(r, a, ENOMEM);
    }
}

static void check_stays(const row_t *r) {
    args_t a = args_of(50);
    CHECK_MSG(r->call(&a) == NULL, "%s(NULL)", r->name);
    a.p = mi_malloc(100);
    fill(a.p, 100);
    CHECK_MSG(r->call(&a) == a.p && is_filled(a.p, 50), "%s: smaller", r->name);
    a.size = 1000000;
    CHECK_MSG(r->call(&a) == NULL && is_filled(a.p, 50), "%s: larger", r->name);
    mi_free(a.p);
}

int main(void) {
    heap = mi_heap_new();
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const row_t *const r = &rows[i];
        if (has(r, STAYS)) {
            check_stays(r);
        } else {
            check_results(r);
            if (has(r, RESIZES)) {
                check_resizes(r);
                check_beside(r);
                if (has(r, ZEROES))
                    check_shrunk(r);
            }
        }
        if (!has(r, THROWS))
            check_failures(r);
    }
    mi_heap_destroy(heap);
    printf("%zu functions\n", ROW_COUNT);
    return test_result();
}
#else

enum { EDGE = 128 }; // bytes at both ends that are looked at: some blocks are huge

static bool edges_are_zero(const uint8_t *p, size_t from, size_t size) {
    const size_t edge = (size < EDGE ? size : EDGE);
    return is_zero(p, from, from > edge ? from : edge) && is_zero(p, size - edge, size);
}

// In a process of its own, which has no memory yet but for the block that is resized: exit code 0 =
// sound, 1 = broken, 2 = sound, and it had failed.
static int child(const row_t *r, size_t size, long n) {
    int rc = 0;
    heap = mi_heap_main();
    args_t a = args_of(size);
    a.p = (has(r, RESIZES) ? mi_malloc(100) : NULL);
    if (a.p != NULL)
        fill(a.p, 100);
    mi_os_fail_nth(n);
    errno = 0;
    uint8_t *const p = (uint8_t *)r->call(&a);
    const int error = errno;
    mi_os_fail_nth(0);
    if (p == NULL)
        rc = (error == ENOMEM || has(r, STAYS) ? 2 : 1);
    else if (mi_usable_size(p) < size ||
             (has(r, ZEROES) && size > EDGE && !edges_are_zero(p, a.p == NULL ? 0 : EDGE, size)))
        rc = 1;
    if (a.p != NULL && !has(r, FREES_ON_FAILURE) && !is_filled(p == NULL ? a.p : p, 100))
        rc = 1;
    if (p != NULL)
        p[0] = p[size - 1] = 1;
    mi_free(p);
    args_t again = args_of(size); // memory is there again
    uint8_t *const q = (uint8_t *)(has(r, STAYS) ? mi_malloc(size) : r->call(&again));
    if (q == NULL || mi_usable_size(q) < size)
        rc = 1;
    mi_free(q);
    return rc;
}

int main(void) {
    static const size_t sizes[] = {100, 100000, 100000000}; // more than the first arena
    int failures = 0;
    for (size_t i = 0; i < 3 * ROW_COUNT; i++) {
        const row_t *const r = &rows[i / 3];
        const size_t size = sizes[i % 3];
        if (has(r, THROWS) || (has(r, IS_SMALL) && size > MI_SMALL_SIZE_MAX))
            continue;
        int status = 0x200;
        long n = 1;
        for (; n < 30 && status == 0x200; n++) { // until none is left to fail
            const pid_t pid = fork();
            if (pid == 0)
                _exit(child(r, size, n));
            CHECK(waitpid(pid, &status, 0) == pid);
            CHECK_MSG(status == 0 || status == 0x200, "%s(%zu), call %ld failed: status %x",
                      r->name, size, n, (unsigned)status);
            failures += (status == 0x200);
        }
        CHECK_MSG(has(r, STAYS) || n < 30, "%s(%zu) calls the system too often", r->name, size);
    }
    CHECK_MSG(failures > 100, "only %d failures", failures);
    return test_result();
}
#endif
