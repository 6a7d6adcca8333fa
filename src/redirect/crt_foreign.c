#include "redirect/crt_foreign.h"
#include "redirect/allocator.h"
#include "redirect/proof.h"
#include "redirect/report.h"
#include "redirect/turn.h"

enum { CRT_EINVAL = 22, CRT_ENOMEM = 12, DEBUG_NORMAL_BLOCK = 1, HEAPS_FEW = 64 };

// The first use of _errno in a thread makes the thread's data, with the CRT's own calloc, which is
// ours; when there is no memory for that, the calloc would ask for _errno again, without end.
void mi_foreign_set_errno(mi_crt_t *crt, int value) {
    if (crt->own.errno_of == NULL || !mi_crt_is_attached(crt) || !mi_turn_begin())
        return;
    int *place = crt->own.errno_of();
    mi_turn_end();
    if (place != NULL)
        *place = value;
}

void mi_foreign_invalid_argument(mi_crt_t *crt) {
    mi_foreign_set_errno(crt, CRT_EINVAL);
    if (crt->own.invalid_parameter != NULL && mi_crt_is_attached(crt))
        crt->own.invalid_parameter();
}

bool mi_foreign_new_handler(mi_crt_t *crt, size_t size) {
    if (crt->own.call_new_handler == NULL || !mi_crt_is_attached(crt))
        return false;
    return crt->own.call_new_handler(size) != 0;
}

bool mi_foreign_no_memory(mi_crt_ctx_t *ctx, size_t size) {
    mi_crt_t *crt = mi_crt_of(ctx);
    const bool has_mode = (crt->own.query_new_mode != NULL && mi_crt_is_attached(crt) &&
                           crt->own.query_new_mode() != 0);
    if (has_mode && mi_foreign_new_handler(crt, size))
        return true;
    mi_foreign_set_errno(crt, CRT_ENOMEM);
    return false;
}

// Nobody says when a CRT has been told to detach while the process ends, and some destroy their
// heap then.
static bool may_have_ended(const mi_crt_t *crt) {
    const mi_nt_module_t *m = crt->module_opt;
    return RtlDllShutdownInProgress() || m == NULL || (m->flags & MI_NT_MODULE_ATTACHED) == 0;
}

// The heaps of the process, however many.
typedef struct heaps_s {
    HANDLE few[HEAPS_FEW];
    HANDLE *all; // few, or memory of its own
    DWORD count;
} heaps_t;

static void heaps_close(heaps_t *h) {
    if (h->all != h->few)
        (void)VirtualFree(h->all, 0, MEM_RELEASE);
}

// Where there is no room for all of them, the system writes none.
static void heaps_open(heaps_t *h) {
    DWORD room = HEAPS_FEW;
    h->all = h->few;
    h->count = GetProcessHeaps(room, h->all);
    while (h->count > room) {
        room = h->count + HEAPS_FEW; // others may come meanwhile
        heaps_close(h);
        h->all = (HANDLE *)VirtualAlloc(NULL, room * sizeof(HANDLE), MEM_RESERVE | MEM_COMMIT,
                                        PAGE_READWRITE);
        if (h->all == NULL) {
            *h = (heaps_t){.all = h->few};
            return;
        }
        h->count = GetProcessHeaps(room, h->all);
    }
}

static bool is_heap(HANDLE heap) {
    heaps_t heaps;
    bool is_one = false;
    heaps_open(&heaps);
    for (DWORD i = 0; i < heaps.count; i++)
        is_one |= (heaps.all[i] == heap);
    heaps_close(&heaps);
    return is_one;
}

// The heap that a CRT allocates from; NULL = it does not tell, or has none any more.
static HANDLE crt_heap(const mi_crt_t *crt) {
    if (crt == NULL || crt->own.heap_handle == NULL || crt->state == MI_CRT_UNLOADED)
        return NULL;
    const HANDLE heap = (HANDLE)crt->own.heap_handle();
    return may_have_ended(crt) && !is_heap(heap) ? NULL : heap;
}

// A read there neither faults nor uses up somebody's guard page.
static bool is_readable(uintptr_t at) {
    MEMORY_BASIC_INFORMATION info;
    if (at < 0x10000 || VirtualQuery((const void *)at, &info, sizeof(info)) == 0)
        return false;
    return info.State == MEM_COMMIT && (info.Protect & (PAGE_NOACCESS | PAGE_GUARD)) == 0;
}

