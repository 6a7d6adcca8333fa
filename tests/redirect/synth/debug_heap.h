// The inside of the synthetic debug CRT: a debug heap that behaves as Microsoft documents its own
// (learn.microsoft.com, "CRT debug heap details" and the pages of the functions).
//
//   [ next, prev | file, line | size, type | request | ... | FD FD FD FD ] block [ FD FD FD FD ]
//
// A new block is filled with CD, a freed one with DD. All blocks are in one list, the newest first.
#ifndef MI_TEST_SYNTH_DEBUG_HEAP_H
#define MI_TEST_SYNTH_DEBUG_HEAP_H

#include "base/base.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#define API __declspec(dllexport)

enum { FREE_BLOCK, NORMAL_BLOCK, CRT_BLOCK, IGNORE_BLOCK, CLIENT_BLOCK, BLOCK_TYPES };
enum { ALLOC_MEM = 1, DELAY_FREE = 2, CHECK_ALWAYS = 4, CHECK_CRT = 16, LEAK_CHECK = 32 };
enum { HOOK_ALLOC = 1, HOOK_REALLOC = 2, HOOK_FREE = 3 };

typedef struct head_s head_t;
struct head_s {
    head_t *next; // older
    head_t *prev;
    char *file;
    size_t size;
    int line;
    int type; // a subtype in the upper half
    long request;
    uint32_t magic;
};

typedef struct mem_state_s {
    head_t *newest;
    size_t counts[BLOCK_TYPES];
    size_t sizes[BLOCK_TYPES];
    size_t high;
    size_t total;
} mem_state_t;

typedef int (*alloc_hook_t)(int operation, void *p, size_t size, int type, long request,
                            const unsigned char *file, int line);
typedef void (*dump_client_t)(void *p, size_t size);
typedef int (*report_hook_t)(int type, char *message, int *result);

// impl.c
void synth_called(void); // counts what comes before DllMain
void *synth_raw_alloc(size_t size);
void synth_raw_free(void *p);
int synth_raw_is_valid(const void *p);
void *impl_aligned_offset_malloc(size_t size, size_t align, size_t offset);
void *impl_aligned_offset_realloc(void *p, size_t size, size_t align, size_t offset);
void *impl_aligned_offset_recalloc(void *p, size_t n, size_t size, size_t align, size_t offset);
void impl_aligned_free(void *p);
size_t impl_aligned_msize(void *p, size_t align, size_t offset);
void *impl_malloc(size_t size);
void *impl_calloc(size_t n, size_t size);
void *impl_recalloc(void *p, size_t n, size_t size);
void *impl_realloc(void *p, size_t size);
void *impl_expand(void *p, size_t size);
size_t impl_msize(void *p);
void impl_free(void *p);

// debug_heap.c
void synth_debug_main(DWORD reason);
int impl_is_valid(const void *p);
void *impl_malloc_dbg(size_t size, int type, const char *file, int line);
void impl_free_dbg(void *p, int type);
size_t impl_msize_dbg(const void *p, int type);
head_t *synth_newest(void);
mem_state_t *synth_totals(void);
int synth_flags(void);
dump_client_t synth_dump_client(void);
int synth_is_intact(const head_t *h);
void *synth_block_of(head_t *h);

#endif
