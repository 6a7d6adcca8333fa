// Entry shapes of real x64 CRTs, over impl.c. One variant per build:
//   SYNTH_UCRT_OLD   bodies of their own, _free_base jumps back to its +9, _o_ names through a pointer
//   SYNTH_UCRT_MID   bare jumps, free with a 12-byte dummy, _malloc_base split into chained unwind entries
//   SYNTH_UCRT_HASH  the same with 8 bytes of control-flow hash before each function
//   SYNTH_MSVCRT     jcc at +3, operators that share code, _dbg aliases
//   SYNTH_DEBUG      spills first, free hands over to _free_dbg
// SYNTH_HAZARD=n spoils one function so that the whole CRT must be refused.
    .intel_syntax noprefix
    .text
#ifndef SYNTH_HAZARD
#define SYNTH_HAZARD 0
#endif

.macro func name
    .globl \name
    .def \name; .scl 2; .type 32; .endef
    .seh_proc \name
\name:
.endm
.macro endfunc
    .seh_endproc
.endm
// A leaf has no unwind entry.
.macro leaf name
    .globl \name
\name:
.endm
.macro hash
#ifdef SYNTH_UCRT_HASH
    .byte 0x70, 0x0b, 0xd5, 0x9d, 0x2c, 0x68, 0xf3, 0x81
#endif
.endm
// 5 bytes, 3 of padding: 8 to the next function, or to its hash.
.macro bare_jump name, target
    hash
    leaf \name
    .byte 0xE9
    .long \target - . - 4
    .byte 0xCC, 0xCC, 0xCC
.endm
.macro frame name, impl
    hash
    func \name
    mov qword ptr [rsp+8], rbx
    push rdi
    .seh_pushreg rdi
    sub rsp, 0x40
    .seh_stackalloc 0x40
    .seh_endprologue
    mov rax, qword ptr [rsp+0x70] // a fifth argument, if there is one
    mov qword ptr [rsp+0x20], rax
    call \impl
    add rsp, 0x40
    pop rdi
    mov rbx, qword ptr [rsp+8]
    ret
    endfunc
.endm
.macro push_frame name, impl
    func \name
    push rbx
    .seh_pushreg rbx
    sub rsp, 0x20
    .seh_stackalloc 0x20
    .seh_endprologue
    mov rbx, rcx
    cmp rcx, -0x20
    .byte 0x0F, 0x87 // ja rel32
    .long 9f - . - 4
    call \impl
    add rsp, 0x20
    pop rbx
    ret
9:  call \impl
    add rsp, 0x20
    pop rbx
    ret
    endfunc
    .p2align 4, 0xCC
.endm
.macro via_pointer name, target
    func \name
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    mov rax, qword ptr [rip + pointer_\name]
    call rax
    add rsp, 0x28
    ret
    endfunc
    .p2align 4, 0xCC
    .pushsection .rdata, "dr"
    .p2align 3
pointer_\name: .quad \target
    .popsection
.endm
.macro small_call name, impl
    func \name
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    test rcx, rcx
    .byte 0x74, 0x05 // je
    call \impl
    add rsp, 0x28
    ret
    endfunc
    .p2align 4, 0xCC
.endm

#if defined(SYNTH_UCRT_OLD)
    .p2align 4
    push_frame malloc, impl_malloc
    push_frame _malloc_base, impl_malloc
    push_frame calloc, impl_calloc
    push_frame _calloc_base, impl_calloc
    frame realloc, impl_realloc
    frame _realloc_base, impl_realloc
    small_call free, impl_free
    .globl _free_base
    func _free_base
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    test rcx, rcx
    .byte 0x74, 2f - . - 1 // je, at +7
1:  call impl_free         // at +9
    add rsp, 0x28
    ret
