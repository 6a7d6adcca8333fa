#include "diag/options.h"

#include "base/atomic.h"
#include "base/text.h"
#include "diag/message.h"
#include "os/os.h"

#include <limits.h>

#define OPTION_COUNT    ((int)_mi_option_last)
#define OPTION_TEXT_MAX 64 // a longer value in the environment is not understood

typedef enum option_state_e {
    OPTION_UNREAD,  // the environment was not asked yet
    OPTION_BUSY,    // some thread is storing the value
    OPTION_DEFAULT, // nobody set it
    OPTION_SET      // by the environment or the program
} option_state_t;

typedef enum option_kind_e {
    PLAIN, // a number
    KIB,   // a number of KiB
    IDLE   // accepted, no effect; mimalloc.h says so too (tests/api/check_options.py)
} option_kind_t;

// No addresses in here: each one would have to be filled in when the library is loaded, in memory
// that a process then has of its own.
typedef struct option_desc_s {
    long value;    // default
    char name[31]; // after MIMALLOC_ in lower case
    uint8_t kind;  // option_kind_t
} option_desc_t;
typedef struct option_old_s {
    uint8_t option;
    char names[47]; // earlier spellings, separated by spaces
} option_old_t;

#define GUARDED_MAX (1024L * 1024 * 1024)
#define ARENA_KIB   (MI_ARCH_X86 ? 128L * 1024 : 1024L * 1024)

static const option_desc_t option_table[] = {
    [mi_option_show_errors] = {1, "show_errors", PLAIN},
    [mi_option_show_stats] = {0, "show_stats", PLAIN},
    [mi_option_verbose] = {0, "verbose", PLAIN},
    [mi_option_deprecated_eager_commit] = {1, "eager_commit", IDLE},
    [mi_option_arena_eager_commit] = {2, "arena_eager_commit", PLAIN},
    [mi_option_purge_decommits] = {1, "purge_decommits", PLAIN},
    [mi_option_allow_large_os_pages] = {0, "allow_large_os_pages", PLAIN},
    [mi_option_reserve_huge_os_pages] = {0, "reserve_huge_os_pages", PLAIN},
    [mi_option_reserve_huge_os_pages_at] = {-1, "reserve_huge_os_pages_at", PLAIN},
    [mi_option_reserve_os_memory] = {0, "reserve_os_memory", KIB},
    [mi_option_deprecated_segment_cache] = {0, "segment_cache", IDLE},
    [mi_option_deprecated_page_reset] = {0, "page_reset", IDLE},
    [mi_option_deprecated_abandoned_page_purge] = {0, "abandoned_page_purge", IDLE},
    [mi_option_deprecated_segment_reset] = {0, "segment_reset", IDLE},
    [mi_option_deprecated_eager_commit_delay] = {1, "eager_commit_delay", IDLE},
    [mi_option_purge_delay] = {250, "purge_delay", PLAIN},
    [mi_option_use_numa_nodes] = {0, "use_numa_nodes", PLAIN},
    [mi_option_disallow_os_alloc] = {0, "disallow_os_alloc", PLAIN},
    [mi_option_os_tag] = {100, "os_tag", IDLE},
    [mi_option_max_errors] = {32, "max_errors", PLAIN},
    [mi_option_max_warnings] = {32, "max_warnings", PLAIN},
    [mi_option_deprecated_max_segment_reclaim] = {10, "max_segment_reclaim", IDLE},
    [mi_option_destroy_on_exit] = {0, "destroy_on_exit", PLAIN},
    [mi_option_arena_reserve] = {ARENA_KIB, "arena_reserve", KIB},
    [mi_option_arena_purge_mult] = {1, "arena_purge_mult", PLAIN},
    [mi_option_deprecated_purge_extend_delay] = {1, "purge_extend_delay", IDLE},
    [mi_option_disallow_arena_alloc] = {0, "disallow_arena_alloc", PLAIN},
    [mi_option_retry_on_oom] = {400, "retry_on_oom", PLAIN},
    [mi_option_visit_abandoned] = {0, "visit_abandoned", IDLE},
    [mi_option_guarded_min] = {0, "guarded_min", PLAIN},
    [mi_option_guarded_max] = {GUARDED_MAX, "guarded_max", PLAIN},
    [mi_option_guarded_precise] = {0, "guarded_precise", PLAIN},
    [mi_option_guarded_sample_rate] = {0, "guarded_sample_rate", PLAIN},
    [mi_option_guarded_sample_seed] = {0, "guarded_sample_seed", PLAIN},
    [mi_option_generic_collect] = {10000, "generic_collect", PLAIN},
    [mi_option_page_reclaim_on_free] = {0, "page_reclaim_on_free", IDLE},
    [mi_option_page_full_retain] = {2, "page_full_retain", IDLE},
    [mi_option_page_max_candidates] = {4, "page_max_candidates", IDLE},
    [mi_option_max_vabits] = {0, "max_vabits", IDLE},
    [mi_option_pagemap_commit] = {0, "pagemap_commit", PLAIN},
    [mi_option_page_commit_on_demand] = {0, "page_commit_on_demand", IDLE},
    [mi_option_page_max_reclaim] = {-1, "page_max_reclaim", PLAIN},
    [mi_option_page_cross_thread_max_reclaim] = {32, "page_cross_thread_max_reclaim", IDLE},
    [mi_option_allow_thp] = {1, "allow_thp", PLAIN},
    [mi_option_minimal_purge_size] = {0, "minimal_purge_size", KIB},
    [mi_option_arena_max_object_size] = {ARENA_KIB, "arena_max_object_size", KIB},
    [mi_option_arena_is_numa_local] = {0, "arena_is_numa_local", PLAIN},
};
static_assert(sizeof(option_table) / sizeof(option_table[0]) == _mi_option_last,
              "every option has a row");

