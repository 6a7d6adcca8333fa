// Failure on demand, so that a test can fail each step of the transaction in turn. In the product
// every fault point is the constant false and vanishes; in the test build (MI_REDIRECT_FAULTS=1)
// the environment variable MI_REDIRECT_FAULT names the point, or the number of the point to be
// reached, that fails.
#ifndef MI_REDIRECT_FAULTS_H
#define MI_REDIRECT_FAULTS_H

#include "base/base.h"

#ifndef MI_REDIRECT_FAULTS
#    define MI_REDIRECT_FAULTS 0
#endif

#if MI_REDIRECT_FAULTS
bool mi_fault(const char *point);
#else
MI_INLINE bool mi_fault(const char *point) {
    (void)point;
    return false;
}
#endif

#endif
