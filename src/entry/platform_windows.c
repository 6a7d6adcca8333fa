// What the entry layer needs from Windows. There is no C runtime below us, hence no errno: the C
// runtimes that are redirected set their own (redirect_entry.c). The functions of the API that ask
// the system are here too.
#include "entry/entry.h"

#include "base/atomic.h"
#include "base/text.h"
#include "diag/message.h"
#include "entry/redirect_entry.h"
#include "mimalloc.h"
#include "os/os.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#define EXIT_CODE_ABORT 3u // what the C runtimes' abort uses

mi_output_fun *mi_platform_exit_output(void) {
    return NULL; // stderr is still there when DllMain hears of the end
}

void mi_platform_errno(int error) {
    (void)error;
}

const char *mi_platform_name(void) {
#if MI_ARCH_X64
    return "Windows x64";
#elif MI_ARCH_X86
    return "Windows x86";
#else
    return "Windows ARM64";
#endif
}

bool mi_platform_is_redirected(void) {
    return mi_redirect_is_active_for(GetModuleHandleW(NULL));
}

bool mi_platform_foreign_free(void *p) {
    mi_crt_ctx_t *ctx = mi_redirect_foreign();
    if (ctx == NULL)
        return false;
    ctx->foreign_free(ctx, p);
    return true;
}

bool mi_platform_foreign_realloc(void *p, size_t size, void **out) {
    mi_crt_ctx_t *ctx = mi_redirect_foreign();
    if (ctx == NULL)
        return false;
    *out = ctx->foreign_realloc(ctx, p, size);
    return true;
}

bool mi_platform_foreign_usable(const void *p, size_t *out) {
    mi_crt_ctx_t *ctx = mi_redirect_foreign();
    if (ctx == NULL)
        return false;
    *out = ctx->foreign_msize(ctx, (void *)(uintptr_t)p);
    return true;
}

// What a handler throws passes: no exception of another module's C++ runtime can be told from other
// faults here (docs/windows.md).
bool mi_platform_new_handler(size_t size, bool is_caught) {
    (void)is_caught;
    mi_crt_ctx_t *ctx = mi_redirect_foreign();
    return ctx != NULL && ctx->no_memory(ctx, size);
}

MI_NORETURN void mi_platform_new_failed(size_t size) {
    mi_message_fmt(NULL, NULL,
                   "mimalloc: error: operator new has no memory for %zu bytes, and no new-handler "
                   "could help\n",
                   size);
    TerminateProcess(GetCurrentProcess(), EXIT_CODE_ABORT);
    for (;;) {
        MI_TRAP();
    }
}

static char *path_resolve(mi_heap_t *heap, const char *fname, char *resolved_name) {
    if (fname == NULL)
        return NULL;
    const DWORD bytes = GetFullPathNameA(fname, 0, NULL, NULL); // with the NUL
    if (bytes == 0)
        return NULL;
    char *path = resolved_name;
    if (path == NULL)
        path = (heap == NULL ? mi_malloc(bytes) : mi_heap_malloc(heap, bytes));
    else if (bytes > MAX_PATH)
        return NULL; // what a caller of realpath may be expected to have room for
    if (path != NULL)
        GetFullPathNameA(fname, bytes, path, NULL);
    return path;
}

char *mi_realpath(const char *fname, char *resolved_name) mi_attr_noexcept {
    return path_resolve(NULL, fname, resolved_name);
}

char *mi_heap_realpath(mi_heap_t *heap, const char *fname, char *resolved_name) mi_attr_noexcept {
    return path_resolve(heap, fname, resolved_name);
}

int mi_dupenv_s(char **buf, size_t *size, const char *name) mi_attr_noexcept {
    if (buf == NULL || name == NULL)
        return MI_EINVAL;
    if (size != NULL)
        *size = 0;
    *buf = NULL;
    const DWORD bytes = GetEnvironmentVariableA(name, NULL, 0); // with the NUL
    if (bytes == 0)
        return 0;
    *buf = mi_zalloc(bytes);
    if (*buf == NULL)
        return MI_ENOMEM;
    GetEnvironmentVariableA(name, *buf, bytes);
    if (size != NULL)
        *size = bytes;
    return 0;
}

int mi_wdupenv_s(unsigned short **buf, size_t *size, const unsigned short *name) mi_attr_noexcept {
    if (buf == NULL || name == NULL)
        return MI_EINVAL;
    if (size != NULL)
        *size = 0;
    *buf = NULL;
    const DWORD units = GetEnvironmentVariableW((const WCHAR *)name, NULL, 0); // with the NUL
    if (units == 0)
        return 0;
    *buf = mi_zalloc(units * sizeof(WCHAR));
    if (*buf == NULL)
        return MI_ENOMEM;
    GetEnvironmentVariableW((const WCHAR *)name, (WCHAR *)*buf, units);
    if (size != NULL)
        *size = units;
    return 0;
}
