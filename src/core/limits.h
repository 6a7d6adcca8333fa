// The numbers that decide when rare things happen, in one place. MI_SHRUNK=1 (tests only) makes
// them tiny, so that far page maps, full arenas, evictions and forced purges happen all the time.
#ifndef MI_CORE_LIMITS_H
#define MI_CORE_LIMITS_H

#include "base/base.h"

#ifndef MI_SHRUNK
#    define MI_SHRUNK 0
#endif
#define MI_IS_64BIT                        (sizeof(void *) == 8)
#define MI_LIMIT(usual, tiny)              (MI_SHRUNK ? (tiny) : (usual))
#define MI_LIMIT64(usual64, usual32, tiny) MI_LIMIT(MI_IS_64BIT ? (usual64) : (usual32), tiny)

// Arenas: the first one, and the size up to which they double.
#define MI_ARENA_MAX_COUNT   ((size_t)1024)
#define MI_ARENA_FIRST_BYTES MI_LIMIT64(64 * MI_MiB, 16 * MI_MiB, 8 * MI_MiB)
#define MI_ARENA_USUAL_BYTES MI_LIMIT64(1 * MI_GiB, 128 * MI_MiB, 8 * MI_MiB)
#define MI_ARENA_THP_BYTES                                                                         \
    (256 * MI_MiB) // from so much address space on the kernel may use huge pages
// Free memory that still waits for its purge: beyond this it is purged at once. The limit rises
// while purged memory turns out to be wanted again soon (a program that oscillates), and falls back
// when less waits (arena_waits.h).
#define MI_DIRTY_LIMIT     MI_LIMIT(24 * MI_MiB, 256 * MI_KiB)
#define MI_DIRTY_LIMIT_TOP MI_LIMIT64(1 * MI_GiB, 128 * MI_MiB, 1 * MI_MiB)
#define MI_REGRET_MS       200u
// It is also purged when so many slices of it are beyond the most that was ever in use, for a block
// with a span of its own that brings in more untouched slices than a page has (arena_take).
#define MI_EXCESS MI_LIMIT((size_t)16, (size_t)2)

// Pages.
// A larger page gets a reservation of its own.
#define MI_SPAN_MAX     MI_LIMIT64(256 * MI_MiB, 16 * MI_MiB, 4 * MI_MiB + 64 * MI_KiB)
#define MI_WIDE_MOST    MI_LIMIT((size_t)8, (size_t)6) // slices of a page with blocks above 4 KiB
#define MI_EXTEND_BYTES ((size_t)4096) // of blocks linked at once: what one fault brings in anyway
// Where page faults are slow, a thread heap of so many pages has small blocks' memory brought in
// ahead of their first use: by a quarter of a slice, later by slices.
#define MI_AHEAD_PAGES MI_LIMIT(64u, 2u)
#define MI_AHEAD_LOOKS 4u                // page faults that are timed
#define MI_BATCH_BYTES ((size_t)4096)    // remote frees of one page that a thread holds back ...
#define MI_BATCH_MAX   MI_LIMIT(32u, 3u) // ... and their number
#define MI_BATCH_SLOTS MI_LIMIT(32u, 2u) // pages for which it does so

// Guests: blocks of other threads that a thread keeps for itself, by class (guest.h).
#define MI_GUEST_BLOCK_MAX   ((size_t)32 * 1024) // the largest
#define MI_GUEST_SMALL_MAX   ((size_t)1024)      // above it four times as many bytes as below
#define MI_GUEST_FIRST_BYTES ((size_t)16 * 1024) // of one class at first ...
#define MI_GUEST_FIRST_COUNT MI_LIMIT(16u, 8u)   // ... twice as many with each use ...
#define MI_GUEST_TOP_BYTES   ((size_t)64 * 1024) // ... up to this
#define MI_GUEST_TOP_COUNT   MI_LIMIT(1024u, 16u)
#define MI_GUEST_LEAST       8u // of blocks up to MI_GUEST_LEAST_BYTES, before they serve again
#define MI_GUEST_LEAST_BYTES 128u

// Threads that sleep (sleep.h): thread heaps that are asked at a time whether one does, memory that
// goes back at a time, and the smallest block that is worth it.
#define MI_SLEEP_HEAPS 16u
#define MI_SLEEP_BYTES MI_LIMIT(64 * MI_MiB, 64 * MI_KiB)
#define MI_SLEEP_LEAST (8 * MI_KiB)

#define MI_FAR_TURNS MI_LIMIT(1024u, 16u) // frees between two looks at what was freed ...
#define MI_FAR_SHARE 16u                  // ... and the part of them that is many guests

