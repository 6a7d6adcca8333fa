// An arena that is unloaded while a thread is giving its unused memory back: the unloading waits
// until that is over. The program's own function for the memory is where that thread stands.
#include "api_test.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#ifdef _WIN32
#    include <windows.h>
#    define YIELD() (void)SwitchToThread()
#else
#    include <pthread.h>
#    include <sched.h>
#    define YIELD() (void)sched_yield()
#endif

static mi_arena_id_t arena;
static atomic_bool is_ready, is_purging, has_left, has_unloaded;

static bool provide(bool commit, void *start, size_t size, bool *is_zero, void *arg) {
    (void)start;
    (void)size;
    (void)arg;
    if (is_zero != NULL)
        *is_zero = false;
    if (!commit && !is_purging) {
        is_purging = true;
        // Long enough for one who does not wait to be done; one who waits is never done here.
        for (int i = 0; i < 20000 && !has_unloaded; i++)
            YIELD();
        CHECK(!has_unloaded);
        has_left = true;
    }
    return commit; // the memory stays
}

static void unload(void) {
    void *base = NULL;
    mi_free(mi_malloc(100)); // what a thread needs is there
    is_ready = true;
    while (!is_purging)
        YIELD();
    CHECK(mi_arena_unload(arena, &base, NULL, NULL) && base == arena);
    has_unloaded = true;
    CHECK(has_left);
}

#ifdef _WIN32
static DWORD WINAPI run(LPVOID arg) {
    (void)arg;
    unload();
    return 0;
}
#else
static void *run(void *arg) {
    unload();
    return arg;
}
#endif

int main(void) {
    const size_t align = mi_arena_min_alignment(), bytes = 24u << 20;
    uint8_t *const own = malloc(bytes + align);
    uint8_t *const start = (uint8_t *)(((uintptr_t)own + align - 1) & ~(align - 1));
    void *blocks[10];
    CHECK(mi_manage_memory(start, bytes, true, false, false, -1, true, provide, NULL, &arena));
    mi_heap_t *const heap = mi_heap_new_in_arena(arena);
    for (int i = 0; i < 10; i++)
        CHECK((blocks[i] = mi_heap_malloc(heap, 1000000)) != NULL);
    for (int i = 0; i < 10; i++)
        mi_free(blocks[i]);
    mi_heap_delete(heap);
#ifdef _WIN32
    HANDLE const thread = CreateThread(NULL, 0, run, NULL, 0, NULL);
#else
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
#endif
    while (!is_ready)
        YIELD();
    mi_collect(true);
    CHECK(is_purging);
    is_purging = true;
#ifdef _WIN32
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
#else
    pthread_join(thread, NULL);
#endif
    CHECK(!mi_is_in_heap_region(blocks[0]));
    return test_result();
}
