// The page map's tables: the window (page_map_window.c), and the far tables made at need. Entries
// are atomic words; who owns the slices writes them, anybody reads. Knows nothing of what a page
// holds.
#include "core/page_map.h"

#include "core/lock.h"
#include "os/os.h"

// Beyond the window, 64-bit only: top table indexed by address bits 47..32, whose tables hold one
// entry for each slice. Both are made at need and stay.
#define MAP_SUB_COUNT ((size_t)1 << 16)
#define MAP_TOP_COUNT ((size_t)1 << 16)

typedef _Atomic(uintptr_t) map_entry_t;
typedef _Atomic(map_entry_t *) map_sub_t;

_Atomic(uintptr_t) mi_page_map_offset;
static _Atomic(map_sub_t *) map_top;
static mi_lock_t map_lock; // for making tables

// Where the kernel uses huge pages at will, the first entry of the window would cost 2 MiB.
static void map_stay_small(void *table, size_t bytes) {
    const uintptr_t page = mi_os_page_bytes();
    const uintptr_t first = mi_align_up((uintptr_t)table, page);
    const uintptr_t last = mi_align_down((uintptr_t)table + bytes, page);
    mi_os_allow_huge_pages((void *)first, last - first, false);
}

void mi_page_map_init(const void *first_arena) {
    const uintptr_t half = (uintptr_t)MI_MAP_WINDOW_SLICES / 2 * MI_SLICE_BYTES;
    const uintptr_t at = (uintptr_t)first_arena;
    if (MI_MAP_HAS_KEYS && at > half)
        mi_store_relaxed(&mi_page_map_offset,
                         (uintptr_t)0 - mi_align_down(at - half, MI_SLICE_BYTES));
    if (!MI_SHRUNK)
        map_stay_small(mi_page_map_window, sizeof(mi_page_map_window));
}

static void *map_table_new(size_t bytes) {
    bool is_zero;
    void *const table = mi_os_reserve(bytes, MI_SLICE_BYTES);
    if (table != NULL)
        map_stay_small(table, bytes);
    if (table != NULL && mi_os_needs_commit() && mi_os_commit(table, bytes, &is_zero) != 0) {
        mi_os_release(table, bytes);
        return NULL;
    }
    return table;
}

// The entry of a slice beyond the window; NULL = there is no table for it.
static map_entry_t *map_far_entry(uintptr_t address) {
    const uint64_t wide = address;
    if (wide >> 48 != 0)
        return NULL;
    map_sub_t *const top = mi_load_acquire(&map_top); // with the release in map_far_make
    if (top == NULL)
        return NULL;
    map_entry_t *const sub = mi_load_acquire(&top[(size_t)(wide >> 32)]); // likewise
    return sub == NULL ? NULL : &sub[(address >> MI_SLICE_SHIFT) & (MAP_SUB_COUNT - 1)];
}

static bool map_far_make(uintptr_t address) {
    const uint64_t wide = address;
    if (wide >> 48 != 0)
        return false;
    mi_lock(&map_lock);
    map_sub_t *top = mi_load_relaxed(&map_top);
    if (top == NULL) {
        top = (map_sub_t *)map_table_new(MAP_TOP_COUNT * sizeof(map_sub_t));
        mi_store_release(&map_top, top); // with the acquire in map_far_entry
    }
    bool is_good = (top != NULL);
    if (is_good && mi_load_relaxed(&top[(size_t)(wide >> 32)]) == NULL) {
        map_entry_t *const sub = (map_entry_t *)map_table_new(MAP_SUB_COUNT * sizeof(map_entry_t));
        is_good = (sub != NULL);
        mi_store_release(&top[(size_t)(wide >> 32)], sub); // with the acquire in map_far_entry
    }
    mi_unlock(&map_lock);
    return is_good;
}

