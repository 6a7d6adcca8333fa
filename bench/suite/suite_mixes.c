// Programs drawn at random from a seed, so that nobody could tune an allocator on them: how many
// threads, how long they live, how much is live at once, and up to six kinds of objects, each with
// sizes, a way to live and a share of the work of its own.
#include "suite.h"

typedef enum life_e {
    LIFE_RANDOM,
    LIFE_QUEUE,
    LIFE_STACK,
    LIFE_PAIR,
    LIFE_BURST,
    LIFE_GROW,
    LIVES
} life_t;

// One kind of object: its sizes, how it lives, and how many of it a thread has at once.
typedef struct kind_s {
    life_t life;
    size_t least, most;
    int slots;
    unsigned weight; // of the sum of all kinds: its share of the steps
    unsigned gifts;  // of 256: how often a dropped block goes to another thread
    int is_filled;   // all bytes are written, not just the first
} kind_t;

enum { MAX_KINDS = 6, MAX_PHASES = 3, MAX_THREADS = 8, MAILBOX = 1024, MAX_SLOTS = 60000 };

typedef struct phase_s {
    kind_t kind[MAX_KINDS];
    int kinds;
    unsigned weights;
} phase_t;

typedef struct mix_s {
    phase_t phase[MAX_PHASES];
    int phases, threads, generations; // every so often all threads end and others go on with theirs
    long steps;                       // of a thread and generation in a phase
} mix_t;

typedef struct worker_s {
    const mix_t *mix;
    const phase_t *phase;
    uint64_t seed;
    void **slot[MAX_KINDS];
    size_t size[MAX_KINDS]; // LIFE_GROW: what the last one has
    int at[MAX_KINDS];
} SUITE_APART worker_t;

static void *_Atomic mailbox[MAILBOX];

// ---- drawing
static unsigned draw(uint64_t *s, unsigned n) { // 0 to n - 1
    return (unsigned)((suite_random(s) >> 33) % n);
}

static kind_t draw_kind(uint64_t *s, int is_shared, double bytes, double *step_ns) {
    kind_t k = {.life = (life_t)draw(s, LIVES), .weight = 1 + draw(s, 8)};
    // Small ones are likelier: the lesser of two draws of a doubling between 16 bytes and 256 KiB.
    const unsigned a = draw(s, 15), b = draw(s, 15);
    const unsigned low = 16u << (a < b ? a : b);
    k.most = low + draw(s, low);
    k.least = k.most >> draw(s, 6);
    k.least = (k.least < 8 ? 8 : k.least);
    k.is_filled = (draw(s, 2) == 0);
    k.gifts = (is_shared && draw(s, 3) == 0 ? 1u << draw(s, 9) : 0);
    const double mean = (double)(k.least + k.most) / 2, slots = bytes / mean;
    k.slots = (slots < 1 ? 1 : slots > MAX_SLOTS ? MAX_SLOTS : (int)slots);
    *step_ns += k.weight * (40 + (k.is_filled ? mean / 8 : 0));
    return k;
}

static mix_t draw_mix(uint64_t seed, int scale) {
    mix_t m = {.phases = 1 + (int)(seed % 3)};
    uint64_t s = (seed + 1) * 0x9E3779B97F4A7C15u;
    for (int i = 0; i < 8; i++)
        suite_random(&s);
    m.threads = 1 << (draw(&s, 2) == 0 ? 0 : 1 + draw(&s, 3));
    m.generations = (draw(&s, 3) == 0 ? 2 + (int)draw(&s, 20) : 1);
    double most_ns = 0;
    for (int i = 0; i < m.phases; i++) {
        phase_t *const p = &m.phase[i];
        const double live = (double)suite_size(&s, 256 * 1024, 48 * 1024 * 1024) / m.threads;
        double ns = 0;
        p->kinds = 1 + (int)draw(&s, MAX_KINDS);
        for (int k = 0; k < p->kinds; k++) {
            p->kind[k] = draw_kind(&s, m.threads > 1, live / p->kinds, &ns);
            p->weights += p->kind[k].weight;
        }
        most_ns = (ns / p->weights > most_ns ? ns / p->weights : most_ns);
    }
    m.steps = (long)(2e6 * scale / most_ns / m.phases / m.threads / m.generations) + 1;
    return m;
}

// ---- running
static void *get(worker_t *w, const kind_t *k) {
    const size_t size = suite_size(&w->seed, k->least, k->most);
    return k->is_filled ? suite_get_filled(size) : suite_get(size);
}

static void drop(worker_t *w, const kind_t *k, void *p) {
    const uint64_t r = suite_random(&w->seed) >> 20;
    if (p != NULL && r % 256 < k->gifts)
        p = __atomic_exchange_n((void **)&mailbox[(r >> 8) % MAILBOX], p, __ATOMIC_ACQ_REL);
    free(p);
}

