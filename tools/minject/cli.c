#include "minject/cli.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- messages ----

static void say(const char *kind, const char *fmt, va_list args) {
    fflush(stdout); // results and messages stay in order when both go to one place
    fprintf(stderr, "minject: %s", kind);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
}

void say_error(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    say("", fmt, args);
    va_end(args);
}

void say_warning(const cli_t *cli, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    if (!cli->is_quiet)
        say("warning: ", fmt, args);
    va_end(args);
}

void say_note(const cli_t *cli, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    if (cli->is_verbose && !cli->is_quiet)
        say("", fmt, args);
    va_end(args);
}

// ---- the command line ----

const char *const cli_command_words[] = {"inject", "remove",  "list",       "check", "run",
                                         "help",   "version", "completion", NULL};
static const cli_command_t command_values[] = {CLI_INJECT, CLI_REMOVE, CLI_LIST,    CLI_CHECK,
                                               CLI_RUN,    CLI_HELP,   CLI_VERSION, CLI_COMPLETION};

const char *const cli_option_words[] = {
    "--help",   "--version", "--list",     "--inplace",  "--force",     "--postfix",
    "--output", "--quiet",   "--verbose",  "--json",     "--no-backup", "--dll-folder",
    "--plan",   "--live",    "--children", "--progress", NULL};
const char *const cli_valued_words[] = {"--postfix", "--output", "--dll-folder", "-o", NULL};

// Letters to insert, delete or change to come from a to b; words here are short.
static size_t word_distance(const char *a, const char *b) {
    size_t row[64];
    size_t n = strlen(b);
    if (n >= 63)
        return SIZE_MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i] != 0; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t change = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = row[j + 1];
            size_t best = row[j] < row[j + 1] ? row[j] + 1 : row[j + 1] + 1;
            row[j + 1] = change < best ? change : best;
        }
    }
    return row[n];
}

const char *cli_suggest(const char *word, const char *const *words) {
    const char *best = NULL;
    size_t best_distance = strlen(word) <= 4 ? 2 : 3;
    for (; *words != NULL; words++) {
        size_t d = word_distance(word, *words);
        if (d < best_distance) {
            best = *words;
            best_distance = d;
        }
    }
    return best;
}

static void complain_unknown(const char *what, const char *word, const char *const *words) {
    const char *near = cli_suggest(word, words);
    if (near != NULL)
        say_error("there is no %s '%s'; did you mean '%s'?", what, word, near);
    else
        say_error("there is no %s '%s'; 'minject help' shows what there is", what, word);
}

// The value of an option, written --name=value or as the next argument. NULL = missing.
static const char *option_value(const char *arg, const char *name, int *i, int argc, char **argv) {
    size_t n = strlen(name);
    if (arg[n] == '=')
        return arg + n + 1;
    return *i + 1 < argc ? argv[++*i] : NULL;
}

static bool is_option(const char *arg, const char *name) {
    size_t n = strlen(name);
    return strncmp(arg, name, n) == 0 && (arg[n] == 0 || arg[n] == '=');
}

// Options without a value. false = not one of them.
static bool parse_flag(cli_t *cli, const char *arg) {
    static const char *const longs[] = {"--help",  "--version", "--list",     "--inplace",
                                        "--force", "--quiet",   "--verbose",  "--json",
                                        "--plan",  "--live",    "--children", "--progress"};
    static const char shorts[] = "hvlifq";
    size_t which = sizeof longs / sizeof longs[0];
    for (size_t k = 0; k < which; k++) {
        if (strcmp(arg, longs[k]) == 0 ||
            (k < sizeof shorts - 1 && arg[0] == '-' && arg[1] == shorts[k] && arg[2] == 0))
            which = k;
    }
    bool *const flags[] = {NULL,
                           NULL,
                           NULL,
                           &cli->is_inplace,
                           &cli->is_forced,
                           &cli->is_quiet,
                           &cli->is_verbose,
                           &cli->is_json,
                           &cli->is_plan,
                           &cli->is_live,
                           &cli->is_children,
                           &cli->is_progress};
    if (which >= sizeof longs / sizeof longs[0]) {
        if (strcmp(arg, "--no-backup") != 0)
            return false;
        cli->has_backup = false;
    } else if (flags[which] != NULL) {
        *flags[which] = true;
    } else {
        static const cli_command_t commands[] = {CLI_HELP, CLI_VERSION, CLI_LIST};
        cli->command = commands[which];
    }
    return true;
}

