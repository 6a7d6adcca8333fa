// A stand-in for the allocator half, so that the redirect DLL is tested without the allocator.
// Small and plain: one reserved range, a header before each block, free lists by powers of two, one
// lock. Exact sizes, but for one of the variants:
//   (default)         our interface: _mi_redirect_allocator
//   STANDIN_ORIGINAL  the original's interface: mi_malloc, ..., mi_is_in_heap_region,
//   _mi_redirect_entry STANDIN_VERSION   our interface with another major version, and nothing else
//   STANDIN_HOLES     our interface, or the original's, with a function missing
//   STANDIN_ROUNDS    sizes are rounded up, as the size classes of the original do
//   STANDIN_WEAK      our interface, but crt_calloc forgets whose memory it returns: the proof must
//   see it
//   STANDIN_SURVEY    our interface with what came later: it lists blocks that nobody allocated,
//   and looks whether the other threads really stand still
#include "base/redirect_abi.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#define EXPORT      __declspec(dllexport)
#define RANGE_BYTES ((size_t)512 << 20)
#define CLASSES     40

typedef struct head_s {
    uint8_t *start; // of the cell, for aligned blocks
    size_t size;    // as asked for
    uint32_t cls;
    uint32_t mark;
    struct head_s *next; // in a free list
} head_t;

enum { MARK_LIVE = 0x4C495645, MARK_DEAD = 0x44454144 };
#define HEAD ((sizeof(head_t) + 15) & ~(size_t)15)

static uint8_t *range;
static size_t range_used, range_committed;
static head_t *lists[CLASSES];
static volatile LONG lock;
static uint64_t count, freed;
static mi_crt_ctx_t *foreign;

static void enter(void) {
    while (InterlockedExchange(&lock, 1) != 0)
        SwitchToThread();
}

static void leave(void) {
    InterlockedExchange(&lock, 0);
}

static bool is_ours(const void *p) {
    return range != NULL && (const uint8_t *)p >= range && (const uint8_t *)p < range + RANGE_BYTES;
}

static head_t *head_of(const void *p) {
    return (head_t *)(void *)((uintptr_t)p - HEAD);
}

static uint8_t *carve(size_t bytes) {
    if (range == NULL)
        range = (uint8_t *)VirtualAlloc(NULL, RANGE_BYTES, MEM_RESERVE, PAGE_READWRITE);
    if (range == NULL || range_used + bytes > RANGE_BYTES)
        return NULL;
    const size_t end = range_used + bytes;
    if (end > range_committed) {
        const size_t more = (end - range_committed + 0xFFFFF) & ~(size_t)0xFFFFF;
        if (VirtualAlloc(range + range_committed, more, MEM_COMMIT, PAGE_READWRITE) == NULL)
            return NULL;
        range_committed += more;
    }
    uint8_t *p = range + range_used;
    range_used = end;
    return p;
}

static size_t rounded(size_t size) {
#ifdef STANDIN_ROUNDS
    return (size + 31) & ~(size_t)31;
#else
    return size;
#endif
}

static void *alloc_aligned(size_t size, size_t align, size_t offset) {
    if (size > RANGE_BYTES || align > RANGE_BYTES)
        return NULL;
    size = rounded(size);
    const size_t need = size + HEAD + align + 16;
    uint32_t cls = 6;
    while (((size_t)1 << cls) < need)
        cls++;
    enter();
    uint8_t *cell = (uint8_t *)lists[cls];
    if (cell != NULL)
        lists[cls] = lists[cls]->next;
    else
        cell = carve((size_t)1 << cls);
    count += (cell != NULL);
    leave();
    if (cell == NULL)
        return NULL;
    const uintptr_t least = (uintptr_t)cell + HEAD + offset;
    uint8_t *p = (uint8_t *)(((least + align - 1) & ~(align - 1)) - offset);
    head_t *h = head_of(p);
    h->start = cell;
    h->size = size;
    h->cls = cls;
    h->mark = MARK_LIVE;
    FillMemory(p, size, 0xCD);
    return p;
}

static void *alloc(size_t size) {
    return alloc_aligned(size, 16, 0);
}

static void *alloc_zeroed(size_t size) {
    void *p = alloc(size);
    if (p != NULL)
        ZeroMemory(p, head_of(p)->size);
    return p;
}

static void fail(const char *text) {
    DWORD written;
    WriteFile(GetStdHandle(STD_ERROR_HANDLE), text, (DWORD)lstrlenA(text), &written, NULL);
    TerminateProcess(GetCurrentProcess(), 99);
}

