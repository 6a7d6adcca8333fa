// minject: puts the redirection first in a program's import table, takes it out, shows, checks,
// runs.
#include "minject/cli.h"

#include <stdio.h>
#include <string.h>

#ifndef MINJECT_VERSION
#    define MINJECT_VERSION "unknown"
#endif

static int run_command(const cli_t *cli) {
    switch (cli->command) {
    case CLI_INJECT:
        return cmd_inject(cli);
    case CLI_REMOVE:
        return cmd_remove(cli);
    case CLI_LIST:
        return cmd_list(cli);
    case CLI_CHECK:
        return cmd_check(cli);
    case CLI_RUN:
        return cmd_run(cli);
    case CLI_COMPLETION:
        return cmd_completion(cli->files[0]);
    case CLI_HELP:
        // Both "help inject" and "inject --help".
        if (cli->word != NULL && strcmp(cli->word, "help") != 0)
            return cmd_help(cli->word);
        return cmd_help(cli->file_count > 0 ? cli->files[0] : NULL);
    case CLI_VERSION:
        printf("minject %s\n", MINJECT_VERSION);
        return EXIT_OK;
    }
    return EXIT_INTERNAL;
}

int minject_main(int argc, char **argv);

// argv is UTF-8; the system's entry point is in its platform file.
int minject_main(int argc, char **argv) {
    cli_t cli;
    int exit_code;
    if (argc < 2) {
        cmd_help(NULL);
        return EXIT_USAGE;
    }
    bool is_good = cli_parse(&cli, argc, argv, &exit_code);
    if (is_good)
        exit_code = run_command(&cli);
    cli_free(&cli);
    if (is_good && (fflush(stdout) != 0 || ferror(stdout))) {
        say_error("standard output cannot be written; is the disk full?");
        return exit_code == EXIT_OK ? EXIT_UNWRITABLE : exit_code;
    }
    return exit_code;
}
