// What a program can observe of a CRT's allocation functions beside the addresses, printed line by
// line, so that a run with the redirection and one without can be compared (test_semantics.py).
//
//   semantics redirect.dll allocator.dll early|late crt.dll [genuine]
//
// early: the CRT comes after both halves; late: before them. With MIMALLOC_DISABLE_REDIRECT=1 the
// CRT's own functions answer. genuine: Microsoft's DLL, where nothing is missing.
#include "wtest.h"

typedef void *(*make1_t)(size_t);
typedef void *(*make2_t)(size_t, size_t);
typedef void *(*make3_t)(size_t, size_t, size_t);
typedef void *(*take2_t)(void *, size_t);
typedef void *(*take3_t)(void *, size_t, size_t);
typedef void *(*take4_t)(void *, size_t, size_t, size_t);
typedef void *(*take5_t)(void *, size_t, size_t, size_t, size_t);
typedef void (*free_t)(void *);
typedef size_t (*size1_t)(void *);
typedef size_t (*size3_t)(void *, size_t, size_t);
typedef int (*new_handler_t)(size_t);
typedef new_handler_t (*set_new_handler_t)(new_handler_t);
typedef void (*invalid_t)(const wchar_t *, const wchar_t *, const wchar_t *, unsigned, uintptr_t);
typedef invalid_t (*set_invalid_t)(invalid_t);

static HMODULE crt;
static make1_t c_malloc;
static make2_t c_calloc;
static take2_t c_realloc;
static free_t c_free;
static size1_t c_msize;
static int *(*c_errno)(void);
static bool is_genuine; // some calls end in a fault in Wine's CRTs
static bool has_invalid_handler;
static unsigned invalid_calls;
static const size_t sizes[] = {1, 7, 16, 24, 100, 112, 1000, 2049, 5000, 70000, 131073, 1500000};

static uintptr_t either(const char *a, const char *b, const char *c) {
    uintptr_t at = proc(crt, a);
    if (at == 0 && b != NULL)
        at = proc(crt, b);
    if (at == 0 && c != NULL)
        at = proc(crt, c);
    return at;
}

static void on_invalid(const wchar_t *a, const wchar_t *b, const wchar_t *c, unsigned d,
                       uintptr_t e) {
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    (void)e;
    invalid_calls++;
}

static void begin(void) {
    *c_errno() = 0;
    invalid_calls = 0;
}

static void tell(const char *what, size_t value) {
    const int error = *c_errno();
    if (value == (size_t)-1)
        say("%s: -1", what);
    else
        say("%s: %llu", what, (unsigned long long)value);
    say(" errno %d invalid %u\n", error, invalid_calls);
    begin();
}

static bool all_are(const uint8_t *p, size_t from, size_t to, uint8_t value) {
    for (size_t i = from; i < to; i++)
        if (p[i] != value)
            return false;
    return true;
}

static void *filled(size_t size) {
    void *p = c_malloc(size);
    memset(p, 0xA5, size);
    return p;
}

static void show_sizes(void) {
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t size = sizes[i];
        say("size %u\n", (unsigned)size);
        begin();
        uint8_t *p = filled(size);
        tell("malloc _msize", c_msize(p));
        p = c_realloc(p, size + 3);
        tell("realloc +3 _msize", c_msize(p));
        tell("realloc +3 contents", all_are(p, 0, size, 0xA5));
        p = c_realloc(p, size / 2 + 1);
        tell("realloc /2 _msize", c_msize(p));
        tell("realloc /2 contents", all_are(p, 0, size / 2 + 1, 0xA5));
        c_free(p);
        p = c_calloc(size, 3);
        tell("calloc _msize", c_msize(p));
        tell("calloc zero", all_are(p, 0, 3 * size, 0));
        c_free(p);
    }
}

