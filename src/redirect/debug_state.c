#include "redirect/debug_state.h"
#include "redirect/allocator.h"
#include "redirect/debug_heap.h"
#include "redirect/proof.h"

enum { DATA_BYTES = 16, FILE_BYTES = 260, DAMAGED_MAX = 16 };

// The originals may be called: the CRT is initialised, and nobody is only proving that we are here.
static bool may_ask(mi_crt_t *crt) {
    return !mi_proof_is_running(crt) && mi_crt_is_attached(crt);
}

// ---- one block ----

static bool is_ours(const void *p) {
    return p != NULL && mi_alloc.is_ours(p);
}

static bool find(const mi_crt_t *crt, const void *p, mi_debug_block_t *out) {
    return crt->is_tracked && mi_alloc.debug_opt->find(p, out);
}

static int is_valid_heap_pointer(const void *p, mi_crt_ctx_t *ctx) {
    const mi_crt_t *crt = mi_crt_of(ctx);
    mi_debug_block_t block;
    if (is_ours(p)) // in the debug allocator the address must be that of a block
        return find(crt, p, &block) ? block.use != MI_DEBUG_FREE_BLOCK
                                    : !crt->is_tracked || mi_alloc.usable_size(p) > 0;
    return crt->own.is_valid_heap_pointer != NULL ? crt->own.is_valid_heap_pointer(p) : 0;
}

static int is_memory_block(const void *p, unsigned size, long *request, char **file, int *line,
                           mi_crt_ctx_t *ctx) {
    const mi_crt_t *crt = mi_crt_of(ctx);
    mi_debug_block_t block = {.file = NULL};
    if (!is_ours(p))
        return crt->own.is_memory_block != NULL
                   ? crt->own.is_memory_block(p, size, request, file, line)
                   : 0;
    const bool is_known = find(crt, p, &block);
    if (is_known ? block.size != size || block.use == MI_DEBUG_FREE_BLOCK
                 : mi_alloc.usable_size(p) < size)
        return 0;
    if (request != NULL)
        *request = block.request;
    if (file != NULL)
        *file = (char *)(uintptr_t)block.file;
    if (line != NULL)
        *line = block.line;
    return 1;
}

static int report_block_type(const void *p, mi_crt_ctx_t *ctx) {
    const mi_crt_t *crt = mi_crt_of(ctx);
    mi_debug_block_t block;
    if (is_ours(p))
        return find(crt, p, &block) ? block.use : MI_DEBUG_NORMAL_BLOCK;
    return crt->own.report_block_type != NULL ? crt->own.report_block_type(p) : -1;
}

static void set_block_type(void *p, int type, mi_crt_ctx_t *ctx) {
    const mi_crt_t *crt = mi_crt_of(ctx);
    if (!is_ours(p) && crt->own.set_block_type != NULL)
        crt->own.set_block_type(p, type);
    else if (is_ours(p) && crt->is_tracked)
        (void)mi_alloc.debug_opt->set_use(p, type);
}

// ---- all blocks ----

// A copy of what the books say, the newest first: programs allocate and free while it is read.
typedef struct snapshot_s {
    mi_debug_block_t *blocks; // NULL = none, or no memory
    size_t count;
} snapshot_t;

static void snapshot_close(snapshot_t *s) {
    if (s->blocks != NULL)
        (void)VirtualFree(s->blocks, 0, MEM_RELEASE);
    s->blocks = NULL;
    s->count = 0;
}

