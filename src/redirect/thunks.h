// Import thunks: code compiled into this DLL that a table entry can point at, so that the middle
// rung of the ladder needs no memory that was ever writable and executable. A thunk adds the
// context of its CRT behind the caller's arguments and jumps to the replacement; in which way, its
// slot says, and the slot is data.
//
//   code, read-only                     slot, data, read-only except while it is written
//   thunk i:  lea r11, slot[i]          { ctx          what the replacement gets
//             jmp [slot[i].dispatch]      replacement  of the allocator, or a shim
//                                         original     the CRT's own function
//   pass:     jmp [r11.original]          dispatch }   pass, or give with 1 to 7 arguments
//   give 1:   mov rdx, [r11.ctx]
//             jmp [r11.replacement]
//
// Switching a function over, or back, is one aligned store of `dispatch`. Threads may be anywhere
// in the thunk: before the store they reach the original, after it the replacement; nobody has to
// be stopped. Slots are handed out and written under the loader lock; thunks run on any thread.
#ifndef MI_REDIRECT_THUNKS_H
#define MI_REDIRECT_THUNKS_H

#include "base/base.h"

enum {
    MI_THUNK_SETS = 16,       // CRTs that can be on the rung "tables" at a time
    MI_THUNK_SET_COUNT = 96,  // functions of one CRT, each address once
    MI_THUNK_SET_NONE = 0xFF, // no set
};

// A set for one CRT, MI_THUNK_SET_NONE = all are taken. It is kept until mi_thunks_return.
uint8_t mi_thunks_take(void);
void mi_thunks_return(uint8_t set);

// Fills slot i of the set, passing through to the original. false = the function has more arguments
// than a thunk can hand on, or the slots cannot be made writable.
bool mi_thunks_fill(uint8_t set, uint32_t i, unsigned args, void *ctx, uintptr_t replacement,
                    uintptr_t original);
// From now on slot i goes to the replacement (of a function with so many arguments), or to the
// original.
bool mi_thunks_switch(uint8_t set, uint32_t i, unsigned args, bool is_on);

// The address that tables get.
uintptr_t mi_thunks_address(uint8_t set, uint32_t i);
// Which thunk lies at an address? false = none.
bool mi_thunks_of(uintptr_t address, uint8_t *set, uint32_t *i);

#endif
