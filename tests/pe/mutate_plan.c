// The planner on damaged CRTs: genuine ones, where there are any, and Wine's, with a few bytes
// changed at random, from a fixed seed: headers, export table, unwind data, the code of the family,
// anywhere. As a file (minject check --plan) and as a mapped module (the redirection). It must not
// crash or hang, which the sanitizers and a timer see, and never plan a patch that is not all code
// of one function, which is checked here anew, with plain loops over every table.
//
//   mutate_plan ROUNDS (file | folder) ...      a folder: its CRTs, and those one level below
#include "pe/plan_com.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHANGES_MAX = 24, SECONDS_MAX = 20 };

typedef struct image_s {
    uint8_t *bytes;
    size_t size;
    bool is_mapped;
    uint32_t area[8][2]; // offset and length of what is interesting
    unsigned area_count;
} image_t;

static const uint64_t seed = 0x9E3779B97F4A7C15u;
static uint64_t state;
static unsigned long plans, good_plans, patches, refused_sites;
static char now[300]; // which mutation, for the message

static uint32_t next(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below == 0 ? 0 : (uint32_t)((state >> 32) % below);
}

static void require(bool fact, const char *what, const mi_plan_site_t *site) {
    if (fact)
        return;
    printf("%s: %s: %s at %x\n", now, what, site != NULL ? site->name : "",
           site != NULL ? site->rva : 0);
    exit(1);
}

// ---- what a patch must be, without the planner's own means ----

static void check_code(const mi_pe_t *pe, const mi_plan_site_t *s) {
    bool is_code = false;
    mi_pe_section_t section;
    for (uint32_t i = 0; i < pe->section_count && mi_pe_section_at(pe, i, &section); i++)
        is_code |=
            ((section.flags & MI_PE_SECTION_EXECUTE) != 0 && s->rva >= section.rva &&
             s->rva + s->patch_bytes <= section.rva + (section.virtual_bytes > section.raw_bytes
                                                           ? section.virtual_bytes
                                                           : section.raw_bytes));
    require(is_code && mi_pe_at(pe, s->rva, s->patch_bytes) != NULL, "a patch outside code", s);
}

// No function begins inside a patch: neither another site's, nor an exported one, nor one with
// unwind data.
static void check_begin(const mi_plan_t *plan, uint32_t rva, const char *what) {
    for (uint32_t k = 0; k < plan->site_count; k++) {
        const mi_plan_site_t *s = &plan->sites[k];
        if (rva - s->rva - 1 < (uint32_t)s->patch_bytes - 1 && s->verdict == MI_SITE_PATCH)
            require(false, what, s);
    }
}

static void check_begins(const mi_pe_t *pe, const mi_plan_t *plan) {
    const uint32_t functions = mi_pe_function_count(pe);
    mi_pe_exports_t ex;
    mi_pe_extent_t e;
    for (uint32_t k = 0; k < plan->site_count; k++)
        check_begin(plan, plan->sites[k].rva, "another site inside a patch");
    const bool has_exports = mi_pe_exports_open(pe, &ex);
    for (uint32_t k = 0; has_exports && k < ex.function_count; k++)
        check_begin(plan, mi_pe_u32(ex.functions + (size_t)k * 4), "an export inside a patch");
    for (uint32_t k = 0; k < functions; k++)
        if (mi_pe_function_at(pe, k, &e))
            check_begin(plan, e.begin, "a function begins inside a patch");
}

static void check_plan(const mi_pe_t *pe, const mi_plan_t *plan, bool is_good) {
    uint32_t count = 0;
    plans++;
    good_plans += is_good;
    require(is_good == (plan->reason == MI_REASON_NONE), "the answer is not the reason's", NULL);
    require(plan->site_count <= MI_PLAN_SITES_MAX, "too many sites", NULL);
    for (uint32_t k = 0; k < plan->site_count; k++) {
        const mi_plan_site_t *s = &plan->sites[k];
        refused_sites += (s->verdict == MI_SITE_REFUSED);
        require(s->verdict != MI_SITE_REFUSED || s->reason != MI_REASON_NONE, "no reason", s);
        require(s->verdict != MI_SITE_REFUSED || !is_good, "good with a refused site", s);
        if (s->verdict != MI_SITE_PATCH)
            continue;
        count++;
        require(s->patch_bytes == (plan->cpu == MI_CPU_ARM64 ? 4 : 5), "patch bytes", s);
        require(s->whole_bytes >= s->patch_bytes && s->whole_bytes <= 20, "whole bytes", s);
        check_code(pe, s);
    }
    require(count == plan->patch_count, "the number of patches", NULL);
    if (count > 0)
        check_begins(pe, plan);
    patches += count;
}

