// The planner: which functions of a CRT would be patched, where, and why not. Pure: it looks at an
// image (a mapped module, or a file on disk) and fills a plan; it changes nothing. The live
// redirection, the offline `minject check --plan` and the tests run this same code. Any thread,
// each with its own plan.
//
// What a plan proves about each patched entry [rva, rva + MI_PLAN_PATCH_BYTES):
//   - it is code of this one function: reached by falling through from the entry, executable,
//   decoded;
//   - no other function begins inside it: neither an export, nor an unwind entry, nor another site;
//   - no direct jump of the function (its split-off parts included) lands inside it;
//   - no call inside it can return into it;
//   - nobody else has patched it before.
//
//        malloc:        E9 rel32  jmp _malloc_base    --->  E9 rel32  jmp island     5 bytes, no
//        more:
//                       CC CC CC                            CC CC CC                 the padding
//                       and the 8 bytes of guard hash               unchanged                hash
//                       are not touched
//        _malloc_base:  48 83 EC 28 ...                     E9 rel32  jmp island
#ifndef MI_PE_PLAN_H
#define MI_PE_PLAN_H

#include "pe/crt_table.h"
#include "pe/decode.h"
#include "pe/pe_image.h"
#include "pe/plan_reason.h"

#define MI_PLAN_SITES_MAX   160
#define MI_PLAN_NEAR_MAX    128
#define MI_PLAN_ENTRY_BYTES 16 // saved from each entry, for display and for comparison
#define MI_PLAN_PATCH_X86   5  // E9 rel32
#define MI_PLAN_PATCH_ARM64 4  // b

typedef enum mi_site_verdict_e {
    MI_SITE_PATCH,     // gets a jump
    MI_SITE_ALIAS,     // same address as an earlier site
    MI_SITE_COVERED,   // reaches a patched function by itself
    MI_SITE_FORWARDED, // lives in another DLL
    MI_SITE_LEFT,      // left alone without harm; the reason says why
    MI_SITE_REFUSED    // makes the whole CRT refused
} mi_site_verdict_t;

typedef struct mi_plan_site_s {
    const char *name; // from the table; not the image's
    uint32_t rva;     // of the entry to patch
    uint8_t fn;       // mi_crt_fn_t
    uint8_t flags;    // mi_crt_name_flag_t
    uint8_t verdict;  // mi_site_verdict_t
    uint8_t reason;   // mi_reason_t
    uint8_t patch_bytes;
    uint8_t whole_bytes; // whole instructions that contain the patch
    bool is_derived; // not exported: found behind the jump that an exported function consists of
    bool in_tables;  // the rung "tables" redirects it where import and export tables name it
    bool is_movable; // the whole instructions can be moved, so that the original can be kept
} mi_plan_site_t;

// How a CRT is redirected. The highest rung that works is taken; the report names it.
typedef enum mi_rung_e {
    MI_RUNG_NONE,   // left alone
    MI_RUNG_TABLES, // import and export tables point elsewhere, its code stays
    MI_RUNG_ENTRY   // its own entries jump elsewhere
} mi_rung_t;

typedef struct mi_plan_s {
    mi_cpu_t cpu;
    mi_reason_t reason;   // MI_REASON_NONE = the CRT can be redirected
    uint32_t reason_site; // index of the site that caused it, when one did
    bool is_debug;        // a debug CRT: its blocks have headers
    bool is_sorted;       // the unwind table; otherwise all of it is looked at for each site
    uint32_t site_count;
    uint32_t patch_count; // sites with MI_SITE_PATCH
    uint32_t table_count; // sites that are in_tables
    // The exports that may begin inside a patch, and some that do not. 0 = not noted,
    // MI_PLAN_NEAR_MAX = too many: then all are looked at for each site.
    uint32_t near_count;
    uint32_t near_rva[MI_PLAN_NEAR_MAX];
    mi_plan_site_t sites[MI_PLAN_SITES_MAX];
} mi_plan_t;

// Quick and cheap: does the module export the family (malloc, calloc, realloc, free) and something
// that only a CRT exports? Other allocators export the family too.
bool mi_plan_is_crt(const mi_pe_t *pe);

// true = plan->reason is MI_REASON_NONE. The plan is filled as far as possible either way.
bool mi_plan_make(const mi_pe_t *pe, mi_plan_t *plan);

// The highest rung that the image allows. The process may still forbid it.
mi_rung_t mi_plan_rung(const mi_plan_t *plan);
const char *mi_rung_text(mi_rung_t rung); // "none", "tables", "entry"

// The processor of the image's code; false = one that nothing can be planned for.
bool mi_plan_cpu(const mi_pe_t *pe, mi_cpu_t *cpu);

// One site: fills verdict, reason, patch_bytes, whole_bytes and is_movable from the code at
// site->rva. For functions that are not in the table (the heap guard, COM's memory). plan->cpu must
// be set; its other sites bound the function.
void mi_plan_judge(const mi_pe_t *pe, const mi_plan_t *plan, mi_plan_site_t *site);

const char *mi_site_verdict_text(mi_site_verdict_t verdict);

// Notes in the plan, whose sites are complete, what mi_plan_judge would else look for among all
// exports at each site.
void mi_plan_note_near(const mi_pe_exports_t *ex, mi_plan_t *plan);

// Finds an export by binary search, as the system does; false = absent.
bool mi_plan_export(const mi_pe_exports_t *ex, const char *name, mi_pe_export_t *out);

// ---- moving code (plan_move.c) ----

// Copies the whole instructions at src (bytes long, running at src_address) so that they do the
// same at dst_address, followed by a jump to the rest of the function. Returns the length written,
// 0 = impossible.
size_t mi_plan_move(mi_cpu_t cpu, const uint8_t *src, size_t bytes, uint64_t src_address,
                    uint8_t *dst, size_t dst_room, uint64_t dst_address);

#endif
