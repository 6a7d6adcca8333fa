// A thread that is born in the middle of an installation: between the moment in which the functions
// that take blocks were changed and the one for the functions that make blocks, or before these are
// proven. The process had one thread before, so the installation believes itself alone.
//
//   born redirect-faults.dll allocator.dll crt.dll importer.dll stops|proof entry|tables good|fails
//
// fails: the proof of a maker fails afterwards. The thread is made by the installing thread itself,
// whose wait at the meeting point is led to us; it runs as soon as the loader lock is free.
#include "wtest.h"

enum { BLOCKS = 2000 };

static HMODULE redirect;
static bool (*is_ours)(const void *);
static uint64_t (*live_count)(void);
static void *(*make)(size_t);
static void *(*resize)(void *, size_t);
static void (*drop)(void *);

static HANDLE newborn, meeting;
static uint8_t *before[3]; // blocks of before, which the new thread ends
static uint8_t *crt_free, *crt_malloc;
static uint8_t free_bytes[5], malloc_bytes[5];
static bool were_takers_changed, were_makers_changed;
static unsigned written, running_meanwhile;
static unsigned ours_seen;

static DWORD WINAPI newborn_lives(void *unused) {
    (void)unused;
    drop(before[0]);
    before[1] = (uint8_t *)resize(before[1], 900);
    CHECK(before[1] != NULL && pattern_is(before[1], 200, 200));
    drop(before[1]);
    for (unsigned i = 0; i < BLOCKS; i++) {
        const size_t size = 1 + i % 700;
        uint8_t *p = (uint8_t *)make(size);
        ours_seen += is_ours(p);
        pattern_fill(p, size);
        uint8_t *q = (uint8_t *)resize(p, size + 300);
        CHECK(q != NULL && pattern_is(q, size, size));
        drop(q);
    }
    return 0;
}

static bool is_same(const uint8_t *a, const uint8_t *b) {
    for (unsigned i = 0; i < 5; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

static DWORD WINAPI birth_instead_of_wait(HANDLE handle, DWORD ms) {
    if (handle != NULL && newborn == NULL && ms == INFINITE) {
        const HMODULE allocator = GetModuleHandleA(argument(2));
        is_ours = (bool (*)(const void *))proc(allocator, "standin_is_ours");
        live_count = (uint64_t(*)(void))proc(allocator, "standin_live_count");
        CHECK(is_ours != NULL && live_count != NULL);
        were_takers_changed = !is_same(crt_free, free_bytes);
        were_makers_changed = !is_same(crt_malloc, malloc_bytes);
        newborn = CreateThread(NULL, 0, newborn_lives, NULL, 0, NULL);
        CHECK(newborn != NULL);
    }
    return WaitForSingleObject(handle, ms);
}

// Entries are written only while the new thread stands still. No other use is made of these rights.
static BOOL WINAPI watching_protect(void *at, SIZE_T bytes, DWORD rights, DWORD *rights_before) {
    if (newborn != NULL && rights == PAGE_EXECUTE_READWRITE) {
        written++;
        running_meanwhile += (SuspendThread(newborn) == 0);
        ResumeThread(newborn);
    }
    return VirtualProtect(at, bytes, rights, rights_before);
}

static void lead_imports(void) {
    const HMODULE kernel = GetModuleHandleA("kernel32.dll");
    CHECK(imports_lead(redirect, proc(kernel, "WaitForSingleObject"),
                       (uintptr_t)birth_instead_of_wait) == 1);
    CHECK(imports_lead(redirect, proc(kernel, "VirtualProtect"), (uintptr_t)watching_protect) == 1);
}

// The first half is there and has no allocator yet; nothing is installed.
static void load_all(void) {
    char name[64], variable[64];
    mi_text_t t;
    const HMODULE crt = LoadLibraryA(argument(3)), user = LoadLibraryA(argument(4));
    CHECK(crt != NULL && user != NULL);
    make = (void *(*)(size_t))proc(user, "use_malloc");
    resize = (void *(*)(void *, size_t))proc(user, "use_realloc");
    drop = (void (*)(void *))proc(user, "use_free");
    crt_free = (uint8_t *)proc(crt, "free");
    crt_malloc = (uint8_t *)proc(crt, "malloc");
    memcpy(free_bytes, crt_free, 5);
    memcpy(malloc_bytes, crt_malloc, 5);
    for (unsigned i = 0; i < 3; i++) {
        before[i] = (uint8_t *)make(200);
        pattern_fill(before[i], 200);
    }
    mi_text_init(&t, name, sizeof(name));
    mi_text_fmt(&t, "mimalloc-born-%lu", GetCurrentProcessId());
    meeting = CreateEventA(NULL, TRUE, TRUE, name);
    CHECK(meeting != NULL);
    mi_text_init(&t, variable, sizeof(variable));
    mi_text_fmt(&t, "MI_REDIRECT_MEET_%s", argument(5));
    SetEnvironmentVariableA(variable, name);
    SetEnvironmentVariableA("MIMALLOC_REDIRECT_RUNG", argument(6));
    if (mi_str_eq(argument(7), "fails"))
        SetEnvironmentVariableA("MI_REDIRECT_FAULT", "proof-makes");
    redirect = LoadLibraryA(argument(1));
    CHECK(redirect != NULL);
    lead_imports();
    CHECK(LoadLibraryA(argument(2)) != NULL);
}

void mainCRTStartup(void) {
    const bool is_entry = mi_str_eq(argument(6), "entry");
    const bool is_good = mi_str_eq(argument(7), "good");
    load_all();
    CHECK(newborn != NULL);
    if (wtest_failed != 0)
        finish();
    WaitForSingleObject(newborn, INFINITE);
    CHECK(were_takers_changed == is_entry);
    CHECK(were_makers_changed == (is_entry && mi_str_eq(argument(5), "proof")));
    CHECK(running_meanwhile == 0 && (!is_entry || written > 0 || mi_str_eq(argument(5), "proof")));
    say("%u pages were opened meanwhile, %u blocks of the new thread were ours\n", written,
        ours_seen);
    void *p = make(50);
    CHECK(is_ours(p) == is_good);
    drop(p);
    drop(before[2]);
    if (is_good) {
        CHECK(json_has(redirect, is_entry ? "\"rung\":\"entry\"" : "\"rung\":\"tables\""));
        CHECK(ours_seen == BLOCKS);
    } else {
        // Somebody else was there when the makers could be called: what takes a block stays.
        CHECK(json_has(redirect, "\"takers_kept\":true") &&
              json_has(redirect, "\"name\":\"proof-failed\""));
        CHECK(ours_seen == 0);
    }
    CHECK(json_has(redirect, "\"unknown_pointers\":0") && live_count() == 0);
    finish();
}
