#include "redirect/settings.h"
#include "base/privilege.h"
#include "base/text.h"
#include "base/variable.h"
#include "redirect/faults.h"
#include "redirect/modules.h"
#include "redirect/report.h"

static mi_settings_t settings;
static bool is_read; // first read under the loader lock, in DllMain

// Whether the variables count at all: not in a process that may do more than whoever wrote them.
// And whether there are any: most processes have none, and asking for each of them by both its
// names costs 60 microseconds.
static bool is_trusted;

static bool read_text(const char *name, char *buf, DWORD cap) {
    return is_trusted && mi_variable_read(name, buf, cap);
}

static bool read_bool(const char *name, bool unset) {
    char value[32];
    return read_text(name, value, sizeof(value)) ? !mi_variable_is_off(value) : unset;
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

// A word that nobody here knows must not pass for a choice: "requierd" is no policy.
static void say_unknown(const char *what, const char *value, const char *kept) {
    mi_report(false, "%s is \"%s\", which is not understood: it is taken for \"%s\"", what, value,
              kept);
}

static mi_policy_t policy_of(const char *value) {
    if (mi_str_eq_nocase(value, "required"))
        return MI_POLICY_REQUIRED;
    if (mi_variable_is_off(value))
        return MI_POLICY_OFF;
    if (!mi_str_eq_nocase(value, "preferred"))
        say_unknown("the policy", value, "preferred");
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
    return text != NULL && !mi_variable_is_off(text);
}

static mi_rungs_t read_rungs(void) {
    char value[32];
    if (!read_text("REDIRECT_RUNG", value, sizeof(value)))
        return MI_RUNGS_ALL;
    static const char *const words[] = {"entry", "tables", "none"};
    static const mi_rungs_t rungs[] = {MI_RUNGS_ENTRY, MI_RUNGS_TABLES, MI_RUNGS_NONE};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (mi_str_eq_nocase(value, words[i]))
            return rungs[i];
    say_unknown("MIMALLOC_REDIRECT_RUNG", value, "all of them, from entry down");
    return MI_RUNGS_ALL;
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
    if (is_trusted)
        read_log(s->log); // first: what is said of the others goes there
    s->is_verbose = read_bool("VERBOSE", false);
    s->policy = read_policy();
    s->off = MI_REASON_NONE;
    if (s->policy == MI_POLICY_OFF)
        s->off = MI_REASON_POLICY_OFF;
    if (read_bool("DISABLE_REDIRECT", false) || read_bool("DISABLE_OVERRIDE", false) ||
        !read_bool("ENABLE_REDIRECT", true))
        s->off = MI_REASON_DISABLED;
    s->rungs = read_rungs();
    s->is_debug_crt_on = read_bool("REDIRECT_DEBUG_CRT", true);
    s->is_guard_on = read_bool("REDIRECT_HEAP_GUARD", true);
    s->is_com_on = read_com();
}

const mi_settings_t *mi_settings(void) {
    if (!is_read) {
        is_read = true;
        settings_read(&settings);
    }
    return &settings;
}
