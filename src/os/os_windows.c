// Windows 8.1 and later, and Wine. Imports ntdll and kernel32 only, uses no C runtime and no
// compiler TLS, and keeps the thread's last error, which the C runtimes of the program rely on
// around malloc and free.
#include "os/os.h"

#include "base/atomic.h"
#include "base/text.h"
#include "os/os_thread.h"
#include "base/privilege.h"

#define WIN32_LEAN_AND_MEAN
#define PSAPI_VERSION 2
#include <windows.h>
#include <psapi.h>
#include <winternl.h>

// Exports of ntdll that winternl.h does not declare. All are there since Windows XP or Vista.
NTSTATUS NTAPI RtlQueryEnvironmentVariable_U(PVOID environment, UNICODE_STRING *name,
                                             UNICODE_STRING *value);
BOOLEAN NTAPI RtlDllShutdownInProgress(VOID);
NTSTATUS NTAPI RtlAdjustPrivilege(ULONG privilege, BOOLEAN enable, BOOLEAN thread, BOOLEAN *was);
NTSTATUS NTAPI NtYieldExecution(VOID);

#define ALLOCATION_GRANULARITY ((size_t)64 * 1024) // of VirtualAlloc, on every version and CPU
#define SE_LOCK_MEMORY         4u
#define PROCESS_COOKIE         ((PROCESSINFOCLASS)36)
#define ENV_NAME_MAX           80
#define ENV_VALUE_MAX          512
#define RESERVE_ALIGNED_TRIES  8
#define COMMIT_WAIT_MAX_MS     64u

// ---- Facts
// -------------------------------------------------------------------------------------------------

size_t mi_os_page_bytes(void) {
    static _Atomic(size_t) cached;
    size_t bytes = mi_load_relaxed(&cached);
    if (MI_LIKELY(bytes != 0))
        return bytes;
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    bytes = info.dwPageSize;
    mi_store_relaxed(&cached, bytes);
    return bytes;
}

bool mi_os_needs_commit(void) {
    return true;
}

size_t mi_os_physical_bytes(void) {
    const DWORD error = GetLastError();
    MEMORYSTATUSEX status = {.dwLength = sizeof(status)};
    const bool is_known = GlobalMemoryStatusEx(&status);
    SetLastError(error);
    if (!is_known)
        return 0;
    return status.ullTotalPhys > SIZE_MAX ? SIZE_MAX : (size_t)status.ullTotalPhys;
}

size_t mi_os_processor_count(void) {
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwNumberOfProcessors > 0 ? info.dwNumberOfProcessors : 1;
}

// ---- The test hook: the nth of these calls fails
// -----------------------------------------------------------

#if MI_OS_FAULTS
static _Atomic(long) fault_at;
static _Atomic(long) fault_calls;

void mi_os_fail_nth(long n) {
    mi_store_relaxed(&fault_calls, 0);
    mi_store_relaxed(&fault_at, n);
}

long mi_os_fail_calls(void) {
    return mi_load_relaxed(&fault_calls);
}

static bool fault_is_due(void) {
    const long call = mi_fetch_add_relaxed(&fault_calls, 1) + 1;
    const long at = mi_load_relaxed(&fault_at);
    return at != 0 && call >= at;
}
#else
static bool fault_is_due(void) {
    return false;
}
#endif

// ---- Address space
// -----------------------------------------------------------------------------------------

// An aligned reservation when the first try was not aligned: reserve more, give it back, and take
// the aligned part; another thread may be faster, hence the tries.
static void *reserve_aligned(size_t bytes, size_t align) {
    size_t all;
    if (!mi_add_ok(bytes, align, &all))
        return NULL;
    for (int i = 0; i < RESERVE_ALIGNED_TRIES; i++) {
        void *whole = VirtualAlloc(NULL, all, MEM_RESERVE, PAGE_READWRITE);
        if (whole == NULL)
            return NULL;
        VirtualFree(whole, 0, MEM_RELEASE);
        void *at = (void *)mi_align_up((uintptr_t)whole, align);
        void *p = VirtualAlloc(at, bytes, MEM_RESERVE, PAGE_READWRITE);
        if (p != NULL)
            return p;
    }
    return NULL;
}

void *mi_os_reserve(size_t bytes, size_t align) {
    if (fault_is_due())
        return NULL;
    const DWORD error = GetLastError();
    void *p = VirtualAlloc(NULL, bytes, MEM_RESERVE, PAGE_READWRITE);
    if (p != NULL && align > ALLOCATION_GRANULARITY && ((uintptr_t)p & (align - 1)) != 0) {
        VirtualFree(p, 0, MEM_RELEASE);
        p = reserve_aligned(bytes, align);
    }
    SetLastError(error);
    return p;
}

