// Entry shapes of real x86 CRTs, over impl.c:
//   SYNTH_UCRT   hot-patch form with padding before; empty frames that jump to unexported functions
//   SYNTH_MSVCR  plain frames without padding, operators of two bytes
//   SYNTH_SEH    push imm; push imm; call
    .intel_syntax noprefix
    .text

.macro name n
    .globl \n
\n:
.endm
.macro pad
#ifdef SYNTH_UCRT
    .byte 0xCC, 0xCC, 0xCC, 0xCC, 0xCC
#endif
.endm
.macro hot n
    pad
    name \n
    .byte 0x8B, 0xFF, 0x55, 0x8B, 0xEC // mov edi, edi; push ebp; mov ebp, esp
.endm
// An empty frame: the arguments go on untouched.
.macro empty_frame n, target
    hot \n
    pop ebp
    .byte 0xE9
    .long \target - . - 4
.endm
.macro hot_body n, target
    hot \n
    push esi
    mov esi, dword ptr [ebp+8]
    cmp esi, -0x20
    pop esi
    pop ebp
    .byte 0xE9
    .long \target - . - 4
.endm
.macro plain n, target
    name \n
    push ebp
    mov ebp, esp
    cmp dword ptr [ebp+8], 0
    .byte 0x74, 0x00 // je
    pop ebp
    .byte 0xE9
    .long \target - . - 4
.endm
.macro seh n, target
    name \n
    push 0x10
    .byte 0x68 // push imm32
    .long 0x12345678
    call seh_prologue
    add esp, 8
    .byte 0xE9
    .long \target - . - 4
.endm

seh_prologue:
    ret

#if defined(SYNTH_UCRT)
    empty_frame _malloc, __malloc_base
    hot_body __malloc_base, _impl_malloc
    empty_frame _calloc, __calloc_base
    hot_body __calloc_base, _impl_calloc
    empty_frame _realloc, __realloc_base
    hot_body __realloc_base, _impl_realloc
    empty_frame _free, __free_base
    pad
    name __free_base
    .byte 0x8B, 0xFF, 0x55, 0x8B, 0xEC
    cmp dword ptr [ebp+8], 0
    .byte 0x74, 2f - . - 1
    nop
1:  pop ebp // at +12
    jmp _impl_free
2:  jmp 1b
    empty_frame __msize, __msize_base
    hot_body __msize_base, _impl_msize
    empty_frame __recalloc, __recalloc_base
    hot_body __recalloc_base, _impl_recalloc
    empty_frame __expand, __expand_base
    hot_body __expand_base, _impl_expand
    hot_body __aligned_free, _impl_aligned_free
    hot_body __aligned_msize, _impl_aligned_msize
    hot_body __aligned_offset_malloc, _impl_aligned_offset_malloc
    hot_body __aligned_offset_realloc, _impl_aligned_offset_realloc
    hot_body __aligned_offset_recalloc, _impl_aligned_offset_recalloc
#define FRAME hot
#endif
#if defined(SYNTH_MSVCR)
    plain _malloc, _impl_malloc
    plain _calloc, _impl_calloc
    plain _realloc, _impl_realloc
    plain _free, _impl_free
    plain __msize, _impl_msize
    plain __recalloc, _impl_recalloc
    plain __expand, _impl_expand
    plain __aligned_free, _impl_aligned_free
    plain __aligned_msize, _impl_aligned_msize
    plain __aligned_offset_malloc, _impl_aligned_offset_malloc
    plain __aligned_offset_realloc, _impl_aligned_offset_realloc
    plain __aligned_offset_recalloc, _impl_aligned_offset_recalloc
    .globl "??2@YAPAXI@Z", "??_U@YAPAXI@Z", "??3@YAXPAX@Z", "??_V@YAXPAX@Z"
"??_U@YAPAXI@Z":
"??2@YAPAXI@Z":
    push ebp
    mov ebp, esp
    pop ebp
    jmp _malloc
"??_V@YAXPAX@Z":
    .byte 0xEB, 0x00
"??3@YAXPAX@Z":
    .byte 0xE9
    .long _free - . - 4
#define FRAME plain_begin
.macro plain_begin n
    name \n
    push ebp
    mov ebp, esp
.endm
#endif
#if defined(SYNTH_SEH)
    seh _malloc, _impl_malloc
    seh _calloc, _impl_calloc
    seh _realloc, _impl_realloc
    seh _free, _impl_free
    seh __msize, _impl_msize
    seh __recalloc, _impl_recalloc
    seh __expand, _impl_expand
    seh __aligned_free, _impl_aligned_free
    seh __aligned_msize, _impl_aligned_msize
    seh __aligned_offset_malloc, _impl_aligned_offset_malloc
    seh __aligned_offset_realloc, _impl_aligned_offset_realloc
    seh __aligned_offset_recalloc, _impl_aligned_offset_recalloc
#define FRAME hot
#endif
#ifdef FRAME // the debug CRT has its entries in debug_heap.c
    FRAME __aligned_malloc
    push 0
    push dword ptr [ebp+12]
    push dword ptr [ebp+8]
    call __aligned_offset_malloc
    add esp, 12
    pop ebp
    ret
    FRAME __aligned_realloc
    push 0
    push dword ptr [ebp+16]
    push dword ptr [ebp+12]
    push dword ptr [ebp+8]
    call __aligned_offset_realloc
    add esp, 16
    pop ebp
    ret
    FRAME __aligned_recalloc
    push 0
    push dword ptr [ebp+20]
    push dword ptr [ebp+16]
    push dword ptr [ebp+12]
    push dword ptr [ebp+8]
    call __aligned_offset_recalloc
    add esp, 20
    pop ebp
    ret
#endif