2:  xor eax, eax
    jmp 1b
    endfunc
    .p2align 4, 0xCC
    frame _msize, impl_msize
    bare_jump _recalloc, _recalloc_base
    frame _recalloc_base, impl_recalloc
    .p2align 4, 0xCC
    bare_jump _expand, _expand_base
    frame _expand_base, impl_expand
    .p2align 4, 0xCC
    leaf _aligned_malloc
    xor r8d, r8d
    .byte 0xE9
    .long _aligned_offset_malloc - . - 4
    leaf _aligned_realloc
    xor r9d, r9d
    .byte 0xE9
    .long _aligned_offset_realloc - . - 4
    small_call _aligned_free, impl_aligned_free
    frame _aligned_msize, impl_aligned_msize
    bare_jump _aligned_offset_malloc, _aligned_offset_malloc_base
    frame _aligned_offset_malloc_base, impl_aligned_offset_malloc
    .p2align 4, 0xCC
    bare_jump _aligned_offset_realloc, _aligned_offset_realloc_base
    frame _aligned_offset_realloc_base, impl_aligned_offset_realloc
    frame _aligned_offset_recalloc, impl_aligned_offset_recalloc
    func _aligned_recalloc
    sub rsp, 0x38
    .seh_stackalloc 0x38
    .seh_endprologue
    and qword ptr [rsp+0x20], 0
    call _aligned_offset_recalloc
    add rsp, 0x38
    ret
    endfunc
    .p2align 4, 0xCC
    via_pointer _o_malloc, malloc
    via_pointer _o_calloc, calloc
    via_pointer _o_realloc, realloc
    via_pointer _o_free, free
#endif

#if defined(SYNTH_UCRT_MID) || defined(SYNTH_UCRT_HASH)
    .p2align 4
    bare_jump malloc, _malloc_base
    hash
#if SYNTH_HAZARD == 9 // too short, but a function that only makes blocks: left alone without harm
    leaf _malloc_base
    ret
    func next_function
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    call impl_malloc
    add rsp, 0x28
    ret
    endfunc
#else
    func _malloc_base // 14 bytes, then a chained part
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    cmp rcx, -0x20
    .byte 0x0F, 0x87 // ja rel32, at +8
    .long malloc_far - . - 4
    endfunc
    func malloc_near
    .seh_stackalloc 0x28
    .seh_endprologue
    call impl_malloc
    add rsp, 0x28
    ret
    endfunc
malloc_far:
    jmp malloc_near
#endif
    .p2align 4, 0xCC
    bare_jump calloc, _calloc_base
    hash
    push_frame _calloc_base, impl_calloc
    bare_jump realloc, _realloc_base
    frame _realloc_base, impl_realloc
    .p2align 4, 0xCC
    hash
#if SYNTH_HAZARD == 1 // jumps back into its own first bytes, from a part split off
    leaf free
    push rax
    nop
free_again: // at +2
    nop
    nop
    nop
    test rcx, rcx
    .byte 0x0F, 0x84 // je rel32
    .long free_cold - . - 4
    pop rax
    jmp _free_base
#elif SYNTH_HAZARD == 2 // no room: returns at +1, another function follows
    leaf free
    ret
    func next_function
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    call impl_free
    add rsp, 0x28
    ret
    endfunc
#elif SYNTH_HAZARD == 3 // no such instruction in 64-bit code
    leaf free
    .byte 0x06, 0x90, 0x90, 0x90, 0x90
    jmp _free_base
#elif SYNTH_HAZARD == 4 // returns into the first bytes
    leaf free
    .byte 0xFF, 0xD0 // call rax
    nop
    nop
    nop
    jmp _free_base
#elif SYNTH_HAZARD == 5 // an export inside the first bytes
    leaf free
    push rax
    pop rax
    .globl _initterm_inside
_initterm_inside:
    nop
    nop
    nop
    jmp _free_base
#else
    leaf free
    mov dword ptr [rsp+8], 0
    mov eax, dword ptr [rsp+8]
    .byte 0xE9
    .long _free_base - . - 4
#endif
    .p2align 4, 0xCC
#if SYNTH_HAZARD == 1
free_cold:
    xor eax, eax
    jmp free_again
    .p2align 4, 0xCC
