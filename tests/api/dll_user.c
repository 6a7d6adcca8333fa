// A program that uses mimalloc.dll in the ways run_dll.py asks for: linked, many threads, loaded
// late, unloaded.
#include "../test.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>
#ifndef MI_TEST_LATE
#    include "mimalloc.h"

#    define THREADS_AT_ONCE 8
#    define THREAD_ROUNDS   100
#    define GONE_WELL       7 // under Wine a thread that was lost has the exit code 0

static void *volatile handed_over[THREADS_AT_ONCE];

// Allocates, leaves blocks to the next thread of its place, frees those of the one before, and
// ends.
static DWORD WINAPI come_and_go(LPVOID arg) {
    const size_t place = (size_t)arg;
    unsigned char *own = mi_malloc(100 + place);
    memset(own, (int)place, 100 + place);
    for (size_t i = 0; i < 100; i++) {
        unsigned char *p = mi_zalloc(i * 30 + 1);
        if (p[i * 30] != 0)
            return 1;
        mi_free(p);
    }
    unsigned char *before = handed_over[place];
    if (before != NULL && before[99] != (unsigned char)place)
        return 1;
    mi_free(before);
    handed_over[place] = own;
    return GONE_WELL;
}

static void check_threads(void) {
    size_t rss_early = 0, rss_late = 0;
    for (int round = 0; round < THREAD_ROUNDS; round++) {
        HANDLE threads[THREADS_AT_ONCE];
        for (size_t i = 0; i < THREADS_AT_ONCE; i++)
            threads[i] = CreateThread(NULL, 0, come_and_go, (void *)i, 0, NULL);
        WaitForMultipleObjects(THREADS_AT_ONCE, threads, TRUE, INFINITE);
        for (size_t i = 0; i < THREADS_AT_ONCE; i++) {
            DWORD code = 1;
            GetExitCodeThread(threads[i], &code);
            CHECK(code == GONE_WELL);
            CloseHandle(threads[i]);
        }
        mi_process_info(NULL, NULL, NULL, NULL, NULL, round == 20 ? &rss_early : &rss_late, NULL,
                        NULL);
    }
    CHECK_MSG(rss_late < rss_early + (4u << 20), "commit %zu after 20 rounds, %zu at the end",
              rss_early, rss_late);
}

int main(int argc, char **argv) {
    void *p = mi_malloc(10);
    CHECK(mi_is_in_heap_region(p));
    mi_free(p);
    SetLastError(4711);
    mi_free(mi_malloc(3000000));
    CHECK(GetLastError() == 4711); // the C runtimes count on it
    if (argc > 1 && strcmp(argv[1], "threads") == 0)
        check_threads();
    if (argc > 1 && strcmp(argv[1], "redirected") == 0)
        CHECK(mi_is_redirected() && mi_is_in_heap_region(malloc(10)));
    else
        CHECK(!mi_is_redirected());
    return test_result();
}
#else
// Not linked with the DLL: loads it late and lets it go, again and again. It stays, so that its
// blocks stay valid.
int main(int argc, char **argv) {
    void *kept = NULL;
    void (*free_kept)(void *) = NULL;
    for (int i = 0; i < 1000; i++) {
        HMODULE dll = LoadLibraryA(argc > 1 ? argv[1] : "mimalloc.dll");
        CHECK(dll != NULL);
        if (dll == NULL)
            return 2;
        void *(*allocate)(size_t) = (void *(*)(size_t))(void *)GetProcAddress(dll, "mi_malloc");
        free_kept = (void (*)(void *))(void *)GetProcAddress(dll, "mi_free");
        if (kept != NULL) {
            CHECK(((char *)kept)[99] == 'k');
            free_kept(kept);
        }
        kept = allocate(100);
        memset(kept, 'k', 100);
        CHECK(FreeLibrary(dll));
    }
    free_kept(kept);
    return test_result();
}
#endif
