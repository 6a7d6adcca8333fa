// The rung "tables" as its users see it: modules that import from a CRT in every way, before and
// after, with blocks of before and addresses kept from before. The CRT's code must not change.
//
//   rungs tables redirect.dll allocator.dll crt.dll importer.dll
//   rungs escape redirect-faults.dll allocator.dll crt.dll importer.dll   the proof of a function
//         fails while a thread allocates: its blocks must come home all the same
//   rungs delayed redirect.dll allocator.dll crt.dll importer.dll entry|tables   the CRT comes with
//         the module's first delayed call, long after the halves
#include "wtest.h"

typedef struct module_s {
    HMODULE handle;
    void *(*make)(size_t);
    void *(*resize)(void *, size_t);
    void (*drop)(void *);
    void *(*make_kept)(size_t);
    void (*drop_kept)(void *);
    void *(*make_by_ordinal)(size_t); // NULL = the build has none
    void *(*make_by_forwarder)(size_t);
} module_t;

static bool (*is_ours)(const void *);
static uint64_t (*live_count)(void); // blocks of the stand-in that are not freed
static HMODULE crt, redirect;

static module_t load_module(const char *name) {
    module_t m = {.handle = LoadLibraryA(name)};
    if (m.handle == NULL) {
        say("cannot load %s, error %lu\n", name, GetLastError());
        ExitProcess(2);
    }
    m.make = (void *(*)(size_t))proc(m.handle, "use_malloc");
    m.resize = (void *(*)(void *, size_t))proc(m.handle, "use_realloc");
    m.drop = (void (*)(void *))proc(m.handle, "use_free");
    m.make_kept = (void *(*)(size_t))proc(m.handle, "use_kept_malloc");
    m.drop_kept = (void (*)(void *))proc(m.handle, "use_kept_free");
    m.make_by_ordinal = (void *(*)(size_t))proc(m.handle, "use_ordinal");
    m.make_by_forwarder = (void *(*)(size_t))proc(m.handle, "use_forwarder");
    return m;
}

static void load_halves(const char *env) {
    SetEnvironmentVariableA("MIMALLOC_REDIRECT_RUNG", env);
    const HMODULE allocator = LoadLibraryA(argument(3));
    is_ours = (bool (*)(const void *))proc(allocator, "standin_is_ours");
    live_count = (uint64_t(*)(void))proc(allocator, "standin_live_count");
    redirect = LoadLibraryA(argument(2));
    CHECK(redirect != NULL && is_ours != NULL && live_count != NULL);
    if (wtest_failed != 0)
        finish();
}

static bool is_active(const module_t *m) {
    const uintptr_t ask = proc(redirect, "mi_redirect_is_active");
    return ((bool (*)(void *))ask)(m->handle);
}

// A sum over the code of the CRT: no byte of it may change.
static uint64_t code_sum(void) {
    MEMORY_BASIC_INFORMATION info;
    uint64_t sum = 14695981039346656037u;
    uintptr_t at = (uintptr_t)crt;
    while (VirtualQuery((void *)at, &info, sizeof(info)) != 0 &&
           info.AllocationBase == (void *)crt) {
        const DWORD code = PAGE_EXECUTE | PAGE_EXECUTE_READ | PAGE_EXECUTE_READWRITE;
        for (size_t i = 0; (info.Protect & code) != 0 && i < info.RegionSize; i++)
            sum = (sum ^ ((const uint8_t *)info.BaseAddress)[i]) * 1099511628211u;
        CHECK((info.Protect & (PAGE_EXECUTE_READWRITE | PAGE_EXECUTE_WRITECOPY)) == 0);
        at += info.RegionSize;
    }
    return sum;
}

static uint8_t *filled(uint8_t *p) {
    CHECK(p != NULL);
    for (unsigned i = 0; i < 100; i++)
        p[i] = (uint8_t)(i * 3);
    return p;
}

static bool is_filled(const uint8_t *p) {
    for (unsigned i = 0; i < 100; i++)
        if (p[i] != (uint8_t)(i * 3))
            return false;
    return true;
}

