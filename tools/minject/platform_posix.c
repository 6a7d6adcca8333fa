#include "minject/platform.h"
#include "base/text.h"
#include "minject/exit_codes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

int minject_main(int argc, char **argv);

int main(int argc, char **argv) {
    return minject_main(argc, argv);
}

static const char *error_text; // set by plat_run; NULL = errno tells

const char *plat_last_error(void) {
    return error_text != NULL ? error_text : strerror(errno);
}

static plat_status_t status_of_errno(void) {
    if (errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG)
        return PLAT_NOT_FOUND;
    if (errno == EISDIR)
        return PLAT_DIRECTORY;
    return errno == EACCES || errno == EPERM ? PLAT_DENIED : PLAT_FAILED;
}

static plat_status_t read_all(int fd, plat_file_t *out, size_t size) {
    out->bytes = (uint8_t *)malloc(size != 0 ? size : 1);
    if (out->bytes == NULL)
        return PLAT_NO_MEMORY;
    while (out->size < size) {
        ssize_t n = read(fd, out->bytes + out->size, size - out->size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            plat_free_file(out);
            return PLAT_FAILED;
        }
        if (n == 0)
            break;
        out->size += (size_t)n;
    }
    return PLAT_OK;
}

// Someone may cut a mapped file while it is read; there is nothing to be saved then but the folder,
// from our temporary file.
static const char *volatile doomed; // the temporary file's name, NULL = none exists

static void die_of_signal(int number) {
    static const char text[] = "minject: the file was cut while it was being read\n";
    if (doomed != NULL)
        unlink(doomed);
    if (number == SIGBUS && write(2, text, sizeof text - 1) < 0)
        _exit(EXIT_UNREADABLE);
    if (number == SIGBUS)
        _exit(EXIT_UNREADABLE);
    signal(number, SIG_DFL);
    raise(number);
}

static void watch_signals(void) {
    static const int numbers[] = {SIGBUS, SIGINT, SIGTERM, SIGHUP};
    struct sigaction old;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
            signal(numbers[i], die_of_signal);
    }
    signal(SIGXFSZ, SIG_IGN); // the write says EFBIG then
}

static plat_status_t map_all(int fd, plat_file_t *out, size_t size) {
    void *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return read_all(fd, out, size); // a file system that maps nothing
    *out = (plat_file_t){(uint8_t *)p, size, true};
    watch_signals();
    return PLAT_OK;
}

