// The start of minject.exe, and the formatted output that mingw keeps in a static library, above
// the exports of ucrtbase.dll alone: for ARM64, where Debian has mingw's headers but no library.
#include <windows.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int main(void);
void minject_start(void);
int _initialize_narrow_environment(void);

#define STANDARD_SNPRINTF 2ULL // C99: the length that was needed, always a NUL

void minject_start(void) {
    _initialize_narrow_environment();
    exit(main());
}

int vfprintf(FILE *file, const char *format, va_list args) {
    return __stdio_common_vfprintf(0, file, format, NULL, args);
}

int fprintf(FILE *file, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vfprintf(file, format, args);
    va_end(args);
    return n;
}

int printf(const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vfprintf(stdout, format, args);
    va_end(args);
    return n;
}

int vsnprintf(char *out, size_t cap, const char *format, va_list args) {
    return __stdio_common_vsprintf(STANDARD_SNPRINTF, out, cap, format, NULL, args);
}

int snprintf(char *out, size_t cap, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(out, cap, format, args);
    va_end(args);
    return n;
}

#if defined(__aarch64__)
// Frames of more than a page: x15 holds their size in units of 16 bytes; every page is touched in
// order, so that the system's guard page sees each of them. Only x16 and x17 may be changed.
void __chkstk(void);
__attribute__((naked)) void __chkstk(void) {
    __asm__("lsl x16, x15, #4\n"
            "mov x17, sp\n"
            "1: sub x17, x17, #4096\n"
            "subs x16, x16, #4096\n"
            "ldr xzr, [x17]\n"
            "b.gt 1b\n"
            "ret\n");
}
#endif
