#include "debug_heap.h"

#define HEAD_BYTES ((sizeof(head_t) + 4 + 15) & ~(size_t)15) // the last four are the guard
#define MAGIC      0xFEEDC0DEu

static CRITICAL_SECTION lock;
static head_t *newest;
static mem_state_t totals;
#ifdef SYNTH_OLD
// Before Visual Studio 2005: what the program may set is exported data, and nobody tells how often
// the heap is checked but the flags.
API int _crtDbgFlag = ALLOC_MEM;
API long _crtBreakAlloc = -1;
#    define flags       _crtDbgFlag
#    define break_alloc _crtBreakAlloc
#else
static int flags = ALLOC_MEM;
static long break_alloc = -1;
#endif
static int check_count, unchecked;
static long request_count;
static alloc_hook_t alloc_hook;
static dump_client_t dump_client;
static LONG bad; // damaged blocks that were freed

head_t *synth_newest(void) {
    return newest;
}

mem_state_t *synth_totals(void) {
    return &totals;
}

int synth_flags(void) {
    return flags;
}

dump_client_t synth_dump_client(void) {
    return dump_client;
}

void *synth_block_of(head_t *h) {
    return (uint8_t *)h + HEAD_BYTES;
}

static head_t *head_of(const void *p) {
    return (head_t *)((uintptr_t)p - HEAD_BYTES);
}

// Tells a block of the debug heap by its header, if there is one.
int impl_is_valid(const void *p) {
    return p != NULL && synth_raw_is_valid(head_of(p)) && head_of(p)->magic == MAGIC;
}

int synth_is_intact(const head_t *h) {
    const uint8_t *b = (const uint8_t *)h + HEAD_BYTES;
    for (int i = 0; i < 4; i++)
        if (b[i - 4] != 0xFD || b[h->size + (size_t)i] != 0xFD)
            return 0;
    return h->magic == MAGIC;
}

static void count(int type, size_t size, int sign) {
    totals.counts[type & 0xFFFF] += (size_t)sign;
    totals.sizes[type & 0xFFFF] += (size_t)sign * size;
    totals.newest = NULL;
}

static size_t live(void) {
    size_t bytes = 0;
    for (int i = 0; i < BLOCK_TYPES; i++)
        bytes += totals.sizes[i];
    return bytes;
}

static void link_block(head_t *h) {
    EnterCriticalSection(&lock);
    h->prev = NULL;
    h->next = newest;
    if (newest != NULL)
        newest->prev = h;
    newest = h;
    count(h->type, h->size, 1);
    totals.total += h->size;
    if (live() > totals.high)
        totals.high = live();
    LeaveCriticalSection(&lock);
}

static void unlink_block(head_t *h) {
    EnterCriticalSection(&lock);
    if (h->next != NULL)
        h->next->prev = h->prev;
    if (h->prev != NULL)
        h->prev->next = h->next;
    else
        newest = h->next;
    count(h->type, h->size, -1);
    LeaveCriticalSection(&lock);
}

API int _CrtCheckMemory(void);

void *impl_malloc_dbg(size_t size, int type, const char *file, int line) {
    if (check_count != 0 && ++unchecked >= check_count) {
        unchecked = 0;
        (void)_CrtCheckMemory();
    }
    const long request = InterlockedIncrement(&request_count);
    if (request == break_alloc)
        DebugBreak();
    if (alloc_hook != NULL &&
        !alloc_hook(HOOK_ALLOC, NULL, size, type, request, (const unsigned char *)file, line))
        return NULL;
    if (size > (size_t)-1 - 256)
        return NULL;
    uint8_t *p = (uint8_t *)synth_raw_alloc(size + HEAD_BYTES + 4);
    if (p == NULL)
        return NULL;
    head_t *h = (head_t *)(void *)p;
    *h = (head_t){NULL, NULL, (char *)(uintptr_t)file, size, line, type, request, MAGIC};
    if ((flags & ALLOC_MEM) == 0)
        h->type = IGNORE_BLOCK;
    FillMemory(p + HEAD_BYTES - 4, 4, 0xFD);
    FillMemory(p + HEAD_BYTES + size, 4, 0xFD);
    FillMemory(p + HEAD_BYTES, size, 0xCD);
    link_block(h);
    return p + HEAD_BYTES;
}

void impl_free_dbg(void *p, int type) {
    if (p == NULL)
        return;
    head_t *h = head_of(p);
    if (!impl_is_valid(p) || !synth_is_intact(h)) {
        InterlockedIncrement(&bad);
        return;
    }
    if (alloc_hook != NULL && !alloc_hook(HOOK_FREE, p, 0, h->type, 0, NULL, 0))
        return;
    // A block goes under its own type; one of the CRT may go as a normal one.
    if (type != h->type && h->type != IGNORE_BLOCK &&
        !(type == NORMAL_BLOCK && h->type == CRT_BLOCK))
        InterlockedIncrement(&bad);
    unlink_block(h);
    FillMemory(h, h->size + HEAD_BYTES + 4, 0xDD);
    synth_raw_free(h);
}

size_t impl_msize_dbg(const void *p, int type) {
    (void)type;
    return head_of(p)->size;
}

