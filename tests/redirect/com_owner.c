// A DLL that owns the functions of COM's task memory, as ole32 did before Windows 8 and combase
// does since: over the process heap, with an IMalloc of its own. For com.c.
//   COM_OWNER_PARTIAL  without CoGetMalloc
//   COM_OWNER_STUB     none of its own: each function jumps on to the DLL com_owner
#define CINTERFACE
#define COBJMACROS
#define CoTaskMemAlloc      system_alloc // declared as imports there
#define CoTaskMemRealloc    system_realloc
#define CoTaskMemFree       system_free
#define CoGetMalloc         system_get_malloc
#define CoRegisterMallocSpy system_register
#define CoRevokeMallocSpy   system_revoke
#include <objbase.h>
#undef CoTaskMemAlloc
#undef CoTaskMemRealloc
#undef CoTaskMemFree
#undef CoGetMalloc
#undef CoRegisterMallocSpy
#undef CoRevokeMallocSpy

#define EXPORT __declspec(dllexport)
#define IMPORT __declspec(dllimport)

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
    (void)self;
    (void)reason;
    (void)reserved;
    return TRUE;
}

#if defined(COM_OWNER_STUB)

IMPORT void *WINAPI CoTaskMemAlloc(SIZE_T size);
IMPORT void *WINAPI CoTaskMemRealloc(void *p, SIZE_T size);
IMPORT void WINAPI CoTaskMemFree(void *p);
void *WINAPI stub_alloc(SIZE_T size);
void *WINAPI stub_realloc(void *p, SIZE_T size);
void WINAPI stub_free(void *p);

#    if defined(_M_IX86) || defined(__i386__)
#        define SYMBOL(name, bytes) name "@" bytes
#    else
#        define SYMBOL(name, bytes) name
#    endif
__asm__(".section .drectve\n.ascii \" -export:CoTaskMemAlloc=" SYMBOL(
    "stub_alloc",
    "4") " -export:CoTaskMemRealloc=" SYMBOL("stub_realloc",
                                             "8") " -export:CoTaskMemFree=" SYMBOL("stub_free",
                                                                                   "4") "\"\n."
                                                                                        "text\n");

void *WINAPI stub_alloc(SIZE_T size) {
    return CoTaskMemAlloc(size);
}

void *WINAPI stub_realloc(void *p, SIZE_T size) {
    return CoTaskMemRealloc(p, size);
}

void WINAPI stub_free(void *p) {
    CoTaskMemFree(p);
}

#else

EXPORT void *WINAPI CoTaskMemAlloc(SIZE_T size);
EXPORT void *WINAPI CoTaskMemRealloc(void *p, SIZE_T size);
EXPORT void WINAPI CoTaskMemFree(void *p);

void *WINAPI CoTaskMemAlloc(SIZE_T size) {
    return HeapAlloc(GetProcessHeap(), 0, size);
}

void *WINAPI CoTaskMemRealloc(void *p, SIZE_T size) {
    if (p == NULL)
        return HeapAlloc(GetProcessHeap(), 0, size);
    if (size != 0)
        return HeapReAlloc(GetProcessHeap(), 0, p, size);
    HeapFree(GetProcessHeap(), 0, p);
    return NULL;
}

void WINAPI CoTaskMemFree(void *p) {
    if (p != NULL)
        HeapFree(GetProcessHeap(), 0, p);
}

#    if !defined(COM_OWNER_PARTIAL)

EXPORT HRESULT WINAPI CoGetMalloc(DWORD which, IMalloc **out);

static HRESULT WINAPI owner_query(IMalloc *self, REFIID iid, void **out) {
    (void)iid;
    *out = self;
    return S_OK;
}

static ULONG WINAPI owner_ref(IMalloc *self) {
    (void)self;
    return 1;
}

static void *WINAPI owner_alloc(IMalloc *self, SIZE_T size) {
    (void)self;
    return CoTaskMemAlloc(size);
}

static void *WINAPI owner_realloc(IMalloc *self, void *p, SIZE_T size) {
    (void)self;
    return CoTaskMemRealloc(p, size);
}

static void WINAPI owner_free(IMalloc *self, void *p) {
    (void)self;
    CoTaskMemFree(p);
}

static SIZE_T WINAPI owner_size(IMalloc *self, void *p) {
    (void)self;
    return p == NULL ? (SIZE_T)-1 : HeapSize(GetProcessHeap(), 0, p);
}

static int WINAPI owner_did(IMalloc *self, void *p) {
    (void)self;
    return p == NULL ? -1 : HeapValidate(GetProcessHeap(), 0, p);
}

static void WINAPI owner_minimize(IMalloc *self) {
    (void)self;
}

static IMallocVtbl owner_vtbl = {owner_query, owner_ref,  owner_ref, owner_alloc,   owner_realloc,
                                 owner_free,  owner_size, owner_did, owner_minimize};
static IMalloc owner = {&owner_vtbl};

HRESULT WINAPI CoGetMalloc(DWORD which, IMalloc **out) {
    if (which != 1 || out == NULL)
        return E_INVALIDARG;
    *out = &owner;
    return S_OK;
}

#    endif
#endif