void *mi_os_reserve_at(uintptr_t address, size_t bytes, size_t align) {
    void *p = NULL;
    if (address != 0 && !fault_is_due()) {
        const DWORD error = GetLastError();
        p = VirtualAlloc((void *)mi_align_up(address, align), bytes, MEM_RESERVE, PAGE_READWRITE);
        SetLastError(error);
    }
    return p != NULL ? p : mi_os_reserve(bytes, align);
}

int mi_os_release(void *p, size_t bytes) {
    (void)bytes;
    const DWORD error = GetLastError();
    const bool is_done = VirtualFree(p, 0, MEM_RELEASE);
    SetLastError(error);
    return is_done ? 0 : -1;
}

static _Atomic(uint32_t) commit_retry_ms;
// Waiting was in vain, and nothing could be committed since. One allocation asks in several places,
// and a program that goes on without memory asks again and again: it shall wait once.
static _Atomic(bool) commit_is_hopeless;

void mi_os_set_commit_retry(uint32_t ms) {
    mi_store_relaxed(&commit_retry_ms, ms);
}

static bool commit_once(void *p, size_t bytes) {
    if (fault_is_due()) {
        SetLastError(ERROR_COMMITMENT_LIMIT);
        return false;
    }
    return VirtualAlloc(p, bytes, MEM_COMMIT, PAGE_READWRITE) != NULL;
}

// Windows refuses while it enlarges the page file, and other processes give memory back: what is
// refused now may be had a moment later, unless it is more than the machine has.
static bool commit_with_patience(void *p, size_t bytes) {
    if (MI_LIKELY(commit_once(p, bytes))) {
        if (MI_UNLIKELY(mi_load_relaxed(&commit_is_hopeless)))
            mi_store_relaxed(&commit_is_hopeless, false);
        return true;
    }
    const bool is_hopeless = mi_load_relaxed(&commit_is_hopeless);
    const uint32_t wish_ms = is_hopeless ? 0 : mi_load_relaxed(&commit_retry_ms);
    DWORD why = GetLastError();
    const uint32_t patience_ms = (bytes <= mi_os_physical_bytes() ? wish_ms : 0);
    const uint64_t start_ms = GetTickCount64();
    for (DWORD wait_ms = 1; why == ERROR_COMMITMENT_LIMIT || why == ERROR_NOT_ENOUGH_MEMORY;) {
        const uint64_t waited_ms = GetTickCount64() - start_ms;
        if (waited_ms >= patience_ms || mi_os_is_exiting()) {
            if (patience_ms != 0)
                mi_store_relaxed(&commit_is_hopeless, true);
            return false;
        }
        const uint64_t left_ms = patience_ms - waited_ms;
        Sleep(wait_ms < left_ms ? wait_ms : (DWORD)left_ms);
        wait_ms = (wait_ms < COMMIT_WAIT_MAX_MS ? wait_ms * 2 : COMMIT_WAIT_MAX_MS);
        if (commit_once(p, bytes))
            return true;
        why = GetLastError();
    }
    return false;
}

int mi_os_commit(void *p, size_t bytes, bool *is_zero) {
    const DWORD error = GetLastError();
    // What was committed before keeps its content; only a range that is wholly fresh is known to be
    // zero.
    MEMORY_BASIC_INFORMATION info;
    *is_zero = VirtualQuery(p, &info, sizeof(info)) == sizeof(info) && info.State == MEM_RESERVE &&
               (uint8_t *)info.BaseAddress + info.RegionSize >= (uint8_t *)p + bytes;
    const bool is_done = commit_with_patience(p, bytes);
    SetLastError(error);
    return is_done ? 0 : -1;
}

int mi_os_populate(void *p, size_t bytes) {
    (void)p;
    (void)bytes;
    return -1; // VirtualLock would, but what is locked has narrow bounds
}

int mi_os_purge(void *p, size_t bytes, bool *is_committed) {
    *is_committed = true;
    if (fault_is_due())
        return -1;
    const DWORD error = GetLastError();
    const bool is_done = VirtualFree(p, bytes, MEM_DECOMMIT);
    SetLastError(error);
    *is_committed = !is_done;
    return is_done ? 0 : -1;
}

