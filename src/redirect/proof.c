#include "redirect/proof.h"
#include "redirect/allocator.h"
#include "redirect/faults.h"

enum {
    SMALL = MI_PROOF_SMALL,
    LARGE = MI_PROOF_LARGE,
    OLD_END = 128, // what lies behind it was never in a smaller block
    ALIGN = 64
};

// Aligned and with a word in front that names it, so that the aligned functions find it as well.
static struct {
    void *below[2];
    uint8_t byte[16];
} probe;
static const mi_crt_t *probe_seen_by; // the CRT whose context got the probe

static _Atomic(DWORD) prover; // the thread that is proving; 0 = none

bool mi_proof_is_running(const mi_crt_t *crt) {
    if (MI_LIKELY(mi_load_relaxed(&prover) == 0) ||
        mi_load_relaxed(&prover) != GetCurrentThreadId())
        return false;
    probe_seen_by = crt;
    return true;
}

bool mi_proof_is_probe(const mi_crt_t *crt, const void *p) {
    if (MI_LIKELY(p != (const void *)probe.byte))
        return false;
    probe_seen_by = crt;
    return true;
}

static bool prove_made(mi_crt_t *crt, void *p, size_t bytes, size_t align) {
    if (p == NULL || !mi_alloc.is_ours(p) || ((uintptr_t)p & (align - 1)) != 0)
        return false;
    memset(p, 0xA5, bytes);
    mi_alloc.crt_free(p, &crt->ctx);
    return true;
}

static bool is_filled(const uint8_t *p, size_t from, size_t to, uint8_t value) {
    for (size_t i = from; i < to; i++)
        if (p[i] != value)
            return false;
    return true;
}

// After a resizing from SMALL filled bytes to LARGE: ours, contents kept, and when asked the rest
// zero.
static bool prove_resized(mi_crt_t *crt, void *p, bool is_zeroed) {
    const bool is_good = (p != NULL && mi_alloc.is_ours(p) && is_filled(p, 0, SMALL, 0x5A) &&
                          (!is_zeroed || is_filled(p, OLD_END, LARGE, 0)));
    if (is_good)
        memset(p, 0xA5, LARGE); // whoever gets this memory next must clear it
    if (p != NULL && mi_alloc.is_ours(p))
        mi_alloc.crt_free(p, &crt->ctx);
    return is_good;
}

// The _dbg forms take a type, a file and a line behind the arguments of the others, which do not
// look at them: one call proves both.
static bool prove_makes(mi_crt_t *crt, mi_crt_fn_t fn, uintptr_t at) {
    switch (fn) {
    case MI_CRT_MALLOC:
        return prove_made(crt, ((void *(*)(size_t, int, char *, int))at)(SMALL, 1, NULL, 0), SMALL,
                          8);
    case MI_CRT_CALLOC: {
        uint8_t *p =
            ((uint8_t * (*)(size_t, size_t, int, char *, int)) at)(3, SMALL / 3, 1, NULL, 0);
        return p != NULL && mi_alloc.is_ours(p) && is_filled(p, 0, SMALL, 0) &&
               prove_made(crt, p, SMALL, 8);
    }
    case MI_CRT_ALIGNED_MALLOC:
        return prove_made(crt, ((void *(*)(size_t, size_t, char *, int))at)(SMALL, ALIGN, NULL, 0),
                          SMALL, ALIGN);
    default: { // MI_CRT_ALIGNED_OFFSET_MALLOC
        uint8_t *p =
            ((uint8_t * (*)(size_t, size_t, size_t, char *, int)) at)(SMALL, ALIGN, 8, NULL, 0);
        return p != NULL && (((uintptr_t)p + 8) & (ALIGN - 1)) == 0 && prove_made(crt, p, SMALL, 8);
    }
    }
}

