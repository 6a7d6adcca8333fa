// The public face of the options table.
#include "mimalloc.h"

#include "base/base.h"
#include "diag/message.h"
#include "diag/options.h"
#include "entry/entry.h"

bool mi_option_is_enabled(mi_option_t option) {
    return mi_option_value(option) != 0;
}

void mi_option_set(mi_option_t option, long value) {
    mi_option_assign(option, value, false);
    mi_entry_options_changed();
}

void mi_option_set_default(mi_option_t option, long value) {
    mi_option_assign(option, value, true);
    mi_entry_options_changed();
}

void mi_option_set_enabled(mi_option_t option, bool enable) {
    mi_option_set(option, enable ? 1 : 0);
}

void mi_option_set_enabled_default(mi_option_t option, bool enable) {
    mi_option_set_default(option, enable ? 1 : 0);
}

void mi_option_enable(mi_option_t option) {
    mi_option_set(option, 1);
}

void mi_option_disable(mi_option_t option) {
    mi_option_set(option, 0);
}

long mi_option_get(mi_option_t option) {
    return mi_option_value(option);
}

long mi_option_get_clamp(mi_option_t option, long min, long max) {
    const long value = mi_option_value(option);
    return value < min ? min : value > max ? max : value;
}

size_t mi_option_get_size(mi_option_t option) {
    return mi_option_bytes(option);
}

void mi_options_print_out(mi_output_fun *out, void *arg) mi_attr_noexcept {
    mi_message_fmt(out, arg, "mimalloc: version %d.%d.%d, %s build, %s\n",
                   MI_MALLOC_VERSION / 10000, MI_MALLOC_VERSION / 100 % 100,
                   MI_MALLOC_VERSION % 100,
                   MI_DEBUG    ? "debug"
                   : MI_SECURE ? "secure"
                               : "release",
                   mi_platform_name());
    for (int i = 0; i < (int)_mi_option_last; i++) {
        const mi_option_t option = (mi_option_t)i;
        mi_message_fmt(out, arg, "mimalloc: option %s: %ld%s%s%s\n", mi_option_name(option),
                       mi_option_value(option), mi_option_is_size(option) ? " KiB" : "",
                       mi_option_is_set(option) ? " (set)" : "",
                       mi_option_is_idle(option) ? " (no effect)" : "");
    }
}

void mi_options_print(void) mi_attr_noexcept {
    mi_options_print_out(NULL, NULL);
}
