// A plugin in C++ of a program in C (cxx_host.c), which has no C++ runtime of its own: this one's
// comes with it, for it alone.
#include <cstddef>
#include <new>

struct own_failure {};
static int calls;
static void handler_throws() {
    calls++;
    throw own_failure();
}

// 0 = operator new does what the standard says; else the number of what it does not.
extern "C" __attribute__((visibility("default"))) int plugin_check(std::size_t impossible) {
    int failed = 1;
    try {
        (void)::operator new(impossible);
    } catch (const std::bad_alloc &) {
        failed = 0;
    }
    if (failed != 0)
        return failed;
    std::set_new_handler(handler_throws);
    failed = 2;
    try {
        (void)::operator new(impossible, std::align_val_t(64));
    } catch (const own_failure &) {
        failed = (calls == 1 ? 0 : 3);
    }
    if (failed == 0 && (::operator new(impossible, std::nothrow) != nullptr || calls != 2))
        failed = 4;
    if (failed == 0 &&
        (::operator new[](impossible, std::align_val_t(64), std::nothrow) != nullptr || calls != 3))
        failed = 5;
    std::set_new_handler(nullptr);
    return failed;
}