static void show_edges(void) {
    const size_t most = SIZE_MAX / 2;
    begin();
    void *p = c_malloc(0);
    void *q = c_malloc(0);
    tell("malloc(0) is a block", p != NULL);
    tell("malloc(0) is unique", p != q);
    tell("malloc(0) _msize", c_msize(p));
    tell("realloc(p, 0) is NULL", c_realloc(p, 0) == NULL);
    p = c_calloc(0, 5);
    tell("calloc(0, 5) is a block", p != NULL);
    tell("calloc(0, 5) _msize", c_msize(p));
    c_free(p);
    p = c_realloc(NULL, 50);
    tell("realloc(NULL, 50) _msize", c_msize(p));
    c_free(p);
    p = c_realloc(NULL, 0);
    tell("realloc(NULL, 0) is a block", p != NULL);
    c_free(p);
    c_free(NULL);
    begin();
    tell("malloc(max)", c_malloc(SIZE_MAX) == NULL);
    begin();
    tell("malloc(max - 64)", c_malloc(SIZE_MAX - 64) == NULL);
    begin();
    tell("malloc(half)", c_malloc(most) == NULL);
    begin();
    tell("calloc overflow", c_calloc(most, 4) == NULL);
    begin();
    tell("calloc too much", c_calloc(most, 1) == NULL);
    begin();
    q = c_realloc(q, 10);
    memset(q, 0x11, 10);
    begin();
    tell("realloc(max)", c_realloc(q, SIZE_MAX - 64) == NULL);
    begin();
    tell("realloc(max) keeps", all_are(q, 0, 10, 0x11));
    tell("realloc(max) keeps _msize", c_msize(q));
    c_free(q);
    *c_errno() = 77;
    c_free(c_malloc(20));
    tell("malloc and free leave errno", 1);
    SetLastError(1234);
    c_free(c_malloc(20));
    tell("malloc and free leave the last error", GetLastError() == 1234);
    if (has_invalid_handler && is_genuine) {
        begin();
        tell("_msize(NULL)", c_msize(NULL));
    }
}

static void show_expand(void) {
    take2_t expand = (take2_t)proc(crt, "_expand");
    for (size_t i = 0; expand != NULL && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t size = sizes[i] + 100;
        uint8_t *p = filled(size);
        begin();
        uint8_t *r = expand(p, size / 3);
        tell("_expand smaller", r == p);
        tell("_expand smaller _msize", c_msize(p));
        begin();
        r = expand(p, size / 3 + 1);
        tell("_expand stays or fails", r == p || r == NULL);
        tell("_expand tells its size", c_msize(p) == size / 3 + (r != NULL ? 1 : 0));
        begin();
        tell("_expand too much", expand(p, SIZE_MAX / 2) == NULL);
        begin();
        tell("_expand too much keeps", all_are(p, 0, size / 3, 0xA5));
        c_free(p);
    }
    if (expand != NULL && has_invalid_handler) {
        begin();
        tell("_expand(NULL)", expand(NULL, 10) == NULL);
    }
}

static void show_recalloc(void) {
    take3_t recalloc = (take3_t)proc(crt, "_recalloc");
    for (size_t i = 0; recalloc != NULL && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t size = sizes[i];
        begin();
        uint8_t *p = recalloc(filled(size), size + 5, 2);
        tell("_recalloc grown _msize", c_msize(p));
        tell("_recalloc grown kept", all_are(p, 0, size, 0xA5));
        tell("_recalloc grown zero", all_are(p, size, 2 * size + 10, 0));
        memset(p, 0x5A, 2 * size + 10);
        p = recalloc(p, 1, size + 10);
        tell("_recalloc shrunk _msize", c_msize(p));
        p = recalloc(p, 1, size + 14);
        tell("_recalloc again zero", all_are(p, size + 10, size + 14, 0));
        begin();
        tell("_recalloc overflow", recalloc(p, SIZE_MAX / 2, 3) == NULL);
        if (is_genuine) { // Wine clears what it did not get
            begin();
            tell("_recalloc too much", recalloc(p, SIZE_MAX / 2, 1) == NULL);
        }
        begin();
        tell("_recalloc keeps", all_are(p, 0, size + 10, 0x5A));
        begin();
        tell("_recalloc to 0", recalloc(p, 0, 5) == NULL);
        begin();
        p = recalloc(NULL, size, 2);
        tell("_recalloc(NULL) zero", all_are(p, 0, 2 * size, 0));
        tell("_recalloc(NULL) _msize", c_msize(p));
        c_free(p);
    }
}