int mi_os_reset(void *p, size_t bytes) {
    if (fault_is_due())
        return -1;
    const DWORD error = GetLastError();
    const bool is_done = VirtualAlloc(p, bytes, MEM_RESET, PAGE_READWRITE) != NULL;
    SetLastError(error);
    return is_done ? 0 : -1;
}

// Pages that were reset are not written to the page file, but stay in the working set until there
// is need. To unlock what is not locked takes them out of it, and says that it was not locked: so
// it is documented, and there on every version, unlike DiscardVirtualMemory (an update of
// Windows 8.1, not in Wine 8). Wine gives the memory back in the first call. Nobody needs memory
// locked that is free.
int mi_os_discard(void *p, size_t bytes) {
    if (mi_os_reset(p, bytes) != 0)
        return -1;
    const DWORD error = GetLastError();
    (void)VirtualUnlock(p, bytes);
    SetLastError(error);
    return 0;
}

static int protection_set(void *p, size_t bytes, DWORD protection) {
    if (fault_is_due())
        return -1;
    const DWORD error = GetLastError();
    DWORD old;
    const bool is_done = VirtualProtect(p, bytes, protection, &old);
    SetLastError(error);
    return is_done ? 0 : -1;
}

int mi_os_protect(void *p, size_t bytes) {
    return protection_set(p, bytes, PAGE_NOACCESS);
}

int mi_os_unprotect(void *p, size_t bytes) {
    return protection_set(p, bytes, PAGE_READWRITE);
}

int mi_os_guard(void *p, size_t bytes) {
    return mi_os_protect(p, bytes);
}

int mi_os_unguard(void *p, size_t bytes) {
    return mi_os_unprotect(p, bytes);
}

bool mi_os_is_mapped(const void *p) {
    MEMORY_BASIC_INFORMATION info;
    const DWORD error = GetLastError();
    const bool is_mapped =
        VirtualQuery(p, &info, sizeof(info)) != sizeof(info) || info.State != MEM_FREE;
    SetLastError(error);
    return is_mapped;
}

size_t mi_os_resident(void *p, size_t bytes) {
    (void)p;
    (void)bytes;
    return SIZE_MAX; // purging decommits here, which costs more than zeroing
}

int mi_os_remap(void *p, size_t old_bytes, void *target, size_t new_bytes, bool keep_source) {
    (void)p;
    (void)old_bytes;
    (void)target;
    (void)new_bytes;
    (void)keep_source;
    return -1; // Windows cannot move page tables
}

int mi_os_resize_in_place(void *p, size_t old_bytes, size_t new_bytes) {
    (void)p;
    (void)old_bytes;
    (void)new_bytes;
    return -1; // a reservation of Windows has the size it was made with
}

void mi_os_allow_huge_pages(void *p, size_t bytes, bool is_allowed) {
    (void)p;
    (void)bytes;
    (void)is_allowed; // Windows never makes huge pages by itself
}

void *mi_os_reserve_huge_pages(size_t bytes, int numa_node) {
    const DWORD error = GetLastError();
    BOOLEAN was_enabled;
    void *p = NULL;
    if (RtlAdjustPrivilege(SE_LOCK_MEMORY, TRUE, FALSE, &was_enabled) == 0)
        p = VirtualAllocExNuma(GetCurrentProcess(), NULL, bytes,
                               MEM_RESERVE | MEM_COMMIT | MEM_LARGE_PAGES, PAGE_READWRITE,
                               numa_node < 0 ? NUMA_NO_PREFERRED_NODE : (DWORD)numa_node);
    SetLastError(error);
    return p;
}

size_t mi_os_numa_node_count(void) {
    const DWORD error = GetLastError();
    ULONG highest = 0;
    const bool is_known = GetNumaHighestNodeNumber(&highest);
    SetLastError(error);
    return is_known ? (size_t)highest + 1 : 1;
}

size_t mi_os_numa_node(void) {
    const DWORD error = GetLastError();
    PROCESSOR_NUMBER number;
    USHORT node = 0;
    GetCurrentProcessorNumberEx(&number);
    const bool is_known = GetNumaProcessorNodeEx(&number, &node);
    SetLastError(error);
    return is_known && node != 0xFFFF ? node : 0;
}

// ---- Time, randomness, scheduling
// --------------------------------------------------------------------------

uint64_t mi_os_clock_ms(void) {
    return GetTickCount64();
}

