// The failures of the functions that C++'s operator new is made of, over the same table as
// test_contract.c: sizes that nobody has, products that overflow, alignments that are none, with
// and without a new-handler, one that helps, one that gives up and one that throws. What throws
// leaves the block that it should have resized as it was.
//
// Built with MI_OS_FAULTS: each of them while the n-th call of the operating system fails, for
// every n, and with a handler that makes memory available again.
#include "api_test.h"
#include "contract.h"
#include <new>
#include <pthread.h>
#ifndef MI_OS_FAULTS
#    define MI_OS_FAULTS 0
#endif
#if MI_OS_FAULTS
extern "C" {
void mi_os_fail_nth(long n);
}
#    include <sys/wait.h>
#    include <unistd.h>
#endif

static int handler_calls;
[[maybe_unused]] static void handler_gives_up() {
    if (++handler_calls == 3)
        std::set_new_handler(nullptr);
}
// Counted, since an exception that is caught is also destroyed, and a frame that it leaves too.
static int objects;
struct counted {
    counted() {
        objects++;
    }
    counted(const counted &) {
        objects++;
    }
    ~counted() {
        objects--;
    }
};
struct own_failure : counted {};
[[maybe_unused]] static void handler_throws() {
    counted held;
    handler_calls++;
    throw own_failure();
}

static bool has(const row_t &r, unsigned flag) {
    return (r.flags & flag) != 0;
}

static bool is_nothrow(const row_t &r) {
    return strstr(r.name, "nothrow") != nullptr;
}

static args_t args_of(size_t size) {
    args_t a = {};
    a.size = size;
    a.count = 1;
    a.align = 64;
    a.heap = mi_heap_main();
    return a;
}

enum outcome { GOOD, NOTHING, BAD_ALLOC, OWN };

static outcome outcome_of(const row_t &r, args_t *a, void **p) {
    *p = nullptr;
    try {
        *p = r.call(a);
    } catch (const std::bad_alloc &) {
        return BAD_ALLOC;
    } catch (const own_failure &) {
        return OWN;
    }
    return *p != nullptr ? GOOD : NOTHING;
}

#if !MI_OS_FAULTS
// is_curable: the handler is asked.
static void check_refused(const row_t &r, args_t a, bool is_curable) {
    const outcome expected = (is_nothrow(r) ? NOTHING : BAD_ALLOC);
    void *p;
    if (has(r, RESIZES)) {
        a.p = mi_malloc(100);
        fill(a.p, 100);
    }
    std::set_new_handler(nullptr);
    errno = 0;
    CHECK_MSG(outcome_of(r, &a, &p) == expected, "%s(%zu, %zu, %zu)", r.name, a.count, a.size,
              a.align);
    if (is_curable)
        CHECK_MSG(errno == ENOMEM, "%s: errno %d", r.name, errno);
    handler_calls = 0;
    std::set_new_handler(handler_gives_up);
    CHECK_MSG(outcome_of(r, &a, &p) == expected && handler_calls == (is_curable ? 3 : 0),
              "%s(%zu, %zu, %zu): %d calls of the handler", r.name, a.count, a.size, a.align,
              handler_calls);
    handler_calls = 0;
    objects = 0;
    std::set_new_handler(handler_throws);
    CHECK_MSG(outcome_of(r, &a, &p) == (is_nothrow(r) ? NOTHING
                                        : is_curable  ? OWN
                                                      : BAD_ALLOC),
              "%s", r.name);
    CHECK_MSG(handler_calls == (is_curable ? 1 : 0), "%s", r.name);
    CHECK_MSG(objects == 0, "%s: what the handler threw, or held, is still there", r.name);
    std::set_new_handler(nullptr);
    CHECK_MSG(a.p == nullptr || is_filled(a.p, 100), "%s: the block is lost", r.name);
    mi_free(a.p);
}

// A thread that ends itself in a new-handler ends, though nothing that is thrown there gets out.
static void handler_ends_thread() {
    pthread_exit(&handler_calls);
}

static void *new_nothrow(void *arg) {
    return mi_new_nothrow(opaque(SIZE_MAX / 4)) != nullptr ? nullptr : arg;
}

static void check_thread_end() {
    pthread_t thread;
    void *result = nullptr;
    int other = 0;
    std::set_new_handler(handler_ends_thread);
    CHECK(pthread_create(&thread, nullptr, new_nothrow, &other) == 0 &&
          pthread_join(thread, &result) == 0);
    std::set_new_handler(nullptr);
    CHECK(result == &handler_calls);
}

int main() {
    check_thread_end();
    int count = 0;
    for (const row_t &r : rows) {
        if (!has(r, THROWS) && !is_nothrow(r))
            continue;
        count++;
        for (size_t size : impossible_sizes) // SIZE_MAX stands for a product that overflowed
            check_refused(r, args_of(opaque(size)),
                          size != SIZE_MAX || strcmp(r.name, "mi_new") == 0 ||
                              strcmp(r.name, "mi_new_nothrow") == 0);
        for (const auto &o : overflowing)
            if (has(r, HAS_COUNT)) {
                args_t a = args_of(opaque(o.size));
                a.count = opaque(o.count);
                check_refused(r, a, false);
            }
        static const size_t aligns[] = {0, 3, 24, SIZE_MAX};
        for (size_t align : aligns)
            if (has(r, HAS_ALIGN)) {
                args_t a = args_of(100);
                a.align = opaque(align);
                check_refused(r, a, false);
            }
    }
    CHECK_MSG(count == 9, "%d functions", count);
    return test_result();
}
#else
static void handler_helps() {
    handler_calls++;
    mi_os_fail_nth(0);
}

// 0 = sound, 1 = broken, 2 = sound, and it had failed.
static int child(const row_t &r, size_t size, long n, bool has_help) {
    args_t a = args_of(size);
    void *p;
    a.p = (has(r, RESIZES) ? mi_malloc(100) : nullptr);
    if (a.p != nullptr)
        fill(a.p, 100);
    std::set_new_handler(has_help ? handler_helps : nullptr);
    mi_os_fail_nth(n);
    const outcome o = outcome_of(r, &a, &p);
    mi_os_fail_nth(0);
    if (o == GOOD) {
        if (mi_usable_size(p) < size || (a.p != nullptr && !is_filled(p, 100)))
            return 1;
        mi_free(p);
        return handler_calls > 0 ? 2 : 0;
    }
    if (has_help || o != (is_nothrow(r) ? NOTHING : BAD_ALLOC) ||
        (a.p != nullptr && !is_filled(a.p, 100)))
        return 1;
    return outcome_of(r, &a, &p) == GOOD ? 2 : 1; // memory is there again
}

int main() {
    static const size_t sizes[] = {100, 100000, 100000000};
    int failures = 0;
    for (const row_t &r : rows)
        for (size_t i = 0; i < 6 && (has(r, THROWS) || is_nothrow(r)); i++) {
            int status = 0x200;
            for (long n = 1; n < 30 && status == 0x200; n++) {
                const pid_t pid = fork();
                if (pid == 0)
                    _exit(child(r, sizes[i / 2], n, i % 2 != 0));
                CHECK(waitpid(pid, &status, 0) == pid);
                CHECK_MSG(status == 0 || status == 0x200, "%s(%zu), call %ld failed: status %x",
                          r.name, sizes[i / 2], n, (unsigned)status);
                failures += (status == 0x200);
            }
            CHECK_MSG(status == 0, "%s(%zu) calls the system too often", r.name, sizes[i / 2]);
        }
    CHECK_MSG(failures > 40, "only %d failures", failures);
    return test_result();
}
#endif
