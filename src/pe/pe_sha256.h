// SHA-256 (FIPS 180-4), for the undo record of the editor. Pure, any thread; one state belongs to
// one thread.
#ifndef MI_PE_PE_SHA256_H
#define MI_PE_PE_SHA256_H

#include "base/base.h"

#define MI_SHA256_BYTES       32u
#define MI_SHA256_BLOCK_BYTES 64u

// Takes whole blocks into the state. All implementations give the same result.
typedef void (*mi_sha256_blocks_t)(uint32_t state[8], const uint8_t *data, size_t blocks);

typedef struct mi_sha256_s {
    uint32_t state[8];
    uint64_t bytes;                      // taken so far
    uint8_t rest[MI_SHA256_BLOCK_BYTES]; // the last bytes % 64 of them
    mi_sha256_blocks_t blocks;           // what this processor does fastest
} mi_sha256_t;

void mi_sha256_begin(mi_sha256_t *s);
void mi_sha256_add(mi_sha256_t *s, const void *data, size_t bytes);
void mi_sha256_end(mi_sha256_t *s, uint8_t digest[MI_SHA256_BYTES]);

void mi_sha256(const void *data, size_t bytes, uint8_t digest[MI_SHA256_BYTES]);

// The reference: plain C.
void mi_sha256_blocks_portable(uint32_t state[8], const uint8_t *data, size_t blocks);
// The one that uses the processor's SHA instructions, or NULL when it has none (pe_sha256_cpu.c).
mi_sha256_blocks_t mi_sha256_blocks_cpu(void);

extern const uint32_t mi_sha256_constants[64];

#endif