static plat_status_t open_file(const char *path, plat_file_t *out, bool maps) {
    struct stat st;
    *out = (plat_file_t){NULL, 0, false};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return status_of_errno();
    plat_status_t status = PLAT_FAILED;
    if (fstat(fd, &st) == 0) {
        size_t size = (size_t)st.st_size;
        if (S_ISDIR(st.st_mode))
            status = PLAT_DIRECTORY;
        else if (S_ISREG(st.st_mode))
            status = maps && size != 0 ? map_all(fd, out, size) : read_all(fd, out, size);
        else
            errno = EINVAL;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return status;
}

plat_status_t plat_read_file(const char *path, plat_file_t *out) {
    return open_file(path, out, false);
}

plat_status_t plat_map_file(const char *path, plat_file_t *out) {
    return open_file(path, out, true);
}

void plat_free_file(plat_file_t *file) {
    if (file->is_mapped)
        munmap(file->bytes, file->size);
    else
        free(file->bytes);
    *file = (plat_file_t){NULL, 0, false};
}

uint32_t plat_link_count(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? (uint32_t)st.st_nlink : 0;
}

uint64_t plat_milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

bool plat_file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

bool plat_same_file(const char *a, const char *b) {
    struct stat sa;
    struct stat sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

bool plat_is_read_only(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && (st.st_mode & (S_IWUSR | S_IWGRP | S_IWOTH)) == 0;
}

// A file that is replaced goes on to exist for those who have it open.
bool plat_is_in_use(const char *path) {
    (void)path;
    return false;
}

void plat_remove_file(const char *path) {
    (void)unlink(path);
}

// Access lists and what else hangs on a file by name, as far as the file system takes it.
static void copy_attributes(int fd, const char *like) {
    static char names[4096];
    static char value[65536];
    ssize_t n = listxattr(like, names, sizeof names);
    for (ssize_t at = 0; at < n; at += (ssize_t)strlen(names + at) + 1) {
        ssize_t bytes = getxattr(like, names + at, value, sizeof value);
        if (bytes >= 0 && fsetxattr(fd, names + at, value, (size_t)bytes, 0) != 0)
            errno = 0;
    }
}

// Owner and group are kept where we may; the rest must succeed.
static bool make_like(int fd, const char *like) {
    struct stat st;
    if (stat(like, &st) != 0)
        return false;
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    if (fchown(fd, st.st_uid, st.st_gid) != 0)
        errno = 0;
    copy_attributes(fd, like);
    return fchmod(fd, st.st_mode & 07777) == 0 && futimens(fd, times) == 0;
}

// The name of the file is safe on the disk only when its folder is.
static void sync_folder(const char *path) {
    char folder[4096];
    size_t n = plat_folder_length(path);
    if (n >= sizeof folder)
        return;
    memcpy(folder, n != 0 ? path : ".", n != 0 ? n : 1);
    folder[n != 0 ? n : 1] = 0;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

plat_status_t plat_out_begin(plat_out_t *out, const char *path) {
    out->file = -1;
    out->temporary[0] = 0;
    // A symbolic link stays one: the file it names is replaced.
    if (realpath(path, out->target) == NULL &&
        snprintf(out->target, sizeof out->target, "%s", path) >= (int)sizeof out->target) {
        errno = ENAMETOOLONG;
        return PLAT_FAILED;
    }
    struct stat st;
    if (stat(out->target, &st) == 0 && S_ISDIR(st.st_mode))
        return PLAT_DIRECTORY;
    snprintf(out->temporary, sizeof out->temporary, "%s.minject-XXXXXX", out->target);
    int fd = mkstemp(out->temporary);
    if (fd < 0) {
        out->temporary[0] = 0;
        return status_of_errno();
    }
    out->file = fd;
    doomed = out->temporary;
    watch_signals();
    return PLAT_OK;
}

plat_status_t plat_out_write(plat_out_t *out, const void *bytes, size_t count) {
    const uint8_t *p = (const uint8_t *)bytes;
    while (count > 0) {
        ssize_t n = write((int)out->file, p, count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return PLAT_FAILED;
        p += n;
        count -= (size_t)n;
    }
    return PLAT_OK;
}

plat_status_t plat_out_map(const plat_out_t *out, plat_file_t *file) {
    return plat_map_file(out->temporary, file);
}

plat_status_t plat_out_commit(plat_out_t *out, const char *like) {
    bool ok = make_like((int)out->file, like) && fsync((int)out->file) == 0;
    int saved = errno;
    bool is_closed = close((int)out->file) == 0;
    out->file = -1;
    if (!ok)
        errno = saved; // what went wrong first
    if (!ok || !is_closed || rename(out->temporary, out->target) != 0)
        return status_of_errno();
    doomed = NULL;
    out->temporary[0] = 0;
    sync_folder(out->target);
    return PLAT_OK;
}

void plat_out_abort(plat_out_t *out) {
    int saved = errno;
    if (out->file >= 0)
        close((int)out->file);
    if (out->temporary[0] != 0)
        unlink(out->temporary);
    doomed = NULL;
    out->temporary[0] = 0;
    out->file = -1;
    errno = saved;
}

size_t plat_folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? (size_t)(slash - path) + 1 : 0;
}

bool plat_find_in_folder(const char *folder, const char *name, char *out, size_t cap) {
    DIR *d = opendir(*folder != 0 ? folder : ".");
    if (d == NULL)
        return false;
    bool found = false;
    for (struct dirent *e = readdir(d); e != NULL && !found; e = readdir(d)) {
        if (strcasecmp(e->d_name, name) == 0) {
            size_t n = strlen(folder);
            const char *separator = n != 0 && folder[n - 1] != '/' ? "/" : "";
            int length = snprintf(out, cap, "%s%s%s", folder, separator, e->d_name);
            found = length > 0 && (size_t)length < cap;
        }
    }
    closedir(d);
    return found;
}

bool plat_is_terminal(int fd) {
    return isatty(fd) != 0;
}

// The prefix in use if there is one, else the DLLs that come with Wine.
bool plat_system_folder(uint16_t machine, char *out, size_t cap) {
    static const char *const places[] = {"/usr/lib/x86_64-linux-gnu/wine",
                                         "/usr/lib/i386-linux-gnu/wine",
                                         "/usr/lib/wine",
                                         "/usr/lib64/wine",
                                         "/opt/wine-stable/lib64/wine",
                                         "/opt/wine-stable/lib/wine",
                                         "/opt/wine-devel/lib64/wine"};
    const char *cpu = machine == 0x8664 ? "x86_64" : machine == 0xAA64 ? "aarch64" : "i386";
    const char *prefix = getenv("WINEPREFIX");
    int n = -1;
    if (prefix != NULL) {
        n = snprintf(out, cap, "%s/drive_c/windows/%s", prefix,
                     machine == 0x14C ? "syswow64" : "system32");
        if (n > 0 && (size_t)n < cap && plat_file_exists(out))
            return true;
    }
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        n = snprintf(out, cap, "%s/%s-windows", places[i], cpu);
        if (n > 0 && (size_t)n < cap && plat_file_exists(out))
            return true;
    }
    return false;
}

// The last one, numbers in their order, so that the newest version comes out.
bool plat_find_starting(const char *folder, const char *prefix, char *out, size_t cap) {
    char best[256] = "";
    DIR *d = opendir(folder);
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        if (strncasecmp(e->d_name, prefix, strlen(prefix)) == 0 &&
            mi_str_compare_natural(e->d_name, best) > 0)
            snprintf(best, sizeof best, "%s", e->d_name);
    }
    if (d != NULL)
        closedir(d);
    int n = best[0] != 0 ? snprintf(out, cap, "%s/%s", folder, best) : -1;
    return n > 0 && (size_t)n < cap;
}

// A line of Wine's registry file: "kernel32"="kernel32.dll"
static bool known_of_line(const char *line, char out[64]) {
    const char *value = strstr(line, "\"=\"");
    if (line[0] != '"' || value == NULL || strchr(value + 3, '.') == NULL)
        return false;
    value += 3;
    size_t n = strcspn(value, "\"");
    if (n == 0 || n >= 64)
        return false;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)(value[i] >= 'A' && value[i] <= 'Z' ? value[i] + 32 : value[i]);
    out[n] = 0;
    return true;
}