// Options with a value. false = the message is out.
static bool parse_valued(cli_t *cli, int *i, int argc, char **argv) {
    const char *const *names = cli_valued_words;
    const char *folder = NULL;
    const char **const targets[] = {&cli->postfix, &cli->output, &folder, &cli->output};
    const char *arg = argv[*i];
    for (size_t k = 0; names[k] != NULL; k++) {
        if (!is_option(arg, names[k]))
            continue;
        *targets[k] = option_value(arg, names[k], i, argc, argv);
        if (*targets[k] == NULL) {
            say_error("%s needs a value, as in %s=%s", names[k], names[k],
                      k == 0 ? "debug" : "folder");
            return false;
        }
        cli->has_postfix = cli->has_postfix || k == 0;
        if (folder != NULL && cli->dll_folder_count >= CLI_FOLDERS_MAX) {
            say_error(
                "--dll-folder: %s is one folder too many; 'minject help' shows how it is used",
                folder);
            return false;
        }
        if (folder != NULL)
            cli->dll_folders[cli->dll_folder_count++] = folder;
        return true;
    }
    complain_unknown("option", arg, cli_option_words);
    return false;
}

static bool parse_option(cli_t *cli, int *i, int argc, char **argv) {
    if (strcmp(argv[*i], "--arm64ec") == 0) {
        say_error("--arm64ec: programs built for ARM64EC cannot be injected; "
                  "their import table exists twice");
        return false;
    }
    return parse_flag(cli, argv[*i]) || parse_valued(cli, i, argc, argv);
}

// A first word that names a command is one; otherwise it is a file and the command is inject, as in
// the original tool, unless nothing of that name exists and it looks like a mistyped command.
static bool parse_command(cli_t *cli, const char *word, bool *is_command) {
    *is_command = true;
    for (size_t k = 0; cli_command_words[k] != NULL; k++) {
        if (strcmp(word, cli_command_words[k]) == 0) {
            cli->command = command_values[k];
            cli->word = cli_command_words[k];
            return true;
        }
    }
    *is_command = false;
    if (strpbrk(word, "./\\") == NULL && !plat_file_exists(word)) {
        complain_unknown("command or file", word, cli_command_words);
        return false;
    }
    return true;
}

static bool postfix_is_sane(const char *postfix) {
    size_t n = postfix != NULL ? strlen(postfix) : 0;
    if (n <= 32 && (n == 0 || strspn(postfix, "abcdefghijklmnopqrstuvwxyz0123456789-_") == n))
        return true;
    say_error("--postfix=%s: give the name of a variant, as in --postfix=debug", postfix);
    return false;
}

static bool parse_arguments(cli_t *cli, int argc, char **argv) {
    bool options_end = false;
    bool has_word = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (!options_end && strcmp(arg, "--") == 0) {
            options_end = true;
        } else if (!options_end && arg[0] == '-' && arg[1] != 0) {
            if (!parse_option(cli, &i, argc, argv))
                return false;
        } else {
            bool is_command = false;
            if (!has_word && !options_end && cli->command == CLI_INJECT &&
                !parse_command(cli, arg, &is_command))
                return false;
            has_word = true;
            if (!is_command)
                cli->files[cli->file_count++] = argv[i];
            // What follows the program of run and check --live belongs to the program.
            options_end =
                options_end || (!is_command && (cli->command == CLI_RUN ||
                                                (cli->command == CLI_CHECK && cli->is_live)));
        }
    }
    return true;
}

bool cli_parse(cli_t *cli, int argc, char **argv, int *exit_code) {
    *cli = (cli_t){.command = CLI_INJECT, .has_backup = true};
    *exit_code = EXIT_USAGE;
    cli->files = (char **)calloc((size_t)argc + 1, sizeof *cli->files);
    if (cli->files == NULL) {
        *exit_code = EXIT_INTERNAL;
        return false;
    }
    if (!parse_arguments(cli, argc, argv) || !postfix_is_sane(cli->postfix))
        return false;
    bool needs_file = cli->command != CLI_HELP && cli->command != CLI_VERSION;
    if (needs_file && cli->file_count == 0) {
        say_error("no file given; 'minject help' shows how it is used");
        return false;
    }
    if (cli->output != NULL && (cli->file_count > 1 || cli->is_inplace) &&
        cli->command != CLI_RUN) {
        say_error("--output goes with one file and without --inplace");
        return false;
    }
    *exit_code = EXIT_OK;
    return true;
}

void cli_free(cli_t *cli) {
    free(cli->files);
    cli->files = NULL;
}

// ---- images ----

