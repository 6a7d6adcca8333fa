// The three functions that the compiler may call for copies and fills, over ntdll's: this DLL has no C library.
#include "redirect/nt.h"

#undef RtlMoveMemory
#undef RtlFillMemory
NTSYSAPI VOID NTAPI RtlMoveMemory(void *to, const void *from, SIZE_T bytes);
NTSYSAPI VOID NTAPI RtlFillMemory(void *to, SIZE_T bytes, UCHAR value);

void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    RtlMoveMemory(to, from, bytes);
    return to;
}

void *memmove(void *to, const void *from, size_t bytes) {
    RtlMoveMemory(to, from, bytes);
    return to;
}

void *memset(void *to, int value, size_t bytes) {
    RtlFillMemory(to, bytes, (UCHAR)value);
    return to;
}
