// What the allocator asks of the system, and what becomes of it when the system answers otherwise:
// the calls go through this program. Linked with the allocator's sources.
#define _GNU_SOURCE 1
#include "api_test.h"
#include "mimalloc-stats.h"
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static size_t mapped;       // bytes of addresses
static size_t reserve_most; // larger mappings fail; 0 = none do
static bool is_greedy;      // a mapping was made that counts as memory before it is used
static int moves;           // calls of mremap
static unsigned moves_fail; // bit n: the n-th from now on fails
static int purges, resets;  // pieces of advice that give memory back at once, or in need
static bool has_no_advice;  // they all fail
static char written[400];   // what would have gone to stderr
static size_t written_bytes;
static bool is_catching;

void *__real_mmap(void *at, size_t bytes, int access, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int access, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int access, int flags, int fd, off_t offset) {
    if (reserve_most != 0 && bytes > reserve_most) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void *const p = __real_mmap(at, bytes, access, flags, fd, offset);
    mapped += (p == MAP_FAILED ? 0 : bytes);
    is_greedy |= (bytes >= MIB && (flags & MAP_NORESERVE) == 0);
    return p;
}

int __real_munmap(void *p, size_t bytes);
int __wrap_munmap(void *p, size_t bytes);
int __wrap_munmap(void *p, size_t bytes) {
    mapped -= bytes;
    return __real_munmap(p, bytes);
}

// The target is always a place that was mapped before.
void *__real_mremap(void *p, size_t old_bytes, size_t new_bytes, int flags, ...);
void *__wrap_mremap(void *p, size_t old_bytes, size_t new_bytes, int flags, ...);
void *__wrap_mremap(void *p, size_t old_bytes, size_t new_bytes, int flags, ...) {
    va_list args;
    va_start(args, flags);
    void *const target = va_arg(args, void *);
    va_end(args);
    const bool fails = (moves_fail & 1) != 0;
    moves++;
    moves_fail >>= 1;
    void *const q = (fails ? MAP_FAILED : __real_mremap(p, old_bytes, new_bytes, flags, target));
    if (fails)
        errno = EFAULT;
    else if (q != MAP_FAILED && (flags & MREMAP_DONTUNMAP) == 0)
        mapped -= old_bytes;
    return q;
}

int __real_madvise(void *p, size_t bytes, int advice);
int __wrap_madvise(void *p, size_t bytes, int advice);
int __wrap_madvise(void *p, size_t bytes, int advice) {
    if (advice != MADV_DONTNEED && advice != MADV_FREE)
        return __real_madvise(p, bytes, advice);
    purges += (advice == MADV_DONTNEED);
    resets += (advice == MADV_FREE);
    if (!has_no_advice)
        return __real_madvise(p, bytes, advice);
    errno = EINVAL;
    return -1;
}

// Interrupted once, and then a few bytes at a time.
ssize_t __real_write(int fd, const void *text, size_t bytes);
ssize_t __wrap_write(int fd, const void *text, size_t bytes);
ssize_t __wrap_write(int fd, const void *text, size_t bytes) {
    static int calls;
    if (!is_catching || fd != STDERR_FILENO)
        return __real_write(fd, text, bytes);
    if (calls++ % 3 == 0) {
        errno = EINTR;
        return -1;
    }
    const size_t some = (bytes < 7 ? bytes : 7);
    memcpy(written + written_bytes, text, some);
    written_bytes += some;
    return (ssize_t)some;
}

static void check_message(void) {
    static char in_data[100];
    is_catching = true;
    errno = 4711;
    mi_free(in_data + 16);
    is_catching = false;
    CHECK(errno == 4711);
    char line[200];
    snprintf(line, sizeof(line),
             "mimalloc: error: free of a pointer that this allocator did not allocate: 0x%llx\n",
             (unsigned long long)(uintptr_t)(in_data + 16));
    CHECK_MSG(strcmp(written, line) == 0, "%s", written);
}

