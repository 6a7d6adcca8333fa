// Allocation beyond the fast path: zeroing, alignment, padding. Runs on the calling thread's own
// thread heap.
#include "core/alloc.h"

#include "core/alloc_inline.h"
#include "core/arena_head.h"
#include "core/harden.h"
#include "core/heap.h"
#include "core/life.h"
#include "core/limits.h"
#include "os/os.h"

// Is so little of a block in memory that giving it back is cheaper than bringing the rest in? To
// ask costs about as much as giving back, so a yes holds for the page's next few blocks.
static bool alloc_is_sparse(mi_theap_t *theap, const mi_page_t *page) {
    if (theap->sparse_page == page && theap->sparse_left != 0) {
        theap->sparse_left--;
        return true;
    }
    if (!mi_page_is_sparse(page))
        return false;
    theap->sparse_page = page;
    theap->sparse_left = MI_SPARSE_TIMES;
    return true;
}

// Zeroes what a slow path returned, a block for so many bytes, unless it is fresh: then only its
// first word was used, for a link.
static void alloc_clear(mi_theap_t *theap, uint8_t *p, size_t wanted, bool is_zero) {
    mi_page_t *const page = mi_page_map_find(p);
    if (wanted > MI_SHARED_MAX && wanted <= MI_CLASSED_MAX && page->class_index != MI_CLASS_HUGE)
        mi_page_shorten(page, mi_class_of_coarse(wanted));
    const size_t bytes = (is_zero ? sizeof(mi_block_t) : page->block_bytes);
    const size_t whole = mi_align_down(bytes, mi_os_page_bytes());
    bool is_committed;
    const bool is_purged = bytes >= MI_ASK_RESIDENT_MIN && page->reserved == 1 &&
                           alloc_is_sparse(theap, page) &&
                           mi_os_purge(p, whole, &is_committed) == 0 && is_committed;
    const size_t from = (is_purged ? whole : 0);
    mi_memzero(p + from, bytes - from);
    if (page->reserved == 1)
        page->is_bare = is_zero || is_purged;
}

// What kind of block is wanted.
enum { ALLOC_ZERO = 1, ALLOC_EXACT = 2 };

static bool alloc_is_exact(unsigned how) {
    return !MI_DEBUG && (how & ALLOC_EXACT) != 0; // pads tell the size in debug builds
}

// A block of at least block_bytes, of which size are the caller's.
static void *alloc_block(mi_theap_t *theap, size_t size, size_t block_bytes, unsigned how) {
    bool is_zero = false;
    if (theap == NULL)
        return NULL;
    void *const p =
        mi_theap_alloc(theap, block_bytes, alloc_is_exact(how) ? MI_CLASS_EXACT : 0, &is_zero);
    if (p == NULL)
        return NULL;
    if ((how & ALLOC_ZERO) != 0)
        alloc_clear(theap, (uint8_t *)p, block_bytes, is_zero);
    if (alloc_is_exact(how))
        (void)mi_exact_set(mi_page_map_find(p), p, size);
    if (MI_DEBUG)
        mi_pad_open(mi_page_map_find(p), p, size, (how & ALLOC_ZERO) != 0);
    return p;
}

static void *alloc_in(mi_theap_t *theap, size_t size, unsigned how) {
    return size > MI_REQUEST_MAX ? NULL : alloc_block(theap, size, mi_padded(size), how);
}

// A plain allocation: a function of its own, so that the next needs no frame.
static MI_NOINLINE void *alloc_by_default(size_t size, unsigned how) {
    return alloc_in(mi_heap_thread_part(NULL), size, how);
}

void *mi_core_malloc(size_t size, bool zero) {
    if (MI_THREAD_SLOT_MAY_BE_FAR && mi_thread_is_far() && !zero) {
        void *const p = mi_malloc_try_in(mi_theap_get(), size);
        if (p != NULL)
            return p;
    }
    mi_theap_t *const theap = mi_theap_real();
    if (MI_DEBUG || zero || theap == NULL || theap->default_heap != NULL || size > MI_REQUEST_MAX)
        return alloc_by_default(size, zero ? ALLOC_ZERO : 0);
    return mi_theap_alloc(theap, mi_padded(size), 0, NULL);
}

