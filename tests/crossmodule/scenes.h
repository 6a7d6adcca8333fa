// The scenes that the program plays, one after another, with the modules it was given.
#ifndef MI_TESTS_CROSSMODULE_SCENES_H
#define MI_TESTS_CROSSMODULE_SCENES_H

#include "blocks.h"

typedef struct xm_cast_s {
    const xm_module_t *modules[16];
    int count;
    bool is_mixed;    // blocks may cross from one CRT to another: not so without redirection
    xm_owner_t owner; // what blocks made now are promised to be
} xm_cast_t;

// Whether a block of module a may be ended by module b.
bool xm_may_cross(const xm_cast_t *cast, const xm_module_t *a, const xm_module_t *b);

// Every maker, every ender, every kind, every fate.
void xm_scene_pairs(const xm_cast_t *cast);
// Threads make blocks and die; others end them.
void xm_scene_dying_threads(const xm_cast_t *cast);
// Threads make blocks while others end them, through slots.
void xm_scene_pipes(const xm_cast_t *cast);
// A DLL is loaded and unloaded many times; its blocks outlive it.
void xm_scene_churn(const xm_cast_t *cast, const char *dll, const char *function, int times);
// Sizes that no allocator can give.
void xm_scene_impossible(const xm_cast_t *cast);

// Threads that keep allocating and freeing until they are told to stop: the background of a late
// load.
typedef struct xm_traffic_s xm_traffic_t;
xm_traffic_t *xm_traffic_start(const xm_cast_t *cast);
void xm_traffic_stop(xm_traffic_t *traffic);

#endif
