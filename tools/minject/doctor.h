// The doctor: what will happen when a program starts, worked out from files alone. doctor_load
// builds the closure of DLLs and the order in which they will be initialised; doctor_judge draws
// the conclusions. One thread.
#ifndef MI_MINJECT_DOCTOR_H
#define MI_MINJECT_DOCTOR_H

#include "minject/cli.h"
#include "pe/pe_evidence.h"
#include "pe/pe_manifest.h"
#include "pe/pe_names.h"
#include "pe/plan.h"

#define DOCTOR_MODULES_MAX  512u
#define DOCTOR_FINDINGS_MAX 128u
#define DOCTOR_NAME_BYTES   128u
#define DOCTOR_PAIRS_MAX    64u
#define DOCTOR_ROWS_MAX     64u // assemblies, names of the KnownDLLs list

typedef enum doctor_origin_e {
    DOCTOR_APP,     // beside the program, or in --dll-folder
    DOCTOR_SYSTEM,  // in the system folder (Windows' or Wine's)
    DOCTOR_KNOWN,   // not at hand, but Windows always has it
    DOCTOR_MISSING, // nowhere
    DOCTOR_ASSEMBLY // side by side: from an assembly that a manifest names
} doctor_origin_t;

// How sure we are that a module carries its own, statically linked C runtime.
typedef enum doctor_static_e {
    DOCTOR_STATIC_NO,
    DOCTOR_STATIC_MAYBE,
    DOCTOR_STATIC_LIKELY
} doctor_static_t;

typedef struct doctor_module_s {
    char name[DOCTOR_NAME_BYTES];
    char path[CLI_PATH_BYTES]; // "" when it is not at hand
    doctor_origin_t origin;
    mi_pe_role_t role;
    plat_file_t file;
    mi_pe_t pe;
    bool is_open;    // pe can be asked
    bool is_visited; // by the walk that finds the order
    uint32_t order;  // 1 = initialised first; 0 = delay-loaded only
    uint32_t parent; // index of the module that first asked for it
    uint32_t *needs; // indices, in import order
    uint32_t need_count;
    bool is_crt;            // exports the allocation family
    mi_rung_t crt_rung;     // how it can be redirected, as far as the file tells
    mi_reason_t crt_reason; // why not at its entries; MI_REASON_NONE = there
    uint32_t crt_functions; // functions that would be redirected on that rung
    uint32_t crt_of; // first C runtime it imports allocation functions from, UINT32_MAX = none
    doctor_static_t has_static_crt;
    mi_pe_evidence_t evidence; // for it
} doctor_module_t;

typedef enum doctor_level_e { DOCTOR_OK, DOCTOR_INFO, DOCTOR_WARN, DOCTOR_BAD } doctor_level_t;

typedef struct doctor_finding_s {
    doctor_level_t level;
    const char *code; // short and stable, for JSON
    char text[512];
    char cure[256]; // "" = none is needed
} doctor_finding_t;

typedef enum doctor_verdict_e { DOCTOR_REDIRECTED, DOCTOR_PARTLY, DOCTOR_NOT } doctor_verdict_t;

// What really happened to one C runtime in a run.
typedef struct doctor_live_s {
    char name[DOCTOR_NAME_BYTES];
    bool is_foretold; // in the closure; others were loaded by the program itself
    bool predicted;   // to be redirected
    bool happened;
    bool predicted_late;
    bool happened_late;
} doctor_live_t;

// Two of the program's modules with different C runtimes: a block may be allocated by one and freed
// by the other.
typedef struct doctor_pair_s {
    uint32_t caller; // indices
    uint32_t callee;
    uint32_t functions; // that the caller imports from the callee; 0 = they only share a process
    bool is_debug_release;
} doctor_pair_t;

// An assembly that a manifest depends on, and where it is.
typedef struct doctor_assembly_s {
    uint32_t owner; // the module whose imports it serves; 0 = the program: everybody's
    char name[DOCTOR_NAME_BYTES];
    char version[DOCTOR_NAME_BYTES]; // as asked for, or as a policy says
    char folder[CLI_PATH_BYTES];     // "" = the current one
    bool is_found;
} doctor_assembly_t;

typedef struct doctor_s {
    const cli_t *cli;
    char app_folder[CLI_PATH_BYTES];
    char system_folder[CLI_PATH_BYTES];           // "" = none at hand
    doctor_module_t *modules[DOCTOR_MODULES_MAX]; // 0 is the program
    uint32_t module_count;
    uint32_t order[DOCTOR_MODULES_MAX]; // indices in the order of initialisation
    uint32_t order_count;
    doctor_finding_t findings[DOCTOR_FINDINGS_MAX];
    uint32_t finding_count;
    doctor_live_t live[32];
    uint32_t live_count;
    doctor_verdict_t verdict;
    bool installs; // the redirection comes to work, whatever C runtimes it then finds
    bool is_late;  // a C runtime is initialised before the redirection
    uint32_t half; // the module whose initialisation redirects, 0 = none
    doctor_pair_t pairs[DOCTOR_PAIRS_MAX];
    uint32_t pair_count;
    // What names mean here (doctor_names.c).
    plat_file_t schema;              // apisetschema.dll of the system
    mi_api_sets_t sets;              // count 0 = none at hand
    char known[DOCTOR_ROWS_MAX][64]; // the system's KnownDLLs
    uint32_t known_count;            // 0 = it has no such list
    doctor_assembly_t assemblies[DOCTOR_ROWS_MAX];
    uint32_t assembly_count;
    char local_folder[CLI_PATH_BYTES]; // program.exe.local, "" = none
} doctor_t;

// Builds the closure. Not EXIT_OK: the message is out.
minject_exit_t doctor_load(doctor_t *d, const cli_t *cli, const char *path);
void doctor_judge(doctor_t *d);
void doctor_free(doctor_t *d);

// The index of a module by name, UINT32_MAX = not in the closure.
uint32_t doctor_find(const doctor_t *d, const char *name);
bool doctor_is_ours(const doctor_module_t *m);
// Starts the program (args[0], NULL-terminated) as it is and compares. Not EXIT_OK: the message is
// out. *agrees: the prediction held for every C runtime of the closure.
minject_exit_t doctor_live(doctor_t *d, char **args, bool *agrees);

// ---- names (doctor_names.c) ----

void doctor_names_open(doctor_t *d); // after the system folder is known
// The DLL behind a name: that of an API set, or the name itself. buf may hold the answer.
const char *doctor_names_host(const doctor_t *d, const char *name, char *buf, size_t cap);
// Reads the manifest of a module, embedded or beside it.
void doctor_names_manifest(doctor_t *d, uint32_t index);
// Finds the file that the loader takes for a name which this module imports.
void doctor_names_locate(const doctor_t *d, doctor_module_t *m, uint32_t importer);

// ---- findings (doctor_judge.c) ----

doctor_finding_t *doctor_say(doctor_t *d, doctor_level_t level, const char *code, const char *fmt,
                             ...) MI_PRINTF(4, 5);
void doctor_cure(doctor_finding_t *f, const char *fmt, ...) MI_PRINTF(2, 3);
// Our two DLLs (doctor_halves.c), mixes of runtimes and allocators (doctor_mix.c).
void doctor_judge_halves(doctor_t *d);
void doctor_judge_mixes(doctor_t *d);
// COM's task memory (doctor_com.c).
void doctor_judge_com(doctor_t *d);

void doctor_print(const doctor_t *d); // text (doctor_tree.c)

const char *doctor_verdict_text(doctor_verdict_t verdict);

#endif
