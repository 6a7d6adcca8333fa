// The mi_ functions in the shape of POSIX, BSD and Windows C libraries, on every system.
#include "mimalloc.h"

#include "base/base.h"
#include "base/text.h"
#include "core/alloc.h"
#include "diag/message.h"
#include "entry/entry.h"
#include "os/os.h"

void *mi__expand(void *p, size_t newsize) mi_attr_noexcept {
    void *q = mi_expand(p, newsize);
    if (q == NULL)
        mi_platform_errno(MI_ENOMEM);
    return q;
}

size_t mi_malloc_size(const void *p) mi_attr_noexcept {
    return mi_usable_size(p);
}

size_t mi_malloc_good_size(size_t size) mi_attr_noexcept {
    return mi_good_size(size);
}

size_t mi_malloc_usable_size(const void *p) mi_attr_noexcept {
    return mi_usable_size(p);
}

// posix_memalign never sets errno, hence the core directly.
int mi_posix_memalign(void **p, size_t alignment, size_t size) mi_attr_noexcept {
    if (p == NULL || alignment % sizeof(void *) != 0 || !mi_is_pow2(alignment))
        return MI_EINVAL;
    if (MI_UNLIKELY(!mi_load_acquire(&mi_entry_is_ready)))
        mi_entry_init();
    size_t all;
    void *q = NULL;
    if (mi_add_ok(size, alignment, &all) && all <= MI_REQUEST_MAX)
        q = mi_core_malloc_aligned(size, alignment, 0, false);
    if (q == NULL) {
        mi_message_no_memory(size);
        return MI_ENOMEM;
    }
    *p = q;
    return 0;
}

void *mi_memalign(size_t alignment, size_t size) mi_attr_noexcept {
    return mi_malloc_aligned(size, alignment);
}

void *mi_aligned_alloc(size_t alignment, size_t size) mi_attr_noexcept {
    return mi_malloc_aligned(size, alignment);
}

void *mi_valloc(size_t size) mi_attr_noexcept {
    return mi_malloc_aligned(size, mi_os_page_bytes());
}

void *mi_pvalloc(size_t size) mi_attr_noexcept {
    const size_t page_bytes = mi_os_page_bytes();
    if (size > MI_REQUEST_MAX - page_bytes)
        return mi_no_memory(size);
    return mi_malloc_aligned(mi_align_up(size + (size == 0), page_bytes), page_bytes);
}

void *mi_reallocarray(void *p, size_t count, size_t size) mi_attr_noexcept {
    return mi_reallocn(p, count, size);
}

int mi_reallocarr(void *p, size_t count, size_t size) mi_attr_noexcept {
    if (p == NULL) {
        mi_platform_errno(MI_EINVAL);
        return MI_EINVAL;
    }
    void *old;
    mi_memcpy(&old, p, sizeof(old)); // p points to a pointer of any type
    void *fresh = mi_reallocn(old, count, size);
    if (fresh == NULL)
        return MI_ENOMEM;
    mi_memcpy(p, &fresh, sizeof(fresh));
    return 0;
}

static void *memory_dup(mi_heap_t *heap, const void *from, size_t bytes, size_t all) {
    uint8_t *p = (heap == NULL ? mi_malloc(all) : mi_heap_malloc(heap, all));
    if (p == NULL)
        return NULL;
    mi_memcpy(p, from, bytes);
    mi_memzero(p + bytes, all - bytes);
    return p;
}

static char *text_dup(mi_heap_t *heap, const char *s, size_t limit) {
    if (s == NULL)
        return NULL;
    size_t n = 0;
    while (n < limit && s[n] != 0)
        n++;
    return memory_dup(heap, s, n, n + 1);
}

char *mi_strdup(const char *s) mi_attr_noexcept {
    return text_dup(NULL, s, SIZE_MAX);
}

char *mi_strndup(const char *s, size_t n) mi_attr_noexcept {
    return text_dup(NULL, s, n);
}

char *mi_heap_strdup(mi_heap_t *heap, const char *s) mi_attr_noexcept {
    return text_dup(heap, s, SIZE_MAX);
}

char *mi_heap_strndup(mi_heap_t *heap, const char *s, size_t n) mi_attr_noexcept {
    return text_dup(heap, s, n);
}

unsigned char *mi_mbsdup(const unsigned char *s) mi_attr_noexcept {
    return (unsigned char *)mi_strdup((const char *)s);
}

unsigned short *mi_wcsdup(const unsigned short *s) mi_attr_noexcept {
    if (s == NULL)
        return NULL;
    size_t n = 0;
    while (s[n] != 0)
        n++;
    return memory_dup(NULL, s, n * sizeof(*s), (n + 1) * sizeof(*s));
}
