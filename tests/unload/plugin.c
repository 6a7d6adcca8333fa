// A module with the static library inside, which others load and let go. Every thread that calls it
// allocates in it; what it keeps and what it frees is asked for by the caller.
#include "mimalloc.h"
#include <stdint.h>
#include <string.h>
#ifdef _WIN32
#    define EXPORT __declspec(dllexport)
#else
#    define EXPORT __attribute__((visibility("default")))
#endif

enum { BLOCKS = 100 };
#define HUGE_BYTES (sizeof(void *) == 8 ? (size_t)300 << 20 : (size_t)20 << 20) // beyond arenas

EXPORT int plugin_work(unsigned seed, int keeps);
EXPORT const char *plugin_text(void);
EXPORT void plugin_huge(int keeps);

// 1 = sound. keeps: half of the blocks stay.
int plugin_work(unsigned seed, int keeps) {
    unsigned char *block[BLOCKS];
    int is_sound = 1;
    for (unsigned i = 0; i < BLOCKS; i++) {
        const size_t size =
            (size_t)(seed * 7919u + i * 104729u) % (i % 25 == 0 ? 300000 : 3000) + 1;
        block[i] = (unsigned char *)mi_malloc(size);
        if (block[i] == NULL)
            return 0;
        memset(block[i], (int)i, size);
    }
    mi_heap_t *const heap = mi_heap_new();
    unsigned char *const other = (unsigned char *)mi_heap_zalloc(heap, 5000);
    is_sound &= (other != NULL && other[4999] == 0);
    for (unsigned i = 0; i < BLOCKS; i++) {
        is_sound &= (block[i][0] == i && mi_is_in_heap_region(block[i]));
        if (!keeps || i % 2 == 0)
            mi_free(block[i]);
    }
    if (!keeps) {
        mi_free(other);
        mi_heap_delete(heap);
    }
    return is_sound;
}

// A block of the plugin's that its user reads, also later on.
const char *plugin_text(void) {
    return mi_strdup("of the plugin");
}

// A block with a reservation of its own.
void plugin_huge(int keeps) {
    char *const p = (char *)mi_malloc(HUGE_BYTES);
    if (p != NULL)
        p[0] = 1;
    if (!keeps)
        mi_free(p);
}
