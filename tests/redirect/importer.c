// A module that uses a CRT in every way a table can lead to it: imports by name and by ordinal, a
// delayed import, and addresses that it fetched once and keeps. For rungs.c. One build per CRT.
//
//   IMPORTER_CRT   the CRT's file name
//   IMPORTER_ODD   imports malloc by ordinal, too, and through another DLL's forwarder
//   IMPORTER_DELAY everything of the CRT is imported delayed
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <stddef.h>
#include <stdint.h>

#define EXPORT __declspec(dllexport)

__declspec(dllimport) void *malloc(size_t size);
__declspec(dllimport) void *realloc(void *p, size_t size);
__declspec(dllimport) void free(void *p);
#ifdef IMPORTER_ODD
__declspec(dllimport) void *importer_by_ordinal(size_t size);
__declspec(dllimport) void *forwarded_malloc(size_t size);
#endif
#ifdef IMPORTER_DELAY
// What a linker's delay-load stub calls: finds the function, keeps it in the cell, returns it.
typedef struct delay_s {
    uint32_t attributes, name, module, cells, names, bound, unload, stamp;
} delay_t;

extern const uint8_t __ImageBase;
void *WINAPI __delayLoadHelper2(const delay_t *d, uintptr_t *cell);
void *WINAPI __delayLoadHelper2(const delay_t *d, uintptr_t *cell) {
    const uint8_t *base = &__ImageBase;
    const size_t i = (size_t)(cell - (const uintptr_t *)(const void *)(base + d->cells));
    const uintptr_t name = ((const uintptr_t *)(const void *)(base + d->names))[i];
    const HMODULE m = LoadLibraryA((const char *)(base + d->name));
    *cell = (uintptr_t)GetProcAddress(m, (const char *)(base + name + 2));
    return (void *)*cell;
}
#endif

static void *(*kept_malloc)(size_t);
static void (*kept_free)(void *);

EXPORT void *use_malloc(size_t size);
EXPORT void *use_malloc(size_t size) {
    return malloc(size);
}
EXPORT void *use_realloc(void *p, size_t size);
EXPORT void *use_realloc(void *p, size_t size) {
    return realloc(p, size);
}
EXPORT void use_free(void *p);
EXPORT void use_free(void *p) {
    free(p);
}
EXPORT void *use_kept_malloc(size_t size);
EXPORT void *use_kept_malloc(size_t size) {
    return kept_malloc(size);
}
EXPORT void use_kept_free(void *p);
EXPORT void use_kept_free(void *p) {
    kept_free(p);
}
#ifdef IMPORTER_ODD
EXPORT void *use_ordinal(size_t size);
EXPORT void *use_ordinal(size_t size) {
    return importer_by_ordinal(size);
}
EXPORT void *use_forwarder(size_t size);
EXPORT void *use_forwarder(size_t size) {
    return forwarded_malloc(size);
}
#endif

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
    (void)self;
    (void)reserved;
    if (reason == DLL_PROCESS_ATTACH) {
        const HMODULE crt = GetModuleHandleA(IMPORTER_CRT);
        kept_malloc = (void *(*)(size_t))(uintptr_t)GetProcAddress(crt, "malloc");
        kept_free = (void (*)(void *))(uintptr_t)GetProcAddress(crt, "free");
    }
    return TRUE;
}
