// Every function of the allocation family of every CRT named on the command line, redirected early,
// late or by LoadLibrary: what is made afterwards is the allocator's, what the CRT made before is
// measured, resized and freed with its contents kept, also by another CRT.
//
//   family early|late crt.dll ...         both halves are imports of this program
//   family load-redirect|load-allocator redirect.dll allocator.dll crt.dll ...
#include "wtest.h"

enum { BLOCKS_MAX = 4096, CRTS_MAX = 16 };

typedef void *(*make1_t)(size_t);
typedef void *(*make2_t)(size_t, size_t);
typedef void *(*make3_t)(size_t, size_t, size_t);
typedef void *(*take2_t)(void *, size_t);
typedef void *(*take3_t)(void *, size_t, size_t);
typedef void *(*take4_t)(void *, size_t, size_t, size_t);
typedef void *(*take5_t)(void *, size_t, size_t, size_t, size_t);
typedef void (*free_t)(void *);
typedef size_t (*size_t1)(void *);
typedef size_t (*size_t3)(void *, size_t, size_t);

typedef struct crt_s {
    HMODULE module;
    const char *name;
} crt_t;

typedef struct block_s {
    uint8_t *p;
    size_t size;     // as asked for
    size_t measured; // by the CRT before
    crt_t *crt;
    bool is_aligned;
    bool is_zeroed;
} block_t;

static crt_t crts[CRTS_MAX];
static unsigned crt_count;
static block_t blocks[BLOCKS_MAX];
static unsigned block_count;
static bool (*is_ours)(const void *);
static const size_t sizes[] = {1, 24, 100, 5000, 100000};

static bool is_zero(const uint8_t *p, size_t from, size_t to) {
    for (size_t i = from; i < to; i++)
        if (p[i] != 0)
            return false;
    return true;
}

static uintptr_t fn(const crt_t *crt, const char *name) {
    return proc(crt->module, name);
}

// ---- blocks of before ----

static void keep(crt_t *crt, void *p, size_t size, bool is_aligned) {
    CHECK_AT(p != NULL, crt->name);
    if (p == NULL || block_count >= BLOCKS_MAX)
        return;
    pattern_fill((uint8_t *)p, size);
    block_t *b = &blocks[block_count++];
    *b = (block_t){.p = (uint8_t *)p, .size = size, .crt = crt, .is_aligned = is_aligned};
    if (is_aligned && fn(crt, "_aligned_msize") != 0)
        b->measured = ((size_t3)fn(crt, "_aligned_msize"))(p, 64, 0);
    else if (!is_aligned)
        b->measured = ((size_t1)fn(crt, "_msize"))(p);
}

static void make_before(crt_t *crt, size_t size) {
    keep(crt, ((make1_t)fn(crt, "malloc"))(size), size, false);
    keep(crt, ((make2_t)fn(crt, "calloc"))(1, size), size, false);
    keep(crt, ((take2_t)fn(crt, "realloc"))(NULL, size), size, false);
    if (fn(crt, "_malloc_base") != 0)
        keep(crt, ((make1_t)fn(crt, "_malloc_base"))(size), size, false);
    if (fn(crt, "_recalloc") != 0)
        keep(crt, ((take3_t)fn(crt, "_recalloc"))(NULL, 1, size), size, false);
    const uintptr_t op = fn(crt, sizeof(void *) == 8 ? "?\?2@YAPEAX_K@Z" : "?\?2@YAPAXI@Z");
    if (op != 0)
        keep(crt, ((make1_t)op)(size), size, false);
    if (fn(crt, "_aligned_malloc") != 0)
        keep(crt, ((make2_t)fn(crt, "_aligned_malloc"))(size, 64), size, true);
    if (fn(crt, "_aligned_malloc") != 0)
        keep(crt, ((take3_t)fn(crt, "_aligned_realloc"))(NULL, size, 64), size, true);
}

