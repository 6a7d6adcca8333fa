// The one piece of base.h that is not inline: what happens when an assertion fails.
#include "base/base.h"

static mi_assert_sink_t assert_sink;

void mi_assert_set_sink(mi_assert_sink_t sink) {
    assert_sink = sink;
}

MI_NORETURN void mi_assert_fail(const char *fact, const char *file, int line) {
    if (assert_sink != NULL)
        assert_sink(fact, file, line);
    MI_TRAP();
#if defined(_MSC_VER)
    for (;;) {
    }
#endif
}

static mi_corrupt_sink_t corrupt_sink;

void mi_corrupt_set_sink(mi_corrupt_sink_t sink) {
    corrupt_sink = sink;
}

MI_NORETURN void mi_corrupt_fail(const char *what, const void *where) {
    if (corrupt_sink != NULL)
        corrupt_sink(what, where);
    MI_TRAP();
#if defined(_MSC_VER)
    for (;;) {
    }
#endif
}
