// Which file a name means: API sets, .local, manifests with their assemblies, KnownDLLs, folders;
// in the order of the loader.
#include "minject/doctor.h"
#include "base/text.h"
#include "minject/api_sets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What Windows always has, whether it can be looked at here or not.
static const char *const always_there[] = {
    "ntdll.dll",     "kernel32.dll", "kernelbase.dll", "user32.dll",    "gdi32.dll",
    "advapi32.dll",  "msvcrt.dll",   "ole32.dll",      "oleaut32.dll",  "combase.dll",
    "rpcrt4.dll",    "sechost.dll",  "shell32.dll",    "shlwapi.dll",   "ws2_32.dll",
    "ucrtbase.dll",  "comdlg32.dll", "imm32.dll",      "gdi32full.dll", "win32u.dll",
    "msvcp_win.dll", "bcrypt.dll",   "crypt32.dll",    "version.dll",   "winmm.dll",
    "setupapi.dll",  "comctl32.dll", "psapi.dll",      "userenv.dll",   "dbghelp.dll"};

// Three that the system takes from its own folder by other rules (ntdll, kernelbase, the universal
// runtime), then KnownDLLs as every Windows since 8 has it, for systems whose list cannot be read.
#define FIXED_COUNT 3u
static const char *const usual_known[] = {
    "ntdll.dll",   "kernelbase.dll", "ucrtbase.dll", "advapi32.dll", "clbcatq.dll",
    "combase.dll", "comdlg32.dll",   "coml2.dll",    "difxapi.dll",  "gdi32.dll",
    "gdiplus.dll", "imagehlp.dll",   "imm32.dll",    "kernel32.dll", "msctf.dll",
    "msvcrt.dll",  "normaliz.dll",   "nsi.dll",      "ole32.dll",    "oleaut32.dll",
    "psapi.dll",   "rpcrt4.dll",     "sechost.dll",  "setupapi.dll", "shcore.dll",
    "shell32.dll", "shlwapi.dll",    "user32.dll",   "wldap32.dll",  "ws2_32.dll"};

static bool is_in(const char *name, const char *const *list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (mi_str_eq_nocase(name, list[i]))
            return true;
    }
    return false;
}

static bool is_known(const doctor_t *d, const char *name) {
    if (d->known_count == 0)
        return is_in(name, usual_known, sizeof usual_known / sizeof usual_known[0]);
    for (uint32_t i = 0; i < d->known_count; i++) {
        if (mi_str_eq_nocase(name, d->known[i]))
            return true;
    }
    return is_in(name, usual_known, FIXED_COUNT);
}

void doctor_names_open(doctor_t *d) {
    static char path[CLI_PATH_BYTES];
    mi_pe_t pe;
    const char *system = d->system_folder;
    if (*system != 0 && plat_find_in_folder(system, "apisetschema.dll", path, sizeof path) &&
        plat_map_file(path, &d->schema) == PLAT_OK) {
        if (!mi_pe_open(&pe, d->schema.bytes, d->schema.size, false) ||
            !mi_api_sets_open(&d->sets, &pe))
            d->sets.count = 0;
    }
    d->known_count = plat_known_dlls(d->known, DOCTOR_ROWS_MAX);
    size_t n = strlen(d->modules[0]->path);
    if (cli_join(path, sizeof path, d->modules[0]->path, n, ".local") && plat_file_exists(path))
        cli_join(d->local_folder, sizeof d->local_folder, path, n, ".local");
}

// The row with this version if there is one, else that of the family.
static const char *host_in_table(const char *name) {
    const char *family = NULL;
    for (const mi_api_set_row_t *r = mi_api_set_rows; r->name != NULL; r++) {
        size_t n = 0;
        while (r->name[n] != 0 && (r->name[n] | 0x20) == (name[n] | 0x20))
            n++;
        if (r->name[n] != 0 || name[n] != '-')
            continue;
        if (r->name[n - 1] >= '0' && r->name[n - 1] <= '9' && r->name[n - 2] == '-')
            return r->host;
        if ((name[n + 1] | 0x20) == 'l' && name[n + 2] >= '0' && name[n + 2] <= '9')
            family = r->host;
    }
    return family;
}

const char *doctor_names_host(const doctor_t *d, const char *name, char *buf, size_t cap) {
    static const char crt[] = "api-ms-win-crt-";
    if (!mi_api_set_is(name))
        return name;
    if (mi_api_sets_find(&d->sets, name, buf, cap) && buf[0] != 0)
        return buf;
    size_t n = 0;
    while (crt[n] != 0 && (name[n] | 0x20) == (crt[n] | 0x20))
        n++;
    const char *host = crt[n] == 0 ? "ucrtbase.dll" : host_in_table(name);
    return host != NULL ? host : "kernelbase.dll";
}

