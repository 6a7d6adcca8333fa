#include "redirect/faults.h"
#include "redirect/nt.h"
#include "base/text.h"

#if MI_REDIRECT_FAULTS

static unsigned points_reached; // loader lock
static const char *failed_point;

// Is the point among these, "write,rollback"?
static bool is_named(const char *names, const char *point) {
    while (*names != 0) {
        size_t n = 0;
        while (point[n] != 0 && names[n] == point[n])
            n++;
        if (point[n] == 0 && (names[n] == 0 || names[n] == ','))
            return true;
        while (*names != 0 && *names++ != ',') {
        }
    }
    return false;
}

// What the test wants to fail; false = nothing.
static bool get_wanted(char wanted[32]) {
    const DWORD len = GetEnvironmentVariableA("MI_REDIRECT_FAULT", wanted, 32);
    return len > 0 && len < 32;
}

bool mi_fault(const char *point) {
    char wanted[32];
    points_reached++;
    if (!get_wanted(wanted))
        return false;
    unsigned number = 0;
    for (const char *p = wanted; *p >= '0' && *p <= '9'; p++)
        number = number * 10 + (unsigned)(*p - '0');
    // A point that failed once goes on to fail, so that trying again does not hide it.
    if (number == points_reached)
        failed_point = point;
    return is_named(wanted, point) || (failed_point != NULL && mi_str_eq(failed_point, point));
}

bool mi_fault_by_name(const char *point) {
    char wanted[32];
    return get_wanted(wanted) && is_named(wanted, point);
}

void mi_fault_meet(const char *point) {
    char variable[64], event_name[64];
    mi_text_t t;
    mi_text_init(&t, variable, sizeof(variable));
    mi_text_fmt(&t, "MI_REDIRECT_MEET_%s", point);
    const DWORD len = GetEnvironmentVariableA(variable, event_name, sizeof(event_name));
    if (len == 0 || len >= sizeof(event_name))
        return;
    const HANDLE event = OpenEventA(SYNCHRONIZE, FALSE, event_name);
    if (event != NULL) {
        (void)WaitForSingleObject(event, INFINITE);
        CloseHandle(event);
    }
}

#else
typedef int faults_not_built; // a translation unit must not be empty
#endif
