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

// Upwards, also when the target begins below the source and overlaps it. Returns how far it came:
// at the end less than a unit is missing, which the last vector has.
MI_INLINE size_t move_by_string(uint8_t *to, const uint8_t *from, size_t bytes) {
#if MI_ARCH_X64
    size_t count = bytes / 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    return bytes;
#elif MI_ARCH_X86
    size_t count = bytes / 4;
    __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    return bytes;
#else
    (void)to;
    (void)from;
    (void)bytes;
    return 0;
#endif
}

MI_INLINE size_t set_by_string(uint8_t *to, uint64_t word, size_t bytes) {
#if MI_ARCH_X64
    size_t count = bytes / 8;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(word) : "memory");
    return bytes;
#elif MI_ARCH_X86
    size_t count = bytes / 4;
    __asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"((uint32_t)word) : "memory");
    return bytes;
#else
    (void)to;
    (void)word;
    (void)bytes;
    return 0;
#endif
}

// As memmove promises, so long as the target does not begin inside the source.
void *memcpy(void *to, const void *from, size_t bytes) {
    uint8_t *const p = to;
    const uint8_t *const q = from;
    if (bytes < sizeof(wide_t)) {
        move_short(p, q, bytes);
        return to;
    }
    const wide_t last = *(const wide_t *)(q + bytes - sizeof(wide_t));
    size_t done = (bytes >= REP_LEAST ? move_by_string(p, q, bytes) : 0);
    for (; done + sizeof(wide_t) < bytes; done += sizeof(wide_t))
        *(wide_t *)(p + done) = *(const wide_t *)(q + done);
    *(wide_t *)(p + bytes - sizeof(wide_t)) = last;
    return to;
}

void *memmove(void *to, const void *from, size_t bytes) {
    uint8_t *const p = to;
    const uint8_t *const q = from;
    if ((uintptr_t)p - (uintptr_t)q >= bytes || bytes < sizeof(wide_t))
        return memcpy(to, from, bytes);
    const wide_t first = *(const wide_t *)q;
    for (size_t left = bytes; left > sizeof(wide_t); left -= sizeof(wide_t))
        *(wide_t *)(p + left - sizeof(wide_t)) = *(const wide_t *)(q + left - sizeof(wide_t));
    *(wide_t *)p = first;
    return to;
}

void *memset(void *to, int value, size_t bytes) {
    uint8_t *const p = to;
    const uint64_t word = (uint8_t)value * UINT64_C(0x0101010101010101);
    const wide_t wide = {word, word};
    if (bytes < sizeof(wide_t)) {
        const uint64_t twice[2] = {word, word};
        move_short(p, (const uint8_t *)twice, bytes);
        return to;
    }
    size_t done = (bytes >= REP_LEAST ? set_by_string(p, word, bytes) : 0);
    for (; done + sizeof(wide_t) < bytes; done += sizeof(wide_t))
        *(wide_t *)(p + done) = wide;
    *(wide_t *)(p + bytes - sizeof(wide_t)) = wide;
    return to;
}
