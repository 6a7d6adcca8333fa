// x86 and x64. Two tables of 256 letters say what follows each opcode; the letters are explained at
// decode_tail. An opcode that does not exist in the mode at hand is an error, not a guess: the
// caller refuses to patch what it cannot read.
#include "pe/decode.h"

// One letter per opcode, 16 per row.
static const char one_byte_map[] = "MMMMbzXXMMMMbzXE"  // 00
                                   "MMMMbzXXMMMMbzXX"  // 10
                                   "MMMMbzPXMMMMbzPX"  // 20
                                   "MMMMbzPXMMMMbzPX"  // 30
                                   "RRRRRRRRRRRRRRRR"  // 40
                                   "................"  // 50
                                   "XXVMPPPPzZbm...."  // 60
                                   "jjjjjjjjjjjjjjjj"  // 70
                                   "mZYmMMMMMMMMMMM8"  // 80
                                   "..........A....."  // 90
                                   "oooo....bz......"  // A0
                                   "bbbbbbbbvvvvvvvv"  // B0
                                   "mmwrVVmZe.wrtbXr"  // C0
                                   "MMMMQQx.MMMMMMMM"  // D0
                                   "llllbbbbCJAS...."  // E0
                                   "PxPPt.FG......MH"; // F0

static const char two_byte_map[] = "MMMMx.....xtxM.m"
                                   "MMMMMMMMMMMMMMMM"
                                   "MMMMxxxxMMMMMMMM"
                                   "......x.3x4xxxxx"
                                   "MMMMMMMMMMMMMMMM"
                                   "MMMMMMMMMMMMMMMM"
                                   "MMMMMMMMMMMMMMMM"
                                   "mmmmMMM.MMMMMMMM"
                                   "KKKKKKKKKKKKKKKK"
                                   "MMMMMMMMMMMMMMMM"
                                   "...MmMxx...MmMMM"
                                   "MMMMMMMMMMmMMMMM"
                                   "MMmMmmmM........"
                                   "MMMMMMMMMMMMMMMM"
                                   "MMMMMMMMMMMMMMMM"
                                   "MMMMMMMMMMMMMMMM";

// The state of one decoding.
typedef struct x86_s {
    const uint8_t *code;
    size_t room;
    size_t at; // next byte to read
    bool is_x64;
    bool is_operand16;       // prefix 66
    bool is_address_changed; // prefix 67
    bool is_wide;            // REX.W
    bool is_bad;             // ran out of bytes, or impossible
    uint8_t modrm;
    mi_insn_t insn;
} x86_t;

static uint8_t x86_byte(x86_t *x) {
    if (x->at >= x->room || x->at >= 15) {
        x->is_bad = true;
        return 0;
    }
    return x->code[x->at++];
}

static void x86_skip(x86_t *x, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        (void)x86_byte(x);
}

// ModRM with 16-bit addressing: only x86 with prefix 67.
static void x86_modrm16(x86_t *x, uint8_t mod, uint8_t rm) {
    if (mod == 1)
        x86_skip(x, 1);
    else if (mod == 2 || (mod == 0 && rm == 6))
        x86_skip(x, 2);
}

static void x86_modrm(x86_t *x) {
    x->modrm = x86_byte(x);
    const uint8_t mod = x->modrm >> 6, rm = x->modrm & 7;
    if (mod == 3)
        return;
    if (!x->is_x64 && x->is_address_changed) {
        x86_modrm16(x, mod, rm);
        return;
    }
    uint8_t base = rm;
    if (rm == 4)
        base = x86_byte(x) & 7;
    if (mod == 0 && rm == 5 && x->is_x64)
        x->insn.rip_at = (uint8_t)x->at;
    if (mod == 2 || (mod == 0 && base == 5))
        x86_skip(x, 4);
    else if (mod == 1)
        x86_skip(x, 1);
}

