// A library that goes waits for threads that are in its hook for a thread's end, and the child of a
// fork(), which has no such threads, waits for none.
#include "test.h"
#include "os/os.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

static sem_t is_in_hook;                    // a thread is in the hook
static atomic_bool goes;                    // it may go on
static atomic_bool has_left, has_forgotten; // the hook's end; what must come after it

static void hook(void) {
    sem_post(&is_in_hook);
    while (!goes)
        sched_yield();
    // Long enough for one who does not wait to be done; one who waits is never done here.
    for (int i = 0; i < 20000 && !has_forgotten; i++)
        sched_yield();
    CHECK(!has_forgotten);
    has_left = true;
}

static void nothing(void) {
}

static void *end_soon(void *arg) {
    mi_os_thread_watch();
    return arg;
}

static void wait_for_child(void) {
    int status = 0;
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(20); // one that waits for ever is ended, and the test fails
        mi_os_threads_forget();
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
}

int main(void) {
    pthread_t thread;
    sem_init(&is_in_hook, 0, 0);
    CHECK(mi_os_on_thread_exit(hook) == 0);
    CHECK(mi_os_on_fork(nothing, nothing, nothing) == 0);
    pthread_create(&thread, NULL, end_soon, NULL);
    while (sem_wait(&is_in_hook) != 0) {
    }
    wait_for_child();
    goes = true;
    mi_os_threads_forget();
    has_forgotten = true;
    CHECK(has_left);
    pthread_join(thread, NULL);
    return test_result();
}
