// The cross-module test: this program and eight DLLs, built by two compilers in two languages for
// two CRTs. Each allocates what another frees, resizes or measures. The first argument is the mode:
//   plain   no allocator of ours in the process: proves the test itself; blocks stay within one CRT
//   early   ours comes first: every block is ours, also those from DllMain and TLS callbacks
//   order   ours is imported last: blocks from before stay the CRT's, all later ones are ours
//   load    ours comes by LoadLibrary while threads allocate
//   off     it is there and is told to do nothing, or cannot do it
// A second argument, brief, leaves out the long scenes.
// Output: the counts as in tests/test.h; the DLLs each add a line at their end. Exit code 0 = all
// good.
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#include "blocks.h"
#include "check.h"
#include "scenes.h"

#ifdef XM_IMPORT_LAST
// Referenced, so that the linker keeps the imports; which place they get is checked by the test
// driver.
__declspec(dllimport) int mi_version(void);
int (*volatile xm_anchor)(void) = mi_version;
#endif

int xm_passed;
int xm_failed;

void xm_report(int fact, const char *file, int line, const char *text) {
    if (fact) {
        __atomic_fetch_add(&xm_passed, 1, __ATOMIC_RELAXED);
    } else {
        __atomic_fetch_add(&xm_failed, 1, __ATOMIC_RELAXED);
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, text);
    }
}

#define XM_MODULES(X)                                                                              \
    X(gcc_msvcrt)                                                                                  \
    X(gcc_ucrt)                                                                                    \
    X(clang_msvcrt)                                                                                \
    X(clang_ucrt)                                                                                  \
    X(gxx_msvcrt)                                                                                  \
    X(gxx_ucrt)                                                                                    \
    X(clangxx_msvcrt)                                                                              \
    X(clangxx_ucrt)
#define DECLARE(name) __declspec(dllimport) const xm_module_t *xm_module_##name(void);
#define CALL(name)    cast.modules[cast.count++] = xm_module_##name();
XM_MODULES(DECLARE)

static xm_cast_t cast;
static xm_owner_t early_owner; // of blocks from before main

static int exit_calls;

// Registered last, so it runs first: the other handlers free blocks too. Blocks of all modules,
// freed by all.
static void at_exit(void) {
    exit_calls++;
    for (int i = 0; i < cast.count; i++) {
        const xm_module_t *by = cast.modules[(i + 2) % cast.count];
        if (!xm_may_cross(&cast, cast.modules[i], by)) {
            by = cast.modules[i];
        }
        xm_block_t b = xm_block_make(cast.modules[i], XM_STRDUP, 300, cast.owner);
        xm_block_end(&b, by, XM_GROW, cast.owner);
    }
}

// Registered first, so it runs last and may decide the exit code.
static void at_exit_last(void) {
    printf("%d checks passed, %d failed\n", xm_passed, xm_failed);
    fflush(stdout);
    if (xm_failed != 0 || exit_calls != 1) {
        TerminateProcess(GetCurrentProcess(), 1);
    }
}

static void check_early_block(const xm_module_t *maker, unsigned char *p, const char *from) {
    CHECK_MSG(p != NULL, "%s made no block in its %s", maker->name, from);
    if (p == NULL) {
        return;
    }
    bool is_good = true;
    for (size_t i = 0; i < XM_EARLY_BYTES; i++) {
        is_good = is_good && p[i] == xm_early_byte(i);
    }
    CHECK_MSG(is_good, "the block from %s's %s", maker->name, from);
    if (early_owner != XM_OWNER_UNKNOWN) {
        CHECK_MSG(xm_is_in_heap(p) == (early_owner == XM_OWNER_OURS), "the block from %s's %s",
                  maker->name, from);
    }
}

// Blocks from TLS callbacks and DllMain: another module measures, resizes and frees them.
static void scene_early_blocks(void) {
    for (int i = 0; i < cast.count; i++) {
        const xm_module_t *maker = cast.modules[i];
        const xm_module_t *by = cast.modules[(i + 1) % cast.count];
        if (!xm_may_cross(&cast, maker, by)) {
            by = maker;
        }
        unsigned char *p = maker->take_dllmain_block();
        check_early_block(maker, p, "DllMain");
        CHECK(by->measure(p) >= XM_EARLY_BYTES);
        p = by->resize(p, 5000);
        CHECK(p != NULL && p[0] == xm_early_byte(0) && p[99] == xm_early_byte(99));
        if (cast.owner != XM_OWNER_UNKNOWN) {
            CHECK(xm_is_in_heap(p) == (cast.owner == XM_OWNER_OURS));
        }
        by->release(p);
        p = maker->take_tls_block();
        check_early_block(maker, p, "TLS callback");
        CHECK(by->measure(p) >= XM_EARLY_BYTES);
        by->release(p);
    }
}

