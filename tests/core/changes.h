// What changes.c counts.
#ifndef MI_TESTS_CORE_CHANGES_H
#define MI_TESTS_CORE_CHANGES_H

#include <stdint.h>

// Changes of thread heaps' lists that this thread has marked.
uint64_t changes_seen(void);

#endif
