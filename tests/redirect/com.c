// COM's task memory under the redirection: does what its command line says, one word after the
// other. For test_com.py.
//
//   load DLL | map DLL (its references not resolved) | unload DLL | fault POINT | disable | enable
//   | status | json use DLL (its functions are called from now on) | whose (is its memory: ours or
//   theirs) keep (the code of combase and ole32) | code (what of it has changed since) take
//   (blocks, and COM's own IMalloc, before) | foreign (what becomes of those) owned | heap (heap
//   functions on blocks of ours) | spy | texts, strings, shell (functions of the system) | threads
//   N | late N REDIRECT ALLOCATOR (they come meanwhile) | reload DLL observe (what a program can
//   see beside addresses) | cost (of a pair, for people)
#include "base/atomic.h"
#include "halves.h"

#define CINTERFACE
#define COBJMACROS
#include <oleauto.h>

typedef struct com_s {
    void *(WINAPI *alloc)(SIZE_T);
    void *(WINAPI *realloc)(void *, SIZE_T);
    void(WINAPI *free)(void *);
    HRESULT(WINAPI *get_malloc)(DWORD, IMalloc **);
    HRESULT(WINAPI *register_spy)(IMallocSpy *);
    HRESULT(WINAPI *revoke_spy)(void);
} com_t;

static com_t com;

static bool (*_Atomic known)(const void *); // NULL = not found yet

// The same as is_ours, for threads that ask often: where the answer is, is looked up once.
static bool is_known(const void *p) {
    bool (*owns)(const void *) = mi_load_relaxed(&known);
    if (owns == NULL) {
        owns = (bool (*)(const void *))ownership();
        mi_store_relaxed(&known, owns);
    }
    return owns != NULL && owns(p);
}

static void use(const char *dll) {
    const HMODULE m = GetModuleHandleA(dll);
    com.alloc = (void *(WINAPI *)(SIZE_T))proc(m, "CoTaskMemAlloc");
    com.realloc = (void *(WINAPI *)(void *, SIZE_T))proc(m, "CoTaskMemRealloc");
    com.free = (void(WINAPI *)(void *))proc(m, "CoTaskMemFree");
    com.get_malloc = (HRESULT(WINAPI *)(DWORD, IMalloc **))proc(m, "CoGetMalloc");
    com.register_spy = (HRESULT(WINAPI *)(IMallocSpy *))proc(m, "CoRegisterMallocSpy");
    com.revoke_spy = (HRESULT(WINAPI *)(void))proc(m, "CoRevokeMallocSpy");
    CHECK_AT(com.alloc != NULL && com.realloc != NULL && com.free != NULL, dll);
}

static IMalloc *task_malloc(void) {
    IMalloc *m = NULL;
    CHECK(com.get_malloc(1, &m) == S_OK && m != NULL);
    return m;
}

static const size_t sizes[] = {0, 1, 7, 8, 16, 24, 100, 1000, 5000, 70000, 1500000};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

// ---- what of the code has changed ----

static const char *const watched[] = {"combase.dll", "ole32.dll"};
static uint8_t *copies[2];

static const IMAGE_SECTION_HEADER *code_of(const uint8_t *base) {
    const IMAGE_DOS_HEADER *dos = (const IMAGE_DOS_HEADER *)(const void *)base;
    const IMAGE_NT_HEADERS *nt = (const IMAGE_NT_HEADERS *)(const void *)(base + dos->e_lfanew);
    return IMAGE_FIRST_SECTION(nt);
}