// HeapValidate reads the block's header; it answers false, and does not fault, for what is no
// block.
static bool heap_has(HANDLE heap, const void *p) {
    return heap != NULL && ((uintptr_t)p & (2 * sizeof(void *) - 1)) == 0 &&
           HeapValidate(heap, 0, p);
}

// The heap that a block belongs to: the CRT's own first, then the process heap, then any other.
static HANDLE heap_of(const mi_crt_t *crt, const void *p) {
    // HeapValidate may look at the header below the block, and would swallow a guard page there.
    if ((uintptr_t)p < 0x10000 || !is_readable((uintptr_t)p - 2 * sizeof(void *)))
        return NULL;
    const HANDLE own = crt_heap(crt);
    if (heap_has(own, p))
        return own;
    const HANDLE process = GetProcessHeap();
    if (process != own && heap_has(process, p))
        return process;
    HANDLE found = NULL;
    heaps_t heaps;
    heaps_open(&heaps);
    for (DWORD i = 0; i < heaps.count && found == NULL; i++)
        if (heaps.all[i] != own && heaps.all[i] != process && heap_has(heaps.all[i], p))
            found = heaps.all[i];
    heaps_close(&heaps);
    return found;
}

// Does the debug heap of this CRT know the block? Its own function looks for the header.
static bool debug_heap_has(const mi_crt_t *crt, const void *p) {
    if (crt->own.is_valid_heap_pointer == NULL)
        return false;
    if (crt->own.heap_handle != NULL && crt_heap(crt) == NULL)
        return false; // destroyed: the header would be read from no memory
    return crt->own.is_valid_heap_pointer(p) != 0;
}

// The debug CRT that made the block, or NULL.
static mi_crt_t *debug_crt_of(mi_crt_t *crt, const void *p) {
    if ((uintptr_t)p < 0x10000)
        return NULL;
    if (debug_heap_has(crt, p))
        return crt;
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next))
        if (c != crt && mi_crt_is_engaged(c) && debug_heap_has(c, p))
            return c;
    return NULL;
}

// Under which type a debug CRT lets a block go: it insists on the block's own.
static int type_of(const mi_crt_t *owner, const void *p) {
    const int type = (owner->own.report_block_type != NULL ? owner->own.report_block_type(p) : -1);
    return type == -1 ? DEBUG_NORMAL_BLOCK : type;
}

static void unknown(mi_crt_t *crt, const void *p, const char *what) {
    if (mi_fetch_add_relaxed(&crt->unknown_pointers, 1) == 0)
        mi_report_unknown_pointer(crt->name, p, what);
}

void mi_foreign_free(mi_crt_ctx_t *ctx, void *p) {
    mi_crt_t *crt = mi_crt_of(ctx);
    if (mi_proof_is_probe(crt, p))
        return;
    const DWORD error = GetLastError(); // kept, here and in the aligned form, as the CRT does
    const HANDLE heap = heap_of(crt, p);
    if (heap != NULL) {
        mi_fetch_add_relaxed(&crt->foreign_frees, 1);
        (void)HeapFree(heap, 0, p);
    } else {
        mi_crt_t *owner = debug_crt_of(crt, p);
        if (owner != NULL) {
            mi_fetch_add_relaxed(&crt->foreign_frees, 1);
            owner->own.free_dbg(p, type_of(owner, p));
        } else {
            unknown(crt, p, "freed");
        }
    }
    SetLastError(error);
}

size_t mi_foreign_msize(mi_crt_ctx_t *ctx, void *p) {
    mi_crt_t *crt = mi_crt_of(ctx);
    if (p == NULL) {
        mi_foreign_invalid_argument(crt);
        return (size_t)-1;
    }
    const HANDLE heap = heap_of(crt, p);
    if (heap != NULL) {
        mi_fetch_add_relaxed(&crt->foreign_sizes, 1);
        return HeapSize(heap, 0, p);
    }
    mi_crt_t *owner = debug_crt_of(crt, p);
    if (owner != NULL)
        return owner->own.msize_dbg(p, type_of(owner, p));
    unknown(crt, p, "measured");
    return (size_t)-1;
}

void *mi_foreign_realloc(mi_crt_ctx_t *ctx, void *p, size_t size) {
    mi_crt_t *crt = mi_crt_of(ctx);
    if (size == 0) {
        mi_foreign_free(ctx, p);
        return NULL;
    }
    const size_t old_size = mi_foreign_msize(ctx, p);
    if (old_size == (size_t)-1)
        return NULL;
    void *q = mi_alloc.crt_malloc(size, ctx);
    if (q == NULL)
        return NULL;
    memcpy(q, p, old_size < size ? old_size : size);
    mi_foreign_free(ctx, p);
    mi_fetch_add_relaxed(&crt->foreign_reallocs, 1);
    return q;
}

