#include "core/arena_head.h"

#include "core/alloc.h"
#include "core/bitmap.h"
#include "core/harden.h"
#include "os/os.h"

// Marks of a page whose blocks have at least MI_MARKS_DENSE bytes, of others, and of a slice.
#define ARENA_DENSE_MARKS (MI_SLICE_BYTES / MI_MARKS_DENSE)
#define ARENA_WIDE_MARKS  (MI_SLICE_BYTES / MI_GRANULE_BYTES)
#define ARENA_MARKS       (MI_SECURE ? ARENA_DENSE_MARKS + ARENA_WIDE_MARKS : 0)
#define ARENA_MAPS        (MI_SECURE ? (size_t)7 : (size_t)5)

static size_t arena_head_bytes(size_t slices) {
    const size_t maps = ARENA_MAPS * mi_bitmap_words(slices) * sizeof(uint64_t);
    return mi_align_up(sizeof(mi_arena_t), MI_CACHE_LINE_BYTES) +
           mi_align_up(maps, MI_CACHE_LINE_BYTES) + slices * (sizeof(mi_page_t) + ARENA_MARKS) +
           (MI_SECURE ? 2 * ARENA_WIDE_MARKS : 0); // which are at multiples of their number
}

size_t mi_arena_head_slices(size_t slices) {
    return (arena_head_bytes(slices) + MI_SLICE_BYTES - 1) >> MI_SLICE_SHIFT;
}

size_t mi_arena_head_most(size_t slices) {
    return slices / (MI_SECURE ? 12 : 256) + 4;
}

// Notes in a where the parts of a head lie.
static void arena_head_parts(mi_arena_t *a, uint8_t *head, size_t slices) {
    const size_t words = mi_bitmap_words(slices);
    uint8_t *const maps = head + mi_align_up(sizeof(mi_arena_t), MI_CACHE_LINE_BYTES);
    uint8_t *const pages =
        maps + mi_align_up(ARENA_MAPS * words * sizeof(uint64_t), MI_CACHE_LINE_BYTES);
    a->free = (uint64_t *)maps;
    a->committed = a->free + words;
    a->dirty = a->free + 2 * words;
    a->young = a->free + 3 * words;
    a->old = a->free + 4 * words;
    a->guarded = (MI_SECURE ? a->free + 5 * words : NULL);
    a->exposed = (MI_SECURE ? a->free + 6 * words : NULL);
    a->pages = (mi_page_t *)pages;
    a->marks = (uint8_t *)mi_align_up((uintptr_t)(pages + slices * sizeof(mi_page_t)),
                                      MI_SECURE ? ARENA_WIDE_MARKS : 1);
}

bool mi_arena_memory_commit(const mi_memory_t *memory, uint8_t *start, size_t bytes,
                            bool *is_zero) {
    *is_zero = false;
    if (memory->commit != NULL)
        return memory->commit(true, start, bytes, is_zero, memory->commit_arg);
    return mi_os_commit(start, bytes, is_zero) == 0;
}

// Makes room for a head in the arena itself, zero; *head_slices: what it takes. NULL = no memory.
static mi_arena_t *arena_head_inside(const mi_memory_t *memory, size_t *head_slices) {
    const size_t slices = memory->bytes >> MI_SLICE_SHIFT;
    const size_t head = mi_arena_head_slices(slices);
    const size_t guard = (MI_SECURE ? 1 : 0);
    uint8_t *const base = (uint8_t *)memory->start;
    *head_slices = head + guard;
    if (head + guard + 1 >= slices)
        return NULL;
    bool is_zero = memory->is_zero;
    if (!memory->is_committed) {
        bool fresh_zero;
        if (!mi_arena_memory_commit(memory, base, head << MI_SLICE_SHIFT, &fresh_zero))
            return NULL;
        is_zero |= fresh_zero;
    }
    if (!is_zero)
        mi_memzero(base, head << MI_SLICE_SHIFT);
    if (MI_SECURE)
        (void)mi_os_protect(base + (head << MI_SLICE_SHIFT), guard << MI_SLICE_SHIFT);
    return (mi_arena_t *)base;
}

