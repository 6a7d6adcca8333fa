// Instruction length decoding for whoever patches code: how long is the instruction at this byte,
// where does control go after it, and which of its bytes are relative to its own address. Pure:
// bytes in, answer out; reads nothing outside [code, code + room); any thread. It does not know
// what an instruction computes.
//
//   x86 / x64   prefixes | REX or VEX or EVEX | opcode | ModRM | SIB | displacement | immediate
//   ARM64       one little-endian 32-bit word
#ifndef MI_PE_DECODE_H
#define MI_PE_DECODE_H

#include "base/base.h"

typedef enum mi_cpu_e { MI_CPU_X86, MI_CPU_X64, MI_CPU_ARM64 } mi_cpu_t;

typedef enum mi_flow_e {
    MI_FLOW_NEXT,     // goes on with the next instruction
    MI_FLOW_JUMP,     // direct jump: only to the target
    MI_FLOW_BRANCH,   // direct conditional jump: the target or the next instruction
    MI_FLOW_CALL,     // direct call, comes back
    MI_FLOW_CALL_IND, // indirect call, comes back
    MI_FLOW_JUMP_IND, // indirect jump
    MI_FLOW_END,      // return, trap, halt: nothing follows
} mi_flow_t;

typedef struct mi_insn_s {
    mi_flow_t flow;
    uint8_t bytes;       // length of the instruction
    uint8_t rel_bytes;   // width of the displacement of a direct jump, branch or call: 0 none, 1, 4
    uint8_t rel_at;      // its offset in the instruction
    uint8_t rip_at;      // x64: offset of a rip-relative 32-bit displacement, 0 = none
    bool is_pc_relative; // ARM64: its result or target depends on its address
    bool is_loop;        // x86, x64: loop or jcxz, which exist with an 8-bit displacement only
    int64_t rel;         // direct flow: target = address of the instruction + rel
} mi_insn_t;

// false = unknown, impossible in this mode, or longer than room. out is written only when true.
bool mi_decode(mi_cpu_t cpu, const uint8_t *code, size_t room, mi_insn_t *out);

bool mi_decode_x86(bool is_x64, const uint8_t *code, size_t room, mi_insn_t *out);
bool mi_decode_arm64(const uint8_t *code, size_t room, mi_insn_t *out);

#endif