static void show_aligned_one(size_t size, size_t align, size_t offset) {
    make3_t make = (make3_t)proc(crt, "_aligned_offset_malloc");
    take4_t resize = (take4_t)proc(crt, "_aligned_offset_realloc");
    take5_t recalloc = (take5_t)proc(crt, "_aligned_offset_recalloc");
    size3_t msize = (size3_t)proc(crt, "_aligned_msize");
    free_t release = (free_t)proc(crt, "_aligned_free");
    begin();
    uint8_t *p = make(size, align, offset);
    tell("aligned malloc", p != NULL && ((uintptr_t)p + offset) % align == 0);
    memset(p, 0xA5, size);
    if (msize != NULL)
        tell("_aligned_msize", msize(p, align, offset));
    p = resize(p, size + 9, align, offset);
    tell("aligned realloc", p != NULL && ((uintptr_t)p + offset) % align == 0);
    tell("aligned realloc kept", all_are(p, 0, size, 0xA5));
    if (msize != NULL)
        tell("aligned realloc _aligned_msize", msize(p, align, offset));
    if (recalloc != NULL && is_genuine) { // Wine has a stub
        memset(p, 0xA5, size + 9);
        p = recalloc(p, 2, size + 9, align, offset);
        tell("aligned recalloc", p != NULL && ((uintptr_t)p + offset) % align == 0);
        tell("aligned recalloc kept", all_are(p, 0, size + 9, 0xA5));
        tell("aligned recalloc zero", all_are(p, size + 9, 2 * size + 18, 0));
    }
    begin();
    tell("aligned realloc to 0", resize(p, 0, align, offset) == NULL);
    release(NULL);
}

// A block stays what it was when it cannot be resized as asked.
static void show_aligned_refusals(void) {
    take4_t resize = (take4_t)proc(crt, "_aligned_offset_realloc");
    take5_t recalloc = (take5_t)proc(crt, "_aligned_offset_recalloc");
    uint8_t *p = ((make3_t)proc(crt, "_aligned_offset_malloc"))(100, 16, 0);
    memset(p, 3, 100);
    begin();
    tell("aligned realloc offset beyond size", resize(p, 50, 16, 64) == NULL);
    begin();
    tell("aligned realloc not a power of two", resize(p, 50, 24, 0) == NULL);
    if (recalloc != NULL) {
        begin();
        tell("aligned recalloc overflow", recalloc(p, SIZE_MAX / 2, 3, 16, 0) == NULL);
        begin();
        tell("aligned recalloc offset beyond size", recalloc(p, 5, 10, 16, 64) == NULL);
    }
    tell("aligned refusals keep", all_are(p, 0, 100, 3));
    ((free_t)proc(crt, "_aligned_free"))(p);
}