uint64_t mi_os_clock_ns(void) {
    static _Atomic(uint64_t) frequency;
    uint64_t f = mi_load_relaxed(&frequency);
    LARGE_INTEGER now;
    if (f == 0) {
        QueryPerformanceFrequency(&now);
        f = (uint64_t)now.QuadPart;
        mi_store_relaxed(&frequency, f);
    }
    QueryPerformanceCounter(&now);
    const uint64_t ticks = (uint64_t)now.QuadPart;
    return ticks / f * 1000000000u + ticks % f * 1000000000u / f;
}

static uint64_t random_mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

#if MI_ARCH_X64 || MI_ARCH_X86
static uint64_t random_cpu(void) {
    unsigned a = 1, b = 0, c = 0, d = 0;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    uint64_t out = 0;
    if ((c & (1u << 30)) == 0) // no RDRAND
        return out;
    for (int i = 0; i < 8; i++) {
        size_t word = 0;
        unsigned char is_good = 0;
        __asm__ volatile("rdrand %0; setc %1" : "=r"(word), "=qm"(is_good));
        if (is_good)
            out = (out << 31) ^ (out >> 5) ^ word;
    }
    return out;
}
#else
static uint64_t random_cpu(void) {
    return 0;
}
#endif

uint64_t mi_os_random(void) {
    static _Atomic(uint64_t) counter;
    const DWORD error = GetLastError();
    ULONG cookie = 0; // the kernel's random number for this process
    NtQueryInformationProcess(GetCurrentProcess(), PROCESS_COOKIE, &cookie, sizeof(cookie), NULL);
    LARGE_INTEGER ticks;
    QueryPerformanceCounter(&ticks);
    SetLastError(error);
    uint64_t x = random_mix((uint64_t)ticks.QuadPart);
    x = random_mix(x ^ cookie);
    x = random_mix(x ^ (uintptr_t)&counter ^ ((uint64_t)(uintptr_t)&ticks << 20)); // ASLR
    x = random_mix(x ^ GetCurrentProcessId() ^ ((uint64_t)GetCurrentThreadId() << 32));
    x = random_mix(x ^ random_cpu());
    return random_mix(x ^ mi_fetch_add_relaxed(&counter, 1));
}

void mi_os_yield(void) {
    NtYieldExecution();
}

// ---- Threads and the process
// -------------------------------------------------------------------------------

uintptr_t mi_os_thread_id(void) {
    return GetCurrentThreadId();
}

bool mi_os_thread_is_alive(uintptr_t id) {
    const DWORD error = GetLastError();
    const HANDLE thread = OpenThread(SYNCHRONIZE, FALSE, (DWORD)id);
    bool is_alive = (thread != NULL || GetLastError() != ERROR_INVALID_PARAMETER);
    if (thread != NULL) {
        is_alive = (WaitForSingleObject(thread, 0) != WAIT_OBJECT_0);
        CloseHandle(thread);
    }
    SetLastError(error);
    return is_alive;
}

bool mi_os_is_exiting(void) {
    return RtlDllShutdownInProgress();
}

int mi_os_on_thread_exit(void (*on_exit)(void)) {
    (void)on_exit; // DllMain hears of every thread's end
    return 0;
}

void mi_os_thread_watch(void) {
}

int mi_os_on_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    (void)prepare;
    (void)parent;
    (void)child;
    return 0;
}

// The TLS slot. The index is published before the offset; readers use either.
size_t mi_thread_teb_offset;
static _Atomic(DWORD) slot_index = TLS_OUT_OF_INDEXES;

void *mi_thread_get_slow(void) {
    const DWORD index = mi_load_acquire(&slot_index); // pairs with slot_take
    if (index == TLS_OUT_OF_INDEXES)
        return NULL;
    if (index < MI_TEB_TLS_SLOT_COUNT)
        return mi_teb_load(MI_TEB_TLS_SLOTS + index * sizeof(void *));
    void **expansion = mi_teb_load(MI_TEB_TLS_EXPANSION_SLOTS);
    return expansion == NULL ? NULL : expansion[index - MI_TEB_TLS_SLOT_COUNT];
}

static DWORD slot_take(void) {
    DWORD index = mi_load_acquire(&slot_index);
    if (index != TLS_OUT_OF_INDEXES)
        return index;
    const DWORD fresh = TlsAlloc();
    if (fresh == TLS_OUT_OF_INDEXES)
        return fresh;
    if (!mi_cas_strong_acq_rel(&slot_index, &index, fresh)) {
        TlsFree(fresh);
        return index;
    }
    if (fresh < MI_TEB_TLS_SLOT_COUNT)
        mi_thread_teb_offset = MI_TEB_TLS_SLOTS + fresh * sizeof(void *);
    return fresh;
}

