#include "base/privilege.h"

#include "base/atomic.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

// Of ntdll, found by name: whoever links this file has kernel32 and perhaps not ntdll.
typedef LONG(NTAPI *open_token_t)(HANDLE process, ACCESS_MASK access, HANDLE *token);
typedef LONG(NTAPI *query_token_t)(HANDLE token, int what, void *buf, ULONG bytes, ULONG *needed);
typedef LONG(NTAPI *query_process_t)(HANDLE process, int what, void *buf, ULONG bytes,
                                     ULONG *needed);

typedef struct ntdll_s {
    open_token_t open_token;
    query_token_t query_token;
    query_process_t query_process;
} ntdll_t;

// PROCESS_BASIC_INFORMATION, as documented.
typedef struct process_info_s {
    LONG exit_status;
    void *peb;
    ULONG_PTR affinity;
    LONG priority;
    ULONG_PTR id, parent_id;
} process_info_t;

static uint32_t integrity_of(const ntdll_t *nt, HANDLE process) {
    union {
        SID_AND_ATTRIBUTES label;
        uint8_t bytes[128];
    } buf;
    ULONG needed;
    HANDLE token;
    if (nt->open_token(process, TOKEN_QUERY, &token) < 0)
        return MI_INTEGRITY_UNKNOWN;
    const LONG status =
        nt->query_token(token, 25 /* TokenIntegrityLevel */, &buf, (ULONG)sizeof(buf), &needed);
    CloseHandle(token);
    if (status < 0 || buf.label.Sid == NULL)
        return MI_INTEGRITY_UNKNOWN;
    const SID *sid = (const SID *)buf.label.Sid; // inside buf
    return sid->SubAuthorityCount == 1 ? sid->SubAuthority[0] : MI_INTEGRITY_UNKNOWN;
}

static uint64_t birth_of(HANDLE process) {
    FILETIME born, unused[3];
    if (!GetProcessTimes(process, &born, &unused[0], &unused[1], &unused[2]))
        return UINT64_MAX;
    return (uint64_t)born.dwHighDateTime << 32 | born.dwLowDateTime;
}

static uint32_t parent_integrity(const ntdll_t *nt) {
    process_info_t info;
    ULONG needed;
    if (nt->query_process(GetCurrentProcess(), 0 /* ProcessBasicInformation */, &info,
                          (ULONG)sizeof(info), &needed) < 0)
        return MI_INTEGRITY_UNKNOWN;
    const HANDLE parent =
        OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, (DWORD)info.parent_id);
    if (parent == NULL)
        return MI_INTEGRITY_UNKNOWN;
    // One that is younger than we are has only inherited the number.
    const bool is_older = (birth_of(parent) <= birth_of(GetCurrentProcess()));
    const uint32_t level = (is_older ? integrity_of(nt, parent) : MI_INTEGRITY_UNKNOWN);
    CloseHandle(parent);
    return level;
}

static bool ask(void) {
    const HMODULE module = GetModuleHandleW(L"ntdll.dll");
    mi_privilege_t p = {.is_wine = false};
    if (module == NULL)
        return false;
    p.is_wine = (GetProcAddress(module, "wine_get_version") != NULL);
    const ntdll_t nt = {
        (open_token_t)(uintptr_t)GetProcAddress(module, "NtOpenProcessToken"),
        (query_token_t)(uintptr_t)GetProcAddress(module, "NtQueryInformationToken"),
        (query_process_t)(uintptr_t)GetProcAddress(module, "NtQueryInformationProcess")};
    if (nt.open_token != NULL && nt.query_token != NULL && nt.query_process != NULL) {
        p.integrity = integrity_of(&nt, GetCurrentProcess());
        if (p.integrity > MI_INTEGRITY_MEDIUM)
            p.parent_integrity = parent_integrity(&nt);
    }
    return mi_privilege_trusts_environment(&p);
}

// NAME in any case, as Windows takes it.
static bool begins(const WCHAR *text, const char *prefix) {
    for (; *prefix != 0; text++, prefix++)
        if (*text != (WCHAR)(uint8_t)*prefix && *text != (WCHAR)((uint8_t)*prefix | 0x20))
            return false;
    return true;
}

// The block: NAME=value 0 NAME=value 0 0
bool mi_environment_has_ours(void) {
    const DWORD error = GetLastError();
    WCHAR *const block = GetEnvironmentStringsW();
    bool has_any = (block == NULL);
    for (const WCHAR *at = block; at != NULL && *at != 0 && !has_any; at++) {
        has_any = begins(at, "MI_") || begins(at, "MIMALLOC_");
        while (*at != 0)
            at++;
    }
    if (block != NULL)
        (void)FreeEnvironmentStringsW(block);
    SetLastError(error);
    return has_any;
}

bool mi_environment_is_trusted(void) {
    static _Atomic(uint32_t) answer; // 0 not asked yet, 1 no, 2 yes; every thread finds the same
    uint32_t known = mi_load_relaxed(&answer);
    if (known == 0) {
        const DWORD error = GetLastError();
        known = (ask() ? 2 : 1);
        SetLastError(error);
        mi_store_relaxed(&answer, known);
    }
    return known == 2;
}
