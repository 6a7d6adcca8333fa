// What all commands of the tool share: the parsed command line, messages, opening of an image.
#ifndef MI_MINJECT_CLI_H
#define MI_MINJECT_CLI_H

#include "minject/exit_codes.h"
#include "minject/platform.h"
#include "pe/pe_edit.h"

#define CLI_PATH_BYTES 4096u

#define CLI_FOLDERS_MAX 8u // of --dll-folder

typedef enum cli_command_e {
    CLI_INJECT,
    CLI_REMOVE,
    CLI_LIST,
    CLI_CHECK,
    CLI_RUN,
    CLI_HELP,
    CLI_VERSION,
    CLI_COMPLETION
} cli_command_t;

typedef struct cli_s {
    cli_command_t command;
    const char *word; // the command word, NULL = none was given
    bool is_inplace;
    bool is_forced;
    bool is_quiet;
    bool is_verbose;
    bool has_backup; // keep the original beside an in-place change
    bool is_json;
    bool is_progress;    // say how far it is from the start
    bool is_children;    // run: redirect the processes it starts, too
    bool is_live;        // check: run the program and compare
    bool is_plan;        // check: show what would be patched in CRT files
    bool has_postfix;    // --postfix was given (an empty one means the release DLL)
    const char *postfix; // "debug", "secure", ...
    const char *output;
    const char *dll_folders[CLI_FOLDERS_MAX]; // where the allocator DLLs are, for run and check
    size_t dll_folder_count;
    char **files; // files, or for run: the program and its arguments
    int file_count;
} cli_t;

// false: the message is out, *exit_code says how to end (also after --help and --version).
bool cli_parse(cli_t *cli, int argc, char **argv, int *exit_code);
void cli_free(cli_t *cli);

// "minject: <text>" on stderr.
void say_error(const char *fmt, ...) MI_PRINTF(1, 2);
void say_warning(const cli_t *cli, const char *fmt, ...) MI_PRINTF(2, 3);
void say_note(const cli_t *cli, const char *fmt, ...) MI_PRINTF(2, 3); // only with --verbose

// Reads and opens an image; on failure the message is out and the exit code returned.
minject_exit_t cli_open(const char *path, plat_file_t *file, mi_pe_t *pe);
// The allocator DLL for a program, in out: what --postfix asks for; without it the debug DLL for a
// program on a debug runtime, since only that keeps the debug heap's meaning. Returns that
// runtime's name when it decided, else NULL.
const char *cli_allocator_name(const cli_t *cli, const mi_pe_t *pe, char *out, size_t cap);
// folder + name. false = too long.
bool cli_join(char *out, size_t cap, const char *folder, size_t folder_length, const char *name);
// Whether a DLL name is a C runtime (or its API set).
bool cli_is_crt_name(const char *dll);
bool cli_is_debug_crt_name(const char *dll); // ucrtbased.dll, msvcr120d.dll, ...

int cmd_list(const cli_t *cli);
int cmd_inject(const cli_t *cli);
int cmd_remove(const cli_t *cli);
int cmd_check(const cli_t *cli);
int cmd_run(const cli_t *cli);
int cmd_help(const char *topic);
int cmd_completion(const char *shell);

// What there is, NULL-terminated: the parser, the suggestions and the completion work from these.
extern const char *const cli_command_words[];
extern const char *const cli_option_words[];
extern const char *const cli_valued_words[]; // the options that take a value, -o too

// The closest word of a NULL-terminated list, or NULL when none is close.
const char *cli_suggest(const char *word, const char *const *words);

#endif
