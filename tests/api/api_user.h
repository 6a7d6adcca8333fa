// A thread that uses the allocator as programs do, for tests of what happens meanwhile: it holds
// blocks, replaces them at random and sees whether anybody else wrote to one.
#ifndef API_USER_H
#define API_USER_H

#include "api_test.h"

enum { USER_HELD = 300 };

typedef struct user_s {
    mi_heap_t *heap; // NULL: the main one, plainly
    uint8_t *block[USER_HELD];
    size_t size[USER_HELD];
    uint32_t random;
    int lost; // blocks that could not be had, or were changed
} user_t;

static uint32_t user_random(user_t *u, uint32_t below) {
    u->random = u->random * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)u->random * below) >> 32);
}

static void *user_get(const user_t *u, size_t size) {
    return u->heap == NULL ? mi_malloc(size) : mi_heap_malloc(u->heap, size);
}

static void user_drop(user_t *u, size_t i) {
    u->lost += (u->block[i] != NULL && !is_filled(u->block[i], u->size[i]));
    mi_free(u->block[i]);
    u->block[i] = NULL;
}

static void user_replace(user_t *u, size_t i, size_t size) {
    user_drop(u, i);
    u->size[i] = size;
    u->block[i] = user_get(u, size);
    u->lost += (u->block[i] == NULL);
    if (u->block[i] != NULL)
        fill(u->block[i], size);
}

#endif