static void give_exit_blocks(void) {
    for (int i = 0; i < cast.count; i++) {
        const xm_module_t *by = cast.modules[(i + 3) % cast.count];
        if (!xm_may_cross(&cast, cast.modules[i], by)) {
            by = cast.modules[i];
        }
        for (int k = 0; k < 4; k++) {
            unsigned char *p = cast.modules[i]->alloc(XM_EARLY_BYTES);
            for (size_t c = 0; c < XM_EARLY_BYTES; c++) {
                p[c] = xm_early_byte(c);
            }
            by->give_exit_block(p);
        }
    }
}

// ---- modes
// ----------------------------------------------------------------------------------------------

// Blocks of every kind and module from before; to be ended after.
#define OLD_SIZES 6
static xm_block_t old_blocks[16 * XM_KINDS * OLD_SIZES];
static int old_count;

static void make_old_blocks(void) {
    static const size_t bytes[OLD_SIZES] = {10, 40, 900, 5000, 70000, 2000000};
    for (int m = 0; m < cast.count; m++) {
        for (int kind = 0; kind < XM_KINDS; kind++) {
            for (int i = 0; i < OLD_SIZES; i++) {
                old_blocks[old_count++] =
                    xm_block_make(cast.modules[m], (xm_kind_t)kind, bytes[i], XM_OWNER_UNKNOWN);
            }
        }
    }
}

// A block from before is ended by a module of the same CRT: whose heap it is in is that CRT's
// business.
static void end_old_blocks(void) {
    for (int i = 0; i < old_count; i++) {
        xm_block_t *b = &old_blocks[i];
        if (b->p == NULL) {
            continue;
        }
        CHECK(!xm_is_in_heap(b->p));
        int step = i;
        const xm_module_t *by;
        do {
            by = cast.modules[step++ % cast.count];
        } while (strcmp(by->crt, b->maker->crt) != 0 || !xm_can_end(b->kind, by));
        xm_block_end(b, by, (xm_fate_t)(i / OLD_SIZES % XM_FATES), XM_OWNER_OURS);
    }
}

static void load_late(void) {
    CHECK(!GetModuleHandleA("mimalloc.dll"));
    make_old_blocks();
    xm_traffic_t *traffic = xm_traffic_start(&cast);
    CHECK(LoadLibraryA("mimalloc.dll") != NULL);
    bool is_there = xm_find_allocator();
    if (is_there) {
        CHECK(xm_is_redirected());
    }
    xm_traffic_stop(traffic);
    if (!is_there) {
        return;
    }
    cast.owner = XM_OWNER_OURS;
    cast.is_mixed = true;
    end_old_blocks();
}

static bool set_mode(const char *mode) {
    if (strcmp(mode, "plain") == 0) {
        CHECK(GetModuleHandleA("mimalloc.dll") == NULL);
        return true;
    }
    if (strcmp(mode, "load") == 0) {
        early_owner = XM_OWNER_UNKNOWN; // checked before ours is there
        scene_early_blocks();
        load_late();
        return true;
    }
    if (!xm_find_allocator()) {
        fprintf(stderr, "mimalloc.dll is not in the process\n");
        return false;
    }
    bool is_off = strcmp(mode, "off") == 0;
    CHECK(xm_is_redirected() == !is_off);
    cast.owner = is_off ? XM_OWNER_CRT : XM_OWNER_OURS;
    cast.is_mixed = !is_off;
    early_owner = strcmp(mode, "early") == 0 ? XM_OWNER_OURS : XM_OWNER_CRT;
    return strcmp(mode, "early") == 0 || strcmp(mode, "order") == 0 || is_off;
}

int main(int argc, char **argv) {
    bool is_brief = argc == 3 && strcmp(argv[2], "brief") == 0;
    if (argc != 2 && !is_brief) {
        fprintf(stderr, "usage: crossmodule plain|early|order|load|off [brief]\n");
        return 2;
    }
    atexit(at_exit_last);
    XM_MODULES(CALL)
    if (!set_mode(argv[1])) {
        return 2;
    }
    if (strcmp(argv[1], "load") != 0) {
        scene_early_blocks();
    }
    xm_scene_impossible(&cast);
    if (!is_brief) {
        xm_scene_pairs(&cast);
        xm_scene_dying_threads(&cast);
        xm_scene_pipes(&cast);
        xm_scene_churn(&cast, "xm_churn_ucrt.dll", "xm_module_churn_ucrt", 400);
        xm_scene_churn(&cast, "xm_churn_msvcrt.dll", "xm_module_churn_msvcrt", 400);
    }
    give_exit_blocks();
    atexit(at_exit);
    exit(0);
}
