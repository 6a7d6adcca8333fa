// Windows: memory that the system refuses is asked for again, for as long as retry_on_oom says, and
// no longer. Built from the OS layer with the hook that fails its calls.
#include "../test.h"
#include "os/os.h"

#include <windows.h>

enum { BYTES = 64 * 1024, TRIES = 4 };

// Lets the call go through once it was tried often enough.
static DWORD WINAPI relent(LPVOID arg) {
    (void)arg;
    while (mi_os_fail_calls() < TRIES)
        SwitchToThread();
    mi_os_fail_nth(0);
    return 0;
}

int main(void) {
    bool is_zero = false;
    uint8_t *const p = (uint8_t *)mi_os_reserve(BYTES, BYTES);
    CHECK(p != NULL);
    // Not at all, as long as nobody has asked for it.
    mi_os_fail_nth(1);
    SetLastError(77);
    CHECK(mi_os_commit(p, BYTES, &is_zero) != 0);
    CHECK_MSG(mi_os_fail_calls() == 1, "%ld tries", mi_os_fail_calls());
    CHECK(GetLastError() == 77);
    // For so long, and then it fails.
    mi_os_set_commit_retry(20);
    mi_os_fail_nth(1);
    const ULONGLONG before = GetTickCount64();
    CHECK(mi_os_commit(p, BYTES, &is_zero) != 0);
    CHECK_MSG(mi_os_fail_calls() > 1, "%ld tries", mi_os_fail_calls());
    CHECK(GetTickCount64() - before >= 20 && GetLastError() == 77);
    // Then not again, until something could be committed.
    mi_os_set_commit_retry(600000);
    mi_os_fail_nth(1);
    CHECK(mi_os_commit(p, BYTES, &is_zero) != 0);
    CHECK_MSG(mi_os_fail_calls() == 1, "%ld tries", mi_os_fail_calls());
    mi_os_fail_nth(0);
    bool is_committed = false;
    CHECK(mi_os_commit(p, BYTES, &is_zero) == 0 && mi_os_purge(p, BYTES, &is_committed) == 0);
    // It is had as soon as the system has some.
    mi_os_set_commit_retry(600000);
    mi_os_fail_nth(1);
    HANDLE helper = CreateThread(NULL, 0, relent, NULL, 0, NULL);
    CHECK(helper != NULL);
    CHECK(mi_os_commit(p, BYTES, &is_zero) == 0);
    CHECK(is_zero);
    p[0] = 1;
    p[BYTES - 1] = 1;
    WaitForSingleObject(helper, INFINITE);
    // What is no want of memory is not tried again: nothing is reserved there.
    mi_os_fail_nth(0);
    CHECK(mi_os_release(p, BYTES) == 0);
    mi_os_set_commit_retry(600000);
    CHECK(mi_os_commit(p, BYTES, &is_zero) != 0);
    CHECK_MSG(mi_os_fail_calls() <= 2, "%ld calls", mi_os_fail_calls());
    return test_result();
}
