// A DLL that is loaded before the CRTs, so that it is told of the process' end after them: it goes
// on to use every CRT whose DllMain has already detached. It has blocks that the CRTs made before
// the redirection, blocks of ours from before the end, and makes new ones. Ends the process itself,
// with exit code 0 or 1; the program's own code (99) means that this was never reached.
#include "last.h"

static last_crt_t crts[LAST_CRTS_MAX];
static unsigned crt_count;
static bool (*is_ours)(const void *);
static const char *now;

static void make_blocks(last_crt_t *c, uint8_t **plain, uint8_t **aligned) {
    for (unsigned i = 0; i < LAST_PLAIN; i++) {
        plain[i] = (uint8_t *)(i % 2 == 0 ? c->malloc(LAST_SIZE(i)) : c->calloc(1, LAST_SIZE(i)));
        CHECK_AT(plain[i] != NULL, c->name);
        pattern_fill(plain[i], LAST_SIZE(i));
    }
    for (unsigned i = 0; i < LAST_ALIGNED && c->aligned_malloc != NULL; i++) {
        aligned[i] = (uint8_t *)c->aligned_malloc(LAST_SIZE(i), 64);
        CHECK_AT(aligned[i] != NULL, c->name);
        pattern_fill(aligned[i], LAST_SIZE(i));
    }
}

static void find(last_crt_t *c, const char *name) {
    const HMODULE m = LoadLibraryA(name);
    CHECK_AT(m != NULL, name);
    c->name = name;
    c->malloc = (void *(*)(size_t))proc(m, "malloc");
    c->calloc = (void *(*)(size_t, size_t))proc(m, "calloc");
    c->realloc = (void *(*)(void *, size_t))proc(m, "realloc");
    c->free = (void (*)(void *))proc(m, "free");
    c->msize = (size_t(*)(void *))proc(m, "_msize");
    c->recalloc = (void *(*)(void *, size_t, size_t))proc(m, "_recalloc");
    c->expand = (void *(*)(void *, size_t))proc(m, "_expand");
    c->aligned_malloc = (void *(*)(size_t, size_t))proc(m, "_aligned_malloc");
    c->aligned_realloc = (void *(*)(void *, size_t, size_t))proc(m, "_aligned_realloc");
    c->aligned_free = (void (*)(void *))proc(m, "_aligned_free");
    c->is_over = (int (*)(void))proc(m, "synth_is_over");
}

void last_before(void) {
    for (unsigned i = LAST_FIRST_CRT; *argument(i) != 0 && crt_count < LAST_CRTS_MAX; i++) {
        last_crt_t *c = &crts[crt_count++];
        find(c, argument(i));
        make_blocks(c, c->theirs, c->their_aligned);
    }
}

void last_after(bool (*ask)(const void *)) {
    is_ours = ask;
    for (unsigned i = 0; i < crt_count; i++) {
        last_crt_t *c = &crts[i];
        find(c, c->name); // with the tables, the addresses are new
        make_blocks(c, c->ours, c->our_aligned);
        CHECK_AT(!is_ours(c->theirs[0]) && is_ours(c->ours[0]), c->name);
        CHECK_AT(c->is_over == NULL || !c->is_over(), c->name);
    }
}

// ---- after the CRT's own detach ----

static void end_plain(last_crt_t *c, const last_crt_t *by, uint8_t **plain, bool is_there) {
    const size_t size = LAST_SIZE(1);
    if (!is_there) { // the CRT's heap went with it, and the blocks with the heap
        CHECK_AT(by->msize(plain[1]) == (size_t)-1 && by->realloc(plain[2], 50) == NULL, now);
        for (unsigned i = 0; i < LAST_PLAIN; i++)
            by->free(plain[i]);
        return;
    }
    for (unsigned i = 0; i < LAST_PLAIN; i++) {
        CHECK_AT(by->msize(plain[i]) == LAST_SIZE(i), now);
        CHECK_AT(pattern_is(plain[i], LAST_SIZE(i), LAST_SIZE(i)), now);
    }
    by->free(plain[0]);
    uint8_t *p = (uint8_t *)by->realloc(plain[1], 5 * size);
    CHECK_AT(p != NULL && is_ours(p) && pattern_is(p, size, size), now);
    by->free(p);
    CHECK_AT(by->realloc(plain[2], 0) == NULL, now);
    p = (uint8_t *)(c->recalloc != NULL ? c->recalloc(plain[3], 2, LAST_SIZE(3)) : plain[3]);
    CHECK_AT(p != NULL && pattern_is(p, LAST_SIZE(3), LAST_SIZE(3)), now);
    CHECK_AT(p != NULL && (c->recalloc == NULL || p[2 * LAST_SIZE(3) - 1] == 0), now);
    by->free(p);
    p = (uint8_t *)by->expand(plain[4], LAST_SIZE(4) / 2);
    CHECK_AT(p == NULL || p == plain[4], now);
    by->free(plain[4]);
}

static void end_aligned(last_crt_t *c, uint8_t **aligned, bool is_there) {
    if (c->aligned_malloc == NULL)
        return;
    c->aligned_free(aligned[0]);
    uint8_t *p = (uint8_t *)c->aligned_realloc(aligned[1], 4000, 64);
    CHECK_AT(is_there == (p != NULL && pattern_is(p, LAST_SIZE(1), LAST_SIZE(1))), now);
    c->aligned_free(p);
}

static void make_new(last_crt_t *c) {
    for (unsigned i = 0; i < 200; i++) {
        uint8_t *p = (uint8_t *)c->malloc((size_t)16 << (i % 16));
        CHECK_AT(p != NULL && is_ours(p), now);
        pattern_fill(p, 16);
        p = (uint8_t *)c->realloc(p, 100 + 300 * i);
        CHECK_AT(p != NULL && is_ours(p) && pattern_is(p, 16, 16), now);
        c->free(p);
        p = (uint8_t *)c->calloc(3, 1 + 50 * i);
        CHECK_AT(p != NULL && is_ours(p) && p[0] == 0 && p[3 * 50 * i] == 0, now);
        c->free(p);
    }
    // Out of memory: the way of all failures, whatever is left of errno.
    CHECK_AT(c->malloc(SIZE_MAX / 2) == NULL && c->calloc(SIZE_MAX / 4, 3) == NULL, now);
    c->free(NULL);
}

static void use_all(void) {
    for (unsigned i = 0; i < crt_count; i++) {
        last_crt_t *c = &crts[i];
        now = c->name;
        CHECK_AT(c->is_over == NULL || c->is_over(), now); // or we come too early
        make_new(c);
        end_plain(c, &crts[(i + 1) % crt_count], c->ours, true);
        end_plain(c, c, c->theirs, c->is_over == NULL);
        end_aligned(c, c->our_aligned, true);
        end_aligned(c, c->their_aligned, c->is_over == NULL);
    }
}

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
    (void)self;
    if (reason == DLL_PROCESS_DETACH && reserved != NULL && crt_count > 0) {
        use_all();
        say("%u CRTs used after their end\n", crt_count);
        TerminateProcess(GetCurrentProcess(), wtest_code(true));
    }
    return TRUE;
}