static void release(void *p) {
    if (p == NULL)
        return;
    head_t h = *head_of(p);
    if (h.mark != MARK_LIVE)
        fail("stand-in: freed twice, or not the start of a block\n");
    head_of(p)->mark = MARK_DEAD;
    FillMemory(p, h.size, 0xDD);
    head_t *cell = (head_t *)(void *)h.start;
    enter();
    cell->next = lists[h.cls];
    lists[h.cls] = cell;
    freed++;
    leave();
}

static size_t usable_size(const void *p) {
    return p == NULL ? 0 : head_of(p)->size;
}

static void *realloc_in_place(void *p, size_t size) {
    if (p == NULL)
        return NULL;
    head_t *h = head_of(p);
    const uint8_t *end = h->start + ((size_t)1 << h->cls);
    if (size > RANGE_BYTES || rounded(size) > (size_t)(end - (uint8_t *)p))
        return NULL;
    h->size = rounded(size);
    return p;
}

static void *realloc_plain(void *p, size_t size) {
    if (p == NULL)
        return alloc(size);
    if (realloc_in_place(p, size) != NULL)
        return p;
    void *q = alloc(size);
    if (q == NULL)
        return NULL;
    CopyMemory(q, p, usable_size(p) < size ? usable_size(p) : size);
    release(p);
    return q;
}

#ifndef STANDIN_ORIGINAL
static void *crt_malloc(size_t size, mi_crt_ctx_t *ctx) {
    for (;;) {
        void *p = alloc(size);
        if (p != NULL || !ctx->no_memory(ctx, size))
            return p;
    }
}

static void *crt_calloc(size_t n, size_t size, mi_crt_ctx_t *ctx) {
#    ifdef STANDIN_WEAK
    (void)ctx;
    return HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, n * size);
#    else
    size_t bytes;
    if (!mi_mul_ok(n, size, &bytes))
        bytes = SIZE_MAX;
    for (;;) {
        void *p = alloc_zeroed(bytes);
        if (p != NULL || !ctx->no_memory(ctx, bytes))
            return p;
    }
#    endif
}

static void crt_free(void *p, mi_crt_ctx_t *ctx) {
    if (p != NULL && !is_ours(p))
        ctx->foreign_free(ctx, p);
    else
        release(p);
}

static __attribute__((unused)) void *crt_realloc(void *p, size_t size, mi_crt_ctx_t *ctx) {
    if (p == NULL)
        return crt_malloc(size, ctx);
    if (!is_ours(p))
        return ctx->foreign_realloc(ctx, p, size);
    if (size == 0) {
        release(p);
        return NULL;
    }
    for (;;) {
        void *q = realloc_plain(p, size);
        if (q != NULL || !ctx->no_memory(ctx, size))
            return q;
    }
}

static size_t crt_msize(const void *p, mi_crt_ctx_t *ctx) {
    if (p != NULL && !is_ours(p))
        return ctx->foreign_msize(ctx, (void *)(uintptr_t)p);
    return usable_size(p);
}

static void set_foreign(mi_crt_ctx_t *ctx) {
    foreign = ctx;
}

static uint64_t allocation_count(void) {
    return count;
}

#    ifdef STANDIN_SURVEY
enum { LISTED = 6000, GONE = 500, BUSY_CALLS = 3 };
static volatile LONG *watched; // some other thread counts here all the time
static LONG calls, moved, collected, damage;

static void collect(void) {
    collected++;
}

// Downwards; the first calls are in vain. damage 1: each call sees another place damaged; 2: all
// see the same.
static size_t list(mi_redirect_block_t *out, size_t cap, const void **damaged) {
    const LONG before = *watched;
    if (calls++ < BUSY_CALLS)
        return MI_REDIRECT_BUSY;
    for (int i = 0; i < 300000; i++)
        YieldProcessor();
    moved += (*watched != before);
    for (size_t i = 0; i < LISTED && i < cap; i++)
        out[i] = (mi_redirect_block_t){range + (LISTED - i) * 64, LISTED - i};
    // The highest are taken back.
    for (size_t i = 0; i < GONE && LISTED + i < cap; i++)
        out[LISTED + i] = (mi_redirect_block_t){range + (LISTED - i) * 64, MI_REDIRECT_GONE};
    *damaged = (damage == 0 ? NULL : range + (damage == 1 ? calls : 0));
    return LISTED + GONE;
}

EXPORT void standin_survey(volatile LONG *counter, LONG damage_mode);
EXPORT void standin_survey(volatile LONG *counter, LONG damage_mode) {
    watched = counter;
    calls = 0;
    damage = damage_mode;
}

EXPORT void standin_surveyed(LONG *was_called, LONG *was_moved, LONG *was_collected);
EXPORT void standin_surveyed(LONG *was_called, LONG *was_moved, LONG *was_collected) {
    *was_called = calls;
    *was_moved = moved;
    *was_collected = collected;
}
#    endif