static void check_user(const module_t *m, const char *name) {
    uint8_t *p = filled((uint8_t *)m->make(100));
    CHECK_AT(is_ours(p), name);
    p = (uint8_t *)m->resize(p, 5000);
    CHECK_AT(is_ours(p) && is_filled(p), name);
    m->drop(p);
    void *(*const odd[])(size_t) = {m->make_by_ordinal, m->make_by_forwarder};
    for (unsigned i = 0; i < 2; i++)
        if (odd[i] != NULL) {
            void *q = odd[i](100);
            CHECK_AT(is_ours(q), name);
            m->drop(q);
        }
    CHECK_AT(is_active(m), name);
}

// What the CRT makes inside stays its own, and is known when it comes back.
static void check_inside(const module_t *m) {
    char *(*const dup)(const char *) = (char *(*)(const char *))proc(crt, "_strdup");
    if (dup == NULL)
        return;
    char *text = dup("inside");
    CHECK(text != NULL && !is_ours(text) && mi_str_eq(text, "inside"));
    text = (char *)m->resize(text, 300);
    CHECK(is_ours(text) && mi_str_eq(text, "inside"));
    m->drop(text);
    m->drop(dup("inside"));
}

// Addresses fetched before are not in any table: they reach the CRT itself, and its heap finds our
// blocks through the heap guard.
static void check_kept(const module_t *m) {
    uint8_t *p = (uint8_t *)m->make_kept(100);
    CHECK(p != NULL && !is_ours(p));
    m->drop(p);
    const uint64_t before = live_count();
    p = (uint8_t *)m->make(100);
    CHECK(is_ours(p) && live_count() == before + 1);
    m->drop_kept(p);
    CHECK(live_count() == before);
}

static void check_switch(const module_t *m) {
    void *ours = m->make(10);
    ((void (*)(void))proc(redirect, "mi_redirect_disable"))();
    void *p = m->make(100);
    CHECK(!is_ours(p) && !is_active(m) && json_has(redirect, "\"name\":\"removed\""));
    m->drop(ours);
    ((void (*)(void))proc(redirect, "mi_redirect_enable"))();
    m->drop(p);
    check_user(m, "enabled again");
}

static const char *late_name(void) {
    static char name[64];
    mi_text_t t;
    mi_text_init(&t, name, sizeof(name));
    mi_text_fmt(&t, "late_%lu.dll", GetCurrentProcessId());
    return name;
}

static void by_tables(void) {
    crt = LoadLibraryA(argument(4));
    const module_t early = load_module(argument(5));
    const uint64_t code = code_sum();
    uint8_t *const held[3] = {filled((uint8_t *)early.make(100)),
                              filled((uint8_t *)early.make(100)),
                              filled((uint8_t *)early.make_kept(100))};
    load_halves("tables");
    CHECK(json_has(redirect, "\"rung\":\"tables\""));
    check_user(&early, "early");
    for (unsigned i = 0; i < 2; i++) {
        CHECK(!is_ours(held[i]));
        uint8_t *p = (uint8_t *)early.resize(held[i], 300 + i);
        CHECK(is_ours(p) && is_filled(p));
        early.drop(p);
    }
    early.drop(held[2]);
    check_inside(&early);
    check_kept(&early);
    check_switch(&early);
    void *(*const fetched)(size_t) = (void *(*)(size_t))proc(crt, "malloc");
    void *p = fetched(77);
    CHECK(is_ours(p));
    early.drop(p);
    CHECK(CopyFileA(argument(5), late_name(), FALSE));
    const module_t late = load_module(late_name());
    check_user(&late, "late");
    p = late.make_kept(100); // fetched from the changed export table
    CHECK(is_ours(p));
    early.drop(p);
    CHECK(FreeLibrary(late.handle) && DeleteFileA(late_name()));
    CHECK(code_sum() == code);
    CHECK(json_has(redirect, "\"unknown_pointers\":0"));
}

// ---- blocks that were handed out before the proof failed ----

enum { ESCAPED = 64 };

static void *escaped[ESCAPED];
static const module_t *user;
static HANDLE proceed, started;

