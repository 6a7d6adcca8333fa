// list, inject and remove.
#include "minject/write.h"
#include "base/text.h"
#include "pe/pe_overlay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- list ----

static void print_descriptor(const mi_pe_t *pe, const mi_pe_import_t *imp, const cli_t *cli) {
    mi_pe_thunk_t thunk;
    uint32_t n = 0;
    while (mi_pe_thunk_at(pe, imp, n, &thunk)) {
        if (cli->is_verbose) {
            if (thunk.name != NULL)
                printf("      %s\n", thunk.name);
            else
                printf("      #%u\n", thunk.ordinal);
        }
        n++;
    }
    static const char *const roles[] = {"", "  <- redirection", "  <- allocator"};
    printf("  %-40s %4u %s%s%s\n", imp->dll, n, n == 1 ? "symbol " : "symbols",
           imp->is_delay ? " (delay)" : "", roles[mi_pe_role_of(imp->dll)]);
}

static int list_file(const cli_t *cli, const char *path) {
    plat_file_t file;
    mi_pe_t pe;
    mi_pe_import_t imp;
    mi_pe_undo_t undo;
    minject_exit_t rc = cli_open(path, &file, &pe);
    if (rc != EXIT_OK)
        return (int)rc;
    bool is_dll = (pe.characteristics & MI_PE_FILE_DLL) != 0;
    bool is_ours = mi_pe_undo_find(&undo, &pe) == MI_PE_EDIT_OK;
    printf("%s: %s %s, %s\n", path, mi_pe_machine_name(pe.machine), is_dll ? "DLL" : "program",
           is_ours ? "injected by minject (remove gives the original back)" : "imports in order:");
    uint32_t n = 0;
    for (; mi_pe_import_at(&pe, n, &imp); n++)
        print_descriptor(&pe, &imp, cli);
    for (uint32_t i = 0; mi_pe_delay_import_at(&pe, i, &imp); i++, n++)
        print_descriptor(&pe, &imp, cli);
    if (n == 0)
        printf("  (imports nothing)\n");
    plat_free_file(&file);
    return EXIT_OK;
}

static int for_each_file(const cli_t *cli, int (*one)(const cli_t *, const char *)) {
    int rc = EXIT_OK;
    for (int i = 0; i < cli->file_count; i++) {
        int code = one(cli, cli->files[i]);
        if (code != EXIT_OK)
            rc = code;
    }
    return rc;
}

int cmd_list(const cli_t *cli) {
    return for_each_file(cli, list_file);
}

// ---- writing results ----

// The first free name of file.bak, file.bak2, ...; a backup with the same bytes is as good as a new
// one. *backup is the name of a new one, or empty.
static minject_exit_t make_backup(const cli_t *cli, const char *path, const plat_file_t *file,
                                  char backup[CLI_PATH_BYTES]) {
    for (int i = 1; i < 1000; i++) {
        char number[8] = "";
        plat_file_t old;
        if (i > 1)
            snprintf(number, sizeof number, "%d", i);
        if (snprintf(backup, CLI_PATH_BYTES, "%s.bak%s", path, number) >= (int)CLI_PATH_BYTES)
            break;
        if (plat_map_file(backup, &old) == PLAT_OK) {
            bool is_same = old.size == file->size && memcmp(old.bytes, file->bytes, old.size) == 0;
            plat_free_file(&old);
            if (is_same) {
                backup[0] = 0;
                return EXIT_OK;
            }
        } else if (!plat_file_exists(backup)) {
            return write_file(cli, backup, file, path);
        }
    }
    say_error("%s: no name is free for a backup; use --no-backup or tidy up", path);
    return EXIT_UNWRITABLE;
}

// name.exe -> name-mi.exe, beside it.
static bool default_output(const char *path, char *out, size_t cap) {
    size_t folder = plat_folder_length(path);
    const char *dot = strrchr(path + folder, '.');
    size_t stem = dot != NULL ? (size_t)(dot - path) : strlen(path);
    int n = snprintf(out, cap, "%.*s-mi%s", (int)stem, path, dot != NULL ? dot : "");
    return n > 0 && (size_t)n < cap;
}

// What an undo record gives back, as a source.
typedef struct undo_source_s {
    const mi_pe_undo_t *undo;
    const mi_pe_t *pe;
} undo_source_t;

static void read_original(const void *from, uint64_t at, uint8_t *out, size_t bytes) {
    const undo_source_t *s = (const undo_source_t *)from;
    mi_pe_undo_read(s->undo, s->pe, at, out, bytes);
}

