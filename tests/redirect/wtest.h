// The harness of the Windows tests that must run without a C runtime of their own: checks, output,
// and the calls of a CRT by name. wtest.c is part of each such program and DLL.
#ifndef MI_TEST_WTEST_H
#define MI_TEST_WTEST_H

#include "base/text.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

extern LONG wtest_passed, wtest_failed; // checks so far, of all threads
extern LONG wtest_unsaid;               // messages that could not be written
// The exit code then: 1 always comes with a message that says why.
enum { WTEST_UNSAID = 95 };

void say(const char *fmt, ...) MI_PRINTF(1, 2); // up to 1023 bytes
void say_text(const char *text);                // of any length, and the end of the line
void check(bool is_true, int line, const char *fact, const char *detail);

#define CHECK(fact)          check((fact), __LINE__, #fact, "")
#define CHECK_AT(fact, name) check((fact), __LINE__, #fact, (name))

// Contents by which a block of this size is known again; p NULL: nothing.
static inline void pattern_fill(uint8_t *p, size_t size) {
    for (size_t i = 0; p != NULL && i < size; i++)
        p[i] = (uint8_t)(i * 7 + size);
}

// Do the first part bytes hold what a block of this size was filled with?
static inline bool pattern_is(const uint8_t *p, size_t size, size_t part) {
    for (size_t i = 0; i < part; i++)
        if (p[i] != (uint8_t)(i * 7 + size))
            return false;
    return true;
}

static inline uintptr_t proc(HMODULE m, const char *name) {
    return (uintptr_t)GetProcAddress(m, name);
}

// The last message, and the exit code that belongs to it. needs_checks: none at all is a failure.
unsigned wtest_code(bool needs_checks);

// The end of a program that has made checks.
void finish(void);

// The n-th word of the command line; 0 = the program. Past the last one: "".
const char *argument(unsigned n);

// Does the redirect DLL's status, as JSON, contain this? Otherwise it is printed.
bool json_has(HMODULE redirect, const char *wanted);

// Leads the module's calls of an imported function to another one, or back; how many cells it was.
unsigned imports_lead(HMODULE module, uintptr_t from, uintptr_t to);

void mainCRTStartup(void);
// The compiler's own calls lead to these.
void *memset(void *to, int value, size_t bytes);
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);

#endif
