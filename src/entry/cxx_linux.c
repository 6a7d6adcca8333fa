// What the entry layer needs of the program's C++ runtime on Linux, without being linked with one:
// its new-handler, std::bad_alloc, and how an exception is stopped that a new-handler throws.
//
// The runtime may come late and for its user only (dlopen without RTLD_GLOBAL, as plugins of C
// programs do): so its functions are looked for in three places when they are needed.
//
// operator new(nothrow) gives NULL when the handler throws. C has no catch; but what a catch is
// made of is published (Itanium C++ ABI, level I): a frame with a personality function, which says
// "handled here" and where to go on. mi_cxx_call is such a frame. Its personality needs no table,
// since every call inside it is caught.
//
//   mi_new_nothrow -> mi_cxx_call -> the handler -> throw
//                         |  ^                        |
//                         |  '---- unwinder <---------'  asks mi_cxx_personality, then jumps to
//                         |                              mi_cxx_landing
//                         '-> mi_cxx_caught(exception), 0
#include "entry/cxx.h"

#include "base/base.h"

#include <dlfcn.h>
#include <stdint.h>
#include <unwind.h>

typedef void (*new_handler_t)(void);
typedef new_handler_t (*get_new_handler_t)(void);
typedef void (*plain_t)(void);

// There when the program is linked with a C++ runtime; else they are looked for.
__attribute__((weak)) new_handler_t _ZSt15get_new_handlerv(void);
__attribute__((weak)) void _ZSt17__throw_bad_allocv(void);
__attribute__((weak)) void *__cxa_begin_catch(void *exception);
__attribute__((weak)) void __cxa_end_catch(void);
#pragma weak _Unwind_SetGR
#pragma weak _Unwind_SetIP
#pragma weak _Unwind_DeleteException

// The runtimes of GNU and of LLVM. None is loaded by the search.
static const char *const runtimes[] = {"libstdc++.so.6", "libgcc_s.so.1", "libc++abi.so.1",
                                       "libc++.so.1", "libunwind.so.1"};

static plain_t cxx_find(plain_t linked, const char *name) {
    if (linked != NULL)
        return linked;
    plain_t f = (plain_t)dlsym(RTLD_DEFAULT, name);
    for (size_t i = 0; f == NULL && i < sizeof(runtimes) / sizeof(runtimes[0]); i++) {
        void *const runtime = dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD);
        if (runtime == NULL)
            continue;
        f = (plain_t)dlsym(runtime, name);
        dlclose(runtime); // as before: whoever loaded it holds it
    }
    return f;
}
#define CXX_FIND(type, name) ((type)cxx_find((plain_t)&name, #name))

bool mi_cxx_handler_run(bool is_caught) {
    const get_new_handler_t get = CXX_FIND(get_new_handler_t, _ZSt15get_new_handlerv);
    const new_handler_t handler = (get == NULL ? NULL : get());
    if (handler == NULL)
        return false;
    if (is_caught)
        return mi_cxx_call(handler);
    handler();
    return true;
}

void mi_cxx_throw_bad_alloc(void) {
    const plain_t throw_bad_alloc = CXX_FIND(plain_t, _ZSt17__throw_bad_allocv);
    if (throw_bad_alloc != NULL)
        throw_bad_alloc();
}

#if MI_ARCH_X64 || MI_ARCH_ARM64
typedef void (*set_gr_t)(struct _Unwind_Context *context, int index, _Unwind_Word value);
typedef void (*set_ip_t)(struct _Unwind_Context *context, _Unwind_Ptr value);

extern MI_HIDDEN char mi_cxx_landing[];
MI_HIDDEN _Unwind_Reason_Code mi_cxx_personality(int version, _Unwind_Action actions,
                                                 _Unwind_Exception_Class exception_class,
                                                 struct _Unwind_Exception *exception,
                                                 struct _Unwind_Context *context);
MI_HIDDEN void mi_cxx_caught(struct _Unwind_Exception *exception);

