// SHA-256 with the processor's own instructions, asked for at run time. Measured here: 300 MB in
// 0.2 s instead of 1.6 s. The plain C of pe_sha256.c is the reference it is tested against.
#include "pe/pe_sha256.h"

#if defined(__x86_64__) || defined(__i386__)

#    include <cpuid.h>
#    include <immintrin.h>

#    define SHA_TARGET __attribute__((target("sha,sse4.1,ssse3")))

// CPUID leaf 1: SSSE3 and SSE4.1; leaf 7: SHA. All of them work on the 128-bit registers that every
// system saves.
static bool cpu_has_sha(void) {
    unsigned a;
    unsigned b;
    unsigned c;
    unsigned d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (1u << 9)) == 0 || (c & (1u << 19)) == 0)
        return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 29)) != 0;
}

// Four rounds: the instruction does two, with the sums of message and constant in its third
// operand's lower half. abef and cdgh are the state in the order that it wants.
SHA_TARGET MI_INLINE void four_rounds(__m128i *abef, __m128i *cdgh, __m128i message, size_t i) {
    __m128i sum = _mm_add_epi32(
        message, _mm_loadu_si128((const __m128i *)(const void *)(mi_sha256_constants + 4 * i)));
    *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, sum);
    *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(sum, 0x0E));
}

// The next four words of the message schedule, from the last sixteen (w0 is the oldest four).
SHA_TARGET MI_INLINE __m128i next_words(__m128i w0, __m128i w1, __m128i w2, __m128i w3) {
    __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4));
    return _mm_sha256msg2_epu32(sum, w3);
}

SHA_TARGET static void blocks_sha(uint32_t state[8], const uint8_t *data, size_t blocks) {
    const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    // Memory order a b c d | e f g h becomes a b e f | c d g h, highest first.
    __m128i dcba = _mm_loadu_si128((const __m128i *)(const void *)state);
    __m128i hgfe = _mm_loadu_si128((const __m128i *)(const void *)(state + 4));
    __m128i cdab = _mm_shuffle_epi32(dcba, 0xB1);
    __m128i efgh = _mm_shuffle_epi32(hgfe, 0x1B);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
    __m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
    for (; blocks > 0; blocks--, data += MI_SHA256_BLOCK_BYTES) {
        __m128i abef_before = abef;
        __m128i cdgh_before = cdgh;
        __m128i w[4];
        for (size_t i = 0; i < 4; i++) {
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(data + 16 * i)),
                                    big_endian);
            four_rounds(&abef, &cdgh, w[i], i);
        }
        for (size_t i = 4; i < 16; i++) {
            w[i & 3] = next_words(w[i & 3], w[(i + 1) & 3], w[(i + 2) & 3], w[(i + 3) & 3]);
            four_rounds(&abef, &cdgh, w[i & 3], i);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1B);
    __m128i dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

mi_sha256_blocks_t mi_sha256_blocks_cpu(void) {
    return cpu_has_sha() ? blocks_sha : NULL;
}

#else

mi_sha256_blocks_t mi_sha256_blocks_cpu(void) {
    return NULL;
}

#endif