// ---- manifests ----

static const char *assembly_machine(const doctor_t *d, const mi_assembly_t *a) {
    uint16_t machine = d->modules[0]->pe.machine;
    if (a->machine[0] != 0 && a->machine[0] != '*')
        return a->machine;
    if (machine == MI_PE_MACHINE_X86)
        return "x86";
    return machine == MI_PE_MACHINE_X64 ? "amd64" : "arm64";
}

// The length of "9.0", or of "9.0." with the dot.
static int family_length(const char *version, bool with_dot) {
    const char *minor = strchr(version, '.');
    const char *end = minor != NULL ? strchr(minor + 1, '.') : NULL;
    return end != NULL ? (int)(end - version) + (with_dot ? 1 : 0) : (int)strlen(version);
}

// A manifest in UTF-16, as UTF-8; to be freed. No bytes: no memory.
static plat_file_t utf8_copy(const void *text, size_t bytes) {
    plat_file_t copy = {(uint8_t *)malloc(bytes / 2 * 3 + 1), 0, false};
    if (copy.bytes != NULL)
        copy.size = mi_manifest_to_utf8(text, bytes, (char *)copy.bytes);
    return copy;
}

static bool redirect_by(const char *path, mi_assembly_t *a) {
    plat_file_t file;
    if (plat_read_file(path, &file) != PLAT_OK)
        return false;
    if (mi_manifest_is_utf16(file.bytes, file.size)) {
        const plat_file_t text = utf8_copy(file.bytes, file.size);
        plat_free_file(&file);
        file = text;
    }
    bool is_redirected = file.bytes != NULL && mi_manifest_redirect(file.bytes, file.size, a);
    plat_free_file(&file);
    return is_redirected;
}

// The program's own policy comes first (program.exe.config), then the publisher's: a manifest in
// WinSxS, of the newest version, named machine_policy.9.0.name_token_version_language_hash.
static bool apply_policies(const doctor_t *d, mi_assembly_t *a) {
    static char folder[CLI_PATH_BYTES];
    static char path[CLI_PATH_BYTES];
    char name[4 * MI_PE_TOKEN_BYTES];
    const char *program = d->modules[0]->path;
    bool is_redirected =
        cli_join(path, sizeof path, program, strlen(program), ".config") && redirect_by(path, a);
    if (d->system_folder[0] == 0 || a->token[0] == 0 ||
        !cli_join(folder, sizeof folder, d->system_folder, strlen(d->system_folder),
                  "/../winsxs/manifests"))
        return is_redirected;
    int n = snprintf(name, sizeof name, "%s_policy.%.*s.%s_%s_", assembly_machine(d, a),
                     family_length(a->version, false), a->version, a->name, a->token);
    if (n > 0 && (size_t)n < sizeof name && plat_find_starting(folder, name, path, sizeof path))
        is_redirected = redirect_by(path, a) || is_redirected;
    return is_redirected;
}

// Shared assemblies: folders of WinSxS, named machine_name_token_version_language_hash; of several,
// the newest of the same major and minor version serves, unless a policy says which.
static bool find_shared(const doctor_t *d, const mi_assembly_t *a, bool is_redirected, char *out,
                        size_t cap) {
    static char folder[CLI_PATH_BYTES];
    char name[4 * MI_PE_TOKEN_BYTES];
    const char *machine = assembly_machine(d, a);
    const char *token = a->token[0] != 0 ? a->token : "none";
    if (d->system_folder[0] == 0 ||
        !cli_join(folder, sizeof folder, d->system_folder, strlen(d->system_folder), "/../winsxs"))
        return false;
    int n = snprintf(name, sizeof name, "%s_%s_%s_%s_", machine, a->name, token, a->version);
    if (is_redirected && (size_t)n < sizeof name && plat_find_starting(folder, name, out, cap))
        return true;
    n = snprintf(name, sizeof name, "%s_%s_%s_%.*s", machine, a->name, token,
                 family_length(a->version, true), a->version);
    return n > 0 && (size_t)n < sizeof name && plat_find_starting(folder, name, out, cap);
}

// Private ones lie beside the program, or there in a folder of the assembly's name.
static bool find_assembly(const doctor_t *d, mi_assembly_t *a, char *out, size_t cap) {
    static char found[CLI_PATH_BYTES];
    static char folder[CLI_PATH_BYTES];
    char name[MI_PE_TOKEN_BYTES + 16];
    if (strpbrk(a->name, "/\\:") != NULL)
        return false;
    snprintf(name, sizeof name, "%s.manifest", a->name);
    if (plat_find_in_folder(d->app_folder, name, found, sizeof found))
        return cli_join(out, cap, found, plat_folder_length(found), "");
    if (plat_find_in_folder(d->app_folder, a->name, folder, sizeof folder) &&
        plat_find_in_folder(folder, name, found, sizeof found))
        return cli_join(out, cap, found, plat_folder_length(found), "");
    bool is_redirected = apply_policies(d, a);
    return find_shared(d, a, is_redirected, out, cap);
}

