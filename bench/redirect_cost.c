// What the redirection costs a Windows program: a CRT's function against the allocator's own, both
// called through an import cell, in one process.
//   redirect_cost steps          instructions of each call, counted one by one (x64)
//   redirect_cost time [rounds [CRT]]  nanoseconds of each pair, in turns
//   redirect_cost owns           the ownership test, for blocks of ours and of others
//   redirect_cost heap [rounds]  HeapAlloc, HeapSize and HeapFree of the process heap
// The program imports mimalloc.dll, which brings the redirect DLL if it lies beside it. The direct
// functions are called at their addresses, as through an import declared with dllimport: without
// that there would be one jump more, which made redirection look cheap.
//
// time: a processor has several speeds for one and the same loop of this kind (4.3 and 6.3 ns were
// seen, for minutes, and another by the next block). So each round works on another block, and what
// is told is the mean of the middle 80 % of the rounds, and the fastest. A third side calls the
// direct functions by way of one jump instruction, which is what an entry of a CRT has become: no
// redirection of entries can cost less.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#include "mimalloc.h"

enum { ROUNDS_MAX = 4000, OPS = 4000 };

typedef void *(__cdecl *make_fn)(size_t size);
typedef void *(__cdecl *make2_fn)(size_t count, size_t size);
typedef void *(__cdecl *resize_fn)(void *p, size_t size);
typedef void(__cdecl *drop_fn)(void *p);

// The functions of one side. Called through this table as through import cells: call [memory].
typedef struct side_s {
    const char *name;
    make_fn make;
    make2_fn make_zeroed;
    resize_fn resize;
    drop_fn drop;
    make_fn new_op;
    drop_fn delete_op;
} side_t;

static const char *const patterns[] = {"malloc, 64 bytes",      "malloc, 1500 bytes",
                                       "malloc, 8 KiB",         "malloc, 32 to 95 bytes",
                                       "calloc, 64 bytes",      "realloc, size changes by 1",
                                       "operator new, 64 bytes"};
enum { PATTERNS = sizeof(patterns) / sizeof(patterns[0]) };

static const size_t pattern_sizes[PATTERNS] = {64, 1500, 8192, 64, 64, 112, 64};

// All sides run through these loops, so that their place in the code favours none.
static void __attribute__((noinline)) run(const side_t *s, int pattern, unsigned n) {
    void *p = s->make(100);
    for (unsigned i = 0; i < n; i++)
        switch (pattern) {
        case 0:
            s->drop(s->make(64));
            break;
        case 1:
            s->drop(s->make(1500));
            break;
        case 2:
            s->drop(s->make(8192));
            break;
        case 3:
            s->drop(s->make(32 + i % 64));
            break;
        case 4:
            s->drop(s->make_zeroed(1, 64));
            break;
        case 5:
            p = s->resize(p, 100 + i % 2);
            break;
        default:
            s->delete_op(s->new_op(64));
            break;
        }
    s->drop(p);
}

