// The classic attacks on a heap, each in a process of its own: how it ends, and what the allocator
// says, word for word, in each variant. A row of the table below is an attack and its three
// expected outcomes; docs/design.md tells people the same. The program runs itself for each attack:
//   test_attacks                    every row
//   test_attacks ATTACK file        the attack; the messages go to the file, the outcome is the
//   exit
//                                   code
#include "api_test.h"

#include <fcntl.h>
#include <stdlib.h>
#ifdef _WIN32
#    include <io.h>
#    include <process.h>
#    include <windows.h>
#else
#    include <pthread.h>
#    include <signal.h>
#    include <sys/wait.h>
#    include <unistd.h>
#endif

// How an attack ends.
typedef enum outcome_e {
    GOES_ON = 0,   // it had no effect: the program goes on
    SUCCEEDS = 1,  // it had its effect
    ENDED = 42,    // by the allocator
    GUARD = 43,    // by an inaccessible page
    NOT_RUN = 100, // its effect is anything at all
} outcome_t;

#if MI_DEBUG
#    define EXPECTED(secure, debug, release) debug
#elif MI_SECURE
#    define EXPECTED(secure, debug, release) secure
#else
#    define EXPECTED(secure, debug, release) release
#endif

#define CORRUPT                                                                                    \
    "mimalloc: error: a free block was overwritten: its page's free list is corrupt, page: 0x"
#define IS_FREE(operation) "mimalloc: error: " operation " of a block that is already free: 0x"
#define INSIDE             "mimalloc: error: free of a pointer that is not the start of a block: 0x"
#define FOREIGN            "mimalloc: error: free of a pointer that this allocator did not allocate: 0x"
#define WRONG_SIZE         "mimalloc: error: free of a block with a size that it does not have: 0x"
#define WRONG_ALIGNMENT                                                                            \
    "mimalloc: error: free of a block with an alignment that it does not have: 0x"
#define END_OVERWRITTEN "mimalloc: error: free of a block whose end was overwritten: 0x"

// A page that the system has again reads as zero, or is not there at all.
#ifdef _WIN32
#    define PURGED GUARD
#else
#    define PURGED GOES_ON
#endif

enum { COUNT = 64, BYTES = 48, MANY = 3000 };
static void *blocks[COUNT];
// What the attacker wants malloc to return: looks like a free block as far as he can know.
static uintptr_t target[64];

static void make_blocks(void) {
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = mi_malloc(BYTES);
        memset(blocks[i], 0x5A, BYTES);
    }
}

// Does malloc ever return something in [from, from + bytes)?
static outcome_t malloc_gives(const void *from, size_t bytes) {
    for (int i = 0; i < MANY; i++)
        if ((uintptr_t)mi_malloc(BYTES) - (uintptr_t)from < bytes)
            return SUCCEEDS;
    return GOES_ON;
}

// Is any block handed out twice?
static outcome_t malloc_repeats(void) {
    static void *seen[MANY];
    for (int i = 0; i < MANY; i++) {
        seen[i] = mi_malloc(BYTES);
        for (int k = 0; k < i; k++)
            if (seen[k] == seen[i])
                return SUCCEEDS;
    }
    return GOES_ON;
}

// A freed block's link leads to the target.
static outcome_t attack_poison(void) {
    make_blocks();
    uintptr_t *const victim = blocks[30];
    mi_free(blocks[31]);
    mi_free(victim);
    victim[0] = (uintptr_t)target;
    return malloc_gives(target, sizeof(target));
}

// As unlink was attacked: two words are written, so that a list with links both ways would write
// one of them where the other one says.
static outcome_t attack_unlink(void) {
    make_blocks();
    uintptr_t *const victim = blocks[20];
    mi_free(blocks[21]);
    mi_free(victim);
    victim[0] = (uintptr_t)&target[8] - 3 * sizeof(void *);
    victim[1] = (uintptr_t)&target[16];
    const outcome_t outcome = malloc_gives(target, sizeof(target));
    return target[8] != 0 || target[16] != 0 ? SUCCEEDS : outcome;
}

