// The contract of the functions that allocate and are not told a size alone: copies of strings,
// paths, variables of the environment, text of statistics, the forms that return an error number,
// and those that make heaps, sub-processes and arenas. Result, size, alignment, content, NULL,
// overflow, errno, what a failure leaves behind. check_declared.py sees to it that each is here or
// in the table of test_contract.c.
//
// Built with MI_OS_FAULTS: each of them while the n-th call of the operating system fails, for
// every n.
#include "api_test.h"
#include "mimalloc-stats.h"
#ifndef MI_OS_FAULTS
#    define MI_OS_FAULTS 0
#endif
#if MI_OS_FAULTS
#    include "os/os.h"
#    include <sys/wait.h>
#    include <unistd.h>
#endif
#include <stdlib.h>
#ifdef _WIN32
#    define WIN32_LEAN_AND_MEAN
#    include <windows.h>
#endif

// What a function is given. length: of the text, in units, or the bytes asked for.
typedef struct made_s {
    size_t length;
    void *p;   // the result, or what was there before
    int error; // what the function returned, or errno
} made_t;

enum {
    WIDE = 1,       // units of two bytes
    IN_HEAP = 2,    // the block is the heap's
    ANY_LENGTH = 4, // the text is what it is
    SETS_ERRNO = 8, // a failure shows in errno
    RETURNS = 16,   // a failure is what it returns, errno never changes
    ALIGNED = 32,   // to made_align
    IS_OBJECT = 64, // no block of the program's
    HAS_NO_SIZE = 128
};

#define TEXT_MAX 200000
#define VARIABLE "MI_TEST_MADE"
static char text[TEXT_MAX + 1];
static unsigned short wide_text[TEXT_MAX + 1];
static mi_heap_t *heap;
static size_t made_align = 64;
static mi_stats_t stats;

static void text_make(size_t length) {
    for (size_t i = 0; i < length; i++) {
        text[i] = (char)('a' + i % 23);
        wide_text[i] = (unsigned short)(0x4E00 + i % 251);
    }
    text[length] = 0;
    wide_text[length] = 0;
}

// An environment holds at most so much, and no empty value on every system.
static size_t variable_length(size_t length) {
    return length == 0 ? 1 : length > 30000 ? 30000 : length;
}

static void variable_make(size_t length) {
    static char value[30001];
    const size_t n = variable_length(length);
    memcpy(value, text, n);
    if (length == 0)
        value[0] = 'a';
    value[n] = 0;
#ifdef _WIN32
    SetEnvironmentVariableA(VARIABLE, value);
#else
    setenv(VARIABLE, value, 1);
#endif
}

#define POINTER(name, expr)                                                                        \
    static void make_##name(made_t *m) {                                                           \
        m->p = (void *)(expr);                                                                     \
        m->error = (m->p == NULL ? errno : 0);                                                     \
    }
POINTER(mi_strdup, mi_strdup(text))
POINTER(mi_heap_strdup, mi_heap_strdup(heap, text))
POINTER(mi_strndup, mi_strndup(text, m->length))
POINTER(mi_heap_strndup, mi_heap_strndup(heap, text, SIZE_MAX))
POINTER(mi_mbsdup, mi_mbsdup((const unsigned char *)text))
POINTER(mi_wcsdup, mi_wcsdup(wide_text))
POINTER(mi_realpath, mi_realpath(".", NULL))
POINTER(mi_heap_realpath, mi_heap_realpath(heap, ".", NULL))
POINTER(mi_stats_get_json, mi_stats_get_json(0, NULL))
POINTER(mi_stats_as_json, mi_stats_as_json(&stats, 0, NULL))
POINTER(mi_heap_stats_get_json, mi_heap_stats_get_json(heap, 0, NULL))
POINTER(mi_subproc_stats_get_json, mi_subproc_stats_get_json(mi_subproc_main(), 0, NULL))
POINTER(mi_heap_new, mi_heap_new())
POINTER(mi_heap_new_ex, mi_heap_new_ex(3, true, NULL))
POINTER(mi_heap_new_in_arena, mi_heap_new_in_arena(NULL))
POINTER(mi_heap_theap, mi_heap_theap(heap))
POINTER(mi_subproc_new, mi_subproc_new())

