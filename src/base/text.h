// Bounded text: a writer over a fixed buffer that never overflows, never allocates and needs no C
// library. When the buffer is full the rest is dropped and is_cut says so. Any thread, each with
// its own writer.
#ifndef MI_BASE_TEXT_H
#define MI_BASE_TEXT_H

#include "base/base.h"
#include <stdarg.h>

typedef struct mi_text_s {
    char *buf;   // always NUL-terminated when cap > 0
    size_t cap;  // bytes, including the NUL
    size_t len;  // bytes written, without the NUL
    bool is_cut; // something did not fit
} mi_text_t;

void mi_text_init(mi_text_t *t, char *buf, size_t cap);
void mi_text_char(mi_text_t *t, char c);
void mi_text_str(mi_text_t *t, const char *s);
void mi_text_utf16(mi_text_t *t, const uint16_t *s, size_t units); // lone surrogates become U+FFFD
// A printf subset: %s %c %d %u %x %p %% %zu %zx %ld %lu %lld %llu %llx, with width, '0' and '-'
// flags.
void mi_text_fmt(mi_text_t *t, const char *fmt, ...) MI_PRINTF(2, 3);
void mi_text_vfmt(mi_text_t *t, const char *fmt, va_list args);
// A JSON string with its quotes; control characters and quotes escaped.
void mi_text_json(mi_text_t *t, const char *s);

// String helpers for code without a C library. NULL is not allowed.
size_t mi_str_len(const char *s);
bool mi_str_eq(const char *a, const char *b);
bool mi_str_eq_nocase(const char *a, const char *b); // ASCII only
bool mi_str_starts(const char *s, const char *prefix);
// Order of names, without case, runs of digits as numbers: < 0, 0, > 0.
int mi_str_compare_natural(const char *a, const char *b);

#endif