// An output that exists may be replaced without asking only when it is an injected copy of the same
// file.
static bool may_replace(const cli_t *cli, const char *output, const plat_file_t *original) {
    plat_file_t old;
    mi_pe_t pe;
    mi_pe_undo_t undo;
    if (cli->is_forced || !plat_file_exists(output))
        return true;
    bool is_copy = false;
    if (plat_map_file(output, &old) == PLAT_OK) {
        if (mi_pe_open(&pe, old.bytes, old.size, false) &&
            mi_pe_undo_find(&undo, &pe) == MI_PE_EDIT_OK) {
            const undo_source_t from = {&undo, &pe};
            const source_t source = {read_original, &from, undo.original_bytes};
            is_copy = source_is_same(&source, original);
        }
        plat_free_file(&old);
    }
    if (!is_copy)
        say_error("%s: exists already and is something else; use --force to replace it, "
                  "or --output for another name",
                  output);
    return is_copy;
}

// ---- inject ----

static minject_exit_t refuse(const char *path, const mi_pe_t *pe, mi_pe_edit_t reason) {
    static const struct {
        minject_exit_t code;
        const char *text;
    } table[] = {
        [MI_PE_EDIT_SIGNED] = {EXIT_SIGNED,
                               "is signed, and any change makes the signature void; use --force to "
                               "drop the signature (remove brings it back), or 'minject run'"},
        [MI_PE_EDIT_IL_ONLY] = {EXIT_IL_ONLY,
                                "is a .NET program without native code: Windows does not read its "
                                "import table; let a native DLL that it calls load mimalloc.dll"},
        [MI_PE_EDIT_HYBRID] = {EXIT_HYBRID,
                               "whose tables exist once for each of its two machines, and a change "
                               "of one would tear them apart; build it for one machine"},
        [MI_PE_EDIT_INSTALLER] = {EXIT_INSTALLER,
                                  "and would not start once it is changed; use 'minject run', or "
                                  "--force if its own option skips that"},
        [MI_PE_EDIT_KERNEL] =
            {EXIT_KERNEL, "is a driver, a native or a boot program, where no allocator DLL can "
                          "be loaded; leave it as it is"},
        [MI_PE_EDIT_ALIGNMENT] =
            {EXIT_NO_ROOM, "has sections aligned to less than a page, so that nothing can be "
                           "added to the file; use 'minject run'"},
        [MI_PE_EDIT_NO_ROOM] = {EXIT_NO_ROOM,
                                "has room neither for another section nor behind its last one; use "
                                "'minject run'"},
        [MI_PE_EDIT_IMPORTS] = {EXIT_MALFORMED,
                                "has an import table that cannot be read to its end; get the file "
                                "as its maker built it"},
        [MI_PE_EDIT_NOT_OURS] =
            {EXIT_NOT_INJECTED,
             "was not injected by minject, so there is nothing to take out; take "
             "the original from your backup"},
        [MI_PE_EDIT_CHANGED] =
            {EXIT_CHANGED, "was changed after the injection (signed, packed or edited), so the "
                           "original cannot be given back; use your backup"},
    };
    char kind[128] = "";
    if (reason == MI_PE_EDIT_HYBRID)
        snprintf(kind, sizeof kind, "is %s image, ", mi_pe_hybrid_name(mi_pe_hybrid(pe)));
    else if (reason == MI_PE_EDIT_INSTALLER)
        snprintf(kind, sizeof kind, "is %s, ", mi_pe_overlay_text(mi_pe_overlay(pe)));
    say_error("%s: %s%s. Nothing was written", path, kind, table[reason].text);
    return table[reason].code;
}

// A partner DLL beside the output: present, for the right machine, with the symbol that is
// imported.
static void check_partner(const cli_t *cli, const char *output, const char *dll, uint16_t machine) {
    bool is_redirect = mi_pe_role_of(dll) == MI_PE_ROLE_REDIRECT;
    const char *symbol = is_redirect ? "mi_allocator_init" : "mi_version";
    mi_pe_export_t e;
    char folder[CLI_PATH_BYTES];
    char found[CLI_PATH_BYTES];
    plat_file_t file;
    mi_pe_t pe;
    if (!cli_join(folder, sizeof folder, output, plat_folder_length(output), ""))
        return;
    if (!plat_find_in_folder(folder, dll, found, sizeof found)) {
        say_warning(cli,
                    "%s is not beside %s; the program will not start without it: copy it there",
                    dll, output);
        return;
    }
    if (plat_map_file(found, &file) != PLAT_OK)
        return;
    if (!mi_pe_open(&pe, file.bytes, file.size, false))
        say_warning(cli, "%s: %s; replace it", found, mi_pe_error_text(pe.error));
    else if (pe.machine != machine)
        say_warning(
            cli,
            "%s is built for %s, the program for %s; it will not start: copy the %s build there",
            found, mi_pe_machine_name(pe.machine), mi_pe_machine_name(machine),
            mi_pe_machine_name(machine));
    else if (!mi_pe_export_find(&pe, symbol, &e))
        say_warning(cli, "%s does not export %s, so the program will not start; replace it", found,
                    symbol);
    plat_free_file(&file);
}