static void make_mi_dupenv_s(made_t *m) {
    size_t size = 99;
    char *p = (char *)m->p;
    m->error = mi_dupenv_s(&p, &size, VARIABLE);
    m->p = p;
    CHECK_MSG(size == (p == NULL ? 0 : strlen(p) + 1), "%zu", size);
}
#ifdef _WIN32
static void make_mi_wdupenv_s(made_t *m) {
    const unsigned short name[] = {'M', 'I', '_', 'T', 'E', 'S', 'T', '_', 'M', 'A', 'D', 'E', 0};
    size_t size = 99;
    unsigned short *p = (unsigned short *)m->p;
    m->error = mi_wdupenv_s(&p, &size, name);
    m->p = p;
    CHECK_MSG(size == (p == NULL ? 0 : variable_length(m->length) + 1), "%zu", size);
}
#endif
static void make_mi_posix_memalign(made_t *m) {
    m->error = mi_posix_memalign(&m->p, made_align, m->length);
}
static void make_mi_reallocarr(made_t *m) {
    m->error = mi_reallocarr(&m->p, m->length, 1);
}
static void make_mi_reserve_os_memory(made_t *m) {
    m->error = mi_reserve_os_memory(1 << 20, true, false);
}
static void make_mi_reserve_os_memory_ex(made_t *m) {
    mi_arena_id_t id = NULL;
    m->error = mi_reserve_os_memory_ex(1 << 20, false, false, true, &id);
    m->p = id;
    CHECK((m->error == 0) == (id != NULL));
}

typedef struct row_s {
    const char *name;
    void (*make)(made_t *m);
    unsigned flags;
} row_t;
#define ROW(name, flags)                                                                           \
    { #name, make_##name, flags }
static const row_t rows[] = {
    ROW(mi_strdup, SETS_ERRNO),
    ROW(mi_heap_strdup, SETS_ERRNO | IN_HEAP),
    ROW(mi_strndup, SETS_ERRNO),
    ROW(mi_heap_strndup, SETS_ERRNO | IN_HEAP),
    ROW(mi_mbsdup, SETS_ERRNO),
    ROW(mi_wcsdup, SETS_ERRNO | WIDE),
    ROW(mi_realpath, SETS_ERRNO | ANY_LENGTH),
    ROW(mi_heap_realpath, SETS_ERRNO | ANY_LENGTH | IN_HEAP),
    ROW(mi_stats_get_json, SETS_ERRNO | ANY_LENGTH),
    ROW(mi_stats_as_json, SETS_ERRNO | ANY_LENGTH),
    ROW(mi_heap_stats_get_json, SETS_ERRNO | ANY_LENGTH),
    ROW(mi_subproc_stats_get_json, SETS_ERRNO | ANY_LENGTH),
    ROW(mi_dupenv_s, 0),
#ifdef _WIN32
    ROW(mi_wdupenv_s, ANY_LENGTH), // and the units of its text are checked where it is made
#endif
    ROW(mi_posix_memalign, RETURNS | ALIGNED | HAS_NO_SIZE),
    ROW(mi_reallocarr, SETS_ERRNO | HAS_NO_SIZE),
    ROW(mi_heap_new, SETS_ERRNO | IS_OBJECT),
    ROW(mi_heap_new_ex, SETS_ERRNO | IS_OBJECT),
    ROW(mi_heap_new_in_arena, SETS_ERRNO | IS_OBJECT),
    ROW(mi_heap_theap, SETS_ERRNO | IS_OBJECT),
    ROW(mi_subproc_new, SETS_ERRNO | IS_OBJECT),
    ROW(mi_reserve_os_memory, RETURNS | IS_OBJECT),
    ROW(mi_reserve_os_memory_ex, RETURNS | IS_OBJECT),
};
#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static bool has(const row_t *r, unsigned flag) {
    return (r->flags & flag) != 0;
}

static bool is_variable(const row_t *r) {
    return strstr(r->name, "dupenv_s") != NULL;
}

static void dispose(const row_t *r, void *p) {
    if (p == NULL || r->make == make_mi_reserve_os_memory_ex || r->make == make_mi_heap_theap)
        return;
    if (r->make == make_mi_subproc_new)
        mi_subproc_delete((mi_subproc_id_t)p);
    else if (has(r, IS_OBJECT))
        mi_heap_delete((mi_heap_t *)p);
    else
        mi_free(p);
}

// A block of so much text or so many bytes, as it should be.
static void check_block_of(const row_t *r, const made_t *m) {
    const void *const p = m->p;
    const size_t units = (is_variable(r) ? variable_length(m->length) : m->length);
    const size_t bytes = (has(r, HAS_NO_SIZE)  ? m->length
                          : has(r, ANY_LENGTH) ? strlen((const char *)p) + 1
                                               : (units + 1) * (has(r, WIDE) ? 2 : 1));
    CHECK_MSG(p != NULL && m->error == 0, "%s(%zu): error %d", r->name, m->length, m->error);
    if (p == NULL)
        return;
    CHECK_MSG(mi_is_in_heap_region(p) && mi_usable_size(p) >= bytes, "%s(%zu): usable %zu", r->name,
              m->length, mi_usable_size(p));
    const size_t align = (has(r, ALIGNED) ? made_align : least_align(bytes));
    CHECK_MSG(is_aligned(p, align), "%s(%zu) = %p", r->name, m->length, p);
    CHECK_MSG(mi_heap_of(p) == (has(r, IN_HEAP) ? heap : mi_heap_main()), "%s", r->name);
    if (has(r, HAS_NO_SIZE)) {
        fill(m->p, bytes);
        CHECK(is_filled(m->p, bytes));
    } else if (!has(r, ANY_LENGTH)) {
        const void *const source = (has(r, WIDE) ? (const void *)wide_text : text);
        const bool is_same =
            (is_variable(r) ? strncmp((const char *)p, text, units) == 0 || m->length == 0
                            : memcmp(p, source, bytes) == 0);
        CHECK_MSG(is_same, "%s(%zu): another content", r->name, m->length);
    }
}

