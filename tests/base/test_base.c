// Rank 0 by itself: bounded text against the C library's printf, checked arithmetic at its edges,
// bit functions.
#include "base/text.h"
#include "base/privilege.h"
#include "base/atomic.h"
#include "test.h"
#include <limits.h>
#include <string.h>

static char buf[256], expected[256];

// One conversion written by us and by the C library must agree to the letter.
#define SAME(fmt, ...)                                                                             \
    do {                                                                                           \
        mi_text_t t;                                                                               \
        mi_text_init(&t, buf, sizeof buf);                                                         \
        mi_text_fmt(&t, fmt, __VA_ARGS__);                                                         \
        snprintf(expected, sizeof expected, fmt, __VA_ARGS__);                                     \
        CHECK_MSG(strcmp(buf, expected) == 0, "\"%s\" gave \"%s\", expected \"%s\"", fmt, buf,     \
                  expected);                                                                       \
        CHECK(t.len == strlen(expected) && !t.is_cut);                                             \
    } while (0)

static void test_formats(void) {
    SAME("%d|%d|%d|%d", 0, -1, INT_MAX, INT_MIN);
    SAME("%u|%x|%08x|%8x|%-8x|", 0u, 0xABCDEFu, 0x1Fu, 0x1Fu, 0x1Fu);
    SAME("%ld|%lu|%lx", LONG_MIN, ULONG_MAX, ULONG_MAX);
    SAME("%lld|%llu|%llx", LLONG_MIN, ULLONG_MAX, ULLONG_MAX);
    SAME("%zu|%zx|%10zu|%-10zu|", (size_t)0, SIZE_MAX, (size_t)42, (size_t)42);
    SAME("%s|%10s|%-10s|%c|%%", "text", "right", "left", 'x');
    SAME("%05d|%5d|%-5d|", -42, -42, -42);
    SAME("%p", (void *)&buf);
}

static void test_cut(void) {
    mi_text_t t;
    char small[8];
    memset(small, '#', sizeof small);
    mi_text_init(&t, small, 5);
    mi_text_fmt(&t, "%s-%d", "abcdef", 12);
    CHECK(strcmp(small, "abcd") == 0);
    CHECK(t.is_cut && t.len == 4);
    CHECK(small[5] == '#' && small[7] == '#');
    mi_text_init(&t, small, 0);
    mi_text_str(&t, "x");
    CHECK(t.is_cut && t.len == 0 && small[0] == 'a');
}

static void test_unicode_and_json(void) {
    mi_text_t t;
    // "A", e acute, euro sign, a surrogate pair (U+1F600), a lone high surrogate
    const uint16_t wide[] = {'A', 0xE9, 0x20AC, 0xD83D, 0xDE00, 0xD800};
    mi_text_init(&t, buf, sizeof buf);
    mi_text_utf16(&t, wide, 6);
    CHECK(strcmp(buf, "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xEF\xBF\xBD") == 0);
    mi_text_init(&t, buf, sizeof buf);
    mi_text_json(&t, "a\"b\\c\n\x01z");
    CHECK_MSG(strcmp(buf, "\"a\\\"b\\\\c\\u000a\\u0001z\"") == 0, "got %s", buf);
    // What is no UTF-8 is said to be none; what is stays: 2, 3 and 4 bytes.
    static const struct {
        const char *text, *json;
    } odd[] = {{"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
               {"\xFF.dll", "\\ufffd.dll"},
               {"a\xE9", "a\\ufffd"},
               {"\x80\xBF", "\\ufffd\\ufffd"},
               {"\xC0\xAF", "\\ufffd\\ufffd"},
               {"\xE0\x80\x80", "\\ufffd\\ufffd\\ufffd"},
               {"\xED\xA0\x80", "\\ufffd\\ufffd\\ufffd"},
               {"\xF4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"},
               {"\xF0\x9F\x98", "\\ufffd\\ufffd\\ufffd"},
               {"\x7F", "\x7F"},
               {"\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF"}};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        char quoted[64];
        snprintf(quoted, sizeof quoted, "\"%s\"", odd[i].json);
        mi_text_init(&t, buf, sizeof buf);
        mi_text_json(&t, odd[i].text);
        CHECK_MSG(strcmp(buf, quoted) == 0, "case %zu: got %s", i, buf);
    }
}

