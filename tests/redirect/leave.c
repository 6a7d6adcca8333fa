// Leaves the process with a DLL that uses every CRT after its end; see last.c.
//
//   leave redirect.dll allocator.dll crt.dll ...
#include "wtest.h"

void mainCRTStartup(void) {
    const HMODULE last = LoadLibraryA("last.dll");
    if (last == NULL)
        ExitProcess(98);
    ((void (*)(void))proc(last, "last_before"))();
    const HMODULE redirect = LoadLibraryA(argument(1)), allocator = LoadLibraryA(argument(2));
    uintptr_t ask = proc(allocator, "standin_is_ours");
    ask = (ask != 0 ? ask : proc(allocator, "mi_is_in_heap_region"));
    if (redirect == NULL || ask == 0)
        ExitProcess(97);
    ((void (*)(bool (*)(const void *)))proc(last, "last_after"))((bool (*)(const void *))ask);
    ExitProcess(99); // last.dll has the last word
}
