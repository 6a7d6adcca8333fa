// Failure on demand, so that a test can fail each step of the transaction in turn. In the product
// every fault point is the constant false and vanishes; in the test build (MI_REDIRECT_FAULTS=1)
// the environment variable MI_REDIRECT_FAULT names the points, with commas, or the number of the
// point to be reached, that fail.
#ifndef MI_REDIRECT_FAULTS_H
#define MI_REDIRECT_FAULTS_H

#include "base/base.h"

#ifndef MI_REDIRECT_FAULTS
#    define MI_REDIRECT_FAULTS 0
#endif

#if MI_REDIRECT_FAULTS
bool mi_fault(const char *point);
// A point that the transaction survives in another way: it fails only by its name, it has no
// number.
bool mi_fault_by_name(const char *point);
// Where a test wants to do something in between: waits for the event that MI_REDIRECT_MEET_<point>
// names, if there is one.
void mi_fault_meet(const char *point);
#else
MI_INLINE bool mi_fault_by_name(const char *point) {
    (void)point;
    return false;
}
MI_INLINE void mi_fault_meet(const char *point) {
    (void)point;
}
MI_INLINE bool mi_fault(const char *point) {
    (void)point;
    return false;
}
#endif

#endif
