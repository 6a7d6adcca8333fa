// The contract between the allocator and an operating system. os_linux.c and os_windows.c fulfil
// it; nothing else in the allocator includes a system header. Every function may be called from any
// thread, at any time: before any initialisation, inside the loader lock, in a signal-free TLS
// destructor, after our own detach. None of them allocates from our heap, none changes errno (or
// the last error), none waits for a lock of ours. Results: int, 0 = good; or a pointer, NULL =
// none. All addresses and sizes are multiples of the OS page.
#ifndef MI_OS_OS_H
#define MI_OS_OS_H

#include "base/base.h"

// Facts that never change after the first call; cheap to ask.
size_t mi_os_page_bytes(void);      // 4096, 16384, ...
bool mi_os_needs_commit(void);      // false: reserved memory is usable at once (Linux)
size_t mi_os_physical_bytes(void);  // 0 = unknown
size_t mi_os_processor_count(void); // >= 1

// ---- Address space
// -----------------------------------------------------------------------------------------
// Reserves bytes of fresh address space at a multiple of align (a power of two >= the OS page).
// Where mi_os_needs_commit() is false it is readable, writable and zero; else mi_os_commit must
// come first.
void *mi_os_reserve(size_t bytes, size_t align);
// The same at that address when it is free, else anywhere.
void *mi_os_reserve_at(uintptr_t address, size_t bytes, size_t align);
// Gives a whole reservation back. p and bytes are those of mi_os_reserve (or of the last resize).
int mi_os_release(void *p, size_t bytes);
// Makes a part of a reservation usable. *is_zero: it reads as zero (always so when it was not
// committed).
int mi_os_commit(void *p, size_t bytes, bool *is_zero);
// How long a commit that is refused for want of memory is tried again (Windows); 0, at first: not
// at all.
void mi_os_set_commit_retry(uint32_t ms);
// Brings whole OS pages of a usable range into memory at once, as if each had been written to, and
// leaves what is in them as it is. Not 0 = not possible here, and some of them may be there.
int mi_os_populate(void *p, size_t bytes);
// Gives the memory of a part back, keeps the addresses. *is_committed: still usable and now zero
// (Linux); false: it must be committed again before use (Windows).
int mi_os_purge(void *p, size_t bytes, bool *is_committed);
// Tells the OS that the content is not needed: it takes the memory back when it is short of it, and
// what is there then is the content or zero. The range stays usable.
int mi_os_reset(void *p, size_t bytes);
// The same, but the memory goes back at once.
int mi_os_discard(void *p, size_t bytes);
// Is anything mapped, or reserved, at this address?
bool mi_os_is_mapped(const void *p);
// Bytes of the range that are in memory now, SIZE_MAX = unknown. A few microseconds for a MiB.
size_t mi_os_resident(void *p, size_t bytes);
// No access at all (a guard page), and the way back.
int mi_os_protect(void *p, size_t bytes);
int mi_os_unprotect(void *p, size_t bytes);
// The same for the guards between blocks, of which there may be very many: 0 = done. Where each one
// costs the system a mapping, only so many are to be had. What was in a guard is lost or not.
int mi_os_guard(void *p, size_t bytes);
int mi_os_unguard(void *p, size_t bytes);
// Moves the memory of [p, p+old_bytes) without copying it to the begin of target, a whole
// reservation of new_bytes that holds nothing yet. keep_source: p stays reserved and becomes zero;
// else p, a whole reservation, is gone. Not 0 = not possible here, nothing happened: copy instead
// (always so on Windows).
int mi_os_remap(void *p, size_t old_bytes, void *target, size_t new_bytes, bool keep_source);
// Grows or shrinks a whole reservation where it stands. 0 = done.
int mi_os_resize_in_place(void *p, size_t old_bytes, size_t new_bytes);
// Whether the kernel may back the range with huge pages by itself (false keeps small programs
// small).
void mi_os_allow_huge_pages(void *p, size_t bytes, bool is_allowed);
// Explicit huge pages (1 GiB or 2 MiB), pinned: bytes is a multiple of 1 GiB. NULL = none to be
// had.
void *mi_os_reserve_huge_pages(size_t bytes, int numa_node);
size_t mi_os_numa_node_count(void); // >= 1
size_t mi_os_numa_node(void);       // of the calling thread

