// A program for the tools' tests: echoes its arguments and its standard input through allocated
// memory, writes to both streams, ends with 77. --spawn does that in a child. With
// SAMPLE_LINKS_ALLOCATOR it also calls the allocator's DLL, as a linked user would. --control waits
// for Ctrl-C and ends with 78; --where tells its folder and an environment variable. --payload N
// shows what is appended to its own file, N bytes from the end or, with N negative, from the start.
#include <windows.h>

#include <process.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef SAMPLE_LINKS_ALLOCATOR
__declspec(dllimport) int mi_version(void);
#endif

static HANDLE heard;

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

int main(int argc, char **argv) {
    if (argc >= 3 && strcmp(argv[1], "--payload") == 0)
        return show_payload(argv[0], atol(argv[2]));
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
