// One module of the cross-module test. Compiled many times, as C and as C++, by gcc and clang, for
// msvcrt and ucrtbase; -DXM_NAME=... is its name and -DXM_QUIET=1 keeps it silent at exit.
#include "module.h"

#include <direct.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>
#ifdef __cplusplus
#    include <new>
#    define XM_C extern "C"
#else
#    define XM_C extern
#endif

#ifdef _UCRT
#    define XM_CRT "ucrtbase"
#else
#    define XM_CRT "msvcrt"
#endif
#define XM_TEXT2(x)    #x
#define XM_TEXT(x)     XM_TEXT2(x)
#define XM_JOIN2(a, b) a##b
#define XM_JOIN(a, b)  XM_JOIN2(a, b)

static void *dllmain_block;
static void *tls_block;
static void *exit_blocks[XM_EXIT_BLOCKS];
static int exit_block_count;
static int exit_freed;
static int exit_bad;

static void *xm_alloc(size_t bytes) {
    return malloc(bytes);
}

static void *xm_zalloc(size_t count, size_t bytes) {
    return calloc(count, bytes);
}

static void *xm_resize(void *p, size_t bytes) {
    return realloc(p, bytes);
}

static void *xm_expand(void *p, size_t bytes) {
    return _expand(p, bytes);
}

static void xm_release(void *p) {
    free(p);
}

static size_t xm_measure(void *p) {
    return _msize(p);
}

static void *xm_aligned_alloc(size_t bytes, size_t align, size_t offset) {
    return offset == 0 ? _aligned_malloc(bytes, align)
                       : _aligned_offset_malloc(bytes, align, offset);
}

static void *xm_aligned_resize(void *p, size_t bytes, size_t align, size_t offset) {
    return offset == 0 ? _aligned_realloc(p, bytes, align)
                       : _aligned_offset_realloc(p, bytes, align, offset);
}

static void xm_aligned_release(void *p) {
    _aligned_free(p);
}

static char *xm_dup(const char *text) {
    return _strdup(text);
}

static wchar_t *xm_wdup(const wchar_t *text) {
    return _wcsdup(text);
}

static char *xm_fullpath(const char *path) {
    return _fullpath(NULL, path, 0);
}

static char *xm_getcwd(void) {
    return _getcwd(NULL, 0);
}

static wchar_t *xm_wgetcwd(void) {
    return _wgetcwd(NULL, 0);
}

static char *xm_tempname(const char *folder) {
    return _tempnam(folder, "xm");
}

// Functions that only some CRTs export are looked up, not linked.
static FARPROC crt_function(const char *name) {
    return GetProcAddress(GetModuleHandleA(XM_CRT ".dll"), name);
}

typedef int(__cdecl *dupenv_fn)(char **out, size_t *out_bytes, const char *name);
static dupenv_fn dupenv_function;

static char *xm_dupenv(const char *name) {
    char *text = NULL;
    size_t bytes = 0;
    return dupenv_function(&text, &bytes, name) == 0 ? text : NULL;
}

#ifdef __cplusplus
static void *xm_new_object(size_t bytes) {
    return ::operator new(bytes);
}

static void *xm_new_array(size_t bytes) {
    return ::operator new[](bytes);
}

static void *xm_new_nothrow(size_t bytes) {
    return ::operator new(bytes, std::nothrow);
}

static void *xm_new_aligned(size_t bytes, size_t align) {
    return ::operator new(bytes, std::align_val_t(align));
}

static void xm_delete_object(void *p) {
    ::operator delete(p);
}

static void xm_delete_array(void *p) {
    ::operator delete[](p);
}

static void xm_delete_sized(void *p, size_t bytes) {
    ::operator delete(p, bytes);
}

static void xm_delete_aligned(void *p, size_t align) {
    ::operator delete(p, std::align_val_t(align));
}
#endif

static void *take(void **block) {
    void *p = *block;
    *block = NULL;
    return p;
}

static void *xm_take_dllmain_block(void) {
    return take(&dllmain_block);
}

static void *xm_take_tls_block(void) {
    return take(&tls_block);
}

static void xm_give_exit_block(void *p) {
    if (exit_block_count < XM_EXIT_BLOCKS) {
        exit_blocks[exit_block_count++] = p;
    }
}