// The entry of the slice that holds the address, in either table.
static map_entry_t *map_entry(uintptr_t address) {
    const uintptr_t index = mi_page_map_index((const void *)mi_align_down(address, MI_SLICE_BYTES));
    if (MI_LIKELY(index < MI_MAP_WINDOW_SLICES))
        return &mi_page_map_window[index];
    return MI_MAP_HAS_KEYS ? map_far_entry(address) : NULL;
}

mi_page_t *mi_page_map_find(const void *p) {
    map_entry_t *const entry = map_entry((uintptr_t)p);
    if (entry == NULL)
        return NULL;
    const uintptr_t value = mi_load_acquire(entry); // with the release in mi_page_map_set
    return (mi_page_t *)(MI_MAP_HAS_KEYS ? value & MI_MAP_PAGE_MASK : value);
}

// The first entry of slices that all lie in the window; NULL = they do not.
static map_entry_t *map_near(const void *start, size_t slices) {
    const uintptr_t index = mi_page_map_index(start);
    return MI_LIKELY(index < MI_MAP_WINDOW_SLICES && slices <= MI_MAP_WINDOW_SLICES - index)
               ? &mi_page_map_window[index]
               : NULL;
}

static MI_NOINLINE bool map_set_far(uintptr_t first, size_t slices, uintptr_t value) {
    for (size_t i = 0; MI_MAP_HAS_KEYS && i < slices; i++) {
        const uintptr_t at = first + i * MI_SLICE_BYTES;
        if (map_entry(at) == NULL && !map_far_make(at))
            return false;
    }
    for (size_t i = 0; i < slices; i++)
        mi_store_release(map_entry(first + i * MI_SLICE_BYTES), value); // with mi_page_map_find
    return true;
}

bool mi_page_map_set(const void *start, size_t slices, mi_page_t *page, uintptr_t key) {
    const uintptr_t value = (MI_MAP_HAS_KEYS ? key : 0) | (uintptr_t)page;
    map_entry_t *const entries = map_near(start, slices);
    if (MI_UNLIKELY(entries == NULL))
        return map_set_far((uintptr_t)start, slices, value);
    for (size_t i = 0; i < slices; i++)
        mi_store_release(&entries[i], value); // with mi_page_map_find
    return true;
}

static MI_NOINLINE void map_clear_far(uintptr_t first, size_t slices) {
    for (size_t i = 0; i < slices; i++) {
        map_entry_t *const entry = map_entry(first + i * MI_SLICE_BYTES);
        if (entry != NULL)
            mi_store_relaxed(entry, (uintptr_t)0);
    }
}

void mi_page_map_clear(const void *start, size_t slices) {
    map_entry_t *const entries = map_near(start, slices);
    if (MI_UNLIKELY(entries == NULL)) {
        map_clear_far((uintptr_t)start, slices);
        return;
    }
    for (size_t i = 0; i < slices; i++)
        mi_store_relaxed(&entries[i], (uintptr_t)0);
}

void mi_page_map_commit(void) {
    const size_t step = mi_os_page_bytes() / sizeof(mi_page_map_window[0]);
    for (size_t i = 0; i < MI_MAP_WINDOW_SLICES; i += step) {
        uintptr_t nothing = 0; // replaced by itself: an addition of 0 would be optimised away
        (void)mi_cas_strong_relaxed(&mi_page_map_window[i], &nothing, (uintptr_t)0);
    }
}

void mi_page_map_release(void) {
    map_sub_t *const top = mi_load_relaxed(&map_top);
    if (top == NULL)
        return;
    for (size_t i = 0; i < MAP_TOP_COUNT; i++) {
        map_entry_t *const sub = mi_load_relaxed(&top[i]);
        if (sub != NULL)
            mi_os_release((void *)sub, MAP_SUB_COUNT * sizeof(map_entry_t));
    }
    mi_store_release(&map_top, NULL); // with the acquire in map_far_entry
    mi_os_release((void *)top, MAP_TOP_COUNT * sizeof(map_sub_t));
}

void mi_page_map_fork_prepare(void) {
    mi_lock(&map_lock);
}

void mi_page_map_fork_done(void) {
    mi_unlock(&map_lock);
}
