// run: starts a program redirected and touches no file.
#include "minject/cli.h"

#include <stdio.h>
#include <string.h>

// Whether the folder holds this DLL, built for this machine.
static bool folder_has(const char *folder, const char *dll, uint16_t machine, char *out,
                       size_t cap) {
    plat_file_t file;
    mi_pe_t pe;
    if (!plat_find_in_folder(folder, dll, out, cap) || plat_map_file(out, &file) != PLAT_OK)
        return false;
    bool fits = mi_pe_open(&pe, file.bytes, file.size, false) && pe.machine == machine;
    plat_free_file(&file);
    return fits;
}

// Where one of the DLLs is: --dll-folder, beside the program (then its bare name is enough), beside
// the tool.
static bool find_dll(const cli_t *cli, const char *dll, uint16_t machine, char *out, size_t cap) {
    char folder[CLI_PATH_BYTES];
    const char *program = cli->files[0];
    for (size_t i = 0; i < cli->dll_folder_count; i++) {
        if (folder_has(cli->dll_folders[i], dll, machine, out, cap))
            return true;
    }
    if (cli->dll_folder_count != 0 ||
        !cli_join(folder, sizeof folder, program, plat_folder_length(program), ""))
        return false;
    // Children may lie elsewhere: for them the bare name would not do.
    if (folder_has(folder, dll, machine, out, cap))
        return cli->is_children || cli_join(out, cap, dll, strlen(dll), "");
    return plat_own_folder(folder, sizeof folder) && folder_has(folder, dll, machine, out, cap);
}

// Both for one machine; *missing is the first that is not there.
static bool find_dlls(const cli_t *cli, plat_pair_t *pair, const char **missing,
                      char (*paths)[CLI_PATH_BYTES]) {
    const char *const names[2] = {pair->redirect_dll, pair->allocator_dll};
    for (size_t i = 0; i < 2; i++) {
        char found[CLI_PATH_BYTES];
        *missing = names[i];
        if (!find_dll(cli, names[i], pair->machine, found, sizeof found))
            return false;
        bool is_bare = plat_folder_length(found) == 0 && !cli->is_children;
        if (!(is_bare ? cli_join(paths[i], CLI_PATH_BYTES, found, strlen(found), "")
                      : plat_full_path(found, paths[i], CLI_PATH_BYTES)))
            return false;
    }
    pair->redirect_dll = paths[0];
    pair->allocator_dll = paths[1];
    return true;
}

static void say_missing(const cli_t *cli, const char *dll, uint16_t machine) {
    const char *machine_name = mi_pe_machine_name(machine);
    if (cli->dll_folder_count != 0)
        say_error("%s for %s was not found in %s; copy it there", dll, machine_name,
                  cli->dll_folders[cli->dll_folder_count - 1]);
    else
        say_error("%s for %s was found neither beside %s nor beside minject; name its folder "
                  "with --dll-folder",
                  dll, machine_name, cli->files[0]);
}

// The DLLs for the program's machine; with --children those for other machines, too, as far as they
// are at hand: a shell may start programs of both kinds.
static bool find_pairs(const cli_t *cli, const char *allocator, uint16_t machine, plat_run_t *run) {
    static char paths[PLAT_PAIRS_MAX][2][CLI_PATH_BYTES];
    const uint16_t machines[] = {machine, MI_PE_MACHINE_X86, MI_PE_MACHINE_X64,
                                 MI_PE_MACHINE_ARM64};
    const char *missing = NULL;
    size_t wanted = cli->is_children ? sizeof machines / sizeof machines[0] : 1;
    for (size_t i = 0; i < wanted; i++) {
        plat_pair_t pair = {machines[i], mi_pe_redirect_name(machines[i]), allocator};
        if (i != 0 && machines[i] == machine)
            continue;
        if (find_dlls(cli, &pair, &missing, paths[run->pair_count])) {
            run->pairs[run->pair_count++] = pair;
        } else if (i == 0) {
            say_missing(cli, missing, machine);
            return false;
        }
    }
    return true;
}

int cmd_run(const cli_t *cli) {
    char allocator[64];
    plat_file_t file;
    mi_pe_t pe;
    const char *program = cli->files[0];
    minject_exit_t rc = cli_open(program, &file, &pe);
    if (rc != EXIT_OK)
        return (int)rc;
    bool is_dll = (pe.characteristics & MI_PE_FILE_DLL) != 0;
    uint16_t machine = pe.machine;
    const char *debug_crt = cli_allocator_name(cli, &pe, allocator, sizeof allocator);
    if (debug_crt != NULL)
        say_note(cli,
                 "%s: uses the debug runtime %s, so %s is taken; --postfix= takes mimalloc.dll",
                 program, debug_crt, allocator);
    plat_free_file(&file);
    if (is_dll) {
        say_error("%s: is a DLL; name the program that loads it", program);
        return EXIT_NO_RUNNER;
    }
    plat_run_t run = {.args = cli->files,
                      .pairs = {{machine, NULL, NULL}},
                      .postfix = cli->has_postfix ? cli->postfix : NULL,
                      .dll_folders = cli->dll_folders,
                      .dll_folder_count = cli->dll_folder_count,
                      .follows_children = cli->is_children,
                      .is_verbose = cli->is_verbose};
    if (plat_runs_directly() && !find_pairs(cli, allocator, machine, &run))
        return EXIT_NOT_FOUND;
    int exit_code = 0;
    if (plat_run(&run, &exit_code))
        return exit_code;
    say_error("%s: cannot be started: %s; 'minject check' may tell more", program,
              plat_last_error());
    return EXIT_NO_RUNNER;
}