static void x86_relative(x86_t *x, mi_flow_t flow, size_t bytes) {
    if (bytes == 4 && x->is_operand16 && !x->is_x64)
        x->is_bad = true; // a 16-bit branch: no compiler emits it in 32-bit code
    x->insn.flow = flow;
    x->insn.rel_at = (uint8_t)x->at;
    x->insn.rel_bytes = (uint8_t)bytes;
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint32_t)x86_byte(x) << (8 * i);
    const int64_t rel = (bytes == 1 ? (int64_t)(int8_t)value : (int64_t)(int32_t)value);
    x->insn.rel = rel + (int64_t)x->at;
}

static void x86_immediate_z(x86_t *x) {
    x86_skip(x, x->is_operand16 && !x->is_wide ? 2 : 4);
}

static void x86_only32(x86_t *x) {
    if (x->is_x64)
        x->is_bad = true;
}

// FF: inc, dec, call, far call, jmp, far jmp, push.
static void x86_group5(x86_t *x) {
    x86_modrm(x);
    const uint8_t reg = (x->modrm >> 3) & 7;
    if (reg == 2 || reg == 3)
        x->insn.flow = MI_FLOW_CALL_IND;
    else if (reg == 4 || reg == 5)
        x->insn.flow = MI_FLOW_JUMP_IND;
    else if (reg == 7)
        x->is_bad = true;
}

// F6 and F7: test has an immediate, the others have none.
static void x86_group3(x86_t *x, bool is_byte) {
    x86_modrm(x);
    if (((x->modrm >> 3) & 7) > 1)
        return;
    if (is_byte)
        x86_skip(x, 1);
    else
        x86_immediate_z(x);
}

// What ends or leaves the straight line. false = not such a letter.
static bool x86_tail_flow(x86_t *x, char kind) {
    switch (kind) {
    case 'j': // jcc rel8
        x86_relative(x, MI_FLOW_BRANCH, 1);
        return true;
    case 'l': // loop, jcxz
        x->insn.is_loop = true;
        x86_relative(x, MI_FLOW_BRANCH, 1);
        return true;
    case 'K': // jcc rel32
        x86_relative(x, MI_FLOW_BRANCH, 4);
        return true;
    case 'S': // jmp rel8
        x86_relative(x, MI_FLOW_JUMP, 1);
        return true;
    case 'J': // jmp rel32
        x86_relative(x, MI_FLOW_JUMP, 4);
        return true;
    case 'C': // call rel32
        x86_relative(x, MI_FLOW_CALL, 4);
        return true;
    case 'w': // ret imm16
        x86_skip(x, 2);
        x->insn.flow = MI_FLOW_END;
        return true;
    case 'r': // ret, iret
    case 't': // int3, ud2, hlt
        x->insn.flow = MI_FLOW_END;
        return true;
    case 'H':
        x86_group5(x);
        return true;
    default:
        return false;
    }
}

// What only 32-bit code has. false = not such a letter.
static bool x86_tail_only32(x86_t *x, char kind) {
    if (kind != 'X' && kind != 'Y' && kind != 'Q' && kind != 'A')
        return false;
    x86_only32(x);
    if (kind == 'Y') { // 82: the same as 80
        x86_modrm(x);
        x86_skip(x, 1);
    } else if (kind == 'Q') { // aam, aad
        x86_skip(x, 1);
    } else if (kind == 'A') { // far call, far jump: no compiler emits them
        x->is_bad = true;
    }
    return true;
}