void *mi_foreign_expand(mi_crt_t *crt, void *p, size_t size) {
    const HANDLE heap = heap_of(crt, p);
    if (heap != NULL) // never to nothing, as the Microsoft CRTs do it
        return HeapReAlloc(heap, HEAP_REALLOC_IN_PLACE_ONLY, p, size == 0 ? 1 : size);
    mi_crt_t *owner = debug_crt_of(crt, p);
    if (owner != NULL)
        return owner->own.msize_dbg(p, type_of(owner, p)) >= size ? p : NULL;
    unknown(crt, p, "resized");
    return NULL;
}

// The aligned functions of a release CRT store the start of the heap block in the aligned word
// below p. The page below p may be missing when p is no such block.
static void *aligned_start(const void *p) {
    const uintptr_t word = ((uintptr_t)p & ~(sizeof(void *) - 1)) - sizeof(void *);
    if ((uintptr_t)p < 0x10000 || !is_readable(word))
        return NULL;
    void *start = *(void *const *)word;
    return (uintptr_t)start <= word ? start : NULL;
}

// The debug CRT whose aligned functions made the block, or NULL. They keep its start one or two
// words below it, the second when guard bytes lie between; the start is a block of the debug heap.
static mi_crt_t *debug_aligned_owner(mi_crt_t *crt, const void *p) {
    const uintptr_t aligned = (uintptr_t)p & ~(sizeof(void *) - 1);
    for (unsigned words = 1; words <= 2 && (uintptr_t)p >= 0x10000; words++) {
        const uintptr_t word = aligned - words * sizeof(void *);
        if (!is_readable(word))
            return NULL;
        const void *start = *(void *const *)word;
        mi_crt_t *owner = ((uintptr_t)start <= word ? debug_crt_of(crt, start) : NULL);
        if (owner != NULL)
            return owner;
    }
    return NULL;
}

void mi_foreign_aligned_free(mi_crt_t *crt, void *p) {
    if (mi_proof_is_probe(crt, p))
        return;
    const DWORD error = GetLastError();
    void *start = aligned_start(p);
    const HANDLE heap = (start == NULL ? NULL : heap_of(crt, start));
    mi_crt_t *owner = (heap == NULL ? debug_aligned_owner(crt, p) : NULL);
    if (heap != NULL) {
        mi_fetch_add_relaxed(&crt->foreign_frees, 1);
        (void)HeapFree(heap, 0, start);
    } else if (owner != NULL && owner->own.aligned_free_dbg != NULL) {
        mi_fetch_add_relaxed(&crt->foreign_frees, 1);
        owner->own.aligned_free_dbg(p);
    } else {
        unknown(crt, p, "freed as an aligned block");
    }
    SetLastError(error);
}

size_t mi_foreign_aligned_msize(mi_crt_t *crt, void *p, size_t align, size_t offset) {
    void *start = aligned_start(p);
    const HANDLE heap = (start == NULL ? NULL : heap_of(crt, start));
    mi_crt_t *owner = (heap == NULL ? debug_aligned_owner(crt, p) : crt);
    if (owner == NULL) {
        unknown(crt, p, "measured as an aligned block");
        return (size_t)-1;
    }
    // How much of the block belongs to the caller, each CRT knows for itself.
    if (owner->own.aligned_msize != NULL)
        return owner->own.aligned_msize(p, align, offset);
    if (heap != NULL) {
        // What the UCRT adds to the size that is asked for: the word, what offset needs, and room
        // to align.
        const size_t word = sizeof(void *);
        const size_t gap = (0 - offset) & (word - 1);
        const size_t extra = word + gap + (align > word ? align : word) - 1;
        const size_t all = HeapSize(heap, 0, start);
        // Wine's CRT adds nothing for the offset, but one more byte. The larger answer, as far as
        // there is memory: too much costs a longer copy, too little would lose bytes when the block
        // is moved.
        const size_t least = (align > word ? align : word) + word;
        const size_t there = all - ((uintptr_t)p - (uintptr_t)start);
        const size_t added = extra < least ? extra : least;
        const size_t size = all > added ? all - added : 0;
        return there > all ? 0 : size < there ? size : there;
    }
    return (size_t)-1;
}
