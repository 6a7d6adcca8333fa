// Reservations of 1 GiB pages, on a machine that has some: the system calls that the allocator
// makes are answered here, and looked at. Linked with the allocator's sources.
//
//   (no argument)  the functions
//   options        with MIMALLOC_RESERVE_HUGE_OS_PAGES=3 and MIMALLOC_USE_NUMA_NODES=2
//   options-at     with MIMALLOC_RESERVE_HUGE_OS_PAGES=2 and MIMALLOC_RESERVE_HUGE_OS_PAGES_AT=1
#define _GNU_SOURCE 1
#include "api_test.h"
#include "mimalloc-stats.h"
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#define GIB ((size_t)1 << 30)

static size_t pages_left = 16; // of the machine
static int reservations;
static size_t reserved_pages[8]; // by each
static long bound_to[8];         // the node that its memory was bound to, -1 = none
static bool is_slow;

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

void *__real_mmap(void *at, size_t bytes, int access, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int access, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int access, int flags, int fd, off_t offset) {
    if ((flags & MAP_HUGETLB) == 0)
        return __real_mmap(at, bytes, access, flags, fd, offset);
    const long long start = now_ns();
    while (is_slow && now_ns() - start < 20000000) // long enough for the allocator's clock, too
        ;
    if (bytes / GIB > pages_left || reservations == 8) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    pages_left -= bytes / GIB;
    reserved_pages[reservations] = bytes / GIB;
    bound_to[reservations++] = -1;
    return __real_mmap(NULL, bytes, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

// Six words are what a system call may have.
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    long word[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        word[i] = va_arg(args, long);
    va_end(args);
    if (number != SYS_mbind)
        return __real_syscall(number, word[0], word[1], word[2], word[3], word[4], word[5]);
    const unsigned long mask = *(const unsigned long *)word[3];
    CHECK((size_t)word[1] == reserved_pages[reservations - 1] * GIB && mask != 0);
    bound_to[reservations - 1] = __builtin_ctzl(mask);
    return 0;
}

static void begin(size_t pages) {
    pages_left = pages;
    reservations = 0;
}

static void check_one(void) {
    mi_arena_id_t arena = NULL;
    size_t bytes = 0;
    begin(16);
    CHECK(mi_reserve_huge_os_pages_at_ex(2, 1, 0, true, &arena) == 0 && arena != NULL);
    CHECK(reservations == 1 && reserved_pages[0] == 2 && bound_to[0] == 1);
    CHECK(mi_arena_area(arena, &bytes) != NULL && bytes == 2 * GIB);
    mi_heap_t *const heap = mi_heap_new_in_arena(arena);
    void *const other = mi_malloc(100000);
    CHECK(!mi_arena_contains(arena, other));
    mi_free(other);
    uint8_t *p = mi_heap_malloc(heap, 30 << 20);
    CHECK(mi_arena_contains(arena, p));
    fill(p, 30 << 20);
    mi_stats_t_decl(before);
    mi_stats_t_decl(after);
    mi_collect(true);
    CHECK(mi_stats_get(&before));
    mi_free(p); // its memory cannot be given back
    mi_collect(true);
    CHECK(mi_stats_get(&after) && after.purged.total == before.purged.total);
    p = mi_heap_zalloc(heap, 30 << 20);
    CHECK(p != NULL && is_zero(p, 0, 30 << 20));
    mi_heap_destroy(heap);
    CHECK(mi_reserve_huge_os_pages_at(1, -1, 0) == 0);
    CHECK(reservations == 2 && reserved_pages[1] == 1 && bound_to[1] == -1);
    CHECK(mi_reserve_huge_os_pages_at(0, 1, 0) == 0 && reservations == 2);
    arena = &bytes;
    CHECK(mi_reserve_huge_os_pages_at_ex(17, 0, 0, false, &arena) == ENOMEM && arena == NULL);
}

static void check_spread(void) {
    size_t count = 99;
    begin(16);
    CHECK(mi_reserve_huge_os_pages_interleave(3, 2, 0) == 0);
    CHECK(reservations == 2 && reserved_pages[0] == 2 && reserved_pages[1] == 1);
    CHECK(bound_to[0] == 0 && bound_to[1] == 1);
    begin(16);
    CHECK(mi_reserve_huge_os_pages_interleave(1, 3, 0) == 0 && reservations == 1);
    begin(2);
    CHECK(mi_reserve_huge_os_pages_interleave(4, 2, 0) == ENOMEM && reservations == 1);
    begin(16);
    mi_option_set(mi_option_use_numa_nodes, 2);
    CHECK(mi_reserve_huge_os_pages(4, 0.0, &count) == 0 && count == 4);
    CHECK(reservations == 2 && reserved_pages[0] == 2 && reserved_pages[1] == 2);
    begin(1);
    CHECK(mi_reserve_huge_os_pages(4, 0.0, &count) == ENOMEM && count == 0);
    begin(3); // of which the second node has too few
    CHECK(mi_reserve_huge_os_pages(4, 0.0, &count) == ENOMEM && count == 2 && reservations == 1);
    mi_option_set(mi_option_use_numa_nodes, 0);
}

static void check_time(void) {
    begin(16);
    catch_begin();
    CHECK(mi_reserve_huge_os_pages_at(1, 0, 10000) == 0 && caught_lines == 0);
    is_slow = true;
    CHECK(mi_reserve_huge_os_pages_at(1, 0, 5) == 0);
    CHECK_MSG(caught_lines == 1 && strstr(caught_text, "took longer than 5 ms") != NULL, "%s",
              caught_text);
    catch_begin();
    CHECK(mi_reserve_huge_os_pages_at(1, 0, 0) == 0 && caught_lines == 0);
    CHECK(mi_reserve_huge_os_pages_interleave(2, 2, 0) == 0 && caught_lines == 0);
    CHECK(mi_reserve_huge_os_pages_interleave(2, 2, 8) == 0 && caught_lines == 2);
    is_slow = false;
    catch_end();
}

int main(int argc, char **argv) {
    if (argc > 1) { // it was done before
        const bool is_at = strcmp(argv[1], "options-at") == 0;
        mi_free(mi_malloc(10));
        CHECK_MSG(reservations == (is_at ? 1 : 2), "%d", reservations);
        CHECK(reserved_pages[0] == 2 && bound_to[0] == (is_at ? 1 : 0));
        CHECK(is_at || (reserved_pages[1] == 1 && bound_to[1] == 1));
        return test_result();
    }
    CHECK(reservations == 0);
    check_one();
    check_spread();
    check_time();
    return test_result();
}
