// The options table: every option of the public enumeration with its default, its names in the
// environment and its value now. Values are read from the environment when they are first asked
// for, so that it works before any initialisation. Any thread; nothing here allocates. It knows
// nothing of what the options do.
#ifndef MI_DIAG_OPTIONS_H
#define MI_DIAG_OPTIONS_H

#include "base/base.h"
#include "mimalloc.h"

// Around the reading of many options as the process starts, by one thread: between the two a
// process whose environment has no variable of ours asks for none by name. Those that others read
// meanwhile are the same.
void mi_options_start(void);
void mi_options_started(void);

// The value; 0 for an unknown option. Cheap after the first time: one relaxed load and a test.
long mi_option_value(mi_option_t option);
// The value of a size option in bytes, at most SIZE_MAX.
size_t mi_option_bytes(mi_option_t option);
// Sets the value. weak: only if neither the environment nor the program has set it.
void mi_option_assign(mi_option_t option, long value, bool weak);
// Whether the environment or the program has set it.
bool mi_option_is_set(mi_option_t option);
// Lower-case name, without a prefix; NULL for an unknown option.
const char *mi_option_name(mi_option_t option);
bool mi_option_is_size(mi_option_t option);
// Accepted, but without any effect in this allocator.
bool mi_option_is_idle(mi_option_t option);

// One value of an option as text: on, off, yes, no, true, false, empty (on), or a number with a
// size suffix. For a size option the result is in KiB. false: not understood, *out is unchanged.
bool mi_option_parse(const char *text, bool is_size, long *out);

#endif
