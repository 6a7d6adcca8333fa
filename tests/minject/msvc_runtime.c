// Stands in for Microsoft's msvcrt.lib where there is no SDK: the start-up code of a program on the
// DLL runtime, the security cookie, and what Microsoft's headers define inline. All else is
// ucrtbase.dll's.
#include <stdarg.h>
#include <stdint.h>

#pragma comment(lib, "ucrt") // as Microsoft's asks for it

typedef struct file_s file_t;
__declspec(dllimport) file_t *__acrt_iob_func(unsigned);
__declspec(dllimport) int __stdio_common_vfprintf(uint64_t, file_t *, const char *, void *,
                                                  va_list);
__declspec(dllimport) int __stdio_common_vfscanf(uint64_t, file_t *, const char *, void *, va_list);
__declspec(dllimport) int _configure_narrow_argv(int);
__declspec(dllimport) int *__p___argc(void);
__declspec(dllimport) char ***__p___argv(void);
__declspec(dllimport) void exit(int);
__declspec(dllimport) void abort(void);
int main(int argc, char **argv);

uintptr_t __security_cookie = 0x2B992DDFA232;

void __security_check_cookie(uintptr_t cookie) {
    if (cookie != __security_cookie)
        abort();
}

int printf(const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = __stdio_common_vfprintf(0, __acrt_iob_func(1), format, 0, args);
    va_end(args);
    return n;
}

int scanf(const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = __stdio_common_vfscanf(0, __acrt_iob_func(0), format, 0, args);
    va_end(args);
    return n;
}

void mainCRTStartup(void) {
    _configure_narrow_argv(1);
    exit(main(*__p___argc(), *__p___argv()));
}