#endif
    hash
    small_call _free_base, impl_free
    bare_jump _msize, _msize_base
    hash
    small_call _msize_base, impl_msize
    bare_jump _recalloc, _recalloc_base
    frame _recalloc_base, impl_recalloc
    .p2align 4, 0xCC
    bare_jump _expand, _expand_base
    frame _expand_base, impl_expand
    .p2align 4, 0xCC
    func _aligned_malloc
    mov qword ptr [rsp+8], rbx
    push rdi
    .seh_pushreg rdi
    sub rsp, 0x20
    .seh_stackalloc 0x20
    .seh_endprologue
    xor r8d, r8d
    call impl_aligned_offset_malloc
    add rsp, 0x20
    pop rdi
    ret
    endfunc
    .p2align 4, 0xCC
    bare_jump _aligned_free, aligned_free_base
    frame aligned_free_base, impl_aligned_free
    .p2align 4, 0xCC
    bare_jump _aligned_msize, aligned_msize_base
    frame aligned_msize_base, impl_aligned_msize
    .p2align 4, 0xCC
    func _aligned_realloc
    mov qword ptr [rsp+8], rbx
    push rbp
    .seh_pushreg rbp
    push rsi
    .seh_pushreg rsi
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    xor r9d, r9d
    call impl_aligned_offset_realloc
    add rsp, 0x28
    pop rsi
    pop rbp
    ret
    endfunc
    .p2align 4, 0xCC
    func _aligned_offset_malloc
    mov rax, rsp
    mov qword ptr [rax+8], rbx
    push rdi
    .seh_pushreg rdi
    sub rsp, 0x20
    .seh_stackalloc 0x20
    .seh_endprologue
    call impl_aligned_offset_malloc
    add rsp, 0x20
    pop rdi
    ret
    endfunc
    .p2align 4, 0xCC
    frame _aligned_offset_realloc, impl_aligned_offset_realloc
    frame _aligned_offset_recalloc, impl_aligned_offset_recalloc
    func _aligned_recalloc
    sub rsp, 0x38
    .seh_stackalloc 0x38
    .seh_endprologue
    and qword ptr [rsp+0x20], 0
    call _aligned_offset_recalloc
    add rsp, 0x38
    ret
    endfunc
    .p2align 4, 0xCC
    via_pointer _o_malloc, _malloc_base
    via_pointer _o_calloc, _calloc_base
    via_pointer _o_realloc, _realloc_base
    via_pointer _o_free, _free_base
#endif

#if defined(SYNTH_MSVCRT)
    .p2align 4
    frame malloc, impl_malloc
    .p2align 4, 0xCC
    frame realloc, impl_realloc
    .p2align 4, 0xCC
    func free
    test rcx, rcx
    .byte 0x74, 1f - . - 1 // je, at +3
    push rbx
    .seh_pushreg rbx
    sub rsp, 0x20
    .seh_stackalloc 0x20
    .seh_endprologue
    call impl_free
    add rsp, 0x20
    pop rbx
1:  ret
    endfunc
    .p2align 4, 0xCC
    func calloc
    push rbx
    .seh_pushreg rbx
    sub rsp, 0x40
    .seh_stackalloc 0x40
    .seh_endprologue
    and dword ptr [rsp+0x58], 0
    lea r8, [rsp+0x58]
    call impl_calloc
    add rsp, 0x40
    pop rbx
    ret
    endfunc
    .p2align 4, 0xCC
    func _msize
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    test rcx, rcx
    .byte 0x75, 0x05 // jne, at +7
    call impl_free
    call impl_msize
    add rsp, 0x28
    ret
    endfunc
    .p2align 4, 0xCC
    frame _expand, impl_expand
    .p2align 4, 0xCC
    .globl _aligned_malloc_dbg, _aligned_realloc_dbg
_aligned_malloc_dbg:
    leaf _aligned_malloc
    xor r8d, r8d
    .byte 0xE9
    .long _aligned_offset_malloc - . - 4
    .p2align 4, 0xCC