static void plan(const image_t *image) {
    static mi_plan_t p;
    mi_pe_t pe;
    if (!mi_pe_open(&pe, image->bytes, image->size, image->is_mapped))
        return;
    if (mi_com_is_owner(&pe))
        check_plan(&pe, &p, mi_com_plan_make(&pe, &p));
    check_plan(&pe, &p, mi_plan_make(&pe, &p));
    if (mi_plan_is_crt(&pe))
        (void)mi_plan_rung(&p);
}

// ---- the changes ----

static void add_area(image_t *image, const mi_pe_t *pe, uint32_t rva, uint32_t bytes) {
    uint32_t offset = rva;
    if (bytes == 0 || image->area_count == 8 ||
        (!image->is_mapped && !mi_pe_rva_to_offset(pe, rva, &offset)) || offset >= image->size)
        return;
    if (bytes > image->size - offset)
        bytes = (uint32_t)(image->size - offset);
    image->area[image->area_count][0] = offset;
    image->area[image->area_count++][1] = bytes;
}

// Headers, export table, unwind table and its records, load configuration.
static void find_areas(image_t *image) {
    mi_pe_t pe;
    mi_pe_range_t r;
    const mi_pe_dir_t dirs[] = {MI_PE_DIR_EXPORT, MI_PE_DIR_EXCEPTION, MI_PE_DIR_LOAD_CONFIG};
    image->area[0][0] = 0;
    image->area[0][1] = image->size < 0x400 ? (uint32_t)image->size : 0x400;
    image->area_count = 1;
    if (!mi_pe_open(&pe, image->bytes, image->size, image->is_mapped))
        return;
    for (unsigned i = 0; i < 3; i++)
        if (mi_pe_directory(&pe, dirs[i], &r))
            add_area(image, &pe, r.rva, r.bytes);
    if (mi_pe_directory(&pe, MI_PE_DIR_EXCEPTION, &r) && mi_pe_at(&pe, r.rva, 12) != NULL)
        add_area(image, &pe, mi_pe_u32(mi_pe_at(&pe, r.rva, 12) + 8), 0x2000);
}

// Where to change something: the code of one of the family, a table, anywhere.
static uint32_t choose(const image_t *image, const mi_plan_t *whole, const mi_pe_t *pe) {
    const uint32_t kind = next(10);
    uint32_t offset;
    if (kind < 5 && whole->site_count > 0) {
        const mi_plan_site_t *s = &whole->sites[next(whole->site_count)];
        const uint32_t rva = s->rva + next(next(2) == 0 ? 8 : 80);
        if (image->is_mapped && rva < image->size)
            return rva;
        if (!image->is_mapped && mi_pe_rva_to_offset(pe, rva, &offset) && offset < image->size)
            return offset;
    }
    if (kind < 9) {
        const unsigned a = next(image->area_count);
        return image->area[a][0] + next(image->area[a][1]);
    }
    return next((uint32_t)image->size);
}

static uint8_t value(uint8_t before) {
    // Jumps, calls, returns, prefixes: what changes the flow.
    static const uint8_t telling[] = {0xE9, 0xEB, 0xE8, 0xC3, 0x74, 0x0F, 0xFF, 0x25,
                                      0xCC, 0x90, 0x48, 0x66, 0xF2, 0xC2, 0x00, 0x7F};
    switch (next(4)) {
    case 0:
        return telling[next(sizeof(telling))];
    case 1:
        return (uint8_t)(before ^ (1u << next(8)));
    case 2:
        return (uint8_t)(before + next(17) - 8);
    default:
        return (uint8_t)next(256);
    }
}

