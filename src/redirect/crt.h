// One redirected CRT: what we know about it, where its own helpers are, how to put it back. Objects
// are made by mi_crt_new under the loader lock and live until the process ends, since the allocator
// and the islands hold their addresses; the object of an unloaded CRT is used again for the next
// one.
#ifndef MI_REDIRECT_CRT_H
#define MI_REDIRECT_CRT_H

#include "base/atomic.h"
#include "base/redirect_abi.h"
#include "pe/plan.h"
#include "redirect/modules.h"
#include "redirect/patch.h"
#include "redirect/thunks.h"

typedef enum mi_crt_state_e {
    MI_CRT_FREE_SLOT,
    MI_CRT_REFUSED,    // left exactly as it was, unless keeps_takers; reason says why
    MI_CRT_REDIRECTED, // patched and proven
    MI_CRT_UNLOADED
} mi_crt_state_t;

// From <crtdbg.h>, as it is documented.
typedef struct mi_crt_mem_state_s {
    void *newest; // header of the newest block; see debug_state.c for what stands there in ours
    size_t counts[MI_DEBUG_USES];
    size_t sizes[MI_DEBUG_USES];
    size_t high;
    size_t total;
} mi_crt_mem_state_t;
// _HEAPINFO of <malloc.h>.
typedef struct mi_crt_heap_info_s {
    int *entry; // the block; NULL = the walk begins
    size_t size;
    int use; // 0 free, 1 used
} mi_crt_heap_info_t;
typedef int (*mi_crt_alloc_hook_t)(int operation, void *p, size_t size, int type, long request,
                                   const unsigned char *file, int line);
typedef void (*mi_crt_dump_client_t)(void *p, size_t size);

// The CRT's own functions that we call; each may be NULL.
typedef struct mi_crt_helpers_s {
    int *(*errno_of)(void);
    int (*query_new_mode)(void);
    int (*call_new_handler)(size_t size);
    intptr_t (*heap_handle)(void);
    void (*invalid_parameter)(void);
    // Originals, kept by moving their first instructions; those with _dbg in debug CRTs only.
    void *(*new_original)(size_t size);
    size_t (*aligned_msize)(void *p, size_t align, size_t offset);
    int (*heap_check)(void);
    int (*heap_set)(unsigned fill);
    int (*heap_min)(void);
    int (*heap_walk)(mi_crt_heap_info_t *entry);
    void (*free_dbg)(void *p, int use);
    size_t (*msize_dbg)(void *p, int use);
    void (*aligned_free_dbg)(void *p);
    int (*is_valid_heap_pointer)(const void *p);
    int (*report_block_type)(const void *p);
    int (*is_memory_block)(const void *p, unsigned size, long *request, char **file, int *line);
    void (*set_block_type)(void *p, int type);
    void *(*malloc_dbg)(size_t size, int type, const char *file, int line);
    int (*check_memory)(void);
    int (*dump_leaks)(void);
    void (*checkpoint)(mi_crt_mem_state_t *state);
    void (*dump_since)(const mi_crt_mem_state_t *state);
    void (*for_all_clients)(void (*each)(void *p, void *arg), void *arg);
    // What a debug CRT keeps for the program, and how it speaks.
    int *(*debug_flag_at)(void);
    const int *debug_flag; // exported data of older ones
    int (*set_debug_flag)(int flag);
    long *(*break_at)(void);
    const long *break_number; // exported data of older ones
    mi_crt_alloc_hook_t (*alloc_hook)(void);
    mi_crt_dump_client_t (*dump_client)(void);
    int (*check_count)(void);
    int (*report)(int type, const char *file, int line, const char *module, const char *format,
                  ...);
} mi_crt_helpers_t;

