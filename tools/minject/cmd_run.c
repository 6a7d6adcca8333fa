#include "minject/cli.h"

int cmd_run(const cli_t *cli) {
    (void)cli;
    say_error("run is not part of this version");
    return EXIT_USAGE;
}
