// What mi_new and its like do in a C program when memory is short: no handler helps, nothing can be
// thrown, so the process ends, with a message that names the size. On Windows that is so for C++
// programs too, as far as they call the DLL's functions by name: exit code 3, as abort has it.
//   test_new_end                 every function
//   test_new_end NUMBER file     one of them; its message goes to the file
#include "api_test.h"

#include <fcntl.h>
#include <stdlib.h>
#ifdef _WIN32
#    include <io.h>
#    include <process.h>
#    include <windows.h>
#    define WHY "no new-handler could help"
#else
#    include <signal.h>
#    include <sys/wait.h>
#    include <unistd.h>
#    define O_BINARY 0
#    define WHY      "there is no C++ runtime to throw std::bad_alloc"
#endif

enum { ENDED = 3, CAME_BACK = 9, FUNCTIONS = 7 };

static int said_to;
static void say(const char *msg, void *arg) {
    (void)arg;
    if (write(said_to, msg, (unsigned)strlen(msg)) < 0)
        _exit(8);
}

static int child(int number, const char *file) {
    const size_t most = opaque(SIZE_MAX / 2 + 1);
    said_to = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_BINARY, 0600);
    mi_option_disable(mi_option_show_errors); // the message of malloc's failure; the last one comes
    mi_register_output(say, NULL);
    void *p = NULL;
    switch (number) {
    case 0:
        p = mi_new(most);
        break;
    case 1:
        p = mi_new_aligned(most, 64);
        break;
    case 2:
        p = mi_new_n(most, 4);
        break;
    case 3:
        p = mi_new_realloc(mi_malloc(10), most);
        break;
    case 4:
        p = mi_new_reallocn(mi_malloc(10), most, 4);
        break;
    case 5:
        p = mi_heap_alloc_new(mi_heap_main(), most);
        break;
    default:
        p = mi_heap_alloc_new_n(mi_heap_main(), most, 4);
        break;
    }
    mi_free(p);
    return CAME_BACK;
}

static int run_self(const char *self, const char *number, const char *file) {
#ifdef _WIN32
    return (int)_spawnl(_P_WAIT, self, self, number, file, NULL);
#else
    const pid_t pid = fork();
    if (pid == 0) {
        execl(self, self, number, file, (char *)NULL);
        _exit(7);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? ENDED : status;
#endif
}

int main(int argc, char **argv) {
    if (argc == 3)
        return child(atoi(argv[1]), argv[2]);
    char file[64];
    snprintf(file, sizeof(file), "new-end-%d.tmp", (int)getpid());
    for (int i = 0; i < FUNCTIONS; i++) {
        char number[8], said[1000] = "";
        snprintf(number, sizeof(number), "%d", i);
        const int status = run_self(argv[0], number, file);
        CHECK_MSG(status == ENDED, "function %d ended with %x", i, status);
        FILE *const f = fopen(file, "rb");
        const size_t n = (f == NULL ? 0 : fread(said, 1, sizeof(said) - 1, f));
        if (f != NULL)
            fclose(f);
        char expected[200];
        const bool has_count = (i == 2 || i == 4 || i == 6); // their product has overflowed
        snprintf(expected, sizeof(expected),
                 "mimalloc: error: operator new has no memory for %llu bytes, and " WHY "\n",
                 (unsigned long long)(has_count ? SIZE_MAX : SIZE_MAX / 2 + 1));
        CHECK_MSG(n > 0 && strcmp(said, expected) == 0, "function %d says: \"%s\"", i, said);
    }
    remove(file);
    // The nothrow forms give NULL.
    const size_t most = opaque(SIZE_MAX / 2 + 1);
    CHECK(mi_new_nothrow(most) == NULL && mi_new_aligned_nothrow(most, 64) == NULL);
    return test_result();
}
