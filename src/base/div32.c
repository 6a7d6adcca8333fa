// 64-bit division for 32-bit products without a runtime library: the compiler turns it into calls
// of these. Long division bit by bit, started at the first bit of the quotient; no hot path divides
// 64-bit numbers.
#include "base/base.h"

uint64_t __udivdi3(uint64_t a, uint64_t b);
uint64_t __umoddi3(uint64_t a, uint64_t b);

static uint64_t divide(uint64_t a, uint64_t b, uint64_t *rest) {
    if (b == 0)
        MI_TRAP(); // what the processor does for the native sizes
    uint64_t quotient = 0;
    if (a >= b) {
        for (size_t shift = mi_clz64(b) - mi_clz64(a) + 1; shift-- > 0;) {
            if (a >> shift >= b) {
                a -= b << shift;
                quotient |= (uint64_t)1 << shift;
            }
        }
    }
    *rest = a;
    return quotient;
}

uint64_t __udivdi3(uint64_t a, uint64_t b) {
    uint64_t rest;
    return divide(a, b, &rest);
}

uint64_t __umoddi3(uint64_t a, uint64_t b) {
    uint64_t rest;
    (void)divide(a, b, &rest);
    return rest;
}