static void show_aligned(void) {
    make2_t make = (make2_t)proc(crt, "_aligned_malloc");
    take3_t resize = (take3_t)proc(crt, "_aligned_realloc");
    free_t release = (free_t)proc(crt, "_aligned_free");
    if (make == NULL)
        return;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (size_t align = 8; align <= 4096; align *= 8)
            for (size_t offset = 0; offset < 24 && offset < sizes[i]; offset += 8)
                show_aligned_one(sizes[i], align, offset);
    // A block that could stay where it is, but for its alignment.
    for (size_t i = 0; i < 8 && is_genuine; i++) { // Wine refuses another alignment
        begin();
        uint8_t *q = make(100, 16);
        memset(q, 0xA5, 100);
        q = resize(q, 90, 4096);
        tell("aligned more", q != NULL && ((uintptr_t)q & 4095) == 0 && all_are(q, 0, 90, 0xA5));
        release(q);
    }
    begin();
    tell("aligned too much", make(SIZE_MAX - 100, 64) == NULL);
    begin();
    tell("aligned half", make(SIZE_MAX / 2, 64) == NULL);
    void *p = make(100, 64);
    memset(p, 3, 100);
    begin();
    tell("aligned realloc too much", resize(p, SIZE_MAX / 2, 64) == NULL);
    tell("aligned realloc keeps", all_are(p, 0, 100, 3));
    release(p);
    if (has_invalid_handler) {
        begin();
        tell("aligned not a power of two", make(100, 24) == NULL);
        begin();
        make3_t offset = (make3_t)proc(crt, "_aligned_offset_malloc");
        tell("aligned offset beyond size", offset(10, 16, 10) == NULL);
        if (is_genuine) // Wine calls no handler
            show_aligned_refusals();
    }
}

// ---- blocks of before ----

// Made by the CRT before anything is redirected, in the order late; each of the questions below
// ends one. They are asked of new blocks when the order is early.
enum { BEFORE_ENDS = 19, BEFORE_SIZES = 5, BEFORE_ALIGN = 64, BEFORE_OFFSET = 24 };
static const size_t before_sizes[BEFORE_SIZES] = {1, 24, 100, 5000, 700000};
static uint8_t *before[BEFORE_SIZES][BEFORE_ENDS];

static void make_before(void) {
    const make1_t make = (make1_t)proc(crt, "malloc");
    const make2_t make_aligned = (make2_t)proc(crt, "_aligned_malloc");
    const make3_t make_offset = (make3_t)proc(crt, "_aligned_offset_malloc");
    for (unsigned i = 0; i < BEFORE_SIZES; i++)
        for (unsigned k = 0; k < BEFORE_ENDS; k++) {
            uint8_t *p = NULL;
            if (k < 10)
                p = (uint8_t *)make(before_sizes[i]);
            else if (k < 15 && make_aligned != NULL)
                p = (uint8_t *)make_aligned(before_sizes[i], BEFORE_ALIGN);
            else if (k >= 15 && make_offset != NULL && before_sizes[i] > BEFORE_OFFSET)
                p = (uint8_t *)make_offset(before_sizes[i], BEFORE_ALIGN, BEFORE_OFFSET);
            if (p != NULL)
                memset(p, 0xA5, before_sizes[i]);
            before[i][k] = p;
        }
}

static void show_before_expand(uint8_t *const blocks[BEFORE_ENDS], size_t size) {
    const take2_t expand = (take2_t)proc(crt, "_expand");
    tell("before: _msize", c_msize(blocks[0]));
    tell("before: _expand too much", expand(blocks[0], SIZE_MAX / 2) == NULL);
    tell("before: _expand too much keeps", all_are(blocks[0], 0, size, 0xA5));
    tell("before: _expand too much _msize", c_msize(blocks[0]));
    tell("before: _expand smaller", expand(blocks[0], size / 2 + 1) == blocks[0]);
    tell("before: _expand smaller _msize", c_msize(blocks[0]));
    if (size < 100000) { // a large block may stay as it is: the heap's affair
        tell("before: _expand to 0", expand(blocks[0], 0) == blocks[0]);
        tell("before: _expand to 0 _msize", c_msize(blocks[0]));
    }
    *c_errno() = 77;
    SetLastError(1234);
    c_free(blocks[0]);
    tell("before: free keeps the last error", GetLastError() == 1234);
}