static void take_plain(const block_t *b, crt_t *by, unsigned way) {
    uint8_t *q;
    CHECK_AT(((size_t1)fn(by, "_msize"))(b->p) == b->measured, by->name);
    CHECK_AT(pattern_is(b->p, b->size, b->size), by->name);
    switch (way % 5) {
    case 0:
        break;
    case 1:
        q = ((take2_t)fn(by, "realloc"))(b->p, b->size * 3 + 50);
        CHECK_AT(q != NULL && is_ours(q) && pattern_is(q, b->size, b->size), by->name);
        ((free_t)fn(by, "free"))(q);
        return;
    case 2:
        q = ((take2_t)fn(by, "realloc"))(b->p, b->size / 2 + 1);
        CHECK_AT(q != NULL && pattern_is(q, b->size, b->size / 2 + 1), by->name);
        ((free_t)fn(by, "free"))(q);
        return;
    case 3:
        if (fn(by, "_recalloc") == 0)
            break;
        q = ((take3_t)fn(by, "_recalloc"))(b->p, 3, b->size + 100);
        CHECK_AT(q != NULL && is_ours(q) && pattern_is(q, b->size, b->size), by->name);
        CHECK_AT(q != NULL && is_zero(q, b->measured, 3 * (b->size + 100)), by->name);
        ((free_t)fn(by, "free"))(q);
        return;
    default:
        q = ((take2_t)fn(by, "_expand"))(b->p, b->size / 2 + 1);
        CHECK_AT(q == NULL || q == b->p, by->name);
        CHECK_AT(pattern_is(b->p, b->size, b->size / 2 + 1), by->name);
        break;
    }
    ((free_t)fn(by, "free"))(b->p);
}

static void take_aligned(const block_t *b, unsigned way) {
    const crt_t *by = b->crt;
    uint8_t *q;
    CHECK_AT(pattern_is(b->p, b->size, b->size), by->name);
    if (fn(by, "_aligned_msize") != 0)
        CHECK_AT(((size_t3)fn(by, "_aligned_msize"))(b->p, 64, 0) == b->measured, by->name);
    if (way % 2 == 0) {
        q = ((take3_t)fn(by, "_aligned_realloc"))(b->p, b->size + 999, 64);
        CHECK_AT(q != NULL && is_ours(q) && ((uintptr_t)q & 63) == 0, by->name);
        CHECK_AT(pattern_is(q, b->size, b->size), by->name);
        ((free_t)fn(by, "_aligned_free"))(q);
        return;
    }
    ((free_t)fn(by, "_aligned_free"))(b->p);
}

static void take_all_before(void) {
    for (unsigned i = 0; i < block_count; i++) {
        block_t *b = &blocks[i];
        CHECK(!is_ours(b->p));
        // Every third block goes to another CRT.
        crt_t *by = (i % 3 == 2 ? &crts[(i / 3) % crt_count] : b->crt);
        if (b->is_aligned)
            take_aligned(b, i / 8);
        else
            take_plain(b, by, i / 8 + i % 8);
    }
}

// ---- blocks of afterwards ----

static void drop_ours(const crt_t *crt, void *p, size_t size) {
    CHECK_AT(p != NULL && is_ours(p), crt->name);
    if (p == NULL)
        return;
    pattern_fill((uint8_t *)p, size);
    ((free_t)fn(crt, "free"))(p);
}

static void make1(const crt_t *crt, const char *name, size_t size) {
    if (fn(crt, name) != 0)
        drop_ours(crt, ((make1_t)fn(crt, name))(size), size);
}

static void make2(const crt_t *crt, const char *name, size_t n, size_t size) {
    if (fn(crt, name) == 0)
        return;
    uint8_t *p = ((make2_t)fn(crt, name))(n, size);
    CHECK_AT(p != NULL && is_zero(p, 0, n * size), crt->name);
    drop_ours(crt, p, n * size);
}

static void resize(const crt_t *crt, const char *name, size_t size) {
    if (fn(crt, name) == 0)
        return;
    uint8_t *p = ((make1_t)fn(crt, "malloc"))(size);
    pattern_fill(p, size);
    p = ((take2_t)fn(crt, name))(p, size * 2 + 9);
    CHECK_AT(p != NULL && is_ours(p) && pattern_is(p, size, size), crt->name);
    drop_ours(crt, p, size);
}

static void recalloc(const crt_t *crt, const char *name, size_t size) {
    if (fn(crt, name) == 0)
        return;
    uint8_t *p = ((take3_t)fn(crt, name))(NULL, 1, size);
    CHECK_AT(p != NULL && is_zero(p, 0, size), crt->name);
    pattern_fill(p, size);
    const size_t measured = ((size_t1)fn(crt, "_msize"))(p);
    CHECK_AT(measured >= size, crt->name);
    p = ((take3_t)fn(crt, name))(p, 4, size + 3);
    CHECK_AT(p != NULL && pattern_is(p, size, size), crt->name);
    CHECK_AT(p != NULL && is_zero(p, size, 4 * (size + 3)), crt->name);
    // Smaller, and larger again: what was given up comes back as zeros, wherever sizes are rounded.
    memset(p, 0x5A, 4 * (size + 3));
    p = ((take3_t)fn(crt, name))(p, 1, size + 1);
    p = ((take3_t)fn(crt, name))(p, 1, size + 40);
    CHECK_AT(p != NULL && p[size] == 0x5A && is_zero(p, size + 1, size + 40), crt->name);
    drop_ours(crt, p, size);
}

