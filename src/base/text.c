#include "base/text.h"

void mi_text_init(mi_text_t *t, char *buf, size_t cap) {
    t->buf = buf;
    t->cap = cap;
    t->len = 0;
    t->is_cut = false;
    if (cap > 0)
        buf[0] = 0;
}

void mi_text_char(mi_text_t *t, char c) {
    if (t->len + 1 >= t->cap) {
        t->is_cut = true;
        return;
    }
    t->buf[t->len++] = c;
    t->buf[t->len] = 0;
}

void mi_text_str(mi_text_t *t, const char *s) {
    for (const char *p = (s != NULL ? s : "(null)"); *p != 0; p++)
        mi_text_char(t, *p);
}

static void text_code_point(mi_text_t *t, uint32_t c) {
    if (c < 0x80) {
        mi_text_char(t, (char)c);
    } else if (c < 0x800) {
        mi_text_char(t, (char)(0xC0 | (c >> 6)));
        mi_text_char(t, (char)(0x80 | (c & 0x3F)));
    } else if (c < 0x10000) {
        mi_text_char(t, (char)(0xE0 | (c >> 12)));
        mi_text_char(t, (char)(0x80 | ((c >> 6) & 0x3F)));
        mi_text_char(t, (char)(0x80 | (c & 0x3F)));
    } else {
        mi_text_char(t, (char)(0xF0 | (c >> 18)));
        mi_text_char(t, (char)(0x80 | ((c >> 12) & 0x3F)));
        mi_text_char(t, (char)(0x80 | ((c >> 6) & 0x3F)));
        mi_text_char(t, (char)(0x80 | (c & 0x3F)));
    }
}

void mi_text_utf16(mi_text_t *t, const uint16_t *s, size_t units) {
    for (size_t i = 0; i < units; i++) {
        uint32_t c = s[i];
        if (c >= 0xD800 && c < 0xDC00 && i + 1 < units && s[i + 1] >= 0xDC00 && s[i + 1] < 0xE000) {
            c = 0x10000 + ((c - 0xD800) << 10) + (uint32_t)(s[i + 1] - 0xDC00);
            i++;
        } else if (c >= 0xD800 && c < 0xE000) {
            c = 0xFFFD;
        }
        text_code_point(t, c);
    }
}

// How one conversion is to be written.
typedef struct text_spec_s {
    unsigned base; // 10 or 16
    size_t width;  // least number of characters
    bool is_left;  // '-' flag
    bool is_zero;  // '0' flag
} text_spec_t;

static void text_pad(mi_text_t *t, char c, size_t count) {
    for (size_t i = 0; i < count; i++)
        mi_text_char(t, c);
}

// Divides by a small base and returns the remainder. In four steps of 16 bits, since a 64-bit
// division on a 32-bit processor would need a runtime library.
static unsigned text_divide(uint64_t *v, unsigned base) {
    uint64_t quotient = 0;
    uint32_t rest = 0;
    for (unsigned shift = 64; shift > 0;) {
        shift -= 16;
        const uint32_t part = (rest << 16) | (uint32_t)((*v >> shift) & 0xFFFF);
        quotient |= (uint64_t)(part / base) << shift;
        rest = part % base;
    }
    *v = quotient;
    return rest;
}

static void text_number(mi_text_t *t, uint64_t v, bool is_negative, text_spec_t s) {
    char digits[24];
    size_t n = 0;
    do {
        digits[n++] = "0123456789abcdef"[text_divide(&v, s.base)];
    } while (v != 0);
    const size_t all = n + (is_negative ? 1 : 0);
    const size_t pad = (s.width > all ? s.width - all : 0);
    if (!s.is_left && !s.is_zero)
        text_pad(t, ' ', pad);
    if (is_negative)
        mi_text_char(t, '-');
    if (!s.is_left && s.is_zero)
        text_pad(t, '0', pad);
    while (n > 0)
        mi_text_char(t, digits[--n]);
    if (s.is_left)
        text_pad(t, ' ', pad);
}

static void text_string(mi_text_t *t, const char *str, text_spec_t s) {
    const char *p = (str != NULL ? str : "(null)");
    const size_t n = mi_str_len(p);
    const size_t pad = (s.width > n ? s.width - n : 0);
    if (!s.is_left)
        text_pad(t, ' ', pad);
    mi_text_str(t, p);
    if (s.is_left)
        text_pad(t, ' ', pad);
}

typedef enum text_size_e { TEXT_INT, TEXT_LONG, TEXT_LLONG, TEXT_SIZE } text_size_t;

static text_size_t text_size(const char **fmt) {
    if (**fmt == 'z') {
        (*fmt)++;
        return TEXT_SIZE;
    }
    if (**fmt != 'l')
        return TEXT_INT;
    (*fmt)++;
    if (**fmt != 'l')
        return TEXT_LONG;
    (*fmt)++;
    return TEXT_LLONG;
}

// va_list is passed by pointer in a struct, since it may be an array type.
typedef struct text_args_s {
    va_list list;
} text_args_t;

static uint64_t text_arg_unsigned(text_args_t *a, text_size_t size) {
    switch (size) {
    case TEXT_LONG:
        return va_arg(a->list, unsigned long);
    case TEXT_LLONG:
        return va_arg(a->list, unsigned long long);
    case TEXT_SIZE:
        return va_arg(a->list, size_t);
    default:
        return va_arg(a->list, unsigned int);
    }
}