static void warn_about_image(const cli_t *cli, const char *path, const mi_pe_t *pe,
                             const mi_pe_inject_t *plan) {
    mi_pe_import_t imp;
    mi_pe_clr_t clr;
    bool has_crt = false;
    for (uint32_t i = 0; mi_pe_import_at(pe, i, &imp); i++)
        has_crt = has_crt || cli_is_crt_name(imp.dll);
    if (!has_crt)
        say_warning(cli,
                    "%s imports no C runtime DLL: if its runtime is linked statically, its own "
                    "malloc stays as "
                    "it is; that of its DLLs is redirected. 'minject check' tells more",
                    path);
    if (mi_pe_clr(pe, &clr))
        say_warning(cli, "%s is a .NET program: only its native part is redirected", path);
    mi_pe_overlay_t kind = mi_pe_overlay(pe);
    if (mi_pe_overlay_breaks(kind))
        say_warning(cli, "%s is %s; the result will refuse to start%s", path,
                    mi_pe_overlay_text(kind),
                    kind == MI_PE_OVERLAY_NSIS ? ", unless with its option /NCRC" : "");
    else if (plan->has_overlay)
        say_warning(cli,
                    "%s carries data behind its last section (an installer, an archive); it stays "
                    "at the end of "
                    "the file but moves by %llu bytes: test that the program still finds it",
                    path, (unsigned long long)(plan->insert_bytes));
    if (plan->cut_bytes != 0)
        say_warning(cli, "%s: the signature is taken out; remove brings it back", path);
    else if ((pe->dll_characteristics & MI_PE_DLLFLAG_INTEGRITY) != 0)
        say_warning(cli, "%s demands a valid signature; Windows will refuse it", path);
    if (plan->extends_last)
        say_note(cli, "%s: no room for a section header; the last section is made longer", path);
    if (plan->had_bound)
        say_note(cli, "%s: bound imports cleared", path);
}

typedef struct inject_source_s {
    const mi_pe_inject_t *plan;
    const uint8_t *block;
} inject_source_t;

static void read_injected(const void *from, uint64_t at, uint8_t *out, size_t bytes) {
    const inject_source_t *s = (const inject_source_t *)from;
    mi_pe_inject_read(s->plan, s->block, at, out, bytes);
}

// Three passes over the file, none of which holds it: the SHA-256 of the original, the checksum
// when there was one, and the writing. What was written is then read back and judged.
static minject_exit_t write_temporary(const cli_t *cli, const char *path, const char *to,
                                      plat_out_t *out, mi_pe_inject_t *plan) {
    const plat_file_t original = {(uint8_t *)(uintptr_t)plan->pe->bytes, plan->pe->size, false};
    uint8_t digest[MI_SHA256_BYTES];
    plat_file_t written;
    progress_t p;
    uint8_t *block = (uint8_t *)malloc(plan->block_bytes);
    if (block == NULL) {
        say_error("%s: no memory for the result; close other programs", path);
        return EXIT_INTERNAL;
    }
    const inject_source_t from = {plan, block};
    const source_t source = {read_injected, &from, plan->out_bytes};
    const source_t original_source = source_of_file(&original);
    minject_exit_t rc = write_begin(out, to);
    progress_begin(&p, cli, path, original.size + plan->out_bytes * (plan->had_checksum ? 2u : 1u));
    if (rc == EXIT_OK) {
        source_hash(&original_source, digest, &p);
        mi_pe_inject_block(plan, digest, block);
        if (plan->had_checksum)
            mi_pe_inject_set_checksum(plan, source_checksum(&source, &p));
        rc = write_source(out, &source, NULL, &p);
    }
    progress_end(&p);
    free(block);
    if (rc != EXIT_OK)
        return rc;
    if (plat_out_map(out, &written) != PLAT_OK || written.size != plan->out_bytes ||
        !mi_pe_inject_is_sound(plan, written.bytes)) {
        say_error("%s: its tables lie in each other, so that it cannot be changed safely; use "
                  "'minject run'. Nothing was written",
                  path);
        rc = EXIT_MALFORMED;
    }
    plat_free_file(&written);
    if (rc != EXIT_OK)
        plat_out_abort(out);
    return rc;
}

