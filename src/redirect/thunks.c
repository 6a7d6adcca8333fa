#include "redirect/thunks.h"
#include "base/atomic.h"
#include "redirect/faults.h"
#include "redirect/nt.h"

enum { COUNT = MI_THUNK_SETS * MI_THUNK_SET_COUNT, THUNK_BYTES = 16, ARGS_MAX = 6 };

// Known to the assembly below: four pointers, in this order.
typedef struct mi_thunk_slot_s {
    void *ctx;
    uintptr_t replacement;
    uintptr_t original;
    _Atomic(uintptr_t) dispatch;
} mi_thunk_slot_t;
static_assert(sizeof(mi_thunk_slot_t) == 4 * sizeof(void *), "the assembly knows the layout");
static_assert(COUNT == 1536, "the assembly makes as many thunks");

// Whole pages of its own, which are writable only while a slot is written.
typedef union mi_thunk_page_s {
    mi_thunk_slot_t slot[COUNT];
    uint8_t page[COUNT * 4 * sizeof(void *)];
} mi_thunk_page_t;
static_assert(sizeof(mi_thunk_page_t) % 4096 == 0, "shares no page with other data");
__attribute__((aligned(4096))) mi_thunk_page_t mi_thunk_slots;

void mi_thunk_code(void);
void mi_thunk_pass(void);
void mi_thunk_give1(void);
void mi_thunk_give2(void);
void mi_thunk_give3(void);
void mi_thunk_give4(void);
void mi_thunk_give5(void);
void mi_thunk_give6(void);

#if MI_ARCH_X64

// Up to three arguments: the context goes into the next register. Four and more: onto the stack, in
// a frame with unwind data, since a new-handler may throw through it.
__asm__(".text\n"
        ".p2align 4\n"
        ".globl mi_thunk_code\n"
        "mi_thunk_code:\n"
        ".set thunk_at, 0\n"
        ".rept 1536\n"
        "    .p2align 4, 0xCC\n"
        "    leaq mi_thunk_slots+thunk_at(%rip), %r11\n"
        "    jmpq *mi_thunk_slots+thunk_at+24(%rip)\n"
        ".set thunk_at, thunk_at + 32\n"
        ".endr\n"
        ".macro give n, reg\n"
        "    .p2align 4, 0xCC\n"
        "    .globl mi_thunk_give\\n\n"
        "mi_thunk_give\\n:\n"
        "    movq (%r11), %\\reg\n"
        "    jmpq *8(%r11)\n"
        ".endm\n"
        "    .p2align 4, 0xCC\n"
        "    .globl mi_thunk_pass\n"
        "mi_thunk_pass:\n"
        "    jmpq *16(%r11)\n"
        "give 1, rdx\n"
        "give 2, r8\n"
        "give 3, r9\n"
        // \from..: where the 5th and 6th argument lie behind the frame of 0x48 bytes, the return
        // address and the home space; \ctx: where the context belongs.
        ".macro give_stack n, ctx\n"
        "    .p2align 4, 0xCC\n"
        "    .globl mi_thunk_give\\n\n"
        "    .def mi_thunk_give\\n; .scl 2; .type 32; .endef\n"
        "    .seh_proc mi_thunk_give\\n\n"
        "mi_thunk_give\\n:\n"
        "    subq $0x48, %rsp\n"
        "    .seh_stackalloc 0x48\n"
        "    .seh_endprologue\n"
        "    movq (%r11), %r10\n"
        "    movq %r10, \\ctx(%rsp)\n"
        "    .if \\n > 4\n"
        "    movq 0x70(%rsp), %r10\n"
        "    movq %r10, 0x20(%rsp)\n"
        "    .endif\n"
        "    .if \\n > 5\n"
        "    movq 0x78(%rsp), %r10\n"
        "    movq %r10, 0x28(%rsp)\n"
        "    .endif\n"
        "    callq *8(%r11)\n"
        "    addq $0x48, %rsp\n"
        "    retq\n"
        "    .seh_endproc\n"
        ".endm\n"
        "give_stack 4, 0x20\n"
        "give_stack 5, 0x28\n"
        "give_stack 6, 0x30\n");

#elif MI_ARCH_X86

// Symbols have an underscore here. The arguments are pushed again, the context before them.
__asm__(".text\n"
        ".p2align 4\n"
        ".globl _mi_thunk_code\n"
        "_mi_thunk_code:\n"
        ".set thunk_at, 0\n"
        ".rept 1536\n"
        "    .p2align 4, 0xCC\n"
        "    movl $_mi_thunk_slots+thunk_at, %eax\n"
        "    jmpl *_mi_thunk_slots+thunk_at+12\n"
        ".set thunk_at, thunk_at + 16\n"
        ".endr\n"
        "    .p2align 4, 0xCC\n"
        "    .globl _mi_thunk_pass\n"
        "_mi_thunk_pass:\n"
        "    jmpl *8(%eax)\n"
        ".macro give n\n"
        "    .p2align 4, 0xCC\n"
        "    .globl _mi_thunk_give\\n\n"
        "_mi_thunk_give\\n:\n"
        "    pushl %ebp\n"
        "    movl %esp, %ebp\n"
        "    pushl (%eax)\n"
        "    .if \\n > 5\n"
        "    pushl 28(%ebp)\n"
        "    .endif\n"
        "    .if \\n > 4\n"
        "    pushl 24(%ebp)\n"
        "    .endif\n"
        "    .if \\n > 3\n"
        "    pushl 20(%ebp)\n"
        "    .endif\n"
        "    .if \\n > 2\n"
        "    pushl 16(%ebp)\n"
        "    .endif\n"
        "    .if \\n > 1\n"
        "    pushl 12(%ebp)\n"
        "    .endif\n"
        "    pushl 8(%ebp)\n"
        "    calll *4(%eax)\n"
        "    leave\n"
        "    retl\n"
        ".endm\n"
        "give 1\n"
        "give 2\n"
        "give 3\n"
        "give 4\n"
        "give 5\n"
        "give 6\n");