static bool prove_takes(mi_crt_t *crt, mi_crt_fn_t fn, uintptr_t at) {
    uint8_t *p = (uint8_t *)(fn >= MI_CRT_ALIGNED_MALLOC && fn <= MI_CRT_ALIGNED_OFFSET_RECALLOC
                                 ? mi_alloc.alloc_aligned(SMALL, ALIGN, 0)
                                 : mi_alloc.alloc(SMALL));
    if (p == NULL)
        return false;
    memset(p, 0x5A, SMALL);
    switch (fn) {
    case MI_CRT_REALLOC:
        return prove_resized(
            crt, ((void *(*)(void *, size_t, int, char *, int))at)(p, LARGE, 1, NULL, 0), false);
    case MI_CRT_RECALLOC:
        return prove_resized(
            crt,
            ((void *(*)(void *, size_t, size_t, int, char *, int))at)(p, 4, LARGE / 4, 1, NULL, 0),
            true);
    case MI_CRT_ALIGNED_REALLOC:
        return prove_resized(
            crt, ((void *(*)(void *, size_t, size_t, char *, int))at)(p, LARGE, ALIGN, NULL, 0),
            false);
    case MI_CRT_ALIGNED_OFFSET_REALLOC:
        return prove_resized(crt,
                             ((void *(*)(void *, size_t, size_t, size_t, char *, int))at)(
                                 p, LARGE, ALIGN, 0, NULL, 0),
                             false);
    case MI_CRT_ALIGNED_RECALLOC:
        return prove_resized(crt,
                             ((void *(*)(void *, size_t, size_t, size_t, char *, int))at)(
                                 p, 4, LARGE / 4, ALIGN, NULL, 0),
                             true);
    case MI_CRT_ALIGNED_OFFSET_RECALLOC:
        return prove_resized(
            crt, ((void *(*)(void *, size_t, size_t, size_t, size_t))at)(p, 4, LARGE / 4, ALIGN, 0),
            true);
    default:
        break;
    }
    bool is_good = true;
    if (fn == MI_CRT_MSIZE) {
        const size_t size = ((size_t(*)(void *))at)(p);
        is_good = (size >= SMALL && size <= mi_alloc.usable_size(p));
    } else if (fn == MI_CRT_ALIGNED_MSIZE) {
        const size_t size = ((size_t(*)(void *, size_t, size_t))at)(p, ALIGN, 0);
        is_good = (size >= SMALL && size <= mi_alloc.usable_size(p));
    } else if (fn == MI_CRT_EXPAND) {
        is_good = (((void *(*)(void *, size_t, int, char *, int))at)(p, 20, 1, NULL, 0) == p);
    } else { // the functions that free
        probe_seen_by = NULL;
        ((void (*)(void *))at)(probe.byte);
        is_good = (probe_seen_by == crt);
    }
    mi_alloc.crt_free(p, &crt->ctx);
    return is_good;
}

// The questions about all blocks are not answered while a proof runs: they arrive.
static bool prove_arrives(mi_crt_t *crt, mi_crt_fn_t fn, uintptr_t at) {
    mi_crt_mem_state_t state;
    probe_seen_by = NULL;
    if (fn == MI_CRT_CHECK_MEMORY || fn == MI_CRT_DUMP_LEAKS)
        (void)((int (*)(void))at)();
    else if (fn == MI_CRT_FOR_ALL_CLIENTS)
        ((void (*)(void *, void *))at)(NULL, NULL);
    else
        ((void (*)(mi_crt_mem_state_t *))at)(memset(&state, 0, sizeof(state)));
    return probe_seen_by == crt;
}

static bool prove_inspects(mi_crt_t *crt, mi_crt_fn_t fn, uintptr_t at) {
    if (fn >= MI_CRT_CHECK_MEMORY)
        return prove_arrives(crt, fn, at);
    void *p = mi_alloc.alloc(SMALL);
    bool is_good = (p != NULL);
    if (p == NULL)
        return false;
    if (fn == MI_CRT_SET_BLOCK_TYPE)
        ((void (*)(void *, int))at)(p, 1);
    else if (fn == MI_CRT_IS_MEMORY_BLOCK)
        is_good = (((int (*)(void *, unsigned, long *, char **, int *))at)(p, SMALL, NULL, NULL,
                                                                           NULL) == 1);
    else
        is_good = (((int (*)(void *))at)(p) == 1);
    mi_alloc.crt_free(p, &crt->ctx);
    return is_good;
}

static bool prove_site(mi_crt_t *crt, mi_crt_fn_t fn, uintptr_t at) {
    if (mi_fault("proof"))
        return false;
    if (mi_crt_stage_of(fn) == MI_CRT_STAGE_MAKES && mi_fault("proof-makes"))
        return false;
    if (mi_crt_functions[fn].kind == MI_CRT_MAKES)
        return prove_makes(crt, fn, at);
    if (mi_crt_functions[fn].kind == MI_CRT_TAKES)
        return prove_takes(crt, fn, at);
    return prove_inspects(crt, fn, at);
}

bool mi_proof_call(mi_crt_t *crt, const mi_plan_site_t *site, uintptr_t at) {
    probe.below[0] = probe.byte;
    probe.below[1] = probe.byte;
    mi_store_relaxed(&prover, GetCurrentThreadId());
    const bool is_proven = prove_site(crt, mi_crt_functions[site->fn].same_as, at);
    mi_store_relaxed(&prover, 0);
    if (is_proven)
        crt->proof_count++;
    else
        crt->failed_name = site->name;
    return is_proven;
}
