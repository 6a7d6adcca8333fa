// The transaction: a failure at every step leaves each CRT exactly as it was, code bytes and page
// rights; and the DLL can go again without a trace.
//
//   transaction faults redirect-faults.dll allocator.dll crt.dll ...    every step fails once
//   transaction tables redirect-faults.dll allocator.dll crt.dll user.dll ...   the same on the
//   rung "tables", where user.dll imports from crt.dll
//   transaction weak redirect.dll standin-weak.dll crt.dll              the proof fails
//   transaction churn redirect.dll allocator.dll 2000    loaded and unloaded, without an allocator
//   transaction refused redirect.dll allocator.dll crt.dll ...          the same, and every time it
//   finds the allocator, begins, and fails
//   transaction crowded redirect-faults.dll allocator.dll crt.dll       fails among other threads
#include "wtest.h"

enum { CRTS_MAX = 8, PAGES_MAX = 4096 };

typedef struct image_s {
    HMODULE module;
    const char *name;
    size_t bytes;
    uint8_t *copy;           // of what is compared
    DWORD rights[PAGES_MAX]; // of each page
} image_t;

static image_t images[CRTS_MAX];
static unsigned image_count;

static bool is_code(DWORD rights) {
    return (rights & (PAGE_EXECUTE | PAGE_EXECUTE_READ | PAGE_EXECUTE_READWRITE |
                      PAGE_EXECUTE_WRITECOPY)) != 0;
}

// The rung "entry" may touch code only. "tables" may touch import and export tables, which lie in
// read-only data; in our own builds the import tables are writable, among data that may change.
static bool is_tables;

static bool is_compared(DWORD rights) {
    return is_code(rights) || (is_tables && rights == PAGE_READONLY);
}

static IMAGE_DATA_DIRECTORY import_cells(const uint8_t *base) {
    const IMAGE_NT_HEADERS *nt =
        (const IMAGE_NT_HEADERS
             *)(const void *)(base + ((const IMAGE_DOS_HEADER *)(const void *)base)->e_lfanew);
    return nt->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_IAT];
}

static DWORD rights_at(const uint8_t *p) {
    MEMORY_BASIC_INFORMATION info;
    return VirtualQuery(p, &info, sizeof(info)) != 0 && info.State == MEM_COMMIT ? info.Protect : 0;
}