// For the tests: blocks of the debug heap, and how many came back damaged or under another type.
API LONG synth_debug_live(void);
API LONG synth_debug_live(void) {
    LONG n = 0;
    for (const head_t *h = newest; h != NULL; h = h->next)
        n++;
    return n;
}
API LONG synth_debug_bad(void);
API LONG synth_debug_bad(void) {
    return bad;
}

// ---- what the debug CRT keeps for the program ----

API int _CrtSetDbgFlag(int flag);
API int _CrtSetDbgFlag(int flag) {
    const int before = flags;
    if (flag != -1) {
        flags = flag;
        check_count = ((flag & CHECK_ALWAYS) != 0 ? 1 : (flag >> 16) & 0xFFFF);
        unchecked = 0;
    }
    return before;
}

#ifndef SYNTH_OLD
API int *__p__crtDbgFlag(void);
API int *__p__crtDbgFlag(void) {
    return &flags;
}

API long *__p__crtBreakAlloc(void);
API long *__p__crtBreakAlloc(void) {
    synth_called();
    return &break_alloc;
}
#endif

API long _CrtSetBreakAlloc(long number);
API long _CrtSetBreakAlloc(long number) {
    const long before = break_alloc;
    break_alloc = number;
    return before;
}

API alloc_hook_t _CrtSetAllocHook(alloc_hook_t hook);
API alloc_hook_t _CrtSetAllocHook(alloc_hook_t hook) {
    const alloc_hook_t before = alloc_hook;
    alloc_hook = hook;
    return before;
}

API alloc_hook_t _CrtGetAllocHook(void);
API alloc_hook_t _CrtGetAllocHook(void) {
    synth_called();
    return alloc_hook;
}

API dump_client_t _CrtSetDumpClient(dump_client_t client);
API dump_client_t _CrtSetDumpClient(dump_client_t client) {
    const dump_client_t before = dump_client;
    dump_client = client;
    return before;
}

API dump_client_t _CrtGetDumpClient(void);
API dump_client_t _CrtGetDumpClient(void) {
    synth_called();
    return dump_client;
}

#ifndef SYNTH_OLD
API int _CrtSetCheckCount(int n);
API int _CrtSetCheckCount(int n) {
    const int before = check_count;
    check_count = n;
    unchecked = 0;
    return before;
}

API int _CrtGetCheckCount(void);
API int _CrtGetCheckCount(void) {
    synth_called();
    return check_count;
}
#endif

// ---- the _dbg forms that entries_x64.S does not make ----

API void *_calloc_dbg(size_t n, size_t size, int type, const char *file, int line);
API void *_calloc_dbg(size_t n, size_t size, int type, const char *file, int line) {
    void *p = impl_malloc_dbg(n * size, type, file, line);
    if (p != NULL)
        ZeroMemory(p, n * size);
    return p;
}

API void *_realloc_dbg(void *p, size_t size, int type, const char *file, int line);
API void *_realloc_dbg(void *p, size_t size, int type, const char *file, int line) {
    if (p == NULL)
        return impl_malloc_dbg(size, type, file, line);
    void *q = (size == 0 ? NULL : impl_malloc_dbg(size, type, file, line));
    if (q != NULL)
        CopyMemory(q, p, head_of(p)->size < size ? head_of(p)->size : size);
    if (q != NULL || size == 0)
        impl_free_dbg(p, type);
    return q;
}

API void *_recalloc_dbg(void *p, size_t n, size_t size, int type, const char *file, int line);
API void *_recalloc_dbg(void *p, size_t n, size_t size, int type, const char *file, int line) {
    const size_t before = (p == NULL ? 0 : head_of(p)->size);
    uint8_t *q = (uint8_t *)_realloc_dbg(p, n * size, type, file, line);
    if (q != NULL && n * size > before)
        ZeroMemory(q + before, n * size - before);
    return q;
}

API void *_expand_dbg(void *p, size_t size, int type, const char *file, int line);
API void *_expand_dbg(void *p, size_t size, int type, const char *file, int line) {
    (void)type;
    (void)file;
    (void)line;
    return impl_expand(p, size);
}

API void *_aligned_offset_malloc_dbg(size_t size, size_t align, size_t offset, const char *file,
                                     int line);
API void *_aligned_offset_malloc_dbg(size_t size, size_t align, size_t offset, const char *file,
                                     int line) {
    (void)file;
    (void)line;
    return impl_aligned_offset_malloc(size, align, offset);
}

API void *_aligned_malloc_dbg(size_t size, size_t align, const char *file, int line);
API void *_aligned_malloc_dbg(size_t size, size_t align, const char *file, int line) {
    return _aligned_offset_malloc_dbg(size, align, 0, file, line);
}

API void *_aligned_realloc_dbg(void *p, size_t size, size_t align, const char *file, int line);
API void *_aligned_realloc_dbg(void *p, size_t size, size_t align, const char *file, int line) {
    (void)file;
    (void)line;
    return impl_aligned_offset_realloc(p, size, align, 0);
}

API void *_aligned_recalloc_dbg(void *p, size_t n, size_t size, size_t align, const char *file,
                                int line);
