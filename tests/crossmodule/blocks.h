// Blocks of every kind that the modules can make, with what is needed to check them later: who made
// them, how many bytes, and a sum over the contents.
#ifndef MI_TESTS_CROSSMODULE_BLOCKS_H
#define MI_TESTS_CROSSMODULE_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "module.h"

typedef enum xm_kind_e {
    XM_MALLOC,
    XM_CALLOC,
    XM_REALLOC,
    XM_RECALLOC,
    XM_STRDUP,
    XM_WCSDUP,
    XM_FULLPATH,
    XM_GETCWD,
    XM_WGETCWD,
    XM_TEMPNAM,
    XM_DUPENV,
    XM_ALIGNED,
    XM_ALIGNED_OFFSET,
    XM_NEW,
    XM_NEW_ARRAY,
    XM_NEW_NOTHROW,
    XM_NEW_ALIGNED,
    XM_KINDS
} xm_kind_t;

typedef enum xm_fate_e { XM_FREE, XM_MEASURE, XM_GROW, XM_SHRINK, XM_EXPAND, XM_FATES } xm_fate_t;

typedef struct xm_block_s {
    const xm_module_t *maker;
    void *p; // NULL: this maker cannot make this kind
    size_t bytes;
    size_t align;  // aligned kinds only
    size_t offset; // aligned kinds only
    uint32_t sum;  // over the bytes
    xm_kind_t kind;
} xm_block_t;

// What the process promises about blocks that are made now.
typedef enum xm_owner_e {
    XM_OWNER_UNKNOWN, // no allocator of ours in the process
    XM_OWNER_CRT,     // it is there, and these blocks are not its
    XM_OWNER_OURS
} xm_owner_t;

// From mimalloc.dll, by GetProcAddress; NULL while it is not in the process.
typedef bool(__cdecl *xm_is_in_heap_fn)(const void *p);
typedef bool(__cdecl *xm_is_redirected_fn)(void);
extern xm_is_in_heap_fn xm_is_in_heap;
extern xm_is_redirected_fn xm_is_redirected;
bool xm_find_allocator(void); // true: found

// Makes a block, checks its contents, alignment and owner.
xm_block_t xm_block_make(const xm_module_t *m, xm_kind_t kind, size_t bytes, xm_owner_t owner);
// The other module measures or resizes and then frees it; contents are checked at every step. owner
// is what blocks made now are promised to be.
void xm_block_end(xm_block_t *b, const xm_module_t *by, xm_fate_t fate, xm_owner_t owner);
// Whether by has the functions to end blocks of this kind.
bool xm_can_end(xm_kind_t kind, const xm_module_t *by);
const char *xm_kind_name(xm_kind_t kind);
// A number that depends on nothing but its argument.
uint32_t xm_mix(uint32_t x);

#endif
