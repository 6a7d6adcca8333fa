// The static library on Windows: no DllMain, so a TLS callback tells about the process' and its
// threads' ends, and a destructor of the C runtime about the end of a DLL that it was linked into:
// the TLS callback would come before the destructors of that DLL's own objects. There is no
// redirect DLL beside a static library; the program's malloc is ours only where its author linked
// it so.
#include "entry/redirect_entry.h"

#include "core/alloc.h"
#include "entry/entry.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#if defined(_MSC_VER)
#    include <stdlib.h>
#endif

mi_crt_ctx_t *mi_redirect_foreign(void) {
    return NULL;
}

bool mi_redirect_is_active_for(void *module_base) {
    (void)module_base;
    return false;
}

static void NTAPI thread_callback(PVOID module, DWORD reason, PVOID reserved) {
    (void)module;
    (void)reserved;
    if (reason == DLL_PROCESS_ATTACH)
        mi_entry_init();
    else if (reason == DLL_THREAD_DETACH)
        mi_core_thread_done();
    else if (reason == DLL_PROCESS_DETACH)
        mi_entry_exit();
}

static void module_ends(void) {
    HMODULE own = NULL;
    mi_entry_exit();
    if (mi_os_is_exiting() || !GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS |
                                                      GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                                                  (LPCWSTR)(void *)&module_ends, &own))
        return;
    if (own != GetModuleHandleW(NULL))
        mi_entry_unload(true);
}

// The loader calls what lies in this section; the C runtimes frame it. An MSVC const_seg pragma
// does not work for windows-gnu targets, a section attribute does.
#if defined(_MSC_VER)
// Microsoft's linker makes a TLS directory only for a program that has thread-local variables, or
// that asks for the runtime's _tls_used; and it may drop what nothing names.
#    if defined(_M_IX86)
#        pragma comment(linker, "/include:__tls_used")
#        pragma comment(linker, "/include:_mi_tls_callback")
#        pragma comment(linker, "/include:_mi_module_begins")
#    else
#        pragma comment(linker, "/include:_tls_used")
#        pragma comment(linker, "/include:mi_tls_callback")
#        pragma comment(linker, "/include:mi_module_begins")
#    endif
#    pragma const_seg(".CRT$XLM")
extern const PIMAGE_TLS_CALLBACK mi_tls_callback;
const PIMAGE_TLS_CALLBACK mi_tls_callback = thread_callback;
#    pragma const_seg()
// Among the first initialisers, so that it is among the last to be called at the end.
static void __cdecl module_begins(void) {
    (void)atexit(module_ends);
}
#    pragma section(".CRT$XCB", read)
__declspec(allocate(".CRT$XCB")) extern void(__cdecl *const mi_module_begins)(void);
void(__cdecl *const mi_module_begins)(void) = module_begins;
#else
__attribute__((section(".CRT$XLM"), used)) static const PIMAGE_TLS_CALLBACK mi_tls_callback =
    thread_callback;
__attribute__((destructor(101))) static void module_destruct(void) {
    module_ends();
}
#endif