mi_arena_t *mi_arena_lay_out(mi_arena_t *apart, const mi_memory_t *memory) {
    const size_t slices = memory->bytes >> MI_SLICE_SHIFT;
    size_t head_slices = 0;
    mi_arena_t *const a = (apart != NULL ? apart : arena_head_inside(memory, &head_slices));
    if (a == NULL)
        return NULL;
    arena_head_parts(a, (uint8_t *)a, slices);
    a->base = (uint8_t *)memory->start;
    a->slices = slices;
    a->memory = *memory;
    a->head_slices = head_slices;
    a->free_slices = slices - a->head_slices;
    mi_bitmap_set(a->free, a->head_slices, a->free_slices, true);
    if (memory->is_committed)
        mi_bitmap_set(a->committed, 0, slices, true);
    if (!memory->is_zero)
        mi_bitmap_set(a->dirty, 0, slices, true);
    return a;
}

void mi_arena_memory_release(mi_arena_t *a) {
    const mi_memory_t memory = a->memory; // its copy: the head may lie in it
    if ((uint8_t *)a != a->base)
        mi_hidden_release(a, mi_arena_head_slices(a->slices) << MI_SLICE_SHIFT);
    (void)mi_os_release(memory.start, memory.bytes);
}

static uint8_t *arena_wide_marks(const mi_arena_t *a, size_t slice) {
    const size_t dense = mi_align_up(a->slices * ARENA_DENSE_MARKS, ARENA_WIDE_MARKS);
    return a->marks + dense + slice * ARENA_WIDE_MARKS;
}

// Of slices that no page has, marks are zero: their memory goes too where it needs no commit to
// come back.
void mi_arena_purge_marks(mi_arena_t *a, size_t first, size_t count) {
    bool is_committed;
    if (MI_SECURE && !mi_os_needs_commit() && mi_os_page_bytes() <= ARENA_WIDE_MARKS)
        (void)mi_os_purge(arena_wide_marks(a, first), count * ARENA_WIDE_MARKS, &is_committed);
}

mi_mark_t *mi_arena_marks(const mi_arena_t *a, const mi_page_t *page, bool is_dense) {
    const size_t slice = (size_t)(page - a->pages);
    return (mi_mark_t *)(is_dense ? a->marks + slice * ARENA_DENSE_MARKS
                                  : arena_wide_marks(a, slice));
}

uint64_t mi_arena_stamp(const void *base) {
    const uint64_t layout = sizeof(mi_page_t) * 1000003u + sizeof(mi_arena_t) * 1009u +
                            MI_SLICE_BYTES + MI_CLASS_COUNT * 17u + MI_DEBUG * 5u + MI_SECURE * 3u;
    return (layout * 0x9E3779B97F4A7C15ull) ^ (uint64_t)(uintptr_t)base;
}

bool mi_arena_head_fits(const mi_arena_t *a, size_t bytes) {
    const size_t slices = a->slices;
    if (slices == 0 || slices != bytes >> MI_SLICE_SHIFT || slices > UINT32_MAX)
        return false;
    mi_arena_t right = {.base = a->base};
    arena_head_parts(&right, (uint8_t *)(uintptr_t)a, slices);
    return a->head_slices == mi_arena_head_slices(slices) + (MI_SECURE ? 1 : 0) &&
           a->free == right.free && a->committed == right.committed && a->dirty == right.dirty &&
           a->young == right.young && a->old == right.old && a->pages == right.pages &&
           a->guarded == right.guarded && a->exposed == right.exposed && a->marks == right.marks &&
           a->free_slices == mi_bitmap_count(a->free, a->head_slices, slices - a->head_slices);
}

void *mi_core_arena_area(const void *arena, size_t *bytes) {
    const mi_arena_t *const a = (const mi_arena_t *)arena;
    *bytes = (a == NULL ? 0 : a->slices << MI_SLICE_SHIFT);
    return a == NULL ? NULL : a->base;
}

bool mi_core_arena_contains(const void *arena, const void *p) {
    const mi_arena_t *const a = (const mi_arena_t *)arena;
    return a != NULL && (const uint8_t *)p >= a->base &&
           (size_t)((const uint8_t *)p - a->base) < a->slices << MI_SLICE_SHIFT;
}
