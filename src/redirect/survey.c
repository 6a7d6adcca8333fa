// A walk is a walk over a snapshot, taken while all other threads stood still: the program's state
// is one address, so the next step is the next higher address of the snapshot. Blocks that have
// gone since are passed over; whoever holds a block from before the snapshot to after it finds it
// once.
//
//   _heapwalk:  NULL --> CRT's own heap ... --> its end, snapshot --> our blocks upwards -->
//   _HEAPEND
#include "redirect/survey.h"
#include "base/block_list.h"
#include "redirect/allocator.h"
#include "redirect/proof.h"
#include "redirect/world.h"

// From <malloc.h>, as documented.
enum { HEAP_EMPTY = -1, HEAP_OK = -2, HEAP_BAD_NODE = -4, HEAP_END = -5, HEAP_USED = 1 };

enum {
    BUSY_TRIES = 2000,     // until no stopped thread stands in the way
    DAMAGE_SIGHTINGS = 16, // a thread stopped halfway looks like damage, but not each time
    FIRST_CAP = 4096
};

typedef struct survey_s {
    mi_redirect_block_t *blocks; // by address; NULL = none was taken
    size_t count;
    size_t cap;
} survey_t;

static SRWLOCK survey_lock = SRWLOCK_INIT;
static survey_t current; // under the lock; what all walks go over

static void survey_close(survey_t *s) {
    if (s->blocks != NULL)
        (void)VirtualFree(s->blocks, 0, MEM_RELEASE);
    *s = (survey_t){NULL, 0, 0};
}