static const option_old_t option_old[] = {
    {mi_option_arena_eager_commit, "eager_region_commit"},
    {mi_option_purge_decommits, "reset_decommits allow_decommit"},
    {mi_option_allow_large_os_pages, "large_os_pages"},
    {mi_option_deprecated_abandoned_page_purge, "abandoned_page_reset abandoned_page_decommit"},
    {mi_option_deprecated_segment_reset, "segment_decommit_delay"},
    {mi_option_purge_delay, "reset_delay decommit_delay"},
    {mi_option_disallow_os_alloc, "limit_os_alloc"},
    {mi_option_deprecated_purge_extend_delay, "decommit_extend_delay"},
    {mi_option_generic_collect, "target_segments_per_thread"},
    {mi_option_page_reclaim_on_free, "abandoned_reclaim_on_free"},
};

static struct {
    _Atomic(int) state;  // option_state_t
    _Atomic(long) value; // valid when state is DEFAULT or SET
} option_now[OPTION_COUNT];

static bool option_exists(mi_option_t option) {
    return (int)option >= 0 && (int)option < OPTION_COUNT;
}

const char *mi_option_name(mi_option_t option) {
    return option_exists(option) ? option_table[option].name : NULL;
}

bool mi_option_is_size(mi_option_t option) {
    return option_exists(option) && option_table[option].kind == KIB;
}

bool mi_option_is_idle(mi_option_t option) {
    return option_exists(option) && option_table[option].kind == IDLE;
}

static bool text_is_any(const char *text, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (mi_str_eq_nocase(text, words[i]))
            return true;
    return false;
}

// The factor of a size suffix: K, KB, KiB and so on. 0 when there is another text.
static uint64_t suffix_factor(const char *s) {
    if (*s == 0)
        return 1;
    const char *letters = "KkMmGgTt";
    uint64_t factor = 0;
    for (size_t i = 0; letters[i] != 0; i++)
        if (letters[i] == *s)
            factor = (uint64_t)1 << (10 * (i / 2 + 1));
    s++;
    if (*s == 'i' && s[1] == 'B')
        s++;
    if (*s == 'B')
        s++;
    return *s == 0 ? factor : 0;
}

