// Loads a plugin that has the static library inside and unloads it, again and again, while threads
// that allocated in it live on, end during that time, or end afterwards. Nobody may be sent into
// code that is no longer there: not a thread that ends, not a fork, not exit. What is left of the
// plugin's memory depends on what it kept and on mi_option_destroy_on_exit.
//
//   unload_host PLUGIN ROUNDS MODE     MODE: c = the plugin frees all, k = it keeps some; then g =
//                                      its memory must be gone, s = its live blocks must stay
#define _GNU_SOURCE 1 // dladdr
#include "../test.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int (*work_fn)(unsigned seed, int keeps);
typedef const char *(*text_fn)(void);
typedef void (*huge_fn)(int keeps);

#ifdef _WIN32
#    include <windows.h>
typedef HANDLE signal_t;
typedef HANDLE thread_t;
#    define THREAD_RESULT DWORD WINAPI
static void signal_make(signal_t *s) {
    *s = CreateSemaphoreA(NULL, 0, 1000000, NULL);
}
static void signal_give(signal_t *s) {
    ReleaseSemaphore(*s, 1, NULL);
}
static void signal_take(signal_t *s) {
    WaitForSingleObject(*s, INFINITE);
}
static void thread_start(thread_t *t, DWORD(WINAPI *run)(void *), void *arg) {
    *t = CreateThread(NULL, 0, run, arg, 0, NULL);
}
static void thread_join(thread_t *t) {
    WaitForSingleObject(*t, INFINITE);
    CloseHandle(*t);
}
static void *module_load(const char *path) {
    return LoadLibraryA(path);
}
static void *module_find(void *module, const char *name) {
    return (void *)GetProcAddress((HMODULE)module, name);
}
static bool module_unload(void *module, void *inside) {
    HMODULE still;
    const bool is_done = FreeLibrary((HMODULE)module);
    return is_done && !GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS |
                                              GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                                          (const char *)inside, &still);
}
// Bytes of all reservations, and of what is committed of them.
static void memory_of_process(size_t *addresses, size_t *used) {
    MEMORY_BASIC_INFORMATION m;
    *addresses = *used = 0;
    for (const char *p = NULL; VirtualQuery(p, &m, sizeof(m)) != 0;
         p = (const char *)m.BaseAddress + m.RegionSize) {
        *addresses += (m.State != MEM_FREE ? m.RegionSize : 0);
        *used += (m.State == MEM_COMMIT && m.Type == MEM_PRIVATE ? m.RegionSize : 0);
        if ((uintptr_t)m.BaseAddress + m.RegionSize < (uintptr_t)m.BaseAddress)
            break;
    }
}
static void check_fork(void) {
}
// The next slot of threads that is free.
static unsigned slot_next(void) {
    const DWORD slot = TlsAlloc();
    TlsFree(slot);
    return (unsigned)slot;
}
#else
#    include <dlfcn.h>
#    include <pthread.h>
#    include <semaphore.h>
#    include <sys/wait.h>
#    include <unistd.h>
typedef sem_t signal_t;
typedef pthread_t thread_t;
#    define THREAD_RESULT void *
static void signal_make(signal_t *s) {
    sem_init(s, 0, 0);
}
static void signal_give(signal_t *s) {
    sem_post(s);
}
static void signal_take(signal_t *s) {
    while (sem_wait(s) != 0) {
    }
}
static void thread_start(thread_t *t, void *(*run)(void *), void *arg) {
    CHECK(pthread_create(t, NULL, run, arg) == 0);
}
static void thread_join(thread_t *t) {
    pthread_join(*t, NULL);
}
static void *module_load(const char *path) {
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}
static void *module_find(void *module, const char *name) {
    return dlsym(module, name);
}
static bool module_unload(void *module, void *inside) {
    Dl_info info;
    return dlclose(module) == 0 && dladdr(inside, &info) == 0;
}
static void memory_of_process(size_t *addresses, size_t *used) {
    unsigned long all = 0, resident = 0;
    FILE *const f = fopen("/proc/self/statm", "r");
    CHECK(f != NULL && fscanf(f, "%lu %lu", &all, &resident) == 2);
    fclose(f);
    *addresses = all * (size_t)sysconf(_SC_PAGESIZE);
    *used = resident * (size_t)sysconf(_SC_PAGESIZE);
}
static void check_fork(void) {
    int status = 1;
    const pid_t pid = fork();
    if (pid == 0)
        _exit(malloc(100) == NULL);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}