void *mi_core_malloc_exact(size_t size, bool zero) {
    if (MI_THREAD_SLOT_MAY_BE_FAR && mi_thread_is_far() && !zero) {
        void *const p = mi_malloc_exact_try_in(mi_theap_get(), size);
        if (p != NULL)
            return p;
    }
    return alloc_by_default(size, ALLOC_EXACT | (zero ? ALLOC_ZERO : 0));
}

void *mi_core_heap_malloc(mi_heap_t *heap, size_t size, bool zero) {
    return alloc_in(mi_heap_thread_part(heap), size, zero);
}

// One block with a start that is aligned beyond a slice.
static void *alloc_wide_aligned(mi_theap_t *theap, size_t size, size_t align, unsigned how) {
    const bool zero = (how & ALLOC_ZERO) != 0;
    const uint32_t was = mi_theap_enter(theap);
    mi_page_t *const page = mi_page_new(theap, MI_CLASS_HUGE, mi_padded(size) + (size == 0), align);
    void *p = NULL;
    if (page != NULL) {
        p = page->start;
        mi_page_fill(page);
        if (zero)
            alloc_clear(theap, (uint8_t *)p, size, page->is_zero);
        if (alloc_is_exact(how))
            (void)mi_exact_set(page, p, size);
        mi_pad_open(page, p, size, zero);
        page->is_zero = false;
    }
    mi_theap_leave(theap, was);
    return p;
}

// A block that is larger than asked for, and a pointer into it.
static void *alloc_interior(mi_theap_t *theap, size_t size, size_t align, size_t offset,
                            unsigned how) {
    uint8_t *const p = (uint8_t *)alloc_in(theap, size + align - 1, how);
    if (p == NULL)
        return NULL;
    const uintptr_t at = (uintptr_t)p + offset;
    const size_t extra = (size_t)(mi_align_up(at, align) - at);
    mi_page_t *const page = mi_page_map_find(p);
    if (extra != 0)
        mi_page_set_interior(page);
    if (alloc_is_exact(how))
        (void)mi_exact_set(page, p, extra + size);
    mi_pad_open(page, p, extra + size, true);
    return p + extra;
}

static void *alloc_aligned_in(mi_theap_t *theap, size_t size, size_t align, size_t offset,
                              unsigned how) {
    size_t sum;
    if (theap == NULL || !mi_is_pow2(align) || !mi_add_ok(size, align, &sum) ||
        sum > MI_REQUEST_MAX)
        return NULL;
    const size_t phase = offset & (align - 1);
    if (phase != 0)
        return alloc_interior(theap, size, align, phase, how);
    if (align > MI_SLICE_BYTES)
        return alloc_wide_aligned(theap, size, align, how);
    // Blocks of a class whose size is a multiple of align start at multiples of it.
    if (align <= MI_GRANULE_BYTES)
        return alloc_in(theap, size, how);
    return alloc_block(theap, size, mi_align_up(mi_padded(size) + (size == 0), align), how);
}

void *mi_core_malloc_aligned(size_t size, size_t align, size_t offset, bool zero) {
    return alloc_aligned_in(mi_heap_thread_part(NULL), size, align, offset, zero);
}

void *mi_core_malloc_aligned_exact(size_t size, size_t align, size_t offset, bool zero) {
    return alloc_aligned_in(mi_heap_thread_part(NULL), size, align, offset,
                            ALLOC_EXACT | (zero ? ALLOC_ZERO : 0));
}

void *mi_core_heap_malloc_aligned(mi_heap_t *heap, size_t size, size_t align, size_t offset,
                                  bool zero) {
    return alloc_aligned_in(mi_heap_thread_part(heap), size, align, offset, zero);
}

size_t mi_core_good_size(size_t size) {
    if (size <= MI_CLASSED_MAX)
        return mi_class_bytes(mi_class_of(size));
    if (size > MI_REQUEST_MAX)
        return size;
    return mi_align_up(size + MI_GUARD_BYTES, MI_SLICE_BYTES) - MI_GUARD_BYTES;
}
