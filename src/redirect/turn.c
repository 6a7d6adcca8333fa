#include "redirect/turn.h"
#include "redirect/nt.h"

static DWORD slot = TLS_OUT_OF_INDEXES; // written when nothing is redirected

void mi_turn_open(void) {
    if (slot == TLS_OUT_OF_INDEXES)
        slot = TlsAlloc();
}

void mi_turn_close(void) {
    if (slot != TLS_OUT_OF_INDEXES)
        (void)TlsFree(slot);
    slot = TLS_OUT_OF_INDEXES;
}

static bool set(void *value) {
    const DWORD error = GetLastError();
    const bool is_set = TlsSetValue(slot, value);
    SetLastError(error);
    return is_set;
}

bool mi_turn_begin(void) {
    const DWORD error = GetLastError(); // TlsGetValue changes it, and no CRT would
    const bool is_free = (TlsGetValue(slot) == NULL);
    SetLastError(error);
    return is_free && set(&slot);
}

void mi_turn_end(void) {
    (void)set(NULL);
}
