// A program with a C runtime of its own, as one that is linked statically: its heap functions lie
// in it, on the system's heap. Ends with 90 when its malloc is its own, with 91 when it is the
// allocator's.
#include <windows.h>

static DWORD slot;

__attribute__((noinline)) static void *own_malloc(size_t bytes) {
    return HeapAlloc(GetProcessHeap(), 0, bytes);
}

__attribute__((noinline)) static void *own_realloc(void *p, size_t bytes) {
    return HeapReAlloc(GetProcessHeap(), 0, p, bytes);
}

// What a runtime's start-up asks the system.
static void start_up(void) {
    STARTUPINFOW info;
    CPINFO page;
    WORD kinds[2];
    WCHAR text[4] = L"ab";
    GetStartupInfoW(&info);
    GetCPInfo(CP_ACP, &page);
    GetStringTypeW(CT_CTYPE1, text, 2, kinds);
    LCMapStringW(LOCALE_USER_DEFAULT, LCMAP_UPPERCASE, text, 2, text, 2);
    WCHAR *environment = GetEnvironmentStringsW();
    FreeEnvironmentStringsW(environment);
    slot = FlsAlloc(NULL);
    FlsSetValue(slot, EncodePointer(GetCommandLineA()));
}

void entry(void) {
    start_up();
    HMODULE dll = GetModuleHandleA("mimalloc.dll");
    _Bool (*is_ours)(const void *) = (_Bool(*)(const void *))(
        void *)(dll != NULL ? GetProcAddress(dll, "mi_is_in_heap_region") : NULL);
    char *p = (char *)own_realloc(own_malloc(10), 1000);
    UINT code = p == NULL || HeapSize(GetProcessHeap(), 0, p) != 1000 ? 1
                : is_ours != NULL && is_ours(p)                       ? 91
                                                                      : 90;
    HeapFree(GetProcessHeap(), 0, p);
    ExitProcess(code);
}
