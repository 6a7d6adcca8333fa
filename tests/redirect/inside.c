// What a CRT allocates inside: every function whose result the caller frees, of every CRT named on
// the command line, as a table; and what a CRT made for itself before the redirection and frees or
// grows after it.
//
//   inside redirect.dll allocator.dll crt.dll ...
//
// In the table: ours (the result is the allocator's), theirs (it is not: a failure), absent (not
// exported), stub (exported by Wine, but not implemented).
#include "wtest.h"

enum { CRTS_MAX = 16, STUB = (int)0x80000100, HANDLERS = 400, SPAWN_CODE = 7 };

typedef struct crt_s {
    HMODULE module;
    const char *name;
    // From before the redirection:
    void *stream;        // a FILE with a buffer that holds unwritten text
    void *locale;        // from _create_locale
    char *copy;          // from _strdup
    char *value;         // from _dupenv_s
    HANDLE thread;       // has used strtok and asctime
    char path[MAX_PATH]; // of the file behind stream
} crt_t;

static crt_t crts[CRTS_MAX];
static unsigned crt_count;
static bool (*is_ours)(const void *);
static HANDLE may_end; // the threads of before may come to their end
static LONG threads_ready, handlers_run;

// ---- leaving a function that Wine has not implemented ----

static void *escape_buffer[5];
static volatile LONG is_armed;

static void escape(void) {
    __builtin_longjmp(escape_buffer, 1);
}

static LONG CALLBACK on_exception(EXCEPTION_POINTERS *e) {
    if ((int)e->ExceptionRecord->ExceptionCode != STUB || !is_armed)
        return EXCEPTION_CONTINUE_SEARCH;
#if MI_ARCH_X64
    e->ContextRecord->Rip = (uintptr_t)escape;
    e->ContextRecord->Rsp = (e->ContextRecord->Rsp & ~(uintptr_t)15) - 8;
#elif MI_ARCH_X86
    e->ContextRecord->Eip = (uintptr_t)escape;
#endif
    return EXCEPTION_CONTINUE_EXECUTION;
}

// ---- the table ----

typedef enum shape_e {
    DUP,
    WDUP,
    FULL,
    WFULL,
    CWD,
    DCWD,
    TEMP,
    WTEMP,
    ENV,
    WENV,
    NONE,
    CREATE_LOCALE,
    WCREATE_LOCALE,
    UNDNAME,
    UNDNAME_EX,
    DUP_DBG,
    WDUP_DBG,
    FULL_DBG,
    CWD_DBG,
    TEMP_DBG,
    ENV_DBG
} shape_t;

// How the caller gives it back.
typedef enum end_e { FREE, FREE_LOCALE } end_t;

