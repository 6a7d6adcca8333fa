// A program whose malloc is that of a DLL that is no CRT and comes last: when the redirection asks
// whether the program is redirected, that DLL has not begun yet, and must not be called. Built
// twice, the DLL with OTHER_DLL.
#include "wtest.h"

enum { CALLED_EARLY = 121 }; // exit code

#ifdef OTHER_DLL

static bool has_begun;

__declspec(dllexport) void *malloc(size_t size);
__declspec(dllexport) void *malloc(size_t size) {
    if (!has_begun)
        TerminateProcess(GetCurrentProcess(), CALLED_EARLY);
    return HeapAlloc(GetProcessHeap(), 0, size);
}

__declspec(dllexport) void free(void *p);
__declspec(dllexport) void free(void *p) {
    (void)HeapFree(GetProcessHeap(), 0, p);
}

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
    (void)self;
    (void)reason;
    (void)reserved;
    has_begun = true;
    return TRUE;
}

#else

__declspec(dllimport) void *malloc(size_t size);
__declspec(dllimport) void free(void *p);
__declspec(dllimport) int mi_version(void);

void mainCRTStartup(void) {
    void *p = malloc(100);
    CHECK(p != NULL && mi_version() > 0);
    free(p);
    finish();
}

#endif