// The link of another free block, as it is in memory, is valid there and nowhere else.
static outcome_t attack_copy_link(void) {
    make_blocks();
    for (int i = 10; i < 20; i++)
        mi_free(blocks[i]);
    memcpy(blocks[19], blocks[12], sizeof(void *)); // now 11 follows 19; 12 to 18 are lost, if so
    void *const last = mi_malloc(BYTES);
    void *const next = mi_malloc(BYTES);
    return last == blocks[19] && next == blocks[11] ? SUCCEEDS : GOES_ON;
}

// A use after free writes over the first word of the block.
static outcome_t attack_use_after_free(void) {
    make_blocks();
    mi_free(blocks[40]);
    memset(blocks[40], 'A', 16);
    return malloc_gives((void *)(uintptr_t)0x4141414141410000ull, 65536);
}

static outcome_t attack_double_free(void) {
    make_blocks();
    mi_free(blocks[5]);
    mi_free(blocks[5]);
    return malloc_repeats();
}

// With another one between, against allocators that look at the head of the list only.
static outcome_t attack_double_free_apart(void) {
    make_blocks();
    mi_free(blocks[5]);
    mi_free(blocks[9]);
    mi_free(blocks[5]);
    return malloc_repeats();
}

#ifdef _WIN32
static DWORD WINAPI free_it(LPVOID p) {
    mi_free(p);
    return 0;
}
static void free_elsewhere(void *p) {
    HANDLE thread = CreateThread(NULL, 0, free_it, p, 0, NULL);
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}
#else
static void *free_it(void *p) {
    mi_free(p);
    return NULL;
}
static void free_elsewhere(void *p) {
    pthread_t thread;
    pthread_create(&thread, NULL, free_it, p);
    pthread_join(thread, NULL);
}
#endif

// Two other threads free it, one after the other; the owner has taken nothing back yet.
static outcome_t attack_double_free_remote(void) {
    make_blocks();
    free_elsewhere(blocks[5]);
    free_elsewhere(blocks[5]);
    return GOES_ON;
}

// The owner frees it, and another thread does; or the other way round, before it was taken back.
static outcome_t attack_double_free_own_first(void) {
    make_blocks();
    mi_free(blocks[5]);
    free_elsewhere(blocks[5]);
    return malloc_repeats();
}
static outcome_t attack_double_free_own_last(void) {
    make_blocks();
    free_elsewhere(blocks[5]);
    mi_free(blocks[5]);
    return malloc_repeats();
}

static outcome_t attack_double_free_large(void) {
    const size_t size = 1000000;
    void *const p = mi_malloc(size);
    mi_free(p);
    mi_free(p);
    return mi_malloc(size) == mi_malloc(size) ? SUCCEEDS : GOES_ON;
}

// One whose page went back when it was freed: of more than 4 MiB, or of a heap that was destroyed.
static outcome_t attack_double_free_huge(void) {
    void *const p = mi_malloc(5000000);
    mi_free(p);
    mi_free(p);
    return GOES_ON;
}
// One with a reservation of its own, which went back as well.
static outcome_t attack_double_free_own_span(void) {
    mi_option_set(mi_option_disallow_arena_alloc, 1);
    void *const p = mi_malloc(5000000);
    mi_free(mi_malloc(6000000));
    mi_free(p);
    mi_free(p);
    return GOES_ON;
}
static outcome_t attack_free_destroyed(void) {
    mi_heap_t *const heap = mi_heap_new();
    void *p = NULL;
    for (int i = 0; i < 40; i++)
        p = mi_heap_malloc(heap, 10000); // not in the first slice of a page
    mi_heap_destroy(heap);
    mi_free(p);
    return GOES_ON;
}

// One byte of the link is enough, where links tell addresses.
static outcome_t attack_partial_link(void) {
    make_blocks();
    mi_free(blocks[1]);
    mi_free(blocks[2]);
    *(uint8_t *)blocks[2] ^= BYTES;
    return malloc_repeats();
}

// A link is changed into that of another free block, which encoding by exclusive or allows to
// whoever knows both places: what lay between is never handed out again.
static outcome_t attack_skip_link(void) {
    make_blocks();
    mi_free(blocks[1]);
    mi_free(blocks[2]);
    mi_free(blocks[3]);
    *(uintptr_t *)blocks[3] ^= (uintptr_t)blocks[2] ^ (uintptr_t)blocks[1];
    return malloc_repeats();
}

