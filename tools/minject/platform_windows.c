#include "minject/platform_windows.h"
#include "base/text.h"

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

// The whole file as a view; the section keeps it open when the handles are closed.
static plat_status_t map_all(HANDLE file, plat_file_t *out) {
    LARGE_INTEGER size;
    if (!GetFileSizeEx(file, &size))
        return failed();
    HANDLE section = size.QuadPart != 0 && (uint64_t)size.QuadPart <= SIZE_MAX
                         ? CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL)
                         : NULL;
    if (section == NULL)
        return read_all(file, out);
    out->bytes = (uint8_t *)MapViewOfFile(section, FILE_MAP_READ, 0, 0, 0);
    CloseHandle(section);
    if (out->bytes == NULL)
        return read_all(file, out);
    out->size = (size_t)size.QuadPart;
    out->is_mapped = true;
    return PLAT_OK;
}

static plat_status_t open_file(const char *path, plat_file_t *out,
                               plat_status_t (*take)(HANDLE, plat_file_t *)) {
    wchar_t wide[PATH_UNITS];
    *out = (plat_file_t){NULL, 0, false};
    if (!win_wide_of(path, wide))
        return failed();
    DWORD attributes = GetFileAttributesW(wide);
    if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
        return PLAT_DIRECTORY;
    HANDLE file = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, NULL,
                              OPEN_EXISTING, FILE_FLAG_SEQUENTIAL_SCAN, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return failed();
    plat_status_t status = take(file, out);
    CloseHandle(file);
    return status;
}

plat_status_t plat_read_file(const char *path, plat_file_t *out) {
    return open_file(path, out, read_all);
}

plat_status_t plat_map_file(const char *path, plat_file_t *out) {
    return open_file(path, out, map_all);
}

void plat_free_file(plat_file_t *file) {
    if (file->is_mapped)
        UnmapViewOfFile(file->bytes);
    else
        free(file->bytes);
    *file = (plat_file_t){NULL, 0, false};
}

