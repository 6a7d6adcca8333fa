// Rank 0: what every file may use. Compiler attributes, assertions, bit tricks and checked
// arithmetic. Nothing here knows an operating system or calls a C library, so that it serves the
// allocator, the redirect DLL (no C runtime below it), the PE tool and the fuzzers alike.
#ifndef MI_BASE_BASE_H
#define MI_BASE_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef MI_DEBUG
#    define MI_DEBUG 0
#endif
#ifndef MI_SECURE
#    define MI_SECURE 0
#endif

#if defined(__clang__) || defined(__GNUC__)
#    define MI_LIKELY(x)   __builtin_expect(!!(x), 1)
#    define MI_UNLIKELY(x) __builtin_expect(!!(x), 0)
#    define MI_NOINLINE    __attribute__((noinline))
#    define MI_CODE_LINE   __attribute__((aligned(64))) // a function that begins a cache line
#    define MI_COLD        __attribute__((noinline, cold))
#    define MI_OPAQUE(x)   __asm__("" : "+r"(x)) // the compiler forgets what it knows of x
#    define MI_INLINE      static inline __attribute__((always_inline))
#    ifdef __clang__
#        define MI_PRINTF(f, a) __attribute__((format(printf, f, a)))
#    else // gcc for Windows takes printf for the old msvcrt's, which has no %zu
#        define MI_PRINTF(f, a) __attribute__((format(gnu_printf, f, a)))
#    endif
#    define MI_TRAP()   __builtin_trap()
#    define MI_NORETURN __attribute__((noreturn))
// Four 32-bit words that one instruction works on where the CPU has such: + ^ << >> go word by
// word.
#    define MI_HAS_LANES 1
typedef uint32_t mi_lanes_t __attribute__((vector_size(16)));
#elif defined(_MSC_VER)
#    include <intrin.h>
#    define MI_LIKELY(x)   (x)
#    define MI_UNLIKELY(x) (x)
#    define MI_NOINLINE    __declspec(noinline)
#    define MI_CODE_LINE
#    define MI_COLD      __declspec(noinline)
#    define MI_OPAQUE(x) ((void)0)
#    define MI_INLINE    static __forceinline
#    define MI_PRINTF(f, a)
#    define MI_TRAP()    __fastfail(7)
#    define MI_NORETURN  __declspec(noreturn)
#    define MI_HAS_LANES 0
typedef struct mi_lanes_s {
    uint32_t word[4];
} mi_lanes_t;
#else
#    error "unknown compiler: give base.h its attributes"
#endif

// For data that inline functions reach from several files: no detour through the global offset
// table.
#if defined(__ELF__)
#    define MI_HIDDEN __attribute__((visibility("hidden")))
// A large table of zeroes, which the linker puts behind the small variables, so that those share an
// OS page. The order of tables is that of their files. Not for static ones.
#    define MI_LARGE_TABLE __attribute__((common))
// Addresses that nobody changes once the loader has put them in.
#    define MI_READ_ONLY __attribute__((section(".data.rel.ro")))
#else
#    define MI_HIDDEN
#    define MI_LARGE_TABLE
#    define MI_READ_ONLY
#endif

#if defined(__x86_64__) || defined(_M_X64)
#    define MI_ARCH_X64 1
#elif defined(__i386__) || defined(_M_IX86)
#    define MI_ARCH_X86 1
#elif defined(__aarch64__) || defined(_M_ARM64)
#    define MI_ARCH_ARM64 1
#else
#    error "unknown CPU: give base.h its name"
#endif
#ifndef MI_ARCH_X64
#    define MI_ARCH_X64 0
#endif
#ifndef MI_ARCH_X86
#    define MI_ARCH_X86 0
#endif
#ifndef MI_ARCH_ARM64
#    define MI_ARCH_ARM64 0
#endif

#define MI_CACHE_LINE_BYTES 64
#define MI_KiB              ((size_t)1024)
#define MI_MiB              (MI_KiB * MI_KiB)
#define MI_GiB              (MI_MiB * MI_KiB)