// The link leads into a free block, where another link was put that fits the place: encoding by
// exclusive or allows both to whoever knows the places. What malloc returns then lies across two
// blocks.
static uintptr_t place_of(const void *p) {
    const uintptr_t at = (uintptr_t)p;
    return !MI_SECURE            ? 0
           : sizeof(void *) == 8 ? (uintptr_t)__builtin_bswap64(at)
                                 : (uintptr_t)__builtin_bswap32((uint32_t)at);
}
static outcome_t attack_inner_link(void) {
    make_blocks();
    mi_free(blocks[1]);
    mi_free(blocks[2]);
    uintptr_t *const outer = blocks[1];
    uintptr_t *const inner = outer + 16 / sizeof(*outer);
    *inner = *outer ^ place_of(outer) ^ place_of(inner);
    *(uintptr_t *)blocks[2] ^= (uintptr_t)outer ^ (uintptr_t)inner;
    return malloc_gives(inner, 1);
}

// Two links change places, so that each is still the link of a free block.
static outcome_t attack_swap_links(void) {
    uintptr_t first, second;
    make_blocks();
    mi_free(blocks[1]);
    mi_free(blocks[2]);
    memcpy(&first, blocks[1], sizeof(first));
    memcpy(&second, blocks[2], sizeof(second));
    memcpy(blocks[1], &second, sizeof(second));
    memcpy(blocks[2], &first, sizeof(first));
    return malloc_repeats();
}

// Freed by another thread, written to before the owner takes it back.
static outcome_t attack_use_after_remote_free(void) {
    make_blocks();
    free_elsewhere(blocks[40]);
    memset(blocks[40], 'A', 16);
    return malloc_gives((void *)(uintptr_t)0x4141414141410000ull, 65536);
}

// Written to when its page is the system's again: what comes from there is zero all the same.
static outcome_t attack_write_after_purge(void) {
    enum { SIZE = 3000 }; // such a block is taken as zero where its page is
    static uint8_t *p[MANY];
    for (int i = 0; i < MANY; i++)
        p[i] = mi_malloc(SIZE);
    for (int i = 0; i < MANY; i++)
        mi_free(p[i]);
    mi_collect(true);
    memset(p[MANY / 2], 'A', 64);
    for (int i = 0; i < MANY; i++) {
        const uint8_t *const z = mi_zalloc(SIZE);
        for (int k = 0; k < SIZE; k++)
            if (z[k] != 0)
                return SUCCEEDS;
    }
    return GOES_ON;
}

// As a pointer to an object of another type is deleted.
static outcome_t attack_wrong_size(void) {
    make_blocks();
    mi_free_size(blocks[5], 4000);
    return malloc_gives(blocks[5], BYTES);
}
static outcome_t attack_wrong_alignment(void) {
    make_blocks();
    for (int i = 0; i < COUNT; i++)
        if ((uintptr_t)blocks[i] % 128 != 0) {
            mi_free_size_aligned(blocks[i], BYTES, 128);
            return malloc_gives(blocks[i], BYTES);
        }
    return NOT_RUN;
}

static outcome_t attack_interior_large(void) {
    uint8_t *const p = mi_malloc(1000000);
    mi_free(p + 65536); // a whole slice on
    return (uintptr_t)mi_malloc(1000000) - (uintptr_t)p < 1000000 ? SUCCEEDS : GOES_ON;
}

static outcome_t attack_realloc_freed(void) {
    make_blocks();
    mi_free(blocks[5]);
    return mi_realloc(blocks[5], BYTES - 4) == blocks[5] ? SUCCEEDS : GOES_ON;
}

// Two of the blocks that lie side by side.
static bool find_neighbours(uint8_t **first, uint8_t **second) {
    for (int i = 0; i < COUNT; i++)
        for (int k = 0; k < COUNT; k++)
            if ((uint8_t *)blocks[k] - (uint8_t *)blocks[i] == BYTES + 16 * MI_DEBUG) {
                *first = blocks[i];
                *second = blocks[k];
                return true;
            }
    return false;
}

// One block too far, into a free one: its link is overwritten.
static outcome_t attack_overflow_free(void) {
    uint8_t *first, *second;
    make_blocks();
    if (!find_neighbours(&first, &second))
        return NOT_RUN;
    mi_free(second);
    memset(first, 'B', (size_t)(second - first) + 16);
    mi_free(first);
    return malloc_gives((void *)(uintptr_t)0x4242424242420000ull, 65536);
}