static void aligned(const crt_t *crt, size_t size) {
    if (fn(crt, "_aligned_malloc") == 0)
        return;
    uint8_t *p = ((make2_t)fn(crt, "_aligned_malloc"))(size, 256);
    CHECK_AT(p != NULL && is_ours(p) && ((uintptr_t)p & 255) == 0, crt->name);
    pattern_fill(p, size);
    p = ((take3_t)fn(crt, "_aligned_realloc"))(p, size * 5, 256);
    CHECK_AT(p != NULL && ((uintptr_t)p & 255) == 0 && pattern_is(p, size, size), crt->name);
    ((free_t)fn(crt, "_aligned_free"))(p);
    p = ((make3_t)fn(crt, "_aligned_offset_malloc"))(size + 32, 128, 24);
    CHECK_AT(p != NULL && is_ours(p) && (((uintptr_t)p + 24) & 127) == 0, crt->name);
    pattern_fill(p, size);
    p = ((take4_t)fn(crt, "_aligned_offset_realloc"))(p, size * 9 + 32, 128, 24);
    CHECK_AT(p != NULL && (((uintptr_t)p + 24) & 127) == 0 && pattern_is(p, size, size), crt->name);
    ((free_t)fn(crt, "_aligned_free"))(p);
    if (fn(crt, "_aligned_recalloc") == 0)
        return;
    p = ((take4_t)fn(crt, "_aligned_recalloc"))(NULL, 2, size, 64);
    CHECK_AT(p != NULL && is_ours(p) && ((uintptr_t)p & 63) == 0 && is_zero(p, 0, 2 * size),
             crt->name);
    p = ((take5_t)fn(crt, "_aligned_offset_recalloc"))(p, 40, size, 64, 0);
    CHECK_AT(p != NULL && is_ours(p) && is_zero(p, 0, 40 * size), crt->name);
    if (fn(crt, "_aligned_msize") != 0)
        CHECK_AT(((size_t3)fn(crt, "_aligned_msize"))(p, 64, 0) >= 40 * size, crt->name);
    memset(p, 0x5A, 40 * size);
    p = ((take4_t)fn(crt, "_aligned_recalloc"))(p, 1, size + 1, 64);
    p = ((take4_t)fn(crt, "_aligned_recalloc"))(p, 1, size + 40, 64);
    CHECK_AT(p != NULL && p[size] == 0x5A && is_zero(p, size + 1, size + 40), crt->name);
    ((free_t)fn(crt, "_aligned_free"))(p);
}

static void operators(const crt_t *crt, size_t size) {
    static const char *const names[2][4] = {
        {"?\?2@YAPEAX_K@Z", "?\?_U@YAPEAX_K@Z", "?\?3@YAXPEAX@Z", "?\?_V@YAXPEAX@Z"},
        {"?\?2@YAPAXI@Z", "?\?_U@YAPAXI@Z", "?\?3@YAXPAX@Z", "?\?_V@YAXPAX@Z"}};
    const char *const *n = names[sizeof(void *) == 8 ? 0 : 1];
    for (unsigned k = 0; k < 2; k++) {
        const uintptr_t make = fn(crt, n[k]), drop_it = fn(crt, n[k + 2]);
        if (make == 0 || drop_it == 0)
            continue;
        void *p = ((make1_t)make)(size);
        CHECK_AT(p != NULL && is_ours(p), n[k]);
        ((free_t)drop_it)(p);
        ((free_t)drop_it)(NULL);
    }
}

// On the rung "tables" the CRT's own calls stay inside it.
static bool is_tables;

static void drop_inside(const crt_t *crt, void *p, size_t size) {
    CHECK_AT(p != NULL && is_ours(p) != is_tables, crt->name);
    if (p == NULL)
        return;
    pattern_fill((uint8_t *)p, size);
    ((free_t)fn(crt, "free"))(p);
}

