// Answers lines "address hexbytes" with "length flow target", or "?". For test_decode.py.
#include "pe/decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned nibble(char c) {
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10);
}

int main(int argc, char **argv) {
    static const char flows[] = "NJBCDIE";
    char line[256];
    if (argc != 2)
        return 2;
    const mi_cpu_t cpu = (strcmp(argv[1], "x86") == 0   ? MI_CPU_X86
                          : strcmp(argv[1], "x64") == 0 ? MI_CPU_X64
                                                        : MI_CPU_ARM64);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        char *hex;
        uint8_t code[16];
        size_t bytes = 0;
        const unsigned long long address = strtoull(line, &hex, 16);
        for (hex++; hex[0] > ' ' && hex[1] > ' ' && bytes < sizeof(code); hex += 2)
            code[bytes++] = (uint8_t)(nibble(hex[0]) << 4 | nibble(hex[1]));
        // A copy of exactly that size, so that a sanitizer sees a read behind it.
        uint8_t *copy = (uint8_t *)malloc(bytes);
        if (copy == NULL)
            return 2;
        memcpy(copy, code, bytes);
        mi_insn_t i;
        if (!mi_decode(cpu, copy, bytes, &i)) {
            puts("?");
        } else {
            unsigned long long target =
                (i.rel_bytes != 0 ? address + (unsigned long long)i.rel : 0);
            if (cpu == MI_CPU_X86)
                target &= 0xFFFFFFFFu;
            printf("%u %c %llx\n", i.bytes, flows[i.flow], target);
        }
        free(copy);
    }
    return 0;
}
