// The redirect DLL asks the allocator for its table before the allocator's DllMain has run, when it
// comes first among the imports. With the question the allocator reads its options: none of the
// table's functions asks for that. Built twice: a DLL whose DllMain comes first, and the program.
//
//   ask mimalloc.dll      with MIMALLOC_DISALLOW_OS_ALLOC=1: there is no memory at all, by an
//   option
#include "base/redirect_abi.h"
#include "wtest.h"

typedef struct answers_s {
    LONG asked; // how often the table was there
    LONG told;  // how often the allocator said that it has no memory
    LONG given; // blocks that came all the same
} answers_t;

#ifdef ASK_DLL

static answers_t answers;

__declspec(dllexport) const answers_t *ask_answers(void);
__declspec(dllexport) const answers_t *ask_answers(void) {
    return &answers;
}

static bool no_memory(mi_crt_ctx_t *ctx, size_t size) {
    (void)ctx;
    (void)size;
    answers.told++;
    return false;
}

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
    (void)self;
    (void)reserved;
    if (reason != DLL_PROCESS_ATTACH)
        return TRUE;
    const HMODULE allocator = GetModuleHandleA(argument(1));
    const mi_redirect_allocator_fn ask =
        (mi_redirect_allocator_fn)proc(allocator, "_mi_redirect_allocator");
    const mi_redirect_allocator_t *table = (ask == NULL ? NULL : ask(MI_REDIRECT_ABI));
    if (table == NULL)
        return TRUE;
    mi_crt_ctx_t ctx = {.no_memory = no_memory};
    answers.asked++;
    answers.given += (table->crt_malloc(100, &ctx) != NULL);
    answers.given += (table->crt_calloc(3, 100, &ctx) != NULL);
    answers.given += (table->alloc(100) != NULL);
    answers.given += (table->alloc_zeroed(100) != NULL);
    answers.given += (table->alloc_aligned(100, 64, 0) != NULL);
    return TRUE;
}

#else

__declspec(dllimport) const answers_t *ask_answers(void);
__declspec(dllimport) int mi_version(void);

void mainCRTStartup(void) {
    const answers_t *a = ask_answers();
    CHECK(mi_version() > 0 && a->asked == 1 && a->told == 2 && a->given == 0);
    say("told %ld times, given %ld blocks\n", a->told, a->given);
    finish();
}

#endif