int mi_thread_set(void *value) {
    const DWORD error = GetLastError();
    const DWORD index = slot_take();
    const bool is_done = index != TLS_OUT_OF_INDEXES && TlsSetValue(index, value);
    SetLastError(error);
    return is_done ? 0 : -1;
}

void mi_os_threads_forget(void) {
    const DWORD index = mi_exchange_acq_rel(&slot_index, TLS_OUT_OF_INDEXES);
    mi_thread_teb_offset = 0;
    if (index != TLS_OUT_OF_INDEXES)
        (void)TlsFree(index);
}

// ---- Environment, messages, facts for the statistics
// -------------------------------------------------------

bool mi_os_env(const char *name, char *buf, size_t cap) {
    WCHAR wide_name[ENV_NAME_MAX];
    WCHAR wide_value[ENV_VALUE_MAX];
    size_t n = 0;
    for (; name[n] != 0; n++) {
        if (n + 1 >= ENV_NAME_MAX)
            return false;
        wide_name[n] = (WCHAR)(unsigned char)name[n];
    }
    UNICODE_STRING key = {
        .Length = (USHORT)(n * 2), .MaximumLength = (USHORT)(n * 2), .Buffer = wide_name};
    UNICODE_STRING value = {.Length = 0, .MaximumLength = sizeof(wide_value), .Buffer = wide_value};
    if (RtlQueryEnvironmentVariable_U(NULL, &key, &value) < 0)
        return false;
    // Asked when there is something to trust: it takes four calls of the system, and most processes
    // have no variable of ours.
    if (!mi_environment_is_trusted())
        return false;
    mi_text_t t;
    mi_text_init(&t, buf, cap);
    mi_text_utf16(&t, (const uint16_t *)wide_value, value.Length / 2u);
    return !t.is_cut;
}

bool mi_os_env_may_have_ours(void) {
    return mi_environment_has_ours();
}

static bool write_all(HANDLE file, const char *text, size_t bytes) {
    while (bytes > 0) {
        DWORD done = 0;
        const DWORD part = bytes > 0x10000 ? 0x10000 : (DWORD)bytes;
        if (!WriteFile(file, text, part, &done, NULL) || done == 0)
            return false;
        text += done;
        bytes -= done;
    }
    return true;
}

void mi_os_write_stderr(const char *text, size_t bytes) {
    const DWORD error = GetLastError();
    HANDLE file = GetStdHandle(STD_ERROR_HANDLE);
    if (file != NULL && file != INVALID_HANDLE_VALUE)
        write_all(file, text, bytes);
    if (IsDebuggerPresent())
        OutputDebugStringA(text);
    SetLastError(error);
}

int mi_os_append_file(const char *path, const char *text, size_t bytes) {
    const DWORD error = GetLastError();
    WCHAR wide[MAX_PATH];
    bool is_done = false;
    if (MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, MAX_PATH) > 0) {
        HANDLE file = CreateFileW(wide, FILE_APPEND_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL,
                                  OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
        if (file != INVALID_HANDLE_VALUE) {
            is_done = write_all(file, text, bytes);
            CloseHandle(file);
        }
    }
    SetLastError(error);
    return is_done ? 0 : -1;
}

static uint64_t filetime_ms(FILETIME t) {
    return (((uint64_t)t.dwHighDateTime << 32) | t.dwLowDateTime) / 10000;
}

void mi_os_process_info(mi_os_process_info_t *info) {
    const DWORD error = GetLastError();
    mi_memzero(info, sizeof(*info));
    FILETIME created, exited, kernel, user, now;
    if (GetProcessTimes(GetCurrentProcess(), &created, &exited, &kernel, &user)) {
        GetSystemTimeAsFileTime(&now);
        info->elapsed_ms = filetime_ms(now) - filetime_ms(created);
        info->user_ms = filetime_ms(user);
        info->system_ms = filetime_ms(kernel);
    }
    PROCESS_MEMORY_COUNTERS counters = {.cb = sizeof(counters)};
    if (GetProcessMemoryInfo(GetCurrentProcess(), &counters, sizeof(counters))) {
        info->current_rss = counters.WorkingSetSize;
        info->peak_rss = counters.PeakWorkingSetSize;
        info->current_commit = counters.PagefileUsage;
        info->peak_commit = counters.PeakPagefileUsage;
        info->page_faults = counters.PageFaultCount;
    }
    SetLastError(error);
}
