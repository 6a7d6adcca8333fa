// Linux: the contract of os.h over mmap, madvise and mremap. Reservations are private anonymous
// mappings that the kernel fills with zero pages at the first touch, so reserving is committing.
// State: a few facts asked once, and the registered hooks; all of it is safe to set twice by two
// threads. Called from any thread.
#define _GNU_SOURCE 1
#include "os/os.h"

#include "base/atomic.h"
#include "base/text.h"
#include "os/os_atfork_linux.h"
#include "os/os_thread.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#    define MREMAP_DONTUNMAP 4
#endif
#ifndef MAP_HUGE_SHIFT
#    define MAP_HUGE_SHIFT 26
#endif
#define OS_HUGE_1GIB_LOG2 30

static _Atomic(size_t) os_page;       // 0 = not asked yet
static _Atomic(uint64_t) os_start_ms; // the clock at the first process_info
static _Atomic(long) os_fail_at;      // fault test: calls left until the first failure, 0 = none
static _Atomic(long) os_fail_count;   // fault test: calls seen
static pthread_key_t os_exit_key;     // its destructor is the thread exit hook
static _Atomic(bool) os_exit_key_ready;
static void (*os_exit_hook)(void);
static _Atomic(uint32_t) os_exit_running; // threads that are in the hook

void mi_os_fail_nth(long n) {
    mi_store_relaxed(&os_fail_count, 0);
    mi_store_relaxed(&os_fail_at, n);
}

long mi_os_fail_calls(void) {
    return mi_load_relaxed(&os_fail_count);
}

static bool os_call_fails(void) {
    if (!MI_OS_FAULTS)
        return false;
    const long count = mi_fetch_add_relaxed(&os_fail_count, 1) + 1;
    const long at = mi_load_relaxed(&os_fail_at);
    return at > 0 && count >= at;
}

size_t mi_os_page_bytes(void) {
    if (MI_ARCH_X64 || MI_ARCH_X86)
        return 4096;
    size_t bytes = mi_load_relaxed(&os_page);
    if (bytes == 0) {
        bytes = (size_t)sysconf(_SC_PAGESIZE);
        mi_store_relaxed(&os_page, bytes);
    }
    return bytes;
}

bool mi_os_needs_commit(void) {
    return false;
}

size_t mi_os_physical_bytes(void) {
    const long pages = sysconf(_SC_PHYS_PAGES);
    return pages > 0 ? (size_t)pages * mi_os_page_bytes() : 0;
}

size_t mi_os_processor_count(void) {
    cpu_set_t set;
    const int saved = errno;
    const bool known = (sched_getaffinity(0, sizeof(set), &set) == 0);
    errno = saved;
    return known && CPU_COUNT(&set) > 0 ? (size_t)CPU_COUNT(&set) : 1;
}

