// A DLL that hides itself, as packers and protectors do: its headers can no longer be read
// (VEILED_WIPED: they are zero, too).
#include "base/base.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
    DWORD before;
    (void)reserved;
    if (reason != DLL_PROCESS_ATTACH)
        return TRUE;
#ifdef VEILED_WIPED
    VirtualProtect((void *)self, 4096, PAGE_READWRITE, &before);
    for (volatile uint8_t *p = (uint8_t *)self; p < (uint8_t *)self + 4096; p++)
        *p = 0;
    return VirtualProtect((void *)self, 4096, PAGE_READONLY, &before);
#else
    return VirtualProtect((void *)self, 4096, PAGE_NOACCESS, &before);
#endif
}
