// One thread, many sizes: replacement at random, page rendering, strings, batches, large blocks, a
// key-value store.
#include "suite.h"

// ---- replace: a set of slots, one of which is freed and refilled at random; sizes of all
// magnitudes
typedef struct replace_s {
    size_t slots;
    size_t most;
    int count;
    uint64_t seed;
} SUITE_APART replace_t;

static void *replace_run(void *arg) {
    replace_t *r = arg;
    char **slot = calloc(r->slots, sizeof(slot[0]));
    suite_check(slot != NULL, "no memory");
    for (int i = 0; i < r->count; i++) {
        const size_t k = (size_t)suite_random(&r->seed) % r->slots;
        if (slot[k] != NULL) {
            suite_check(slot[k][0] == 1, "replace: a block was overwritten");
            free(slot[k]);
        }
        slot[k] = suite_get(suite_size(&r->seed, 8, r->most));
    }
    for (size_t k = 0; k < r->slots; k++)
        free(slot[k]);
    free(slot);
    return NULL;
}

static void run_replace(int scale) {
    replace_t r = {100000, 4000, scale * 15000, 123456789};
    replace_run(&r);
}

static void run_replace_2(int scale) {
    replace_t r[2] = {{50000, 4000, scale * 15000, 123456789},
                      {50000, 4000, scale * 15000, 987654321}};
    suite_parallel(2, replace_run, r, sizeof(r[0]));
}

// ---- pages: rendering pages: path and glyph bits, chunks of 20 KiB for objects, a band buffer of
// 400 KiB a page
static void run_pages(int scale) {
    uint64_t s = 55;
    void *glyph[2000];
    for (int i = 0; i < 2000; i++)
        glyph[i] = suite_get_filled(suite_size(&s, 32, 4000));
    for (int page = 0; page < scale * 6; page++) {
        char *band = suite_get_filled(400000 + (size_t)(page % 5) * 30000);
        void *chunk[24];
        for (int c = 0; c < 24; c++)
            chunk[c] = suite_get_filled(20000 + (size_t)(c % 3) * 20000);
        for (int i = 0; i < 4000; i++) {
            void *path[8];
            for (int k = 0; k < 8; k++)
                path[k] = suite_get(24 + (size_t)(suite_random(&s) % 120));
            for (int k = 0; k < 8; k++)
                free(path[k]);
            if (i % 20 == 0) {
                const size_t g = (size_t)suite_random(&s) % 2000;
                free(glyph[g]);
                glyph[g] = suite_get_filled(suite_size(&s, 32, 4000));
            }
        }
        for (int c = 0; c < 24; c++)
            free(chunk[c]);
        free(band);
    }
    for (int i = 0; i < 2000; i++)
        free(glyph[i]);
}

// ---- strings: text that grows by appending, is split and joined (scripts, templates, logs)
static void run_strings(int scale) {
    uint64_t s = 8080;
    for (int round = 0; round < scale * 15; round++) {
        size_t room = 16, length = 0;
        char *text = suite_get(room);
        while (length < 200000) {
            const size_t add = 4 + (size_t)suite_random(&s) % 90;
            if (length + add > room) {
                room = room + room / 2 + add;
                text = realloc(text, room);
                suite_check(text != NULL, "no memory");
            }
            memset(text + length, 'a' + (int)(add % 26), add);
            length += add;
        }
        enum { PARTS = 3000 };
        char **part = suite_get(PARTS * sizeof(char *));
        for (int i = 0; i < PARTS; i++) {
            const size_t n = 5 + (size_t)suite_random(&s) % 60;
            part[i] = suite_get(n + 1);
            memcpy(part[i], text + (size_t)suite_random(&s) % (length - n), n);
            part[i][n] = 0;
        }
        char *joined = NULL;
        size_t total = 0;
        for (int i = 0; i < PARTS; i++) {
            const size_t n = strlen(part[i]);
            if (i % 16 == 0) {
                joined = realloc(joined, total + 1200); // exact growth, by a little each time
                suite_check(joined != NULL, "no memory");
            }
            memcpy(joined + total, part[i], n);
            total += n;
            free(part[i]);
        }
        free(joined);
        free(part);
        free(text);
    }
}

// ---- batches: groups of equal sizes, freed whole, by halves or backwards, some kept for rounds
static void run_batches(int scale) {
    enum { GROUP = 500, KEPT = 40 };
    void **kept[KEPT] = {NULL};
    for (int round = 0; round < scale * 80; round++) {
        const size_t size = 8 + (size_t)(round % 61) * 17;
        void **group = suite_get(GROUP * sizeof(void *));
        for (int i = 0; i < GROUP; i++)
            group[i] = suite_get(size + (size_t)(i % 3) * 16);
        if (round % 4 == 0) {
            void ***slot = &kept[round / 4 % KEPT];
            if (*slot != NULL) {
                for (int i = GROUP - 1; i >= 0; i--)
                    free((*slot)[i]);
                free(*slot);
            }
            *slot = group;
            continue;
        }
        for (int i = 0; i < GROUP; i += 2)
            free(group[i]);
        for (int i = GROUP - 1; i > 0; i -= 2)
            free(group[i]);
        free(group);
    }
    for (int k = 0; k < KEPT; k++)
        if (kept[k] != NULL) {
            for (int i = 0; i < GROUP; i++)
                free(kept[k][i]);
            free(kept[k]);
        }
}

