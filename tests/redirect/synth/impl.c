// The inside of a synthetic CRT: what the entries of entries_x64.S and entries_x86.S lead to. A
// heap of its own, the UCRT's layout of aligned blocks, and for the debug variant blocks with a
// header and guard bytes.
#include "base/base.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

static HANDLE heap;
static int errno_value; // of a thread for which there is no memory
static int new_mode;
static int is_over; // told to detach; the heap is gone, as in the CRTs before Visual Studio 2012
static int (*new_handler)(size_t);

#define API __declspec(dllexport)

void *memset(void *to, int value, size_t bytes);

static DWORD thread_slot;
static size_t thread_bytes = 64;
void *calloc(size_t n, size_t size); // the exported one

static LONG early_calls; // of functions that need what DllMain makes, before it ran

void synth_called(void);
void synth_called(void) {
    if (heap == NULL)
        InterlockedIncrement(&early_calls);
}

LONG crt_early_calls(void);
LONG crt_early_calls(void) {
    return early_calls;
}

static void (*volatile errno_hook)(void);

// For tests that stop, or kill, a thread that is inside.
void crt_set_errno_hook(void (*hook)(void));
void crt_set_errno_hook(void (*hook)(void)) {
    errno_hook = hook;
}

int *crt_errno(void);
int *crt_errno(void) {
    synth_called();
    if (errno_hook != NULL)
        errno_hook();
#ifdef SYNTH_DEBUG
    // No block for it: they are counted.
    static int of_thread[1024];
    static LONG threads;
    int *data = (heap == NULL || is_over ? &errno_value : (int *)TlsGetValue(thread_slot));
    if (data == NULL && threads < 1024) {
        data = &of_thread[(unsigned)(InterlockedIncrement(&threads) - 1) % 1024];
        TlsSetValue(thread_slot, data);
        *data = errno_value;
    }
    return data != NULL ? data : &errno_value;
#else
    // As in real CRTs, the first use in a thread makes its data, by this CRT's own function.
    int *data = (int *)TlsGetValue(thread_slot);
    if (data == NULL && !is_over) {
        data = (int *)calloc(1, thread_bytes);
        if (data != NULL) {
            TlsSetValue(thread_slot, data);
            *data = errno_value;
        }
    }
    return data != NULL && !is_over ? data : &errno_value;
#endif
}

static void set_errno(int value) {
    int *data = (is_over ? NULL : (int *)TlsGetValue(thread_slot));
    *(data != NULL ? data : &errno_value) = value;
}

// How much the data of a thread needs; for tests that let it fail.
void crt_set_thread_bytes(size_t bytes);
void crt_set_thread_bytes(size_t bytes) {
    thread_bytes = bytes;
}

intptr_t crt_get_heap_handle(void);
intptr_t crt_get_heap_handle(void) {
    return (intptr_t)heap;
}

int crt_is_over(void);
int crt_is_over(void) {
    return is_over;
}

int crt_callnewh(size_t size);
int crt_callnewh(size_t size) {
    synth_called();
    return new_handler != NULL ? new_handler(size) : 0;
}

int crt_query_new_mode(void);
int crt_query_new_mode(void) {
    synth_called();
    return new_mode;
}

int crt_set_new_mode(int mode);
int crt_set_new_mode(int mode) {
    const int before = new_mode;
    new_mode = mode;
    return before;
}

void *crt_set_new_handler(void *handler);
void *crt_set_new_handler(void *handler) {
    void *before = (void *)(uintptr_t)new_handler;
    new_handler = (int (*)(size_t))(uintptr_t)handler;
    return before;
}

void crt_initterm(void **first, void **last);
void crt_initterm(void **first, void **last) {
    (void)first;
    (void)last;
}

static void *raw_alloc(size_t size) {
    for (;;) {
        void *p = HeapAlloc(heap, 0, size == 0 ? 1 : size);
        if (p != NULL)
            return p;
        if (new_mode == 0 || !crt_callnewh(size)) {
            set_errno(12);
            return NULL;
        }
    }
}

#ifdef SYNTH_DEBUG
#    include "debug_heap.h"

void *synth_raw_alloc(size_t size) {
    return raw_alloc(size);
}

void synth_raw_free(void *p) {
    HeapFree(heap, 0, p);
}

int synth_raw_is_valid(const void *p) {
    return HeapValidate(heap, 0, p);
}

#    define ALLOC(size) impl_malloc_dbg((size), 1, NULL, 0)
#    define FREE(p)     impl_free_dbg((p), 1)
#    define MSIZE(p)    impl_msize_dbg((p), 1)
#else
#    define ALLOC(size) raw_alloc(size)
#    define FREE(p)     HeapFree(heap, 0, (p))
#    define MSIZE(p)    HeapSize(heap, 0, (p))
#endif

