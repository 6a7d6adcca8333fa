// The fork handlers are registered late: when a lock is taken in a process that has more than one
// thread (os_linux.c). Each scene is a process of its own, in which one thread stops while it holds
// its n-th lock since there are two, and the other one forks: the child must find every lock free.
// In every other scene the handlers are registered twice. Either thread is the holder, the first
// one of the process or one that has just begun to use the allocator; the forking one has then used
// it, or never.
#define _GNU_SOURCE 1
#include "use.h"

#include "core/lock.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECONDS = 20, SCENE_OVER = 9 };

extern char __libc_single_threaded __attribute__((weak));

static atomic_int holder_stop; // at which of its locks the holder stops, 0 = at none
static atomic_bool is_held, may_go, is_done;
static _Thread_local bool is_holder, is_forker;
static _Thread_local int locks;

void mi_lock_wanted(void) {
    if (is_forker)
        may_go = true;
}

void mi_lock_entered(mi_lock_t *lock) {
    (void)lock;
    if (!is_holder || ++locks != holder_stop)
        return;
    is_held = true;
    while (!may_go)
        sched_yield();
}

void mi_lock_left(void) {
}

static void use_everything(void) {
    void *blocks[40];
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 40; i++)
            blocks[i] = use_malloc((size_t)24 << (i % 20));
        for (unsigned i = 0; i < 40; i++)
            CHECK(use_free(blocks[i]) == MI_FREE_OK);
    }
    mi_heap_t *const heap = mi_core_heap_new();
    CHECK(heap != NULL && mi_core_heap_malloc(heap, 100, false) != NULL);
    mi_core_heap_delete(heap);
    mi_core_collect(true);
}

static void hold(void) {
    for (int i = 0; i < 2 && holder_stop % 2 != 0; i++)
        mi_os_fork_make_ready(); // as by two threads at the same time
    is_holder = true;
    use_everything();
    is_holder = false;
    is_done = true;
}

static void *use_thread(void *arg) {
    use_everything();
    return arg;
}

static int child(void) {
    alarm(SECONDS); // a lock that is never free ends the child, and the test fails
    pthread_t thread;
    is_forker = false;
    use_everything();
    CHECK(pthread_create(&thread, NULL, use_thread, NULL) == 0);
    pthread_join(thread, NULL);
    return test_failed == 0 ? 0 : 1;
}

static void fork_once(void) {
    while (!is_held && !is_done)
        sched_yield();
    is_forker = true;
    const pid_t pid = fork();
    if (pid == 0)
        _exit(child());
    is_forker = false;
    may_go = true;
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_MSG(status == 0, "lock %d: the child's status is %x", holder_stop, status);
}

static void *fork_thread(void *arg) {
    fork_once();
    return arg;
}

static void *hold_thread(void *arg) {
    hold();
    return arg;
}

// SCENE_OVER: the holder takes fewer locks than that.
static int scene(int stop, bool first_holds) {
    pthread_t thread;
    alarm(2 * SECONDS);
    use_everything();
    CHECK(!MI_LATE || &__libc_single_threaded == NULL || !mi_os_fork_is_ready);
    holder_stop = stop;
    CHECK(pthread_create(&thread, NULL, first_holds ? fork_thread : hold_thread, NULL) == 0);
    if (first_holds)
        hold();
    else
        fork_once();
    pthread_join(thread, NULL);
    CHECK(mi_os_fork_is_ready);
    return test_failed != 0 ? 1 : is_held ? 0 : SCENE_OVER;
}

// One thread forks, its child has threads and forks, too.
static int scene_alone(void) {
    use_everything();
    const pid_t pid = fork();
    if (pid == 0)
        _exit(scene(1, false));
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    use_everything();
    CHECK(!MI_LATE || &__libc_single_threaded == NULL || !mi_os_fork_is_ready);
    return test_failed == 0 ? 0 : 1;
}

static int in_process(int stop, bool first_holds) {
    const pid_t pid = fork();
    if (pid == 0)
        _exit(stop == 0 ? scene_alone() : scene(stop, first_holds));
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

int main(void) {
    CHECK(in_process(0, false) == 0);
    for (int first_holds = 0; first_holds < 2; first_holds++) {
        int stop = 0, code = 0;
        while (code == 0)
            code = in_process(++stop, first_holds != 0);
        CHECK_MSG(code == SCENE_OVER, "scene %d of %d: %d", stop, first_holds, code);
        printf("%s: %d locks\n", first_holds ? "the first thread holds" : "a new one holds",
               stop - 1);
        CHECK(stop > 20);
    }
    return test_result();
}