_aligned_realloc_dbg:
    leaf _aligned_realloc
    xor r9d, r9d
    .byte 0xE9
    .long _aligned_offset_realloc - . - 4
    .p2align 4, 0xCC
    small_call _aligned_free, impl_aligned_free
    frame _aligned_offset_malloc, impl_aligned_offset_malloc
    .p2align 4, 0xCC
    frame _aligned_offset_realloc, impl_aligned_offset_realloc
    .p2align 4, 0xCC
    .globl "??_U@YAPEAX_K@Z", "??3@YAXPEAX@Z", "??_V@YAXPEAX@Z"
    .globl "??2@YAPEAX_K@Z"
"??_U@YAPEAX_K@Z":
"??2@YAPEAX_K@Z":
    .byte 0x48, 0x8D, 0xA4, 0x24, 0, 0, 0, 0 // lea rsp, [rsp+0]
    jmp malloc
    .p2align 4, 0xCC
"??_V@YAXPEAX@Z":
    .byte 0xEB, 0x06 // jmp short, 2 bytes: not enough for a patch
    .byte 0xCC, 0xCC, 0xCC, 0xCC, 0xCC, 0xCC
"??3@YAXPEAX@Z":
    jmp free
    .p2align 4, 0xCC
#endif

#if defined(SYNTH_DEBUG)
.macro spill name, impl
    func \name
    mov qword ptr [rsp+0x18], r8
    mov qword ptr [rsp+0x10], rdx
    mov qword ptr [rsp+8], rcx
    sub rsp, 0x38
    .seh_stackalloc 0x38
    .seh_endprologue
    mov rax, qword ptr [rsp+0x60]
    mov qword ptr [rsp+0x20], rax
    call \impl
    add rsp, 0x38
    ret
    endfunc
    .p2align 4, 0xCC
.endm
    .p2align 4
    func malloc
    mov qword ptr [rsp+8], rcx
    sub rsp, 0x38
    .seh_stackalloc 0x38
    .seh_endprologue
    xor r9d, r9d
    xor r8d, r8d
    mov edx, 1
    mov rcx, qword ptr [rsp+0x40]
    call _malloc_dbg
    add rsp, 0x38
    ret
    endfunc
    .p2align 4, 0xCC
    spill _malloc_dbg, impl_malloc_dbg
    func free
    mov qword ptr [rsp+8], rcx
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    mov edx, 1
    mov rcx, qword ptr [rsp+0x30]
    call _free_dbg
    add rsp, 0x28
    ret
    endfunc
    .p2align 4, 0xCC
    spill _free_dbg, impl_free_dbg
    func _msize
    mov qword ptr [rsp+8], rcx
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    mov edx, 1
    mov rcx, qword ptr [rsp+0x30]
    call _msize_dbg
    add rsp, 0x28
    ret
    endfunc
    .p2align 4, 0xCC
#if SYNTH_HAZARD == 10 // its first instruction exists with an 8-bit displacement only: cannot be moved
    leaf _msize_dbg
    jrcxz 8f
    nop
    nop
    nop
8:  jmp impl_msize_dbg
    .p2align 4, 0xCC
#else
    spill _msize_dbg, impl_msize_dbg
#endif
    spill calloc, impl_calloc
    spill realloc, impl_realloc
    spill _recalloc, impl_recalloc
    spill _expand, impl_expand
    spill _aligned_free, impl_aligned_free
    spill _aligned_msize, impl_aligned_msize
    spill _aligned_offset_malloc, impl_aligned_offset_malloc
    spill _aligned_offset_realloc, impl_aligned_offset_realloc
    func _aligned_malloc
    mov qword ptr [rsp+8], rcx
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    xor r8d, r8d
    call impl_aligned_offset_malloc
    add rsp, 0x28
    ret
    endfunc
    .p2align 4, 0xCC
    func _aligned_realloc
    mov qword ptr [rsp+8], rcx
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    xor r9d, r9d
    call impl_aligned_offset_realloc
    add rsp, 0x28
    ret
    endfunc
    .p2align 4, 0xCC
    spill _CrtIsValidHeapPointer, impl_is_valid
    spill _malloc_base, impl_malloc
    spill _free_base, impl_free
#endif