static unsigned slot_next(void) {
    pthread_key_t key = 0;
    CHECK(pthread_key_create(&key, NULL) == 0);
    pthread_key_delete(key);
    return (unsigned)key;
}
#endif

enum { WORKERS = 4 };

static work_fn volatile work; // of the plugin as it is loaded now
static bool keeps;
static volatile bool is_over;

typedef struct worker_s {
    thread_t thread;
    signal_t go, done;
    unsigned seed;
    int result;
} worker_t;

// Lives through all rounds.
static THREAD_RESULT worker_run(void *arg) {
    worker_t *const w = (worker_t *)arg;
    for (;;) {
        signal_take(&w->go);
        if (is_over)
            return 0;
        w->result = work(w->seed++, keeps);
        signal_give(&w->done);
    }
}

// Allocates in the plugin and ends when it is told to.
static THREAD_RESULT guest_run(void *arg) {
    worker_t *const w = (worker_t *)arg;
    w->result = work(w->seed, keeps);
    signal_give(&w->done);
    signal_take(&w->go);
    return 0;
}

static void guest_start(worker_t *w, unsigned seed) {
    w->seed = seed;
    thread_start(&w->thread, guest_run, w);
    signal_take(&w->done);
    CHECK(w->result == 1);
}

static void guest_end(worker_t *w) {
    signal_give(&w->go);
    thread_join(&w->thread);
}

static worker_t workers[WORKERS], early, late;

// The text that the plugin gave out.
static const char *one_round(const char *path, unsigned round) {
    void *const module = module_load(path);
    CHECK(module != NULL);
    if (module == NULL)
        exit(2);
    void *const inside = module_find(module, "plugin_work");
    work = (work_fn)inside;
    const char *const text = (keeps ? ((text_fn)module_find(module, "plugin_text"))() : NULL);
    for (unsigned i = 0; i < WORKERS; i++)
        signal_give(&workers[i].go);
    guest_start(&early, round);
    guest_start(&late, round + 1);
    CHECK(work(round, keeps) == 1);
    ((huge_fn)module_find(module, "plugin_huge"))(keeps);
    guest_end(&early);
    for (unsigned i = 0; i < WORKERS; i++) {
        signal_take(&workers[i].done);
        CHECK(workers[i].result == 1);
    }
    CHECK(module_unload(module, inside));
    guest_end(&late);
    return text;
}

int main(int argc, char **argv) {
    if (argc < 4)
        return 2;
    const unsigned rounds = (unsigned)atoi(argv[2]);
    const unsigned warm = rounds / 4;
    const bool must_go = (argv[3][1] == 'g');
    unsigned slot = 0;
    size_t addresses = 0, used = 0, addresses_end = 0, used_end = 0;
    keeps = (argv[3][0] == 'k');
    signal_make(&early.go);
    signal_make(&early.done);
    signal_make(&late.go);
    signal_make(&late.done);
    for (unsigned i = 0; i < WORKERS; i++) {
        signal_make(&workers[i].go);
        signal_make(&workers[i].done);
        thread_start(&workers[i].thread, worker_run, &workers[i]);
    }
    for (unsigned round = 0; round < rounds; round++) {
        const char *const text = one_round(argv[1], round);
        if (keeps && !must_go)
            CHECK(strcmp(text, "of the plugin") == 0);
        if (round % 50 == 0)
            check_fork();
        if (round == warm) {
            memory_of_process(&addresses, &used);
            slot = slot_next();
        }
    }
    memory_of_process(&addresses_end, &used_end);
    CHECK_MSG(slot_next() == slot, "slots of threads are lost");
    is_over = true;
    for (unsigned i = 0; i < WORKERS; i++) {
        signal_give(&workers[i].go);
        thread_join(&workers[i].thread);
    }
    check_fork();
    const double each = (double)(rounds - warm - 1) * 1024;
    const double more = ((double)addresses_end - (double)addresses) / each;
    const double more_used = ((double)used_end - (double)used) / each;
    printf("%u rounds; in each %.1f KiB more of addresses, %.1f KiB of memory\n", rounds, more,
           more_used);
    if (must_go)
        CHECK(more < 64 && more_used < 8);
    else
        CHECK(more > 1024); // this test sees what stays
    return test_result();
}