static void read_manifest(doctor_t *d, uint32_t index, const void *text, size_t bytes) {
    mi_manifest_t manifest;
    mi_assembly_t a;
    if (mi_manifest_is_utf16(text, bytes)) {
        plat_file_t utf8 = utf8_copy(text, bytes);
        if (utf8.size != 0 && !mi_manifest_is_utf16(utf8.bytes, utf8.size))
            read_manifest(d, index, utf8.bytes, utf8.size);
        plat_free_file(&utf8);
        return;
    }
    mi_manifest_open(&manifest, text, bytes);
    while (d->assembly_count < DOCTOR_ROWS_MAX && mi_manifest_next(&manifest, &a)) {
        doctor_assembly_t *row = &d->assemblies[d->assembly_count++];
        row->owner = index;
        snprintf(row->name, sizeof row->name, "%s", a.name);
        row->folder[0] = 0;
        row->is_found = find_assembly(d, &a, row->folder, sizeof row->folder);
        snprintf(row->version, sizeof row->version, "%s", a.version);
    }
}

// The embedded one has precedence: number 1 in a program, 2 in a DLL. A manifest of the program
// overrides .local.
void doctor_names_manifest(doctor_t *d, uint32_t index) {
    static char path[CLI_PATH_BYTES];
    const doctor_module_t *m = d->modules[index];
    plat_file_t file;
    mi_pe_range_t range;
    bool has_one = false;
    if (!m->is_open)
        return;
    if (mi_pe_resource(&m->pe, MI_PE_RESOURCE_MANIFEST, index == 0 ? 1 : 2, &range)) {
        has_one = true;
        read_manifest(d, index, mi_pe_at(&m->pe, range.rva, range.bytes), range.bytes);
    } else if (cli_join(path, sizeof path, m->path, strlen(m->path), ".manifest") &&
               plat_read_file(path, &file) == PLAT_OK) {
        has_one = true;
        read_manifest(d, index, file.bytes, file.size);
        plat_free_file(&file);
    }
    if (has_one && index == 0)
        d->local_folder[0] = 0;
}

// ---- files ----

static bool find_in(const char *folder, const char *name, doctor_module_t *m,
                    doctor_origin_t origin) {
    if (folder == NULL || !plat_find_in_folder(folder, name, m->path, sizeof m->path))
        return false;
    m->origin = origin;
    return true;
}

// A folder of that name holds the DLLs; a file of that name means the program's folder.
static bool find_local(const doctor_t *d, doctor_module_t *m) {
    return d->local_folder[0] != 0 && (find_in(d->local_folder, m->name, m, DOCTOR_APP) ||
                                       find_in(d->app_folder, m->name, m, DOCTOR_APP));
}

static bool find_in_assemblies(const doctor_t *d, doctor_module_t *m, uint32_t importer) {
    for (uint32_t i = 0; i < d->assembly_count; i++) {
        const doctor_assembly_t *a = &d->assemblies[i];
        if ((a->owner == 0 || a->owner == importer) && a->is_found &&
            find_in(a->folder, m->name, m, DOCTOR_ASSEMBLY))
            return true;
    }
    return false;
}

static bool find_in_given(const doctor_t *d, doctor_module_t *m) {
    for (size_t i = 0; i < d->cli->dll_folder_count; i++) {
        if (find_in(d->cli->dll_folders[i], m->name, m, DOCTOR_APP))
            return true;
    }
    return false;
}

void doctor_names_locate(const doctor_t *d, doctor_module_t *m, uint32_t importer) {
    const char *system = d->system_folder[0] != 0 ? d->system_folder : NULL;
    if (find_local(d, m) || find_in_assemblies(d, m, importer) ||
        (is_known(d, m->name) && find_in(system, m->name, m, DOCTOR_SYSTEM)) ||
        find_in(d->app_folder, m->name, m, DOCTOR_APP) || find_in_given(d, m) ||
        find_in(system, m->name, m, DOCTOR_SYSTEM))
        return;
    m->path[0] = 0;
    bool is_there = is_in(m->name, always_there, sizeof always_there / sizeof always_there[0]);
    m->origin = is_there ? DOCTOR_KNOWN : DOCTOR_MISSING;
}
