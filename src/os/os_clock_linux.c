// The clocks of Linux, asked in the kernel's own library in each process (vDSO), which has no lock
// and no state. The C library's clock_gettime does the same, but lies in a part of it that hardly
// anything else uses: its first call maps 64 KiB more into a small process. It is called where the
// kernel's is not found. Any thread.
#define _GNU_SOURCE 1
#include "os/os.h"

#include "base/atomic.h"
#include "base/text.h"
#include <link.h>
#include <sys/auxv.h>
#include <time.h>

#if MI_ARCH_ARM64
#    define VDSO_CLOCK_NAME "__kernel_clock_gettime"
#else
#    define VDSO_CLOCK_NAME "__vdso_clock_gettime"
#endif

typedef int (*clock_fun_t)(clockid_t id, struct timespec *t);
typedef struct vdso_s {
    uintptr_t bias; // added to its addresses
    const ElfW(Sym) * symbols;
    const char *names;
    const uint32_t *hash; // GNU's hash table
} vdso_t;

// NULL = not asked yet. Threads that ask at once find the same.
static _Atomic(uintptr_t) clock_fun;

static bool vdso_open(const uint8_t *image, vdso_t *vdso) {
    const ElfW(Ehdr) *const header = (const ElfW(Ehdr) *)(const void *)image;
    const ElfW(Phdr) *const segments = (const ElfW(Phdr) *)(const void *)(image + header->e_phoff);
    const ElfW(Dyn) *dynamic = NULL;
    mi_memzero(vdso, sizeof(*vdso));
    bool is_loaded = false;
    for (unsigned i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type == PT_LOAD && !is_loaded) {
            vdso->bias = (uintptr_t)image + segments[i].p_offset - segments[i].p_vaddr;
            is_loaded = true;
        } else if (segments[i].p_type == PT_DYNAMIC) {
            dynamic = (const ElfW(Dyn) *)(const void *)(image + segments[i].p_offset);
        }
    }
    for (; dynamic != NULL && is_loaded && dynamic->d_tag != DT_NULL; dynamic++) {
        const void *const at = (const void *)(vdso->bias + dynamic->d_un.d_ptr);
        if (dynamic->d_tag == DT_SYMTAB)
            vdso->symbols = (const ElfW(Sym) *)at;
        else if (dynamic->d_tag == DT_STRTAB)
            vdso->names = (const char *)at;
        else if (dynamic->d_tag == DT_GNU_HASH)
            vdso->hash = (const uint32_t *)at;
    }
    return vdso->symbols != NULL && vdso->names != NULL && vdso->hash != NULL;
}

// The table: counts, a filter of addressable words, the first symbol of each bucket, and for each
// symbol from first on its hash, whose lowest bit marks the last one of its bucket.
static const void *vdso_find(const vdso_t *vdso, const char *name) {
    uint32_t hash = 5381;
    for (const char *c = name; *c != 0; c++)
        hash = hash * 33 + (uint8_t)*c;
    const uint32_t bucket_count = vdso->hash[0];
    const uint32_t first = vdso->hash[1];
    const uint32_t filter_words = vdso->hash[2] * (uint32_t)(sizeof(ElfW(Addr)) / 4);
    const uint32_t *const buckets = vdso->hash + 4 + filter_words;
    const uint32_t *const hashes = buckets + bucket_count;
    uint32_t i = (bucket_count == 0 ? 0 : buckets[hash % bucket_count]);
    if (i < first)
        return NULL;
    for (bool is_last = false; !is_last; i++) {
        const ElfW(Sym) *const symbol = &vdso->symbols[i];
        is_last = (hashes[i - first] & 1) != 0;
        if (((hashes[i - first] ^ hash) >> 1) == 0 && symbol->st_shndx != SHN_UNDEF &&
            mi_str_eq(vdso->names + symbol->st_name, name))
            return (const void *)(vdso->bias + symbol->st_value);
    }
    return NULL;
}

static clock_fun_t clock_find(void) {
    const uint8_t *const image = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
    vdso_t vdso;
    const void *fun = NULL;
    if (image != NULL && vdso_open(image, &vdso))
        fun = vdso_find(&vdso, VDSO_CLOCK_NAME);
    const uintptr_t found = (fun != NULL ? (uintptr_t)fun : (uintptr_t)&clock_gettime);
    mi_store_relaxed(&clock_fun, found);
    return (clock_fun_t)found;
}

static uint64_t clock_read(clockid_t id, uint64_t per_second) {
    struct timespec t;
    clock_fun_t fun = (clock_fun_t)mi_load_relaxed(&clock_fun);
    if (fun == NULL)
        fun = clock_find();
    if (fun(id, &t) != 0)
        return 0;
    return (uint64_t)t.tv_sec * per_second + (uint64_t)t.tv_nsec / (1000000000u / per_second);
}

uint64_t mi_os_clock_ms(void) {
    return clock_read(CLOCK_MONOTONIC_COARSE, 1000);
}

uint64_t mi_os_clock_ns(void) {
    return clock_read(CLOCK_MONOTONIC, 1000000000u);
}
