#include "minject/platform_windows.h"

#include <io.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int minject_main(int argc, char **argv);

static char last_error[512];

static char *utf8_of(const wchar_t *s) {
    int n = WideCharToMultiByte(CP_UTF8, 0, s, -1, NULL, 0, NULL, NULL);
    char *out = (char *)malloc((size_t)(n > 0 ? n : 1));
    if (out != NULL && WideCharToMultiByte(CP_UTF8, 0, s, -1, out, n, NULL, NULL) <= 0)
        out[0] = 0;
    return out;
}

bool win_wide_of(const char *s, wchar_t *out) {
    return MultiByteToWideChar(CP_UTF8, 0, s, -1, out, PATH_UNITS) > 0;
}

// The C library's argv is in the ANSI code page and cannot hold every file name.
int main(void) {
    int argc = 0;
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), &argc);
    char **argv = (char **)calloc((size_t)argc + 1, sizeof *argv);
    if (wide == NULL || argv == NULL)
        return 1;
    for (int i = 0; i < argc; i++) {
        argv[i] = utf8_of(wide[i]);
        if (argv[i] == NULL)
            return 1;
    }
    SetConsoleOutputCP(CP_UTF8);
    // Results are the same bytes on every system, so no carriage returns are added.
    _setmode(_fileno(stdout), 0x8000);
    return minject_main(argc, argv);
}

// Keeps the system's sentence, so that later calls do not change it.
void win_note_error(DWORD code) {
    wchar_t text[256] = L"";
    DWORD n = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, code,
                             0, text, 256, NULL);
    while (n > 0 && (text[n - 1] == L'\r' || text[n - 1] == L'\n' || text[n - 1] == L'.'))
        text[--n] = 0;
    if (n == 0 ||
        WideCharToMultiByte(CP_UTF8, 0, text, -1, last_error, sizeof last_error, NULL, NULL) <= 0)
        snprintf(last_error, sizeof last_error, "error %lu", code);
}

void win_note_text(const char *text) {
    snprintf(last_error, sizeof last_error, "%s", text);
}

const char *plat_last_error(void) {
    return last_error;
}

static plat_status_t failed(void) {
    DWORD code = GetLastError();
    win_note_error(code);
    if (code == ERROR_FILE_NOT_FOUND || code == ERROR_PATH_NOT_FOUND || code == ERROR_INVALID_NAME)
        return PLAT_NOT_FOUND;
    return code == ERROR_ACCESS_DENIED || code == ERROR_SHARING_VIOLATION ? PLAT_DENIED
                                                                          : PLAT_FAILED;
}

static plat_status_t read_all(HANDLE file, plat_file_t *out) {
    LARGE_INTEGER size;
    if (!GetFileSizeEx(file, &size))
        return failed();
    out->bytes = (uint8_t *)malloc(size.QuadPart != 0 ? (size_t)size.QuadPart : 1);
    if (out->bytes == NULL)
        return PLAT_NO_MEMORY;
    while (out->size < (size_t)size.QuadPart) {
        size_t rest = (size_t)size.QuadPart - out->size;
        DWORD n = 0;
        if (!ReadFile(file, out->bytes + out->size, rest < 0x10000000 ? (DWORD)rest : 0x10000000,
                      &n, NULL)) {
            plat_free_file(out);
            return failed();
        }
        if (n == 0)
            break;
        out->size += n;
    }
    return PLAT_OK;
}

plat_status_t plat_read_file(const char *path, plat_file_t *out) {
    wchar_t wide[PATH_UNITS];
    *out = (plat_file_t){NULL, 0};
    if (!win_wide_of(path, wide))
        return failed();
    DWORD attributes = GetFileAttributesW(wide);
    if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
        return PLAT_DIRECTORY;
    HANDLE file = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, NULL,
                              OPEN_EXISTING, FILE_FLAG_SEQUENTIAL_SCAN, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return failed();
    plat_status_t status = read_all(file, out);
    CloseHandle(file);
    return status;
}

void plat_free_file(plat_file_t *file) {
    free(file->bytes);
    *file = (plat_file_t){NULL, 0};
}

bool plat_file_exists(const char *path) {
    wchar_t wide[PATH_UNITS];
    return win_wide_of(path, wide) && GetFileAttributesW(wide) != INVALID_FILE_ATTRIBUTES;
}

bool plat_same_file(const char *a, const char *b) {
    wchar_t wide[PATH_UNITS];
    wchar_t full[2][PATH_UNITS];
    const char *const paths[2] = {a, b};
    for (size_t i = 0; i < 2; i++) {
        if (!win_wide_of(paths[i], wide) || GetFullPathNameW(wide, PATH_UNITS, full[i], NULL) == 0)
            return false;
    }
    return lstrcmpiW(full[0], full[1]) == 0;
}

bool plat_is_read_only(const char *path) {
    wchar_t wide[PATH_UNITS];
    if (!win_wide_of(path, wide))
        return false;
    DWORD attributes = GetFileAttributesW(wide);
    return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_READONLY) != 0;
}

static bool write_all(HANDLE file, const plat_file_t *data) {
    size_t done = 0;
    while (done < data->size) {
        size_t rest = data->size - done;
        DWORD n = 0;
        if (!WriteFile(file, data->bytes + done, rest < 0x10000000 ? (DWORD)rest : 0x10000000, &n,
                       NULL))
            return false;
        done += n;
    }
    return true;
}

