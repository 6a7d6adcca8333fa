// Blocks that a DLL of the static closure made in its DllMain (orders_maker.c), ended by the
// program in every way, for each order of the imports. Built once per order; ORDERS_NAME says
// which.
//
//   orders ours|theirs crt.dll ...     whose the blocks are in this order
#include "orders.h"

static bool (*is_ours)(const void *);
static const char *now;

__declspec(dllimport) order_blocks_t *orders_blocks(void);
__declspec(dllimport) bool standin_is_ours(const void *p);
__declspec(dllimport) bool mi_allocator_init(const char **message);
__declspec(dllimport) size_t mi_redirect_status(char *buf, size_t cap, int format);
__declspec(dllimport) int *_errno(void);
void *volatile imported;

static bool has_pattern(const order_block_t *b, const uint8_t *p, size_t part) {
    if (b->size == 0)
        return part < b->measured || order_sum(p, b->measured) == b->sum;
    for (size_t i = 0; i < part && i < b->size; i++)
        if (p[i] != order_byte(i, b->size))
            return false;
    return true;
}

static bool is_zero(const uint8_t *p, size_t from, size_t to) {
    for (size_t i = from; i < to; i++)
        if (p[i] != 0)
            return false;
    return true;
}

static size_t contents(const order_block_t *b) {
    return b->size != 0 ? b->size : b->measured;
}

// The k-th of the functions that this CRT has.
static uintptr_t one_of(HMODULE crt, const char *const *names, unsigned count, unsigned k) {
    uintptr_t found = 0;
    for (unsigned i = 0; i < count && found == 0; i++)
        found = proc(crt, names[(k + i) % count]);
    return found;
}

static void drop(HMODULE by, void *p, unsigned k) {
    static const char *const names[] = {"free",           "_free_base",      "_o_free",
                                        "?\?3@YAXPEAX@Z", "?\?_V@YAXPEAX@Z", "?\?3@YAXPAX@Z",
                                        "?\?_V@YAXPAX@Z"};
    ((void (*)(void *))one_of(by, names, sizeof(names) / sizeof(names[0]), k))(p);
}

static void resize_plain(const order_block_t *b, HMODULE by, size_t size, unsigned k) {
    static const char *const names[] = {"realloc", "_realloc_base", "_o_realloc", "_realloc_crt"};
    const size_t all = contents(b);
    uint8_t *q = ((uint8_t * (*)(void *, size_t)) one_of(by, names, 4, k))(b->p, size);
    CHECK_AT(q != NULL && is_ours(q), now);
    CHECK_AT(q != NULL && has_pattern(b, q, all < size ? all : size), now);
    drop(by, q, k);
}

static void end_plain(const order_block_t *b, HMODULE by, unsigned k) {
    const size_t all = contents(b);
    uint8_t *q;
    CHECK_AT(((size_t(*)(void *))proc(by, "_msize"))(b->p) == b->measured, now);
    switch (k % 7) {
    case 0:
        resize_plain(b, by, all * 3 + 50, k / 7);
        return;
    case 1:
        resize_plain(b, by, all / 2 + 1, k / 7);
        return;
    case 2:
        CHECK_AT(((void *(*)(void *, size_t))proc(by, "realloc"))(b->p, 0) == NULL, now);
        return;
    case 3:
        q = ((uint8_t * (*)(void *, size_t)) proc(by, "_expand"))(b->p, all / 2 + 1);
        CHECK_AT((q == NULL || q == b->p) && has_pattern(b, b->p, all / 2 + 1), now);
        break;
    case 4:
        if (proc(by, "_recalloc") == 0)
            break;
        q = ((uint8_t * (*)(void *, size_t, size_t)) proc(by, "_recalloc"))(b->p, 3, all + 100);
        CHECK_AT(q != NULL && is_ours(q) && has_pattern(b, q, all), now);
        CHECK_AT(q != NULL && is_zero(q, b->measured, 3 * (all + 100)), now);
        drop(by, q, k);
        return;
    default:
        break;
    }
    drop(by, b->p, k / 7);
}