static int64_t text_arg_signed(text_args_t *a, text_size_t size) {
    switch (size) {
    case TEXT_LONG:
        return va_arg(a->list, long);
    case TEXT_LLONG:
        return va_arg(a->list, long long);
    case TEXT_SIZE:
        return (int64_t)va_arg(a->list, ptrdiff_t);
    default:
        return va_arg(a->list, int);
    }
}

static void text_convert(mi_text_t *t, char kind, text_size_t size, text_spec_t s, text_args_t *a) {
    if (kind == 'd' || kind == 'i') {
        const int64_t v = text_arg_signed(a, size);
        text_number(t, v < 0 ? (uint64_t)0 - (uint64_t)v : (uint64_t)v, v < 0, s);
    } else if (kind == 'u') {
        text_number(t, text_arg_unsigned(a, size), false, s);
    } else if (kind == 'x') {
        s.base = 16;
        text_number(t, text_arg_unsigned(a, size), false, s);
    } else if (kind == 'p') {
        s.base = 16;
        mi_text_str(t, "0x");
        text_number(t, (uint64_t)(uintptr_t)va_arg(a->list, void *), false, s);
    } else if (kind == 'c') {
        mi_text_char(t, (char)va_arg(a->list, int));
    } else if (kind == 's') {
        text_string(t, va_arg(a->list, const char *), s);
    } else {
        mi_text_char(t, kind); // "%%", and an unknown letter is shown as it is
    }
}

void mi_text_vfmt(mi_text_t *t, const char *fmt, va_list args) {
    text_args_t a;
    va_copy(a.list, args);
    while (*fmt != 0) {
        if (*fmt != '%') {
            mi_text_char(t, *fmt++);
            continue;
        }
        fmt++;
        text_spec_t s = {10, 0, false, false};
        for (; *fmt == '-' || *fmt == '0'; fmt++) {
            s.is_left |= (*fmt == '-');
            s.is_zero |= (*fmt == '0');
        }
        for (; *fmt >= '0' && *fmt <= '9'; fmt++)
            s.width = (s.width < 1000 ? s.width * 10 : 0) + (size_t)(*fmt - '0');
        const text_size_t size = text_size(&fmt);
        if (*fmt == 0)
            break;
        text_convert(t, *fmt++, size, s, &a);
    }
    va_end(a.list);
}

void mi_text_fmt(mi_text_t *t, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    mi_text_vfmt(t, fmt, args);
    va_end(args);
}

// The bytes of the UTF-8 character that begins here; 0 = none does: cut, too long, a surrogate, or
// beyond the last one.
static size_t utf8_length(const unsigned char *s) {
    const unsigned char c = s[0];
    const size_t n = (c < 0x80 ? 1 : c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0);
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    const bool is_bad = (c == 0xE0 && s[1] < 0xA0) || (c == 0xED && s[1] > 0x9F) ||
                        (c == 0xF0 && s[1] < 0x90) || (c == 0xF4 && s[1] > 0x8F);
    return is_bad ? 0 : n;
}

void mi_text_json(mi_text_t *t, const char *s) {
    mi_text_char(t, '"');
    for (const char *p = (s != NULL ? s : ""); *p != 0; p++) {
        const unsigned char c = (unsigned char)*p;
        const size_t n = utf8_length((const unsigned char *)p);
        if (n == 0) { // names in damaged files may be anything
            mi_text_str(t, "\\ufffd");
        } else if (n > 1) {
            for (size_t i = 0; i < n; i++)
                mi_text_char(t, p[i]);
            p += n - 1;
        } else if (c == '"' || c == '\\') {
            mi_text_char(t, '\\');
            mi_text_char(t, (char)c);
        } else if (c < 0x20) {
            mi_text_fmt(t, "\\u%04x", (unsigned)c);
        } else {
            mi_text_char(t, (char)c);
        }
    }
    mi_text_char(t, '"');
}

size_t mi_str_len(const char *s) {
    size_t n = 0;
    while (s[n] != 0)
        n++;
    return n;
}

bool mi_str_eq(const char *a, const char *b) {
    for (; *a == *b; a++, b++)
        if (*a == 0)
            return true;
    return false;
}

static char str_lower(char c) {
    return (c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c);
}

bool mi_str_eq_nocase(const char *a, const char *b) {
    for (; str_lower(*a) == str_lower(*b); a++, b++)
        if (*a == 0)
            return true;
    return false;
}

bool mi_str_starts(const char *s, const char *prefix) {
    for (; *prefix != 0; s++, prefix++)
        if (*s != *prefix)
            return false;
    return true;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

int mi_str_compare_natural(const char *a, const char *b) {
    while (*a != 0 && *b != 0) {
        if (is_digit(*a) && is_digit(*b)) {
            // Without leading zeros the longer run is the larger number.
            size_t n = 0;
            size_t m = 0;
            while (*a == '0' && is_digit(a[1]))
                a++;
            while (*b == '0' && is_digit(b[1]))
                b++;
            while (is_digit(a[n]))
                n++;
            while (is_digit(b[m]))
                m++;
            if (n != m)
                return n < m ? -1 : 1;
            for (; n != 0; n--, a++, b++)
                if (*a != *b)
                    return *a < *b ? -1 : 1;
        } else if (str_lower(*a) != str_lower(*b)) {
            return (uint8_t)str_lower(*a) < (uint8_t)str_lower(*b) ? -1 : 1;
        } else {
            a++;
            b++;
        }
    }
    return *a == *b ? 0 : *a == 0 ? -1 : 1;
}