typedef struct mi_crt_s mi_crt_t;
struct mi_crt_s {
    mi_crt_ctx_t ctx;       // first: the allocator's view; what the islands pass on
    mi_crt_t *_Atomic next; // all objects, in order of creation; NULL = last
    mi_crt_state_t state;
    mi_reason_t reason;
    const mi_nt_module_t
        *module_opt; // in the loader's list when we are told of it (Wine 8); NULL after it has gone
    uint8_t *base;
    uint32_t image_bytes;
    uint32_t time_stamp; // of its headers: whether it is still the same image
    char name[64];
    mi_pe_version_t version;    // of its file; zero = none
    _Atomic(bool) was_attached; // its entry point has been called, and may have been told to detach
    bool is_late;               // its entry point had already run: it may have allocated
    mi_crt_helpers_t own;
    mi_rung_t rung;            // where it stands on the ladder
    mi_reason_t entry_reason;  // why not the rung "entry"; MI_REASON_NONE = it is, or was not tried
    mi_reason_t tables_reason; // why not the rung "tables"; the same
    const char *failed_name;   // the function that caused the first of these, or NULL
    uint32_t proof_count;      // functions that were called and found redirected
    // The proof failed when other threads ran: the functions that take a block stay redirected, for
    // the sake of blocks handed out in between. The others are the CRT's own again.
    bool keeps_takers;
    // It was changed and put back while other threads ran: one of them may still be in our code.
    bool may_be_visited;
    // rung "entry"
    const mi_redirect_bound_t *bound_opt; // the allocator's functions for this CRT; NULL = none
    mi_island_t island;
    uint32_t patch_count;
    uint32_t straight_count; // entries that jump to bound functions, not to an island
    uint32_t taker_count;    // the first patches: of functions that never return a new block
    mi_patch_t patches[MI_PLAN_SITES_MAX];
    uint8_t patch_site[MI_PLAN_SITES_MAX]; // whose they are
    uint8_t *originals[MI_PLAN_SITES_MAX]; // moved first instructions of the i-th site, or NULL
    // rung "tables"
    uint8_t thunk_set; // MI_THUNK_SET_NONE = none
    uint32_t thunk_count;
    uint8_t thunk_site[MI_THUNK_SET_COUNT]; // whose they are
    mi_island_t export_island; // where exports lead when the thunks are too far from the CRT
    uint32_t table_imports;    // import cells that were changed
    uint32_t table_exports;    // export cells
    mi_plan_t plan;
    _Atomic(uint64_t) foreign_frees;    // blocks of before that came back
    _Atomic(uint64_t) foreign_reallocs; // and were moved into our heap
    _Atomic(uint64_t) foreign_sizes;
    _Atomic(uint64_t) unknown_pointers;
    // debug CRTs
    bool is_tracked; // the allocator keeps books of its blocks
    // What is lost although the CRT is redirected, or why it could not be paused or resumed.
    mi_reason_t note;
    _Atomic(int32_t) debug_requests;   // allocations so far, as the CRT counts them
    _Atomic(uint32_t) debug_unchecked; // since all blocks were last checked
    mi_debug_owner_t debug_owner;
};

MI_INLINE mi_crt_t *mi_crt_of(mi_crt_ctx_t *ctx) {
    return (mi_crt_t *)(void *)ctx;
}

mi_crt_t *mi_crt_new(void); // NULL = no memory
mi_crt_t *mi_crt_first(void);
void mi_crt_release_all(void); // only when nothing was ever redirected, and this DLL goes away
// The redirected or refused CRT that contains the address, or NULL.
mi_crt_t *mi_crt_at(const void *address);
// The same for a value that tables or pointers may hold: an address in the CRT, or one of its
// thunks. *fn is the function that it is, MI_CRT_FN_COUNT = none of the family.
mi_crt_t *mi_crt_of_function(uintptr_t value, mi_crt_fn_t *fn);
// Are any of its functions redirected?
bool mi_crt_is_engaged(const mi_crt_t *crt);

// Has the CRT been initialised, so that its helpers may be called?
bool mi_crt_is_attached(mi_crt_t *crt);
void mi_crt_find_helpers(mi_crt_t *crt);
// When it is known which entries are patched.
void mi_crt_find_originals(mi_crt_t *crt);

#endif
