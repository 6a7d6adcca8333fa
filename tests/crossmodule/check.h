// The counters of tests/test.h, shared by the files of this one program.
#ifndef MI_TESTS_CROSSMODULE_CHECK_H
#define MI_TESTS_CROSSMODULE_CHECK_H

#include <stdio.h>

extern int xm_passed;
extern int xm_failed;

void xm_report(int fact, const char *file, int line, const char *text);

#define CHECK(fact) xm_report(!!(fact), __FILE__, __LINE__, #fact)
#define CHECK_MSG(fact, ...)                                                                       \
    do {                                                                                           \
        int fact_holds = !!(fact);                                                                 \
        xm_report(fact_holds, __FILE__, __LINE__, #fact);                                          \
        if (!fact_holds) {                                                                         \
            fprintf(stderr, "    ");                                                               \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
        }                                                                                          \
    } while (0)

#endif