static minject_exit_t exit_of_status(plat_status_t status) {
    switch (status) {
    case PLAT_OK:
        return EXIT_OK;
    case PLAT_NOT_FOUND:
        return EXIT_NOT_FOUND;
    case PLAT_DIRECTORY:
        return EXIT_DIRECTORY;
    case PLAT_READ_ONLY:
        return EXIT_READ_ONLY;
    case PLAT_NO_MEMORY:
        return EXIT_INTERNAL;
    case PLAT_DENIED:
    case PLAT_FAILED:
        return EXIT_UNREADABLE;
    }
    return EXIT_INTERNAL;
}

static minject_exit_t exit_of_pe_error(mi_pe_error_t error) {
    static const minject_exit_t codes[] = {[MI_PE_OK] = EXIT_OK,
                                           [MI_PE_EMPTY] = EXIT_EMPTY,
                                           [MI_PE_NOT_PE] = EXIT_NOT_PE,
                                           [MI_PE_DOS] = EXIT_OLD_FORMAT,
                                           [MI_PE_NE] = EXIT_OLD_FORMAT,
                                           [MI_PE_CUT] = EXIT_CUT,
                                           [MI_PE_MALFORMED] = EXIT_MALFORMED,
                                           [MI_PE_MACHINE] = EXIT_MACHINE};
    return codes[error];
}

static minject_exit_t say_unreadable(const char *path, plat_status_t status) {
    const char *why = plat_last_error();
    if (status == PLAT_DIRECTORY) {
        say_error("%s: is a folder; name a program or DLL in it", path);
    } else if (status == PLAT_NOT_FOUND && strpbrk(path, "*?") != NULL) {
        say_error("%s: there is no such file, and patterns are the shell's to expand; check the "
                  "spelling, or name the files",
                  path);
    } else if (status == PLAT_NOT_FOUND) {
        say_error("%s: there is no such file; check the spelling and the folder", path);
    } else if (plat_is_in_use(path)) {
        say_error("%s: cannot be read, another program has it open; end that program first", path);
        return EXIT_IN_USE;
    } else {
        say_error("%s: cannot be read: %s; %s", path, why,
                  status == PLAT_NO_MEMORY ? "close other programs"
                                           : "check that it is a file, and its permissions");
    }
    return exit_of_status(status);
}

minject_exit_t cli_open(const char *path, plat_file_t *file, mi_pe_t *pe) {
    plat_status_t status = plat_map_file(path, file);
    if (status != PLAT_OK)
        return say_unreadable(path, status);
    if (mi_pe_open(pe, file->bytes, file->size, false))
        return EXIT_OK;
    const char *cure = pe->error == MI_PE_CUT || pe->error == MI_PE_EMPTY
                           ? "copy or download it again"
                           : "name a Windows .exe or .dll";
    say_error("%s: %s; %s. Nothing was written", path, mi_pe_error_text(pe->error), cure);
    plat_free_file(file);
    return exit_of_pe_error(pe->error);
}

bool cli_is_debug_crt_name(const char *dll) {
    size_t n = strlen(dll);
    return cli_is_crt_name(dll) && n > 5 && (dll[n - 5] | 0x20) == 'd' &&
           !mi_str_eq_nocase(dll, "crtdll.dll");
}

const char *cli_allocator_name(const cli_t *cli, const mi_pe_t *pe, char *out, size_t cap) {
    const char *postfix = cli->postfix != NULL ? cli->postfix : "";
    mi_pe_import_t imp;
    for (uint32_t i = 0; !cli->has_postfix && mi_pe_import_at(pe, i, &imp); i++) {
        if (cli_is_debug_crt_name(imp.dll)) {
            snprintf(out, cap, "mimalloc-debug.dll");
            return imp.dll;
        }
    }
    while (*postfix == '-')
        postfix++;
    snprintf(out, cap, "mimalloc%s%s.dll", *postfix != 0 ? "-" : "", postfix);
    return NULL;
}

bool cli_join(char *out, size_t cap, const char *folder, size_t folder_length, const char *name) {
    if (folder_length + strlen(name) + 1 > cap)
        return false;
    memcpy(out, folder, folder_length);
    strcpy(out + folder_length, name);
    return true;
}

bool cli_is_crt_name(const char *dll) {
    static const char *const starts[] = {"ucrtbase", "msvcrt", "msvcr", "crtdll",
                                         "api-ms-win-crt-"};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        size_t k = 0;
        while (starts[i][k] != 0 && (dll[k] | 0x20) == (starts[i][k] | 0x20))
            k++;
        if (starts[i][k] == 0)
            return true;
    }
    return false;
}