#if !MI_OS_FAULTS
static void check_results(const row_t *r) {
    for (size_t i = 0; i < TEST_SIZE_COUNT; i++) {
        if ((has(r, ANY_LENGTH) && i > 3) || test_sizes[i] > TEXT_MAX)
            break;
        made_t m = {.length = test_sizes[i]};
        text_make(m.length);
        if (is_variable(r))
            variable_make(m.length);
        errno = 77;
        r->make(&m);
        CHECK_MSG(errno == 77, "%s(%zu): errno %d after success", r->name, m.length, errno);
        check_block_of(r, &m);
        dispose(r, m.p);
    }
}

static void check_object(const row_t *r) {
    made_t m = {0};
    errno = 77;
    r->make(&m);
    CHECK_MSG(errno == 77 && m.error == 0, "%s: errno %d after success", r->name, errno);
    CHECK_MSG(m.p != NULL || r->make == make_mi_reserve_os_memory, "%s", r->name);
    dispose(r, m.p);
}

// Sizes that nobody has, alignments that are none; *p is as it was, and errno.
static void check_posix_memalign(void) {
    static const size_t aligns[] = {0, 1, 3, 4, 24, SIZE_MAX};
    void *const before = text;
    void *p = before;
    errno = 77;
    for (size_t i = 0; i < 6; i++) {
        const bool is_half = (aligns[i] == 4 && sizeof(void *) == 4);
        CHECK_MSG(is_half || (mi_posix_memalign(&p, opaque(aligns[i]), 100) == EINVAL), "%zu",
                  aligns[i]);
    }
    CHECK(mi_posix_memalign(NULL, 64, 100) == EINVAL && p == before);
    for (size_t align = sizeof(void *); align <= 1u << 20; align *= 2) {
        for (size_t i = 0; i < IMPOSSIBLE_COUNT; i++)
            CHECK(mi_posix_memalign(&p, align, opaque(impossible_sizes[i])) == ENOMEM &&
                  p == before);
        CHECK(mi_posix_memalign(&p, align, opaque(SIZE_MAX - align + 1)) == ENOMEM && p == before);
        made_align = align;
        for (size_t i = 0; i < TEST_SIZE_COUNT; i += 3) {
            made_t m = {.length = test_sizes[i]};
            make_mi_posix_memalign(&m);
            check_block_of(&(row_t)ROW(mi_posix_memalign, ALIGNED | HAS_NO_SIZE), &m);
            mi_free(m.p);
        }
    }
    CHECK_MSG(errno == 77, "posix_memalign changed errno to %d", errno);
}

static void check_reallocarr(void) {
    for (size_t i = 0; i < OVERFLOW_COUNT + IMPOSSIBLE_COUNT; i++) {
        const bool is_pair = (i < OVERFLOW_COUNT);
        const size_t count =
            (is_pair ? overflowing[i].count : impossible_sizes[i - OVERFLOW_COUNT]);
        void *p = mi_malloc(100);
        void *const before = p;
        fill(p, 100);
        errno = 0;
        CHECK(mi_reallocarr(&p, opaque(count), is_pair ? overflowing[i].size : 1) == ENOMEM);
        CHECK_ERRNO(ENOMEM);
        CHECK(p == before && is_filled(p, 100));
        mi_free(p);
    }
    void *p = mi_malloc(100);
    fill(p, 100);
    CHECK(mi_reallocarr(&p, 3, 10000) == 0 && is_filled(p, 100) && mi_usable_size(p) >= 30000);
    CHECK(mi_reallocarr(&p, 0, 10) == 0 && p != NULL); // a block of no bytes is a block
    mi_free(p);
    p = NULL;
    CHECK(mi_reallocarr(&p, 0, 0) == 0 && p != NULL);
    mi_free(p);
    errno = 0;
    CHECK(mi_reallocarr(NULL, 1, 1) == EINVAL);
    CHECK_ERRNO(EINVAL);
}