// ---- Time, randomness, scheduling
// --------------------------------------------------------------------------
uint64_t mi_os_clock_ms(void); // monotonic, coarse (up to 16 ms), a few ns per call
uint64_t mi_os_clock_ns(void); // monotonic, fine
uint64_t
mi_os_random(void);     // unpredictable to an attacker as far as this system allows; may be slow
void mi_os_yield(void); // lets another thread run, for locks that spin

// ---- Threads and the process
// -------------------------------------------------------------------------------
uintptr_t mi_os_thread_id(void); // not 0, unique among living threads
// false: a thread with this id is certainly gone. Where the system tells of every end: true.
bool mi_os_thread_is_alive(uintptr_t id);
bool mi_os_is_exiting(
    void); // the process is ending: other threads may have been killed holding locks
// Registers on_exit, called once on each thread that called mi_os_thread_watch, when that thread
// ends. On Windows both do nothing: DllMain tells about thread exits.
int mi_os_on_thread_exit(void (*on_exit)(void));
void mi_os_thread_watch(void);
// The code of this library is about to go: no thread's end is told any more, and what runs of
// on_exit has run. Windows: the threads' slot is free for others. Nobody allocates any more.
void mi_os_threads_forget(void);
// Calls around fork(): prepare before it, parent and child after it. Windows: does nothing. They
// are registered before anybody else's; where that can be known in time, not before somebody is
// about to take a lock and the process has more than one thread (os_thread.h).
int mi_os_on_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void));

// ---- Environment, messages, facts for the statistics
// ------------------------------------------------------- Copies the variable into buf,
// NUL-terminated. false: not set, does not fit, or the process is privileged (set-uid, raised by
// UAC) and its environment is not to be trusted.
bool mi_os_env(const char *name, char *buf, size_t cap);
// Whether there may be a variable whose name begins with MI_ or MIMALLOC_: one look at all of them,
// for a caller that would else ask for many.
bool mi_os_env_may_have_ours(void);
void mi_os_write_stderr(const char *text,
                        size_t bytes); // raw, unbuffered; Windows: also the debugger
int mi_os_append_file(const char *path, const char *text,
                      size_t bytes); // creates it when it is missing

typedef struct mi_os_process_info_s {
    uint64_t elapsed_ms;   // since our first call
    uint64_t user_ms;      // CPU time
    uint64_t system_ms;    // CPU time
    size_t current_rss;    // bytes
    size_t peak_rss;       // bytes
    size_t current_commit; // bytes, 0 = unknown
    size_t peak_commit;    // bytes, 0 = unknown
    size_t page_faults;    // that needed the disk
} mi_os_process_info_t;
void mi_os_process_info(mi_os_process_info_t *info);

// ---- Test hook
// ---------------------------------------------------------------------------------------------
// Built with MI_OS_FAULTS=1 only: the nth call from now (1 = the next) of reserve, commit, purge,
// protect, unprotect, remap or resize fails, and so do all after it until the hook is set again; 0
// = none fails.
#ifndef MI_OS_FAULTS
#    define MI_OS_FAULTS 0
#endif
void mi_os_fail_nth(long n);
void mi_os_plain_guards(void); // Linux: as on a kernel that has no light ones; before the first
long mi_os_fail_calls(void);   // calls counted since mi_os_fail_nth

// ---- Memory operations
// ------------------------------------------------------------------------------------- The
// compiler turns them into plain moves or into calls of memcpy and friends, which libc or ntdll
// exports.
MI_INLINE void mi_memcpy(void *to, const void *from, size_t bytes) {
    __builtin_memcpy(to, from, bytes);
}
MI_INLINE void mi_memmove(void *to, const void *from, size_t bytes) {
    __builtin_memmove(to, from, bytes);
}
MI_INLINE void mi_memset(void *to, int value, size_t bytes) {
    __builtin_memset(to, value, bytes);
}
MI_INLINE void mi_memzero(void *to, size_t bytes) {
    __builtin_memset(to, 0, bytes);
}

#endif