static void end_aligned(const order_block_t *b, HMODULE by, unsigned k) {
    const bool has_offset = (b->kind == ORDER_OFFSET);
    const void *const offset = (void *)(uintptr_t)(has_offset ? ORDERS_OFFSET : 0);
    const void *const align = (void *)ORDERS_ALIGN;
    const uintptr_t measure = proc(by, "_aligned_msize"),
                    recalloc = proc(by, "_aligned_offset_recalloc");
    if (measure != 0 && b->measured != SIZE_MAX)
        CHECK_AT((size_t)((order_fn_t)measure)(b->p, align, offset) == b->measured, now);
    uint8_t *q = b->p;
    const size_t size = (k % 4 == 0 ? b->size * 3 + 100 : b->size / 2 + 1 + ORDERS_OFFSET);
    const void *const n = (void *)(uintptr_t)size;
    if (k % 4 == 3 && recalloc != 0) {
        q = (uint8_t *)((order_fn_t)recalloc)(b->p, (void *)3, (void *)(uintptr_t)(b->size + 9),
                                              align, offset);
        CHECK_AT(q != NULL && is_ours(q) && has_pattern(b, q, b->size), now);
        if (b->measured != SIZE_MAX)
            CHECK_AT(q != NULL && is_zero(q, b->measured, 3 * (b->size + 9)), now);
    } else if (k % 4 != 2) {
        q = (uint8_t *)(has_offset ? ((order_fn_t)proc(by, "_aligned_offset_realloc"))(
                                         b->p, n, align, offset)
                                   : ((order_fn_t)proc(by, "_aligned_realloc"))(b->p, n, align));
        CHECK_AT(q != NULL && is_ours(q) && has_pattern(b, q, size < b->size ? size : b->size),
                 now);
    }
    CHECK_AT((((uintptr_t)q + (uintptr_t)offset) & (ORDERS_ALIGN - 1)) == 0, now);
    ((void (*)(void *))proc(by, "_aligned_free"))(q);
}

static unsigned long unknown_pointers(void) {
    static char text[16384];
    unsigned long sum = 0;
    (void)mi_redirect_status(text, sizeof(text), 0);
    for (const char *p = text; *p != 0; p++)
        if (mi_str_starts(p, "unknown pointers: "))
            sum += (p[18] != '0');
    return sum;
}

void mainCRTStartup(void) {
    HMODULE crts[16];
    unsigned crt_count = 0, wrong_owner = 0;
    const bool are_ours = mi_str_eq(argument(1), "ours");
    imported = (void *)(uintptr_t)_errno;
    imported = (void *)(uintptr_t)mi_allocator_init;
    is_ours = standin_is_ours;
    const order_blocks_t *all = orders_blocks();
    CHECK(all->count > 100 && all->failed == 0);
    for (unsigned i = ORDERS_FIRST_CRT; *argument(i) != 0 && crt_count < 16; i++)
        crts[crt_count++] = GetModuleHandleA(argument(i));
    for (unsigned i = 0; i < all->count; i++) {
        const order_block_t *b = &all->blocks[i];
        now = b->maker;
        wrong_owner += (is_ours(b->p) != are_ours);
        CHECK_AT(has_pattern(b, b->p, contents(b)), now);
        // Every third one is ended by another CRT.
        const unsigned k = i * 31 + i / 97;
        if (b->kind == ORDER_PLAIN)
            end_plain(b, i % 3 == 2 ? crts[i / 3 % crt_count] : b->crt, k);
        else
            end_aligned(b, b->crt, k);
    }
    say("%u blocks, %u of them not %s\n", all->count, wrong_owner, argument(1));
    CHECK(wrong_owner == 0);
    CHECK(unknown_pointers() == 0);
    finish();
}