static minject_exit_t write_injected(const cli_t *cli, const char *path, plat_file_t *original,
                                     mi_pe_inject_t *plan) {
    static char output[CLI_PATH_BYTES];
    static char backup[CLI_PATH_BYTES];
    static plat_out_t out; // large
    const mi_pe_inject_options_t *names = &plan->options;
    if (!default_output(path, output, sizeof output)) {
        say_error("%s: its name is too long; go into its folder first", path);
        return EXIT_INTERNAL;
    }
    const char *to = cli->is_inplace ? path : cli->output != NULL ? cli->output : output;
    warn_about_image(cli, path, plan->pe, plan);
    uint32_t links = cli->is_inplace ? plat_link_count(path) : 1;
    if (links > 1)
        say_warning(cli, "%s has %u names (hard links); the others keep the old contents", path,
                    links);
    if (!cli->is_inplace && plat_same_file(path, to)) {
        say_error("%s: is the input itself; use --inplace, which keeps a backup. Nothing was "
                  "written",
                  to);
        return EXIT_SAME_FILE;
    }
    if (!cli->is_inplace && !may_replace(cli, to, original))
        return EXIT_EXISTS;
    minject_exit_t rc = write_temporary(cli, path, to, &out, plan);
    if (rc != EXIT_OK)
        return rc;
    backup[0] = 0;
    if (cli->is_inplace && cli->has_backup &&
        (rc = make_backup(cli, path, original, backup)) != EXIT_OK) {
        plat_out_abort(&out);
        return rc;
    }
    uint16_t machine = plan->pe->machine;
    bool is_dll = (plan->pe->characteristics & MI_PE_FILE_DLL) != 0;
    plat_free_file(original); // Windows replaces no file that is mapped
    rc = write_commit(&out, path);
    write_tell(cli, path);
    if (rc != EXIT_OK && backup[0] != 0)
        plat_remove_file(backup); // of a file that is as it was
    if (rc == EXIT_OK) {
        if (backup[0] != 0 && !cli->is_quiet)
            printf("%s: the original is kept as %s\n", path, backup);
        if (!cli->is_quiet)
            printf("%s: %s, %s first of %u imports%s\n", to, names->redirect_dll,
                   names->allocator_dll, plan->old_count + plan->new_count,
                   is_dll ? "; a program is redirected from the moment it loads this DLL" : "");
        check_partner(cli, to, names->redirect_dll, machine);
        check_partner(cli, to, names->allocator_dll, machine);
    }
    return rc;
}

// Gives the original of a file that minject has injected before, so that another variant can be put
// in.
static bool undo_in_memory(plat_file_t *file, mi_pe_t *pe) {
    mi_pe_undo_t undo;
    if (mi_pe_undo_find(&undo, pe) != MI_PE_EDIT_OK)
        return false;
    plat_file_t original = {(uint8_t *)malloc((size_t)undo.original_bytes + 1),
                            (size_t)undo.original_bytes, false};
    if (original.bytes == NULL || mi_pe_undo_write(&undo, pe, original.bytes) != MI_PE_EDIT_OK ||
        !mi_pe_open(pe, original.bytes, original.size, false)) {
        free(original.bytes);
        mi_pe_open(pe, file->bytes, file->size, false);
        return false;
    }
    plat_free_file(file);
    *file = original;
    return true;
}

static minject_exit_t say_nothing_to_do(const cli_t *cli, const char *path,
                                        const plat_file_t *file) {
    if (cli->output != NULL && !plat_same_file(path, cli->output)) {
        if (!may_replace(cli, cli->output, file))
            return EXIT_EXISTS;
        minject_exit_t rc = write_file(cli, cli->output, file, path);
        if (rc != EXIT_OK)
            return rc;
        if (!cli->is_quiet)
            printf("%s: a copy of %s, which is injected already\n", cli->output, path);
    } else if (!cli->is_quiet) {
        printf("%s: injected already, nothing to do\n", path);
    }
    return EXIT_OK;
}