// Newer Wines have the list in the registry of the prefix.
uint32_t plat_known_dlls(char (*names)[64], uint32_t max) {
    char line[4096];
    uint32_t n = 0;
    const char *prefix = getenv("WINEPREFIX");
    if (prefix == NULL || snprintf(line, sizeof line, "%s/system.reg", prefix) >= 4096)
        return 0;
    FILE *f = fopen(line, "r");
    bool is_inside = false;
    while (f != NULL && n < max && fgets(line, sizeof line, f) != NULL) {
        if (line[0] == '[')
            is_inside = strstr(line, "Control\\\\Session Manager\\\\KnownDLLs]") != NULL;
        else if (is_inside && known_of_line(line, names[n]))
            n++;
    }
    if (f != NULL)
        fclose(f);
    return n;
}

// Settings of Windows; a Wine prefix can be asked with minject.exe.
uint32_t plat_policies(const char *program, plat_policy_t *out, uint32_t max) {
    (void)program;
    (void)out;
    (void)max;
    return 0;
}

// ---- run, through Wine ----

#define RUN_ARGS_MAX 4096

bool plat_runs_directly(void) {
    return false;
}

bool plat_own_folder(char *out, size_t cap) {
    ssize_t n = readlink("/proc/self/exe", out, cap - 1);
    if (n <= 0)
        return false;
    out[n] = 0;
    out[plat_folder_length(out)] = 0;
    return true;
}

bool plat_full_path(const char *path, char *out, size_t cap) {
    char full[4096];
    if (realpath(path, full) == NULL || strlen(full) >= cap)
        return false;
    strcpy(out, full);
    return true;
}

// minject.exe: beside this program, or in the Windows build's folder of the same source tree.
static bool find_windows_tool(char *out, size_t cap) {
    static const char *const places[] = {"minject.exe", "../windows-x64-release/minject.exe"};
    char folder[4096];
    if (!plat_own_folder(folder, sizeof folder))
        return false;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int n = snprintf(out, cap, "%s%s", folder, places[i]);
        if (n > 0 && (size_t)n < cap && plat_file_exists(out))
            return true;
    }
    return false;
}