static bool parse_number(const char *text, bool is_size, long *out) {
    const bool is_negative = (*text == '-');
    const char *s = text + (*text == '-' || *text == '+');
    if (*s < '0' || *s > '9')
        return false;
    uint64_t v = 0;
    for (; *s >= '0' && *s <= '9'; s++) {
        if (v > (UINT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (uint64_t)(*s - '0');
    }
    const uint64_t factor = suffix_factor(s);
    if (factor == 0 || (is_size && is_negative))
        return false;
    v = (v > UINT64_MAX / factor ? UINT64_MAX : v * factor);
    if (is_size) // kept in KiB, so that a long holds any size on every system
        v = v / 1024 + (v % 1024 != 0);
    if (v > (uint64_t)LONG_MAX)
        v = (uint64_t)LONG_MAX;
    *out = is_negative ? -(long)v : (long)v;
    return true;
}

bool mi_option_parse(const char *text, bool is_size, long *out) {
    static const char *const on[] = {"", "true", "yes", "on"};
    static const char *const off[] = {"false", "no", "off"};
    if (text_is_any(text, on, 4)) {
        *out = 1;
        return true;
    }
    if (text_is_any(text, off, 3)) {
        *out = 0;
        return true;
    }
    return parse_number(text, is_size, out);
}

// Looks for PREFIX_NAME in the environment.
static bool env_find(const char *prefix, const char *name, char *buf, size_t cap) {
    char key[OPTION_TEXT_MAX];
    mi_text_t t;
    mi_text_init(&t, key, sizeof(key));
    mi_text_str(&t, prefix);
    for (const char *s = name; *s != 0; s++)
        mi_text_char(&t, (char)(*s >= 'a' && *s <= 'z' ? *s - 'a' + 'A' : *s));
    return mi_os_env(key, buf, cap);
}

// The next of some words; false: no more.
static bool word_next(const char **words, char *word, size_t cap) {
    const char *s = *words;
    mi_text_t t;
    mi_text_init(&t, word, cap);
    while (*s == ' ')
        s++;
    for (; *s != 0 && *s != ' '; s++)
        mi_text_char(&t, *s);
    *words = s;
    return word[0] != 0;
}

// The value in the environment under one spelling of the name; warns of a value that cannot be
// understood.
static bool env_value_of(const option_desc_t *d, const char *name, long *out) {
    static const char *const prefixes[] = {"MIMALLOC_", "MI_"};
    for (size_t i = 0; i < 2; i++) {
        char text[OPTION_TEXT_MAX];
        if (!env_find(prefixes[i], name, text, sizeof(text)))
            continue;
        if (mi_option_parse(text, d->kind == KIB, out))
            return true;
        mi_message_warning("option %s: value \"%s\" not understood, it stays %ld", name, text,
                           d->value);
    }
    return false;
}

// The process reads most options as it starts. Meanwhile it is known whether the environment has
// any, so that not each is asked for by all its names.
static _Atomic(bool) env_has_none;

void mi_options_start(void) {
    mi_store_relaxed(&env_has_none, !mi_os_env_may_have_ours());
}

void mi_options_started(void) {
    mi_store_relaxed(&env_has_none, false);
}

static const char *old_names(mi_option_t option) {
    for (size_t i = 0; i < sizeof(option_old) / sizeof(option_old[0]); i++)
        if ((int)option_old[i].option == (int)option)
            return option_old[i].names;
    return "";
}

static bool env_value(mi_option_t option, long *out) {
    if (mi_load_relaxed(&env_has_none))
        return false;
    const option_desc_t *const d = &option_table[option];
    if (env_value_of(d, d->name, out))
        return true;
    char word[OPTION_TEXT_MAX];
    for (const char *old = old_names(option); word_next(&old, word, sizeof(word));) {
        if (!env_value_of(d, word, out))
            continue;
        mi_message_warning("option %s is deprecated, its name is now %s", word, d->name);
        return true;
    }
    return false;
}

// Stores the value unless another thread was first.
static void option_store(mi_option_t option, int from, long value, option_state_t state) {
    int expected = from;
    // acq_rel pairs with the acquire in mi_option_value: whoever sees the state sees the value.
    if (mi_cas_strong_acq_rel(&option_now[option].state, &expected, OPTION_BUSY)) {
        mi_store_relaxed(&option_now[option].value, value);
        mi_store_release(&option_now[option].state, (int)state);
    }
}

static MI_NOINLINE long option_read(mi_option_t option) {
    const option_desc_t *d = &option_table[option];
    // The messages about the environment ask for options again: those see the default meanwhile.
    static _Atomic(int) depth;
    if (mi_fetch_add_relaxed(&depth, 1) > 8) {
        mi_fetch_sub_relaxed(&depth, 1);
        return d->value;
    }
    long value = d->value;
    const bool is_set = env_value(option, &value);
    mi_fetch_sub_relaxed(&depth, 1);
    option_store(option, OPTION_UNREAD, value, is_set ? OPTION_SET : OPTION_DEFAULT);
    return value;
}

long mi_option_value(mi_option_t option) {
    if (!option_exists(option))
        return 0;
    const int state = mi_load_acquire(&option_now[option].state);
    if (MI_LIKELY(state >= OPTION_DEFAULT))
        return mi_load_relaxed(&option_now[option].value);
    return option_read(option);
}

size_t mi_option_bytes(mi_option_t option) {
    const long value = mi_option_value(option);
    if (value <= 0)
        return 0;
    if (!mi_option_is_size(option))
        return (size_t)value;
    return (size_t)value > SIZE_MAX / MI_KiB ? SIZE_MAX : (size_t)value * MI_KiB;
}

void mi_option_assign(mi_option_t option, long value, bool weak) {
    if (!option_exists(option))
        return;
    (void)mi_option_value(option);
    for (;;) {
        const int state = mi_load_acquire(&option_now[option].state);
        if (weak && state == OPTION_SET)
            return;
        if (state != OPTION_BUSY) {
            option_store(option, state, value, weak ? OPTION_DEFAULT : OPTION_SET);
            if (mi_load_relaxed(&option_now[option].value) == value)
                return;
        }
        mi_cpu_relax();
    }
}

bool mi_option_is_set(mi_option_t option) {
    if (!option_exists(option))
        return false;
    (void)mi_option_value(option);
    return mi_load_acquire(&option_now[option].state) == OPTION_SET;
}