// ---- simple: one size, groups freed in order, then the same with a few sizes
static void run_simple(int scale) {
    static void *slot[4096];
    for (int round = 0; round < scale * 4; round++) {
        const size_t size = 16 << (round % 4 * 2);
        for (int n = 25; n <= 3200; n *= 2)
            for (int again = 0; again < 3200 / n; again++) {
                for (int i = 0; i < n; i++)
                    slot[i] = suite_get(size);
                for (int i = 0; i < n; i++)
                    free(slot[i]);
            }
    }
}

// ---- large: a few blocks of 5 to 25 MiB, replaced at random, touched here and there
static void run_large(int scale) {
    char *slot[16] = {NULL};
    uint64_t s = 1234567;
    for (int i = 0; i < scale * 12; i++) {
        const size_t k = (size_t)suite_random(&s) % 16;
        free(slot[k]);
        const size_t size = (5 << 20) + (size_t)suite_random(&s) % (20 << 20);
        slot[k] = suite_get(size);
        for (size_t at = 0; at < size; at += 65536)
            slot[k][at] = 2;
    }
    for (int k = 0; k < 16; k++)
        free(slot[k]);
}

// ---- medium: buffers of 4 KiB to 400 KiB with mixed lives, filled: files, messages, images
static void run_medium(int scale) {
    void *slot[64] = {NULL};
    uint64_t s = 42424242;
    for (int i = 0; i < scale * 400; i++) {
        const size_t k = (size_t)suite_random(&s) % 64;
        free(slot[k]);
        slot[k] = suite_get_filled(suite_size(&s, 4096, 400000));
    }
    for (int k = 0; k < 64; k++)
        free(slot[k]);
}

// ---- store: a key-value store: keys, values of 10 to 2000 bytes, replies, growth of the table,
// expiry
typedef struct entry_s {
    struct entry_s *next;
    char *key, *value;
} entry_t;

static void store_put(entry_t **slot, uint64_t *s, unsigned id) {
    entry_t **link = slot;
    while (*link != NULL && strtoul((*link)->key + 4, NULL, 10) != id)
        link = &(*link)->next;
    if (*link == NULL) {
        *link = suite_get(sizeof(entry_t));
        (*link)->next = NULL;
        (*link)->key = suite_get(24);
        snprintf((*link)->key, 24, "key:%u", id);
        (*link)->value = NULL;
    }
    free((*link)->value);
    (*link)->value = suite_get_filled(suite_size(s, 10, 2000));
}

static void store_drop(entry_t **slot) {
    entry_t *e = *slot;
    if (e == NULL)
        return;
    *slot = e->next;
    free(e->key);
    free(e->value);
    free(e);
}

static void run_store(int scale) {
    enum { SLOTS = 32768 };
    entry_t **slot = calloc(SLOTS, sizeof(entry_t *));
    suite_check(slot != NULL, "no memory");
    uint64_t s = 6379;
    for (int i = 0; i < scale * 15000; i++) {
        const unsigned id = (unsigned)(suite_random(&s) % 50000);
        char *query = suite_get(32 + id % 64); // the request, parsed into arguments
        char *argument = suite_get(16 + id % 16);
        if (i % 3 == 0)
            store_put(&slot[id % SLOTS], &s, id);
        else if (i % 31 == 0)
            store_drop(&slot[id % SLOTS]);
        char *reply = suite_get(64 + id % 1024);
        free(argument);
        free(query);
        free(reply);
    }
    for (int i = 0; i < SLOTS; i++)
        while (slot[i] != NULL)
            store_drop(&slot[i]);
    free(slot);
}

// ---- tiny: hardly anything: what a program pays for having the allocator at all
static void run_tiny(int scale) {
    (void)scale;
    void *p[100];
    for (int i = 0; i < 100; i++)
        p[i] = suite_get(8 + (size_t)i * 13);
    for (int i = 0; i < 100; i++)
        free(p[i]);
}

const suite_program_t suite_sizes[] = {{"replace", run_replace},
                                       {"replace-2", run_replace_2},
                                       {"pages", run_pages},
                                       {"strings", run_strings},
                                       {"batches", run_batches},
                                       {"simple", run_simple},
                                       {"large", run_large},
                                       {"medium", run_medium},
                                       {"store", run_store},
                                       {"tiny", run_tiny},
                                       {NULL, NULL}};
