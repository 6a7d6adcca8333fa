// The clocks of Linux, which are asked in the kernel's library without the C library's help: they
// tell the C library's time, also where that library is not there, or not as it should be.
#define _GNU_SOURCE 1
#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

// What the file under test sees instead of the system's.
static unsigned long fake_image;
static int fallbacks;
static unsigned long fake_getauxval(unsigned long type) {
    (void)type;
    return fake_image;
}
static int fake_clock_gettime(clockid_t id, struct timespec *t) {
    fallbacks++;
    return clock_gettime(id, t);
}
#define getauxval     fake_getauxval
#define clock_gettime fake_clock_gettime
#include "os/os_clock_linux.c"
#undef getauxval
#undef clock_gettime

#include "test.h"

static uint64_t ticks(clockid_t id, uint64_t per_second) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * per_second + (uint64_t)t.tv_nsec / (1000000000u / per_second);
}

// Both clocks lie between two readings of the C library's.
static void check_time(const char *when) {
    const uint64_t ms_before = ticks(CLOCK_MONOTONIC_COARSE, 1000);
    const uint64_t ms = mi_os_clock_ms();
    CHECK_MSG(ms >= ms_before && ms <= ticks(CLOCK_MONOTONIC_COARSE, 1000), "%s", when);
    const uint64_t ns_before = ticks(CLOCK_MONOTONIC, 1000000000u);
    const uint64_t ns = mi_os_clock_ns();
    CHECK_MSG(ns >= ns_before && ns <= ticks(CLOCK_MONOTONIC, 1000000000u), "%s", when);
}

static void use_image(const void *image) {
    fake_image = (unsigned long)image;
    fallbacks = 0;
    mi_store_relaxed(&clock_fun, (uintptr_t)0);
}

// A library of one segment with a hash table of one bucket.
typedef struct image_s {
    ElfW(Ehdr) header;
    ElfW(Phdr) segment[2];
    ElfW(Dyn) dynamic[4];
    ElfW(Sym) symbol[3];
    char names[64];
    uint32_t hash[4 + sizeof(ElfW(Addr)) / 4 + 1 + 2];
} image_t;

static uint32_t name_hash(const char *name) {
    uint32_t hash = 5381;
    while (*name != 0)
        hash = hash * 33 + (uint8_t)*name++;
    return hash;
}

static int image_clock(clockid_t id, struct timespec *t) {
    (void)id;
    t->tv_sec = 4711;
    t->tv_nsec = 250000000;
    return 0;
}

// Symbol 1 is another one in the same bucket; symbol 2 has the name.
static void image_make(image_t *image, const char *name) {
    memset(image, 0, sizeof(*image));
    image->header.e_phoff = offsetof(image_t, segment);
    image->header.e_phnum = 2;
    image->segment[0].p_type = PT_LOAD;
    image->segment[1].p_type = PT_DYNAMIC;
    image->segment[1].p_offset = offsetof(image_t, dynamic);
    image->dynamic[0].d_tag = DT_SYMTAB;
    image->dynamic[0].d_un.d_ptr = offsetof(image_t, symbol);
    image->dynamic[1].d_tag = DT_STRTAB;
    image->dynamic[1].d_un.d_ptr = offsetof(image_t, names);
    image->dynamic[2].d_tag = DT_GNU_HASH;
    image->dynamic[2].d_un.d_ptr = offsetof(image_t, hash);
    strcpy(image->names + 1, "other");
    strcpy(image->names + 8, name);
    image->symbol[1].st_name = 1;
    image->symbol[1].st_shndx = 1;
    image->symbol[2].st_name = 8;
    image->symbol[2].st_shndx = 1;
    image->symbol[2].st_value = (ElfW(Addr))((uintptr_t)&image_clock - (uintptr_t)image);
    image->hash[0] = 1;
    image->hash[1] = 1;
    image->hash[2] = 1;
    uint32_t *const bucket = image->hash + 4 + sizeof(ElfW(Addr)) / 4;
    bucket[0] = 1;
    bucket[1] = name_hash("other") & ~1u;
    bucket[2] = name_hash(name) | 1u;
}

static void test_system(void) {
    const unsigned long system_image = getauxval(AT_SYSINFO_EHDR);
    use_image((const void *)system_image);
    check_time("the kernel's library");
    // valgrind hides it, and some kernels have none.
    CHECK(system_image != 0 ? fallbacks == 0 : fallbacks == 2);
    use_image(NULL);
    check_time("no library");
    CHECK(fallbacks == 2);
}

static void test_images(void) {
    static image_t image;
    image_make(&image, VDSO_CLOCK_NAME);
    use_image(&image);
    CHECK(mi_os_clock_ms() == 4711250 && mi_os_clock_ns() == 4711250000000 && fallbacks == 0);
    image.symbol[2].st_shndx = SHN_UNDEF;
    use_image(&image);
    check_time("the name is not defined");
    CHECK(fallbacks == 2);
    image_make(&image, "__vdso_something");
    use_image(&image);
    check_time("another name");
    CHECK(fallbacks == 2);
    for (int i = 0; i < 3; i++) {
        image_make(&image, VDSO_CLOCK_NAME);
        image.dynamic[i].d_tag = DT_SONAME;
        use_image(&image);
        check_time("a table is missing");
        CHECK(fallbacks == 2);
    }
    image_make(&image, VDSO_CLOCK_NAME);
    image.hash[0] = 0;
    use_image(&image);
    check_time("no bucket");
    CHECK(fallbacks == 2);
}

int main(void) {
    test_system();
    test_images();
    return test_result();
}