// One block too far, into a live one: its content changes, and no more.
static outcome_t attack_overflow_live(void) {
    uint8_t *first, *second;
    make_blocks();
    if (!find_neighbours(&first, &second))
        return NOT_RUN;
    memset(first, 'C', (size_t)(second - first) + 8);
    const bool reached = (second[0] == 'C');
    mi_free(first);
    mi_free(second);
    return reached && malloc_repeats() == GOES_ON ? SUCCEEDS : GOES_ON;
}

static outcome_t attack_interior(void) {
    uint8_t *const p = mi_malloc(200);
    mi_free(p + 16);
    for (int i = 0; i < MANY; i++)
        if ((uintptr_t)mi_malloc(200) - (uintptr_t)p < 200)
            return SUCCEEDS;
    return GOES_ON;
}

// A made-up block, as one is forged before a pointer to it is freed.
static outcome_t attack_forged(void) {
    static uintptr_t forged[64] __attribute__((aligned(64)));
    forged[1] = 0x31; // the size of a chunk, for those who keep it there
    mi_free(&forged[2]);
    return malloc_gives(forged, sizeof(forged));
}

// An address of ours that was never handed out.
static outcome_t attack_never_allocated(void) {
    uint8_t *const p = mi_malloc(100);
    mi_free(p - ((uintptr_t)p & 0xFFFF) + (size_t)112 * 500);
    return malloc_repeats();
}

// From the last byte of a page's blocks on into the next page; nothing of another one is reached.
static outcome_t overflow_from(size_t size, int count) {
    uint8_t *last = NULL;
    for (int i = 0; i < count; i++) {
        uint8_t *const p = mi_malloc(size);
        if (i < count / 2 && p > last)
            last = p;
    }
    // As far as the longest page of such blocks goes; the next one is there.
    const size_t reach = size + (size < 4096 ? 65536 : 9 * 65536);
    volatile uint8_t *at = last;
    for (size_t i = 0; i < reach; i++)
        at[i] = 'D';
    return SUCCEEDS;
}

static outcome_t attack_overflow_small(void) {
    return overflow_from(BYTES, 20000);
}
static outcome_t attack_overflow_medium(void) {
    return overflow_from(20000, 100);
}
static outcome_t attack_overflow_large(void) {
    return overflow_from(1000000, 10);
}

// A block with a reservation of its own.
static outcome_t attack_overflow_huge(void) {
    const size_t size = (sizeof(void *) == 8 ? 300u : 20u) << 20;
    volatile uint8_t *const p = mi_malloc(size);
    const size_t usable = mi_usable_size((void *)(uintptr_t)p);
    p[usable - 1] = 1; // the last byte is there
    p[usable] = 1;
    return SUCCEEDS;
}

// Down from a page's first block: to the bookkeeping, where it lies before the blocks.
static outcome_t attack_underflow(void) {
    volatile uint8_t *const p = mi_malloc(BYTES);
    volatile uint8_t *at = p - ((uintptr_t)p & 0xFFFF);
    for (size_t i = 0; i < 4 * 65536; i++)
        *--at = 'E';
    return SUCCEEDS;
}

// A guarded block in any build: what lies behind it stops the first byte beyond its end, or beyond
// the last few that its alignment leaves.
static outcome_t overflow_guarded(size_t size, size_t beyond) {
    mi_heap_guarded_set_sample_rate(mi_heap_main(), 1, 1);
    volatile uint8_t *const p = mi_malloc(size);
    mi_heap_guarded_set_sample_rate(mi_heap_main(), 0, 0);
    for (size_t i = 0; i < size; i++)
        p[i] = 'E';
    p[size + beyond] = 'E';
    return SUCCEEDS;
}

static outcome_t attack_overflow_guarded(void) {
    return overflow_guarded(100, 12);
}

static outcome_t attack_overflow_precise(void) {
    mi_option_set(mi_option_guarded_precise, 1);
    return overflow_guarded(101, 0);
}

