// What the debug and secure builds find: overflow, double free, use after free, a damaged free
// list. In the release build only what costs nothing is found.
#include "use.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_overflow(void) {
    const size_t sizes[] = {1, 16, 20, 100, 1000, 5000, 100000, 300000, 5000000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *const p = use_malloc(sizes[i]);
        const uint8_t saved = p[sizes[i]];
        CHECK(mi_core_usable(p, NULL) == sizes[i]);
        p[sizes[i]] = (uint8_t)~saved;
        CHECK_MSG(use_free(p) == MI_FREE_CORRUPT, "size %zu", sizes[i]);
        p[sizes[i]] = saved;
        CHECK_MSG(use_free(p) == MI_FREE_OK, "size %zu", sizes[i]);
    }
}

static void test_double_free(void) {
    for (size_t size = 1; size < 100000; size = size * 3 + 1) {
        void *const keep = use_malloc(size);
        void *const p = use_malloc(size);
        void *const q = use_malloc(size);
        CHECK(use_free(p) == MI_FREE_OK);
        CHECK_MSG(use_free(p) == MI_FREE_DOUBLE, "size %zu", size);
        CHECK(use_free(q) == MI_FREE_OK);
        CHECK_MSG(use_free(p) == MI_FREE_DOUBLE, "size %zu, with another between", size);
        CHECK(use_free(keep) == MI_FREE_OK);
    }
}

static void test_interior(void) {
    for (size_t size = 64; size < 8000000; size *= 5) {
        uint8_t *const p = use_malloc(size);
        CHECK_MSG(use_free(p + 16) == MI_FREE_INVALID, "size %zu", size);
        CHECK_MSG(use_free(p + 5) == MI_FREE_INVALID, "size %zu", size);
        CHECK_MSG(use_free(p) == MI_FREE_OK, "size %zu", size);
    }
}

static void test_never_allocated(void) {
    uint8_t *const p = use_malloc(100);
    CHECK(use_free(p + 112 * 400) == MI_FREE_INVALID);
    CHECK(use_free(p) == MI_FREE_OK);
}

// What the last owner of a page held is not taken for a block of the next one, though it was never
// freed.
static void test_held_by_another(void) {
    uint8_t *held[50];
    mi_heap_t *const heap = mi_core_heap_new();
    for (int i = 0; i < 50; i++)
        held[i] = mi_core_heap_malloc(heap, 700, false);
    mi_core_heap_destroy(heap);
    const void *p = NULL;
    for (int i = 0; i < 10000 && mi_page_map_find(held[49]) == NULL; i++)
        p = use_malloc(700);
    CHECK(mi_page_map_find(held[49]) == mi_page_map_find(p));
    CHECK(use_free(held[49]) == MI_FREE_INVALID);
}

// A write into a freed block: the next allocations of its page must not follow it.
static int run_poison(void) {
    void *blocks[64];
    for (int i = 0; i < 64; i++)
        blocks[i] = use_malloc(48);
    uintptr_t *const victim = blocks[30];
    (void)use_free(blocks[31]);
    (void)use_free(victim);
    victim[0] = (uintptr_t)&victim; // a plausible address, as an attacker would choose
    for (int i = 0; i < 1000; i++) {
        void *const p = use_malloc(48);
        if (p == (void *)&victim)
            return 1; // the attack worked
    }
    return 0;
}

// One who knows the page's key makes a link to a live block: it must not be handed out again.
static int run_forged_link(void) {
    void *blocks[64];
    for (int i = 0; i < 64; i++)
        blocks[i] = use_malloc(48);
    mi_page_t *const page = mi_page_map_find(blocks[30]);
    (void)use_free(blocks[30]);
    mi_block_set_next(page, blocks[30], blocks[10]);
    for (int i = 0; i < 1000; i++)
        if (use_malloc(48) == blocks[10])
            return 1;
    return 0;
}

// One who knows the key ties what others freed of a page to a ring: it has more blocks than the
// page has live ones.
static void *free_two(void *blocks) {
    (void)use_free(((void **)blocks)[0]);
    (void)use_free(((void **)blocks)[1]);
    mi_core_collect(false); // what this thread held back
    return NULL;
}

static int run_ring(void) {
    void *blocks[2];
    pthread_t thread;
    blocks[0] = use_malloc(3000);
    blocks[1] = use_malloc(3000);
    mi_page_t *const page = mi_page_map_find(blocks[0]);
    pthread_create(&thread, NULL, free_two, blocks);
    pthread_join(thread, NULL);
    mi_block_t *const head = mi_load_acquire(&page->remote);
    mi_block_t *const next = (head == NULL ? NULL : mi_block_next(page, head));
    if (next == NULL || mi_block_next(page, next) != NULL)
        return 2; // they are not where this test thinks
    mi_block_set_next(page, next, head);
    mi_core_collect(false);
    return 1;
}

// What a link is encoded with beside its place: another secret for each page.
static uintptr_t key_of_page(void) {
    enum { BLOCKS = 4096 }; // more than a page
    static mi_block_t *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = use_malloc(48);
    mi_block_t *const last = blocks[BLOCKS - 1];
    mi_block_t *const before = blocks[BLOCKS - 2];
    CHECK(mi_page_map_find(last) == mi_page_map_find(before));
    (void)use_free(before);
    (void)use_free(last);
    return last->link ^ (uintptr_t)before ^ mi_block_place(last);
}

static void test_keys(void) {
    const uintptr_t first = key_of_page();
    const uintptr_t second = key_of_page();
    CHECK_MSG(first >> 32 != 0 && second >> 32 != 0 && first != second, "keys %zx and %zx",
              (size_t)first, (size_t)second);
}

static void test_ends(int (*attack)(void)) {
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(20);
        _exit(attack());
    }
    int status = 0;
    waitpid(pid, &status, 0);
    CHECK_MSG(WIFSIGNALED(status) && (WTERMSIG(status) == SIGILL || WTERMSIG(status) == SIGTRAP),
              "status %x", status);
}

int main(void) {
    if (MI_DEBUG)
        test_overflow();
    if (MI_DEBUG || MI_SECURE) {
        test_double_free();
        test_never_allocated();
        test_held_by_another();
    }
    test_interior();
    if (MI_SECURE) {
        test_ends(run_poison);
        test_ends(run_forged_link);
        test_ends(run_ring);
        test_keys();
    }
    void *const large = use_malloc(6 * MI_MiB);
    CHECK(use_free(large) == MI_FREE_OK);
    CHECK(use_free(large) != MI_FREE_OK);
    CHECK(use_free((char *)large + 65536) != MI_FREE_OK);
    return test_result();
}