static bool is_entry(uintptr_t at) {
    static const char *const names[] = {"CoTaskMemAlloc",      "CoTaskMemRealloc",
                                        "CoTaskMemFree",       "CoGetMalloc",
                                        "CoRegisterMallocSpy", "CoRevokeMallocSpy"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (at - proc(GetModuleHandleA("combase.dll"), names[i]) < 5)
            return true;
    return false;
}

static void keep_code(void) {
    for (unsigned k = 0; k < 2; k++) {
        const uint8_t *base = (const uint8_t *)GetModuleHandleA(watched[k]);
        const IMAGE_SECTION_HEADER *s = code_of(base);
        copies[k] = (uint8_t *)VirtualAlloc(NULL, s->Misc.VirtualSize, MEM_RESERVE | MEM_COMMIT,
                                            PAGE_READWRITE);
        CHECK((s->Characteristics & IMAGE_SCN_MEM_EXECUTE) != 0 && s->Misc.VirtualSize > 20000);
        CopyMemory(copies[k], base + s->VirtualAddress, s->Misc.VirtualSize);
    }
}

static void compare_code(void) {
    unsigned entries = 0, others = 0;
    for (unsigned k = 0; k < 2; k++) {
        const uint8_t *base = (const uint8_t *)GetModuleHandleA(watched[k]);
        const IMAGE_SECTION_HEADER *s = code_of(base);
        const uint8_t *now = base + s->VirtualAddress;
        for (size_t i = 0; i < s->Misc.VirtualSize; i++)
            if (now[i] != copies[k][i])
                (*(is_entry((uintptr_t)now + i) ? &entries : &others))++;
    }
    say("code: %u bytes of entries changed, %u others\n", entries, others);
}

// ---- blocks of before ----

static uint8_t *taken[3][SIZES];
static IMalloc *their_malloc;

static void take(void) {
    their_malloc = task_malloc();
    for (unsigned k = 0; k < 3; k++)
        for (unsigned i = 0; i < SIZES; i++) {
            taken[k][i] = (uint8_t *)(k == 0   ? com.alloc(sizes[i])
                                      : k == 1 ? IMalloc_Alloc(their_malloc, sizes[i])
                                               : HeapAlloc(GetProcessHeap(), 0, sizes[i]));
            CHECK(taken[k][i] != NULL && !is_ours(taken[k][i]));
            pattern_fill(taken[k][i], sizes[i]);
        }
}

// Blocks of before, and those that somebody makes beside us: measured, resized and freed by the
// original, contents kept.
static void foreign(void) {
    IMalloc *const m = task_malloc();
    for (unsigned k = 0; k < 3; k++)
        for (unsigned i = 0; i < SIZES; i++) {
            uint8_t *p = taken[k][i];
            CHECK(IMalloc_GetSize(m, p) == sizes[i] && IMalloc_DidAlloc(m, p) == 1);
            p = (uint8_t *)(i % 2 == 0 ? com.realloc(p, sizes[i] + 3000)
                                       : IMalloc_Realloc(m, p, sizes[i] + 3000));
            CHECK(p != NULL && !is_ours(p) && pattern_is(p, sizes[i], sizes[i]));
            CHECK(HeapSize(GetProcessHeap(), 0, p) == sizes[i] + 3000);
            if (i % 3 == 0)
                com.free(p);
            else if (i % 3 == 1)
                IMalloc_Free(m, p);
            else
                CHECK(com.realloc(p, 0) == NULL);
            // Gone: its heap does not know it any more.
            CHECK(k == 1 || sizes[i] < 1000 || !HeapValidate(GetProcessHeap(), 0, p));
        }
    for (unsigned i = 0; i < SIZES; i++) {
        uint8_t *p = (uint8_t *)HeapAlloc(GetProcessHeap(), 0, sizes[i]);
        pattern_fill(p, sizes[i]);
        p = (uint8_t *)com.realloc(p, sizes[i] + 77);
        CHECK(p != NULL && !is_ours(p) && pattern_is(p, sizes[i], sizes[i]));
        com.free(p);
    }
    // COM's own interface, kept from before, and blocks of ours.
    uint8_t *p = (uint8_t *)com.alloc(100);
    pattern_fill(p, 100);
    CHECK(is_ours(p) && m != their_malloc);
    CHECK(IMalloc_GetSize(their_malloc, p) == 100 && IMalloc_DidAlloc(their_malloc, p) == 1);
    p = (uint8_t *)IMalloc_Realloc(their_malloc, p, 9000);
    CHECK(p != NULL && is_ours(p) && pattern_is(p, 100, 100));
    IMalloc_Free(their_malloc, p);
    p = (uint8_t *)IMalloc_Alloc(their_malloc, 50); // and its blocks
    CHECK(p != NULL && !is_ours(p));
    com.free(p);
}

// ---- ours ----

static void whose(void) {
    void *p = com.alloc(50);
    say("task memory: %s\n", is_ours(p) ? "ours" : "theirs");
    com.free(p);
}

static void owned_interface(void) {
    static const GUID unknown = {0, 0, 0, {0xC0, 0, 0, 0, 0, 0, 0, 0x46}};
    static const GUID stream = {0xC, 0, 0, {0xC0, 0, 0, 0, 0, 0, 0, 0x46}};
    IMalloc *const m = task_malloc();
    void *other = NULL;
    CHECK(IMalloc_QueryInterface(m, &unknown, &other) == S_OK && other == m);
    CHECK(IMalloc_QueryInterface(m, &stream, &other) == E_NOINTERFACE && other == NULL);
    CHECK(IMalloc_AddRef(m) > 0 && IMalloc_Release(m) > 0 && task_malloc() == m);
    for (unsigned i = 0; i < SIZES; i++) {
        uint8_t *p = (uint8_t *)IMalloc_Alloc(m, sizes[i]);
        CHECK(p != NULL && is_ours(p) && IMalloc_DidAlloc(m, p) == 1);
        const size_t size = IMalloc_GetSize(m, p); // an empty block may say 1
        CHECK(size == sizes[i] || (sizes[i] == 0 && size == 1));
        pattern_fill(p, sizes[i]);
        p = (uint8_t *)IMalloc_Realloc(m, p, sizes[i] * 2 + 1);
        CHECK(p != NULL && is_ours(p) && pattern_is(p, sizes[i], sizes[i]));
        CHECK(IMalloc_GetSize(m, p) == sizes[i] * 2 + 1);
        IMalloc_HeapMinimize(m);
        CHECK(pattern_is(p, sizes[i], sizes[i]));
        IMalloc_Free(m, p);
    }
    uint64_t local[4] = {0};
    CHECK(IMalloc_DidAlloc(m, NULL) == -1 && IMalloc_GetSize(m, NULL) == (SIZE_T)-1);
    CHECK(IMalloc_DidAlloc(m, &local[2]) == 0);
    IMalloc_Free(m, NULL);
}

// The four ways in which a block is freed.
static void drop_somehow(IMalloc *m, uint8_t *p, unsigned how) {
    if (how == 0)
        com.free(p);
    else if (how == 1)
        IMalloc_Free(m, p);
    else if (how == 2)
        HeapFree(GetProcessHeap(), 0, p);
    else
        CHECK(com.realloc(p, 0) == NULL);
}

// What is freed comes back: sooner or later a block lies where one lay before.
static bool comes_back(size_t size, unsigned how) {
    uint8_t *seen[64];
    IMalloc *const m = task_malloc();
    for (unsigned i = 0; i < 64; i++) {
        seen[i] = (uint8_t *)com.alloc(size);
        drop_somehow(m, seen[i], how);
        for (unsigned k = 0; k < i; k++)
            if (seen[k] == seen[i])
                return true;
    }
    return false;
}

static void owned(void) {
    for (unsigned how = 0; how < 4; how++)
        CHECK(comes_back(24, how) && comes_back(5000, how));
    for (unsigned i = 0; i < SIZES; i++) {
        uint8_t *p = (uint8_t *)com.alloc(sizes[i]);
        CHECK(p != NULL && is_ours(p) && ((uintptr_t)p & (2 * sizeof(void *) - 1)) == 0);
        pattern_fill(p, sizes[i]);
        p = (uint8_t *)com.realloc(p, sizes[i] + 5000);
        CHECK(p != NULL && is_ours(p) && pattern_is(p, sizes[i], sizes[i]));
        p = (uint8_t *)com.realloc(p, sizes[i] / 2 + 1);
        CHECK(p != NULL && is_ours(p) && pattern_is(p, sizes[i], sizes[i] / 2));
        com.free(p);
        p = (uint8_t *)com.realloc(NULL, sizes[i]);
        CHECK(p != NULL && is_ours(p));
        CHECK(com.realloc(p, 0) == NULL);
    }
    com.free(NULL);
    CHECK(com.alloc(SIZE_MAX) == NULL && com.alloc(SIZE_MAX / 2) == NULL);
    uint8_t *p = (uint8_t *)com.alloc(64);
    pattern_fill(p, 64);
    CHECK(com.realloc(p, SIZE_MAX / 2) == NULL && pattern_is(p, 64, 64));
    com.free(p);
    owned_interface();
}

// Blocks of ours that system code frees, measures and resizes by the heap functions.
static void heap(void) {
    const HANDLE process = GetProcessHeap();
    for (unsigned i = 0; i < SIZES; i++) {
        const size_t size = sizes[i] + 1;
        CHECK(HeapSize(process, 0, com.alloc(size)) == size);
        CHECK(LocalSize(com.alloc(size)) == size && GlobalSize(com.alloc(size)) == size);
        CHECK(HeapValidate(process, 0, com.alloc(size)));
        CHECK(HeapFree(process, 0, com.alloc(size)));
        CHECK(LocalFree(com.alloc(size)) == NULL && GlobalFree(com.alloc(size)) == NULL);
        uint8_t *p = (uint8_t *)com.alloc(size);
        pattern_fill(p, size);
        p = (uint8_t *)HeapReAlloc(process, HEAP_ZERO_MEMORY, p, size + 900);
        CHECK(p != NULL && is_ours(p) && pattern_is(p, size, size) && p[size + 899] == 0);
        com.free(p);
    }
}

// ---- functions of the system that return task memory, or take it ----

static bool is_text(const WCHAR *a, const WCHAR *b) {
    size_t i = 0;
    while (a != NULL && a[i] == b[i] && a[i] != 0)
        i++;
    return a != NULL && a[i] == b[i];
}

// *p is task memory that a function returned: ours, and with this text.
static void user_text(const char *function, HRESULT result, WCHAR *p, const WCHAR *text) {
    CHECK_AT(result == S_OK && is_text(p, text), function);
    CHECK_AT(is_ours(p), function);
    com.free(p);
}

static void users_texts(void) {
    static const GUID id = {0x12345678, 0x9ABC, 0xDEF0, {1, 2, 3, 4, 5, 6, 7, 8}};
    static const WCHAR *const text = L"{12345678-9ABC-DEF0-0102-030405060708}";
    const HMODULE ole32 = GetModuleHandleA("ole32.dll");
    WCHAR *p = NULL;
    HRESULT result =
        ((HRESULT(WINAPI *)(const GUID *, WCHAR **))proc(ole32, "StringFromCLSID"))(&id, &p);
    user_text("StringFromCLSID", result, p, text);
    result = ((HRESULT(WINAPI *)(const GUID *, WCHAR **))proc(ole32, "StringFromIID"))(&id, &p);
    user_text("StringFromIID", result, p, text);
    result = ((HRESULT(WINAPI *)(const WCHAR *, WCHAR **))proc(LoadLibraryA("shlwapi.dll"),
                                                               "SHStrDupW"))(text, &p);
    user_text("SHStrDupW", result, p, text);
    PROPVARIANT from = {.vt = VT_LPWSTR}, to = {.vt = VT_EMPTY};
    const uintptr_t copy = proc(ole32, "PropVariantCopy"), clear = proc(ole32, "PropVariantClear");
    from.pwszVal = (WCHAR *)(uintptr_t)text;
    CHECK(((HRESULT(WINAPI *)(PROPVARIANT *, const PROPVARIANT *))copy)(&to, &from) == S_OK);
    CHECK(is_ours(to.pwszVal) && is_text(to.pwszVal, text));
    CHECK(((HRESULT(WINAPI *)(PROPVARIANT *))clear)(&to) == S_OK);
    // A block of ours that PropVariantClear frees.
    to.vt = VT_CLSID;
    to.puuid = (CLSID *)com.alloc(sizeof(CLSID));
    *to.puuid = id;
    CHECK(((HRESULT(WINAPI *)(PROPVARIANT *))clear)(&to) == S_OK && to.vt == VT_EMPTY);
}

// Strings of automation live in a heap or cache of their own; they cross into variants.
static void users_strings(void) {
    const HMODULE m = LoadLibraryA("oleaut32.dll");
    BSTR(WINAPI *const make)
    (const WCHAR *) = (BSTR(WINAPI *)(const WCHAR *))proc(m, "SysAllocString");
    void(WINAPI *const drop)(BSTR) = (void(WINAPI *)(BSTR))proc(m, "SysFreeString");
    UINT(WINAPI *const length)(BSTR) = (UINT(WINAPI *)(BSTR))proc(m, "SysStringLen");
    INT(WINAPI *const change)
    (BSTR *, const WCHAR *) = (INT(WINAPI *)(BSTR *, const WCHAR *))proc(m, "SysReAllocString");
    for (unsigned round = 0; round < 300; round++) {
        BSTR a = make(L"one"), b = make(L"another string that is longer than the first of them");
        CHECK(is_text(a, L"one") && length(b) == 52);
        CHECK(change(&a, b) && length(a) == 52 && is_text(a, b));
        drop(a);
        drop(b);
    }
    VARIANT v = {0}, w = {0};
    v.vt = VT_BSTR;
    v.bstrVal = make(L"text");
    CHECK(((HRESULT(WINAPI *)(VARIANT *, VARIANT *))proc(m, "VariantCopy"))(&w, &v) == S_OK);
    CHECK(is_text(w.bstrVal, L"text") && w.bstrVal != v.bstrVal);
    CHECK(((HRESULT(WINAPI *)(VARIANT *))proc(m, "VariantClear"))(&v) == S_OK);
    CHECK(((HRESULT(WINAPI *)(VARIANT *))proc(m, "VariantClear"))(&w) == S_OK);
}

// The shell hands out the same memory under names of its own.
static void users_shell(void) {
    const HMODULE shell = LoadLibraryA("shell32.dll");
    IMalloc *m = NULL;
    CHECK(((HRESULT(WINAPI *)(IMalloc **))proc(shell, "SHGetMalloc"))(&m) == S_OK);
    CHECK(m == task_malloc());
    void *(WINAPI *const make)(ULONG) = (void *(WINAPI *)(ULONG))proc(shell, (const char *)196);
    void(WINAPI *const drop)(void *) = (void(WINAPI *)(void *))proc(shell, (const char *)195);
    void *p = make(100); // SHAlloc, SHFree
    CHECK(p != NULL && is_ours(p));
    drop(p);
    drop(com.alloc(30));
    com.free(make(30));
}

// ---- IMallocSpy ----

// Counts, and changes nothing: Wine allocates the size that was asked for, whatever a spy says.
static struct {
    unsigned allocs, frees, spied_frees, reallocs, questions;
    size_t size;       // of the last allocation
    const void *spied; // the last block that was allocated
} seen;

static HRESULT WINAPI spy_query(IMallocSpy *self, REFIID iid, void **out) {
    (void)iid;
    *out = self;
    return S_OK;
}

static ULONG WINAPI spy_ref(IMallocSpy *self) {
    (void)self;
    return 1;
}

static SIZE_T WINAPI spy_pre_alloc(IMallocSpy *self, SIZE_T size) {
    (void)self;
    seen.allocs++;
    seen.size = size;
    return size;
}

static void *WINAPI spy_post_alloc(IMallocSpy *self, void *p) {
    (void)self;
    seen.spied = p;
    return p;
}

static void *WINAPI spy_pre_free(IMallocSpy *self, void *p, BOOL is_spied) {
    (void)self;
    seen.frees++;
    seen.spied_frees += (is_spied != 0);
    return p;
}

static void WINAPI spy_post(IMallocSpy *self, BOOL is_spied) {
    (void)self;
    (void)is_spied;
}

static SIZE_T WINAPI spy_pre_realloc(IMallocSpy *self, void *p, SIZE_T size, void **start,
                                     BOOL is_spied) {
    (void)self;
    (void)is_spied;
    seen.reallocs++;
    *start = p;
    return size;
}

static void *WINAPI spy_post_realloc(IMallocSpy *self, void *p, BOOL is_spied) {
    (void)self;
    (void)is_spied;
    return p;
}

static void *WINAPI spy_pre_ask(IMallocSpy *self, void *p, BOOL is_spied) {
    (void)self;
    (void)is_spied;
    seen.questions++;
    return p;
}

static SIZE_T WINAPI spy_post_size(IMallocSpy *self, SIZE_T size, BOOL is_spied) {
    (void)self;
    (void)is_spied;
    return size;
}

static int WINAPI spy_post_did(IMallocSpy *self, void *p, BOOL is_spied, int did) {
    (void)self;
    (void)p;
    (void)is_spied;
    return did;
}

static void WINAPI spy_minimize(IMallocSpy *self) {
    (void)self;
}

static IMallocSpyVtbl spy_vtbl = {spy_query,        spy_ref,      spy_ref,       spy_pre_alloc,
                                  spy_post_alloc,   spy_pre_free, spy_post,      spy_pre_realloc,
                                  spy_post_realloc, spy_pre_ask,  spy_post_size, spy_pre_ask,
                                  spy_post_did,     spy_minimize, spy_minimize};
static IMallocSpy the_spy = {&spy_vtbl};

// From its registration on the spy sees everything, blocks of ours included, and nothing when it
// has gone.
static void spy(void) {
    IMalloc *const m = task_malloc();
    uint8_t *ours[3];
    for (unsigned i = 0; i < 3; i++) {
        ours[i] = (uint8_t *)com.alloc(40);
        pattern_fill(ours[i], 40);
        CHECK(is_ours(ours[i]));
    }
    CHECK(com.register_spy(&the_spy) == S_OK && com.register_spy(&the_spy) == CO_E_OBJISREG);
    uint8_t *p = (uint8_t *)com.alloc(100), *q = (uint8_t *)IMalloc_Alloc(m, 200);
    CHECK(seen.allocs == 2 && seen.size == 200 && seen.spied == q && !is_ours(p) && !is_ours(q));
    CHECK(IMalloc_GetSize(m, p) == 100 && IMalloc_DidAlloc(m, p) == 1 && seen.questions == 2);
    CHECK(IMalloc_GetSize(m, ours[0]) == 40 && IMalloc_DidAlloc(m, ours[0]) == 1);
    com.free(ours[0]);
    CHECK(seen.frees == 1 && seen.spied_frees == 0);
    ours[1] = (uint8_t *)com.realloc(ours[1], 3000);
    CHECK(seen.reallocs == 1 && pattern_is(ours[1], 40, 40) && IMalloc_GetSize(m, ours[1]) == 3000);
    p = (uint8_t *)com.realloc(p, 5000);
    CHECK(seen.reallocs == 2);
    status(0);
    CHECK(com.revoke_spy() == E_ACCESSDENIED); // blocks of its time are about
    IMalloc_Free(m, q);
    com.free(p);
    com.free(ours[1]);
    say("spied\n");
    (void)com.revoke_spy(); // gone with its last block, or now
    CHECK(com.register_spy(&the_spy) == S_OK && com.revoke_spy() == S_OK);
    const unsigned allocs = seen.allocs;
    p = (uint8_t *)com.alloc(100);
    CHECK(is_ours(p) && seen.allocs == allocs);
    com.free(p);
    com.free(ours[2]);
    CHECK(com.revoke_spy() == CO_E_OBJNOTREG);
}

// ---- threads ----

enum { SHARED = 256, ROUNDS = 20000 };
static uint8_t *_Atomic shared[SHARED]; // handed from thread to thread
static _Atomic(unsigned) strangers;     // blocks that were not ours

// The first two bytes tell the size of a block, the rest is its pattern.
static DWORD WINAPI churn(void *arg) {
    uint32_t random = (uint32_t)(uintptr_t)arg * 2654435761u + 1;
    IMalloc *const m = task_malloc();
    for (unsigned i = 0; i < ROUNDS; i++) {
        random = random * 1664525u + 1013904223u;
        const uint16_t size = (uint16_t)(8 + (random >> 8) % 700);
        uint8_t *p = (uint8_t *)((random >> 5) % 2 == 0 ? com.alloc(size) : IMalloc_Alloc(m, size));
        // Until the allocator has come, a look for it takes long.
        if ((i % 32 == 0 || mi_load_relaxed(&known) != NULL) && !is_known(p))
            (void)mi_fetch_add_relaxed(&strangers, 1u);
        CopyMemory(p, &size, 2);
        for (unsigned k = 2; k < size; k++)
            p[k] = (uint8_t)(k + size);
        // Acquire and release: the contents of a block go with its address.
        p = atomic_exchange_explicit(&shared[(random >> 18) % SHARED], p, memory_order_acq_rel);
        if (p == NULL)
            continue;
        uint16_t old;
        CopyMemory(&old, p, 2);
        bool is_good = true;
        if (random % 3 == 0)
            p = (uint8_t *)com.realloc(p, old + 100u);
        for (unsigned k = 2; k < old; k++)
            is_good &= (p[k] == (uint8_t)(k + old));
        CHECK(is_good);
        drop_somehow(m, p, (random >> 12) % 4);
    }
    return 0;
}

// With the word "late" the halves come while the threads are at work.
static void threads(unsigned count, const char *redirect_opt, const char *allocator) {
    HANDLE thread[16];
    for (unsigned i = 0; i < count; i++)
        thread[i] = CreateThread(NULL, 0, churn, (void *)(uintptr_t)(i + 1), 0, NULL);
    if (redirect_opt != NULL) {
        for (unsigned i = 0; i < SHARED / 2; i++) // until they have begun
            while (mi_load_acquire(&shared[i]) == NULL)
                SwitchToThread();
        CHECK(LoadLibraryA(redirect_opt) != NULL && LoadLibraryA(allocator) != NULL);
    }
    WaitForMultipleObjects(count, thread, TRUE, INFINITE);
    for (unsigned i = 0; i < SHARED; i++)
        com.free(mi_load_acquire(&shared[i]));
    say("strangers: %s\n", mi_load_relaxed(&strangers) == 0 ? "none" : "some");
}

// ---- an owner that comes and goes ----

static void reload(const char *dll, unsigned rounds) {
    void *kept = NULL;
    IMalloc *m = NULL;
    for (unsigned i = 0; i < rounds; i++) {
        const HMODULE module = LoadLibraryA(dll);
        use(dll);
        void *p = com.alloc(100);
        CHECK(is_ours(p));
        com.free(kept); // of the owner of before
        kept = p;
        m = task_malloc();
        CHECK(FreeLibrary(module) && GetModuleHandleA(dll) == NULL);
    }
    // Our interface outlives the owner, also for blocks of others.
    CHECK(IMalloc_GetSize(m, kept) == 100 && IMalloc_DidAlloc(m, kept) == 1);
    kept = IMalloc_Realloc(m, kept, 500);
    CHECK(is_ours(kept));
    IMalloc_Free(m, kept);
    void *theirs = HeapAlloc(GetProcessHeap(), 0, 60);
    CHECK(IMalloc_GetSize(m, theirs) == 60 && IMalloc_DidAlloc(m, theirs) == -1);
    IMalloc_Free(m, theirs);
    CHECK(!HeapValidate(GetProcessHeap(), 0, theirs));
}

// ---- what a program can see ----

static void observe(void) {
    IMalloc *const m = task_malloc();
    IMalloc *other = NULL;
    uint64_t local[4] = {0};
    for (unsigned i = 1; i < SIZES; i++) {
        uint8_t *p = (uint8_t *)com.alloc(sizes[i]);
        pattern_fill(p, sizes[i]);
        say("size %u: %u, did %d, heap %u", (unsigned)sizes[i], (unsigned)IMalloc_GetSize(m, p),
            IMalloc_DidAlloc(m, p), (unsigned)HeapSize(GetProcessHeap(), 0, p));
        p = (uint8_t *)com.realloc(p, sizes[i] + 10);
        say(", longer %u %d", (unsigned)IMalloc_GetSize(m, p), pattern_is(p, sizes[i], sizes[i]));
        p = (uint8_t *)IMalloc_Realloc(m, p, 1);
        say(", shorter %u %d", (unsigned)IMalloc_GetSize(m, p), pattern_is(p, sizes[i], 1));
        say(", none %d\n", com.realloc(p, 0) == NULL);
    }
    void *empty = com.alloc(0), *none = com.realloc(NULL, 0);
    say("empty %d %d, did %d\n", empty != NULL, none != NULL, IMalloc_DidAlloc(m, empty));
    com.free(empty);
    com.free(none);
    com.free(NULL);
    SetLastError(77);
    com.free(com.alloc(10));
    say("last error %u\n", (unsigned)GetLastError());
    void *p = com.alloc(10);
    say("too much %d %d %d\n", com.alloc(SIZE_MAX) == NULL, com.alloc(SIZE_MAX - 100) == NULL,
        com.realloc(p, SIZE_MAX - 100) == NULL);
    com.free(p);
    say("of NULL: size %d, did %d; of no block: did %d\n", (int)IMalloc_GetSize(m, NULL),
        IMalloc_DidAlloc(m, NULL), IMalloc_DidAlloc(m, &local[2]));
    say("CoGetMalloc: %x", (unsigned)com.get_malloc(1, &other));
    say(" same %d, of shared memory %x\n", other == m, (unsigned)com.get_malloc(2, &other));
    say("references %u %u\n", (unsigned)IMalloc_AddRef(m), (unsigned)IMalloc_Release(m));
    say("revoke %x, register %x\n", (unsigned)com.revoke_spy(), (unsigned)com.register_spy(NULL));
}

// Not a test: what a pair costs, the best of many short rounds.
static void cost(void) {
    long best = 0x7FFFFFFF;
    for (unsigned round = 0; round < 400; round++) {
        LARGE_INTEGER rate, start, end;
        QueryPerformanceFrequency(&rate);
        QueryPerformanceCounter(&start);
        for (unsigned i = 0; i < 20000; i++)
            com.free(com.alloc(32 + i % 64));
        QueryPerformanceCounter(&end);
        const long now =
            (long)((double)(end.QuadPart - start.QuadPart) * 1e12 / (double)rate.QuadPart / 20000);
        best = (now < best ? now : best);
    }
    say("a pair: %ld ps\n", best);
}

static unsigned number(const char *text) {
    unsigned n = 0;
    while (*text >= '0' && *text <= '9')
        n = n * 10 + (unsigned)(*text++ - '0');
    return n;
}

static void call(const char *name) {
    ((void (*)(void))proc(redirect_module(), name))();
}

// For the end of standard input.
static void wait(void) {
    char byte;
    DWORD got;
    say("ready\n");
    while (ReadFile(GetStdHandle(STD_INPUT_HANDLE), &byte, 1, &got, NULL) && got > 0) {
    }
}

// Words without an argument; false = it is none of them.
static bool run_plain(const char *word) {
    static const struct {
        const char *word;
        void (*run)(void);
    } words[] = {{"keep", keep_code},   {"code", compare_code}, {"take", take},
                 {"foreign", foreign},  {"whose", whose},       {"owned", owned},
                 {"cost", cost},        {"heap", heap},         {"spy", spy},
                 {"observe", observe},  {"texts", users_texts}, {"strings", users_strings},
                 {"shell", users_shell}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (mi_str_eq(word, words[i].word)) {
            words[i].run();
            return true;
        }
    if (mi_str_eq(word, "disable"))
        call("mi_redirect_disable");
    else if (mi_str_eq(word, "enable"))
        call("mi_redirect_enable");
    else if (mi_str_eq(word, "wait"))
        wait();
    else if (mi_str_eq(word, "status") || mi_str_eq(word, "json"))
        status(word[0] == 'j');
    else
        return false;
    return true;
}

static void run_with(const char *word, const char *name) {
    if (mi_str_eq(word, "load"))
        say("load %s: %s\n", name, LoadLibraryA(name) != NULL ? "good" : "failed");
    else if (mi_str_eq(word, "map"))
        CHECK_AT(LoadLibraryExA(name, NULL, DONT_RESOLVE_DLL_REFERENCES) != NULL, name);
    else if (mi_str_eq(word, "unload"))
        say("unload %s: %s\n", name, FreeLibrary(GetModuleHandleA(name)) ? "good" : "failed");
    else if (mi_str_eq(word, "fault"))
        SetEnvironmentVariableA("MI_REDIRECT_FAULT", name);
    else if (mi_str_eq(word, "use"))
        use(name);
    else if (mi_str_eq(word, "threads"))
        threads(number(name), NULL, NULL);
    else if (mi_str_eq(word, "reload"))
        reload(name, 30);
    else {
        say("unknown word %s %s\n", word, name);
        ExitProcess(2);
    }
}

#ifdef COM_EXPORTS
__declspec(dllexport) const char mimalloc_redirect_cotaskmem[] = "1";
#endif

void mainCRTStartup(void) {
    for (unsigned i = 1; *argument(i) != 0;) {
        if (run_plain(argument(i))) {
            i++;
        } else if (mi_str_eq(argument(i), "late")) {
            threads(number(argument(i + 1)), argument(i + 2), argument(i + 3));
            i += 4;
        } else {
            run_with(argument(i), argument(i + 1));
            i += 2;
        }
    }
    ExitProcess(wtest_code(false));
}
