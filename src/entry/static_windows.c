// The static library on Windows: no DllMain, so a TLS callback tells about the process' and its
// threads' ends. There is no redirect DLL beside a static library; the program's malloc is ours
// only where its author linked it so.
#include "entry/redirect_entry.h"

#include "core/alloc.h"
#include "entry/entry.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

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

// The loader calls what lies in this section; the C runtimes frame it. An MSVC const_seg pragma
// does not work for windows-gnu targets, a section attribute does.
#if defined(_MSC_VER) && !defined(__clang__)
#    pragma const_seg(".CRT$XLM")
extern const PIMAGE_TLS_CALLBACK mi_tls_callback;
const PIMAGE_TLS_CALLBACK mi_tls_callback = thread_callback;
#    pragma const_seg()
#else
__attribute__((section(".CRT$XLM"), used)) static const PIMAGE_TLS_CALLBACK mi_tls_callback =
    thread_callback;
#endif
