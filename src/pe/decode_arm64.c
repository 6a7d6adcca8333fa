// ARM64: every instruction is one word, so only the flow and the dependence on the address matter.
#include "pe/decode.h"

static int64_t sign_extend(uint32_t value, unsigned bits) {
    const uint64_t sign = (uint64_t)1 << (bits - 1);
    return (int64_t)(((uint64_t)value ^ sign) - sign);
}

static uint32_t field(uint32_t word, unsigned low, unsigned bits) {
    return (word >> low) & (((uint32_t)1 << bits) - 1);
}

static void arm64_direct(mi_insn_t *out, mi_flow_t flow, uint32_t value, unsigned bits) {
    out->flow = flow;
    out->rel_bytes = 4;
    out->rel = sign_extend(value, bits) * 4;
    out->is_pc_relative = true;
}

bool mi_decode_arm64(const uint8_t *code, size_t room, mi_insn_t *out) {
    if (room < 4)
        return false;
    const uint32_t w = (uint32_t)code[0] | ((uint32_t)code[1] << 8) | ((uint32_t)code[2] << 16) |
                       ((uint32_t)code[3] << 24);
    mi_insn_t i = {.flow = MI_FLOW_NEXT, .bytes = 4};
    if ((w & 0x7C000000) == 0x14000000) // b, bl
        arm64_direct(&i, (w >> 31) != 0 ? MI_FLOW_CALL : MI_FLOW_JUMP, field(w, 0, 26), 26);
    else if ((w & 0xFF000000) == 0x54000000) // b.cond, bc.cond
        arm64_direct(&i, MI_FLOW_BRANCH, field(w, 5, 19), 19);
    else if ((w & 0x7E000000) == 0x34000000) // cbz, cbnz
        arm64_direct(&i, MI_FLOW_BRANCH, field(w, 5, 19), 19);
    else if ((w & 0x7E000000) == 0x36000000) // tbz, tbnz
        arm64_direct(&i, MI_FLOW_BRANCH, field(w, 5, 14), 14);
    else if ((w & 0xFE000000) == 0xD6000000) // br, blr, ret, eret and their authenticated forms
        i.flow = (field(w, 23, 1) != 0   ? MI_FLOW_END // eret
                  : field(w, 21, 2) == 0 ? MI_FLOW_JUMP_IND
                  : field(w, 21, 2) == 1 ? MI_FLOW_CALL_IND
                                         : MI_FLOW_END);
    else if ((w & 0xFFE0001F) == 0xD4200000 || (w & 0xFFE0001F) == 0xD4400000) // brk, hlt
        i.flow = MI_FLOW_END;
    else if ((w & 0xFFFF0000) == 0) // udf
        i.flow = MI_FLOW_END;
    else if ((w & 0x1F000000) == 0x10000000 ||
             (w & 0x3B000000) == 0x18000000) // adr(p), ldr literal
        i.is_pc_relative = true;
    *out = i;
    return true;
}
