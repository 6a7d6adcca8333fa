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
    if (cli->dll_folder != NULL)
        return folder_has(cli->dll_folder, dll, machine, out, cap);
    if (!cli_join(folder, sizeof folder, program, plat_folder_length(program), ""))
        return false;
    // Children may lie elsewhere: for them the bare name would not do.
    if (folder_has(folder, dll, machine, out, cap))
        return cli->is_children || cli_join(out, cap, dll, strlen(dll), "");
    return plat_own_folder(folder, sizeof folder) && folder_has(folder, dll, machine, out, cap);
}

static bool find_dlls(const cli_t *cli, const char *const names[2], uint16_t machine,
                      char (*paths)[CLI_PATH_BYTES]) {
    for (size_t i = 0; i < 2; i++) {
        char found[CLI_PATH_BYTES];
        bool is_there = find_dll(cli, names[i], machine, found, sizeof found);
        bool is_bare = plat_folder_length(found) == 0 && !cli->is_children;
        if (is_there && (is_bare ? cli_join(paths[i], CLI_PATH_BYTES, found, strlen(found), "")
                                 : plat_full_path(found, paths[i], CLI_PATH_BYTES)))
            continue;
        const char *machine_name = mi_pe_machine_name(machine);
        if (cli->dll_folder != NULL)
            say_error("%s for %s was not found in %s; copy it there", names[i], machine_name,
                      cli->dll_folder);
        else
            say_error("%s for %s was found neither beside %s nor beside minject; name its folder "
                      "with --dll-folder",
                      names[i], machine_name, cli->files[0]);
        return false;
    }
    return true;
}

int cmd_run(const cli_t *cli) {
    static char paths[2][CLI_PATH_BYTES];
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
    const char *const names[2] = {mi_pe_redirect_name(machine), allocator};
    if (plat_runs_directly() && !find_dlls(cli, names, machine, paths))
        return EXIT_NOT_FOUND;
    const plat_run_t run = {.args = cli->files,
                            .redirect_dll = paths[0],
                            .allocator_dll = paths[1],
                            .postfix = cli->has_postfix ? cli->postfix : NULL,
                            .dll_folder = cli->dll_folder,
                            .machine = machine,
                            .follows_children = cli->is_children,
                            .is_verbose = cli->is_verbose};
    int exit_code = 0;
    if (plat_run(&run, &exit_code))
        return exit_code;
    say_error("%s: cannot be started: %s; 'minject check' may tell more", program,
              plat_last_error());
    return EXIT_NO_RUNNER;
}