static void test_strings(void) {
    CHECK(mi_str_len("") == 0 && mi_str_len("abc") == 3);
    CHECK(mi_str_eq("abc", "abc") && !mi_str_eq("abc", "abd") && !mi_str_eq("ab", "abc"));
    CHECK(mi_str_eq_nocase("KERNEL32.dll", "kernel32.DLL") && !mi_str_eq_nocase("a", "b"));
    CHECK(!mi_str_eq_nocase("@", "`")); // only letters differ by case
    CHECK(mi_str_compare_natural("9.0.9999.1_x", "9.0.30729.1_a") < 0);
    CHECK(mi_str_compare_natural("A_10", "a_9") > 0 && mi_str_compare_natural("a", "b") < 0);
    CHECK(mi_str_compare_natural("v007", "V7") == 0 && mi_str_compare_natural("v7", "v7.1") < 0);
    CHECK(mi_str_compare_natural("v0", "v") > 0 && mi_str_compare_natural("", "a") < 0);
    CHECK(mi_str_starts("mimalloc.dll", "mimalloc") && !mi_str_starts("mi", "mimalloc"));
}

static void test_arithmetic(void) {
    size_t r = 1;
    CHECK(mi_mul_ok(SIZE_MAX, 1, &r) && r == SIZE_MAX);
    CHECK(!mi_mul_ok(SIZE_MAX, 2, &r) && !mi_mul_ok(SIZE_MAX / 2 + 1, 2, &r));
    CHECK(mi_mul_ok(SIZE_MAX / 2, 2, &r) && r == SIZE_MAX - 1);
    CHECK(mi_mul_ok(0, SIZE_MAX, &r) && r == 0);
    CHECK(mi_add_ok(SIZE_MAX - 1, 1, &r) && r == SIZE_MAX && !mi_add_ok(SIZE_MAX, 1, &r));
    CHECK(mi_align_up(0, 16) == 0 && mi_align_up(1, 16) == 16 && mi_align_up(16, 16) == 16);
    CHECK(mi_align_down(31, 16) == 16 && mi_is_pow2(1) && mi_is_pow2(4096) && !mi_is_pow2(0) &&
          !mi_is_pow2(12));
    for (size_t i = 0; i < 64; i++) {
        CHECK(mi_ctz64((uint64_t)1 << i) == i && mi_clz64((uint64_t)1 << i) == 63 - i);
        CHECK(mi_bsr(((size_t)1 << i) | 1) == i);
    }
}

// Low or in an app container, medium, raised by UAC, an administrator's console, a service.
static void test_privilege(void) {
    static const struct {
        mi_privilege_t facts;
        bool is_trusted;
    } cases[] = {
        {{0x1000, 0, false}, true},       {{0x2000, 0, false}, true},
        {{0x2100, 0x2000, false}, false}, {{0x3000, 0x2000, false}, false},
        {{0x3000, 0, false}, false},      {{0x3000, 0x3000, false}, true},
        {{0x3000, 0x4000, false}, true},  {{0x4000, 0x4000, false}, true},
        {{0x4000, 0x3000, false}, false}, {{0, 0, false}, false},
        {{0, 0x3000, false}, false},      {{0x3000, 0, true}, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        CHECK_MSG(mi_privilege_trusts_environment(&cases[i].facts) == cases[i].is_trusted,
                  "case %zu", i);
}

int main(void) {
    test_formats();
    test_cut();
    test_unicode_and_json();
    test_strings();
    test_arithmetic();
    test_privilege();
    return test_result();
}