// A block with a reservation of its own costs its addresses and no more, and they come back. The
// secure build has it somewhere else each time, so it may lie in a part of the page map, or across
// two, that was not there yet and stays.
static void check_addresses(void) {
    mi_free(mi_malloc(100));
    const size_t most = (MI_SECURE ? 2 * MIB : 0);
    for (size_t align = 16; align <= 4 * MIB; align *= 8) {
        const size_t before = mapped;
        void *const p = mi_malloc_aligned(300 * MIB, align);
        const size_t more = mapped - before;
        CHECK(p != NULL && is_aligned(p, align));
        CHECK_MSG(more >= 300 * MIB && more <= 301 * MIB + most, "%zu: %zu MiB", align, more / MIB);
        mi_free(p);
        const size_t left = mapped - before;
        CHECK_MSG(left <= most && left % MIB == 0, "%zu: %zu bytes left", align, left);
    }
    CHECK(!is_greedy);
}

// When the system has no large reservation, a smaller one does, and errno tells nothing of it.
static void check_small_reservations(void) {
    enum { COUNT = 200 };
    static void *blocks[COUNT];
    reserve_most = 40 * MIB;
    for (int i = 0; i < COUNT; i++) {
        errno = 4711;
        blocks[i] = mi_malloc(3 * MIB);
        CHECK_MSG(blocks[i] != NULL && errno == 4711, "%d: errno %d", i, errno);
    }
    for (int i = 0; i < COUNT; i++)
        mi_free(blocks[i]);
    reserve_most = 0;
}

// Two ways to give memory back, and none: what is not zero is not taken for it, and errno is kept.
static void check_advice(void) {
    for (int way = 0; way < 3; way++) {
        mi_option_set(mi_option_purge_decommits, way != 1);
        has_no_advice = (way == 2);
        uint8_t *p = mi_malloc(20 * MIB);
        memset(p, 0xA5, 20 * MIB);
        purges = resets = 0;
        errno = 4711;
        mi_free(p);
        mi_collect(true);
        CHECK_MSG(errno == 4711, "errno %d", errno);
        // The secure build's own bookkeeping is purged in any case.
        CHECK_MSG(way == 1 ? resets > 0 && (MI_SECURE || purges == 0) : purges > 0 && resets == 0,
                  "%d: %d, %d", way, purges, resets);
        p = mi_zalloc(20 * MIB);
        CHECK_MSG(p != NULL && is_zero(p, 0, 20 * MIB), "%d", way);
        memset(p, 0xA5, 20 * MIB);
        mi_free(p);
    }
    has_no_advice = false;
    mi_option_set(mi_option_purge_decommits, 1);
    mi_collect(true);
}

// A large block that cannot grow where it stands keeps its bytes, and others' addresses, whichever
// of the moves of its pages the system refuses.
static void check_moves(unsigned fail, bool is_own) {
    const size_t from = (is_own ? 7 : 2) * MIB;
    const size_t at_first = mapped;
    uint8_t *p = mi_malloc(from);
    void *const behind = mi_malloc(from);
    memset(p, 0xA5, from);
    fill(p, from);
    moves = 0;
    moves_fail = fail;
    errno = 4711;
    uint8_t *const q = mi_realloc(p, 5 * from);
    moves_fail = 0;
    CHECK(q != NULL && q != p && errno == 4711);
    CHECK_MSG(MI_DEBUG || moves > 0, "nothing was moved");
    CHECK_MSG(is_filled(q, from), "%x: the content is lost", fail);
    fill(q, 5 * from);
    uint8_t *const r = mi_rezalloc(q, 10 * from); // it has addresses of its own by now
    CHECK(r != NULL && is_filled(r, 5 * from));
    if (r != q)
        CHECK(!mi_is_in_heap_region(q));
    mi_free(r);
    mi_free(behind);
    mi_collect(true);
    // The secure build may have made a structure for a reservation, which stays.
    CHECK_MSG(mapped == at_first || (MI_SECURE && mapped < at_first + 2 * MIB), "%x: %zu KiB left",
              fail, (mapped - at_first) / 1024);
}

int main(void) {
    check_message();
    check_addresses();
    check_advice();
    mi_option_set(mi_option_arena_max_object_size, 6 * 1024); // KiB
    for (unsigned fail = 0; fail < 8; fail++) {
        check_moves(fail, false);
        check_moves(fail, true);
    }
    check_small_reservations();
    return test_result();
}