static void *early_block(void) {
    unsigned char *p = (unsigned char *)malloc(XM_EARLY_BYTES);
    for (size_t i = 0; p != NULL && i < XM_EARLY_BYTES; i++) {
        p[i] = xm_early_byte(i);
    }
    return p;
}

static int early_block_is_good(const void *block) {
    const unsigned char *p = (const unsigned char *)block;
    for (size_t i = 0; p != NULL && i < XM_EARLY_BYTES; i++) {
        if (p[i] != xm_early_byte(i)) {
            return 0;
        }
    }
    return p != NULL;
}

// In places where the loader lock is held.
static void make_and_free(void) {
    void *p = early_block();
    exit_bad += !early_block_is_good(p);
    free(p);
}

// Written without the CRT, whose own state may be gone.
static void say_goodbye(void) {
    char line[128];
    int length =
        wsprintfA(line, "%s: atexit freed %d, bad %d\r\n", XM_TEXT(XM_NAME), exit_freed, exit_bad);
    DWORD written;
    WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), line, (DWORD)length, &written, NULL);
}

// Runs at the end of the module's detach, after the program's own atexit handlers: what others gave
// us is freed here, and malloc still has to work.
static void at_exit(void) {
    for (int i = 0; i < exit_block_count; i++) {
        exit_bad += !early_block_is_good(exit_blocks[i]);
        free(exit_blocks[i]);
        exit_freed++;
    }
    exit_block_count = 0;
    make_and_free();
    if (!XM_QUIET) {
        say_goodbye();
    }
}

XM_C BOOL WINAPI DllMain(HINSTANCE instance, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE instance, DWORD reason, LPVOID reserved) {
    (void)instance;
    (void)reserved;
    if (reason == DLL_PROCESS_ATTACH) {
        dllmain_block = early_block();
        dupenv_function = (dupenv_fn)(void (*)(void))crt_function("_dupenv_s");
        atexit(at_exit);
    } else if (reason == DLL_PROCESS_DETACH) {
        free(dllmain_block);
        free(tls_block);
        make_and_free();
    } else {
        make_and_free(); // a thread comes or goes
    }
    return TRUE;
}

static void NTAPI tls_callback(PVOID instance, DWORD reason, PVOID reserved) {
    (void)instance;
    (void)reserved;
    if (reason == DLL_PROCESS_ATTACH) {
        tls_block = early_block();
    } else {
        make_and_free();
    }
}

// A section attribute, since neither gcc nor clang for this target knows MSVC's pragma.
__attribute__((section(".CRT$XLB"), used)) static PIMAGE_TLS_CALLBACK tls_entry = tls_callback;

static xm_module_t self;

XM_C __declspec(dllexport) const xm_module_t *XM_JOIN(xm_module_, XM_NAME)(void);
const xm_module_t *XM_JOIN(xm_module_, XM_NAME)(void) {
    self.name = XM_TEXT(XM_NAME);
    self.crt = XM_CRT;
    self.alloc = xm_alloc;
    self.zalloc = xm_zalloc;
    self.resize = xm_resize;
    self.rezalloc_opt =
        (void *(*)(void *, size_t, size_t))(void (*)(void))crt_function("_recalloc");
    self.expand = xm_expand;
    self.release = xm_release;
    self.measure = xm_measure;
    self.aligned_alloc = xm_aligned_alloc;
    self.aligned_resize = xm_aligned_resize;
    self.aligned_release = xm_aligned_release;
    self.aligned_measure_opt =
        (size_t(*)(void *, size_t, size_t))(void (*)(void))crt_function("_aligned_msize");
    self.dup = xm_dup;
    self.wdup = xm_wdup;
    self.fullpath = xm_fullpath;
    self.getcwd = xm_getcwd;
    self.wgetcwd = xm_wgetcwd;
    self.tempname = xm_tempname;
    self.dupenv_opt = dupenv_function != NULL ? xm_dupenv : NULL;
#ifdef __cplusplus
    self.new_object = xm_new_object;
    self.new_array = xm_new_array;
    self.new_nothrow = xm_new_nothrow;
    self.new_aligned = xm_new_aligned;
    self.delete_object = xm_delete_object;
    self.delete_array = xm_delete_array;
    self.delete_sized = xm_delete_sized;
    self.delete_aligned = xm_delete_aligned;
#endif
    self.take_dllmain_block = xm_take_dllmain_block;
    self.take_tls_block = xm_take_tls_block;
    self.give_exit_block = xm_give_exit_block;
    return &self;
}