static void show_before_realloc(uint8_t *const blocks[BEFORE_ENDS], size_t size) {
    begin();
    tell("before: realloc too much", c_realloc(blocks[1], SIZE_MAX / 2) == NULL);
    if (is_genuine) // Wine's heap forgets to check the sum
        tell("before: realloc max", c_realloc(blocks[1], SIZE_MAX - 5) == NULL);
    tell("before: realloc too much keeps", all_are(blocks[1], 0, size, 0xA5));
    uint8_t *p = c_realloc(blocks[1], 2 * size + 10);
    tell("before: realloc _msize", c_msize(p));
    tell("before: realloc contents", all_are(p, 0, size, 0xA5));
    c_free(p);
    p = c_realloc(blocks[2], size / 2 + 1);
    tell("before: realloc smaller _msize", c_msize(p));
    tell("before: realloc smaller contents", all_are(p, 0, size / 2 + 1, 0xA5));
    c_free(p);
    tell("before: realloc to 0", c_realloc(blocks[3], 0) == NULL);
}

static void show_before_recalloc(uint8_t *const blocks[BEFORE_ENDS], size_t size) {
    const take3_t recalloc = (take3_t)proc(crt, "_recalloc");
    if (recalloc == NULL)
        return;
    tell("before: _recalloc overflow", recalloc(blocks[4], SIZE_MAX / 2, 3) == NULL);
    if (is_genuine) // Wine clears what it did not get
        tell("before: _recalloc too much", recalloc(blocks[4], SIZE_MAX / 2, 1) == NULL);
    tell("before: _recalloc keeps", all_are(blocks[4], 0, size, 0xA5));
    uint8_t *p = recalloc(blocks[4], 2, size + 3);
    tell("before: _recalloc _msize", c_msize(p));
    tell("before: _recalloc contents", all_are(p, 0, size, 0xA5));
    tell("before: _recalloc zero", all_are(p, size, 2 * size + 6, 0));
    c_free(p);
    p = recalloc(blocks[5], 1, size / 2 + 1);
    tell("before: _recalloc smaller _msize", c_msize(p));
    c_free(p);
    tell("before: _recalloc to 0", recalloc(blocks[6], 0, 5) == NULL);
}

static void show_before_aligned(uint8_t *const blocks[BEFORE_ENDS], size_t size) {
    const take3_t resize = (take3_t)proc(crt, "_aligned_realloc");
    const take4_t recalloc = (take4_t)proc(crt, "_aligned_recalloc");
    const size3_t msize = (size3_t)proc(crt, "_aligned_msize");
    const free_t release = (free_t)proc(crt, "_aligned_free");
    if (msize != NULL)
        tell("before: _aligned_msize", msize(blocks[10], BEFORE_ALIGN, 0));
    tell("before: aligned too much", resize(blocks[10], SIZE_MAX / 2, BEFORE_ALIGN) == NULL);
    if (is_genuine) // Wine calls no handler
        tell("before: aligned by 24", resize(blocks[10], size, 24) == NULL);
    tell("before: aligned keeps", all_are(blocks[10], 0, size, 0xA5));
    uint8_t *p = resize(blocks[10], 2 * size + 10, BEFORE_ALIGN);
    tell("before: aligned realloc", p != NULL && ((uintptr_t)p & (BEFORE_ALIGN - 1)) == 0);
    tell("before: aligned realloc contents", all_are(p, 0, size, 0xA5));
    if (msize != NULL)
        tell("before: aligned realloc _aligned_msize", msize(p, BEFORE_ALIGN, 0));
    release(p);
    tell("before: aligned realloc to 0", resize(blocks[11], 0, BEFORE_ALIGN) == NULL);
    if (recalloc != NULL && is_genuine) { // Wine has a stub
        p = recalloc(blocks[12], 2, size + 3, BEFORE_ALIGN);
        tell("before: aligned recalloc", p != NULL && ((uintptr_t)p & (BEFORE_ALIGN - 1)) == 0);
        tell("before: aligned recalloc contents", all_are(p, 0, size, 0xA5));
        tell("before: aligned recalloc zero", all_are(p, size, 2 * size + 6, 0));
        release(p);
        tell("before: aligned recalloc to 0", recalloc(blocks[13], 0, 5, BEFORE_ALIGN) == NULL);
    }
    *c_errno() = 77;
    SetLastError(1234);
    release(blocks[14]);
    tell("before: _aligned_free keeps the last error", GetLastError() == 1234);
}

