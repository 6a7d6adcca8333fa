#include "blocks.h"

#include <stdlib.h>
#include <string.h>
#include <windows.h>

#include "check.h"

xm_is_in_heap_fn xm_is_in_heap;
xm_is_redirected_fn xm_is_redirected;

static const char *const kind_names[XM_KINDS] = {"malloc",
                                                 "calloc",
                                                 "realloc",
                                                 "_recalloc",
                                                 "_strdup",
                                                 "_wcsdup",
                                                 "_fullpath",
                                                 "_getcwd",
                                                 "_wgetcwd",
                                                 "_tempnam",
                                                 "_dupenv_s",
                                                 "_aligned_malloc",
                                                 "_aligned_offset_malloc",
                                                 "new",
                                                 "new[]",
                                                 "new(nothrow)",
                                                 "new(align)"};

const char *xm_kind_name(xm_kind_t kind) {
    return kind_names[kind];
}

bool xm_find_allocator(void) {
    HMODULE dll = GetModuleHandleA("mimalloc.dll");
    if (dll == NULL) {
        return false;
    }
    xm_is_in_heap = (xm_is_in_heap_fn)(void (*)(void))GetProcAddress(dll, "mi_is_in_heap_region");
    xm_is_redirected = (xm_is_redirected_fn)(void (*)(void))GetProcAddress(dll, "mi_is_redirected");
    CHECK(xm_is_in_heap != NULL);
    CHECK(xm_is_redirected != NULL);
    return xm_is_in_heap != NULL && xm_is_redirected != NULL;
}

uint32_t xm_mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

static uint32_t sum_of(const void *p, size_t bytes) {
    const unsigned char *c = p;
    uint32_t sum = 2166136261u;
    size_t i = 0;
    for (; i + sizeof(sum) <= bytes; i += sizeof(sum)) {
        uint32_t word;
        memcpy(&word, c + i, sizeof(word));
        sum = (sum ^ word) * 16777619u;
    }
    for (; i < bytes; i++) {
        sum = (sum ^ c[i]) * 16777619u;
    }
    return sum;
}

static void fill(xm_block_t *b) {
    unsigned char *c = b->p;
    uint32_t seed = xm_mix((uint32_t)b->bytes + (uint32_t)b->kind * 977u);
    for (size_t i = 0; i < b->bytes; i++) {
        c[i] = (unsigned char)(xm_mix(seed + (uint32_t)i / 4) >> (8 * (i % 4)));
    }
}

static bool is_zero(const void *p, size_t bytes) {
    const unsigned char *c = p;
    for (size_t i = 0; i < bytes; i++) {
        if (c[i] != 0) {
            return false;
        }
    }
    return true;
}

static void check_owner(const void *p, const xm_block_t *b, const char *by, xm_owner_t owner) {
    if (owner != XM_OWNER_UNKNOWN) {
        CHECK_MSG(xm_is_in_heap(p) == (owner == XM_OWNER_OURS), "%s by %s, %zu bytes, made by %s",
                  xm_kind_name(b->kind), by, b->bytes, b->maker->name);
    }
}

// A text of about the wanted length, so that the duplicating functions meet all sizes too.
static void make_text(char *text, size_t cap, size_t bytes) {
    size_t n = bytes < cap ? bytes : cap - 1;
    for (size_t i = 0; i < n; i++) {
        text[i] = (char)('a' + xm_mix((uint32_t)i) % 26);
    }
    text[n] = 0;
}

static void make_dup(xm_block_t *b) {
    char text[2048];
    wchar_t wide[2048];
    make_text(text, sizeof(text), b->bytes);
    if (b->kind == XM_STRDUP) {
        b->p = b->maker->dup(text);
        b->bytes = strlen(text) + 1;
        CHECK(b->p != NULL && memcmp(b->p, text, b->bytes) == 0);
        return;
    }
    size_t n = 0;
    do {
        wide[n] = (wchar_t)(text[n] == 0 ? 0 : text[n] + 0x400);
    } while (text[n++] != 0);
    b->p = b->maker->wdup(wide);
    b->bytes = n * sizeof(wchar_t);
    CHECK(b->p != NULL && memcmp(b->p, wide, b->bytes) == 0);
}

static void check_text(xm_block_t *b, const char *wanted) {
    CHECK_MSG(b->p != NULL && strcmp(b->p, wanted) == 0, "%s gives '%s', not '%s'",
              xm_kind_name(b->kind), b->p != NULL ? (const char *)b->p : "NULL", wanted);
    b->bytes = b->p != NULL ? strlen(b->p) + 1 : 0;
}