static bool survey_reserve(survey_t *s, size_t cap) {
    size_t bytes;
    survey_close(s);
    if (!mi_mul_ok(cap, sizeof(mi_redirect_block_t), &bytes))
        return false;
    s->blocks =
        (mi_redirect_block_t *)VirtualAlloc(NULL, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    s->cap = (s->blocks == NULL ? 0 : cap);
    return s->blocks != NULL;
}

// One look at the stopped process. MI_REDIRECT_BUSY = it cannot be had.
static size_t survey_look(mi_world_t *w, survey_t *s, const void **damaged) {
    for (int i = 0; i < BUSY_TRIES; i++) {
        size_t count = MI_REDIRECT_BUSY;
        if (mi_world_stop(w))
            count = mi_alloc.list_opt(s->blocks, s->cap, damaged);
        mi_world_resume(w);
        if (count != MI_REDIRECT_BUSY)
            return count;
        SwitchToThread();
    }
    return MI_REDIRECT_BUSY;
}

// Fills s, unsorted. false = no memory, or the allocator cannot say. *damaged: what one look saw.
static bool survey_take(survey_t *s, const void **damaged) {
    mi_world_t w;
    bool is_taken = false;
    if (mi_alloc.list_opt == NULL || RtlDllShutdownInProgress() ||
        (s->blocks == NULL && !survey_reserve(s, FIRST_CAP)))
        return false;
    mi_world_open(&w);
    for (;;) {
        const size_t count = survey_look(&w, s, damaged);
        is_taken = (count <= s->cap);
        if (count != MI_REDIRECT_BUSY)
            s->count = count;
        if (is_taken || count == MI_REDIRECT_BUSY || !survey_reserve(s, count + count / 8))
            break;
    }
    mi_world_close(&w);
    return is_taken;
}

// The first block at an address above p.
static size_t survey_after(const survey_t *s, const void *p) {
    size_t low = 0, high = s->count;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if ((uintptr_t)s->blocks[mid].p <= (uintptr_t)p)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

// ---- the four functions ----

static bool may_ask(mi_crt_t *crt) {
    return mi_crt_is_attached(crt);
}

// Is every record of our heap whole?
static bool is_sound(void) {
    survey_t s = {NULL, 0, 0};
    const void *first = NULL;
    bool is_bad = true;
    for (int i = 0; i < DAMAGE_SIGHTINGS && is_bad; i++) {
        const void *damaged = NULL;
        is_bad = (survey_take(&s, &damaged) && damaged != NULL && (i == 0 || damaged == first));
        first = damaged;
        if (is_bad)
            SwitchToThread();
    }
    survey_close(&s);
    return !is_bad;
}

// The argument is the one that nobody passes; here and below.
static int heap_check(uintptr_t none, mi_crt_ctx_t *ctx) {
    mi_crt_t *crt = mi_crt_of(ctx);
    (void)none;
    if (mi_proof_is_running(crt))
        return HEAP_OK;
    const int theirs =
        (crt->own.heap_check != NULL && may_ask(crt) ? crt->own.heap_check() : HEAP_OK);
    if (theirs != HEAP_OK && theirs != HEAP_EMPTY)
        return theirs;
    return is_sound() ? theirs : HEAP_BAD_NODE;
}

static int heap_set(unsigned fill, mi_crt_ctx_t *ctx) {
    mi_crt_t *crt = mi_crt_of(ctx);
    if (mi_proof_is_running(crt))
        return HEAP_OK;
    const int theirs =
        (crt->own.heap_set != NULL && may_ask(crt) ? crt->own.heap_set(fill) : HEAP_OK);
    if (theirs != HEAP_OK && theirs != HEAP_EMPTY)
        return theirs;
    return is_sound() ? theirs : HEAP_BAD_NODE;
}

static int heap_min(uintptr_t none, mi_crt_ctx_t *ctx) {
    mi_crt_t *crt = mi_crt_of(ctx);
    (void)none;
    if (mi_proof_is_running(crt))
        return 0;
    if (mi_alloc.collect_opt != NULL)
        mi_alloc.collect_opt();
    return crt->own.heap_min != NULL && may_ask(crt) ? crt->own.heap_min() : 0;
}

// Is the last step of this walk one of ours? A block that has gone meanwhile is known by the
// snapshot.
static bool is_our_step(const mi_crt_heap_info_t *info) {
    const void *p = info->entry;
    if (p == NULL || info->use != HEAP_USED)
        return false;
    const size_t after = survey_after(&current, p);
    return (after > 0 && current.blocks[after - 1].p == p) || mi_alloc.is_ours(p);
}

// The next of our blocks. Under the lock.
static int our_step(mi_crt_heap_info_t *info, const void *after) {
    const void *damaged;
    if (after == NULL || current.blocks == NULL) {
        if (!survey_take(&current, &damaged))
            survey_close(&current);
        current.count = mi_block_list_settle(current.blocks, current.count);
    }
    for (size_t i = survey_after(&current, after); i < current.count; i++) {
        const mi_redirect_block_t *b = &current.blocks[i];
        if (!mi_alloc.is_ours(b->p))
            continue;
        info->entry = (int *)(uintptr_t)b->p;
        info->size = b->size;
        info->use = HEAP_USED;
        return HEAP_OK;
    }
    survey_close(&current);
    return HEAP_END;
}

static int heap_walk(mi_crt_heap_info_t *info, mi_crt_ctx_t *ctx) {
    mi_crt_t *crt = mi_crt_of(ctx);
    if (mi_proof_is_running(crt))
        return HEAP_END;
    const bool is_askable = (crt->own.heap_walk != NULL && may_ask(crt));
    if (info == NULL || RtlDllShutdownInProgress())
        return is_askable ? crt->own.heap_walk(info) : HEAP_END;
    AcquireSRWLockExclusive(&survey_lock);
    int status = HEAP_END;
    const bool is_ours = is_our_step(info);
    const void *last = (is_ours ? info->entry : NULL);
    ReleaseSRWLockExclusive(&survey_lock);
    if (!is_ours && is_askable)
        status = crt->own.heap_walk(info);
    if (status != HEAP_END && status != HEAP_EMPTY)
        return status;
    AcquireSRWLockExclusive(&survey_lock);
    const int ours = our_step(info, last);
    ReleaseSRWLockExclusive(&survey_lock);
    return ours == HEAP_END ? status : ours;
}

uintptr_t mi_survey_target(mi_crt_fn_t fn) {
    switch (fn) {
    case MI_CRT_HEAP_CHECK:
        return (uintptr_t)heap_check;
    case MI_CRT_HEAP_SET:
        return (uintptr_t)heap_set;
    case MI_CRT_HEAP_MIN:
        return (uintptr_t)heap_min;
    case MI_CRT_HEAP_WALK:
        return (uintptr_t)heap_walk;
    default:
        return 0;
    }
}
