// A DLL that goes on to allocate and free when the process ends, as static destructors do, in any
// state that the heap may be in by then. It frees blocks from before the end, too. When a thread
// ends it does so after the allocator was told, if it is loaded before it.
#include "wtest.h"

enum { BLOCKS = 200 };

static void *(*make)(size_t);
static void (*drop)(void *);
static void *held[BLOCKS];

static LONG thread_ends;

__declspec(dllexport) LONG late_thread_ends(void);
__declspec(dllexport) LONG late_thread_ends(void) {
    return thread_ends;
}

static void fill_up(void) {
    for (unsigned i = 0; i < BLOCKS; i++) {
        held[i] = make(((size_t)16 << (i % 17)) + i);
        if (held[i] != NULL)
            *(volatile uint8_t *)held[i] = 1;
    }
}

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
    (void)self;
    (void)reserved;
    if (reason == DLL_PROCESS_ATTACH) {
        // The last word is the CRT; it is loaded already.
        unsigned n = 1;
        while (*argument(n + 1) != 0)
            n++;
        const HMODULE crt = GetModuleHandleA(argument(n));
        if (crt == NULL)
            return FALSE;
        make = (void *(*)(size_t))proc(crt, "malloc");
        drop = (void (*)(void *))proc(crt, "free");
        fill_up();
    } else if (reason == DLL_THREAD_DETACH) {
        for (unsigned i = 0; i < 20; i++)
            drop(make(100 + 500 * i));
        InterlockedIncrement(&thread_ends);
    } else if (reason == DLL_PROCESS_DETACH) {
        for (unsigned round = 0; round < 3; round++) {
            for (unsigned i = 0; i < BLOCKS; i++)
                drop(held[i]);
            fill_up();
        }
        say("late\n");
    }
    return TRUE;
}
