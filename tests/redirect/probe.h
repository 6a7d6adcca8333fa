// What the parts of the program probe share.
#ifndef MI_TEST_PROBE_H
#define MI_TEST_PROBE_H

#include "halves.h"

// The malloc and free that this CRT exports, wherever they lead by now.
static inline void *make(const char *crt, size_t size) {
    return ((void *(*)(size_t))proc(GetModuleHandleA(crt), "malloc"))(size);
}

static inline void drop(const char *crt, void *p) {
    ((void (*)(void *))proc(GetModuleHandleA(crt), "free"))(p);
}

// The time since start for each of count operations; start: of QueryPerformanceCounter.
static inline long elapsed_ps(LARGE_INTEGER start, double count) {
    LARGE_INTEGER rate, end;
    QueryPerformanceCounter(&end);
    QueryPerformanceFrequency(&rate);
    return (long)((double)(end.QuadPart - start.QuadPart) * 1e12 / (double)rate.QuadPart / count);
}

// The system's heap functions on blocks of this CRT: with the heap guard, and without.
void probe_guard(const char *crt);
void probe_guard_zeroes(const char *crt); // what of it also an allocator must do that rounds sizes
void probe_guard_off(const char *crt);

#endif