static void step(worker_t *w, int which) {
    const kind_t *const k = &w->phase->kind[which];
    void **const slot = w->slot[which];
    int *const at = &w->at[which];
    switch (k->life) {
    case LIFE_RANDOM: { // any of them is replaced
        const int i = (int)(suite_random(&w->seed) % (uint64_t)k->slots);
        drop(w, k, slot[i]);
        slot[i] = get(w, k);
        break;
    }
    case LIFE_QUEUE: // the oldest is replaced
        drop(w, k, slot[*at]);
        slot[*at] = get(w, k);
        *at = (*at + 1 == k->slots ? 0 : *at + 1);
        break;
    case LIFE_STACK: // up and down at random, like the frames of calls
        if (*at < k->slots && (*at == 0 || suite_random(&w->seed) >> 63 != 0)) {
            slot[(*at)++] = get(w, k);
        } else {
            (*at)--;
            drop(w, k, slot[*at]);
            slot[*at] = NULL;
        }
        break;
    case LIFE_PAIR: // gone at once
        drop(w, k, get(w, k));
        break;
    case LIFE_BURST: // all are made, then all go, in the order they came
        if (*at < k->slots) {
            slot[(*at)++] = get(w, k);
        } else {
            for (int i = 0; i < k->slots; i++) {
                drop(w, k, slot[i]);
                slot[i] = NULL;
            }
            *at = 0;
        }
        break;
    case LIFE_GROW: // a vector that grows by a half, up to the largest size, then another one
        if (slot[*at] == NULL || w->size[which] >= k->most) {
            *at = (*at + 1 == k->slots ? 0 : *at + 1);
            drop(w, k, slot[*at]);
            slot[*at] = suite_get(k->least);
            w->size[which] = k->least;
        } else {
            w->size[which] += w->size[which] / 2 + 1;
            slot[*at] = realloc(slot[*at], w->size[which]);
            suite_check(slot[*at] != NULL, "no memory");
            ((volatile char *)slot[*at])[w->size[which] - 1] = 1;
        }
        break;
    case LIVES:
        break;
    }
}

static void *work(void *arg) {
    worker_t *const w = arg;
    for (long i = 0; i < w->mix->steps; i++) {
        unsigned r = (unsigned)(suite_random(&w->seed) >> 40) % w->phase->weights;
        int which = 0;
        while (r >= w->phase->kind[which].weight)
            r -= w->phase->kind[which++].weight;
        step(w, which);
    }
    return NULL;
}

void suite_mix(uint64_t seed, int scale) {
    static worker_t worker[MAX_THREADS];
    const mix_t m = draw_mix(seed, scale);
    for (int p = 0; p < m.phases; p++) {
        const phase_t *const phase = &m.phase[p];
        for (int i = 0; i < m.threads; i++) {
            worker[i] = (worker_t){
                .mix = &m, .phase = phase, .seed = seed * 64 + (uint64_t)i + 88172645463325252u};
            for (int k = 0; k < phase->kinds; k++)
                worker[i].slot[k] = calloc((size_t)phase->kind[k].slots, sizeof(void *));
        }
        for (int g = 0; g < m.generations; g++)
            suite_parallel(m.threads, work, worker, sizeof(worker[0]));
        for (int i = 0; i < m.threads; i++) {
            for (int k = 0; k < phase->kinds; k++) {
                for (int j = 0; j < phase->kind[k].slots; j++)
                    free(worker[i].slot[k][j]);
                free(worker[i].slot[k]);
            }
        }
    }
    for (int i = 0; i < MAILBOX; i++)
        free(__atomic_exchange_n((void **)&mailbox[i], NULL, __ATOMIC_ACQ_REL));
}

void suite_mix_print(uint64_t seed) {
    static const char *const lives[] = {"random", "queue", "stack", "pair", "burst", "grow"};
    const mix_t m = draw_mix(seed, 100);
    printf("mix-%llu: %d threads, %d generations, %ld steps\n", (unsigned long long)seed, m.threads,
           m.generations, m.steps);
    for (int p = 0; p < m.phases; p++) {
        for (int i = 0; i < m.phase[p].kinds; i++) {
            const kind_t *const k = &m.phase[p].kind[i];
            printf("  phase %d: %-6s %zu to %zu bytes, %d at once, share %u of %u, %u of 256 to "
                   "others%s\n",
                   p, lives[k->life], k->least, k->most, k->slots, k->weight, m.phase[p].weights,
                   k->gifts, k->is_filled ? ", filled" : "");
        }
    }
}