// Wine shows the file system as drive Z:.
static const char *windows_path(const char *path, char *out, size_t cap) {
    int n = snprintf(out, cap, "%s%s", path[0] == '/' ? "Z:" : "", path);
    return n > 0 && (size_t)n < cap ? out : path;
}

static void exec_wine(char **argv) {
    static const char *const wines[] = {"/usr/lib/wine/wine64", "wine64", "wine"};
    const char *chosen = getenv("WINELOADER");
    if (chosen != NULL) {
        argv[0] = (char *)(uintptr_t)chosen;
        execvp(chosen, argv);
    }
    for (size_t i = 0; i < sizeof wines / sizeof wines[0]; i++) {
        argv[0] = (char *)(uintptr_t)wines[i];
        execvp(wines[i], argv);
    }
}

// The tool becomes Wine: streams, signals and exit code are the program's without further ado.
bool plat_run(const plat_run_t *run, int *exit_code) {
    static char *argv[RUN_ARGS_MAX];
    static char tool[4096 + 64];
    static char postfix[128];
    static char program[4096 + 8];
    char full[4096];
    size_t n = 1;
    *exit_code = 0;
    if (!find_windows_tool(tool, sizeof tool)) {
        error_text = "minject.exe, which does this under Wine, is not beside minject";
        return false;
    }
    argv[n++] = tool;
    argv[n++] = (char *)(uintptr_t) "run";
    if (run->is_verbose)
        argv[n++] = (char *)(uintptr_t) "--verbose";
    if (run->follows_children)
        argv[n++] = (char *)(uintptr_t) "--children";
    for (size_t i = 0; i < run->dll_folder_count; i++) {
        char *folder = realpath(run->dll_folders[i], full) != NULL
                           ? (char *)malloc(strlen(full) + sizeof "--dll-folder=Z:")
                           : NULL;
        if (folder == NULL)
            continue;
        strcat(strcpy(folder, "--dll-folder=Z:"), full);
        argv[n++] = folder; // until the process becomes Wine
    }
    if (run->postfix != NULL) {
        snprintf(postfix, sizeof postfix, "--postfix=%s", run->postfix);
        argv[n++] = postfix;
    }
    argv[n++] = (char *)(uintptr_t) "--";
    argv[n++] = (char *)(uintptr_t)windows_path(run->args[0], program, sizeof program);
    for (size_t i = 1; run->args[i] != NULL; i++) {
        if (n + 1 >= RUN_ARGS_MAX) {
            error_text = "too many arguments";
            return false;
        }
        argv[n++] = run->args[i];
    }
    argv[n] = NULL;
    exec_wine(argv);
    error_text = "there is no Wine; install it (Debian: apt-get install wine64)";
    return false;
}

// In the child: never returns.
static void become_logged(char **args, const char *log_path) {
    static char *argv[RUN_ARGS_MAX];
    static char program[4096 + 8];
    static char value[4096 + 8];
    size_t n = 1;
    argv[n++] = (char *)(uintptr_t)windows_path(args[0], program, sizeof program);
    for (size_t i = 1; args[i] != NULL && n + 1 < RUN_ARGS_MAX; i++)
        argv[n++] = args[i];
    snprintf(value, sizeof value, "Z:%s", log_path);
    setenv("MIMALLOC_LOG", value, 1);
    dup2(2, 1);
    exec_wine(argv);
    _exit(127);
}

bool plat_run_logged(char **args, plat_file_t *log, int *exit_code) {
    static char path[4096];
    const char *folder = getenv("TMPDIR");
    const size_t length = folder != NULL ? strlen(folder) : 0;
    int status = 0;
    *log = (plat_file_t){NULL, 0, false};
    if (length == 0 || length > sizeof path - 32 || folder[0] != '/')
        folder = "/tmp";
    snprintf(path, sizeof path, "%s/minject-log-XXXXXX", folder);
    int fd = mkstemp(path);
    if (fd < 0)
        return false;
    close(fd);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        become_logged(args, path);
    bool ok = child > 0 && waitpid(child, &status, 0) == child;
    *exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (ok && *exit_code == 127) {
        error_text = "there is no Wine; install it (Debian: apt-get install wine64)";
        ok = false;
    }
    ok = ok && plat_read_file(path, log) == PLAT_OK;
    unlink(path);
    return ok;
}