static void *os_map(uintptr_t hint, size_t bytes) {
    const int saved = errno;
    void *const p = mmap((void *)hint, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    errno = saved;
    return p == MAP_FAILED ? NULL : p;
}

static int os_unmap(void *p, size_t bytes) {
    const int saved = errno;
    const int rc = munmap(p, bytes);
    errno = saved;
    return rc;
}

void *mi_os_reserve(size_t bytes, size_t align) {
    return mi_os_reserve_at(0, bytes, align);
}

void *mi_os_reserve_at(uintptr_t address, size_t bytes, size_t align) {
    size_t wide;
    if (os_call_fails() || !mi_add_ok(bytes, align - mi_os_page_bytes(), &wide))
        return NULL;
    uint8_t *const p = (uint8_t *)os_map(address, wide);
    if (p == NULL)
        return NULL;
    uint8_t *const start = (uint8_t *)mi_align_up((uintptr_t)p, align);
    if (start > p)
        os_unmap(p, (size_t)(start - p));
    if (start + bytes < p + wide)
        os_unmap(start + bytes, (size_t)(p + wide - start) - bytes);
    return start;
}

int mi_os_release(void *p, size_t bytes) {
    return os_unmap(p, bytes);
}

void mi_os_set_commit_retry(uint32_t ms) {
    (void)ms; // nothing is committed here, hence nothing refused that might be had later
}

int mi_os_commit(void *p, size_t bytes, bool *is_zero) {
    (void)p;
    (void)bytes;
    *is_zero = false;
    return os_call_fails() ? -1 : 0;
}

static bool os_advise(void *p, size_t bytes, int advice) {
    const int saved = errno;
    const int rc = madvise(p, bytes, advice);
    errno = saved;
    return rc == 0;
}

int mi_os_populate(void *p, size_t bytes) {
#ifndef MADV_POPULATE_WRITE // since Linux 5.14
#    define MADV_POPULATE_WRITE 23
#endif
    return !os_call_fails() && os_advise(p, bytes, MADV_POPULATE_WRITE) ? 0 : -1;
}

int mi_os_purge(void *p, size_t bytes, bool *is_committed) {
    *is_committed = true;
    return !os_call_fails() && os_advise(p, bytes, MADV_DONTNEED) ? 0 : -1;
}

int mi_os_discard(void *p, size_t bytes) {
    bool is_committed;
    return mi_os_purge(p, bytes, &is_committed);
}

int mi_os_reset(void *p, size_t bytes) {
    return !os_call_fails() && os_advise(p, bytes, MADV_FREE) ? 0 : -1;
}

bool mi_os_is_mapped(const void *p) {
    unsigned char in_memory;
    const int saved = errno;
    uint8_t *const page = (uint8_t *)mi_align_down((uintptr_t)p, mi_os_page_bytes());
    const bool is_mapped = (mincore(page, 1, &in_memory) == 0 || errno != ENOMEM);
    errno = saved;
    return is_mapped;
}

size_t mi_os_resident(void *p, size_t bytes) {
    unsigned char in_memory[512];
    const size_t page = mi_os_page_bytes();
    const int saved = errno;
    size_t sum = 0;
    for (size_t at = 0; at < bytes; at += sizeof(in_memory) * page) {
        const size_t left = bytes - at;
        const size_t step = (left < sizeof(in_memory) * page ? left : sizeof(in_memory) * page);
        if (mincore((uint8_t *)p + at, step, in_memory) != 0) {
            errno = saved;
            return SIZE_MAX;
        }
        for (size_t i = 0; i < step / page; i++)
            sum += (in_memory[i] & 1 ? page : 0);
    }
    return sum;
}

static int os_set_access(void *p, size_t bytes, int access) {
    if (os_call_fails())
        return -1;
    const int saved = errno;
    const int rc = mprotect(p, bytes, access);
    errno = saved;
    return rc;
}

int mi_os_protect(void *p, size_t bytes) {
    return os_set_access(p, bytes, PROT_NONE);
}

int mi_os_unprotect(void *p, size_t bytes) {
    return os_set_access(p, bytes, PROT_READ | PROT_WRITE);
}

// ---- Guards
// ------------------------------------------------------------------------------------------------
// Linux 6.13 keeps guards in its page tables; before, each is a mapping of its own between two
// others, of which a process has 65530 as a rule: then a quarter of them is ours at most.
#ifndef MADV_GUARD_INSTALL
#    define MADV_GUARD_INSTALL 102
#    define MADV_GUARD_REMOVE  103
#endif
#define OS_GUARDS_MAX 8192

typedef enum guard_kind_e { GUARD_UNKNOWN, GUARD_LIGHT, GUARD_MAPPED } guard_kind_t;
static _Atomic(int) os_guard_kind; // guard_kind_t; settled by the first guard
static _Atomic(int) os_guard_count;

void mi_os_plain_guards(void) {
    mi_store_relaxed(&os_guard_kind, (int)GUARD_MAPPED);
}

int mi_os_guard(void *p, size_t bytes) {
    if (os_call_fails() || bytes % mi_os_page_bytes() != 0)
        return -1;
    int kind = mi_load_relaxed(&os_guard_kind);
    if (kind != GUARD_MAPPED) {
        const bool is_done = os_advise(p, bytes, MADV_GUARD_INSTALL);
        if (is_done || kind == GUARD_LIGHT) {
            if (kind == GUARD_UNKNOWN)
                mi_store_relaxed(&os_guard_kind, (int)GUARD_LIGHT);
            return is_done ? 0 : -1;
        }
        mi_store_relaxed(&os_guard_kind, (int)GUARD_MAPPED);
    }
    if (mi_fetch_add_relaxed(&os_guard_count, 1) >= OS_GUARDS_MAX ||
        os_set_access(p, bytes, PROT_NONE) != 0) {
        mi_fetch_sub_relaxed(&os_guard_count, 1);
        return -1;
    }
    return 0;
}

int mi_os_unguard(void *p, size_t bytes) {
    if (mi_load_relaxed(&os_guard_kind) == GUARD_LIGHT)
        return os_advise(p, bytes, MADV_GUARD_REMOVE) ? 0 : -1;
    const int rc = mi_os_unprotect(p, bytes);
    if (rc == 0)
        mi_fetch_sub_relaxed(&os_guard_count, 1);
    return rc;
}

static bool os_move(void *p, size_t old_bytes, size_t new_bytes, int flags, void *target) {
    const int saved = errno;
    void *const q = mremap(p, old_bytes, new_bytes, MREMAP_MAYMOVE | MREMAP_FIXED | flags, target);
    errno = saved;
    return q != MAP_FAILED;
}

// A source that stays takes two moves, since the kernel grows nothing while it keeps the source:
// first the page tables to a place of the old size, then from there to the final one.
int mi_os_remap(void *p, size_t old_bytes, void *target, size_t new_bytes, bool keep_source) {
    if (os_call_fails())
        return -1;
    if (!keep_source)
        return os_move(p, old_bytes, new_bytes, 0, target) ? 0 : -1;
    void *const between = os_map(0, old_bytes);
    if (between == NULL)
        return -1;
    if (!os_move(p, old_bytes, old_bytes, MREMAP_DONTUNMAP, between)) {
        os_unmap(between, old_bytes);
        return -1;
    }
    if (os_move(between, old_bytes, new_bytes, 0, target))
        return 0;
    if (!os_move(between, old_bytes, old_bytes, 0, p)) {
        mi_memcpy(p, between, old_bytes); // the source reads as zero meanwhile
        os_unmap(between, old_bytes);
    }
    return -1;
}

int mi_os_resize_in_place(void *p, size_t old_bytes, size_t new_bytes) {
    if (os_call_fails())
        return -1;
    const int saved = errno;
    void *const q = mremap(p, old_bytes, new_bytes, 0);
    errno = saved;
    return q == MAP_FAILED ? -1 : 0;
}

void mi_os_allow_huge_pages(void *p, size_t bytes, bool is_allowed) {
    const int saved = errno;
    (void)madvise(p, bytes, is_allowed ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    errno = saved;
}

void *mi_os_reserve_huge_pages(size_t bytes, int numa_node) {
    if (os_call_fails())
        return NULL;
    const int saved = errno;
    void *const p = mmap(
        NULL, bytes, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (OS_HUGE_1GIB_LOG2 << MAP_HUGE_SHIFT), -1, 0);
    if (p != MAP_FAILED && numa_node >= 0 && numa_node < 64) {
        const unsigned long mask = 1ul << numa_node;
        (void)syscall(SYS_mbind, p, bytes, 1 /* preferred */, &mask, sizeof(mask) * 8, 0);
    }
    errno = saved;
    return p == MAP_FAILED ? NULL : p;
}

size_t mi_os_numa_node_count(void) {
    size_t count = 1;
    const int saved = errno;
    char path[] = "/sys/devices/system/node/node0";
    while (count < 10) {
        path[sizeof(path) - 2] = (char)('0' + count);
        if (access(path, F_OK) != 0)
            break;
        count++;
    }
    errno = saved;
    return count;
}

size_t mi_os_numa_node(void) {
    unsigned cpu = 0;
    unsigned node = 0;
    const int saved = errno;
    const long rc = syscall(SYS_getcpu, &cpu, &node, NULL);
    errno = saved;
    return rc == 0 ? node : 0;
}

uint64_t mi_os_random(void) {
    uint64_t x = 0;
    const int saved = errno;
    if (getrandom(&x, sizeof(x), GRND_NONBLOCK) != (ssize_t)sizeof(x)) {
        x = mi_os_clock_ns() ^ (uint64_t)(uintptr_t)&x ^ ((uint64_t)(uintptr_t)&os_page << 16);
        x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCDull;
        x ^= x >> 33;
    }
    errno = saved;
    return x;
}

void mi_os_yield(void) {
    sched_yield();
}

uintptr_t mi_os_thread_id(void) {
    return (uintptr_t)pthread_self();
}

bool mi_os_thread_is_alive(uintptr_t id) {
    (void)id; // its end is told, however it comes
    return true;
}

bool mi_os_is_exiting(void) {
    return false; // no thread is killed before the process is gone
}

static void os_thread_exit(void *value) {
    (void)value;
    mi_fetch_add_acq_rel(&os_exit_running, 1);
    os_exit_hook();
    mi_fetch_sub_acq_rel(&os_exit_running, 1); // with the acquire in mi_os_threads_forget
}

int mi_os_on_thread_exit(void (*on_exit)(void)) {
    os_exit_hook = on_exit;
    if (pthread_key_create(&os_exit_key, os_thread_exit) != 0)
        return -1;
    mi_store_release(&os_exit_key_ready, true); // with the acquire in mi_os_thread_watch
    return 0;
}

void mi_os_thread_watch(void) {
    if (mi_load_acquire(&os_exit_key_ready)) // with the release in mi_os_on_thread_exit
        (void)pthread_setspecific(os_exit_key, &os_exit_key);
}

// A thread that has read the key's destructor from the C library and not yet made its first step in
// it cannot be seen: that would take a lock of the C library's.
void mi_os_threads_forget(void) {
    if (!mi_load_acquire(&os_exit_key_ready)) // with the release in mi_os_on_thread_exit
        return;
    mi_store_relaxed(&os_exit_key_ready, false);
    (void)pthread_key_delete(os_exit_key);
    while (mi_load_acquire(&os_exit_running) != 0) // with the end of os_thread_exit
        mi_os_yield();
}

// ---- Fork
// -------------------------------------------------------------------------------------------------
// Handlers that were registered first run last before a fork and first after it. Ours must be
// those: other libraries take locks of theirs in such handlers, and their threads allocate while
// they hold them.
//
// To register them brings 128 KiB of glibc into a process. In libmimalloc.so they are registered at
// the last moment (os_atfork_linux.c): before anybody else's, and before a lock is taken while the
// process has several threads. Until then no thread can be in a lock when another one forks. Nor
// can a fork have begun without them and see a lock taken: it has no handlers of others to run
// either, and glibc registers none during the rest of it.
//
// Threads that find them missing at the same time all register them, so handlers of one fork nest.
static struct {
    void (*_Atomic prepare)(void); // stored last; NULL = not known yet, and nothing to be done
    void (*parent)(void);
    void (*child)(void);
    uintptr_t first_thread;
    _Atomic(uintptr_t) forking; // the thread that is between prepare and parent; 0 = none
    uint32_t depth;             // of its handlers, which hold all locks
} os_fork;
_Atomic(bool) mi_os_fork_is_ready;

static void os_fork_prepare(void) {
    const uintptr_t self = mi_os_thread_id();
    if (mi_load_relaxed(&os_fork.forking) != self) {                     // nobody else stores this
        void (*const prepare)(void) = mi_load_acquire(&os_fork.prepare); // with mi_os_on_fork
        if (prepare == NULL)
            return;
        prepare();
        mi_store_relaxed(&os_fork.forking, self);
    }
    os_fork.depth++;
}

static bool os_fork_is_over(void) {
    if (mi_load_relaxed(&os_fork.forking) != mi_os_thread_id() || --os_fork.depth != 0)
        return false;
    mi_store_relaxed(&os_fork.forking, (uintptr_t)0);
    return true;
}

static void os_fork_parent(void) {
    if (os_fork_is_over())
        os_fork.parent();
}

// Only the thread that forked is in the child, and it is in no hook.
static void os_fork_child(void) {
    if (!os_fork_is_over())
        return;
    mi_store_relaxed(&os_exit_running, 0u);
    os_fork.child();
}

// The C library forgets the handlers of a library that is unloaded by itself. With glibc the
// function that pthread_atfork is made of is called: pthread_atfork is linked in behind all our
// code, and its first use would map 64 KiB of that.
#ifdef __GLIBC__
extern void *__dso_handle MI_HIDDEN;
extern char __libc_single_threaded __attribute__((weak)); // since glibc 2.32

static int os_fork_register(void) {
    mi_os_atfork_t *const atfork =
        (&mi_os_atfork_next != NULL ? mi_os_atfork_next : __register_atfork);
    return atfork(os_fork_prepare, os_fork_parent, os_fork_child, &__dso_handle);
}

// Others' handlers come to us first, if we are where names are looked up before the C library.
static bool os_fork_has_time(void) {
    return &mi_os_atfork_own != NULL && &__register_atfork == &mi_os_atfork_own &&
           &__libc_single_threaded != NULL && __libc_single_threaded != 0 &&
           mi_os_thread_id() == os_fork.first_thread;
}
#else
static int os_fork_register(void) {
    return pthread_atfork(os_fork_prepare, os_fork_parent, os_fork_child);
}

static bool os_fork_has_time(void) {
    return false;
}
#endif

// It may allocate, hence take locks.
static void os_fork_get_ready(void) {
    if (mi_thread_is_registering)
        return;
    mi_thread_is_registering = true;
    const int saved = errno;
    (void)os_fork_register();
    errno = saved;
    mi_thread_is_registering = false;
    mi_store_relaxed(&mi_os_fork_is_ready, true);
}

void mi_os_fork_before_others(void) {
    if (!mi_load_relaxed(&mi_os_fork_is_ready))
        os_fork_get_ready();
}

void mi_os_fork_make_ready(void) {
    if (mi_load_acquire(&os_fork.prepare) != NULL && !os_fork_has_time()) // with mi_os_on_fork
        os_fork_get_ready();
}

int mi_os_on_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    os_fork.parent = parent;
    os_fork.child = child;
    os_fork.first_thread = mi_os_thread_id();
    mi_store_release(&os_fork.prepare, prepare); // with the acquires above
    mi_os_fork_ready();
    return 0;
}

bool mi_os_env(const char *name, char *buf, size_t cap) {
    const char *const value = secure_getenv(name);
    if (value == NULL)
        return false;
    for (size_t i = 0; i < cap; i++) {
        buf[i] = value[i];
        if (value[i] == 0)
            return true;
    }
    return false;
}

bool mi_os_env_may_have_ours(void) {
    for (char **at = environ; at != NULL && *at != NULL; at++)
        if (mi_str_starts(*at, "MI_") || mi_str_starts(*at, "MIMALLOC_"))
            return true;
    return false;
}

static int os_write_all(int fd, const char *text, size_t bytes) {
    while (bytes > 0) {
        const ssize_t n = write(fd, text, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        text += n;
        bytes -= (size_t)n;
    }
    return 0;
}

void mi_os_write_stderr(const char *text, size_t bytes) {
    const int saved = errno;
    (void)os_write_all(STDERR_FILENO, text, bytes);
    errno = saved;
}

int mi_os_append_file(const char *path, const char *text, size_t bytes) {
    const int saved = errno;
    int rc = -1;
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd >= 0) {
        rc = os_write_all(fd, text, bytes);
        close(fd);
    }
    errno = saved;
    return rc;
}

// The second number of /proc/self/statm: resident pages.
static size_t os_resident_bytes(void) {
    char text[128];
    const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    const ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *p = text;
    while (*p != 0 && *p != ' ')
        p++;
    size_t pages = 0;
    for (p += (*p == ' '); *p >= '0' && *p <= '9'; p++)
        pages = pages * 10 + (size_t)(*p - '0');
    return pages * mi_os_page_bytes();
}

void mi_os_process_info(mi_os_process_info_t *info) {
    const int saved = errno;
    struct rusage usage;
    mi_memzero(info, sizeof(*info));
    uint64_t start = 0;
    const uint64_t now = mi_os_clock_ms();
    if (mi_cas_strong_relaxed(&os_start_ms, &start, now))
        start = now;
    info->elapsed_ms = now - start;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        info->user_ms =
            (uint64_t)usage.ru_utime.tv_sec * 1000 + (uint64_t)usage.ru_utime.tv_usec / 1000;
        info->system_ms =
            (uint64_t)usage.ru_stime.tv_sec * 1000 + (uint64_t)usage.ru_stime.tv_usec / 1000;
        info->peak_rss = (size_t)usage.ru_maxrss * MI_KiB;
        info->page_faults = (size_t)usage.ru_majflt;
    }
    info->current_rss = os_resident_bytes();
    errno = saved;
}