static int inject_file(const cli_t *cli, const char *path) {
    plat_file_t file;
    mi_pe_t pe;
    char allocator[64];
    mi_pe_inject_t plan;
    minject_exit_t rc = cli_open(path, &file, &pe);
    if (rc != EXIT_OK)
        return (int)rc;
    char debug_crt[64] = "";
    const char *found = cli_allocator_name(cli, &pe, allocator, sizeof allocator);
    if (found != NULL) // the name lies in the file, which may be exchanged below
        snprintf(debug_crt, sizeof debug_crt, "%s", found);
    const mi_pe_inject_options_t options = {mi_pe_redirect_name(pe.machine), allocator,
                                            cli->has_postfix, cli->is_forced, cli->is_forced};
    mi_pe_edit_t edit = mi_pe_inject_plan(&plan, &pe, &options);
    if (edit == MI_PE_EDIT_OK && undo_in_memory(&file, &pe))
        edit = mi_pe_inject_plan(&plan, &pe, &options);
    if (edit == MI_PE_EDIT_NOTHING) {
        rc = say_nothing_to_do(cli, path, &file);
    } else if (edit != MI_PE_EDIT_OK) {
        rc = refuse(path, &pe, edit);
    } else if (cli->is_inplace && plat_is_read_only(path) && !cli->is_forced) {
        say_error("%s: is read-only; make it writable, leave --inplace away, or use --force. "
                  "Nothing was written",
                  path);
        rc = EXIT_READ_ONLY;
    } else {
        if (debug_crt[0] != 0 && !cli->is_quiet)
            printf("%s: uses the debug runtime %s, so %s is taken, which keeps its debug heap; "
                   "--postfix= takes mimalloc.dll\n",
                   path, debug_crt, allocator);
        rc = write_injected(cli, path, &file, &plan);
    }
    plat_free_file(&file);
    return (int)rc;
}

int cmd_inject(const cli_t *cli) {
    return for_each_file(cli, inject_file);
}

// ---- remove ----

// Hashed while it is written; it takes the file's place only when it is the original.
static minject_exit_t write_original(const cli_t *cli, const char *path, plat_file_t *file,
                                     const mi_pe_t *pe, const mi_pe_undo_t *undo) {
    static plat_out_t out; // large
    const char *to = cli->output != NULL ? cli->output : path;
    const undo_source_t from = {undo, pe};
    const source_t source = {read_original, &from, undo->original_bytes};
    mi_sha256_t hash;
    progress_t p;
    uint8_t digest[MI_SHA256_BYTES];
    minject_exit_t rc = write_begin(&out, to);
    if (rc != EXIT_OK)
        return rc;
    mi_sha256_begin(&hash);
    progress_begin(&p, cli, path, undo->original_bytes);
    rc = write_source(&out, &source, &hash, &p);
    progress_end(&p);
    if (rc != EXIT_OK)
        return rc;
    mi_sha256_end(&hash, digest);
    if (!mi_pe_undo_is(undo, digest)) {
        plat_out_abort(&out);
        return refuse(path, pe, MI_PE_EDIT_CHANGED);
    }
    plat_free_file(file);
    rc = write_commit(&out, path);
    write_tell(cli, path);
    if (rc == EXIT_OK && !cli->is_quiet)
        printf("%s: the original again, %llu bytes, SHA-256 verified\n", to,
               (unsigned long long)undo->original_bytes);
    return rc;
}

static minject_exit_t remove_opened(const cli_t *cli, const char *path, plat_file_t *file,
                                    const mi_pe_t *pe) {
    mi_pe_undo_t undo;
    mi_pe_edit_t edit = mi_pe_undo_find(&undo, pe);
    if (edit != MI_PE_EDIT_OK)
        return refuse(path, pe, edit);
    if (cli->output == NULL && plat_is_read_only(path) && !cli->is_forced) {
        say_error(
            "%s: is read-only; make it writable, or use --output or --force. Nothing was written",
            path);
        return EXIT_READ_ONLY;
    }
    if (cli->output != NULL && plat_same_file(path, cli->output)) {
        say_error("%s: is the input itself; leave --output away. Nothing was written", cli->output);
        return EXIT_SAME_FILE;
    }
    if (cli->output != NULL && plat_file_exists(cli->output) && !cli->is_forced) {
        say_error("%s: exists already; use --force to replace it", cli->output);
        return EXIT_EXISTS;
    }
    return write_original(cli, path, file, pe, &undo);
}

static int remove_file(const cli_t *cli, const char *path) {
    plat_file_t file;
    mi_pe_t pe;
    minject_exit_t rc = cli_open(path, &file, &pe);
    if (rc != EXIT_OK)
        return (int)rc;
    rc = remove_opened(cli, path, &file, &pe);
    plat_free_file(&file);
    return (int)rc;
}

int cmd_remove(const cli_t *cli) {
    return for_each_file(cli, remove_file);
}
