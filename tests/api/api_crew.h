// Threads that do what they are told, one order after another, for tests in which several threads
// share blocks: whoever gives the orders knows when nobody works.
#ifndef API_CREW_H
#define API_CREW_H

#include <stdbool.h>
#ifdef _WIN32
#    include <windows.h>
typedef SRWLOCK crew_lock_t;
typedef CONDITION_VARIABLE crew_bell_t;
typedef HANDLE crew_thread_t;
#else
#    include <pthread.h>
typedef pthread_mutex_t crew_lock_t;
typedef pthread_cond_t crew_bell_t;
typedef pthread_t crew_thread_t;
#endif

typedef struct crew_member_s {
    crew_thread_t thread;
    crew_lock_t lock;
    crew_bell_t bell;       // an order was given, or carried out
    void (*work)(void *me); // NULL: nothing to do; under the lock
    void *me;               // what its orders are told
    bool is_last;           // it ends with the next order; under the lock
} crew_member_t;

#ifdef _WIN32
static void crew_lock(crew_member_t *m) {
    AcquireSRWLockExclusive(&m->lock);
}
static void crew_unlock(crew_member_t *m) {
    ReleaseSRWLockExclusive(&m->lock);
}
static void crew_sleep(crew_member_t *m) {
    SleepConditionVariableSRW(&m->bell, &m->lock, INFINITE, 0);
}
static void crew_ring(crew_member_t *m) {
    WakeAllConditionVariable(&m->bell);
}
#else
static void crew_lock(crew_member_t *m) {
    pthread_mutex_lock(&m->lock);
}
static void crew_unlock(crew_member_t *m) {
    pthread_mutex_unlock(&m->lock);
}
static void crew_sleep(crew_member_t *m) {
    pthread_cond_wait(&m->bell, &m->lock);
}
static void crew_ring(crew_member_t *m) {
    pthread_cond_broadcast(&m->bell);
}
#endif

// Until its last order.
static void crew_serve(crew_member_t *m) {
    for (bool is_last = false; !is_last;) {
        crew_lock(m);
        while (m->work == NULL)
            crew_sleep(m);
        void (*const work)(void *me) = m->work;
        is_last = m->is_last;
        crew_unlock(m);
        work(m->me);
        crew_lock(m);
        m->work = NULL;
        crew_ring(m);
        crew_unlock(m);
    }
}

#ifdef _WIN32
static DWORD WINAPI crew_main(LPVOID p) {
    crew_serve(p);
    return 0;
}

static bool crew_begin(crew_member_t *m) {
    InitializeSRWLock(&m->lock);
    InitializeConditionVariable(&m->bell);
    m->thread = CreateThread(NULL, 0, crew_main, m, 0, NULL);
    return m->thread != NULL;
}

static void crew_join(crew_member_t *m) {
    WaitForSingleObject(m->thread, INFINITE);
    CloseHandle(m->thread);
}
#else
static void *crew_main(void *p) {
    crew_serve(p);
    return NULL;
}

// Starts the thread, which waits for orders. false when there is none.
static bool crew_begin(crew_member_t *m) {
    return pthread_mutex_init(&m->lock, NULL) == 0 && pthread_cond_init(&m->bell, NULL) == 0 &&
           pthread_create(&m->thread, NULL, crew_main, m) == 0;
}

// Waits for the thread's end, after its last order.
static void crew_join(crew_member_t *m) {
    pthread_join(m->thread, NULL);
    pthread_cond_destroy(&m->bell);
    pthread_mutex_destroy(&m->lock);
}
#endif

// It begins with work at once. One order at a time.
static void crew_order(crew_member_t *m, void (*work)(void *me)) {
    crew_lock(m);
    m->work = work;
    crew_ring(m);
    crew_unlock(m);
}

// Until it has carried out its order.
static void crew_wait(crew_member_t *m) {
    crew_lock(m);
    while (m->work != NULL)
        crew_sleep(m);
    crew_unlock(m);
}

static void crew_do(crew_member_t *m, void (*work)(void *me)) {
    crew_order(m, work);
    crew_wait(m);
}

// Its last order, and its end.
static void crew_end(crew_member_t *m, void (*work)(void *me)) {
    crew_lock(m);
    m->is_last = true;
    crew_unlock(m);
    crew_do(m, work);
    crew_join(m);
}

#endif
