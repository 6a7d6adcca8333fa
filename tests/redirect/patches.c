// The transaction over code of our own making: patches that share a page, cross from one page into
// the next and end with a page, in every order; each step fails once; pages whose rights differ; a
// process that forbids new code; a thread that is born while the others are being stopped; one that
// stands inside a patch.
//
//   patches redirect.dll allocator.dll crt.dll
//
// With words: what the whole redirection says in a process that forbids code to be written.
#include "redirect/patch.h"
#include "refuse.h"

enum { PAGES = 4, PAGE = 4096, PATCHES = 6, PATCH_BYTES = 5 };

static uint8_t *code;
static uint8_t original[PAGES * PAGE];

// Two in the first page; one from it into the second; two in the second, the latter its last bytes;
// one from the third into the last.
static const size_t places[PATCHES] = {0x10, 0x800, 0xFFD, 0x1010, 0x1FFB, 0x2FFF};

static void code_make(void) {
    code = (uint8_t *)VirtualAlloc(NULL, PAGES * PAGE, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    for (size_t i = 0; code != NULL && i < PAGES * PAGE; i++)
        code[i] = original[i] = (uint8_t)(i * 11 + i / PAGE);
    CHECK(code != NULL);
}

static void rights_set(const DWORD rights[PAGES]) {
    DWORD before;
    for (unsigned k = 0; k < PAGES; k++)
        CHECK(VirtualProtect(code + k * PAGE, PAGE, rights[k], &before));
}

static bool rights_are(const DWORD rights[PAGES]) {
    for (unsigned k = 0; k < PAGES; k++) {
        MEMORY_BASIC_INFORMATION info;
        if (VirtualQuery(code + k * PAGE, &info, sizeof(info)) == 0 || info.Protect != rights[k]) {
            say("page %u has the rights %lx\n", k, info.Protect);
            return false;
        }
    }
    return true;
}

static void patches_make(mi_patch_t patches[PATCHES], const unsigned order[PATCHES]) {
    for (unsigned i = 0; i < PATCHES; i++) {
        mi_patch_t *p = &patches[i];
        p->at = code + places[order[i]];
        p->bytes = PATCH_BYTES;
        for (unsigned b = 0; b < PATCH_BYTES; b++) {
            p->before[b] = original[places[order[i]] + b];
            p->after[b] = (uint8_t)~p->before[b];
        }
    }
}

// Are all patches there, or none, and every other byte as it was?
static bool code_is(bool is_patched) {
    for (size_t i = 0; i < PAGES * PAGE; i++) {
        bool is_in_patch = false;
        for (unsigned k = 0; k < PATCHES; k++)
            is_in_patch |= (i >= places[k] && i < places[k] + PATCH_BYTES);
        if (code[i] != (is_patched && is_in_patch ? (uint8_t)~original[i] : original[i])) {
            say("byte %zx is %x\n", i, code[i]);
            return false;
        }
    }
    return true;
}

// The order after this one; false = this was the last.
static bool order_next(unsigned order[PATCHES]) {
    int i = PATCHES - 2, j = PATCHES - 1;
    while (i >= 0 && order[i] > order[i + 1])
        i--;
    if (i < 0)
        return false;
    while (order[j] < order[i])
        j--;
    const unsigned swapped = order[i];
    order[i] = order[j];
    order[j] = swapped;
    for (int a = i + 1, b = PATCHES - 1; a < b; a++, b--) {
        const unsigned other = order[a];
        order[a] = order[b];
        order[b] = other;
    }
    return true;
}

static void test_orders(const DWORD rights[PAGES]) {
    unsigned order[PATCHES] = {0, 1, 2, 3, 4, 5}, count = 0;
    mi_patch_t patches[PATCHES];
    rights_set(rights);
    do {
        patches_make(patches, order);
        CHECK(mi_patch_apply(patches, PATCHES, NULL) == MI_REASON_NONE);
        CHECK(code_is(true) && rights_are(rights));
        CHECK(mi_patch_undo(patches, PATCHES) == MI_REASON_NONE);
        CHECK(code_is(false) && rights_are(rights));
        count++;
    } while (order_next(order));
    CHECK(count == 720);
}

// ---- a process that forbids new code ----

// Each page in turn may not become writable: all is put back, the pages before it included.
static void test_blocked(const DWORD rights[PAGES]) {
    static const unsigned order[PATCHES] = {2, 0, 4, 1, 5, 3};
    const HMODULE self = GetModuleHandleA(NULL);
    mi_patch_t patches[PATCHES];
    patches_make(patches, order);
    rights_set(rights);
    CHECK(imports_lead(self, protect_export(), (uintptr_t)refusing_protect) == 1);
    refused_rights = PAGE_EXECUTE_READWRITE;
    for (refused_call = 0; refused_call < 100; refused_call++) {
        asked = refusals = 0;
        const mi_reason_t reason = mi_patch_apply(patches, PATCHES, NULL);
        if (refusals == 0) {
            CHECK(reason == MI_REASON_NONE && code_is(true));
            break;
        }
        CHECK(reason == MI_REASON_DYNAMIC_CODE && code_is(false) && rights_are(rights));
    }
    // The first and second page together, each alone, the third and fourth together.
    CHECK(refused_call == 6);
    CHECK(imports_lead(self, (uintptr_t)refusing_protect, protect_export()) == 1);
    refused_call = REFUSE_EVERY;
    CHECK(mi_patch_undo(patches, PATCHES) == MI_REASON_NONE && code_is(false));
    CHECK(rights_are(rights));
}

// ---- a thread that is born while the others are being stopped ----

typedef LONG(NTAPI *next_thread_t)(HANDLE, HANDLE, ACCESS_MASK, ULONG, ULONG, HANDLE *);
static next_thread_t real_next_thread;
static HANDLE newborn, bystander_lives, bystander_ends;
static volatile LONG newborn_calls, newborn_halves;
static volatile bool is_newborn_done;
static unsigned written_pages, running_meanwhile;

// Calls the code that is patched, without pause.
static DWORD WINAPI newborn_lives(void *unused) {
    (void)unused;
    unsigned (*const answer)(void) = (unsigned (*)(void))(uintptr_t)(code + PAGE - 3);
    while (!is_newborn_done) {
        const unsigned value = answer();
        if (value != 0x11111111u && value != 0x22222222u)
            newborn_halves++;
        newborn_calls++;
    }
    return 0;
}

// It is there before, and what makes the newborn: a thread that stands still can make none.
static DWORD WINAPI bystander(void *unused) {
    (void)unused;
    SetEvent(bystander_lives);
    return WaitForSingleObject(bystander_ends, INFINITE);
}

// It is born at the worst moment: the first look at the threads of the process has just ended.
static LONG NTAPI birth_after_first_look(HANDLE process, HANDLE thread, ACCESS_MASK access,
                                         ULONG attributes, ULONG flags, HANDLE *next) {
    const LONG status = real_next_thread(process, thread, access, attributes, flags, next);
    if (status < 0 && newborn == NULL) {
        newborn = CreateThread(NULL, 0, newborn_lives, NULL, 0, NULL);
        while (newborn != NULL && newborn_calls == 0)
            SwitchToThread();
    }
    return status;
}

static BOOL WINAPI watching_protect(void *at, SIZE_T bytes, DWORD rights, DWORD *before) {
    if (rights == PAGE_EXECUTE_READWRITE) {
        written_pages++;
        running_meanwhile += (newborn == NULL || SuspendThread(newborn) == 0);
        if (newborn != NULL)
            ResumeThread(newborn);
    }
    return real_protect(at, bytes, rights, before);
}

// The two functions "return a constant", across the border of two pages.
static void test_born(const DWORD rights[PAGES]) {
    const HMODULE self = GetModuleHandleA(NULL);
    const HMODULE ntdll = GetModuleHandleA("ntdll.dll");
    const mi_patch_t patch = {.at = code + PAGE - 3,
                              .bytes = PATCH_BYTES,
                              .before = {0xB8, 0x11, 0x11, 0x11, 0x11},
                              .after = {0xB8, 0x22, 0x22, 0x22, 0x22}};
    DWORD before;
    CHECK(VirtualProtect(code, PAGES * PAGE, PAGE_READWRITE, &before));
    memcpy(patch.at, patch.before, PATCH_BYTES);
    patch.at[PATCH_BYTES] = 0xC3; // ret
    rights_set(rights);
    real_next_thread = (next_thread_t)proc(ntdll, "NtGetNextThread");
    CHECK(imports_lead(self, (uintptr_t)real_next_thread, (uintptr_t)birth_after_first_look) == 1);
    CHECK(imports_lead(self, protect_export(), (uintptr_t)watching_protect) == 1);
    bystander_lives = CreateEventA(NULL, TRUE, FALSE, NULL);
    bystander_ends = CreateEventA(NULL, TRUE, FALSE, NULL);
    const HANDLE other = CreateThread(NULL, 0, bystander, NULL, 0, NULL);
    CHECK(bystander_lives != NULL && bystander_ends != NULL && other != NULL);
    // Stopped as it begins it would hold the loader's lock, and no newborn could begin.
    WaitForSingleObject(bystander_lives, INFINITE);
    bool was_alone = true;
    CHECK(mi_patch_apply_alone(&patch, 1, &was_alone) == MI_REASON_NONE);
    CHECK(newborn != NULL && !was_alone && written_pages == 0);
    for (unsigned i = 0; i < 50; i++) {
        CHECK(mi_patch_apply(&patch, 1, &was_alone) == MI_REASON_NONE && !was_alone);
        CHECK(mi_patch_undo(&patch, 1) == MI_REASON_NONE);
        for (const LONG now = newborn_calls; newborn_calls == now;)
            SwitchToThread();
    }
    // Each time anew.
    for (unsigned i = 0; i < 20; i++) {
        is_newborn_done = true;
        WaitForSingleObject(newborn, INFINITE);
        CloseHandle(newborn);
        newborn = NULL;
        is_newborn_done = false;
        newborn_calls = 0;
        CHECK(mi_patch_apply(&patch, 1, &was_alone) == MI_REASON_NONE && !was_alone);
        CHECK(mi_patch_undo(&patch, 1) == MI_REASON_NONE);
    }
    is_newborn_done = true;
    WaitForSingleObject(newborn, INFINITE);
    SetEvent(bystander_ends);
    WaitForSingleObject(other, INFINITE);
    CHECK(written_pages > 0 && running_meanwhile == 0 && newborn_halves == 0);
    say("%ld calls by the last newborn, %u writes\n", newborn_calls, written_pages);
    CHECK(imports_lead(self, (uintptr_t)watching_protect, protect_export()) == 1);
    CHECK(imports_lead(self, (uintptr_t)birth_after_first_look, (uintptr_t)real_next_thread) == 1);
    CHECK(rights_are(rights));
}

static bool says(HMODULE redirect, const char *wanted) {
    static char text[8192];
    size_t (*const status)(char *, size_t, int) =
        (size_t(*)(char *, size_t, int))proc(redirect, "mi_redirect_status");
    if (status == NULL || status(text, sizeof(text), 0) == 0)
        return false;
    for (const char *p = text; *p != 0; p++)
        if (mi_str_starts(p, wanted))
            return true;
    say_text(text);
    return false;
}

// The whole redirection: its entries cannot be patched, so its tables are, and it says why.
static void test_redirection(void) {
    const HMODULE crt = LoadLibraryA(argument(3));
    const HMODULE redirect = LoadLibraryA(argument(1));
    CHECK(crt != NULL && redirect != NULL);
    CHECK(imports_lead(redirect, protect_export(), (uintptr_t)refusing_protect) == 1);
    refused_rights = (mi_str_eq(argument(4), "write")
                          ? PAGE_EXECUTE_READWRITE
                          : PAGE_EXECUTE_READWRITE | PAGE_EXECUTE_READ | PAGE_EXECUTE);
    const HMODULE allocator = LoadLibraryA(argument(2));
    CHECK(allocator != NULL && refusals > 0);
    CHECK(says(redirect, ": redirected, "));
    CHECK(says(redirect, " functions by tables ("));
    CHECK(says(redirect, "; not at its entries, reason 32 (dynamic-code)"));
    CHECK(says(redirect, "heap guard: off"));
}

// ---- a thread that stands inside ----

static uintptr_t stands_at(HANDLE thread) {
    CONTEXT context;
    context.ContextFlags = CONTEXT_CONTROL;
    (void)SuspendThread(thread);
    const BOOL is_known = GetThreadContext(thread, &context);
    (void)ResumeThread(thread);
#if MI_ARCH_X64
    return is_known ? (uintptr_t)context.Rip : 0;
#elif MI_ARCH_X86
    return is_known ? (uintptr_t)context.Eip : 0;
#else
    return is_known ? (uintptr_t)context.Pc : 0;
#endif
}

// A thread that does not leave one instruction, and a patch around it: while it would go on in the
// middle of what is written, nothing is written. Before the first byte and behind the last one it
// may stand.
static void test_inside(const DWORD rights[PAGES]) {
    static const DWORD writable[PAGES] = {PAGE_READWRITE, PAGE_READWRITE, PAGE_READWRITE,
                                          PAGE_READWRITE};
    enum { INSN = (MI_ARCH_ARM64 ? 4 : 1) }; // where instructions may lie
    uint8_t loop[4] = {0xEB, 0xFE};
    if (MI_ARCH_ARM64)
        memcpy(loop, "\0\0\0\x14", 4);
    for (size_t at = 0; at <= 8; at += INSN) {
        if (at % 4 > 1) // each refusal comes after two thousand looks
            continue;
        uint8_t *const here = code + 0x100;
        mi_patch_t patch = {.at = here, .bytes = (MI_ARCH_ARM64 ? 4 : PATCH_BYTES)};
        rights_set(writable);
        memset(here, 0x90, 32);
        memcpy(here + at, loop, MI_ARCH_ARM64 ? 4 : 2);
        memcpy(patch.before, here, patch.bytes);
        memset(patch.after, 0x90, patch.bytes);
        memcpy(patch.after, loop, MI_ARCH_ARM64 ? 4 : 2); // for the one at the first byte
        rights_set(rights);
        const HANDLE thread =
            CreateThread(NULL, 0, (LPTHREAD_START_ROUTINE)(uintptr_t)(here + at), NULL, 0, NULL);
        while (stands_at(thread) != (uintptr_t)here + at)
            SwitchToThread();
        (void)SuspendThread(thread); // it stays there, and takes nobody's time
        const bool is_inside = (at > 0 && at < patch.bytes);
        const mi_reason_t reason = mi_patch_apply(&patch, 1, NULL);
        CHECK(reason == (is_inside ? MI_REASON_THREAD_IN_RANGE : MI_REASON_NONE));
        const uint8_t *const wanted = (is_inside ? patch.before : patch.after);
        for (size_t i = 0; i < patch.bytes; i++)
            CHECK(here[i] == wanted[i]);
        CHECK(stands_at(thread) == (uintptr_t)here + at && rights_are(rights));
        (void)TerminateThread(thread, 0);
        (void)WaitForSingleObject(thread, INFINITE);
        CloseHandle(thread);
    }
    rights_set(writable);
    memcpy(code, original, sizeof(original));
}

void mainCRTStartup(void) {
    static const DWORD same[PAGES] = {PAGE_EXECUTE_READ, PAGE_EXECUTE_READ, PAGE_EXECUTE_READ,
                                      PAGE_EXECUTE_READ};
    static const DWORD mixed[PAGES] = {PAGE_EXECUTE_READ, PAGE_EXECUTE_READWRITE, PAGE_EXECUTE,
                                       PAGE_EXECUTE_READ};
    static const DWORD other[PAGES] = {PAGE_EXECUTE_READ, PAGE_EXECUTE, PAGE_EXECUTE,
                                       PAGE_EXECUTE_READ};
    real_protect = (protect_t)protect_export();
    if (*argument(1) != 0) {
        test_redirection();
    } else {
        code_make();
        test_orders(same);
        test_orders(mixed);
        test_blocked(same);
        test_blocked(other);
        test_born(same);
        test_inside(same);
    }
    finish();
}
