// The first use of a CRT in a thread, from inside our replacement: setting errno makes the thread's
// data, by the CRT's own calloc, which is ours again. And when there is no memory for that data,
// and when many threads are killed in there: errno keeps its meaning for those that come later,
// with the same thread ids, too.
//
//   first_use redirect.dll allocator.dll crt.dll ...
#include "wtest.h"

enum { CRT_ENOMEM = 12, DEATHS = 300, AT_ONCE = 60 };
// Under Wine a thread whose stack overflows is gone without a word, and its exit code is 0.
enum { CAME_BACK = 7 };

static const char *name;
static void *(*make)(size_t);
static void *(*make_zeroed)(size_t, size_t);
static void (*drop)(void *);
static int *(*error_at)(void);
static volatile LONG handled;

static DWORD WINAPI fail_first(void *arg) {
    CHECK_AT(make(SIZE_MAX / 2) == NULL, name);
    CHECK_AT(*error_at() == CRT_ENOMEM, name);
    *error_at() = 0;
    CHECK_AT(make_zeroed(SIZE_MAX / 4, 3) == NULL && *error_at() == CRT_ENOMEM, name);
    void *p = make(100);
    CHECK_AT(p != NULL, name);
    drop(p);
    (void)arg;
    return CAME_BACK;
}

// The data of the thread cannot be made either: the failing calloc would have errno set, too.
static DWORD WINAPI fail_inside(void *arg) {
    CHECK_AT(make(SIZE_MAX / 2) == NULL, name);
    CHECK_AT(error_at() != NULL, name);
    CHECK_AT(make_zeroed(SIZE_MAX / 2, 1) == NULL && *error_at() == CRT_ENOMEM, name);
    (void)arg;
    return CAME_BACK;
}

static int give_up(size_t size) {
    (void)size;
    InterlockedIncrement(&handled);
    return 0;
}

static volatile LONG inside_count;
static HANDLE never; // an event

static void stay_inside(void) {
    InterlockedIncrement(&inside_count);
    (void)WaitForSingleObject(never, INFINITE);
}

static DWORD WINAPI stop_inside(void *arg) {
    (void)arg;
    (void)make(SIZE_MAX / 2);
    return 1;
}

// A place that the dead keep would be missed by the living.
static void die_inside(void (*set_hook)(void (*)(void))) {
    never = CreateEventA(NULL, TRUE, FALSE, NULL);
    inside_count = 0;
    set_hook(stay_inside);
    for (LONG done = 0; done < DEATHS; done += AT_ONCE) {
        HANDLE threads[AT_ONCE];
        for (unsigned i = 0; i < AT_ONCE; i++)
            threads[i] = CreateThread(NULL, 65536, stop_inside, NULL,
                                      STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
        // One that comes out was not let in.
        while (inside_count < done + AT_ONCE &&
               WaitForMultipleObjects(AT_ONCE, threads, FALSE, 0) == WAIT_TIMEOUT)
            SwitchToThread();
        for (unsigned i = 0; i < AT_ONCE; i++) {
            CHECK_AT(TerminateThread(threads[i], 1), name);
            (void)WaitForSingleObject(threads[i], INFINITE);
            CloseHandle(threads[i]);
        }
    }
    set_hook(NULL);
    CloseHandle(never);
    CHECK_AT(inside_count == DEATHS, name);
}

static void in_threads(LPTHREAD_START_ROUTINE f) {
    HANDLE threads[8];
    for (unsigned i = 0; i < 8; i++)
        threads[i] = CreateThread(NULL, 0, f, NULL, 0, NULL);
    CHECK_AT(WaitForMultipleObjects(8, threads, TRUE, INFINITE) < 8, name);
    for (unsigned i = 0; i < 8; i++) {
        DWORD code = 1;
        CHECK_AT(GetExitCodeThread(threads[i], &code) && code == CAME_BACK, name);
        CloseHandle(threads[i]);
    }
}

void mainCRTStartup(void) {
    for (unsigned i = 3; *argument(i) != 0; i++)
        CHECK_AT(LoadLibraryA(argument(i)) != NULL, argument(i));
    CHECK(LoadLibraryA(argument(1)) != NULL && LoadLibraryA(argument(2)) != NULL);
    for (unsigned i = 3; *argument(i) != 0; i++) {
        const HMODULE m = GetModuleHandleA(name = argument(i));
        make = (void *(*)(size_t))proc(m, "malloc");
        make_zeroed = (void *(*)(size_t, size_t))proc(m, "calloc");
        drop = (void (*)(void *))proc(m, "free");
        error_at = (int *(*)(void))proc(m, "_errno");
        in_threads(fail_first);
        void (*const set_bytes)(size_t) = (void (*)(size_t))proc(m, "synth_set_thread_bytes");
        if (set_bytes == NULL)
            continue;
        set_bytes(SIZE_MAX / 4);
        in_threads(fail_inside);
        ((void *(*)(void *))proc(m, "_set_new_handler"))((void *)(uintptr_t)give_up);
        ((int (*)(int))proc(m, "_set_new_mode"))(1);
        in_threads(fail_inside); // with a handler, which is asked for both
        ((int (*)(int))proc(m, "_set_new_mode"))(0);
        CHECK_AT(handled > 0, name);
        set_bytes(64);
        in_threads(fail_first);
        if (i > 3) // once is enough
            continue;
        die_inside((void (*)(void (*)(void)))proc(m, "synth_set_errno_hook"));
        for (unsigned k = 0; k < 4; k++)
            in_threads(fail_first);
    }
    finish();
}
