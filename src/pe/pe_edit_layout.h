// The format of the undo header, and windows of large results: shared by the two halves of the
// editor.
#ifndef MI_PE_PE_EDIT_LAYOUT_H
#define MI_PE_PE_EDIT_LAYOUT_H

#include "base/base.h"

#include <string.h>

#define MI_PE_UNDO_MAGIC        "MINJECT1"
#define MI_PE_UNDO_HEADER_BYTES 96u
#define MI_PE_UNDO_FORMAT       1u
#define MI_PE_DESCRIPTOR_BYTES  20u

// A window [at, at + bytes) of a file that is never whole in memory: out receives it.
typedef struct mi_pe_window_s {
    uint64_t at;
    size_t bytes;
    uint8_t *out;
} mi_pe_window_t;

// Whether [part_at, part_at + part_bytes) meets the window; then where in the part the common bytes
// begin, where in the window, and how many they are.
MI_INLINE bool mi_pe_window_meets(const mi_pe_window_t *w, uint64_t part_at, uint64_t part_bytes,
                                  uint64_t common[3]) {
    uint64_t begin = part_at > w->at ? part_at : w->at;
    uint64_t part_end = part_at + part_bytes;
    uint64_t end = part_end < w->at + w->bytes ? part_end : w->at + w->bytes;
    if (begin >= end)
        return false;
    common[0] = begin - part_at;
    common[1] = begin - w->at;
    common[2] = end - begin;
    return true;
}

// The part's bytes, as far as the window shows them.
MI_INLINE void mi_pe_window_put(const mi_pe_window_t *w, uint64_t part_at, const uint8_t *part,
                                uint64_t part_bytes) {
    uint64_t c[3];
    if (mi_pe_window_meets(w, part_at, part_bytes, c))
        memcpy(w->out + c[1], part + c[0], (size_t)c[2]);
}

#endif
