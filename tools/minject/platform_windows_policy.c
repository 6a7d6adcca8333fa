// What the system's settings do to names and programs: KnownDLLs, image file execution options,
// AppInit_DLLs, compatibility layers. Read only.
#include "minject/platform_windows.h"

#include <stdio.h>
#include <string.h>

#define NT_CURRENT L"SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\"

static void utf8_of(const wchar_t *s, char *out, size_t cap) {
    if (WideCharToMultiByte(CP_UTF8, 0, s, -1, out, (int)cap, NULL, NULL) <= 0)
        out[0] = 0;
}

uint32_t plat_known_dlls(char (*names)[64], uint32_t max) {
    HKEY key;
    uint32_t n = 0;
    if (RegOpenKeyExW(HKEY_LOCAL_MACHINE,
                      L"SYSTEM\\CurrentControlSet\\Control\\Session Manager\\KnownDLLs", 0,
                      KEY_READ, &key) != ERROR_SUCCESS)
        return 0;
    for (DWORD i = 0; n < max; i++) {
        wchar_t name[64];
        wchar_t value[64];
        DWORD name_units = 64;
        DWORD type = 0;
        DWORD bytes = sizeof value - sizeof value[0];
        LSTATUS rc = RegEnumValueW(key, i, name, &name_units, NULL, &type, (BYTE *)value, &bytes);
        if (rc == ERROR_MORE_DATA)
            continue;
        if (rc != ERROR_SUCCESS)
            break;
        value[bytes / sizeof value[0]] = 0;
        utf8_of(value, names[n], 64);
        for (char *c = names[n]; *c != 0; c++)
            *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
        // DllDirectory and the like name folders.
        if (type == REG_SZ && strstr(names[n], ".dll") != NULL && strchr(names[n], '\\') == NULL)
            n++;
    }
    RegCloseKey(key);
    return n;
}

// A value as text; numbers in hexadecimal. false = it is not there, empty or 0.
static bool read_value(HKEY root, const wchar_t *path, const wchar_t *name, char *out, size_t cap) {
    union {
        wchar_t text[512];
        DWORD number;
        BYTE bytes[1024];
    } value;
    DWORD type = 0;
    DWORD bytes = sizeof value - sizeof value.text[0];
    memset(&value, 0, sizeof value);
    if (RegGetValueW(root, path, name, RRF_RT_ANY, &type, &value, &bytes) != ERROR_SUCCESS)
        return false;
    if (type == REG_SZ || type == REG_EXPAND_SZ)
        utf8_of(value.text, out, cap);
    else if (type == REG_DWORD && value.number == 0)
        out[0] = 0;
    else if (type == REG_DWORD)
        snprintf(out, cap, "%#lx", value.number);
    else
        snprintf(out, cap, "%lu bytes", bytes);
    return out[0] != 0;
}

static plat_policy_t *next_row(plat_policy_t *out, uint32_t *n, uint32_t max, const char *code) {
    if (*n >= max)
        return NULL;
    out[*n].code = code;
    return &out[(*n)++];
}

static void read_execution_options(const wchar_t *file, plat_policy_t *out, uint32_t *n,
                                   uint32_t max) {
    static const wchar_t *const names[] = {L"Debugger", L"GlobalFlag", L"VerifierDlls",
                                           L"MitigationOptions", L"MaxLoaderThreads"};
    static const char *const meanings[] = {
        "another program is started in its place", "the loader or the heap behaves differently",
        "verifier DLLs are loaded before every other and replace heap functions",
        "it may forbid the changing of code: then import tables are used",
        "the loader's threads are limited"};
    wchar_t path[PATH_UNITS];
    char value[256];
    char name[64];
    _snwprintf(path, PATH_UNITS - 1, NT_CURRENT L"Image File Execution Options\\%ls", file);
    path[PATH_UNITS - 1] = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!read_value(HKEY_LOCAL_MACHINE, path, names[i], value, sizeof value))
            continue;
        plat_policy_t *row = next_row(out, n, max, "ifeo");
        utf8_of(names[i], name, sizeof name);
        if (row != NULL)
            snprintf(row->text, sizeof row->text,
                     "image file execution options set %s to %s for this program's name: %s", name,
                     value, meanings[i]);
    }
}

uint32_t plat_policies(const char *program, plat_policy_t *out, uint32_t max) {
    static const wchar_t layers[] = NT_CURRENT L"AppCompatFlags\\Layers";
    const HKEY roots[2] = {HKEY_CURRENT_USER, HKEY_LOCAL_MACHINE};
    static wchar_t path[PATH_UNITS];
    static wchar_t full[PATH_UNITS];
    char value[300];
    char on[32];
    uint32_t n = 0;
    wchar_t *file = NULL;
    if (!win_wide_of(program, path) || GetFullPathNameW(path, PATH_UNITS, full, &file) == 0)
        return 0;
    if (file != NULL)
        read_execution_options(file, out, &n, max);
    if (read_value(HKEY_LOCAL_MACHINE, NT_CURRENT L"Windows", L"AppInit_DLLs", value,
                   sizeof value) &&
        read_value(HKEY_LOCAL_MACHINE, NT_CURRENT L"Windows", L"LoadAppInit_DLLs", on, sizeof on)) {
        plat_policy_t *row = next_row(out, &n, max, "appinit");
        if (row != NULL)
            snprintf(row->text, sizeof row->text,
                     "AppInit_DLLs loads %s into every program that uses user32.dll", value);
    }
    for (size_t i = 0; i < 2; i++) {
        if (!read_value(roots[i], layers, full, value, sizeof value))
            continue;
        plat_policy_t *row = next_row(out, &n, max, "shim");
        if (row != NULL)
            snprintf(row->text, sizeof row->text,
                     "compatibility layers (%s) are set for this program: their DLLs come first "
                     "and may replace heap functions",
                     value);
    }
    return n;
}