// A thread that is cancelled or ended is unwound too, and nobody may stop that.
_Unwind_Reason_Code mi_cxx_personality(int version, _Unwind_Action actions,
                                       _Unwind_Exception_Class exception_class,
                                       struct _Unwind_Exception *exception,
                                       struct _Unwind_Context *context) {
    (void)exception_class;
    const set_gr_t set_gr = CXX_FIND(set_gr_t, _Unwind_SetGR);
    const set_ip_t set_ip = CXX_FIND(set_ip_t, _Unwind_SetIP);
    if (version != 1 || (actions & _UA_FORCE_UNWIND) != 0 || set_gr == NULL || set_ip == NULL)
        return _URC_CONTINUE_UNWIND;
    if ((actions & _UA_SEARCH_PHASE) != 0)
        return _URC_HANDLER_FOUND;
    set_gr(context, __builtin_eh_return_data_regno(0), (_Unwind_Word)(uintptr_t)exception);
    set_gr(context, __builtin_eh_return_data_regno(1), 0);
    set_ip(context, (_Unwind_Ptr)(uintptr_t)mi_cxx_landing);
    return _URC_INSTALL_CONTEXT;
}

// What an empty catch (...) does. Another language's exception without a C++ runtime is destroyed.
void mi_cxx_caught(struct _Unwind_Exception *exception) {
    void *(*const begin)(void *) = CXX_FIND(void *(*)(void *), __cxa_begin_catch);
    const plain_t end = CXX_FIND(plain_t, __cxa_end_catch);
    void (*const destroy)(struct _Unwind_Exception *) =
        CXX_FIND(void (*)(struct _Unwind_Exception *), _Unwind_DeleteException);
    if (begin != NULL && end != NULL) {
        (void)begin(exception);
        end();
    } else if (destroy != NULL) {
        destroy(exception);
    }
}
#endif

// bool mi_cxx_call(void (*f)(void)). 0x1b: the personality's address is relative, four bytes.
#if MI_ARCH_X64
__asm__(".text\n"
        ".globl mi_cxx_call, mi_cxx_landing\n"
        ".hidden mi_cxx_call, mi_cxx_landing\n"
        ".type mi_cxx_call, @function\n"
        ".p2align 4\n"
        "mi_cxx_call:\n"
        ".cfi_startproc\n"
        ".cfi_personality 0x1b, mi_cxx_personality\n"
        "    endbr64\n"
        "    subq $8, %rsp\n"
        ".cfi_def_cfa_offset 16\n"
        "    call *%rdi\n"
        "    movl $1, %eax\n"
        "    jmp 1f\n"
        "mi_cxx_landing:\n"
        "    endbr64\n"
        "    movq %rax, %rdi\n"
        "    call mi_cxx_caught\n"
        "    xorl %eax, %eax\n"
        "1:  addq $8, %rsp\n"
        ".cfi_def_cfa_offset 8\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size mi_cxx_call, . - mi_cxx_call\n");
#elif MI_ARCH_ARM64
__asm__(".text\n"
        ".globl mi_cxx_call, mi_cxx_landing\n"
        ".hidden mi_cxx_call, mi_cxx_landing\n"
        ".type mi_cxx_call, %function\n"
        ".p2align 4\n"
        "mi_cxx_call:\n"
        ".cfi_startproc\n"
        ".cfi_personality 0x1b, mi_cxx_personality\n"
        "    hint 34\n" // bti c
        "    stp x29, x30, [sp, #-16]!\n"
        ".cfi_def_cfa_offset 16\n"
        ".cfi_offset 29, -16\n"
        ".cfi_offset 30, -8\n"
        "    mov x29, sp\n"
        "    blr x0\n"
        "    mov w0, #1\n"
        "    b 1f\n"
        "mi_cxx_landing:\n"
        "    hint 36\n" // bti j
        "    bl mi_cxx_caught\n"
        "    mov w0, #0\n"
        "1:  ldp x29, x30, [sp], #16\n"
        ".cfi_def_cfa_offset 0\n"
        ".cfi_restore 29\n"
        ".cfi_restore 30\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size mi_cxx_call, . - mi_cxx_call\n");
#else
// No frame of this kind was written for the processor: the exception goes on, to the caller's
// noexcept, which ends the program.
bool mi_cxx_call(void (*f)(void)) {
    f();
    return true;
}
#endif
