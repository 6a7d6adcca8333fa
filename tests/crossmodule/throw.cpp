// C++ exceptions that go from thread to thread while new and delete are redirected: thrown and
// copied by one, kept by std::exception_ptr, thrown again and destroyed by another, in another
// order; what is in them, and std::bad_alloc of a new that cannot be met. Started by minject run.
#include "../test.h"

#include <windows.h>

#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

enum { THREADS = 12, ROUNDS = 8, THROWS = 60 };

using owns_t = bool (*)(const void *);
owns_t owns; // of the allocator

struct load_t {
    std::vector<std::string> rows;
    std::string text;
    explicit load_t(int n) : rows(40, std::string(100, 'x')), text(1000, char('a' + n % 26)) {
    }
};

std::exception_ptr kept[THREADS];
volatile LONG bad;

void note(bool fact) {
    if (!fact)
        InterlockedIncrement(&bad);
}

void fail(int n, int kind) {
    if (kind == 0)
        throw load_t(n);
    if (kind == 1)
        throw std::runtime_error(std::string(500, 'r'));
    (void)std::vector<int>(3).at(size_t(n) + 5);
}

DWORD WINAPI thrower(void *arg) {
    const int n = int(reinterpret_cast<intptr_t>(arg));
    for (int i = 0; i < THROWS; i++) {
        try {
            fail(n, i % 3);
            note(false);
        } catch (const std::exception &e) {
            note(std::string(e.what()).size() > 5);
            kept[n] = std::current_exception();
        } catch (...) {
            kept[n] = std::current_exception();
        }
    }
    try {
        volatile size_t huge = SIZE_MAX / 2;
        note(::operator new(huge) == nullptr && false);
    } catch (const std::bad_alloc &) {
    }
    try {
        throw load_t(n);
    } catch (...) {
        kept[n] = std::current_exception();
    }
    return 0;
}

// Another thread's exception: its contents are whole, and ours.
void take(int n) {
    try {
        std::rethrow_exception(kept[n]);
    } catch (const load_t &load) {
        note(load.text == std::string(1000, char('a' + n % 26)) && load.rows.size() == 40);
        note(load.rows[39] == std::string(100, 'x'));
        note(owns(&load) && owns(load.text.data()) && owns(load.rows.data()));
    } catch (...) {
        note(false);
    }
    kept[n] = nullptr;
}

} // namespace

int main() {
    const HMODULE allocator = GetModuleHandleA("mimalloc.dll");
    owns = reinterpret_cast<owns_t>(
        reinterpret_cast<void *>(GetProcAddress(allocator, "mi_is_in_heap_region")));
    CHECK(owns != nullptr);
    for (int round = 0; round < ROUNDS && owns != nullptr; round++) {
        HANDLE threads[THREADS];
        for (int n = 0; n < THREADS; n++)
            threads[n] = CreateThread(nullptr, 0, thrower, reinterpret_cast<void *>(intptr_t(n)), 0,
                                      nullptr);
        WaitForMultipleObjects(THREADS, threads, TRUE, INFINITE);
        for (int n = THREADS - 1; n >= 0; n--) {
            CloseHandle(threads[n]);
            take(n);
        }
    }
    CHECK(bad == 0);
    return test_result();
}