static const struct {
    const char *name;
    outcome_t (*run)(void);
    outcome_t outcome;
    const char *says; // how its only message begins; "" = it says nothing
} attacks[] = {
    {"poison", attack_poison, EXPECTED(ENDED, NOT_RUN, SUCCEEDS), EXPECTED(CORRUPT, "", "")},
    {"unlink", attack_unlink, EXPECTED(ENDED, NOT_RUN, SUCCEEDS), EXPECTED(CORRUPT, "", "")},
    {"copy_link", attack_copy_link, EXPECTED(ENDED, SUCCEEDS, SUCCEEDS), EXPECTED(CORRUPT, "", "")},
    {"use_after_free", attack_use_after_free, EXPECTED(ENDED, NOT_RUN, NOT_RUN),
     EXPECTED(CORRUPT, "", "")},
    {"double_free", attack_double_free, EXPECTED(ENDED, ENDED, SUCCEEDS),
     EXPECTED(IS_FREE("free"), IS_FREE("free"), "")},
    {"double_free_apart", attack_double_free_apart, EXPECTED(ENDED, ENDED, SUCCEEDS),
     EXPECTED(IS_FREE("free"), IS_FREE("free"), "")},
    {"double_free_remote", attack_double_free_remote, EXPECTED(ENDED, ENDED, NOT_RUN),
     EXPECTED(IS_FREE("free"), IS_FREE("free"), "")},
    {"double_free_own_first", attack_double_free_own_first, EXPECTED(ENDED, ENDED, SUCCEEDS),
     EXPECTED(IS_FREE("free"), IS_FREE("free"), "")},
    {"double_free_own_last", attack_double_free_own_last, EXPECTED(ENDED, ENDED, SUCCEEDS),
     EXPECTED(IS_FREE("free"), IS_FREE("free"), "")},
    {"double_free_large", attack_double_free_large, EXPECTED(ENDED, ENDED, SUCCEEDS),
     EXPECTED(IS_FREE("free"), IS_FREE("free"), "")},
    {"double_free_huge", attack_double_free_huge, EXPECTED(ENDED, ENDED, GOES_ON),
     EXPECTED(IS_FREE("free"), IS_FREE("free"), FOREIGN)},
    {"double_free_own_span", attack_double_free_own_span, EXPECTED(ENDED, ENDED, GOES_ON),
     EXPECTED(IS_FREE("free"), IS_FREE("free"), FOREIGN)},
    {"free_destroyed", attack_free_destroyed, EXPECTED(ENDED, ENDED, GOES_ON),
     EXPECTED(IS_FREE("free"), IS_FREE("free"), FOREIGN)},
    {"partial_link", attack_partial_link, EXPECTED(ENDED, NOT_RUN, NOT_RUN),
     EXPECTED(CORRUPT, "", "")},
    {"skip_link", attack_skip_link, EXPECTED(ENDED, NOT_RUN, GOES_ON), EXPECTED(CORRUPT, "", "")},
    {"inner_link", attack_inner_link, EXPECTED(ENDED, NOT_RUN, SUCCEEDS),
     EXPECTED(CORRUPT, "", "")},
    {"swap_links", attack_swap_links, EXPECTED(ENDED, NOT_RUN, NOT_RUN), EXPECTED(CORRUPT, "", "")},
    {"use_after_remote_free", attack_use_after_remote_free, EXPECTED(ENDED, NOT_RUN, NOT_RUN),
     EXPECTED(CORRUPT, "", "")},
    {"write_after_purge", attack_write_after_purge, EXPECTED(PURGED, NOT_RUN, NOT_RUN), ""},
    {"wrong_size", attack_wrong_size, EXPECTED(ENDED, ENDED, SUCCEEDS),
     EXPECTED(WRONG_SIZE, WRONG_SIZE, "")},
    {"wrong_alignment", attack_wrong_alignment, EXPECTED(ENDED, ENDED, SUCCEEDS),
     EXPECTED(WRONG_ALIGNMENT, WRONG_ALIGNMENT, "")},
    {"interior_large", attack_interior_large, GOES_ON, INSIDE},
    {"realloc_freed", attack_realloc_freed, EXPECTED(ENDED, ENDED, SUCCEEDS),
     EXPECTED(IS_FREE("realloc"), IS_FREE("realloc"), "")},
    {"overflow_free", attack_overflow_free, EXPECTED(ENDED, ENDED, NOT_RUN),
     EXPECTED(CORRUPT, END_OVERWRITTEN, "")},
    {"overflow_live", attack_overflow_live, EXPECTED(SUCCEEDS, ENDED, SUCCEEDS),
     EXPECTED("", END_OVERWRITTEN, "")},
    {"interior", attack_interior, GOES_ON, INSIDE},
    {"forged", attack_forged, GOES_ON, FOREIGN},
    {"never_allocated", attack_never_allocated, EXPECTED(GOES_ON, GOES_ON, NOT_RUN),
     EXPECTED(INSIDE, INSIDE, "")},
    {"overflow_small", attack_overflow_small, EXPECTED(GUARD, NOT_RUN, SUCCEEDS), ""},
    {"overflow_medium", attack_overflow_medium, EXPECTED(GUARD, NOT_RUN, SUCCEEDS), ""},
    {"overflow_large", attack_overflow_large, EXPECTED(GUARD, NOT_RUN, SUCCEEDS), ""},
    {"overflow_huge", attack_overflow_huge, EXPECTED(GUARD, NOT_RUN, NOT_RUN), ""},
    {"overflow_guarded", attack_overflow_guarded, GUARD, ""},
    {"overflow_precise", attack_overflow_precise, GUARD, ""},
    {"underflow", attack_underflow, EXPECTED(GUARD, NOT_RUN, NOT_RUN), ""},
};
#define ATTACKS (sizeof(attacks) / sizeof(attacks[0]))