static bool is_offset_aligned(const uint8_t *p) {
    return p != NULL && (((uintptr_t)p + BEFORE_OFFSET) & (BEFORE_ALIGN - 1)) == 0;
}

static void show_before_offset(uint8_t *const blocks[BEFORE_ENDS], size_t size) {
    const take4_t resize = (take4_t)proc(crt, "_aligned_offset_realloc");
    const take5_t recalloc = (take5_t)proc(crt, "_aligned_offset_recalloc");
    const size3_t msize = (size3_t)proc(crt, "_aligned_msize");
    const free_t release = (free_t)proc(crt, "_aligned_free");
    if (msize != NULL)
        tell("before: offset _aligned_msize", msize(blocks[15], BEFORE_ALIGN, BEFORE_OFFSET));
    uint8_t *p = resize(blocks[15], 2 * size + 10, BEFORE_ALIGN, BEFORE_OFFSET);
    tell("before: offset realloc", is_offset_aligned(p) && all_are(p, 0, size, 0xA5));
    if (msize != NULL)
        tell("before: offset realloc _aligned_msize", msize(p, BEFORE_ALIGN, BEFORE_OFFSET));
    release(p);
    if (recalloc != NULL && is_genuine) { // Wine has a stub
        tell("before: offset beyond", recalloc(blocks[16], 1, 10, BEFORE_ALIGN, 24) == NULL);
        tell("before: offset overflow",
             recalloc(blocks[16], SIZE_MAX / 2, 3, BEFORE_ALIGN, BEFORE_OFFSET) == NULL);
        p = recalloc(blocks[16], 2, size + 3, BEFORE_ALIGN, BEFORE_OFFSET);
        tell("before: offset recalloc", is_offset_aligned(p) && all_are(p, 0, size, 0xA5));
        tell("before: offset recalloc zero", all_are(p, size, 2 * size + 6, 0));
        release(p);
    }
    p = resize(blocks[17], size / 2 + BEFORE_OFFSET, BEFORE_ALIGN, BEFORE_OFFSET);
    tell("before: offset smaller", is_offset_aligned(p) && all_are(p, 0, size / 2, 0xA5));
    release(p);
    release(blocks[18]);
}

static void show_before(void) {
    if (before[0][0] == NULL)
        make_before();
    for (unsigned i = 0; i < BEFORE_SIZES; i++) {
        begin();
        show_before_expand(before[i], before_sizes[i]);
        show_before_realloc(before[i], before_sizes[i]);
        show_before_recalloc(before[i], before_sizes[i]);
        if (before[i][10] != NULL)
            show_before_aligned(before[i], before_sizes[i]);
        if (before[i][15] != NULL)
            show_before_offset(before[i], before_sizes[i]);
    }
}

// ---- new-handler, new-mode, operators ----

static unsigned handler_calls;
static unsigned handler_gives_up_after;

static int on_new(size_t size) {
    (void)size;
    return ++handler_calls < handler_gives_up_after;
}

// An exception of C++: back to where the context was captured.
static CONTEXT before_throw;
static volatile LONG thrown;
static volatile LONG catches;

static LONG NTAPI on_exception(EXCEPTION_POINTERS *info) {
    if (info->ExceptionRecord->ExceptionCode != 0xE06D7363u || catches == 0)
        return EXCEPTION_CONTINUE_SEARCH;
    InterlockedExchange(&thrown, 1);
    *info->ContextRecord = before_throw;
    return EXCEPTION_CONTINUE_EXECUTION;
}

