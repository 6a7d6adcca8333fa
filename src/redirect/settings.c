#include "redirect/settings.h"
#include "base/privilege.h"
#include "base/text.h"
#include "redirect/faults.h"
#include "redirect/modules.h"

static mi_settings_t settings;
static bool is_read; // first read under the loader lock, in DllMain

// Whether the variables count at all: not in a process that may do more than whoever wrote them.
// And whether there are any: most processes have none, and asking for each of them by both its
// names costs 60 microseconds.
static bool is_trusted;

// A variable's value in ASCII, lower case not folded; false = not set, or too long to be one of our
// words.
static bool read_text(const char *name, char *buf, DWORD cap) {
    char full[64];
    if (!is_trusted)
        return false;
    static const char *const prefixes[] = {"MIMALLOC_", "MI_"};
    for (size_t i = 0; i < 2; i++) {
        mi_text_t t;
        mi_text_init(&t, full, sizeof(full));
        mi_text_str(&t, prefixes[i]);
        mi_text_str(&t, name);
        const DWORD len = GetEnvironmentVariableA(full, buf, cap);
        if (len > 0 && len < cap)
            return true;
    }
    return false;
}

static bool is_word(const char *value, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (mi_str_eq_nocase(value, words[i]))
            return true;
    return false;
}

static bool bool_of(const char *value) {
    static const char *const off[] = {"0", "false", "no", "off"};
    return !is_word(value, off, sizeof(off) / sizeof(off[0]));
}

static bool read_bool(const char *name, bool unset) {
    char value[32];
    return read_text(name, value, sizeof(value)) ? bool_of(value) : unset;
}

// The program itself may ask: `__declspec(dllexport) const char name[] = "value";`. NULL = it does
// not. Most programs export nothing.
static const char *exported_text(const char *name) {
    const mi_nt_module_t *exe = mi_modules_next(NULL);
    mi_pe_t pe;
    mi_pe_export_t e;
    if (exe == NULL || !mi_module_open(&pe, exe->base) || !mi_pe_export_find(&pe, name, &e) ||
        e.forwarder != NULL)
        return NULL;
    return mi_pe_string(&pe, e.rva);
}

static mi_policy_t policy_of(const char *value) {
    if (mi_str_eq_nocase(value, "required"))
        return MI_POLICY_REQUIRED;
    if (mi_str_eq_nocase(value, "off") || mi_str_eq(value, "0"))
        return MI_POLICY_OFF;
    return MI_POLICY_PREFERRED;
}

// Of what the environment says, and else what the program exports; NULL = neither says anything.
// The environment goes first, since whoever starts the program may know better.
static const char *read_either(const char *name, const char *exported, char *buf, DWORD cap) {
    return read_text(name, buf, cap) ? buf : exported_text(exported);
}

static mi_policy_t read_policy(void) {
    char value[32];
    const char *text = read_either("REDIRECT", "mimalloc_redirect_policy", value, sizeof(value));
    return text == NULL ? MI_POLICY_PREFERRED : policy_of(text);
}

static bool read_com(void) {
    char value[32];
    const char *text =
        read_either("REDIRECT_COTASKMEM", "mimalloc_redirect_cotaskmem", value, sizeof(value));
    return text != NULL && bool_of(text);
}

static mi_rungs_t read_rungs(void) {
    char value[32];
    if (!read_text("REDIRECT_RUNG", value, sizeof(value)))
        return MI_RUNGS_ALL;
    return mi_str_eq_nocase(value, "entry")    ? MI_RUNGS_ENTRY
           : mi_str_eq_nocase(value, "tables") ? MI_RUNGS_TABLES
           : mi_str_eq_nocase(value, "none")   ? MI_RUNGS_NONE
                                               : MI_RUNGS_ALL;
}

// The name of the log file, complete, so that all of it goes to one place however often the program
// changes its folder. Empty = none, or a name that is too long.
static void read_log(WCHAR log[MI_LOG_UNITS]) {
    WCHAR name[MI_LOG_UNITS];
    DWORD len = GetEnvironmentVariableW(L"MIMALLOC_LOG", name, MI_LOG_UNITS);
    if (len == 0)
        len = GetEnvironmentVariableW(L"MI_LOG", name, MI_LOG_UNITS);
    if (len == 0 || len >= MI_LOG_UNITS)
        return;
    len = GetFullPathNameW(name, MI_LOG_UNITS, log, NULL);
    if (len == 0 || len >= MI_LOG_UNITS)
        log[0] = 0;
}

static void settings_read(mi_settings_t *s) {
    is_trusted =
        mi_environment_has_ours() && mi_environment_is_trusted() && !mi_fault_by_name("privileged");
    s->policy = read_policy();
    s->off = MI_REASON_NONE;
    if (s->policy == MI_POLICY_OFF)
        s->off = MI_REASON_POLICY_OFF;
    if (read_bool("DISABLE_REDIRECT", false) || read_bool("DISABLE_OVERRIDE", false) ||
        !read_bool("ENABLE_REDIRECT", true))
        s->off = MI_REASON_DISABLED;
    s->rungs = read_rungs();
    s->is_verbose = read_bool("VERBOSE", false);
    s->is_debug_crt_on = read_bool("REDIRECT_DEBUG_CRT", true);
    s->is_guard_on = read_bool("REDIRECT_HEAP_GUARD", true);
    s->is_com_on = read_com();
    if (is_trusted)
        read_log(s->log);
}

const mi_settings_t *mi_settings(void) {
    if (!is_read) {
        is_read = true;
        settings_read(&settings);
    }
    return &settings;
}