#else

__asm__(".text\n"
        ".p2align 4\n"
        ".globl mi_thunk_code\n"
        "mi_thunk_code:\n"
        ".set thunk_at, 0\n"
        ".rept 1536\n"
        "    adrp x16, mi_thunk_slots+thunk_at\n"
        "    add x16, x16, :lo12:mi_thunk_slots+thunk_at\n"
        "    ldr x17, [x16, #24]\n"
        "    br x17\n"
        ".set thunk_at, thunk_at + 32\n"
        ".endr\n"
        ".globl mi_thunk_pass\n"
        "mi_thunk_pass:\n"
        "    ldr x17, [x16, #16]\n"
        "    br x17\n"
        ".macro give n\n"
        ".globl mi_thunk_give\\n\n"
        "mi_thunk_give\\n:\n"
        "    ldr x\\n, [x16]\n"
        "    ldr x17, [x16, #8]\n"
        "    br x17\n"
        ".endm\n"
        "give 1\n"
        "give 2\n"
        "give 3\n"
        "give 4\n"
        "give 5\n"
        "give 6\n");

#endif

static uint32_t sets_taken; // a bit each; loader lock

uint8_t mi_thunks_take(void) {
    if (mi_fault("table-thunks"))
        return MI_THUNK_SET_NONE;
    for (uint8_t set = 0; set < MI_THUNK_SETS; set++)
        if ((sets_taken & (1u << set)) == 0) {
            sets_taken |= 1u << set;
            return set;
        }
    return MI_THUNK_SET_NONE;
}

void mi_thunks_return(uint8_t set) {
    if (set != MI_THUNK_SET_NONE)
        sets_taken &= ~(1u << set);
}

static mi_thunk_slot_t *slot_of(uint8_t set, uint32_t i) {
    MI_ASSERT(set < MI_THUNK_SETS);
    MI_ASSERT(i < MI_THUNK_SET_COUNT);
    return &mi_thunk_slots.slot[(uint32_t)set * MI_THUNK_SET_COUNT + i];
}

static bool protect(mi_thunk_slot_t *slot, DWORD rights) {
    DWORD before;
    return VirtualProtect(slot, sizeof(*slot), rights, &before) != 0;
}

bool mi_thunks_fill(uint8_t set, uint32_t i, unsigned args, void *ctx, uintptr_t replacement,
                    uintptr_t original) {
    mi_thunk_slot_t *slot = slot_of(set, i);
    if (args == 0 || args > ARGS_MAX || !protect(slot, PAGE_READWRITE))
        return false;
    slot->ctx = ctx;
    slot->replacement = replacement;
    slot->original = original;
    mi_store_release(&slot->dispatch, (uintptr_t)mi_thunk_pass);
    return protect(slot, PAGE_READONLY);
}

static uintptr_t give(unsigned args) {
    static void (*const gives[ARGS_MAX])(void) = {mi_thunk_give1, mi_thunk_give2, mi_thunk_give3,
                                                  mi_thunk_give4, mi_thunk_give5, mi_thunk_give6};
    return (uintptr_t)gives[args - 1];
}

bool mi_thunks_switch(uint8_t set, uint32_t i, unsigned args, bool is_on) {
    mi_thunk_slot_t *slot = slot_of(set, i);
    if (!protect(slot, PAGE_READWRITE))
        return false;
    // Release: the other fields were written by mi_thunks_fill before. The thunk's jump through
    // dispatch is the acquiring side; it reads them only behind that jump, through its address.
    mi_store_release(&slot->dispatch, is_on ? give(args) : (uintptr_t)mi_thunk_pass);
    return protect(slot, PAGE_READONLY);
}

uintptr_t mi_thunks_address(uint8_t set, uint32_t i) {
    return (uintptr_t)mi_thunk_code +
           ((uintptr_t)set * MI_THUNK_SET_COUNT + i) * (uintptr_t)THUNK_BYTES;
}

bool mi_thunks_of(uintptr_t address, uint8_t *set, uint32_t *i) {
    const uintptr_t at = address - (uintptr_t)mi_thunk_code; // wraps below the first
    if (at >= (uintptr_t)COUNT * THUNK_BYTES || at % THUNK_BYTES != 0)
        return false;
    *set = (uint8_t)(at / THUNK_BYTES / MI_THUNK_SET_COUNT);
    *i = (uint32_t)(at / THUNK_BYTES % MI_THUNK_SET_COUNT);
    return true;
}
