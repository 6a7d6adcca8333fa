// The files and processes of the system, for the tool. One implementation per system; paths are
// UTF-8.
#ifndef MI_MINJECT_PLATFORM_H
#define MI_MINJECT_PLATFORM_H

#include "base/base.h"

typedef enum plat_status_e {
    PLAT_OK = 0,
    PLAT_NOT_FOUND,
    PLAT_DIRECTORY,
    PLAT_DENIED,
    PLAT_READ_ONLY,
    PLAT_NO_MEMORY,
    PLAT_FAILED
} plat_status_t;

typedef struct plat_file_s {
    uint8_t *bytes; // malloc, or a mapping that must not be written to; freed by plat_free_file
    size_t size;
    bool is_mapped;
} plat_file_t;

// On failure plat_last_error() says what the system said. A mapped file costs memory only where it
// is looked at, and no copy; on Windows it cannot be replaced before it is freed.
plat_status_t plat_read_file(const char *path, plat_file_t *out);
plat_status_t plat_map_file(const char *path, plat_file_t *out);
void plat_free_file(plat_file_t *file);
const char *plat_last_error(void);

bool plat_file_exists(const char *path);
bool plat_same_file(const char *a, const char *b);
// Whether the file is marked as read-only; false when it does not exist.
bool plat_is_read_only(const char *path);

// Is it not to be had because another program has it open, or runs it? false where that hinders
// nobody.
bool plat_is_in_use(const char *path);
void plat_remove_file(const char *path);

// How many names (hard links) the file has; 0 = not known.
uint32_t plat_link_count(const char *path);

// A file that comes into being at once: a temporary file in the same folder, flushed to the disk,
// given the permissions and times of `like`, and renamed over path. A reader sees the old file or
// the new one, nothing between. A symbolic link stays one. One at a time: when the tool is
// interrupted, the temporary file is removed.
typedef struct plat_out_s {
    char target[4096];
    char temporary[4096 + 32];
    intptr_t file; // -1 = none
} plat_out_t;

plat_status_t plat_out_begin(plat_out_t *out, const char *path);
plat_status_t plat_out_write(plat_out_t *out, const void *bytes, size_t count);
// What was written so far, mapped.
plat_status_t plat_out_map(const plat_out_t *out, plat_file_t *file);
plat_status_t plat_out_commit(plat_out_t *out, const char *like);
void plat_out_abort(plat_out_t *out); // nothing is left behind; also after a failure

// Milliseconds of a clock that only goes forward.
uint64_t plat_milliseconds(void);

// The folder part of a path with its separator, "" when it has none, as a length.
size_t plat_folder_length(const char *path);
// A file of this name in the folder, whatever its case: its path in out. false = none.
bool plat_find_in_folder(const char *folder, const char *name, char *out, size_t cap);
bool plat_is_terminal(int fd);
// The folder with the system's DLLs for a machine (MI_PE_MACHINE_*): Windows' own, or Wine's. false
// = none here.
bool plat_system_folder(uint16_t machine, char *out, size_t cap);

// The system's KnownDLLs, lower case, at most max of them; 0 = there is no list.
uint32_t plat_known_dlls(char (*names)[64], uint32_t max);
// The last name, by alphabet, in a folder that begins with the prefix, whatever its case: its path.
bool plat_find_starting(const char *folder, const char *prefix, char *out, size_t cap);
// What the system does to a program by its settings (IFEO, AppInit_DLLs, compatibility layers): one
// sentence each. Returns how many; 0 also where there are no such settings.
typedef struct plat_policy_s {
    const char *code; // "ifeo", "appinit", "shim"
    char text[400];
} plat_policy_t;
uint32_t plat_policies(const char *program, plat_policy_t *out, uint32_t max);

// The two DLLs for one machine: names to be imported first, or full paths.
typedef struct plat_pair_s {
    uint16_t machine; // MI_PE_MACHINE_*
    const char *redirect_dll;
    const char *allocator_dll;
} plat_pair_t;
#define PLAT_PAIRS_MAX 3u

// Starts a program redirected and waits for it. On Linux this goes through Wine and minject.exe.
typedef struct plat_run_s {
    char **args;                       // NULL-terminated; args[0] is the program
    plat_pair_t pairs[PLAT_PAIRS_MAX]; // the first is the program's
    size_t pair_count;
    const char *postfix;            // as given, or NULL
    const char *const *dll_folders; // as given
    size_t dll_folder_count;
    bool follows_children; // redirect the processes that it starts, too
    bool is_verbose;
} plat_run_t;
// false: it could not be started and plat_last_error() says why; true: *exit_code is the program's.
bool plat_run(const plat_run_t *run, int *exit_code);

// Starts a program as it is, with the environment variable MIMALLOC_LOG naming a new temporary
// file, its standard output going to our standard error, and waits. false: it could not be started,
// plat_last_error() says why. true: *log holds what the redirection wrote (free with
// plat_free_file).
bool plat_run_logged(char **args, plat_file_t *log, int *exit_code);

// Whether programs are started here directly; false = through another system's tool, which then
// looks for the DLLs.
bool plat_runs_directly(void);
// The folder of the running tool, with its separator. false = not known.
bool plat_own_folder(char *out, size_t cap);
// The absolute form of a path. false = there is none.
bool plat_full_path(const char *path, char *out, size_t cap);

#endif