static snapshot_t snapshot_open(const mi_crt_t *crt) {
    snapshot_t s = {NULL, 0};
    size_t cap = mi_alloc.debug_opt->list(&crt->debug_owner, NULL, 0);
    while (cap > 0) {
        cap += 64; // some may come meanwhile
        s.blocks = (mi_debug_block_t *)VirtualAlloc(NULL, cap * sizeof(mi_debug_block_t),
                                                    MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
        if (s.blocks == NULL)
            return s;
        s.count = mi_alloc.debug_opt->list(&crt->debug_owner, s.blocks, cap);
        if (s.count <= cap)
            return s;
        cap = s.count;
        snapshot_close(&s);
    }
    return s;
}

// Is it still the same block, not one that came to its place?
static bool is_still_there(const mi_debug_block_t *block) {
    mi_debug_block_t now;
    return mi_alloc.debug_opt->find(block->p, &now) && now.request == block->request &&
           now.owner == block->owner;
}

// Reads memory that may be gone: a block that another thread frees, a name in a module that was
// unloaded.
static size_t read_safely(void *to, const void *from, size_t bytes) {
    SIZE_T got = 0;
    const size_t in_page = 4096 - ((uintptr_t)from & 4095);
    const size_t first = (bytes < in_page ? bytes : in_page);
    if (!ReadProcessMemory(GetCurrentProcess(), from, to, first, &got) || got < first)
        return 0;
    if (first < bytes &&
        ReadProcessMemory(GetCurrentProcess(), (const uint8_t *)from + first, (uint8_t *)to + first,
                          bytes - first, &got) &&
        got == bytes - first)
        return bytes;
    return first;
}

static void put_place(mi_text_t *t, const mi_debug_block_t *block) {
    char file[FILE_BYTES];
    if (block->file == NULL)
        return;
    const size_t got = read_safely(file, block->file, sizeof(file) - 1);
    file[got] = 0;
    mi_text_fmt(t, "%s(%d) : ", got > 0 ? file : "#File Error#", (int)block->line);
}

static void put_address(mi_text_t *t, const void *p) {
    for (int shift = (int)sizeof(void *) * 8 - 4; shift >= 0; shift -= 4)
        mi_text_char(t, "0123456789ABCDEF"[((uintptr_t)p >> shift) & 15]);
}

static void put_data(mi_text_t *t, const mi_debug_block_t *block) {
    uint8_t data[DATA_BYTES];
    const size_t got =
        read_safely(data, block->p, block->size < DATA_BYTES ? block->size : DATA_BYTES);
    mi_text_str(t, " Data: <");
    for (size_t i = 0; i < got; i++)
        mi_text_char(t, data[i] >= 32 && data[i] < 127 ? (char)data[i] : ' ');
    mi_text_str(t, "> ");
    for (size_t i = 0; i < got; i++) {
        mi_text_char(t, "0123456789ABCDEF"[data[i] >> 4]);
        mi_text_char(t, "0123456789ABCDEF"[data[i] & 15]);
        mi_text_char(t, ' ');
    }
    mi_text_char(t, '\n');
}

// As the CRT's documentation shows it:
//   file.cpp(20) : {18} normal block at 0x00780E80, 64 bytes long.
//    Data: <                > CD CD CD CD ...
static void dump_block(mi_crt_t *crt, const mi_debug_block_t *block) {
    static const char *const names[MI_DEBUG_USES] = {"free", "normal", "crt", "ignore", "client"};
    const int use = MI_DEBUG_USE(block->use), subtype = (int)((uint32_t)block->use >> 16);
    const mi_crt_dump_client_t client =
        (use == MI_DEBUG_CLIENT_BLOCK && crt->own.dump_client != NULL && mi_crt_is_attached(crt)
             ? crt->own.dump_client()
             : NULL);
    char text[512];
    mi_text_t t;
    mi_text_init(&t, text, sizeof(text));
    put_place(&t, block);
    mi_text_fmt(&t, "{%ld} %s block at 0x", (long)block->request, names[use]);
    put_address(&t, block->p);
    if (use != MI_DEBUG_NORMAL_BLOCK)
        mi_text_fmt(&t, ", subtype %x", (unsigned)subtype);
    mi_text_fmt(&t, ", %zu bytes long.\n", block->size);
    mi_debug_heap_say(crt, text);
    if (client != NULL) {
        client((void *)(uintptr_t)block->p, block->size);
        return;
    }
    mi_text_init(&t, text, sizeof(text));
    put_data(&t, block);
    mi_debug_heap_say(crt, text);
}

static bool is_dumped(const mi_debug_block_t *block, int flags) {
    const int use = MI_DEBUG_USE(block->use);
    return use == MI_DEBUG_NORMAL_BLOCK || use == MI_DEBUG_CLIENT_BLOCK ||
           (use == MI_DEBUG_CRT_BLOCK && (flags & MI_DEBUG_FLAG_CHECK_CRT) != 0);
}

static bool has_leaks(const size_t *counts, int flags) {
    return counts[MI_DEBUG_NORMAL_BLOCK] != 0 || counts[MI_DEBUG_CLIENT_BLOCK] != 0 ||
           (counts[MI_DEBUG_CRT_BLOCK] != 0 && (flags & MI_DEBUG_FLAG_CHECK_CRT) != 0);
}

// The CRT's own state, of blocks of before; zero when it cannot be asked.
static mi_crt_mem_state_t state_before(mi_crt_t *crt) {
    mi_crt_mem_state_t state = {.newest = NULL};
    if (crt->own.checkpoint != NULL && may_ask(crt))
        crt->own.checkpoint(&state);
    return state;
}

// What stands in the place of the newest block's header in our states: the number of the last
// request, marked by a bit that no address of a header has. Copies of a state go on to work.
static void *state_mark(int32_t request) {
    return (void *)(((uintptr_t)(uint32_t)request << 1) | 1);
}

static bool state_request(const mi_crt_mem_state_t *state, int32_t *request) {
    *request = (int32_t)(((uintptr_t)state->newest >> 1) & 0x7FFFFFFF);
    return ((uintptr_t)state->newest & 1) != 0;
}

static void checkpoint(mi_crt_mem_state_t *state, mi_crt_ctx_t *ctx) {
    mi_crt_t *crt = mi_crt_of(ctx);
    mi_debug_totals_t totals;
    if (!crt->is_tracked || state == NULL) {
        if (may_ask(crt) && crt->own.checkpoint != NULL)
            crt->own.checkpoint(state);
        return;
    }
    *state = state_before(crt);
    if (mi_proof_is_running(crt))
        return;
    // The number first: a block that comes between is then after the state, never lost from a dump.
    state->newest = state_mark(mi_load_relaxed(&crt->debug_requests));
    mi_alloc.debug_opt->totals(&crt->debug_owner, &totals);
    for (int i = 0; i < MI_DEBUG_USES; i++) {
        state->counts[i] += totals.counts[i];
        state->sizes[i] += totals.sizes[i];
    }
    state->high += totals.high;
    state->total += totals.total;
}

// Blocks of before first, as the original dumps them, then ours.
static void dump_since(const mi_crt_mem_state_t *state, mi_crt_ctx_t *ctx) {
    mi_crt_t *crt = mi_crt_of(ctx);
    int32_t since = 0;
    const bool is_marked = (crt->is_tracked && state != NULL && state_request(state, &since));
    if (mi_proof_is_running(crt))
        return;
    const int flags = mi_debug_heap_flags(crt);
    if (!is_marked && crt->own.dump_since != NULL && may_ask(crt)) {
        const mi_crt_mem_state_t before = state_before(crt);
        if (!crt->is_tracked || has_leaks(before.counts, flags))
            crt->own.dump_since(state);
    }
    if (!crt->is_tracked)
        return;
    mi_debug_heap_say(crt, "Dumping objects ->\n");
    snapshot_t s = snapshot_open(crt);
    for (size_t i = 0; i < s.count; i++)
        if ((!is_marked || s.blocks[i].request > since) && is_dumped(&s.blocks[i], flags) &&
            is_still_there(&s.blocks[i]))
            dump_block(crt, &s.blocks[i]);
    snapshot_close(&s);
    mi_debug_heap_say(crt, "Object dump complete.\n");
}

// The argument is the one that nobody passes, here and below.
static int dump_leaks(uintptr_t none, mi_crt_ctx_t *ctx) {
    mi_crt_t *crt = mi_crt_of(ctx);
    mi_crt_mem_state_t state;
    (void)none;
    if (mi_proof_is_running(crt))
        return 0;
    if (!crt->is_tracked)
        return crt->own.dump_leaks != NULL && may_ask(crt) ? crt->own.dump_leaks() : 0;
    checkpoint(&state, ctx);
    if (!has_leaks(state.counts, mi_debug_heap_flags(crt)))
        return 0;
    mi_debug_heap_say(crt, "Detected memory leaks!\n");
    dump_since(NULL, ctx);
    return 1;
}

bool mi_debug_state_check(mi_crt_t *crt) {
    mi_debug_block_t damaged[DAMAGED_MAX];
    const size_t count = mi_alloc.debug_opt->damaged(&crt->debug_owner, damaged, DAMAGED_MAX);
    for (size_t i = 0; i < count && i < DAMAGED_MAX; i++) {
        char text[512];
        mi_text_t t;
        mi_text_init(&t, text, sizeof(text));
        put_place(&t, &damaged[i]);
        mi_text_fmt(&t, "HEAP CORRUPTION DETECTED: at block (#%ld) at 0x",
                    (long)damaged[i].request);
        put_address(&t, damaged[i].p);
        mi_text_fmt(&t, ", %zu bytes long: the memory behind its end was overwritten.\n",
                    damaged[i].size);
        mi_debug_heap_say(crt, text);
    }
    return count == 0;
}

static int check_memory(uintptr_t none, mi_crt_ctx_t *ctx) {
    mi_crt_t *crt = mi_crt_of(ctx);
    (void)none;
    if (mi_proof_is_running(crt))
        return 1;
    const bool is_good =
        (crt->own.check_memory == NULL || !may_ask(crt) || crt->own.check_memory() != 0);
    if (!crt->is_tracked || (mi_debug_heap_flags(crt) & MI_DEBUG_FLAG_ALLOC_MEM) == 0)
        return is_good;
    return mi_debug_state_check(crt) && is_good;
}

static void for_all_clients(void (*each)(void *p, void *arg), void *arg, mi_crt_ctx_t *ctx) {
    mi_crt_t *crt = mi_crt_of(ctx);
    if (mi_proof_is_running(crt))
        return;
    if (crt->own.for_all_clients != NULL && may_ask(crt))
        crt->own.for_all_clients(each, arg);
    if (!crt->is_tracked || each == NULL ||
        (mi_debug_heap_flags(crt) & MI_DEBUG_FLAG_ALLOC_MEM) == 0)
        return;
    snapshot_t s = snapshot_open(crt);
    for (size_t i = 0; i < s.count; i++)
        if (MI_DEBUG_USE(s.blocks[i].use) == MI_DEBUG_CLIENT_BLOCK && is_still_there(&s.blocks[i]))
            each((void *)(uintptr_t)s.blocks[i].p, arg);
    snapshot_close(&s);
}

uintptr_t mi_debug_state_target(mi_crt_fn_t fn) {
    static const uintptr_t targets[MI_CRT_FN_COUNT] = {
        [MI_CRT_IS_VALID_HEAP_POINTER] = (uintptr_t)is_valid_heap_pointer,
        [MI_CRT_IS_MEMORY_BLOCK] = (uintptr_t)is_memory_block,
        [MI_CRT_REPORT_BLOCK_TYPE] = (uintptr_t)report_block_type,
        [MI_CRT_SET_BLOCK_TYPE] = (uintptr_t)set_block_type,
        [MI_CRT_CHECK_MEMORY] = (uintptr_t)check_memory,
        [MI_CRT_DUMP_LEAKS] = (uintptr_t)dump_leaks,
        [MI_CRT_CHECKPOINT] = (uintptr_t)checkpoint,
        [MI_CRT_DUMP_SINCE] = (uintptr_t)dump_since,
        [MI_CRT_FOR_ALL_CLIENTS] = (uintptr_t)for_all_clients,
    };
    return targets[fn];
}
