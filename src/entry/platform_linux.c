// What the entry layer needs from Linux and glibc: errno, constructors, and the functions of the
// API that are made of C library calls.
#include "entry/entry.h"

#include "base/text.h"
#include "diag/message.h"
#include "diag/options.h"
#include "entry/cxx.h"
#include "mimalloc.h"
#include "os/os.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <limits.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define EXIT_FD_LEAST 100 // out of the way of programs that count on low numbers

static_assert(MI_ENOMEM == ENOMEM && MI_EINVAL == EINVAL && MI_EAGAIN == EAGAIN &&
                  MI_EFAULT == EFAULT && MI_EOVERFLOW == EOVERFLOW,
              "our error numbers are Linux' own");

// A second descriptor of stderr for the statistics at the end: many programs close stderr in an
// exit handler, which runs before our destructor. Only when statistics were asked for.
static int exit_fd = -1;

static void exit_write(const char *msg, void *arg) {
    (void)arg;
    size_t bytes = mi_str_len(msg);
    while (bytes > 0) {
        const ssize_t n = write(exit_fd, msg, bytes);
        if (n <= 0)
            return;
        msg += n;
        bytes -= (size_t)n;
    }
}

mi_output_fun *mi_platform_exit_output(void) {
    return exit_fd >= 0 && fcntl(STDERR_FILENO, F_GETFD) < 0 ? exit_write : NULL;
}

// Destructors run when the process ends, and when dlclose takes the library out that this code was
// linked into. A handler of exit() tells the two apart, if the library was loaded by the program:
// what the system has loaded with it registers handlers before the system does its own, and hears
// of the end too late. The handler has an owner of its own, so that dlclose does not call it.
extern int __cxa_atexit(void (*handler)(void *), void *arg, void *owner);
extern void __cxa_finalize(void *owner);
static char exit_owner;
static bool exit_has_begun;
static bool is_unloadable;

static void exit_note(void *arg) {
    (void)arg;
    exit_has_begun = true;
}

// Our own dynamic section, made by the linker; none in a static program.
extern ElfW(Dyn) _DYNAMIC[] __attribute__((weak, visibility("hidden")));

// Whether this code is in a library that dlclose may take out: not in the program itself, and not
// in libmimalloc.so, which stays.
static bool module_is_unloadable(void) {
    if (_DYNAMIC == NULL)
        return false;
    bool is_program = false;
    bool stays = false;
    for (const ElfW(Dyn) *d = _DYNAMIC; d->d_tag != DT_NULL; d++) {
        is_program |= (d->d_tag == DT_DEBUG); // linkers give it to programs only
        stays |= (d->d_tag == DT_FLAGS_1 && (d->d_un.d_val & DF_1_NODELETE) != 0);
    }
    return !is_program && !stays;
}

__attribute__((constructor(101))) static void entry_construct(void) {
    mi_entry_init();
    if (mi_option_value(mi_option_show_stats) > 0)
        exit_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, EXIT_FD_LEAST);
    is_unloadable = module_is_unloadable() && __cxa_atexit(exit_note, NULL, &exit_owner) == 0;
}

__attribute__((destructor(101))) static void entry_destruct(void) {
    mi_entry_exit();
    if (!is_unloadable)
        return;
    if (!exit_has_begun)
        mi_entry_unload(false);
    __cxa_finalize(&exit_owner); // else exit() would call what is no longer there
    if (exit_fd >= 0)
        (void)close(exit_fd);
    exit_fd = -1;
}

void mi_platform_errno(int error) {
    errno = error;
}

const char *mi_platform_name(void) {
    return "Linux";
}

bool mi_platform_is_redirected(void) {
    // The program's own malloc, not the one that this file would be bound to in a static library.
    void *(*program_malloc)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "malloc");
    void (*program_free)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "free");
    if (program_malloc == NULL || program_free == NULL)
        return false;
    void *p = program_malloc(1);
    const bool is_ours = mi_core_contains(p);
    program_free(p);
    return is_ours;
}

bool mi_platform_foreign_free(void *p) {
    (void)p;
    return false;
}

bool mi_platform_foreign_realloc(void *p, size_t size, void **out) {
    (void)p;
    (void)size;
    (void)out;
    return false;
}

bool mi_platform_foreign_usable(const void *p, size_t *out) {
    (void)p;
    (void)out;
    return false;
}

bool mi_platform_new_handler(size_t size, bool is_caught) {
    (void)size;
    return mi_cxx_handler_run(is_caught);
}

MI_NORETURN void mi_platform_new_failed(size_t size) {
    errno = ENOMEM;
    mi_cxx_throw_bad_alloc();
    mi_message_fmt(NULL, NULL,
                   "mimalloc: error: operator new has no memory for %zu bytes, and there is no "
                   "C++ runtime to throw std::bad_alloc\n",
                   size);
    abort();
}

static char *path_resolve(mi_heap_t *heap, const char *fname, char *resolved_name) {
    if (resolved_name != NULL)
        return realpath(fname, resolved_name);
    char path[PATH_MAX];
    if (realpath(fname, path) == NULL)
        return NULL;
    return heap == NULL ? mi_strdup(path) : mi_heap_strdup(heap, path);
}

char *mi_realpath(const char *fname, char *resolved_name) mi_attr_noexcept {
    return path_resolve(NULL, fname, resolved_name);
}

char *mi_heap_realpath(mi_heap_t *heap, const char *fname, char *resolved_name) mi_attr_noexcept {
    return path_resolve(heap, fname, resolved_name);
}

int mi_dupenv_s(char **buf, size_t *size, const char *name) mi_attr_noexcept {
    if (buf == NULL || name == NULL)
        return EINVAL;
    if (size != NULL)
        *size = 0;
    *buf = NULL;
    const char *value = getenv(name);
    if (value == NULL)
        return 0;
    *buf = mi_strdup(value);
    if (*buf == NULL)
        return ENOMEM;
    if (size != NULL)
        *size = mi_str_len(value) + 1;
    return 0;
}

int mi_wdupenv_s(unsigned short **buf, size_t *size, const unsigned short *name) mi_attr_noexcept {
    if (buf == NULL || name == NULL)
        return EINVAL;
    if (size != NULL)
        *size = 0;
    *buf = NULL;
    return EINVAL; // the environment of Linux has no 16-bit form
}
