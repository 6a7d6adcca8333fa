// A program for the tools' tests: echoes its arguments and its standard input through allocated
// memory, writes to both streams, ends with 77. --spawn does that in a child. With
// SAMPLE_LINKS_ALLOCATOR it also calls the allocator's DLL, as a linked user would. --control waits
// for Ctrl-C and ends with 78; --where tells its folder and an environment variable. --payload N
// shows what is appended to its own file, N bytes from the end or, with N negative, from the start.
// --start P ARGS starts another program, --code P ARGS tells how that one ended, --exit N ends so,
// --cat copies standard input, --serve N is a server with N workers. --owner ends with 91 when its
// malloc is the allocator's, with 92 when it is and mi_is_redirected denies it, else with 90.
#include <windows.h>

#include <fcntl.h>
#include <io.h>
#include <process.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef SAMPLE_LINKS_ALLOCATOR
__declspec(dllimport) int mi_version(void);
#endif

static HANDLE heard;
typedef _Bool (*bool_of)(const void *);

static BOOL WINAPI on_control(DWORD event) {
    if (event == CTRL_C_EVENT)
        SetEvent(heard);
    return TRUE;
}

static int wait_for_control(void) {
    heard = CreateEventA(NULL, TRUE, FALSE, NULL);
    SetConsoleCtrlHandler(NULL, FALSE);
    SetConsoleCtrlHandler(on_control, TRUE);
    printf("waiting\n");
    fflush(stdout);
    if (WaitForSingleObject(heard, 60000) != WAIT_OBJECT_0)
        return 1;
    printf("heard it\n");
    return 78;
}

static int tell_where(void) {
    char folder[1000] = "";
    GetCurrentDirectoryA(sizeof folder, folder);
    printf("in %s, MI_SAMPLE is %s\n", folder, getenv("MI_SAMPLE"));
    return 79;
}

// A self-extracting program in small: its data found from the end, or at a place it was told.
static int show_payload(const char *self, long at) {
    char *text = (char *)calloc(1, 65);
    FILE *f = fopen(self, "rb");
    if (f == NULL || text == NULL || fseek(f, -at, at < 0 ? SEEK_SET : SEEK_END) != 0)
        return 1;
    fread(text, 1, 64, f);
    printf("payload: %s\n", text);
    fclose(f);
    free(text);
    return 80;
}

// ---- what minject run has to pass through ----

static int start(char **args, int tells) {
    int code = (int)_spawnv(_P_WAIT, args[0], (const char *const *)args);
    if (!tells)
        return code;
    printf("ended with %08x\n", (unsigned)code);
    return 81;
}

static int owner(void) {
    HMODULE dll = GetModuleHandleA("mimalloc.dll");
    bool_of is_ours =
        (bool_of)(void *)(dll != NULL ? GetProcAddress(dll, "mi_is_in_heap_region") : NULL);
    void *p = malloc(100);
    int code = is_ours != NULL && is_ours(p) ? 91 : 90;
    free(p);
    _Bool (*says)(void) =
        (_Bool(*)(void))(void *)(dll != NULL ? GetProcAddress(dll, "mi_is_redirected") : NULL);
    if (code == 91 && says != NULL && !says())
        code = 92;
    return code;
}

static int cat(void) {
    char *block = (char *)malloc(50000);
    size_t n;
    _setmode(0, _O_BINARY);
    _setmode(1, _O_BINARY);
    while (block != NULL && (n = fread(block, 1, 50000, stdin)) != 0)
        fwrite(block, 1, n, stdout);
    free(block);
    return 82;
}

// ---- a server and its workers: each answers one request over a pipe ----

#define LINE 100

static HANDLE pipe_of(const char *name, DWORD count) {
    return CreateNamedPipeA(name, PIPE_ACCESS_DUPLEX, PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE,
                            count, LINE, LINE, 60000, NULL);
}