// What the CRT allocates inside and gives to the caller.
static void inside(const crt_t *crt) {
    typedef char *(*dup_t)(const char *);
    typedef WCHAR *(*wdup_t)(const WCHAR *);
    typedef char *(*cwd_t)(char *, int);
    typedef char *(*full_t)(char *, const char *, size_t);
    typedef int (*env_t)(char **, size_t *, const char *);
    if (fn(crt, "_strdup") != 0)
        drop_inside(crt, ((dup_t)fn(crt, "_strdup"))("a string"), 9);
    if (fn(crt, "_mbsdup") != 0)
        drop_inside(crt, ((dup_t)fn(crt, "_mbsdup"))("a string"), 9);
    if (fn(crt, "_wcsdup") != 0)
        drop_inside(crt, ((wdup_t)fn(crt, "_wcsdup"))(L"a string"), 18);
    if (fn(crt, "_getcwd") != 0)
        drop_inside(crt, ((cwd_t)fn(crt, "_getcwd"))(NULL, 0), 3);
    if (fn(crt, "_fullpath") != 0)
        drop_inside(crt, ((full_t)fn(crt, "_fullpath"))(NULL, "x", 0), 3);
    if (fn(crt, "_tempnam") != 0)
        drop_inside(crt, ((dup_t(*)(const char *, const char *))fn(crt, "_tempnam"))("c:\\", "x"),
                    3);
    char *value = NULL;
    size_t length = 0;
    if (fn(crt, "_dupenv_s") != 0 &&
        ((env_t)fn(crt, "_dupenv_s"))(&value, &length, "SystemRoot") == 0 && value != NULL)
        drop_inside(crt, value, length);
}

static void limits(const crt_t *crt) {
    int *(*const error)(void) = (int *(*)(void))fn(crt, "_errno");
    if (error != NULL)
        *error() = 0;
    CHECK_AT(((make1_t)fn(crt, "malloc"))(SIZE_MAX / 2 + 1) == NULL, crt->name);
    CHECK_AT(error == NULL || *error() == 12, crt->name);
    if (error != NULL)
        *error() = 0;
    CHECK_AT(((make2_t)fn(crt, "calloc"))(SIZE_MAX / 2, 4) == NULL, crt->name);
    CHECK_AT(error == NULL || *error() == 12, crt->name);
    void *p = ((make1_t)fn(crt, "malloc"))(0), *q = ((make1_t)fn(crt, "malloc"))(0);
    CHECK_AT(p != NULL && q != NULL && p != q, crt->name);
    CHECK_AT(((take2_t)fn(crt, "realloc"))(p, 0) == NULL, crt->name);
    ((free_t)fn(crt, "free"))(q);
    ((free_t)fn(crt, "free"))(NULL);
}

static void make_after(const crt_t *crt) {
    static const char *const m1[] = {"malloc", "_malloc_base", "_o_malloc", "_o__malloc_base",
                                     "_malloc_crt"};
    static const char *const m2[] = {"calloc", "_calloc_base", "_o_calloc", "_o__calloc_base",
                                     "_calloc_crt"};
    static const char *const r2[] = {"realloc", "_realloc_base", "_o_realloc", "_o__realloc_base",
                                     "_realloc_crt"};
    static const char *const r3[] = {"_recalloc", "_o__recalloc", "_recalloc_crt"};
    // Below the debug heap of a debug CRT the base functions go on to serve the CRT's own heap.
    const bool has_base = (fn(crt, "_CrtIsValidHeapPointer") == 0);
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        for (unsigned i = 0; i < 5; i++) {
            if (i % 2 == 1 && !has_base)
                continue;
            make1(crt, m1[i], sizes[s]);
            make2(crt, m2[i], 3, sizes[s]);
            resize(crt, r2[i], sizes[s]);
        }
        for (unsigned i = 0; i < 3; i++)
            recalloc(crt, r3[i], sizes[s]);
        aligned(crt, sizes[s]);
        operators(crt, sizes[s]);
    }
    inside(crt);
    limits(crt);
}

// ---- the way in ----

static HMODULE load(const char *name) {
    const HMODULE m = LoadLibraryA(name);
    if (m == NULL) {
        say("cannot load %s, error %lu\n", name, GetLastError());
        ExitProcess(2);
    }
    return m;
}

static void check_status(HMODULE redirect, const char *mode) {
    static char text[65536];
    size_t (*const status)(char *, size_t, int) =
        (size_t(*)(char *, size_t, int))proc(redirect, "mi_redirect_status");
    bool (*const is_active)(void *) = (bool (*)(void *))proc(redirect, "mi_redirect_is_active");
    const size_t needed = status(text, sizeof(text), 0);
    CHECK(needed > 100 && needed < sizeof(text));
    say_text(text);
    bool is_known = true;
    for (const char *p = text; *p != 0; p++)
        is_known &= (!mi_str_starts(p, "unknown pointers: ") || p[18] == '0');
    CHECK(is_known);
    CHECK(status(text, sizeof(text), 7) == 0);
    CHECK(status(text, sizeof(text), 1) > 100 && text[0] == '{');
    say_text(text);
    // This program imports from a CRT in the modes that import the halves.
    const bool has_imports = (mi_str_eq(mode, "early") || mi_str_eq(mode, "late"));
    CHECK(is_active(NULL) == has_imports);
    CHECK(!is_active((void *)(uintptr_t)GetProcAddress));
}

