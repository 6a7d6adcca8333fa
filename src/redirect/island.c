#include "redirect/island.h"
#include "redirect/faults.h"
#include "redirect/nt.h"

#if MI_ARCH_ARM64
#    define REACH ((uintptr_t)(127 * MI_MiB)) // of a b instruction, less a little
#else
#    define REACH ((uintptr_t)(2047 * MI_MiB)) // of a 32-bit displacement, less a little
#endif
#define GRANULE ((uintptr_t)65536) // of reservations

static uint8_t *take(uintptr_t at, size_t bytes) {
    return (uint8_t *)VirtualAlloc((void *)at, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

// The nearest free place above (or below) the range, within reach of all of it.
static uint8_t *search(uintptr_t low, uintptr_t high, size_t bytes, bool is_up) {
    const uintptr_t first = (high > REACH ? high - REACH : GRANULE);
    const uintptr_t last =
        (UINTPTR_MAX - low > REACH ? low + REACH : UINTPTR_MAX - GRANULE) - bytes;
    uintptr_t at = (is_up ? mi_align_up(high, GRANULE) : mi_align_down(low - 1, GRANULE));
    MEMORY_BASIC_INFORMATION info;
    while (at >= first && at <= last && VirtualQuery((void *)at, &info, sizeof(info)) != 0) {
        const uintptr_t begin = (uintptr_t)info.BaseAddress, end = begin + info.RegionSize;
        if (info.State == MEM_FREE) {
            // Upwards the bottom of the free range, downwards its top.
            uintptr_t place = mi_align_up(at > begin ? at : begin, GRANULE);
            if (!is_up)
                place = (end - begin > bytes
                             ? mi_align_down(at + 1 < end - bytes ? at : end - bytes, GRANULE)
                             : 0);
            if (place >= begin && place >= first && place <= last && place + bytes <= end) {
                uint8_t *p = take(place, bytes);
                if (p != NULL)
                    return p;
            }
        }
        if (is_up)
            at = mi_align_up(end > at ? end : at + GRANULE, GRANULE);
        else if (info.AllocationBase != NULL && (uintptr_t)info.AllocationBase <= at)
            at = mi_align_down((uintptr_t)info.AllocationBase - 1, GRANULE);
        else
            at = mi_align_down(begin - 1, GRANULE);
        if (at == 0)
            break;
    }
    return NULL;
}

bool mi_island_open(mi_island_t *island, const uint8_t *low, size_t bytes, size_t count) {
    const uintptr_t begin = (uintptr_t)low, end = begin + bytes;
    const size_t want = mi_align_up((count + 1) * MI_ISLAND_BYTES, 4096);
    *island = (mi_island_t){.bytes = want};
    if (mi_fault("island-open"))
        return false;
    if (sizeof(void *) == 4)
        island->base = take(0, want); // every address is within reach
    else
        island->base = search(begin, end, want, true);
    if (island->base == NULL && sizeof(void *) == 8)
        island->base = search(begin, end, want, false);
    return island->base != NULL;
}

bool mi_island_open_above(mi_island_t *island, const uint8_t *low, size_t bytes, size_t count) {
    const uintptr_t begin = (uintptr_t)low, end = begin + bytes;
    const size_t want = mi_align_up(count * MI_ISLAND_BYTES, 4096);
    *island = (mi_island_t){.bytes = want};
    island->base = (sizeof(void *) == 4 ? take(0, want) : search(begin, end, want, true));
    return island->base != NULL;
}

bool mi_island_seal(mi_island_t *island) {
    DWORD before;
    if (!VirtualProtect(island->base, island->bytes, PAGE_EXECUTE_READ, &before))
        return false;
    FlushInstructionCache(GetCurrentProcess(), island->base, island->bytes);
    island->is_sealed = true;
    return true;
}

void mi_island_close(mi_island_t *island) {
    if (island->base != NULL)
        (void)VirtualFree(island->base, 0, MEM_RELEASE);
    *island = (mi_island_t){0};
}

uint8_t *mi_island_slot(mi_island_t *island) {
    if (island->is_sealed || island->used + MI_ISLAND_BYTES > island->bytes)
        return NULL;
    uint8_t *slot = island->base + island->used;
    island->used += MI_ISLAND_BYTES;
    memset(slot, (MI_ARCH_ARM64 ? 0 : 0xCC), MI_ISLAND_BYTES);
    return slot;
}

static uint8_t *put(uint8_t *out, const void *bytes, size_t count) {
    memcpy(out, bytes, count);
    return out + count;
}

#if MI_ARCH_X64

// The wrappers for functions whose arguments fill the registers: r10 = context, rax = replacement.
// They make a frame with unwind data, since a new-handler may throw through it.
//   4 arguments: (rcx, rdx, r8, r9)         -> (rcx, rdx, r8, r9, ctx)
//   5 arguments: (rcx, rdx, r8, r9, stack)  -> (rcx, rdx, r8, r9, stack, ctx)
//   6 arguments: the same with two on the stack
void mi_island_wrap4(void);
void mi_island_wrap5(void);
void mi_island_wrap6(void);
__asm__(".text\n"
        ".p2align 4\n"
        ".globl mi_island_wrap4\n"
        ".def mi_island_wrap4; .scl 2; .type 32; .endef\n"
        ".seh_proc mi_island_wrap4\n"
        "mi_island_wrap4:\n"
        "    subq $0x38, %rsp\n"
        "    .seh_stackalloc 0x38\n"
        "    .seh_endprologue\n"
        "    movq %r10, 0x20(%rsp)\n"
        "    callq *%rax\n"
        "    addq $0x38, %rsp\n"
        "    retq\n"
        ".seh_endproc\n"
        ".p2align 4\n"
        ".globl mi_island_wrap5\n"
        ".def mi_island_wrap5; .scl 2; .type 32; .endef\n"
        ".seh_proc mi_island_wrap5\n"
        "mi_island_wrap5:\n"
        "    subq $0x38, %rsp\n"
        "    .seh_stackalloc 0x38\n"
        "    .seh_endprologue\n"
        "    movq 0x60(%rsp), %r11\n" // 0x38 frame, 8 return address, 0x20 home space
        "    movq %r11, 0x20(%rsp)\n"
        "    movq %r10, 0x28(%rsp)\n"
        "    callq *%rax\n"
        "    addq $0x38, %rsp\n"
        "    retq\n"
        ".seh_endproc\n"
        ".p2align 4\n"
        ".globl mi_island_wrap6\n"
        ".def mi_island_wrap6; .scl 2; .type 32; .endef\n"
        ".seh_proc mi_island_wrap6\n"
        "mi_island_wrap6:\n"
        "    subq $0x38, %rsp\n"
        "    .seh_stackalloc 0x38\n"
        "    .seh_endprologue\n"
        "    movq 0x60(%rsp), %r11\n"
        "    movq %r11, 0x20(%rsp)\n"
        "    movq 0x68(%rsp), %r11\n"
        "    movq %r11, 0x28(%rsp)\n"
        "    movq %r10, 0x30(%rsp)\n"
        "    callq *%rax\n"
        "    addq $0x38, %rsp\n"
        "    retq\n"
        ".seh_endproc\n");

bool mi_island_forward(uint8_t *slot, unsigned args, const void *ctx, uintptr_t replacement) {
    static const uint8_t mov_to[4][2] = {{0x48, 0xB9}, {0x48, 0xBA}, {0x49, 0xB8}, {0x49, 0xB9}};
    static const uint8_t mov_r10[2] = {0x49, 0xBA}, mov_rax[2] = {0x48, 0xB8};
    static const uint8_t jmp_slot[6] = {0xFF, 0x25, 0, 0, 0, 0};
    uint8_t *out = slot;
    uintptr_t target = replacement;
    static const uintptr_t wrappers[] = {(uintptr_t)mi_island_wrap4, (uintptr_t)mi_island_wrap5,
                                         (uintptr_t)mi_island_wrap6};
    if (args > 6)
        return false;
    if (args <= 3) {
        out = put(out, mov_to[args], 2);
        out = put(out, &ctx, 8);
    } else {
        out = put(out, mov_r10, 2);
        out = put(out, &ctx, 8);
        out = put(out, mov_rax, 2);
        out = put(out, &replacement, 8);
        target = wrappers[args - 4];
    }
    const int64_t rel = (int64_t)(target - ((uintptr_t)out + 5));
    if (rel >= INT32_MIN && rel <= INT32_MAX) {
        const int32_t near_rel = (int32_t)rel;
        *out++ = 0xE9;
        (void)put(out, &near_rel, 4);
        return true;
    }
    out = put(out, jmp_slot, 6);
    (void)put(out, &target, 8);
    return true;
}

#elif MI_ARCH_X86

bool mi_island_forward(uint8_t *slot, unsigned args, const void *ctx, uintptr_t replacement) {
    static const uint8_t head[] = {0x55, 0x89, 0xE5, 0x68};
    static const uint8_t tail[] = {0xFF, 0xD0, 0xC9, 0xC3};
    if (args > 6)
        return false;
    uint8_t *out = put(slot, head, sizeof(head));
    out = put(out, &ctx, 4);
    for (unsigned i = args; i > 0; i--) {
        const uint8_t push[] = {0xFF, 0x75, (uint8_t)(4 + 4 * i)};
        out = put(out, push, sizeof(push));
    }
    *out++ = 0xB8;
    out = put(out, &replacement, 4);
    (void)put(out, tail, sizeof(tail));
    return true;
}

#else

bool mi_island_forward(uint8_t *slot, unsigned args, const void *ctx, uintptr_t replacement) {
    if (args > 7)
        return false;
    // Three words of code and one of padding, then the two literals.
    const uint32_t code[4] = {
        0x58000000u | (4u << 5) | args, // ldr x<args>, [pc + 16]
        0x58000000u | (5u << 5) | 16u,  // ldr x16, [pc + 20]
        0xD61F0000u | (16u << 5),       // br x16
        0xD4200000u,                    // brk
    };
    uint8_t *out = put(slot, code, sizeof(code));
    out = put(out, &ctx, 8);
    (void)put(out, &replacement, 8);
    return true;
}

#endif

void mi_island_goto(uint8_t *slot, uintptr_t target) {
#if MI_ARCH_X64
    static const uint8_t jmp_next[6] = {0xFF, 0x25, 0, 0, 0, 0};
    (void)put(put(slot, jmp_next, 6), &target, 8);
#elif MI_ARCH_X86
    const uint32_t rel = (uint32_t)(target - ((uintptr_t)slot + 5));
    slot[0] = 0xE9;
    (void)put(slot + 1, &rel, 4);
#else
    const uint32_t code[2] = {0x58000000u | (2u << 5) | 16u,
                              0xD61F0000u | (16u << 5)}; // ldr x16, [pc + 8]; br x16
    (void)put(put(slot, code, sizeof(code)), &target, 8);
#endif
}

bool mi_island_jump(uint8_t *out, const uint8_t *entry, const uint8_t *slot) {
#if MI_ARCH_ARM64
    const int64_t rel = (int64_t)((uintptr_t)slot - (uintptr_t)entry);
    if (rel < -(int64_t)(128 * MI_MiB) || rel >= (int64_t)(128 * MI_MiB) || (rel & 3) != 0)
        return false;
    const uint32_t word = 0x14000000u | ((uint32_t)(rel >> 2) & 0x03FFFFFFu);
    memcpy(out, &word, 4);
#else
    const intptr_t rel = (intptr_t)((uintptr_t)slot - ((uintptr_t)entry + 5));
#    if MI_ARCH_X64
    if (rel < INT32_MIN || rel > INT32_MAX)
        return false;
#    endif
    const int32_t near_rel = (int32_t)rel;
    out[0] = 0xE9;
    memcpy(out + 1, &near_rel, 4);
#endif
    return true;
}
