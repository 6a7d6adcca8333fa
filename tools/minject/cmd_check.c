#include "minject/cli.h"

int cmd_check(const cli_t *cli) {
    (void)cli;
    say_error("check is not part of this version");
    return EXIT_USAGE;
}