API void *_aligned_recalloc_dbg(void *p, size_t n, size_t size, size_t align, const char *file,
                                int line) {
    (void)file;
    (void)line;
    return impl_aligned_offset_recalloc(p, n, size, align, 0);
}

API void *_aligned_offset_realloc_dbg(void *p, size_t size, size_t align, size_t offset,
                                      const char *file, int line);
API void *_aligned_offset_realloc_dbg(void *p, size_t size, size_t align, size_t offset,
                                      const char *file, int line) {
    (void)file;
    (void)line;
    return impl_aligned_offset_realloc(p, size, align, offset);
}

#if MI_ARCH_X64
#    define NEW_DBG "?\?2@YAPEAX_KHPEBDH@Z"
#else
#    define NEW_DBG "?\?2@YAPAXIHPBDH@Z"
#endif
API void *operator_new_dbg(size_t size, int type, const char *file, int line) __asm__(NEW_DBG);
API void *operator_new_dbg(size_t size, int type, const char *file, int line) {
    return impl_malloc_dbg(size == 0 ? 1 : size, type, file, line);
}

#if MI_ARCH_X86
// ---- entries as the compiler makes them: the plain functions hand over to the _dbg forms ----

#    define ENTRY API __attribute__((noinline))

ENTRY void *_malloc_dbg(size_t size, int type, const char *file, int line);
ENTRY void *_malloc_dbg(size_t size, int type, const char *file, int line) {
    return impl_malloc_dbg(size, type, file, line);
}

ENTRY void _free_dbg(void *p, int type);
ENTRY void _free_dbg(void *p, int type) {
    impl_free_dbg(p, type);
}

ENTRY size_t _msize_dbg(void *p, int type);
ENTRY size_t _msize_dbg(void *p, int type) {
    return impl_msize_dbg(p, type);
}

ENTRY void *malloc(size_t size);
ENTRY void *malloc(size_t size) {
    return _malloc_dbg(size, NORMAL_BLOCK, NULL, 0);
}

ENTRY void *calloc(size_t n, size_t size);
ENTRY void *calloc(size_t n, size_t size) {
    return impl_calloc(n, size);
}

ENTRY void *realloc(void *p, size_t size);
ENTRY void *realloc(void *p, size_t size) {
    return impl_realloc(p, size);
}

ENTRY void free(void *p);
ENTRY void free(void *p) {
    _free_dbg(p, NORMAL_BLOCK);
}

ENTRY size_t _msize(void *p);
ENTRY size_t _msize(void *p) {
    return _msize_dbg(p, NORMAL_BLOCK);
}

ENTRY void *_recalloc(void *p, size_t n, size_t size);
ENTRY void *_recalloc(void *p, size_t n, size_t size) {
    return impl_recalloc(p, n, size);
}

ENTRY void *_expand(void *p, size_t size);
ENTRY void *_expand(void *p, size_t size) {
    return impl_expand(p, size);
}

ENTRY void _aligned_free(void *p);
ENTRY void _aligned_free(void *p) {
    impl_aligned_free(p);
}

ENTRY size_t _aligned_msize(void *p, size_t align, size_t offset);
ENTRY size_t _aligned_msize(void *p, size_t align, size_t offset) {
    return impl_aligned_msize(p, align, offset);
}

ENTRY void *_aligned_offset_malloc(size_t size, size_t align, size_t offset);
ENTRY void *_aligned_offset_malloc(size_t size, size_t align, size_t offset) {
    return impl_aligned_offset_malloc(size, align, offset);
}

ENTRY void *_aligned_malloc(size_t size, size_t align);
ENTRY void *_aligned_malloc(size_t size, size_t align) {
    return impl_aligned_offset_malloc(size, align, 0);
}

ENTRY void *_aligned_offset_realloc(void *p, size_t size, size_t align, size_t offset);
ENTRY void *_aligned_offset_realloc(void *p, size_t size, size_t align, size_t offset) {
    return impl_aligned_offset_realloc(p, size, align, offset);
}

ENTRY void *_aligned_realloc(void *p, size_t size, size_t align);
ENTRY void *_aligned_realloc(void *p, size_t size, size_t align) {
    return impl_aligned_offset_realloc(p, size, align, 0);
}

ENTRY int _CrtIsValidHeapPointer(const void *p);
ENTRY int _CrtIsValidHeapPointer(const void *p) {
    return impl_is_valid(p);
}

ENTRY void *_malloc_base(size_t size);
ENTRY void *_malloc_base(size_t size) {
    return impl_malloc(size);
}

ENTRY void _free_base(void *p);
ENTRY void _free_base(void *p) {
    impl_free(p);
}
#endif

API int _CrtDumpMemoryLeaks(void);

void synth_debug_main(DWORD reason) {
    if (reason == DLL_PROCESS_ATTACH)
        InitializeCriticalSection(&lock);
    // "Automatic leak checking at program exit through a call to _CrtDumpMemoryLeaks."
    if (reason == DLL_PROCESS_DETACH && (flags & LEAK_CHECK) != 0)
        (void)_CrtDumpMemoryLeaks();
}