static void remember(image_t *image, const char *name) {
    image->module = LoadLibraryA(name);
    image->name = name;
    if (image->module == NULL) {
        say("cannot load %s, error %lu\n", name, GetLastError());
        ExitProcess(2);
    }
    const uint8_t *base = (const uint8_t *)image->module;
    const IMAGE_NT_HEADERS *nt =
        (const IMAGE_NT_HEADERS
             *)(const void *)(base + ((const IMAGE_DOS_HEADER *)(const void *)base)->e_lfanew);
    image->bytes = nt->OptionalHeader.SizeOfImage;
    image->copy =
        (uint8_t *)VirtualAlloc(NULL, image->bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    for (size_t at = 0; at < image->bytes; at += 4096) {
        image->rights[at / 4096] = rights_at(base + at);
        if (is_compared(image->rights[at / 4096]))
            CopyMemory(image->copy + at, base + at, 4096);
    }
    const IMAGE_DATA_DIRECTORY iat = import_cells(base);
    CopyMemory(image->copy + iat.VirtualAddress, base + iat.VirtualAddress, iat.Size);
}

// Bytes that differ from those remembered, or pages whose rights do.
static size_t differences(const image_t *image) {
    const uint8_t *base = (const uint8_t *)image->module;
    size_t count = 0;
    for (size_t at = 0; at < image->bytes; at += 4096) {
        const DWORD rights = rights_at(base + at);
        // A writable page that is written stops to be a copy on write: no change of rights.
        const bool is_writable = (rights == PAGE_READWRITE || rights == PAGE_WRITECOPY);
        count += (!is_writable && rights != image->rights[at / 4096]);
        if (!is_compared(rights))
            continue;
        for (size_t i = 0; i < 4096; i++)
            count += (base[at + i] != image->copy[at + i]);
    }
    const IMAGE_DATA_DIRECTORY iat = import_cells(base);
    for (size_t i = iat.VirtualAddress; is_tables && i < iat.VirtualAddress + iat.Size; i++)
        count += (base[i] != image->copy[i]);
    return count;
}

static size_t all_differences(void) {
    size_t count = 0;
    for (unsigned i = 0; i < image_count; i++)
        count += differences(&images[i]);
    return count;
}

static bool crt_works(const image_t *image, bool (*is_ours)(const void *)) {
    void *(*const make)(size_t) = (void *(*)(size_t))proc(image->module, "malloc");
    void (*const drop)(void *) = (void (*)(void *))proc(image->module, "free");
    void *p = make(100);
    const bool is_good = (p != NULL && !is_ours(p));
    drop(p);
    return is_good;
}

static void set_fault(unsigned number) {
    char text[16];
    mi_text_t t;
    mi_text_init(&t, text, sizeof(text));
    mi_text_fmt(&t, "%u", number);
    SetEnvironmentVariableA("MI_REDIRECT_FAULT", text);
}

// Fails step after step, until a step number that no run reaches: then the installation succeeds.
static void fail_every_step(void) {
    const HMODULE allocator = LoadLibraryA(argument(3));
    bool (*const is_ours)(const void *) =
        (bool (*)(const void *))proc(allocator, "standin_is_ours");
    CHECK(is_ours != NULL);
    unsigned step = 1, refused = 0;
    for (; step < 2000 && is_ours != NULL; step++) {
        set_fault(step);
        const HMODULE redirect = LoadLibraryA(argument(2));
        CHECK(redirect != NULL);
        size_t changed = 0;
        for (unsigned i = 0; i < image_count; i++)
            changed += (differences(&images[i]) != 0);
        CHECK(changed == image_count - 1 || changed == image_count);
        if (changed == image_count)
            break; // no step has this number: everything is redirected
        // One CRT was refused and is as it was; the others are redirected, so the DLL stays. Put
        // them back.
        for (unsigned i = 0; i < image_count; i++)
            if (differences(&images[i]) == 0)
                CHECK_AT(crt_works(&images[i], is_ours), images[i].name);
        refused++;
        CHECK(FreeLibrary(redirect));
        if (GetModuleHandleA(argument(2)) != NULL)
            break;
        CHECK(all_differences() == 0);
    }
    say("%u steps failed, the code was as before each time\n", refused);
    // open, seal, threads, in-range, then protect, unprotect and write for each function, then each
    // proof
    CHECK(refused > 20);
}

// The same for tables: one CRT and the modules that use it. Every byte of their tables and of all
// read-only data is as before when a step fails; when none does, tables have changed and code has
// not.
static void fail_every_table_step(void) {
    const HMODULE allocator = LoadLibraryA(argument(3));
    bool (*const is_ours)(const void *) =
        (bool (*)(const void *))proc(allocator, "standin_is_ours");
    CHECK(is_ours != NULL && image_count >= 2);
    unsigned step = 1, refused = 0;
    for (; step < 20000 && is_ours != NULL; step++) {
        set_fault(step);
        const HMODULE redirect = LoadLibraryA(argument(2));
        CHECK(redirect != NULL);
        if (differences(&images[0]) != 0)
            break;
        refused++;
        CHECK(all_differences() == 0);
        CHECK_AT(crt_works(&images[0], is_ours), images[0].name);
        CHECK(FreeLibrary(redirect));
        if (GetModuleHandleA(argument(2)) != NULL)
            break;
        CHECK(all_differences() == 0);
    }
    say("%u steps failed, the tables were as before each time\n", refused);
    // thunks, their filling, memory; then protect, unprotect and write for each cell; a switch for
    // each stage; each proof
    CHECK(refused > 60);
    CHECK(!crt_works(&images[0], is_ours));
    CHECK(differences(&images[1]) != 0);
    is_tables = false; // the code alone
    CHECK(all_differences() == 0);
}

static void fail_proof(void) {
    const HMODULE allocator = LoadLibraryA(argument(3));
    const HMODULE redirect = LoadLibraryA(argument(2));
    static char text[8192];
    size_t (*const status)(char *, size_t, int) =
        (size_t(*)(char *, size_t, int))proc(redirect, "mi_redirect_status");
    CHECK(allocator != NULL && status != NULL);
    CHECK(all_differences() == 0);
    CHECK(status(text, sizeof(text), 0) > 0);
    say_text(text);
    bool is_said = false;
    for (const char *p = text; *p != 0; p++)
        is_said |= mi_str_starts(p, "reason 36 (proof-failed) at calloc");
    CHECK(is_said);
}

static size_t committed_bytes(void) {
    MEMORY_BASIC_INFORMATION info;
    size_t count = 0;
    for (uintptr_t at = 0; VirtualQuery((void *)at, &info, sizeof(info)) != 0;
         at += info.RegionSize) {
        if (info.State != MEM_FREE)
            count += info.RegionSize;
        if (at + info.RegionSize < at)
            break;
    }
    return count;
}

// Without an allocator nothing is patched: the DLL may come and go, and takes everything along.
static void churn(void) {
    size_t before = 0;
    LONG rounds = 0;
    for (const char *digit = argument(4); *digit != 0; digit++)
        rounds = rounds * 10 + (*digit - '0');
    for (LONG i = 0; i < rounds; i++) {
        const HMODULE redirect = LoadLibraryA(argument(2));
        if (redirect == NULL || !FreeLibrary(redirect))
            break;
        if (i == 100)
            before = committed_bytes();
        wtest_passed++;
    }
    CHECK(wtest_passed == rounds && rounds > 100);
    CHECK(GetModuleHandleA(argument(2)) == NULL);
    const size_t after = committed_bytes();
    say("address space used after 100 rounds %zu, after %ld %zu\n", before, rounds, after);
    CHECK(after <= before + 65536);
}

// The lowest that is free.
static DWORD next_tls_slot(void) {
    const DWORD slot = TlsAlloc();
    TlsFree(slot);
    return slot;
}

// Nothing was redirected: all that it took for the attempt goes with it, and it is told of no DLL
// any more.
static void refused_and_gone(void) {
    enum { ROUNDS = 300, WARM = 20 };
    size_t before = 0;
    DWORD slot = 0;
    CHECK(LoadLibraryA(argument(3)) != NULL);
    for (unsigned i = 0; i < ROUNDS; i++) {
        const HMODULE redirect = LoadLibraryA(argument(2));
        CHECK(redirect != NULL && json_has(redirect, "\"file\":\""));
        CHECK(all_differences() == 0 && FreeLibrary(redirect));
        if (GetModuleHandleA(argument(2)) != NULL)
            break;
        if (i == WARM) {
            before = committed_bytes();
            slot = next_tls_slot();
        }
    }
    CHECK(GetModuleHandleA(argument(2)) == NULL);
    const size_t after = committed_bytes();
    say("address space used after %d rounds %zu, after %d %zu\n", WARM, before, ROUNDS, after);
    CHECK(after <= before + 65536 && next_tls_slot() == slot);
    const HMODULE other = LoadLibraryA("dbghelp.dll");
    CHECK(other != NULL && FreeLibrary(other));
}

static DWORD WINAPI wait_for(void *event) {
    return WaitForSingleObject((HANDLE)event, INFINITE);
}

// Another thread may have come into its code while the patches stood: then it stays.
static void crowded(void) {
    const HANDLE end = CreateEventA(NULL, TRUE, FALSE, NULL);
    const HANDLE thread = CreateThread(NULL, 0, wait_for, end, 0, NULL);
    CHECK(LoadLibraryA(argument(3)) != NULL);
    const HMODULE redirect = LoadLibraryA(argument(2));
    CHECK(redirect != NULL && json_has(redirect, "\"state\":\"left alone\"") &&
          json_has(redirect, "\"takers_kept\":false"));
    CHECK(all_differences() == 0 && FreeLibrary(redirect));
    CHECK(GetModuleHandleA(argument(2)) == redirect);
    SetEvent(end);
    WaitForSingleObject(thread, INFINITE);
}

void mainCRTStartup(void) {
    const char *mode = argument(1);
    is_tables = mi_str_eq(mode, "tables");
    const bool is_churn = mi_str_eq(mode, "churn"); // its fourth word is a number
    for (unsigned i = 4; *argument(i) != 0 && !is_churn && image_count < CRTS_MAX; i++)
        remember(&images[image_count++], argument(i));
    if (mi_str_eq(mode, "faults"))
        fail_every_step();
    else if (is_tables)
        fail_every_table_step();
    else if (mi_str_eq(mode, "weak"))
        fail_proof();
    else if (mi_str_eq(mode, "churn"))
        churn();
    else if (mi_str_eq(mode, "refused"))
        refused_and_gone();
    else if (mi_str_eq(mode, "crowded"))
        crowded();
    finish();
}
