// The two halves as a test program finds them in its process, under whichever of their names.
#ifndef MI_TEST_HALVES_H
#define MI_TEST_HALVES_H

#include "wtest.h"

static inline HMODULE redirect_module(void) {
    static const char *const names[] = {"another.dll", "mimalloc-redirect.dll",
                                        "mimalloc-redirect32.dll", "mimalloc-redirect-faults.dll",
                                        "mimalloc-redirect-faults32.dll"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (GetModuleHandleA(names[i]) != NULL)
            return GetModuleHandleA(names[i]);
    return NULL;
}

// The allocator's answer to "is this block yours?"; 0 = there is no allocator.
static inline uintptr_t ownership(void) {
    static const char *const names[] = {"standin.dll",
                                        "standin32.dll",
                                        "mimalloc.dll",
                                        "standin-weak.dll",
                                        "standin-original.dll",
                                        "standin-original32.dll",
                                        "renamed.dll",
                                        "mimalloc-debug.dll",
                                        "mimalloc-secure.dll",
                                        "standin-original-rounds.dll",
                                        "standin-original-rounds32.dll"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const HMODULE m = GetModuleHandleA(names[i]);
        uintptr_t ask = (m == NULL ? 0 : proc(m, "standin_is_ours"));
        if (m != NULL && ask == 0)
            ask = proc(m, "mi_is_in_heap_region");
        if (ask != 0)
            return ask;
    }
    return 0;
}

static inline bool is_ours(const void *p) {
    const uintptr_t ask = ownership();
    return ask != 0 && ((bool (*)(const void *))ask)(p);
}

static inline void status(int format) {
    static char text[1 << 20];
    const uintptr_t get = proc(redirect_module(), "mi_redirect_status");
    if (get == 0) {
        say("no redirect DLL\n");
        return;
    }
    const size_t needed = ((size_t(*)(char *, size_t, int))get)(text, sizeof(text), format);
    char cut[8];
    // A buffer that is too small gets the beginning, and the caller learns how much it needs.
    CHECK(((size_t(*)(char *, size_t, int))get)(cut, sizeof(cut), format) == needed);
    CHECK(mi_str_len(cut) == sizeof(cut) - 1);
    say_text(text);
}

#endif