// Reads what follows the opcode.
static void x86_tail(x86_t *x, char kind) {
    if (x86_tail_flow(x, kind) || x86_tail_only32(x, kind))
        return;
    switch (kind) {
    case '.': // nothing
        return;
    case 'M': // ModRM
        x86_modrm(x);
        return;
    case '8': // pop r/m; other values of reg are AMD's XOP
        x86_modrm(x);
        x->is_bad |= ((x->modrm >> 3) & 7) != 0;
        return;
    case 'm': // ModRM, 8-bit immediate
        x86_modrm(x);
        x86_skip(x, 1);
        return;
    case 'Z': // ModRM, immediate of operand size
        x86_modrm(x);
        x86_immediate_z(x);
        return;
    case 'b':
        x86_skip(x, 1);
        return;
    case 'z':
        x86_immediate_z(x);
        return;
    case 'v': // mov register, immediate: the only one with 64 bits
        if (x->is_wide)
            x86_skip(x, 8);
        else
            x86_immediate_z(x);
        return;
    case 'o': // an absolute address
        x86_skip(x, x->is_x64 ? (x->is_address_changed ? 4 : 8) : (x->is_address_changed ? 2 : 4));
        return;
    case 'e': // enter
        x86_skip(x, 3);
        return;
    case 'F':
    case 'G':
        x86_group3(x, kind == 'F');
        return;
    default:
        x->is_bad = true;
    }
}

static void x86_two_byte(x86_t *x) {
    const uint8_t op = x86_byte(x);
    const char kind = two_byte_map[op];
    if (kind == '3') { // 0F 38: ModRM, never an immediate
        (void)x86_byte(x);
        x86_modrm(x);
    } else if (kind == '4') { // 0F 3A: ModRM and an 8-bit immediate
        (void)x86_byte(x);
        x86_tail(x, 'm');
    } else {
        x86_tail(x, kind);
    }
}

// The opcode after a VEX or EVEX prefix, in the map that the prefix names.
static void x86_vector_opcode(x86_t *x, unsigned map) {
    const uint8_t op = x86_byte(x);
    if (map == 1)
        x86_tail(x, two_byte_map[op] == '.' || two_byte_map[op] == 'm' ? two_byte_map[op] : 'M');
    else if (map == 3)
        x86_tail(x, 'm');
    else if (map == 2 || map == 5 || map == 6)
        x86_tail(x, 'M');
    else
        x->is_bad = true;
}

// C4, C5 and 62. In 32-bit code they are lds, les and bound unless the next byte looks like a
// register.
static void x86_vector(x86_t *x, uint8_t op) {
    if (!x->is_x64 && (x->at >= x->room || (x->code[x->at] >> 6) != 3)) {
        x86_modrm(x);
        return;
    }
    const uint8_t p0 = x86_byte(x);
    if (op == 0xC5) {
        x86_vector_opcode(x, 1);
        return;
    }
    x86_skip(x, op == 0x62 ? 2 : 1);
    x86_vector_opcode(x, op == 0x62 ? p0 & 7 : p0 & 31);
}

// Prefixes in any order; in x64 code one REX directly before the opcode. Returns the opcode.
static uint8_t x86_prefixes(x86_t *x) {
    for (;;) {
        const uint8_t b = x86_byte(x);
        if (x->is_bad)
            return 0;
        if (x->is_x64 && one_byte_map[b] == 'R') {
            x->is_wide = (b & 8) != 0;
            return x86_byte(x);
        }
        if (one_byte_map[b] != 'P')
            return b;
        x->is_operand16 |= (b == 0x66);
        x->is_address_changed |= (b == 0x67);
    }
}

bool mi_decode_x86(bool is_x64, const uint8_t *code, size_t room, mi_insn_t *out) {
    x86_t x = {.code = code, .room = room, .is_x64 = is_x64};
    const uint8_t op = x86_prefixes(&x);
    const char kind = one_byte_map[op];
    if (kind == 'E')
        x86_two_byte(&x);
    else if (kind == 'V')
        x86_vector(&x, op);
    else if (kind == 'R')
        x.is_bad |= is_x64; // a second REX; in 32-bit code inc and dec
    else
        x86_tail(&x, kind);
    if (x.is_bad)
        return false;
    x.insn.bytes = (uint8_t)x.at;
    *out = x.insn;
    return true;
}
