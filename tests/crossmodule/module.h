// What every module of the cross-module test offers to the others: the allocation functions of the
// CRT that it was linked to, as seen by its own compiler and language. The program calls module A's
// to allocate and module B's to free. Nothing here is inline, so that each call is really made by
// the module it is said to be made by.
#ifndef MI_TESTS_CROSSMODULE_MODULE_H
#define MI_TESTS_CROSSMODULE_MODULE_H

#include <stddef.h>
#include <wchar.h>

#define XM_EXIT_BLOCKS 16
#define XM_EARLY_BYTES 100 // size of the blocks that DllMain and the TLS callback allocate

typedef struct xm_module_s {
    const char *name; // compiler and CRT, for messages
    const char *crt;  // "msvcrt" or "ucrtbase"
    // The C family. The _opt ones are NULL where this CRT does not export the function.
    void *(*alloc)(size_t bytes);
    void *(*zalloc)(size_t count, size_t bytes);
    void *(*resize)(void *p, size_t bytes);
    void *(*rezalloc_opt)(void *p, size_t count, size_t bytes);
    void *(*expand)(void *p, size_t bytes);
    void (*release)(void *p);
    size_t (*measure)(void *p);
    void *(*aligned_alloc)(size_t bytes, size_t align, size_t offset);
    void *(*aligned_resize)(void *p, size_t bytes, size_t align, size_t offset);
    void (*aligned_release)(void *p);
    size_t (*aligned_measure_opt)(void *p, size_t align, size_t offset);
    // Functions of the CRT whose result the caller frees.
    char *(*dup)(const char *text);
    wchar_t *(*wdup)(const wchar_t *text);
    char *(*fullpath)(const char *path);
    char *(*getcwd)(void);
    wchar_t *(*wgetcwd)(void);
    char *(*tempname)(const char *folder);
    char *(*dupenv_opt)(const char *name);
    // C++ modules only, else NULL.
    void *(*new_object)(size_t bytes);
    void *(*new_array)(size_t bytes);
    void *(*new_nothrow)(size_t bytes);
    void *(*new_aligned)(size_t bytes, size_t align);
    void (*delete_object)(void *p);
    void (*delete_array)(void *p);
    void (*delete_sized)(void *p, size_t bytes);
    void (*delete_aligned)(void *p, size_t align);
    // Blocks from before the program's main: XM_EARLY_BYTES bytes, each holding xm_early_byte(i).
    // The caller takes them over; NULL when they were taken.
    void *(*take_dllmain_block)(void);
    void *(*take_tls_block)(void);
    // Hands over malloc blocks that the module frees in its own atexit handler, at most
    // XM_EXIT_BLOCKS.
    void (*give_exit_block)(void *p);
} xm_module_t;

typedef const xm_module_t *(*xm_module_fn)(void);

static inline unsigned char xm_early_byte(size_t i) {
    return (unsigned char)(i * 7 + 3);
}

#endif
