// Which form each entry of a CRT is given, counted from its bytes: so that one that gets a worse
// form than it could have is noticed. x64, where the form depends on the distance.
//
//   forms redirect.dll mimalloc.dll early|late crt.dll base straight/bound/context/wrapped ...
//
//   straight   jmp to a function of the allocator that knows the CRT
//   bound      jmp to an island that jumps there
//   context    jmp to an island that hands on the CRT's context and jumps
//   wrapped    jmp to an island that goes through a function with a frame
//
// A CRT that does not lie where it did when this was counted is another build of Wine: skipped.
#include "wtest.h"

enum { SKIPPED = 77, WORDS = 3, ENTRIES_MAX = 256 };

typedef struct forms_s {
    unsigned straight, bound, context, wrapped, other;
} forms_t;

static HMODULE allocator;

static uint32_t read32(const uint8_t *p) {
    uint32_t value;
    memcpy(&value, p, sizeof(value));
    return value;
}

static size_t image_bytes(HMODULE m) {
    const uint8_t *base = (const uint8_t *)m;
    return read32(base + read32(base + 0x3C) + 0x50);
}

static bool is_inside(HMODULE m, const uint8_t *p) {
    return (uintptr_t)p - (uintptr_t)m < image_bytes(m);
}

static void count_island(forms_t *f, const uint8_t *code) {
    const unsigned begin = (unsigned)code[0] << 8 | code[1];
    if (begin == 0xFF25)
        f->bound++;
    else if (begin == 0x48B9 || begin == 0x48BA || begin == 0x49B8 || begin == 0x49B9)
        f->context++;
    else if (begin == 0x49BA)
        f->wrapped++;
    else
        f->other++;
}

// Every exported address whose first instruction leaves the CRT. Names that share one count once.
static forms_t count_forms(HMODULE crt) {
    const uint8_t *base = (const uint8_t *)crt;
    const uint8_t *dir = base + read32(base + read32(base + 0x3C) + 0x88);
    const uint8_t *functions = base + read32(dir + 28);
    const uint32_t count = read32(dir + 20);
    const uint8_t *seen[ENTRIES_MAX];
    unsigned seen_count = 0;
    forms_t f = {0};
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *entry = base + read32(functions + (size_t)i * 4);
        const uint8_t *to = entry + 5 + (int32_t)read32(entry + 1);
        bool is_new = (entry != base && entry[0] == 0xE9 && !is_inside(crt, to));
        for (unsigned k = 0; k < seen_count && is_new; k++)
            is_new = (seen[k] != entry);
        if (!is_new || seen_count == ENTRIES_MAX)
            continue;
        seen[seen_count++] = entry;
        if (is_inside(allocator, to))
            f.straight++;
        else
            count_island(&f, to);
    }
    return f;
}

static uint64_t number(const char *text) {
    uint64_t n = 0;
    for (; *text != 0; text++)
        n = n * 16 + (uint64_t)(*text <= '9' ? *text - '0' : (*text | 32) - 'a' + 10);
    return n;
}

static void load_crts(void) {
    for (unsigned k = 4; *argument(k) != 0; k += WORDS) {
        const HMODULE crt = LoadLibraryA(argument(k));
        CHECK_AT(crt != NULL, argument(k));
        if ((uint64_t)(uintptr_t)crt != number(argument(k + 1))) {
            say("skipped: %s is at %p, this is another Wine\n", argument(k), (void *)crt);
            ExitProcess(SKIPPED);
        }
    }
}

// Does the report say the same?
static bool status_has(HMODULE redirect, const char *name, const forms_t *f) {
    static char text[65536], wanted[128];
    mi_text_t t;
    (void)((size_t(*)(char *, size_t, int))proc(redirect, "mi_redirect_status"))(text, sizeof(text),
                                                                                 1);
    mi_text_init(&t, wanted, sizeof(wanted));
    mi_text_fmt(&t, "\"functions\":%u,\"straight\":%u,",
                f->straight + f->bound + f->context + f->wrapped, f->straight);
    const char *p = text;
    while (*p != 0 && !(*p == '"' && mi_str_starts(p + 1, name)))
        p++;
    while (*p != 0 && !mi_str_starts(p, "\"functions\":"))
        p++;
    return mi_str_starts(p, wanted);
}

static void compare(HMODULE redirect, const char *name, const char *wanted) {
    char text[64];
    mi_text_t t;
    const forms_t f = count_forms(GetModuleHandleA(name));
    mi_text_init(&t, text, sizeof(text));
    mi_text_fmt(&t, "%u/%u/%u/%u", f.straight, f.bound, f.context, f.wrapped);
    say("%s: %s straight/bound/context/wrapped\n", name, text);
    CHECK_AT(mi_str_eq(text, wanted) && f.other == 0, name);
    CHECK_AT(status_has(redirect, name, &f), name);
}

void mainCRTStartup(void) {
    const bool is_late = mi_str_eq(argument(3), "late");
    if (is_late)
        load_crts();
    const HMODULE redirect = LoadLibraryA(argument(1));
    allocator = LoadLibraryA(argument(2));
    CHECK(redirect != NULL && allocator != NULL);
    if (!is_late)
        load_crts();
    for (unsigned k = 4; *argument(k) != 0; k += WORDS)
        compare(redirect, argument(k), argument(k + 2));
    finish();
}