static double now_ns(void) {
    LARGE_INTEGER f, c;
    QueryPerformanceFrequency(&f);
    QueryPerformanceCounter(&c);
    return (double)c.QuadPart * 1e9 / (double)f.QuadPart;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

// The mean without the lowest and highest tenth.
static double middle(double *values, unsigned count) {
    const unsigned cut = count / 10;
    double sum = 0;
    qsort(values, count, sizeof(double), by_value);
    for (unsigned i = cut; i < count - cut; i++)
        sum += values[i];
    return sum / (count - 2 * cut);
}

static double show(const char *what, double *values, unsigned count) {
    const double mean = middle(values, count);
    printf("\t%s %.3f %.3f", what, mean, values[0]);
    return mean;
}

// ---------------------------------------------------------------- instructions
#if defined(__GNUC__) && defined(__x86_64__)

static volatile unsigned steps;
static uintptr_t stop_at;

static LONG CALLBACK on_step(EXCEPTION_POINTERS *e) {
    if (e->ExceptionRecord->ExceptionCode != (DWORD)EXCEPTION_SINGLE_STEP)
        return EXCEPTION_CONTINUE_SEARCH;
    steps++;
    if (e->ContextRecord->Rip != stop_at)
        e->ContextRecord->EFlags |= 0x100;
    return EXCEPTION_CONTINUE_EXECUTION;
}

// Every instruction from the first behind popfq to the one before label 1 raises an exception.
static void *__attribute__((noinline)) stepped(uintptr_t fn, uintptr_t a, uintptr_t b) {
    uintptr_t result;
    __asm__ volatile("leaq 1f(%%rip), %%rax\n"
                     "movq %%rax, %[stop]\n"
                     "subq $40, %%rsp\n"
                     "pushfq\n"
                     "orq $0x100, (%%rsp)\n"
                     "popfq\n"
                     "callq *%[fn]\n"
                     "1: addq $40, %%rsp\n"
                     : "=&a"(result), "+c"(a), "+d"(b), [stop] "=m"(stop_at)
                     : [fn] "b"(fn)
                     : "r8", "r9", "r10", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3",
                       "xmm4", "xmm5");
    return (void *)result;
}

static void nothing(void) {
}

static unsigned count(uintptr_t fn, uintptr_t a, uintptr_t b, void **result) {
    steps = 0;
    (void)stepped((uintptr_t)nothing, 0, 0);
    const unsigned empty = steps - 1; // its ret
    steps = 0;
    *result = stepped(fn, a, b);
    return steps - empty;
}

static void count_pair(const char *name, const side_t *sides, uintptr_t bytes) {
    printf("%s", name);
    for (int i = 0; i < 2; i++) {
        void *p, *q;
        run(&sides[i], 0, 8);
        sides[i].drop(sides[i].make(bytes));
        const unsigned make = count((uintptr_t)sides[i].make, bytes, 0, &p);
        const unsigned drop = count((uintptr_t)sides[i].drop, (uintptr_t)p, 0, &q);
        printf("\t%s %u + %u = %u", sides[i].name, make, drop, make + drop);
    }
    printf("\n");
}

static void count_all(const side_t *sides) {
    void *p;
    (void)AddVectoredExceptionHandler(1, on_step);
    count_pair("malloc + free, 64 bytes", sides, 64);
    count_pair("malloc + free, 1000 bytes", sides, 1000);
    count_pair("malloc + free, 1500 bytes", sides, 1500);
    count_pair("malloc + free, 8 KiB", sides, 8192);
    printf("calloc, 64 bytes");
    for (int i = 0; i < 2; i++) {
        printf("\t%s %u", sides[i].name, count((uintptr_t)sides[i].make_zeroed, 1, 64, &p));
        sides[i].drop(p);
    }
    printf("\nrealloc, 100 to 101 bytes");
    for (int i = 0; i < 2; i++) {
        void *const q = sides[i].make(100);
        printf("\t%s %u", sides[i].name, count((uintptr_t)sides[i].resize, (uintptr_t)q, 101, &p));
        sides[i].drop(p);
    }
    printf("\noperator new + delete, 64 bytes");
    for (int i = 0; i < 2; i++) {
        void *q;
        const unsigned make = count((uintptr_t)sides[i].new_op, 64, 0, &p);
        const unsigned drop = count((uintptr_t)sides[i].delete_op, (uintptr_t)p, 0, &q);
        printf("\t%s %u + %u = %u", sides[i].name, make, drop, make + drop);
    }
    printf("\nownership test\t%u\n", count((uintptr_t)mi_is_in_heap_region, (uintptr_t)p, 0, &p));
}

#else

static void count_all(const side_t *sides) {
    (void)sides;
    printf("only x64 programs count instructions\n");
}

#endif

// ---------------------------------------------------------------- nanoseconds

enum { DIRECT, REDIRECTED, JUMP, SIDES };

// A jump to the function, in memory from which it reaches it; the function itself where jumps are
// not written like this.
static void *jump_to(uint8_t *code, void *fn) {
#if defined(__x86_64__) || defined(__i386__)
    const int32_t distance = (int32_t)((intptr_t)fn - (intptr_t)(code + 5));
    code[0] = 0xE9;
    memcpy(code + 1, &distance, sizeof(distance));
    return code;
#else
    (void)code;
    return fn;
#endif
}

static void make_jumps(side_t *out, const side_t *direct) {
    uint8_t *code = NULL;
    const uintptr_t base = (uintptr_t)direct->make & ~(uintptr_t)0xFFFF;
    for (unsigned i = 1; i < 1024 && code == NULL; i++)
        code = VirtualAlloc((void *)(base + i * 0x100000), 4096, MEM_RESERVE | MEM_COMMIT,
                            PAGE_READWRITE);
    if (code == NULL)
        exit(3);
    out->name = "jump";
    out->make = (make_fn)jump_to(code, (void *)direct->make);
    out->make_zeroed = (make2_fn)jump_to(code + 64, (void *)direct->make_zeroed);
    out->resize = (resize_fn)jump_to(code + 128, (void *)direct->resize);
    out->drop = (drop_fn)jump_to(code + 192, (void *)direct->drop);
    out->new_op = (make_fn)jump_to(code + 256, (void *)direct->new_op);
    out->delete_op = (drop_fn)jump_to(code + 320, (void *)direct->delete_op);
    DWORD before;
    if (!VirtualProtect(code, 4096, PAGE_EXECUTE_READ, &before))
        exit(3);
}

// One pattern in one round: with so many blocks held, the loop gets another one.
static double time_round(const side_t *side, int pattern, unsigned held) {
    void *kept[16];
    for (unsigned i = 0; i < held; i++)
        kept[i] = side->make(pattern_sizes[pattern]);
    run(side, pattern, 100); // what the other sides left in the processor
    const double start = now_ns();
    run(side, pattern, OPS);
    const double ns = (now_ns() - start) / OPS;
    for (unsigned i = 0; i < held; i++)
        side->drop(kept[i]);
    return ns;
}

static void time_all(const side_t *sides, unsigned rounds) {
    static double ns[SIDES][ROUNDS_MAX];
    side_t all[SIDES] = {sides[0], sides[1]};
    make_jumps(&all[JUMP], &sides[0]);
    for (int pattern = 0; pattern < PATTERNS; pattern++) {
        for (unsigned round = 0; round < rounds; round++)
            for (int i = 0; i < SIDES; i++)
                ns[i][round] = time_round(&all[i], pattern, round % 16);
        double mean[SIDES];
        printf("%s", patterns[pattern]);
        for (int i = 0; i < SIDES; i++)
            mean[i] = show(all[i].name, ns[i], rounds);
        printf("\tredirected/direct %.3f jump/direct %.3f redirected/jump %.3f\n",
               mean[REDIRECTED] / mean[DIRECT], mean[JUMP] / mean[DIRECT],
               mean[REDIRECTED] / mean[JUMP]);
    }
}

static void time_owns(unsigned rounds) {
    static double ns[ROUNDS_MAX];
    bool (*const owns)(const void *) = mi_is_in_heap_region;
    for (int is_ours = 1; is_ours >= 0; is_ours--) {
        void *blocks[64];
        unsigned found = 0;
        for (unsigned i = 0; i < 64; i++)
            blocks[i] = (is_ours ? mi_malloc(1u << (i % 16))
                                 : HeapAlloc(GetProcessHeap(), 0, 1u << (i % 16)));
        for (unsigned round = 0; round < rounds; round++) {
            const double start = now_ns();
            for (unsigned i = 0; i < OPS; i++)
                found += owns(blocks[i % 64]);
            ns[round] = (now_ns() - start) / OPS;
        }
        if (found != (is_ours ? rounds * OPS : 0))
            exit(3);
        printf("ownership test");
        show(is_ours ? "of ours" : "of others", ns, rounds);
        printf("\n");
    }
}

static void time_heap(unsigned rounds) {
    static double ns[3][ROUNDS_MAX];
    const HANDLE heap = GetProcessHeap();
    void *const kept = HeapAlloc(heap, 0, 64);
    size_t bytes = 0;
    for (unsigned round = 0; round < rounds; round++) {
        double start = now_ns();
        for (unsigned i = 0; i < OPS; i++)
            (void)HeapFree(heap, 0, HeapAlloc(heap, 0, 64));
        ns[0][round] = (now_ns() - start) / OPS;
        start = now_ns();
        for (unsigned i = 0; i < OPS; i++)
            bytes += HeapSize(heap, 0, kept);
        ns[1][round] = (now_ns() - start) / OPS;
        start = now_ns();
        for (unsigned i = 0; i < OPS; i++)
            (void)HeapReAlloc(heap, 0, kept, 64);
        ns[2][round] = (now_ns() - start) / OPS;
    }
    if (bytes != (size_t)rounds * OPS * 64)
        exit(3);
    const char *const names[] = {"HeapAlloc + HeapFree", "HeapSize", "HeapReAlloc, same size"};
    for (int i = 0; i < 3; i++) {
        printf("%s", names[i]);
        show("ns", ns[i], rounds);
        printf("\n");
    }
}

int main(int argc, char **argv) {
    const char *const word = (argc > 1 ? argv[1] : "time");
    const int wanted = (argc > 2 ? atoi(argv[2]) : 400);
    const unsigned rounds = (wanted < 1 ? 1 : wanted > ROUNDS_MAX ? ROUNDS_MAX : (unsigned)wanted);
    const char *const crt_name = (argc > 3 ? argv[3] : "msvcrt.dll");
    const HMODULE crt = LoadLibraryA(crt_name);
    side_t sides[2];
    if (strcmp(word, "heap") != 0 && (crt == NULL || !mi_is_redirected())) {
        fprintf(stderr, "not redirected\n");
        return 2;
    }
    const HMODULE own = GetModuleHandleA("mimalloc.dll");
    if (own == NULL) {
        fprintf(stderr, "mimalloc.dll has another name\n");
        return 2;
    }
    side_t *s = &sides[0];
    s->name = "direct";
    s->make = (make_fn)(void *)GetProcAddress(own, "mi_malloc");
    s->make_zeroed = (make2_fn)(void *)GetProcAddress(own, "mi_calloc");
    s->resize = (resize_fn)(void *)GetProcAddress(own, "mi_realloc");
    s->drop = (drop_fn)(void *)GetProcAddress(own, "mi_free");
    s->new_op = (make_fn)(void *)GetProcAddress(own, "mi_new");
    s->delete_op = s->drop;
    s = &sides[1];
    s->name = "redirected";
    s->make = (make_fn)(void *)GetProcAddress(crt, "malloc");
    s->make_zeroed = (make2_fn)(void *)GetProcAddress(crt, "calloc");
    s->resize = (resize_fn)(void *)GetProcAddress(crt, "realloc");
    s->drop = (drop_fn)(void *)GetProcAddress(crt, "free");
    s->new_op = (make_fn)(void *)GetProcAddress(crt, sizeof(void *) == 8 ? "?\?2@YAPEAX_K@Z"
                                                                         : "?\?2@YAPAXI@Z");
    s->delete_op = (drop_fn)(void *)GetProcAddress(crt, sizeof(void *) == 8 ? "?\?3@YAXPEAX@Z"
                                                                            : "?\?3@YAXPAX@Z");
    if (s->new_op == NULL || s->delete_op == NULL) {
        s->new_op = s->make;
        s->delete_op = s->drop;
    }
    if (strcmp(word, "steps") == 0)
        count_all(sides);
    else if (strcmp(word, "time") == 0)
        time_all(sides, rounds);
    else if (strcmp(word, "owns") == 0)
        time_owns(rounds);
    else if (strcmp(word, "heap") == 0)
        time_heap(rounds);
    else
        return 2;
    return 0;
}
