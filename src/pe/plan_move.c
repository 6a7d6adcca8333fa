// Moving the first instructions of a function elsewhere, so that the original can still be called.
// Displacements that count from the instruction's own address are recomputed; 8-bit jumps become
// 32-bit ones.
//
//   entry:  48 83 EC 28   sub rsp, 28h            moved:  48 83 EC 28   sub rsp, 28h
//           74 0A         je  +10        --->             0F 84 rel32   je  entry + 16
//           ...                                           E9 rel32      jmp entry + 6
#include "pe/plan.h"

typedef struct move_s {
    uint8_t *out;
    size_t room;
    size_t len;
    uint64_t address; // of out[0] when it runs
    bool is_bad;
} move_t;

static void move_byte(move_t *m, uint8_t b) {
    if (m->len >= m->room) {
        m->is_bad = true;
        return;
    }
    m->out[m->len++] = b;
}

// A displacement that must make an instruction whose last byte is `tail` bytes behind it reach
// target.
static void move_rel32(move_t *m, uint64_t target, uint64_t tail, bool is_32bit) {
    const int64_t rel = (int64_t)(target - (m->address + m->len + 4 + tail));
    if (!is_32bit && (rel > INT32_MAX || rel < INT32_MIN))
        m->is_bad = true;
    for (unsigned i = 0; i < 4; i++)
        move_byte(m, (uint8_t)((uint64_t)rel >> (8 * i)));
}

static void move_insn(move_t *m, mi_cpu_t cpu, const uint8_t *src, const mi_insn_t *i,
                      uint64_t src_address) {
    const bool is_32bit = (cpu == MI_CPU_X86);
    if (i->is_loop || (i->rel_bytes != 0 && i->rel_at > 2)) {
        m->is_bad = true;
        return;
    }
    if (i->rel_bytes != 0) {
        const uint64_t target = src_address + (uint64_t)i->rel;
        if (i->flow == MI_FLOW_BRANCH) {
            move_byte(m, 0x0F);
            move_byte(m, (uint8_t)(0x80 | (src[i->rel_at - 1] & 15)));
        } else {
            move_byte(m, i->flow == MI_FLOW_CALL ? 0xE8 : 0xE9);
        }
        move_rel32(m, target, 0, is_32bit);
        return;
    }
    if (i->rip_at == 0) {
        for (size_t k = 0; k < i->bytes; k++)
            move_byte(m, src[k]);
        return;
    }
    const uint64_t tail = (uint64_t)i->bytes - i->rip_at - 4;
    const int64_t disp = (int32_t)mi_pe_u32(src + i->rip_at);
    for (size_t k = 0; k < i->rip_at; k++)
        move_byte(m, src[k]);
    move_rel32(m, src_address + i->bytes + (uint64_t)disp, tail, is_32bit);
    for (size_t k = i->rip_at + 4u; k < i->bytes; k++)
        move_byte(m, src[k]);
}

static size_t move_arm64(const uint8_t *src, size_t bytes, uint64_t src_address, move_t *m) {
    mi_insn_t i;
    if (bytes != 4 || !mi_decode_arm64(src, bytes, &i) || i.is_pc_relative || m->room < 8)
        return 0;
    for (size_t k = 0; k < 4; k++)
        move_byte(m, src[k]);
    const int64_t rel = (int64_t)(src_address + 4 - (m->address + 4));
    if (rel >= (int64_t)128 * 1024 * 1024 || rel < -(int64_t)128 * 1024 * 1024)
        return 0;
    const uint32_t word = 0x14000000u | ((uint32_t)(rel >> 2) & 0x03FFFFFFu);
    for (unsigned k = 0; k < 4; k++)
        move_byte(m, (uint8_t)(word >> (8 * k)));
    return m->len;
}

size_t mi_plan_move(mi_cpu_t cpu, const uint8_t *src, size_t bytes, uint64_t src_address,
                    uint8_t *dst, size_t dst_room, uint64_t dst_address) {
    move_t m = {.out = dst, .room = dst_room, .address = dst_address};
    if (cpu == MI_CPU_ARM64)
        return move_arm64(src, bytes, src_address, &m);
    size_t at = 0;
    mi_insn_t last = {.flow = MI_FLOW_NEXT};
    while (at < bytes) {
        if (!mi_decode(cpu, src + at, bytes - at, &last))
            return 0;
        const uint64_t target = (uint64_t)last.rel + at;
        if (last.rel_bytes != 0 && target > 0 && target < bytes)
            return 0; // a jump inside what is moved
        move_insn(&m, cpu, src + at, &last, src_address + at);
        at += last.bytes;
    }
    if (last.flow != MI_FLOW_JUMP && last.flow != MI_FLOW_JUMP_IND && last.flow != MI_FLOW_END) {
        move_byte(&m, 0xE9);
        move_rel32(&m, src_address + bytes, 0, cpu == MI_CPU_X86);
    }
    return m.is_bad ? 0 : m.len;
}