static bool does_throw(make1_t make, size_t size) {
    void *volatile p = NULL;
    thrown = 0;
    RtlCaptureContext(&before_throw);
    if (thrown == 0) {
        catches = 1;
        p = make(size);
    }
    catches = 0;
    if (p != NULL)
        say("a block of impossible size\n");
    return thrown != 0;
}

static void show_new(void) {
    set_new_handler_t set_handler =
        (set_new_handler_t)either("_set_new_handler", "?_set_new_handler@@YAP6AH_K@ZP6AH0@Z@Z",
                                  "?_set_new_handler@@YAP6AHI@ZP6AHI@Z@Z");
    int (*set_mode)(int) = (int (*)(int))either("_set_new_mode", "?_set_new_mode@@YAHH@Z", NULL);
    int (*query_mode)(void) =
        (int (*)(void))either("_query_new_mode", "?_query_new_mode@@YAHXZ", NULL);
    int (*call)(size_t) = (int (*)(size_t))proc(crt, "_callnewh");
    make1_t op_new = (make1_t)either("?\?2@YAPEAX_K@Z", "?\?2@YAPAXI@Z", NULL);
    make1_t op_array = (make1_t)either("?\?_U@YAPEAX_K@Z", "?\?_U@YAPAXI@Z", NULL);
    free_t op_delete = (free_t)either("?\?3@YAXPEAX@Z", "?\?3@YAXPAX@Z", NULL);
    const size_t much = SIZE_MAX / 2;
    if (sizeof(void *) == 4) // RtlCaptureContext needs frames there that we do not have
        op_new = NULL;
    if (set_handler == NULL || set_mode == NULL)
        return;
    begin();
    tell("no handler _callnewh", call != NULL ? (size_t)call(5) : 0);
    tell("first new-handler", set_handler(on_new) == NULL);
    tell("second new-handler", set_handler(on_new) == on_new);
    for (unsigned mode = 0; mode < 2; mode++) {
        for (handler_gives_up_after = 1; handler_gives_up_after <= 3; handler_gives_up_after += 2) {
            const size_t was = (size_t)set_mode((int)mode);
            tell("mode before", was);
            tell("mode", query_mode != NULL ? (size_t)query_mode() : mode);
            begin();
            handler_calls = 0;
            tell("malloc with handler", c_malloc(much) == NULL);
            tell("handler calls", handler_calls);
            begin();
            handler_calls = 0;
            tell("calloc with handler", c_calloc(much, 1) == NULL);
            tell("handler calls", handler_calls);
            begin();
            handler_calls = 0;
            void *p = c_malloc(10);
            tell("realloc with handler", c_realloc(p, much) == NULL);
            tell("handler calls", handler_calls);
            c_free(p);
            if (op_new != NULL) {
                handler_calls = 0;
                tell("operator new throws", does_throw(op_new, much));
                tell("handler calls", handler_calls);
                handler_calls = 0;
                tell("operator new[] throws", does_throw(op_array, much));
                tell("handler calls", handler_calls);
            }
        }
    }
    set_mode(0);
    tell("handler back", set_handler(NULL) == on_new);
    if (op_new != NULL) {
        void *p = op_new(0);
        tell("operator new(0)", p != NULL);
        op_delete(p);
        p = op_new(33);
        tell("operator new _msize", c_msize(p));
        op_delete(p);
        op_delete(NULL);
        tell("operator new throws without handler", does_throw(op_new, much));
    }
}

// ---- the functions about the whole heap ----

typedef struct heap_info_s {
    int *entry;
    size_t size;
    int use;
} heap_info_t;