// Nothing is copied from nowhere, and that is no shortage of memory.
static void check_nothing(void) {
    errno = 77;
    CHECK(mi_strdup(NULL) == NULL && mi_strndup(NULL, 3) == NULL && mi_mbsdup(NULL) == NULL &&
          mi_wcsdup(NULL) == NULL && mi_heap_strdup(heap, NULL) == NULL &&
          mi_heap_strndup(heap, NULL, 3) == NULL);
    CHECK(errno == 77);
    char *p = text;
    size_t size = 99;
    CHECK(mi_dupenv_s(NULL, &size, VARIABLE) == EINVAL && size == 99);
    CHECK(mi_dupenv_s(&p, &size, NULL) == EINVAL && p == text && size == 99);
    CHECK(mi_dupenv_s(&p, &size, "MI_TEST_THERE_IS_NONE") == 0 && p == NULL && size == 0);
    CHECK(mi_dupenv_s(&p, &size, "") == 0 && p == NULL && size == 0);
    char unterminated[4] = {'a', 'b', 'c', 'd'};
    char *const s = mi_strndup(unterminated, 4);
    CHECK(s != NULL && memcmp(s, "abcd", 5) == 0);
    mi_free(s);
    CHECK(mi_reserve_os_memory(0, true, false) == ENOMEM &&
          mi_reserve_os_memory(opaque(SIZE_MAX), true, false) == ENOMEM &&
          mi_reserve_os_memory(opaque(SIZE_MAX / 2), false, false) == ENOMEM);
    mi_arena_id_t id = text;
    CHECK(mi_reserve_os_memory_ex(opaque(SIZE_MAX), true, false, true, &id) == ENOMEM &&
          id == NULL);
}

int main(void) {
    heap = mi_heap_new();
    stats.size = sizeof(stats);
    stats.version = MI_STAT_VERSION;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (has(&rows[i], IS_OBJECT))
            check_object(&rows[i]);
        else
            check_results(&rows[i]);
    }
    check_posix_memalign();
    check_reallocarr();
    check_nothing();
    mi_heap_destroy(heap);
    printf("%zu functions\n", ROW_COUNT);
    return test_result();
}
#else

// In a process of its own: 0 = sound, 1 = broken, 2 = sound, and it had failed.
static int child(const row_t *r, size_t length, long n) {
    made_t m = {.length = length};
    test_failed = 0; // of the parent
    heap = mi_heap_main();
    if (has(r, IN_HEAP))
        heap = mi_heap_new();
    mi_os_fail_nth(n);
    errno = 77;
    r->make(&m);
    const int error = errno;
    mi_os_fail_nth(0);
    const bool has_failed = (m.error != 0 || (m.p == NULL && r->make != make_mi_reserve_os_memory));
    int rc = (has_failed ? 2 : 0);
    if (has_failed && (m.p != NULL || (has(r, SETS_ERRNO) && error != ENOMEM) ||
                       (has(r, RETURNS) && (error != 77 || m.error != ENOMEM))))
        rc = 1;
    if (!has_failed && !has(r, IS_OBJECT))
        check_block_of(r, &m);
    dispose(r, m.p);
    made_t again = {.length = length}; // memory is there again
    r->make(&again);
    if (again.error != 0 || (again.p == NULL && r->make != make_mi_reserve_os_memory))
        rc = 1;
    if (!has(r, IS_OBJECT))
        check_block_of(r, &again);
    return test_failed != 0 ? 1 : rc;
}

int main(void) {
    static const size_t lengths[] = {100, TEXT_MAX};
    int failures = 0;
    stats.size = sizeof(stats);
    stats.version = MI_STAT_VERSION;
    for (size_t i = 0; i < 2 * ROW_COUNT; i++) {
        const row_t *const r = &rows[i / 2];
        int status = 0x200, seen = 0;
        text_make(lengths[i % 2]);
        variable_make(lengths[i % 2]);
        for (long n = 1; n < 30 && status == 0x200; n++) { // until none is left to fail
            const pid_t pid = fork();
            if (pid == 0)
                _exit(child(r, lengths[i % 2], n));
            CHECK(waitpid(pid, &status, 0) == pid);
            CHECK_MSG(status == 0 || status == 0x200, "%s(%zu), call %ld failed: status %x",
                      r->name, lengths[i % 2], n, (unsigned)status);
            seen += (status == 0x200);
        }
        CHECK_MSG(status == 0, "%s(%zu) calls the system too often", r->name, lengths[i % 2]);
        CHECK_MSG(seen > 0 || has(r, IN_HEAP) || has(r, IS_OBJECT), "%s never fails", r->name);
        failures += seen;
    }
    CHECK_MSG(failures > 20, "only %d failures", failures);
    printf("%d failures\n", failures);
    return test_result();
}
#endif
