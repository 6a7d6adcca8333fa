// Run with the allocator preloaded: its fork handlers are registered by the first threads that take
// a lock beside another, as many of them as come at once, and what the C library allocates for that
// comes from the allocator, too. It does so for some numbers of handlers, so each number has a
// process. Meanwhile a thread forks, and the child allocates and has threads.
//
// The handlers of another library are among them: it has a lock, under which its threads allocate,
// and takes it before a fork. So ours must be the first to be registered, or both wait for ever.
#include "../test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 20, FORKS = 4, HANDLERS = 130, SECONDS = 20 };

static pthread_barrier_t start;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void nothing(void) {
}

static void use(void) {
    for (size_t size = 16; size < 200000; size += size / 2) {
        char *volatile p = malloc(size); // else the compiler would leave it all out
        CHECK(p != NULL);
        memset(p, 1, size);
        free(p);
    }
}

static void library_prepare(void) {
    pthread_mutex_lock(&mutex);
    use();
}

static void library_done(void) {
    use();
    pthread_mutex_unlock(&mutex);
}

static void *run(void *arg) {
    pthread_barrier_wait(&start);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        use();
        pthread_mutex_unlock(&mutex);
        use();
    }
    return arg;
}

static void fork_once(void) {
    const pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        alarm(SECONDS);
        use();
        pthread_barrier_init(&start, NULL, 1);
        CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
        pthread_join(thread, NULL);
        _exit(test_failed == 0 ? 0 : 1);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_MSG(status == 0, "the child's status is %x", status);
}

static int with_handlers(int count) {
    pthread_t threads[THREADS];
    alarm(2 * SECONDS);
    for (int i = 0; i < count; i++)
        CHECK(i == count / 2 ? pthread_atfork(library_prepare, library_done, library_done) == 0
                             : pthread_atfork(nothing, nothing, nothing) == 0);
    pthread_barrier_init(&start, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, NULL) == 0);
    pthread_barrier_wait(&start);
    for (int i = 0; i < FORKS; i++)
        fork_once();
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    fork_once();
    return test_failed == 0 ? 0 : 1;
}

int main(void) {
    for (int count = 1; count <= HANDLERS; count++) {
        const pid_t pid = fork();
        if (pid == 0)
            _exit(with_handlers(count));
        int status = 0;
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK_MSG(status == 0, "with %d handlers: status %x", count, status);
    }
    return test_result();
}