static const struct {
    const char *name;
    shape_t shape;
    end_t end;
} rows[] = {
    {"_strdup", DUP, FREE},
    {"strdup", DUP, FREE},
    {"_mbsdup", DUP, FREE},
    {"_wcsdup", WDUP, FREE},
    {"wcsdup", WDUP, FREE},
    {"_fullpath", FULL, FREE},
    {"_wfullpath", WFULL, FREE},
    {"_getcwd", CWD, FREE},
    {"getcwd", CWD, FREE},
    {"_wgetcwd", CWD, FREE},
    {"_getdcwd", DCWD, FREE},
    {"_wgetdcwd", DCWD, FREE},
    {"_getdcwd_nolock", DCWD, FREE},
    {"_wgetdcwd_nolock", DCWD, FREE},
    {"_tempnam", TEMP, FREE},
    {"tempnam", TEMP, FREE},
    {"_wtempnam", WTEMP, FREE},
    {"_dupenv_s", ENV, FREE},
    {"_wdupenv_s", WENV, FREE},
    {"_Getdays", NONE, FREE},
    {"_Getmonths", NONE, FREE},
    {"_Gettnames", NONE, FREE},
    {"_W_Getdays", NONE, FREE},
    {"_W_Getmonths", NONE, FREE},
    {"_W_Gettnames", NONE, FREE},
    {"_get_current_locale", NONE, FREE_LOCALE},
    {"_create_locale", CREATE_LOCALE, FREE_LOCALE},
    {"_wcreate_locale", WCREATE_LOCALE, FREE_LOCALE},
    {"__unDName", UNDNAME, FREE},
    {"__unDNameEx", UNDNAME_EX, FREE},
    {"_strdup_dbg", DUP_DBG, FREE},
    {"_mbsdup_dbg", DUP_DBG, FREE},
    {"_wcsdup_dbg", WDUP_DBG, FREE},
    {"_fullpath_dbg", FULL_DBG, FREE},
    {"_getcwd_dbg", CWD_DBG, FREE},
    {"_wgetcwd_dbg", CWD_DBG, FREE},
    {"_tempnam_dbg", TEMP_DBG, FREE},
    {"_dupenv_s_dbg", ENV_DBG, FREE},
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static uintptr_t fn(const crt_t *c, const char *name) {
    return proc(c->module, name);
}

typedef void *(*any_t)(const void *, ...);

// The CRT functions are all __cdecl, so that one type serves for every number of arguments.
static void *call(const crt_t *c, uintptr_t at, shape_t shape) {
    static const char text[] = "a string that is long enough";
    static const WCHAR wide[] = L"a string that is long enough";
    const any_t f = (any_t)at;
    const void *const zero = NULL, *const one = (void *)1;
    void *out = NULL;
    size_t bytes = 0;
    switch (shape) {
    case DUP:
        return f(text);
    case WDUP:
        return f(wide);
    case DUP_DBG:
        return f(text, one, zero, zero);
    case WDUP_DBG:
        return f(wide, one, zero, zero);
    case FULL:
        return f(zero, "x", zero);
    case WFULL:
        return f(zero, L"x", zero);
    case FULL_DBG:
        return f(zero, "x", zero, one, zero, zero);
    case CWD:
        return f(zero, zero);
    case CWD_DBG:
        return f(zero, zero, one, zero, zero);
    case DCWD:
        return f(zero, zero, zero);
    case TEMP:
        return f("c:\\", "x");
    case WTEMP:
        return f(L"c:\\", L"x");
    case TEMP_DBG:
        return f("c:\\", "x", one, zero, zero);
    case ENV:
        (void)f(&out, &bytes, "SystemRoot");
        return out;
    case WENV:
        (void)f(&out, &bytes, L"SystemRoot");
        return out;
    case ENV_DBG:
        (void)f(&out, &bytes, "SystemRoot", one, zero, zero);
        return out;
    case NONE:
        return f(zero);
    case CREATE_LOCALE:
        return f(zero, "C");
    case WCREATE_LOCALE:
        return f(zero, L"C");
    case UNDNAME:
        return f(zero, "?function@@YAXHPEAD@Z", zero, fn(c, "malloc"), fn(c, "free"), zero);
    default: // UNDNAME_EX
        return f(zero, "?function@@YAXHPEAD@Z", zero, fn(c, "malloc"), fn(c, "free"), zero, zero);
    }
}

static __attribute__((noinline)) const char *result_of(const crt_t *c, unsigned row) {
    const uintptr_t at = fn(c, rows[row].name);
    if (at == 0)
        return "absent";
    if (__builtin_setjmp(escape_buffer) != 0) {
        is_armed = 0;
        return "stub";
    }
    is_armed = 1;
    void *p = call(c, at, rows[row].shape);
    is_armed = 0;
    if (p == NULL)
        return "NULL";
    const bool is_good = is_ours(p);
    const uintptr_t end = fn(c, rows[row].end == FREE ? "free" : "_free_locale");
    if (end != 0)
        ((void (*)(void *))end)(p);
    return is_good ? "ours" : "theirs";
}

// One line per function, one column per CRT.
static void print_table(void) {
    say("function");
    for (unsigned c = 0; c < crt_count; c++)
        say(" %s", crts[c].name);
    say("\n");
    unsigned ours = 0;
    for (unsigned row = 0; row < ROWS; row++) {
        say("%s", rows[row].name);
        for (unsigned c = 0; c < crt_count; c++) {
            const char *result = result_of(&crts[c], row);
            say(" %s", result);
            check(!mi_str_eq(result, "theirs") && !mi_str_eq(result, "NULL"), __LINE__,
                  rows[row].name, crts[c].name);
            ours += mi_str_eq(result, "ours");
        }
        say("\n");
    }
    say("%u results are ours\n", ours);
    CHECK(ours > 10 * crt_count);
}

// A block that _malloca took from the heap: a mark in front.
static __attribute__((noinline)) void marked(const crt_t *c) {
    const size_t mark_bytes = (sizeof(void *) == 8 ? 16 : 8);
    if (fn(c, "_freea") == 0)
        return;
    uint8_t *p = (uint8_t *)((void *(*)(size_t))fn(c, "malloc"))(100 + mark_bytes);
    CHECK_AT(is_ours(p), c->name);
    *(uint32_t *)(void *)p = 0xDDDD;
    if (__builtin_setjmp(escape_buffer) != 0) {
        is_armed = 0;
        return;
    }
    is_armed = 1;
    ((void (*)(void *))fn(c, "_freea"))(p + mark_bytes);
    is_armed = 0;
}

// ---- what is there before ----

static DWORD WINAPI thread_of_before(void *arg) {
    const crt_t *c = (const crt_t *)arg;
    char text[] = "one two";
    int when[9] = {1, 2, 3, 4, 5, 100, 1, 100, 0};
    char *(*const token)(char *, const char *) = (char *(*)(char *, const char *))fn(c, "strtok");
    char *(*const time_text)(const int *) = (char *(*)(const int *))fn(c, "asctime");
    CHECK_AT(mi_str_eq(token(text, " "), "one"), c->name);
    CHECK_AT(time_text(when) != NULL, c->name);
    InterlockedIncrement(&threads_ready);
    WaitForSingleObject(may_end, INFINITE);
    CHECK_AT(mi_str_eq(token(NULL, " "), "two"), c->name); // its memory is still there
    CHECK_AT(time_text(when) != NULL, c->name);
    return 0;
}

static void put_environment(const crt_t *c, const char *line, const char *wanted) {
    int (*const put)(const char *) = (int (*)(const char *))fn(c, "_putenv");
    char *(*const get)(const char *) = (char *(*)(const char *))fn(c, "getenv");
    CHECK_AT(put(line) == 0, c->name);
    const char *value = get("MI_INSIDE");
    CHECK_AT(value != NULL && mi_str_eq(value, wanted), c->name);
}

static int handler(void) {
    InterlockedIncrement(&handlers_run);
    return 0;
}

// Grows the CRT's table of exit functions, each time by so many that it must be reallocated.
static void register_handlers(const crt_t *c) {
    typedef int (*handler_t)(void);
    const uintptr_t onexit = fn(c, "_onexit"), exit_table = fn(c, "_crt_atexit");
    for (unsigned i = 0; i < HANDLERS; i++) {
        if (onexit != 0)
            CHECK_AT(((handler_t(*)(handler_t))onexit)(handler) != NULL, c->name);
        else if (exit_table != 0)
            CHECK_AT(((int (*)(handler_t))exit_table)(handler) == 0, c->name);
    }
}

// Runs the exit functions of before and of afterwards; the CRT then frees their table.
static void run_handlers(const crt_t *c) {
    const uintptr_t run = fn(c, "_cexit");
    CHECK_AT(run != 0, c->name);
    if (run != 0)
        ((void (*)(void))run)();
}

static void set_locales(const crt_t *c) {
    char *(*const set)(int, const char *) = (char *(*)(int, const char *))fn(c, "setlocale");
    static const char *const names[] = {"", "C", "English_United States.1252", "C", ""};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        (void)set(0, names[i]);
    CHECK_AT(set(0, "C") != NULL, c->name);
}

static void make_before(crt_t *c, unsigned number) {
    void *(*const open)(const char *, const char *) =
        (void *(*)(const char *, const char *))fn(c, "fopen");
    int (*const write)(const char *, void *) = (int (*)(const char *, void *))fn(c, "fputs");
    mi_text_t t;
    mi_text_init(&t, c->path, sizeof(c->path));
    mi_text_fmt(&t, "inside-%lu-%u.txt", GetCurrentProcessId(), number);
    c->stream = open(c->path, "w+");
    CHECK_AT(c->stream != NULL && write("written before\n", c->stream) >= 0, c->name);
    c->copy = ((char *(*)(const char *))fn(c, "_strdup"))("copied before");
    if (fn(c, "_create_locale") != 0)
        c->locale = ((void *(*)(int, const char *))fn(c, "_create_locale"))(0, "C");
    size_t bytes;
    if (fn(c, "_dupenv_s") != 0)
        (void)((int (*)(char **, size_t *, const char *))fn(c, "_dupenv_s"))(&c->value, &bytes,
                                                                             "SystemRoot");
    put_environment(c, "MI_INSIDE=before", "before");
    set_locales(c);
    register_handlers(c);
    c->thread = CreateThread(NULL, 0, thread_of_before, c, 0, NULL);
}

static void end_before(crt_t *c) {
    void (*const drop)(void *) = (void (*)(void *))fn(c, "free");
    int (*const write)(const char *, void *) = (int (*)(const char *, void *))fn(c, "fputs");
    char *(*const read)(char *, int, void *) = (char *(*)(char *, int, void *))fn(c, "fgets");
    char line[64];
    CHECK_AT(!is_ours(c->copy) && mi_str_eq(c->copy, "copied before"), c->name);
    drop(c->copy);
    drop(c->value);
    if (c->locale != NULL)
        ((void (*)(void *))fn(c, "_free_locale"))(c->locale);
    put_environment(c, "MI_INSIDE=after, and longer than it was before",
                    "after, and longer than it was before");
    put_environment(c, "MI_INSIDE=x", "x");
    set_locales(c);
    register_handlers(c);
    CHECK_AT(write("written after\n", c->stream) >= 0, c->name);
    ((void (*)(void *))fn(c, "rewind"))(c->stream);
    CHECK_AT(read(line, sizeof(line), c->stream) != NULL && mi_str_eq(line, "written before\n"),
             c->name);
    CHECK_AT(read(line, sizeof(line), c->stream) != NULL && mi_str_eq(line, "written after\n"),
             c->name);
    CHECK_AT(((int (*)(void *))fn(c, "fclose"))(c->stream) == 0, c->name);
    CHECK_AT(DeleteFileA(c->path), c->name);
}

// Argument and environment blocks of a child.
static void spawn(const crt_t *c) {
    int (*const run)(const char *) = (int (*)(const char *))fn(c, "system");
    CHECK_AT(run("exit 7") == SPAWN_CODE, c->name);
}

static unsigned long unknown_pointers(HMODULE redirect) {
    static char text[16384];
    unsigned long sum = 0;
    ((size_t(*)(char *, size_t, int))proc(redirect, "mi_redirect_status"))(text, sizeof(text), 0);
    for (const char *p = text; *p != 0; p++) {
        if (!mi_str_starts(p, "unknown pointers: "))
            continue;
        unsigned long n = 0;
        for (p += 18; *p >= '0' && *p <= '9'; p++)
            n = n * 10 + (unsigned long)(*p - '0');
        sum += n;
    }
    return sum;
}

void mainCRTStartup(void) {
    AddVectoredExceptionHandler(1, on_exception);
    may_end = CreateEventA(NULL, TRUE, FALSE, NULL);
    for (unsigned i = 3; *argument(i) != 0 && crt_count < CRTS_MAX; i++) {
        crts[crt_count] = (crt_t){.module = LoadLibraryA(argument(i)), .name = argument(i)};
        CHECK_AT(crts[crt_count].module != NULL, argument(i));
        crt_count += (crts[crt_count].module != NULL);
    }
    for (unsigned c = 0; c < crt_count; c++)
        make_before(&crts[c], c);
    while (threads_ready < (LONG)crt_count && wtest_failed == 0)
        SwitchToThread();
    const HMODULE redirect = LoadLibraryA(argument(1)), allocator = LoadLibraryA(argument(2));
    uintptr_t ask = proc(allocator, "standin_is_ours");
    ask = (ask != 0 ? ask : proc(allocator, "mi_is_in_heap_region"));
    is_ours = (bool (*)(const void *))ask;
    CHECK(is_ours != NULL && redirect != NULL);
    if (is_ours == NULL || redirect == NULL)
        finish();
    for (unsigned c = 0; c < crt_count; c++)
        end_before(&crts[c]);
    SetEvent(may_end);
    for (unsigned c = 0; c < crt_count; c++) {
        WaitForSingleObject(crts[c].thread, INFINITE);
        CloseHandle(crts[c].thread);
        marked(&crts[c]);
    }
    print_table();
    spawn(&crts[0]);
    for (unsigned c = 0; c < crt_count; c++)
        run_handlers(&crts[c]);
    // In sum, since a CRT may forward to another.
    CHECK(handlers_run == 2 * HANDLERS * (LONG)crt_count);
    CHECK(unknown_pointers(redirect) == 0);
    finish();
}
