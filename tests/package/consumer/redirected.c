// Knows nothing of mimalloc: the build puts it into the import table. It looks for the DLL in its
// process and asks it.
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

int main(void) {
    const HMODULE dll = GetModuleHandleA("mimalloc.dll");
    typedef _Bool (*ask_t)(const void *);
    typedef _Bool (*state_t)(void);
    const ask_t is_ours =
        (ask_t)(void *)(dll == NULL ? NULL : GetProcAddress(dll, "mi_is_in_heap_region"));
    const state_t is_redirected =
        (state_t)(void *)(dll == NULL ? NULL : GetProcAddress(dll, "mi_is_redirected"));
    void *const p = malloc(1000);
    const int is_good = (is_ours != NULL && is_redirected != NULL && is_redirected() && is_ours(p));
    free(p);
    printf("%s: redirected\n", is_good ? "good" : "bad");
    return is_good ? 0 : 1;
}
