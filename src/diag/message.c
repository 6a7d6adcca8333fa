#include "diag/message.h"

#include "base/atomic.h"
#include "base/text.h"
#include "diag/hook.h"
#include "diag/options.h"
#include "os/os.h"

#include <stdarg.h>

#define MESSAGE_MAX 512

static mi_hook_t message_output; // mi_output_fun
static mi_hook_t message_error;  // mi_error_fun

static _Atomic(long) warnings_said;
static _Atomic(long) errors_said;

void mi_message_set_output(mi_output_fun *out, void *arg) {
    mi_hook_set(&message_output, (uintptr_t)out, arg);
}

void mi_message_set_error(mi_error_fun *fun, void *arg) {
    mi_hook_set(&message_error, (uintptr_t)fun, arg);
}

void mi_message_text(mi_output_fun *out, void *arg, const char *text) {
    if (out == NULL)
        out = (mi_output_fun *)mi_hook_get(&message_output, &arg);
    if (out != NULL)
        out(text, arg);
    else
        mi_os_write_stderr(text, mi_str_len(text));
}

void mi_message_fmt(mi_output_fun *out, void *arg, const char *fmt, ...) {
    char buf[MESSAGE_MAX];
    mi_text_t t;
    mi_text_init(&t, buf, sizeof(buf));
    va_list args;
    va_start(args, fmt);
    mi_text_vfmt(&t, fmt, args);
    va_end(args);
    mi_message_text(out, arg, buf);
}

// One whole line in one piece, so that lines of several threads do not mix.
static void message_line(const char *kind, const char *fmt, va_list args) {
    char buf[MESSAGE_MAX];
    mi_text_t t;
    mi_text_init(&t, buf, sizeof(buf) - 1); // room for the newline even when cut
    mi_text_str(&t, "mimalloc: ");
    mi_text_str(&t, kind);
    mi_text_vfmt(&t, fmt, args);
    t.cap = sizeof(buf);
    mi_text_char(&t, '\n');
    mi_message_text(NULL, NULL, buf);
}

void mi_message_verbose(const char *fmt, ...) {
    if (mi_option_value(mi_option_verbose) <= 0)
        return;
    va_list args;
    va_start(args, fmt);
    message_line("", fmt, args);
    va_end(args);
}

// Whether one more message of a kind may be printed.
static bool message_is_due(_Atomic(long) *said, mi_option_t limit) {
    const long max = mi_option_value(limit);
    return max < 0 || mi_fetch_add_relaxed(said, 1) < max;
}

void mi_message_warning(const char *fmt, ...) {
    if (mi_option_value(mi_option_show_errors) <= 0 && mi_option_value(mi_option_verbose) <= 0)
        return;
    if (!message_is_due(&warnings_said, mi_option_max_warnings))
        return;
    va_list args;
    va_start(args, fmt);
    message_line("warning: ", fmt, args);
    va_end(args);
}

static void error_handle(int error) {
    void *arg;
    mi_error_fun *const fun = (mi_error_fun *)mi_hook_get(&message_error, &arg);
    if (fun != NULL)
        fun(error, arg);
    else if ((MI_DEBUG || MI_SECURE) && (error == MI_EFAULT || error == MI_EAGAIN))
        MI_TRAP();
}

void mi_message_error(int error, const char *fmt, ...) {
    if ((mi_option_value(mi_option_show_errors) > 0 || mi_option_value(mi_option_verbose) > 0) &&
        message_is_due(&errors_said, mi_option_max_errors)) {
        va_list args;
        va_start(args, fmt);
        message_line("error: ", fmt, args);
        va_end(args);
    }
    error_handle(error);
}

void mi_message_no_memory(size_t size) {
    if (mi_option_value(mi_option_verbose) > 0 &&
        message_is_due(&errors_said, mi_option_max_errors)) {
        char buf[MESSAGE_MAX];
        mi_text_t t;
        mi_text_init(&t, buf, sizeof(buf));
        mi_text_fmt(&t, "mimalloc: error: no memory for %zu bytes\n", size);
        mi_message_text(NULL, NULL, buf);
    }
    error_handle(size > PTRDIFF_MAX ? MI_EOVERFLOW : MI_ENOMEM);
}

void mi_message_corrupt(const char *what, const void *where) {
    mi_message_error(MI_EFAULT, "%s: %p", what, where);
}

void mi_message_assert(const char *fact, const char *file, int line) {
    mi_message_fmt(NULL, NULL, "mimalloc: assertion failed: %s (%s:%d)\n", fact, file, line);
}