// Allocates until blocks of ours have come, then lets the installation go on.
static DWORD WINAPI catcher(void *unused) {
    (void)unused;
    SetEvent(started); // behind the loader lock, which the installation is going to hold
    for (unsigned n = 0; n < ESCAPED;) {
        void *p = user->make(100);
        if (p != NULL && is_ours != NULL && is_ours(p))
            escaped[n++] = filled((uint8_t *)p);
        else
            user->drop(p);
        SwitchToThread();
    }
    SetEvent(proceed);
    return 0;
}

static void escape(void) {
    const char *rung = argument(6);
    const bool is_debug = (argument(7)[0] == 'd');
    crt = LoadLibraryA(argument(4));
    const module_t early = load_module(argument(5));
    user = &early;
    const HMODULE allocator = LoadLibraryA(argument(3));
    is_ours = (bool (*)(const void *))proc(allocator, "standin_is_ours");
    live_count = (uint64_t(*)(void))proc(allocator, "standin_live_count");
    const uint64_t before = live_count();
    // A name of this process alone: the next test may run at the same time.
    char name[64];
    mi_text_t t;
    mi_text_init(&t, name, sizeof(name));
    mi_text_fmt(&t, "mimalloc-rungs-proceed-%lu", GetCurrentProcessId());
    proceed = CreateEventA(NULL, TRUE, FALSE, name);
    CHECK(proceed != NULL && GetLastError() != ERROR_ALREADY_EXISTS);
    SetEnvironmentVariableA("MI_REDIRECT_MEET_proof", name);
    SetEnvironmentVariableA("MI_REDIRECT_FAULT", "proof-makes");
    started = CreateEventA(NULL, TRUE, FALSE, NULL);
    const HANDLE thread = CreateThread(NULL, 0, catcher, NULL, 0, NULL);
    WaitForSingleObject(started, INFINITE);
    load_halves(rung);
    WaitForSingleObject(thread, INFINITE);
    CHECK(json_has(redirect, "\"takers_kept\":true") && json_has(redirect, "\"rung\":\"none\""));
    CHECK(json_has(redirect, "\"name\":\"proof-failed\""));
    // New blocks are the CRT's own again.
    void *p = early.make(50);
    CHECK(p != NULL && !is_ours(p) && !is_active(&early));
    early.drop(p);
    for (unsigned i = 0; i < ESCAPED; i++) {
        CHECK(is_filled((const uint8_t *)escaped[i]));
        // The addresses kept from before reach the CRT's entry, which on the rung "tables" is its
        // own: only release heaps end in the guard.
        if (i % 3 == 0 && (mi_str_eq(rung, "entry") || !is_debug))
            early.drop_kept(escaped[i]);
        else if (i % 3 == 1)
            early.drop(early.resize(escaped[i], 200));
        else
            early.drop(escaped[i]);
    }
    CHECK(live_count() == before);
    say("%lu blocks had been handed out\n", (unsigned long)ESCAPED);
    const uintptr_t debug_bad = proc(crt, "synth_debug_bad");
    CHECK(debug_bad == 0 || ((LONG(*)(void))debug_bad)() == 0);
}

// ---- a CRT that comes with the first delayed call ----

static void delayed(void) {
    load_halves(argument(6));
    CHECK(GetModuleHandleA(argument(4)) == NULL);
    const module_t lazy = load_module(argument(5));
    CHECK(GetModuleHandleA(argument(4)) == NULL);
    void *first = lazy.make(100);
    crt = GetModuleHandleA(argument(4));
    CHECK(crt != NULL && is_ours(first));
    CHECK(json_has(redirect,
                   mi_str_eq(argument(6), "entry") ? "\"rung\":\"entry\"" : "\"rung\":\"tables\""));
    lazy.drop(first);
    check_user(&lazy, "delayed");
    if (mi_str_eq(argument(6), "tables"))
        check_inside(&lazy);
    CHECK(json_has(redirect, "\"unknown_pointers\":0"));
}

void mainCRTStartup(void) {
    if (mi_str_eq(argument(1), "delayed"))
        delayed();
    else if (mi_str_eq(argument(1), "tables"))
        by_tables();
    else if (mi_str_eq(argument(1), "escape"))
        escape();
    finish();
}
