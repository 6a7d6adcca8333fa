// suite list               the names
// suite NAME [scale]       runs one (scale 100 is the usual length)
// suite mix-SEED [scale]   runs a program drawn at random from the seed (suite_mixes.c)
// suite mix-SEED print     says what it does
// suite measure LIBRARY NAME scale
//                          runs one in a process of its own with the library preloaded ("" = none)
//                          and prints its wall and CPU seconds, its peak RSS in KiB and its page
//                          faults
#define _GNU_SOURCE 1
#include "suite.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void suite_fail(const char *what) {
    fprintf(stderr, "suite: %s\n", what);
    exit(2);
}

void suite_check(int is_true, const char *what) {
    if (!is_true)
        suite_fail(what);
}

void *suite_get(size_t size) {
    volatile char *p = malloc(size);
    if (p == NULL)
        suite_fail("no memory");
    p[0] = 1;
    return (void *)p;
}

void *suite_get_filled(size_t size) {
    void *p = suite_get(size);
    memset(p, (int)(size & 0x7F) + 1, size);
    return p;
}

void suite_parallel(int threads, void *(*run)(void *), void *args, size_t arg_bytes) {
    pthread_t t[256];
    suite_check(threads <= 256, "too many threads");
    for (int i = 0; i < threads; i++)
        suite_check(pthread_create(&t[i], NULL, run, (char *)args + (size_t)i * arg_bytes) == 0,
                    "no thread");
    for (int i = 0; i < threads; i++)
        pthread_join(t[i], NULL);
}

// Without stdio, whose buffers would be allocated. Not ru_maxrss: that also remembers the process
// before its exec.
static long status_kib(const char *what) {
    char text[4096];
    const int fd = open("/proc/self/status", O_RDONLY);
    const ssize_t n = (fd < 0 ? 0 : read(fd, text, sizeof(text) - 1));
    text[n > 0 ? n : 0] = 0;
    if (fd >= 0)
        close(fd);
    const char *at = strstr(text, what);
    return at == NULL ? 0 : atol(at + strlen(what));
}

long suite_rss_kib(void) {
    return status_kib("VmRSS:");
}

long suite_peak_rss_kib(void) {
    return status_kib("VmHWM:");
}

double suite_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double seconds(struct timeval t) {
    return (double)t.tv_sec + (double)t.tv_usec * 1e-6;
}

static void measure(char **argv) {
    int ends[2];
    long peak = 0;
    struct rusage usage;
    suite_check(pipe(ends) == 0, "no pipe");
    const double start = suite_now();
    const pid_t pid = fork();
    if (pid == 0) {
        char fd[16];
        snprintf(fd, sizeof fd, "%d", ends[1]);
        setenv("SUITE_RESULT_FD", fd, 1);
        if (argv[2][0] != 0)
            setenv("LD_PRELOAD", argv[2], 1);
        execv("/proc/self/exe", (char *[]){argv[0], argv[3], argv[4], NULL});
        _exit(3);
    }
    close(ends[1]);
    const ssize_t got = read(ends[0], &peak, sizeof(peak));
    int status = -1;
    suite_check(wait4(pid, &status, 0, &usage) == pid && status == 0 && got == sizeof(peak),
                "the program failed");
    printf("%.6f %.6f %ld %ld\n", suite_now() - start,
           seconds(usage.ru_utime) + seconds(usage.ru_stime), peak, usage.ru_minflt);
}

static int report(void) {
    const char *const fd = getenv("SUITE_RESULT_FD");
    const long peak = suite_peak_rss_kib();
    return fd == NULL || write(atoi(fd), &peak, sizeof(peak)) == sizeof(peak) ? 0 : 2;
}

int main(int argc, char **argv) {
    const suite_program_t *const tables[] = {suite_objects, suite_sizes, suite_threads,
                                             suite_limits};
    const char *const wanted = (argc > 1 ? argv[1] : "");
    const int scale = (argc > 2 ? atoi(argv[2]) : 100);
    if (argc == 5 && strcmp(wanted, "measure") == 0) {
        measure(argv);
        return 0;
    }
    if (strncmp(wanted, "mix-", 4) == 0) {
        char *end;
        const uint64_t seed = strtoull(wanted + 4, &end, 10);
        suite_check(end != wanted + 4 && *end == 0, "mix- takes a number: its seed");
        if (argc > 2 && strcmp(argv[2], "print") == 0) {
            suite_mix_print(seed);
            return 0;
        }
        suite_mix(seed, scale);
        return report();
    }
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const suite_program_t *p = tables[t]; p->name != NULL; p++) {
            if (strcmp(wanted, "list") == 0 && tables[t] != suite_limits)
                puts(p->name);
            if (strcmp(wanted, p->name) == 0) {
                p->run(scale);
                return report();
            }
        }
    }
    if (strcmp(wanted, "list") == 0)
        return 0;
    fprintf(stderr, "usage: suite list | suite NAME [scale] | suite measure LIBRARY NAME scale\n");
    return 2;
}