// Thread heaps.
#define MI_EMPTY_MAX                                                                               \
    MI_LIMIT(512 * MI_KiB, 128 * MI_KiB)       // touched bytes of empty pages that a thread keeps
#define MI_EMPTY_SHARE MI_LIMIT(4 * MI_KiB, 0) // more of them for each page that it has ...
#define MI_EMPTY_TOP   (2 * MI_MiB)            // ... up to this, and a quarter of that beyond
// All threads may keep so much together, instead of having it wait for its purge in the arenas, and
// give back what is beyond the above when they take fresh memory. In the secure build, where a page
// is dearer to found (guard, marks, key, random order), they do not.
#define MI_EMPTY_ALL MI_LIMIT((MI_SECURE ? 16 : 24) * MI_MiB, 0)
// The blocks of an empty page are linked anew if they are shuffled: small ones, so that what is
// made one after the other shares lines of the cache, and large ones, which are few. Between, it
// costs more than it gains: each block is a line that has to be fetched.
#define MI_ANEW_SMALL 96u
#define MI_ANEW_LARGE 1024u
#define MI_HOT_MAX    (1 * MI_MiB) // single-block pages that are kept since current
// Long blocks in lists (guest.h): all threads together, and one of them at least.
#define MI_LONG_ALL     MI_LIMIT(24 * MI_MiB, 1 * MI_MiB)
#define MI_LONG_LEAST   MI_LIMIT(2 * MI_MiB, 256 * MI_KiB)
#define MI_LONGER       MI_LIMIT(64u, 2u) // one of so many that might be served by a longer one is not
#define MI_SINGLES      MI_LIMIT(4u, 2u) // one of so many that are allocated becomes current
#define MI_CURRENT_KEEP MI_LIMIT(64 * MI_KiB, 0) // a current page that touched less survives a trim
#define MI_TICKS        MI_LIMIT(8u, 1u)         // slow paths between two looks at the clock
// After one that came so soon after the one before, so many are left out: the next is soon, too.
#define MI_BUSY_MS    2u
#define MI_BUSY_LOOKS MI_LIMIT(3u, 0u)
// A class that wants a page so many slow paths after it lent its own, several times in a row, gets
// one. The larger the blocks, the less a slow path matters beside what is done with them.
#define MI_LENT_TICKS      16u
#define MI_LENT_TICKS_WIDE 4u // pages of several slices
#define MI_LENT_OFTEN      3u
// A full page waits until this part of it was freed (2^4); in a thread heap of many pages a larger
// one (2^3): there a program that replaces blocks at random visits a page for a few blocks at a
// time, and each visit is a slow path.
#define MI_FULL_SHIFT      4u
#define MI_FULL_SHIFT_MANY 3u
#define MI_MANY_PAGES      MI_LIMIT(512u, 12u)
// From so many pages on a thread heap has every other class, and all of them; or as soon as the
// blocks of second and further pages are so many bytes too large (theap.c).
#define MI_HALF_PAGES     MI_LIMIT(32u, 3u)
#define MI_FINE_PAGES     MI_LIMIT(128u, 6u)
#define MI_COARSE_SURPLUS (64 * MI_KiB)

// Zeroing: from here on it is worth asking the OS how much of a block is resident at all.
#define MI_ASK_RESIDENT_MIN MI_LIMIT(256 * MI_KiB, 64 * MI_KiB)
#define MI_SPARSE_TIMES     3u                   // so often the answer is taken for granted
#define MI_SAMPLE_MOST      ((size_t)2 * MI_MiB) // of a block that is asked about so: one system call
#define MI_BARE_LOOKS       8u // OS pages of a freed block that are looked at for zeros

// realloc.
// From here on a growing block gets slices of its own, where it grows on in place; not where a
// guard must be made for it before that is worth it. The slices of the longest page that a thread
// keeps for the next.
#define MI_ROOMY_MIN  (MI_SECURE ? 32 * MI_KiB : 8 * MI_KiB)
#define MI_ROOMY_KEPT 4u
#define MI_MOVE_MIN   (1 * MI_MiB) // from here on page tables are moved instead of bytes
// Headroom for a block that grows in small steps: half of it more. In smaller ones it would be
// memory that is touched; from two OS pages on, most of it is not.
#define MI_STEP_MIN (8 * MI_KiB)
// Slices in front of a guard that a growing block may take without moving it (secure build).
#define MI_GROWTH_ROOM MI_LIMIT((size_t)32, (size_t)2)

#endif