void *impl_malloc(size_t size);
void *impl_malloc(size_t size) {
    return ALLOC(size);
}

void *impl_calloc(size_t n, size_t size);
void *impl_calloc(size_t n, size_t size) {
    size_t bytes;
    if (!mi_mul_ok(n, size, &bytes))
        return NULL;
    void *p = ALLOC(bytes);
    if (p != NULL)
        ZeroMemory(p, bytes);
    return p;
}

void impl_free(void *p);
void impl_free(void *p) {
    if (p != NULL)
        FREE(p);
}

size_t impl_msize(void *p);
size_t impl_msize(void *p) {
    return MSIZE(p);
}

void *impl_realloc(void *p, size_t size);
void *impl_realloc(void *p, size_t size) {
    if (p == NULL)
        return ALLOC(size);
    if (size == 0) {
        FREE(p);
        return NULL;
    }
    void *q = ALLOC(size);
    if (q != NULL) {
        CopyMemory(q, p, MSIZE(p) < size ? MSIZE(p) : size);
        FREE(p);
    }
    return q;
}

void *impl_expand(void *p, size_t size);
void *impl_expand(void *p, size_t size) {
    return size <= MSIZE(p) ? p : NULL;
}

void *impl_recalloc(void *p, size_t n, size_t size);
void *impl_recalloc(void *p, size_t n, size_t size) {
    const size_t before = (p == NULL ? 0 : MSIZE(p));
    uint8_t *q = (uint8_t *)impl_realloc(p, n * size);
    if (q != NULL && n * size > before)
        ZeroMemory(q + before, n * size - before);
    return q;
}

// ---- aligned: the start of the block in the aligned word below; in the debug variant guard bytes
// lie between ----

#define WORD sizeof(void *)
#ifdef SYNTH_DEBUG
#    define PLACE (2 * WORD)
#else
#    define PLACE WORD
#endif

void *impl_aligned_offset_malloc(size_t size, size_t align, size_t offset);
void *impl_aligned_offset_malloc(size_t size, size_t align, size_t offset) {
    align = (align > WORD ? align : WORD) - 1;
    const size_t gap = (0 - offset) & (WORD - 1);
    uint8_t *start = (uint8_t *)ALLOC(PLACE + gap + align + size);
    if (start == NULL)
        return NULL;
    const uintptr_t p = (((uintptr_t)start + PLACE + gap + align + offset) & ~align) - offset;
    memset((void *)(p - gap - PLACE), 0xED, PLACE);
    *(void **)(p - gap - PLACE) = start;
    return (void *)p;
}

static void *aligned_start(const void *p) {
    return *(void **)((((uintptr_t)p & ~(WORD - 1)) - PLACE));
}

void impl_aligned_free(void *p);
void impl_aligned_free(void *p) {
    if (p != NULL)
        FREE(aligned_start(p));
}

size_t impl_aligned_msize(void *p, size_t align, size_t offset);
size_t impl_aligned_msize(void *p, size_t align, size_t offset) {
    const size_t gap = (0 - offset) & (WORD - 1);
    return MSIZE(aligned_start(p)) - gap - PLACE - ((align > WORD ? align : WORD) - 1);
}

void *impl_aligned_offset_realloc(void *p, size_t size, size_t align, size_t offset);
void *impl_aligned_offset_realloc(void *p, size_t size, size_t align, size_t offset) {
    if (p == NULL)
        return impl_aligned_offset_malloc(size, align, offset);
    void *q = impl_aligned_offset_malloc(size, align, offset);
    const size_t before = impl_aligned_msize(p, align, offset);
    if (q != NULL) {
        CopyMemory(q, p, before < size ? before : size);
        impl_aligned_free(p);
    }
    return q;
}

void *impl_aligned_offset_recalloc(void *p, size_t n, size_t size, size_t align, size_t offset);
void *impl_aligned_offset_recalloc(void *p, size_t n, size_t size, size_t align, size_t offset) {
    const size_t before = (p == NULL ? 0 : impl_aligned_msize(p, align, offset));
    uint8_t *q = (uint8_t *)impl_aligned_offset_realloc(p, n * size, align, offset);
    if (q != NULL && n * size > before)
        ZeroMemory(q + before, n * size - before);
    return q;
}

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
    (void)self;
    (void)reserved;
    if (reason == DLL_PROCESS_ATTACH) {
        heap = HeapCreate(0, 0, 0);
        thread_slot = TlsAlloc();
    }
#ifdef SYNTH_DEBUG
    synth_debug_main(reason);
#endif
    if (reason == DLL_PROCESS_DETACH) {
        is_over = 1;
        TlsFree(thread_slot);
        HeapDestroy(heap); // and whoever asks for the handle still gets it
    }
    return heap != NULL;
}