static void torment(image_t *image, const char *name, unsigned long rounds) {
    static mi_plan_t whole;
    mi_pe_t pe;
    snprintf(now, sizeof(now), "%s, whole", name);
    plan(image);
    find_areas(image);
    if (!mi_pe_open(&pe, image->bytes, image->size, image->is_mapped))
        return;
    (void)mi_plan_make(&pe, &whole);
    for (unsigned long round = 0; round < rounds; round++) {
        uint32_t at[CHANGES_MAX];
        uint8_t before[CHANGES_MAX];
        const uint32_t changes = 1 + next(next(2) == 0 ? 3 : CHANGES_MAX);
        for (uint32_t k = 0; k < changes; k++) {
            at[k] = choose(image, &whole, &pe);
            before[k] = image->bytes[at[k]];
            image->bytes[at[k]] = value(before[k]);
        }
        snprintf(now, sizeof(now), "%s, %s, round %lu", name, image->is_mapped ? "mapped" : "file",
                 round);
        alarm(SECONDS_MAX); // ends the program: a plan takes milliseconds
        plan(image);
        for (uint32_t k = changes; k-- > 0;)
            image->bytes[at[k]] = before[k];
    }
    alarm(0);
}

// As the loader lays it out.
static bool map(const image_t *file, image_t *mapped) {
    mi_pe_t pe;
    mi_pe_section_t s;
    if (!mi_pe_open(&pe, file->bytes, file->size, false))
        return false;
    *mapped = (image_t){
        .bytes = (uint8_t *)calloc(1, pe.image_bytes), .size = pe.image_bytes, .is_mapped = true};
    if (mapped->bytes == NULL)
        return false;
    memcpy(mapped->bytes, file->bytes, file->size < 0x1000 ? file->size : 0x1000);
    for (uint32_t i = 0; i < pe.section_count && mi_pe_section_at(&pe, i, &s); i++)
        if (s.rva < mapped->size && s.raw_offset < file->size) {
            size_t n = (s.raw_bytes < s.virtual_bytes ? s.raw_bytes : s.virtual_bytes);
            n = (n < mapped->size - s.rva ? n : mapped->size - s.rva);
            n = (n < file->size - s.raw_offset ? n : file->size - s.raw_offset);
            memcpy(mapped->bytes + s.rva, file->bytes + s.raw_offset, n);
        }
    return true;
}

static unsigned run_file(const char *path, unsigned long rounds) {
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return 0;
    fseek(f, 0, SEEK_END);
    image_t file = {.size = (size_t)ftell(f)}, mapped;
    rewind(f);
    // Of exactly this size, so that a sanitizer sees the first byte too far.
    file.bytes = (uint8_t *)malloc(file.size);
    if (file.size < 1024 || file.bytes == NULL || fread(file.bytes, 1, file.size, f) != file.size)
        exit(2);
    fclose(f);
    state = seed; // whatever other files there are
    const unsigned long before = plans;
    torment(&file, path, rounds);
    if (map(&file, &mapped)) {
        torment(&mapped, path, rounds);
        free(mapped.bytes);
    }
    free(file.bytes);
    printf("%s: %lu plans\n", path, plans - before);
    return 1;
}

static bool is_crt_name(const char *name) {
    static const char *const names[] = {"ucrtbase", "msvcr",     "crtdll.dll",
                                        "combase",  "ole32.dll", "synth_"};
    const char *end = strrchr(name, '.');
    for (size_t i = 0;
         end != NULL && strcmp(end, ".dll") == 0 && i < sizeof(names) / sizeof(names[0]); i++)
        if (strncmp(name, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static unsigned run(const char *path, unsigned long rounds, unsigned depth) {
    struct dirent **list = NULL;
    const int count = scandir(path, &list, NULL, alphasort); // the same order each time
    unsigned files = 0;
    char inner[4096];
    if (count < 0)
        return depth == 0 ? run_file(path, rounds) : 0;
    for (int i = 0; i < count; i++) {
        snprintf(inner, sizeof(inner), "%s/%s", path, list[i]->d_name);
        if (is_crt_name(list[i]->d_name))
            files += run_file(inner, rounds);
        else if (list[i]->d_name[0] != '.' && depth == 0)
            files += run(inner, rounds, 1);
        free(list[i]);
    }
    free(list);
    return files;
}

int main(int argc, char **argv) {
    unsigned files = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: mutate_plan ROUNDS (file | folder) ...\n");
        return 2;
    }
    for (int i = 2; i < argc; i++)
        files += run(argv[i], strtoul(argv[1], NULL, 10), 0);
    printf("%u files, %lu plans, %lu of them good, %lu patches, %lu sites refused\n", files, plans,
           good_plans, patches, refused_sites);
    return plans > 0 && good_plans < plans && patches > 0 ? 0 : 1;
}
