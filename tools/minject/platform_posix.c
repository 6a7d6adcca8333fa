#include "minject/platform.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/wait.h>
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
    if (errno == ENOENT || errno == ENOTDIR)
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

plat_status_t plat_read_file(const char *path, plat_file_t *out) {
    struct stat st;
    *out = (plat_file_t){NULL, 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return status_of_errno();
    plat_status_t status = PLAT_FAILED;
    if (fstat(fd, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            status = PLAT_DIRECTORY;
        else if (S_ISREG(st.st_mode))
            status = read_all(fd, out, (size_t)st.st_size);
        else
            errno = EINVAL;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return status;
}

void plat_free_file(plat_file_t *file) {
    free(file->bytes);
    *file = (plat_file_t){NULL, 0};
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

static bool write_all(int fd, const plat_file_t *file) {
    size_t done = 0;
    while (done < file->size) {
        ssize_t n = write(fd, file->bytes + done, file->size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

// Owner and group are kept where we may; the rest must succeed.
static bool make_like(int fd, const char *like) {
    struct stat st;
    if (stat(like, &st) != 0)
        return false;
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    if (fchown(fd, st.st_uid, st.st_gid) != 0)
        errno = 0;
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

plat_status_t plat_write_atomic(const char *path, const plat_file_t *file, const char *like) {
    char temporary[4096 + 32];
    char target[4096];
    // A symbolic link stays one: the file it names is replaced.
    if (realpath(path, target) == NULL && snprintf(target, sizeof target, "%s", path) >= 4096)
        return PLAT_FAILED;
    snprintf(temporary, sizeof temporary, "%s.minject-XXXXXX", target);
    int fd = mkstemp(temporary);
    if (fd < 0)
        return status_of_errno();
    bool ok = write_all(fd, file) && make_like(fd, like) && fsync(fd) == 0;
    int saved = errno;
    ok = close(fd) == 0 && ok;
    if (ok && rename(temporary, target) == 0) {
        sync_folder(target);
        return PLAT_OK;
    }
    if (ok)
        saved = errno;
    unlink(temporary);
    errno = saved;
    return status_of_errno();
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
    static char folder[4096 + 64];
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
    if (run->dll_folder != NULL && realpath(run->dll_folder, full) != NULL) {
        snprintf(folder, sizeof folder, "--dll-folder=Z:%s", full);
        argv[n++] = folder;
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
    static char value[64];
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
    char path[] = "/tmp/minject-log-XXXXXX";
    int status = 0;
    *log = (plat_file_t){NULL, 0};
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