static int work(const char *name) {
    DWORD n = 0;
    char *line = (char *)calloc(1, LINE);
    HANDLE pipe;
    do { // all instances may be busy
        pipe = CreateFileA(name, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0, NULL);
    } while (pipe == INVALID_HANDLE_VALUE && WaitNamedPipeA(name, 60000));
    if (line == NULL || !ReadFile(pipe, line, LINE - 1, &n, NULL))
        return 1;
    for (DWORD i = 0; i < n; i++)
        line[i] = (char)(line[i] >= 'a' && line[i] <= 'z' ? line[i] - 32 : line[i]);
    if (!WriteFile(pipe, line, n, &n, NULL))
        return 2;
    free(line);
    return 83;
}

static int serve(const char *self, int count) {
    char name[64];
    char line[LINE];
    intptr_t workers[16];
    HANDLE pipes[16];
    int sum = 0;
    snprintf(name, sizeof name, "\\\\.\\pipe\\mi_sample_%lu", GetCurrentProcessId());
    for (int i = 0; i < count; i++) {
        const char *const args[] = {self, "--work", name, NULL};
        pipes[i] = pipe_of(name, (DWORD)count);
        workers[i] = _spawnv(_P_NOWAIT, self, args);
    }
    for (int i = 0; i < count; i++) {
        DWORD n = (DWORD)snprintf(line, sizeof line, "request %d", i);
        if (!ConnectNamedPipe(pipes[i], NULL) && GetLastError() != ERROR_PIPE_CONNECTED)
            return 1;
        if (!WriteFile(pipes[i], line, n, &n, NULL) ||
            !ReadFile(pipes[i], line, LINE - 1, &n, NULL))
            return 2;
        line[n] = 0;
        printf("%s\n", line);
    }
    for (int i = 0; i < count; i++) {
        int code = 0;
        _cwait(&code, workers[i], 0);
        sum += code;
    }
    return sum == count * 83 ? 84 : 3;
}

static int other_modes(char **argv) {
    if (strcmp(argv[1], "--start") == 0 || strcmp(argv[1], "--code") == 0)
        return start(argv + 2, argv[1][2] == 'c');
    if (strcmp(argv[1], "--exit") == 0)
        ExitProcess((UINT)strtoul(argv[2], NULL, 16));
    if (strcmp(argv[1], "--work") == 0)
        return work(argv[2]);
    if (strcmp(argv[1], "--serve") == 0)
        return serve(argv[0], atoi(argv[2]));
    return strcmp(argv[1], "--payload") == 0 ? show_payload(argv[0], atol(argv[2])) : -1;
}

int main(int argc, char **argv) {
    int code = argc >= 3 ? other_modes(argv) : -1;
    if (code >= 0)
        return code;
    if (argc == 2 && strcmp(argv[1], "--owner") == 0)
        return owner();
    if (argc == 2 && strcmp(argv[1], "--cat") == 0)
        return cat();
    if (argc >= 2 && strcmp(argv[1], "--control") == 0)
        return wait_for_control();
    if (argc >= 2 && strcmp(argv[1], "--where") == 0)
        return tell_where();
    // --spawn: starts itself with the other arguments, and ends as that ended.
    if (argc >= 2 && strcmp(argv[1], "--spawn") == 0) {
        argv[1] = argv[0];
        return (int)_spawnv(_P_WAIT, argv[0], (const char *const *)(argv + 1));
    }
    char *line = (char *)malloc(1000);
    for (int i = 1; i < argc; i++) {
        char *copy = strdup(argv[i]);
        printf("[%s]", copy);
        free(copy);
    }
    if (line != NULL && fgets(line, 1000, stdin) != NULL)
        printf("input: %s", line);
    free(line);
#ifdef SAMPLE_LINKS_ALLOCATOR
    if (mi_version() <= 0)
        return 1;
#endif
    fprintf(stderr, "to standard error\n");
    return 77;
}