// Called with a failed assertion. The default traps; a higher rank may set a sink that prints
// first. The sink must not allocate.
typedef void (*mi_assert_sink_t)(const char *fact, const char *file, int line);
void mi_assert_set_sink(mi_assert_sink_t sink);
MI_NORETURN void mi_assert_fail(const char *fact, const char *file, int line);

// Somebody wrote where only we may, or gave back more than there was: ends the process after the
// sink has said so. where: an address that tells which memory.
typedef void (*mi_corrupt_sink_t)(const char *what, const void *where);
void mi_corrupt_set_sink(mi_corrupt_sink_t sink);
MI_NORETURN void mi_corrupt_fail(const char *what, const void *where);

// Our own bug; debug builds only; one fact per line; no side effects.
#if MI_DEBUG
#    define MI_ASSERT(fact) ((fact) ? (void)0 : mi_assert_fail(#    fact, __FILE__, __LINE__))
#else
#    define MI_ASSERT(fact) ((void)sizeof(!(fact)))
#endif

// Bits. The argument of the counting functions must not be zero.
MI_INLINE size_t mi_ctz64(uint64_t x) {
#if defined(__clang__) || defined(__GNUC__)
    return (size_t)__builtin_ctzll(x);
#else
    unsigned long i;
    _BitScanForward64(&i, x);
    return i;
#endif
}

MI_INLINE size_t mi_clz64(uint64_t x) {
#if defined(__clang__) || defined(__GNUC__)
    return (size_t)__builtin_clzll(x);
#else
    unsigned long i;
    _BitScanReverse64(&i, x);
    return 63 - i;
#endif
}

// On x86 the instruction waits for the register that it writes: unless it is cleared before, it
// ties one call of the allocator to the one before (measured: 14 ns instead of 6 for a pair of more
// than 1 KiB in the secure build).
MI_INLINE size_t mi_bsr(size_t x) {
#if MI_ARCH_X64 && (defined(__clang__) || defined(__GNUC__))
    if (!__builtin_constant_p(x)) {
        size_t i;
        __asm__("xorl %k0, %k0\n\tbsrq %1, %0" : "=&r"(i) : "r"(x) : "cc");
        return i;
    }
#endif
    return 63 - mi_clz64((uint64_t)x);
}

MI_INLINE uintptr_t mi_bytes_swapped(uintptr_t x) {
#if defined(__clang__) || defined(__GNUC__)
    return (uintptr_t)(sizeof(x) == 8 ? __builtin_bswap64(x) : __builtin_bswap32((uint32_t)x));
#else
    return (uintptr_t)(sizeof(x) == 8 ? _byteswap_uint64(x) : _byteswap_ulong((unsigned long)x));
#endif
}

// The upper 64 bits of the 128-bit product.
MI_INLINE uint64_t mi_mul_high64(uint64_t a, uint64_t b) {
#if defined(__SIZEOF_INT128__)
    __extension__ typedef unsigned __int128 wide_t;
    return (uint64_t)(((wide_t)a * b) >> 64);
#else
    const uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
    const uint64_t mid = ah * bl + ((al * bl) >> 32);
    const uint64_t low = al * bh + (uint32_t)mid;
    return ah * bh + (mid >> 32) + (low >> 32);
#endif
}

MI_INLINE bool mi_is_pow2(size_t x) {
    return x != 0 && (x & (x - 1)) == 0;
}

// align is a power of two; the caller knows that the sum does not overflow.
MI_INLINE size_t mi_align_up(size_t x, size_t align) {
    return (x + align - 1) & ~(align - 1);
}

MI_INLINE size_t mi_align_down(size_t x, size_t align) {
    return x & ~(align - 1);
}

// Checked arithmetic: true = good, *out holds the result; false = overflow, *out is not to be used.
MI_INLINE bool mi_mul_ok(size_t a, size_t b, size_t *out) {
#if defined(__clang__) || defined(__GNUC__)
    return !__builtin_mul_overflow(a, b, out);
#else
    *out = a * b;
    return b == 0 || a <= SIZE_MAX / b;
#endif
}

MI_INLINE bool mi_add_ok(size_t a, size_t b, size_t *out) {
    *out = a + b;
    return *out >= a;
}

#endif