// The times of another file, given through an open handle.
static bool copy_times(HANDLE to, const wchar_t *like) {
    FILETIME created;
    FILETIME accessed;
    FILETIME written;
    HANDLE from = CreateFileW(like, FILE_READ_ATTRIBUTES,
                              FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                              OPEN_EXISTING, 0, NULL);
    if (from == INVALID_HANDLE_VALUE)
        return false;
    bool ok = GetFileTime(from, &created, &accessed, &written) &&
              SetFileTime(to, &created, &accessed, &written);
    CloseHandle(from);
    return ok;
}

// An existing target keeps its access list and attributes (ReplaceFile); a new one gets the
// folder's, and the attributes of `like`.
static bool put_in_place(const wchar_t *temporary, const wchar_t *target, const wchar_t *like) {
    DWORD old = GetFileAttributesW(target);
    if (old != INVALID_FILE_ATTRIBUTES) {
        if ((old & FILE_ATTRIBUTE_READONLY) != 0)
            SetFileAttributesW(target, old & ~(DWORD)FILE_ATTRIBUTE_READONLY);
        if (!ReplaceFileW(target, temporary, NULL, REPLACEFILE_IGNORE_MERGE_ERRORS, NULL, NULL) &&
            !MoveFileExW(temporary, target, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH))
            return false;
        if ((old & FILE_ATTRIBUTE_READONLY) != 0)
            SetFileAttributesW(target, old);
        return true;
    }
    DWORD attributes = GetFileAttributesW(like);
    if (!MoveFileExW(temporary, target, MOVEFILE_WRITE_THROUGH))
        return false;
    if (attributes != INVALID_FILE_ATTRIBUTES)
        SetFileAttributesW(target, attributes);
    return true;
}

plat_status_t plat_write_atomic(const char *path, const plat_file_t *data, const char *like) {
    wchar_t target[PATH_UNITS];
    wchar_t model[PATH_UNITS];
    wchar_t temporary[PATH_UNITS + 32];
    if (!win_wide_of(path, target) || !win_wide_of(like, model))
        return failed();
    DWORD attributes = GetFileAttributesW(target);
    if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
        return PLAT_DIRECTORY;
    _snwprintf(temporary, PATH_UNITS + 31, L"%ls.minject-%lu", target, GetCurrentProcessId());
    temporary[PATH_UNITS + 31] = 0;
    HANDLE file =
        CreateFileW(temporary, GENERIC_WRITE, 0, NULL, CREATE_NEW, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return failed();
    bool ok = write_all(file, data) && copy_times(file, model) && FlushFileBuffers(file);
    plat_status_t status = ok ? PLAT_OK : failed();
    CloseHandle(file);
    if (ok && !put_in_place(temporary, target, model))
        status = failed();
    if (status != PLAT_OK)
        DeleteFileW(temporary);
    return status;
}

size_t plat_folder_length(const char *path) {
    size_t n = 0;
    for (size_t i = 0; path[i] != 0; i++) {
        if (path[i] == '/' || path[i] == '\\' || (i == 1 && path[i] == ':'))
            n = i + 1;
    }
    return n;
}

// The file system ignores case by itself.
bool plat_find_in_folder(const char *folder, const char *name, char *out, size_t cap) {
    size_t n = strlen(folder);
    bool needs_separator = n != 0 && folder[n - 1] != '/' && folder[n - 1] != '\\';
    int length = snprintf(out, cap, "%s%s%s", folder, needs_separator ? "\\" : "", name);
    return length > 0 && (size_t)length < cap && plat_file_exists(out);
}

bool plat_is_terminal(int fd) {
    return _isatty(fd) != 0;
}

bool plat_system_folder(uint16_t machine, char *out, size_t cap) {
    wchar_t wide[MAX_PATH];
    UINT n = machine == 0x14C ? GetSystemWow64DirectoryW(wide, MAX_PATH) : 0;
    if (n == 0)
        n = GetSystemDirectoryW(wide, MAX_PATH);
    return n != 0 && WideCharToMultiByte(CP_UTF8, 0, wide, -1, out, (int)cap, NULL, NULL) > 0;
}

bool plat_runs_directly(void) {
    return true;
}

bool plat_own_folder(char *out, size_t cap) {
    wchar_t wide[PATH_UNITS];
    DWORD n = GetModuleFileNameW(NULL, wide, PATH_UNITS);
    if (n == 0 || n >= PATH_UNITS ||
        WideCharToMultiByte(CP_UTF8, 0, wide, -1, out, (int)cap, NULL, NULL) <= 0)
        return false;
    out[plat_folder_length(out)] = 0;
    return true;
}

bool plat_full_path(const char *path, char *out, size_t cap) {
    wchar_t wide[PATH_UNITS];
    wchar_t full[PATH_UNITS];
    DWORD n = win_wide_of(path, wide) ? GetFullPathNameW(wide, PATH_UNITS, full, NULL) : 0;
    return n != 0 && n < PATH_UNITS &&
           WideCharToMultiByte(CP_UTF8, 0, full, -1, out, (int)cap, NULL, NULL) > 0;
}
