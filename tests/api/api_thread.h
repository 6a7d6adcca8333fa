// A thread of its own for the contract tests, on every system.
#ifndef API_THREAD_H
#define API_THREAD_H

#include "api_test.h"
#ifdef _WIN32
#    include <windows.h>
#else
#    include <pthread.h>
#endif

typedef struct thread_job_s {
    void (*work)(void *arg);
    void *arg;
} thread_job_t;

#ifdef _WIN32
static DWORD WINAPI thread_main(LPVOID p) {
    const thread_job_t *const job = p;
    job->work(job->arg);
    return 0;
}

static void in_thread(void (*work)(void *arg), void *arg) {
    thread_job_t job = {work, arg};
    HANDLE const thread = CreateThread(NULL, 0, thread_main, &job, 0, NULL);
    CHECK(thread != NULL && WaitForSingleObject(thread, INFINITE) == WAIT_OBJECT_0);
    CloseHandle(thread);
}
#else
static void *thread_main(void *p) {
    const thread_job_t *const job = p;
    job->work(job->arg);
    return NULL;
}

// Runs work(arg) in a thread and waits for its end.
static void in_thread(void (*work)(void *arg), void *arg) {
    thread_job_t job = {work, arg};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, thread_main, &job) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}
#endif

#endif