static HMODULE find_by_export(const char *const *names, const char *export_name) {
    for (; *names != NULL; names++) {
        const HMODULE m = GetModuleHandleA(*names);
        if (m != NULL && GetProcAddress(m, export_name) != NULL)
            return m;
    }
    return NULL;
}

#ifdef FAMILY_IMPORTS
// Only to have the imports, in the order of the libraries on the link line.
__declspec(dllimport) bool standin_is_ours(const void *p);
__declspec(dllimport) bool mi_allocator_init(const char **message);
__declspec(dllimport) int *_errno(void);
__declspec(dllimport) void *malloc(size_t size);
__declspec(dllimport) void free(void *p);
void *volatile imported[5];
#endif

static DWORD WINAPI short_life(void *unused) {
    (void)unused;
    return 0;
}

// An allocator with the original's interface has no notifications of its own: it is told of the
// process once, and of every thread that comes and goes.
static void check_told(HMODULE allocator) {
    LONG (*const calls)(DWORD) = (LONG(*)(DWORD))proc(allocator, "standin_entry_calls");
    if (calls == NULL)
        return;
    const LONG came = calls(DLL_THREAD_ATTACH), went = calls(DLL_THREAD_DETACH);
    const HANDLE t = CreateThread(NULL, 0, short_life, NULL, 0, NULL);
    CHECK(t != NULL && WaitForSingleObject(t, INFINITE) == WAIT_OBJECT_0);
    CHECK(calls(DLL_PROCESS_ATTACH) == 1 && calls(DLL_PROCESS_DETACH) == 0);
    CHECK(calls(DLL_THREAD_ATTACH) == came + 1 && calls(DLL_THREAD_DETACH) == went + 1);
}

void mainCRTStartup(void) {
    static const char *const redirects[] = {"mimalloc-redirect.dll", "mimalloc-redirect32.dll",
                                            NULL};
    static const char *const allocators[] = {"standin.dll", "standin32.dll", "mimalloc.dll", NULL};
    const char *mode = argument(1);
    char rung[16];
    is_tables = (GetEnvironmentVariableA("MIMALLOC_REDIRECT_RUNG", rung, sizeof(rung)) > 0 &&
                 mi_str_eq(rung, "tables"));
    const bool is_load = mi_str_starts(mode, "load");
    const unsigned first_crt = (is_load ? 4 : 2);
#ifdef FAMILY_IMPORTS
    imported[0] = (void *)(uintptr_t)standin_is_ours;
    imported[1] = (void *)(uintptr_t)mi_allocator_init;
    imported[2] = (void *)(uintptr_t)_errno;
    imported[3] = (void *)(uintptr_t)malloc;
    imported[4] = (void *)(uintptr_t)free;
#endif
    for (unsigned i = first_crt; *argument(i) != 0 && crt_count < CRTS_MAX; i++) {
        crts[crt_count].module = load(argument(i));
        crts[crt_count++].name = argument(i);
    }
    HMODULE redirect = NULL, allocator = NULL;
    if (is_load) {
        for (unsigned c = 0; c < crt_count; c++)
            for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
                make_before(&crts[c], sizes[s]);
        const bool is_redirect_first = mi_str_eq(mode, "load-redirect");
        if (is_redirect_first)
            redirect = load(argument(2));
        allocator = load(argument(3));
        if (!is_redirect_first) {
            // The allocator found no redirect DLL; the redirect DLL finds the allocator.
            redirect = load(argument(2));
        }
    } else {
        redirect = find_by_export(redirects, "mi_redirect_status");
        allocator = find_by_export(allocators, "_mi_redirect_allocator");
    }
    CHECK(redirect != NULL && allocator != NULL);
    if (redirect == NULL || allocator == NULL)
        finish();
    is_ours = (bool (*)(const void *))proc(allocator, "standin_is_ours");
    if (is_ours == NULL)
        is_ours = (bool (*)(const void *))proc(allocator, "mi_is_in_heap_region");
    take_all_before();
    for (unsigned c = 0; c < crt_count; c++)
        make_after(&crts[c]);
    check_status(redirect, mode);
    check_told(allocator);
    finish();
}
