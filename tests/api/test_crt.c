// Contracts of the functions in the shape of C libraries: string copies, paths, environment,
// reallocarr.
#include "api_test.h"
#include <stdlib.h>

static void check_copies(void) {
    char *s = mi_strdup("hello");
    CHECK(s != NULL && strcmp(s, "hello") == 0 && mi_usable_size(s) >= 6);
    mi_free(s);
    s = mi_strdup("");
    CHECK(s != NULL && s[0] == 0);
    mi_free(s);
    CHECK(mi_strdup(NULL) == NULL && mi_strndup(NULL, 5) == NULL && mi_mbsdup(NULL) == NULL &&
          mi_wcsdup(NULL) == NULL);
    s = mi_strndup("hello", 3);
    CHECK(s != NULL && strcmp(s, "hel") == 0);
    mi_free(s);
    s = mi_strndup("hello", 100);
    CHECK(s != NULL && strcmp(s, "hello") == 0);
    mi_free(s);
    const char not_terminated[3] = {'a', 'b', 'c'};
    s = mi_strndup(not_terminated, 3);
    CHECK(s != NULL && strcmp(s, "abc") == 0);
    mi_free(s);
    s = mi_strndup("hello", 0);
    CHECK(s != NULL && s[0] == 0);
    mi_free(s);
    unsigned char *m = mi_mbsdup((const unsigned char *)"h\xc3\xa9");
    CHECK(m != NULL && strcmp((char *)m, "h\xc3\xa9") == 0);
    mi_free(m);
    const unsigned short wide[] = {'w', 0x4E2D, 'x', 0};
    unsigned short *w = mi_wcsdup(wide);
    CHECK(w != NULL && memcmp(w, wide, sizeof(wide)) == 0);
    mi_free(w);
    char big[100000];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = 0;
    s = mi_strdup(big);
    CHECK(s != NULL && strcmp(s, big) == 0);
    mi_free(s);
    mi_heap_t *heap = mi_heap_new();
    s = mi_heap_strdup(heap, "hello");
    CHECK(s != NULL && strcmp(s, "hello") == 0 && mi_heap_of(s) == heap);
    char *t = mi_heap_strndup(heap, "hello", 2);
    CHECK(t != NULL && strcmp(t, "he") == 0 && mi_heap_of(t) == heap);
    CHECK(mi_heap_strdup(heap, NULL) == NULL && mi_heap_strndup(heap, NULL, 3) == NULL);
    mi_heap_destroy(heap);
}

static void check_paths(void) {
    char *p = mi_realpath(".", NULL);
    CHECK(p != NULL && mi_is_in_heap_region(p) && strlen(p) > 1);
    char buf[4096 * 4];
    char *q = mi_realpath(".", buf);
    CHECK(q == buf && strcmp(p, buf) == 0);
    mi_free(p);
    mi_heap_t *heap = mi_heap_new();
    p = mi_heap_realpath(heap, ".", NULL);
    CHECK(p != NULL && strcmp(p, buf) == 0 && mi_heap_of(p) == heap);
    mi_heap_destroy(heap);
#ifndef _WIN32
    CHECK_FAILS(mi_realpath("/no/such/file/at/all", NULL), ENOENT);
    CHECK_FAILS(mi_realpath(NULL, NULL), EINVAL);
#else
    CHECK(mi_realpath(NULL, NULL) == NULL);
#endif
}

static void check_environment(void) {
    char *value = (char *)1;
    size_t size = 99;
    CHECK(mi_dupenv_s(NULL, &size, "PATH") == EINVAL);
    CHECK(mi_dupenv_s(&value, &size, NULL) == EINVAL);
    CHECK(mi_dupenv_s(&value, &size, "MI_TEST_NOT_SET_AT_ALL") == 0 && value == NULL && size == 0);
    CHECK(mi_dupenv_s(&value, &size, "MI_TEST_VALUE") == 0 && value != NULL);
    CHECK(value != NULL && strcmp(value, "some value") == 0 && size == sizeof("some value"));
    mi_free(value);
    CHECK(mi_dupenv_s(&value, NULL, "MI_TEST_VALUE") == 0 && value != NULL);
    mi_free(value);
    const unsigned short name[] = {'M', 'I', '_', 'T', 'E', 'S', 'T',
                                   '_', 'V', 'A', 'L', 'U', 'E', 0};
    unsigned short *wide = (unsigned short *)1;
    CHECK(mi_wdupenv_s(NULL, &size, name) == EINVAL);
    CHECK(mi_wdupenv_s(&wide, &size, NULL) == EINVAL);
#ifdef _WIN32
    CHECK(mi_wdupenv_s(&wide, &size, name) == 0 && wide != NULL && wide[0] == 's' &&
          size == sizeof("some value"));
    mi_free(wide);
#else
    CHECK(mi_wdupenv_s(&wide, &size, name) == EINVAL && wide == NULL && size == 0);
#endif
}

static void check_reallocarr(void) {
    int *numbers = NULL;
    CHECK(mi_reallocarr(&numbers, 10, sizeof(int)) == 0 && numbers != NULL);
    fill(numbers, 40);
    CHECK(mi_reallocarr(&numbers, 100000, sizeof(int)) == 0 && is_filled(numbers, 40));
    int *before = numbers;
    CHECK(mi_reallocarr(&numbers, opaque(SIZE_MAX), 2) == ENOMEM && numbers == before &&
          is_filled(numbers, 40));
    CHECK(mi_reallocarr(NULL, 1, 1) == EINVAL);
    mi_free(numbers);
}

int main(void) {
    check_copies();
    check_paths();
    check_environment();
    check_reallocarr();
    return test_result();
}