uint32_t plat_link_count(const char *path) {
    wchar_t wide[PATH_UNITS];
    BY_HANDLE_FILE_INFORMATION info;
    if (!win_wide_of(path, wide))
        return 0;
    HANDLE file = CreateFileW(wide, FILE_READ_ATTRIBUTES,
                              FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                              OPEN_EXISTING, 0, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return 0;
    uint32_t n = GetFileInformationByHandle(file, &info) ? info.nNumberOfLinks : 0;
    CloseHandle(file);
    return n;
}

uint64_t plat_milliseconds(void) {
    return GetTickCount64();
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

// Opened for us alone, which works when nobody else has it.
bool plat_is_in_use(const char *path) {
    wchar_t wide[PATH_UNITS];
    if (!win_wide_of(path, wide))
        return false;
    HANDLE file = CreateFileW(wide, GENERIC_READ, 0, NULL, OPEN_EXISTING, 0, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return GetLastError() == ERROR_SHARING_VIOLATION;
    CloseHandle(file);
    return false;
}

void plat_remove_file(const char *path) {
    wchar_t wide[PATH_UNITS];
    if (win_wide_of(path, wide))
        (void)DeleteFileW(wide);
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

static HANDLE volatile doomed; // the temporary file, NULL = none exists

// The tool is interrupted: the system deletes the file when the process is gone.
static BOOL WINAPI drop_temporary(DWORD event) {
    FILE_DISPOSITION_INFO info = {TRUE};
    HANDLE file = doomed;
    (void)event;
    if (file != NULL)
        SetFileInformationByHandle(file, FileDispositionInfo, &info, sizeof info);
    return FALSE;
}

plat_status_t plat_out_begin(plat_out_t *out, const char *path) {
    static bool is_watched;
    wchar_t wide[PATH_UNITS];
    HANDLE file = INVALID_HANDLE_VALUE;
    out->file = -1;
    out->temporary[0] = 0;
    if (snprintf(out->target, sizeof out->target, "%s", path) >= (int)sizeof out->target) {
        SetLastError(ERROR_FILENAME_EXCED_RANGE);
        return failed();
    }
    if (!win_wide_of(path, wide))
        return failed();
    DWORD attributes = GetFileAttributesW(wide);
    if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
        return PLAT_DIRECTORY;
    // An earlier process of the same number may have left one, when the machine went down.
    for (unsigned i = 0; file == INVALID_HANDLE_VALUE && i < 100; i++) {
        snprintf(out->temporary, sizeof out->temporary, "%s.minject-%lu-%u", path,
                 GetCurrentProcessId(), i);
        if (win_wide_of(out->temporary, wide))
            file = CreateFileW(wide, GENERIC_WRITE | GENERIC_READ | DELETE, FILE_SHARE_READ, NULL,
                               CREATE_NEW, FILE_ATTRIBUTE_NORMAL, NULL);
        if (file == INVALID_HANDLE_VALUE && GetLastError() != ERROR_FILE_EXISTS)
            break;
    }
    if (file == INVALID_HANDLE_VALUE) {
        plat_status_t status = failed();
        out->temporary[0] = 0;
        return status;
    }
    out->file = (intptr_t)file;
    doomed = file;
    if (!is_watched)
        is_watched = SetConsoleCtrlHandler(drop_temporary, TRUE);
    return PLAT_OK;
}

plat_status_t plat_out_write(plat_out_t *out, const void *bytes, size_t count) {
    const uint8_t *p = (const uint8_t *)bytes;
    while (count > 0) {
        DWORD n = 0;
        if (!WriteFile((HANDLE)out->file, p, count < 0x10000000 ? (DWORD)count : 0x10000000, &n,
                       NULL))
            return failed();
        p += n;
        count -= n;
    }
    return PLAT_OK;
}

plat_status_t plat_out_map(const plat_out_t *out, plat_file_t *file) {
    *file = (plat_file_t){NULL, 0, false};
    SetFilePointer((HANDLE)out->file, 0, NULL, FILE_BEGIN); // should it be read, not mapped
    return map_all((HANDLE)out->file, file);
}

plat_status_t plat_out_commit(plat_out_t *out, const char *like) {
    wchar_t target[PATH_UNITS];
    wchar_t model[PATH_UNITS];
    wchar_t temporary[PATH_UNITS];
    if (!win_wide_of(out->target, target) || !win_wide_of(like, model) ||
        !win_wide_of(out->temporary, temporary) || !copy_times((HANDLE)out->file, model) ||
        !FlushFileBuffers((HANDLE)out->file))
        return failed();
    doomed = NULL;
    CloseHandle((HANDLE)out->file);
    out->file = -1;
    if (!put_in_place(temporary, target, model))
        return failed();
    out->temporary[0] = 0;
    return PLAT_OK;
}

void plat_out_abort(plat_out_t *out) {
    wchar_t wide[PATH_UNITS];
    doomed = NULL;
    if (out->file != -1)
        CloseHandle((HANDLE)out->file);
    if (out->temporary[0] != 0 && win_wide_of(out->temporary, wide))
        DeleteFileW(wide);
    out->temporary[0] = 0;
    out->file = -1;
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

// The last one, numbers in their order, so that the newest version comes out.
bool plat_find_starting(const char *folder, const char *prefix, char *out, size_t cap) {
    wchar_t pattern[PATH_UNITS];
    char text[4096];
    char best[MAX_PATH * 3] = "";
    WIN32_FIND_DATAW found;
    if (snprintf(text, sizeof text, "%s/%s*", folder, prefix) >= (int)sizeof text ||
        !win_wide_of(text, pattern))
        return false;
    HANDLE search = FindFirstFileW(pattern, &found);
    for (BOOL more = search != INVALID_HANDLE_VALUE; more; more = FindNextFileW(search, &found)) {
        char *name = utf8_of(found.cFileName);
        if (name != NULL && mi_str_compare_natural(name, best) > 0)
            snprintf(best, sizeof best, "%s", name);
        free(name);
    }
    if (search != INVALID_HANDLE_VALUE)
        FindClose(search);
    int n = best[0] != 0 ? snprintf(out, cap, "%s/%s", folder, best) : -1;
    return n > 0 && (size_t)n < cap;
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
