// What answers for COM's task memory once it is redirected: the flat functions (CoTaskMemAlloc and
// its kin) and an IMalloc of our own, which CoGetMalloc hands out. A block of ours is served by the
// allocator; any other, and everything while we stand back, goes to the original function. Any
// thread. It does not know how the entries were led here.
//
//   CoTaskMemFree(p)        ours?  ---> allocator
//   IMalloc (ours)::Free       |
//                              +---> original CoTaskMemFree ---> HeapFree ---> heap guard: ours?
//   IMalloc (COM's)::Free  ----------------------------------------^
//
// An IMalloc of COM's own that somebody keeps from before needs no care, nor does code of COM that
// calls its inner functions: both end in the heap functions, where the guard knows our blocks.
#ifndef MI_REDIRECT_COM_MALLOC_H
#define MI_REDIRECT_COM_MALLOC_H

#include "base/atomic.h"
#include "base/redirect_abi.h"
#include "pe/plan_com.h"
#include "redirect/nt.h"

// The interface IMalloc, as <objidl.h> has it.
typedef struct mi_com_malloc_s mi_com_malloc_t;
typedef struct mi_com_malloc_vtbl_s {
    HRESULT(WINAPI *query_interface)(mi_com_malloc_t *self, const GUID *iid, void **out);
    ULONG(WINAPI *add_ref)(mi_com_malloc_t *self);
    ULONG(WINAPI *release)(mi_com_malloc_t *self);
    void *(WINAPI *alloc)(mi_com_malloc_t *self, SIZE_T size);
    void *(WINAPI *realloc)(mi_com_malloc_t *self, void *p, SIZE_T size);
    void(WINAPI *free)(mi_com_malloc_t *self, void *p);
    SIZE_T(WINAPI *get_size)(mi_com_malloc_t *self, void *p);
    int(WINAPI *did_alloc)(mi_com_malloc_t *self, void *p);
    void(WINAPI *heap_minimize)(mi_com_malloc_t *self);
} mi_com_malloc_vtbl_t;
struct mi_com_malloc_s {
    const mi_com_malloc_vtbl_t *vtbl;
};

// Why the originals answer; several at a time.
enum {
    MI_COM_PAUSED = 1, // mi_redirect_disable
    MI_COM_SPIED = 2   // an IMallocSpy is registered
};

// Serves failing allocations, and blocks of others when no owner is in the process. Loader lock,
// before anything is led here.
void mi_com_malloc_prepare(mi_crt_ctx_t *ctx);
// Where a patched entry of this function goes.
uintptr_t mi_com_malloc_target(mi_com_fn_t fn);
// Where the original can be called; 0 = nowhere: the owner has gone, or none came yet.
void mi_com_malloc_set_original(mi_com_fn_t fn, uintptr_t address);
void mi_com_malloc_stand_back(uint32_t why, bool is_back);
bool mi_com_malloc_stands_back(uint32_t why);
// Calls with blocks of others since the start.
uint64_t mi_com_malloc_foreign_calls(void);

// Calls one function at its patched entry; true = it came to us, and did the right thing. Loader
// lock held.
bool mi_com_malloc_prove(mi_com_fn_t fn, uintptr_t entry);

#endif
