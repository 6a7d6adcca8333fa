#include "pe/decode.h"

bool mi_decode(mi_cpu_t cpu, const uint8_t *code, size_t room, mi_insn_t *out) {
    if (cpu == MI_CPU_ARM64)
        return mi_decode_arm64(code, room, out);
    return mi_decode_x86(cpu == MI_CPU_X64, code, room, out);
}