// ---- The child
// -----------------------------------------------------------------------------------

static int said_to;
static void say(const char *msg, void *arg) {
    (void)arg;
    if (write(said_to, msg, (unsigned)strlen(msg)) < 0)
        _exit(3);
}

#ifdef _WIN32
static LONG CALLBACK see_fault(EXCEPTION_POINTERS *e) {
    const DWORD code = e->ExceptionRecord->ExceptionCode;
    if (code == EXCEPTION_ILLEGAL_INSTRUCTION)
        _exit(ENDED);
    if (code == EXCEPTION_ACCESS_VIOLATION)
        _exit(GUARD);
    return EXCEPTION_CONTINUE_SEARCH;
}
#else
static void see_fault(int number) {
    _exit(number == SIGSEGV || number == SIGBUS ? GUARD : ENDED);
}
#endif

// The first word: an address of a block; then how blocks follow each other.
static outcome_t tell_addresses(void) {
    uintptr_t words[COUNT];
    make_blocks();
    for (int i = 0; i < COUNT; i++)
        words[i] = (uintptr_t)blocks[i];
    return write(said_to, words, sizeof(words)) == (int)sizeof(words) ? GOES_ON : NOT_RUN;
}

static int child(const char *name, const char *file) {
#ifdef _WIN32
    AddVectoredExceptionHandler(1, see_fault);
    said_to = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_BINARY, 0600);
#else
    static const int numbers[] = {SIGILL, SIGTRAP, SIGSEGV, SIGBUS};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        signal(numbers[i], see_fault);
    alarm(60);
    said_to = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
#endif
    mi_register_output(say, NULL);
    if (strcmp(name, "addresses") == 0)
        _exit(tell_addresses());
    for (size_t i = 0; i < ATTACKS; i++)
        if (strcmp(attacks[i].name, name) == 0)
            _exit(attacks[i].run());
    return 2;
}

// ---- The parent
// ----------------------------------------------------------------------------------