static void make_path(xm_block_t *b) {
    char here[MAX_PATH], text[MAX_PATH];
    wchar_t wide[MAX_PATH];
    GetCurrentDirectoryA(MAX_PATH, here);
    switch (b->kind) {
    case XM_FULLPATH:
        b->p = b->maker->fullpath("some.file");
        GetFullPathNameA("some.file", MAX_PATH, text, NULL);
        check_text(b, text);
        break;
    case XM_GETCWD:
        b->p = b->maker->getcwd();
        check_text(b, here);
        break;
    case XM_WGETCWD:
        b->p = b->maker->wgetcwd();
        GetCurrentDirectoryW(MAX_PATH, wide);
        CHECK(b->p != NULL && wcscmp(b->p, wide) == 0);
        b->bytes = (wcslen(wide) + 1) * sizeof(wchar_t);
        break;
    case XM_TEMPNAM:
        b->p = b->maker->tempname(here);
        CHECK(b->p != NULL && strstr(b->p, "xm") != NULL);
        b->bytes = b->p != NULL ? strlen(b->p) + 1 : 0;
        break;
    default:
        b->p = b->maker->dupenv_opt != NULL ? b->maker->dupenv_opt("XM_VALUE") : NULL;
        if (b->maker->dupenv_opt != NULL) {
            check_text(b, "a value to be copied");
        }
        break;
    }
}

static void make_zeroed(xm_block_t *b) {
    const xm_module_t *m = b->maker;
    size_t count = b->bytes / 4 + 1;
    if (b->kind == XM_CALLOC) {
        b->p = m->zalloc(count, 4);
    } else if (m->rezalloc_opt != NULL) {
        b->p = m->rezalloc_opt(NULL, count, 4);
    } else {
        return;
    }
    b->bytes = count * 4;
    CHECK(b->p != NULL && is_zero(b->p, b->bytes));
    fill(b);
}

static void make_aligned(xm_block_t *b) {
    const xm_module_t *m = b->maker;
    b->align = (size_t)16 << (xm_mix((uint32_t)b->bytes) % 8);
    b->offset = b->kind == XM_ALIGNED_OFFSET ? b->bytes / 2 : 0; // less than bytes
    b->p = b->kind == XM_NEW_ALIGNED ? m->new_aligned(b->bytes, b->align)
                                     : m->aligned_alloc(b->bytes, b->align, b->offset);
    CHECK_MSG(b->p != NULL && ((uintptr_t)b->p + b->offset) % b->align == 0, "%s by %s",
              xm_kind_name(b->kind), m->name);
    fill(b);
}

xm_block_t xm_block_make(const xm_module_t *m, xm_kind_t kind, size_t bytes, xm_owner_t owner) {
    xm_block_t b = {.maker = m, .kind = kind, .bytes = bytes};
    if (kind >= XM_NEW && m->new_object == NULL) {
        return b;
    }
    switch (kind) {
    case XM_MALLOC:
        b.p = m->alloc(bytes);
        break;
    case XM_REALLOC:
        b.p = m->resize(NULL, bytes);
        break;
    case XM_NEW:
        b.p = m->new_object(bytes);
        break;
    case XM_NEW_ARRAY:
        b.p = m->new_array(bytes);
        break;
    case XM_NEW_NOTHROW:
        b.p = m->new_nothrow(bytes);
        break;
    case XM_CALLOC:
    case XM_RECALLOC:
        make_zeroed(&b);
        break;
    case XM_STRDUP:
    case XM_WCSDUP:
        make_dup(&b);
        break;
    case XM_ALIGNED:
    case XM_ALIGNED_OFFSET:
    case XM_NEW_ALIGNED:
        make_aligned(&b);
        break;
    default:
        make_path(&b);
        break;
    }
    bool may_lack = (kind == XM_RECALLOC && m->rezalloc_opt == NULL) ||
                    (kind == XM_DUPENV && m->dupenv_opt == NULL);
    CHECK_MSG(b.p != NULL || may_lack, "%s of %zu bytes by %s", xm_kind_name(kind), bytes, m->name);
    if (b.p == NULL) {
        return b;
    }
    check_owner(b.p, &b, m->name, owner);
    if (kind == XM_MALLOC || kind == XM_REALLOC || (kind >= XM_NEW && kind < XM_NEW_ALIGNED)) {
        CHECK_MSG((uintptr_t)b.p % (2 * sizeof(void *)) == 0 || bytes < 16,
                  "%s of %zu bytes by %s at %p", xm_kind_name(kind), bytes, m->name, b.p);
        fill(&b);
    }
    b.sum = sum_of(b.p, b.bytes);
    return b;
}