static void show_heap(void) {
    int (*check_heap)(void) = (int (*)(void))proc(crt, "_heapchk");
    int (*heap_min)(void) = (int (*)(void))proc(crt, "_heapmin");
    int (*walk)(heap_info_t *) = (int (*)(heap_info_t *))proc(crt, "_heapwalk");
    intptr_t (*handle)(void) = (intptr_t(*)(void))proc(crt, "_get_heap_handle");
    int (*set)(unsigned) = (int (*)(unsigned))proc(crt, "_heapset");
    int (*add)(void *, size_t) = (int (*)(void *, size_t))proc(crt, "_heapadd");
    size_t (*used)(size_t *, size_t *) = (size_t(*)(size_t *, size_t *))proc(crt, "_heapused");
    void *blocks[3] = {filled(40), filled(4000), filled(700000)};
    begin();
    if (check_heap != NULL)
        tell("_heapchk", (size_t)-check_heap());
    if (heap_min != NULL)
        tell("_heapmin", (size_t)heap_min());
    begin();
    if (set != NULL)
        tell("_heapset", (size_t)-set('Z'));
    begin();
    if (add != NULL)
        tell("_heapadd", (size_t)add(NULL, 0));
    begin();
    if (used != NULL && is_genuine) {
        size_t a = 0, b = 0;
        tell("_heapused", used(&a, &b));
    }
    if (handle != NULL) {
        tell("_get_heap_handle", handle() != 0);
        tell("HeapValidate of it", HeapValidate((HANDLE)handle(), 0, NULL) != 0);
    }
    if (walk != NULL) {
        heap_info_t info = {NULL, 0, 0};
        unsigned found[3] = {0, 0, 0};
        int status = -2;
        for (unsigned steps = 0; steps < 1000000 && (status = walk(&info)) == -2; steps++)
            for (unsigned i = 0; i < 3; i++)
                if (info.entry == blocks[i] && info.use == 1 && info.size >= c_msize(blocks[i]))
                    found[i]++;
        tell("_heapwalk ends", (size_t)-status);
        for (unsigned i = 0; i < 3; i++)
            tell("_heapwalk found the block", found[i]);
    }
    for (unsigned i = 0; i < 3; i++)
        c_free(blocks[i]);
}

void mainCRTStartup(void) {
    const bool is_late = mi_str_eq(argument(3), "late");
    is_genuine = mi_str_eq(argument(5), "genuine");
    if (is_late) {
        crt = LoadLibraryA(argument(4));
        make_before();
    }
    const HMODULE redirect = LoadLibraryA(argument(1));
    const HMODULE allocator = LoadLibraryA(argument(2));
    if (!is_late)
        crt = LoadLibraryA(argument(4));
    if (crt == NULL || redirect == NULL || allocator == NULL) {
        say("cannot load\n");
        ExitProcess(2);
    }
    c_malloc = (make1_t)proc(crt, "malloc");
    c_calloc = (make2_t)proc(crt, "calloc");
    c_realloc = (take2_t)proc(crt, "realloc");
    c_free = (free_t)proc(crt, "free");
    c_msize = (size1_t)proc(crt, "_msize");
    c_errno = (int *(*)(void))proc(crt, "_errno");
    const set_invalid_t set_invalid = (set_invalid_t)proc(crt, "_set_invalid_parameter_handler");
    has_invalid_handler = (set_invalid != NULL);
    if (has_invalid_handler)
        (void)set_invalid(on_invalid);
    (void)AddVectoredExceptionHandler(1, on_exception);
    bool (*is_in_heap)(const void *) =
        (bool (*)(const void *))proc(allocator, "mi_is_in_heap_region");
    void *p = c_malloc(1);
    say("redirected: %s\n", is_in_heap != NULL && is_in_heap(p) ? "yes" : "no");
    c_free(p);
    show_sizes();
    show_edges();
    show_expand();
    show_recalloc();
    show_aligned();
    show_new();
    show_heap();
    show_before(); // last: afterwards Wine's walk over its own heap faults
    say("end\n");
    ExitProcess(0);
}
