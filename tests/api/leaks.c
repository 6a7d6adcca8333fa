// Leaves blocks behind and tells which, for run_leaks.py, which reads what is listed at the end.
#include <mimalloc.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef _WIN32
#    include <windows.h>
#else
#    include <pthread.h>
#    include <semaphore.h>
#    include <unistd.h>
#endif

// What threads freed that are not its owner: they hand it back, hold it back for their own next
// requests, or hold it until there are more. The third kind is alive until the end of the process.
enum { ELSEWHERE = 12 };
static void *elsewhere[ELSEWHERE];

static void free_elsewhere(int first, int last, int has_own) {
    void *const own = (has_own ? mi_malloc(444) : NULL);
    for (int i = first; i < last; i++)
        mi_free(elsewhere[i]);
    mi_free(own);
}

#ifdef _WIN32
static HANDLE done;
static DWORD WINAPI end(LPVOID arg) {
    (void)arg;
    free_elsewhere(0, 4, 0);
    return 0;
}
static DWORD WINAPI stay(LPVOID arg) {
    free_elsewhere(arg == NULL ? 4 : 8, arg == NULL ? 8 : 12, arg == NULL);
    ReleaseSemaphore(done, 1, NULL);
    Sleep(INFINITE);
    return 0;
}
static void run_threads(void) {
    done = CreateSemaphoreA(NULL, 0, 2, NULL);
    WaitForSingleObject(CreateThread(NULL, 0, end, NULL, 0, NULL), INFINITE);
    for (int i = 0; i < 2; i++) {
        CreateThread(NULL, 0, stay, i == 0 ? NULL : &done, 0, NULL);
        WaitForSingleObject(done, INFINITE);
    }
}
#else
static sem_t done;
static void *end(void *arg) {
    free_elsewhere(0, 4, 0);
    return arg;
}
static void *stay(void *arg) {
    free_elsewhere(arg == NULL ? 4 : 8, arg == NULL ? 8 : 12, arg == NULL);
    sem_post(&done);
    for (;;)
        pause();
}
static void run_threads(void) {
    pthread_t thread;
    sem_init(&done, 0, 0);
    pthread_create(&thread, NULL, end, NULL);
    pthread_join(thread, NULL);
    for (int i = 0; i < 2; i++) {
        pthread_create(&thread, NULL, stay, i == 0 ? NULL : &done);
        sem_wait(&done);
    }
}
#endif

int main(int argc, char **argv) {
    const int many = (argc > 1 ? atoi(argv[1]) : 0);
    static char buffer[4096];
    setvbuf(stdout, buffer, _IOFBF, sizeof(buffer)); // no allocation after the threads
    void *kept[3] = {mi_malloc(111), mi_malloc(70000), mi_zalloc_aligned(3000, 256)};
    void *const freed = mi_malloc(222);
    static void *volatile held;
    for (int i = 0; i < many; i++) {
        void **const p = (void **)mi_malloc(40);
        *p = held;
        held = p;
    }
    mi_free(freed);
    for (int i = 0; i < ELSEWHERE; i++)
        elsewhere[i] = mi_malloc(444);
    run_threads();
    if (argc > 2) { // damaged, and never freed
        ((char *)kept[0])[111] = 1;
        ((char *)kept[1])[70002] = 1;
    }
    for (int i = 0; i < 3; i++)
        printf("kept %p %d\n", kept[i], i == 0 ? 111 : i == 1 ? 70000 : 3000);
    printf("freed %p\n", freed);
    for (int i = 0; i < ELSEWHERE; i++)
        printf("freed %p\n", elsewhere[i]);
    fflush(stdout);
    if (argc > 4)
        mi_process_done();
#ifndef _WIN32
    if (argc == 4) // as many programs do in a handler of exit()
        close(STDERR_FILENO);
#endif
    return 0;
}