bool xm_can_end(xm_kind_t kind, const xm_module_t *by) {
    return kind < XM_NEW || by->delete_object != NULL;
}

static void check_sum(const xm_block_t *b, const xm_module_t *by, const char *when) {
    CHECK_MSG(sum_of(b->p, b->bytes) == b->sum, "%s of %zu bytes, made by %s, %s by %s",
              xm_kind_name(b->kind), b->bytes, b->maker->name, when, by->name);
}

static void end_new(xm_block_t *b, const xm_module_t *by) {
    if (b->kind == XM_NEW_ALIGNED) {
        by->delete_aligned(b->p, b->align);
    } else if (b->kind == XM_NEW_ARRAY) {
        by->delete_array(b->p);
    } else if (b->bytes % 2 == 0) {
        by->delete_sized(b->p, b->bytes);
    } else {
        by->delete_object(b->p);
    }
}

static bool is_aligned_kind(const xm_block_t *b) {
    return b->kind == XM_ALIGNED || b->kind == XM_ALIGNED_OFFSET;
}

static void measure(const xm_block_t *b, const xm_module_t *by) {
    if (is_aligned_kind(b)) {
        if (by->aligned_measure_opt != NULL) {
            size_t n = by->aligned_measure_opt(b->p, b->align, b->offset);
            CHECK_MSG(n >= b->bytes, "_aligned_msize by %s says %zu of %zu", by->name, n, b->bytes);
        }
    } else {
        size_t n = by->measure(b->p);
        CHECK_MSG(n >= b->bytes, "_msize by %s says %zu of %zu", by->name, n, b->bytes);
        CHECK_MSG(n <= 2 * b->bytes + 4096, "_msize by %s says %zu of %zu", by->name, n, b->bytes);
    }
}

static void resize(xm_block_t *b, const xm_module_t *by, size_t bytes, xm_owner_t owner) {
    size_t kept = bytes < b->bytes ? bytes : b->bytes;
    uint32_t sum = sum_of(b->p, kept);
    void *p = is_aligned_kind(b) ? by->aligned_resize(b->p, bytes, b->align, b->offset)
                                 : by->resize(b->p, bytes);
    CHECK_MSG(p != NULL, "%s made by %s, resized to %zu by %s", xm_kind_name(b->kind),
              b->maker->name, bytes, by->name);
    if (p == NULL) {
        return;
    }
    CHECK_MSG(sum_of(p, kept) == sum, "%s of %zu bytes made by %s, resized to %zu by %s",
              xm_kind_name(b->kind), b->bytes, b->maker->name, bytes, by->name);
    CHECK(!is_aligned_kind(b) || ((uintptr_t)p + b->offset) % b->align == 0);
    b->p = p;
    b->bytes = bytes;
    if (bytes > kept) { // grown, so it is a new block or was ours before
        check_owner(p, b, by->name, owner);
    }
    fill(b); // every byte of the new size can be written
    b->sum = sum_of(p, bytes);
}

void xm_block_end(xm_block_t *b, const xm_module_t *by, xm_fate_t fate, xm_owner_t owner) {
    if (b->p == NULL) {
        return;
    }
    check_sum(b, by, "before it is ended");
    if (b->kind >= XM_NEW) {
        end_new(b, by);
        b->p = NULL;
        return;
    }
    if (fate != XM_FREE) {
        measure(b, by);
    }
    if (fate == XM_GROW) {
        resize(b, by, b->bytes * 3 + 40, owner);
    } else if (fate == XM_SHRINK) {
        size_t bytes = b->bytes / 3 + 1;
        resize(b, by, bytes > b->offset ? bytes : b->offset + 1, owner);
    } else if (fate == XM_EXPAND && !is_aligned_kind(b)) {
        void *p = by->expand(b->p, b->bytes + 1);
        CHECK_MSG(p == NULL || p == b->p, "_expand by %s moved the block", by->name);
        check_sum(b, by, "after _expand");
    }
    check_sum(b, by, "before free");
    if (is_aligned_kind(b)) {
        by->aligned_release(b->p);
    } else {
        by->release(b->p);
    }
    b->p = NULL;
}
