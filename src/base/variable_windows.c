#include "base/variable.h"

#include "base/text.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

bool mi_variable_read(const char *name, char *buf, size_t cap) {
    static const char *const prefixes[] = {"MIMALLOC_", "MI_"};
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        char full[64];
        mi_text_t t;
        mi_text_init(&t, full, sizeof(full));
        mi_text_str(&t, prefixes[i]);
        mi_text_str(&t, name);
        const DWORD len = GetEnvironmentVariableA(full, buf, (DWORD)cap);
        if (len > 0 && len < cap)
            return true;
    }
    return false;
}

bool mi_variable_is_off(const char *value) {
    static const char *const words[] = {"0", "false", "no", "off"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (mi_str_eq_nocase(value, words[i]))
            return true;
    return false;
}
