// memcpy, memmove and memset for the DLLs, which have no C runtime below them. The compiler calls
// them by these names. They were ntdll's; but Wine 8's copies byte by byte (1 KiB 560 ns instead of
// 15, 1 MiB 570 us instead of 21) and clears with half the speed of the processor, and what realloc
// moves and calloc clears goes through them.
//
// Up to REP_LEAST bytes by vectors of 16, what is left by one that overlaps; from there on by
// string instructions where the processor has them: they move whole cache lines, on any processor
// that Windows 8.1 runs on.
#include "base/base.h"

void *memcpy(void *to, const void *from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

#define REP_LEAST 1024u

typedef uint64_t wide_t __attribute__((vector_size(16), aligned(1), may_alias));
#define WIDE sizeof(wide_t)
typedef uint64_t eight_t __attribute__((aligned(1), may_alias));
typedef uint32_t four_t __attribute__((aligned(1), may_alias));
typedef uint16_t two_t __attribute__((aligned(1), may_alias));

// Both ends of a short piece, read before either is written.
#define MOVE_ENDS(type, to, from, bytes)                                                           \
    do {                                                                                           \
        const type first = *(const type *)(from);                                                  \
        const type last = *(const type *)((from) + (bytes) - sizeof(type));                        \
        *(type *)(to) = first;                                                                     \
        *(type *)((to) + (bytes) - sizeof(type)) = last;                                           \
    } while (0)

MI_INLINE void move_short(uint8_t *to, const uint8_t *from, size_t bytes) {
    if (bytes >= 8)
        MOVE_ENDS(eight_t, to, from, bytes);
    else if (bytes >= 4)
        MOVE_ENDS(four_t, to, from, bytes);
    else if (bytes >= 2)
        MOVE_ENDS(two_t, to, from, bytes);
    else if (bytes == 1)
        *to = *from;
}

// Upwards, also when the target begins below the source and overlaps it. At the end less than a
// unit may be missing, which the last vector has. false = there is no such instruction.
MI_INLINE bool move_by_string(uint8_t *to, const uint8_t *from, size_t bytes) {
#if MI_ARCH_X64
    size_t count = bytes / 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    return true;
#elif MI_ARCH_X86
    size_t count = bytes / 4;
    __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    return true;
#else
    (void)to;
    (void)from;
    (void)bytes;
    return false;
#endif
}

MI_INLINE bool set_by_string(uint8_t *to, uint64_t word, size_t bytes) {
#if MI_ARCH_X64
    size_t count = bytes / 8;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(word) : "memory");
    return true;
#elif MI_ARCH_X86
    size_t count = bytes / 4;
    __asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"((uint32_t)word) : "memory");
    return true;
#else
    (void)to;
    (void)word;
    (void)bytes;
    return false;
#endif
}

// As memmove promises, so long as the target does not begin inside the source: what is written last
// was read first, and in between all goes upwards.
void *memcpy(void *to, const void *from, size_t bytes) {
    uint8_t *const p = to;
    const uint8_t *const q = from;
    if (bytes < WIDE) {
        move_short(p, q, bytes);
        return to;
    }
    const wide_t last = *(const wide_t *)(q + bytes - WIDE);
    if (MI_UNLIKELY(bytes >= REP_LEAST && move_by_string(p, q, bytes))) {
        *(wide_t *)(p + bytes - WIDE) = last;
        return to;
    }
    const wide_t first = *(const wide_t *)q;
    if (bytes > 2 * WIDE) {
        const wide_t second = *(const wide_t *)(q + WIDE);
        const wide_t last_but_one = *(const wide_t *)(q + bytes - 2 * WIDE);
        *(wide_t *)p = first;
        *(wide_t *)(p + WIDE) = second;
        for (size_t done = 2 * WIDE; done + 2 * WIDE < bytes; done += 2 * WIDE) {
            const wide_t one = *(const wide_t *)(q + done);
            const wide_t two = *(const wide_t *)(q + done + WIDE);
            *(wide_t *)(p + done) = one;
            *(wide_t *)(p + done + WIDE) = two;
        }
        *(wide_t *)(p + bytes - 2 * WIDE) = last_but_one;
    } else {
        *(wide_t *)p = first;
    }
    *(wide_t *)(p + bytes - WIDE) = last;
    return to;
}

void *memmove(void *to, const void *from, size_t bytes) {
    uint8_t *const p = to;
    const uint8_t *const q = from;
    if ((uintptr_t)p - (uintptr_t)q >= bytes || bytes < WIDE)
        return memcpy(to, from, bytes);
    const wide_t first = *(const wide_t *)q;
    for (size_t left = bytes; left > WIDE; left -= WIDE)
        *(wide_t *)(p + left - WIDE) = *(const wide_t *)(q + left - WIDE);
    *(wide_t *)p = first;
    return to;
}

void *memset(void *to, int value, size_t bytes) {
    uint8_t *const p = to;
    const uint64_t word = (uint8_t)value * UINT64_C(0x0101010101010101);
    const wide_t wide = {word, word};
    if (bytes < WIDE) {
        const uint64_t twice[2] = {word, word};
        move_short(p, (const uint8_t *)twice, bytes);
        return to;
    }
    *(wide_t *)(p + bytes - WIDE) = wide;
    if (MI_UNLIKELY(bytes >= REP_LEAST && set_by_string(p, word, bytes)))
        return to;
    *(wide_t *)p = wide;
    if (bytes <= 2 * WIDE)
        return to;
    *(wide_t *)(p + WIDE) = wide;
    *(wide_t *)(p + bytes - 2 * WIDE) = wide;
    for (size_t done = 2 * WIDE; done + 2 * WIDE < bytes; done += 2 * WIDE) {
        *(wide_t *)(p + done) = wide;
        *(wide_t *)(p + done + WIDE) = wide;
    }
    return to;
}