static int run_self(const char *self, const char *name, const char *file) {
#ifdef _WIN32
    return (int)_spawnl(_P_WAIT, self, self, name, file, NULL);
#else
    const pid_t pid = fork();
    if (pid == 0) {
        execl(self, self, name, file, (char *)NULL);
        _exit(4);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
#endif
}

static size_t read_file(const char *file, void *buffer, size_t cap) {
    FILE *const f = fopen(file, "rb");
    const size_t n = (f == NULL ? 0 : fread(buffer, 1, cap, f));
    if (f != NULL)
        fclose(f);
    return n;
}

static unsigned bits_of(uintptr_t x) {
    unsigned count = 0;
    for (; x != 0; x &= x - 1)
        count++;
    return count;
}

// Where blocks are, and in which order, differs from run to run (secure build).
static void check_addresses(const char *self, const char *file) {
    enum { RUNS = 24 };
    static uintptr_t words[RUNS][COUNT];
    uintptr_t differs = 0;
    int in_order = 0;
    int same_order = 0;
    for (int r = 0; r < RUNS; r++) {
        CHECK(run_self(self, "addresses", file) == GOES_ON);
        CHECK(read_file(file, words[r], sizeof(words[r])) == sizeof(words[r]));
        differs |= words[r][0] ^ words[0][0];
        for (int i = 1; i < COUNT; i++) {
            in_order += words[r][i] - words[r][i - 1] == BYTES;
            same_order += r > 0 && words[r][i] - words[r][0] == words[0][i] - words[0][0];
        }
    }
    // Bits that ever differ: those above a slice, of 46; a few may happen to be the same each time.
    CHECK_MSG(sizeof(void *) == 4 || bits_of(differs >> 16) >= 24, "%llx",
              (unsigned long long)differs);
    // By chance one in 63 follows its neighbour.
    CHECK_MSG(in_order < RUNS * COUNT / 8, "%d of %d blocks follow each other", in_order,
              RUNS * COUNT);
    CHECK_MSG(same_order < RUNS * COUNT / 8, "%d of %d in the same place as in the first run",
              same_order, RUNS * COUNT);
}

// What is handed out again does not tell how its page's links are encoded.
static void check_no_link(void) {
    int told = 0;
    for (size_t size = 16; size <= 1024; size *= 2) {
        void *held[64];
        for (int i = 0; i < 64; i++)
            held[i] = mi_malloc(size);
        for (int i = 0; i < 64; i++)
            mi_free(held[i]);
        for (int i = 0; i < 64; i++) {
            held[i] = mi_malloc(size);
            told += (*(uintptr_t *)held[i] != 0);
        }
        for (int i = 0; i < 64; i++)
            mi_free(held[i]);
    }
    CHECK_MSG(told == 0, "%d blocks hold a link", told);
}

// Nothing of ours can be run as code.
static void check_not_executable(void) {
    void *const p = mi_malloc(100);
    bool is_executable = false;
#ifdef _WIN32
    MEMORY_BASIC_INFORMATION info;
    CHECK(VirtualQuery(p, &info, sizeof(info)) == sizeof(info));
    is_executable = info.Protect != PAGE_READWRITE;
#else
    char line[600];
    FILE *const f = fopen("/proc/self/maps", "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        char access[8] = "";
        unsigned long long first = 0, last = 0;
        if (sscanf(line, "%llx-%llx %4s", &first, &last, access) == 3 && access[1] == 'w' &&
            access[2] == 'x')
            is_executable = true; // no mapping of the process, ours included
    }
    if (f != NULL)
        fclose(f);
#endif
    CHECK(!is_executable);
    mi_free(p);
}

int main(int argc, char **argv) {
    static char said[4096];
    if (argc == 3)
        return child(argv[1], argv[2]);
    char file[64];
    snprintf(file, sizeof(file), "attacks-%d.tmp", (int)getpid());
    for (size_t i = 0; i < ATTACKS; i++) {
        if (attacks[i].outcome == NOT_RUN)
            continue;
        const int outcome = run_self(argv[0], attacks[i].name, file);
        CHECK_MSG(outcome == (int)attacks[i].outcome, "%s ended with %d", attacks[i].name, outcome);
        memset(said, 0, sizeof(said));
        (void)read_file(file, said, sizeof(said) - 1);
        const size_t begin = strlen(attacks[i].says);
        const char *const end = strchr(said, '\n');
        // Behind the address may stand what is known of the damage.
        const char *const rest = said + begin + strspn(said + begin, "0123456789abcdef");
        const char *const more =
            (strcmp(attacks[i].says, WRONG_SIZE) == 0        ? " bytes long, not 4000\n"
             : strcmp(attacks[i].says, WRONG_ALIGNMENT) == 0 ? ", not 128\n"
                                                             : NULL);
        const bool is_whole =
            (more != NULL ? strstr(rest, more) != NULL
             : strcmp(attacks[i].says, END_OVERWRITTEN) != 0
                 ? rest == end
                 : strstr(rest, " bytes long, changed from byte ") != NULL ||
                       strstr(rest, " bytes long, its record is destroyed\n") != NULL);
        CHECK_MSG(begin == 0 ? said[0] == 0
                             : strncmp(said, attacks[i].says, begin) == 0 && rest > said + begin &&
                                   is_whole && end != NULL && end[1] == 0,
                  "%s says: \"%s\"", attacks[i].name, said);
    }
    if (MI_SECURE) {
        check_addresses(argv[0], file);
        check_no_link();
    }
    check_not_executable();
    remove(file);
    return test_result();
}
