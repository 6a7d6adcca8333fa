// A program in C, linked with libmimalloc.so, that loads a plugin in C++ for itself alone: when
// memory is short the operators must find the C++ runtime that came with the plugin.
#include "api_test.h"

#include <dlfcn.h>

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    CHECK(dlsym(RTLD_DEFAULT, "_ZSt15get_new_handlerv") == NULL); // or this test shows nothing
    void *const plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    CHECK_MSG(plugin != NULL, "%s", dlerror());
    int (*const check)(size_t) =
        plugin == NULL ? NULL : (int (*)(size_t))dlsym(plugin, "plugin_check");
    CHECK(check != NULL);
    if (check != NULL) {
        const int failed = check(opaque(SIZE_MAX / 2 + 1));
        CHECK_MSG(failed == 0, "operator new: step %d", failed);
    }
    return test_result();
}