EXPORT const mi_redirect_allocator_t *_mi_redirect_allocator(uint32_t abi);
EXPORT const mi_redirect_allocator_t *_mi_redirect_allocator(uint32_t abi) {
    static const mi_redirect_allocator_t table = {
#    ifdef STANDIN_VERSION
        MI_REDIRECT_ABI + (7u << 16),
#    else
        MI_REDIRECT_ABI,
#    endif
#    ifdef STANDIN_SURVEY
        sizeof(mi_redirect_allocator_t),
#    else
        offsetof(mi_redirect_allocator_t, debug), // a partner of the first release
#    endif
        12345,
        0,
        is_ours,
        crt_malloc,
        crt_calloc,
#    ifdef STANDIN_HOLES
        NULL,
#    else
        crt_realloc,
#    endif
        crt_free,
        crt_msize,
        alloc,
        alloc_zeroed,
        alloc_aligned,
        realloc_in_place,
        release,
        usable_size,
        set_foreign,
        allocation_count,
#    ifdef STANDIN_SURVEY
        NULL,
        collect,
        list,
        NULL,
#    else
        (const mi_redirect_debug_t *)1, // behind the table: nobody may look, here and below
        (void (*)(void))1,
        (size_t(*)(mi_redirect_block_t *, size_t, const void **))1,
        (const mi_redirect_bound_t *(*)(mi_crt_ctx_t *, mi_redirect_new_slow_fn))1,
#    endif
    };
    (void)abi;
    return &table;
}
#else
EXPORT void *mi_malloc(size_t size);
EXPORT void *mi_malloc(size_t size) {
    return alloc(size);
}
EXPORT void *mi_calloc(size_t n, size_t size);
EXPORT void *mi_calloc(size_t n, size_t size) {
    return alloc_zeroed(n * size);
}
EXPORT void *mi_malloc_aligned_at(size_t size, size_t align, size_t offset);
EXPORT void *mi_malloc_aligned_at(size_t size, size_t align, size_t offset) {
    return alloc_aligned(size, align, offset);
}
EXPORT void *mi_realloc(void *p, size_t size);
EXPORT void *mi_realloc(void *p, size_t size) {
    return realloc_plain(p, size);
}
#    ifndef STANDIN_HOLES
EXPORT void *mi_expand(void *p, size_t size);
EXPORT void *mi_expand(void *p, size_t size) {
    return realloc_in_place(p, size);
}
#    endif
EXPORT void mi_free(void *p);
EXPORT void mi_free(void *p) {
    release(p);
}
EXPORT size_t mi_usable_size(const void *p);
EXPORT size_t mi_usable_size(const void *p) {
    return usable_size(p);
}
EXPORT bool mi_is_in_heap_region(const void *p);
EXPORT bool mi_is_in_heap_region(const void *p) {
    return is_ours(p);
}
static LONG entry_calls[4];

EXPORT void _mi_redirect_entry(DWORD reason);
EXPORT void _mi_redirect_entry(DWORD reason) {
#    ifdef STANDIN_HOLES
    fail("stand-in: told of the process or a thread, and the redirection is not with it\n");
#    endif
    if (reason < 4)
        InterlockedIncrement(&entry_calls[reason]);
}
EXPORT LONG standin_entry_calls(DWORD reason);
EXPORT LONG standin_entry_calls(DWORD reason) {
    return entry_calls[reason];
}
#endif

// For the tests.
EXPORT bool standin_is_ours(const void *p);
EXPORT bool standin_is_ours(const void *p) {
    return is_ours(p);
}
EXPORT uint64_t standin_live_count(void);
EXPORT uint64_t standin_live_count(void) {
    enter();
    const uint64_t live = count - freed;
    leave();
    return live;
}
EXPORT void *standin_foreign(void);
EXPORT void *standin_foreign(void) {
    return foreign;
}

// As the real halves do: asks every redirect DLL that is in the process.
static void start(void) {
    static const char *const names[] = {"mimalloc-redirect.dll", "mimalloc-redirect32.dll",
                                        "mimalloc-redirect-faults.dll",
                                        "mimalloc-redirect-faults32.dll", "other-name.dll"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const HMODULE m = GetModuleHandleA(names[i]);
        const FARPROC init = (m == NULL ? NULL : GetProcAddress(m, "mi_allocator_init"));
        const char *message = NULL;
        if (init != NULL)
            (void)((bool (*)(const char **))(uintptr_t)init)(&message);
    }
}

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
    (void)self;
    (void)reserved;
    if (reason == DLL_PROCESS_ATTACH)
        start();
    return TRUE;
}
