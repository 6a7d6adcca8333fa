#include "pe/pe_sha256.h"

#include <string.h>

const uint32_t mi_sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate_right(uint32_t x, unsigned n) {
    return (x >> n) | (x << (32 - n));
}

static uint32_t load_big_endian(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void store_big_endian(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

// Round k of eight: variable j of the standard is v[(j - k) mod 8]. Inlined with a constant k after
// unrolling.
MI_INLINE void sha256_round(uint32_t v[8], size_t k, uint32_t addend) {
    uint32_t a = v[(8 - k) & 7];
    uint32_t b = v[(9 - k) & 7];
    uint32_t c = v[(10 - k) & 7];
    uint32_t e = v[(12 - k) & 7];
    uint32_t f = v[(13 - k) & 7];
    uint32_t g = v[(14 - k) & 7];
    uint32_t s1 = rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25);
    uint32_t t1 = v[(15 - k) & 7] + s1 + ((e & f) ^ (~e & g)) + addend;
    uint32_t s0 = rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22);
    v[(11 - k) & 7] += t1;
    v[(15 - k) & 7] = t1 + s0 + ((a & b) ^ (a & c) ^ (b & c));
}

static void sha256_block(uint32_t state[8], const uint8_t *block) {
    uint32_t w[64];
    for (size_t i = 0; i < 16; i++)
        w[i] = load_big_endian(block + i * 4);
    for (size_t i = 16; i < 64; i++) {
        uint32_t s0 = rotate_right(w[i - 15], 7) ^ rotate_right(w[i - 15], 18) ^ (w[i - 15] >> 3);
        uint32_t s1 = rotate_right(w[i - 2], 17) ^ rotate_right(w[i - 2], 19) ^ (w[i - 2] >> 10);
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t v[8];
    memcpy(v, state, sizeof v);
    // Eight rounds at a time, so that the eight variables change roles instead of places.
    for (size_t i = 0; i < 64; i += 8) {
        for (size_t k = 0; k < 8; k++)
            sha256_round(v, k, mi_sha256_constants[i + k] + w[i + k]);
    }
    for (size_t i = 0; i < 8; i++)
        state[i] += v[i];
}

void mi_sha256_blocks_portable(uint32_t state[8], const uint8_t *data, size_t blocks) {
    for (size_t i = 0; i < blocks; i++)
        sha256_block(state, data + i * MI_SHA256_BLOCK_BYTES);
}

void mi_sha256_begin(mi_sha256_t *s) {
    *s = (mi_sha256_t){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
    s->blocks = mi_sha256_blocks_cpu();
    if (s->blocks == NULL)
        s->blocks = mi_sha256_blocks_portable;
}

void mi_sha256_add(mi_sha256_t *s, const void *data, size_t bytes) {
    const uint8_t *p = (const uint8_t *)data;
    size_t held = (size_t)(s->bytes % MI_SHA256_BLOCK_BYTES);
    s->bytes += bytes;
    if (held != 0) {
        size_t n = MI_SHA256_BLOCK_BYTES - held < bytes ? MI_SHA256_BLOCK_BYTES - held : bytes;
        memcpy(s->rest + held, p, n);
        if (held + n < MI_SHA256_BLOCK_BYTES)
            return;
        s->blocks(s->state, s->rest, 1);
        p += n;
        bytes -= n;
    }
    size_t whole = bytes / MI_SHA256_BLOCK_BYTES;
    if (whole != 0)
        s->blocks(s->state, p, whole);
    size_t rest = bytes % MI_SHA256_BLOCK_BYTES;
    if (rest != 0)
        memcpy(s->rest, p + whole * MI_SHA256_BLOCK_BYTES, rest);
}

void mi_sha256_end(mi_sha256_t *s, uint8_t digest[MI_SHA256_BYTES]) {
    uint8_t tail[2 * MI_SHA256_BLOCK_BYTES] = {0};
    size_t rest = (size_t)(s->bytes % MI_SHA256_BLOCK_BYTES);
    uint64_t bits = s->bytes * 8;
    memcpy(tail, s->rest, rest);
    tail[rest] = 0x80;
    size_t blocks = rest < 56 ? 1 : 2;
    uint8_t *length = tail + blocks * MI_SHA256_BLOCK_BYTES - 8;
    store_big_endian(length, (uint32_t)(bits >> 32));
    store_big_endian(length + 4, (uint32_t)bits);
    s->blocks(s->state, tail, blocks);
    for (size_t i = 0; i < 8; i++)
        store_big_endian(digest + i * 4, s->state[i]);
}

void mi_sha256(const void *data, size_t bytes, uint8_t digest[MI_SHA256_BYTES]) {
    mi_sha256_t s;
    mi_sha256_begin(&s);
    mi_sha256_add(&s, data, bytes);
    mi_sha256_end(&s, digest);
}
