// Islands: little pieces of generated code near a CRT. A patched entry jumps to its island, the
// island adds the CRT's context as one more argument and jumps to the replacement, which may be
// anywhere. Also holds the moved first instructions of functions whose original is kept. Memory is
// written first and made executable afterwards, never both. Made under the loader lock; executed by
// any thread once sealed.
//
//   x64, up to 3 arguments          x64, 4 to 6 arguments             ARM64
//     mov  r<n>, ctx   (10 bytes)     mov  r10, ctx                     ldr x<n>, ctx
//     jmp  [rip+0]                    mov  rax, replacement             ldr x16, replacement
//     dq   replacement                jmp  [rip+0]                      br  x16
//                                     dq   wrapper for n arguments      dq  ctx, replacement
//   x86: push ebp; mov ebp, esp; push ctx; push [ebp+4+4n] ... push [ebp+8]; mov eax, replacement;
//   call eax;
//        leave; ret
#ifndef MI_REDIRECT_ISLAND_H
#define MI_REDIRECT_ISLAND_H

#include "base/base.h"

#define MI_ISLAND_BYTES 64 // one island, and one set of moved instructions

typedef struct mi_island_s {
    uint8_t *base; // NULL = none
    size_t bytes;  // reserved
    size_t used;
    bool is_sealed; // executable, no longer writable
} mi_island_t;

// Memory from which every byte in [low, low + bytes) can be reached by a near jump, and the
// reverse.
bool mi_island_open(mi_island_t *island, const uint8_t *low, size_t bytes, size_t count);
// The same, but above the range and less than 4 GiB above low: an export cell can name it.
bool mi_island_open_above(mi_island_t *island, const uint8_t *low, size_t bytes, size_t count);
bool mi_island_seal(mi_island_t *island);
void mi_island_close(mi_island_t *island);

// One slot of MI_ISLAND_BYTES, or NULL.
uint8_t *mi_island_slot(mi_island_t *island);
// Fills a slot: calls replacement with the arguments of the caller and ctx behind them. false = too
// many arguments.
bool mi_island_forward(uint8_t *slot, unsigned args, const void *ctx, uintptr_t replacement);
// Fills a slot: a jump to target, every register and argument as it was.
void mi_island_goto(uint8_t *slot, uintptr_t target);
// The jump from an entry to its island, MI_PLAN_PATCH_* bytes. false = out of reach.
bool mi_island_jump(uint8_t *out, const uint8_t *entry, const uint8_t *slot);

#endif
