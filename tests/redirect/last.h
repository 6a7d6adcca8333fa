// What last.dll and the program that loads it share.
#ifndef MI_TEST_LAST_H
#define MI_TEST_LAST_H

#include "wtest.h"

enum { LAST_CRTS_MAX = 16, LAST_FIRST_CRT = 3, LAST_PLAIN = 5, LAST_ALIGNED = 2 };
#define LAST_SIZE(i) ((size_t)(100 + 37 * (i)))

typedef struct last_crt_s {
    const char *name;
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
    size_t (*msize)(void *);
    void *(*recalloc)(void *, size_t, size_t); // this and the rest may be NULL
    void *(*expand)(void *, size_t);
    void *(*aligned_malloc)(size_t, size_t);
    void *(*aligned_realloc)(void *, size_t, size_t);
    void (*aligned_free)(void *);
    int (*is_over)(void); // a synthetic CRT: has it detached, and destroyed its heap?
    uint8_t *theirs[LAST_PLAIN], *their_aligned[LAST_ALIGNED]; // from before the redirection
    uint8_t *ours[LAST_PLAIN], *our_aligned[LAST_ALIGNED];
} last_crt_t;

__declspec(dllexport) void last_before(void);
__declspec(dllexport) void last_after(bool (*ask)(const void *));

#endif
