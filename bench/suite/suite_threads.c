// Several threads: servers, exchange, producers and consumers, false sharing, hand-over of
// structures.
#include "suite.h"

#include <sched.h>

// ---- server: each thread replaces blocks of 8 to 1000 bytes in its share, then hands all of them
// to a new thread and ends; in "sleepers" it stays, doing nothing, until all are done
typedef struct server_s {
    void **held;
    int count, rounds, is_sleepy;
    uint64_t seed;
} SUITE_APART server_t;
static pthread_mutex_t server_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t server_done = PTHREAD_COND_INITIALIZER;
static int server_left;

static void *server_run(void *arg) {
    server_t *sv = arg;
    for (int i = 0; i < sv->count; i++) {
        const size_t k = (size_t)suite_random(&sv->seed) % 5000;
        free(sv->held[k]);
        sv->held[k] = suite_get(8 + (size_t)suite_random(&sv->seed) % 993);
    }
    pthread_mutex_lock(&server_lock);
    pthread_t t;
    if (--sv->rounds > 0) {
        suite_check(pthread_create(&t, NULL, server_run, sv) == 0, "no thread");
        pthread_detach(t);
    } else if (--server_left == 0) {
        pthread_cond_broadcast(&server_done);
    }
    while (sv->is_sleepy && server_left > 0)
        pthread_cond_wait(&server_done, &server_lock);
    pthread_mutex_unlock(&server_lock);
    return NULL;
}

static void server(int threads, int is_sleepy, int scale) {
    static server_t sv[64];
    uint64_t s = 4141;
    server_left = threads;
    for (int i = 0; i < threads; i++) {
        sv[i] = (server_t){calloc(5000, sizeof(void *)), scale * 4000 / threads, 10, is_sleepy,
                           88172645463325252u + (uint64_t)i};
        for (int k = 0; k < 5000; k++)
            sv[i].held[k] = suite_get(8 + (size_t)suite_random(&s) % 993);
        pthread_t t;
        suite_check(pthread_create(&t, NULL, server_run, &sv[i]) == 0, "no thread");
        pthread_detach(t);
    }
    pthread_mutex_lock(&server_lock);
    while (server_left > 0)
        pthread_cond_wait(&server_done, &server_lock);
    pthread_mutex_unlock(&server_lock);
    for (int i = 0; i < threads; i++) {
        for (int k = 0; k < 5000; k++)
            free(sv[i].held[k]);
        free(sv[i].held);
    }
}

static void run_server_2(int scale) {
    server(2, 0, scale);
}
static void run_server_8(int scale) {
    server(8, 0, scale);
}
static void run_sleepers_4(int scale) {
    server(4, 1, scale);
}

// ---- exchange: batches with random lives; what is freed may come from another thread
enum { EXCHANGE_SLOTS = 20000 };
static void *_Atomic exchange_slot[EXCHANGE_SLOTS];

typedef struct exchange_s {
    int count;
    size_t most;
    uint64_t seed;
} SUITE_APART exchange_t;

static void *exchange_run(void *arg) {
    exchange_t *x = arg;
    for (int i = 0; i < x->count; i++) {
        const uint64_t r = suite_random(&x->seed);
        void *mine = suite_get(1 + (size_t)(r >> 32) % (i % 16 == 0 ? x->most : 100));
        free(__atomic_exchange_n((void **)&exchange_slot[r % EXCHANGE_SLOTS], mine,
                                 __ATOMIC_ACQ_REL));
    }
    return NULL;
}

static void exchange(int threads, int count, size_t most) {
    exchange_t x[8];
    for (int i = 0; i < threads; i++)
        x[i] = (exchange_t){count / threads, most, 1000 + (uint64_t)i};
    suite_parallel(threads, exchange_run, x, sizeof(x[0]));
    for (int i = 0; i < EXCHANGE_SLOTS; i++) {
        free((void *)exchange_slot[i]);
        exchange_slot[i] = NULL;
    }
}

static void run_exchange_4(int scale) {
    exchange(4, scale * 60000, 1000);
}
static void run_exchange_sizes(int scale) {
    exchange(2, scale * 20000, 16000);
}

// ---- lives: sh6/sh8-like: each thread holds lists of blocks by age and drops whole ages; a part
// goes to its neighbour
enum { AGES = 12, AGE_BLOCKS = 600 };
typedef struct lives_s {
    struct lives_s *all;
    int me, threads, rounds;
    uint64_t seed;
    void **_Atomic gift; // an age from another thread
} SUITE_APART lives_t;

static void lives_free(void **age) {
    for (int i = 0; age != NULL && i < AGE_BLOCKS; i++)
        free(age[i]);
    free(age);
}

static void *lives_run(void *arg) {
    lives_t *l = arg;
    void **age[AGES] = {NULL};
    for (int round = 0; round < l->rounds; round++) {
        void **fresh = suite_get(AGE_BLOCKS * sizeof(void *));
        for (int i = 0; i < AGE_BLOCKS; i++)
            fresh[i] = suite_get(suite_size(&l->seed, 8, 1000));
        const size_t slot = (size_t)suite_random(&l->seed) % AGES;
        void **old = age[slot];
        age[slot] = fresh;
        if (round % 3 == 0)
            old = __atomic_exchange_n((void ***)&l->all[(l->me + 1) % l->threads].gift, old,
                                      __ATOMIC_ACQ_REL);
        lives_free(old);
    }
    for (int a = 0; a < AGES; a++)
        lives_free(age[a]);
    return NULL;
}

static void run_lives(int scale) {
    lives_t l[4];
    for (int i = 0; i < 4; i++)
        l[i] = (lives_t){l, i, 4, scale * 17, 777 + (uint64_t)i, NULL};
    suite_parallel(4, lives_run, l, sizeof(l[0]));
    for (int i = 0; i < 4; i++)
        lives_free((void **)l[i].gift);
}

// ---- chains: producers build batches of 120 blocks, consumers free them
typedef struct batch_s {
    struct batch_s *next;
    void *block[120];
} batch_t;
static batch_t *chain_first;
static int chain_length, chain_left;
static pthread_mutex_t chain_lock = PTHREAD_MUTEX_INITIALIZER;

static void *chain_produce(void *arg) {
    const int count = *(int *)arg;
    for (int i = 0; i < count; i++) {
        batch_t *b = suite_get(sizeof(batch_t));
        for (int k = 0; k < 120; k++)
            b->block[k] = suite_get(64);
        for (int is_in = 0; !is_in;) {
            pthread_mutex_lock(&chain_lock);
            if (chain_length < 100) {
                b->next = chain_first;
                chain_first = b;
                chain_length++;
                is_in = 1;
            }
            pthread_mutex_unlock(&chain_lock);
            if (!is_in)
                sched_yield();
        }
    }
    return NULL;
}

static void *chain_consume(void *arg) {
    (void)arg;
    for (;;) {
        pthread_mutex_lock(&chain_lock);
        batch_t *b = chain_first;
        const int is_over = (b == NULL && chain_left == 0);
        if (b != NULL) {
            chain_first = b->next;
            chain_length--;
            chain_left--;
        }
        pthread_mutex_unlock(&chain_lock);
        if (is_over)
            return NULL;
        if (b == NULL) {
            sched_yield();
            continue;
        }
        for (int k = 0; k < 120; k++)
            free(b->block[k]);
        free(b);
    }
}

typedef struct chain_job_s {
    void *(*run)(void *);
    int count;
} chain_job_t;

static void *chain_run(void *arg) {
    chain_job_t *job = arg;
    return job->run(&job->count);
}

static void run_chains(int scale) {
    chain_job_t job[2] = {{chain_produce, scale * 400}, {chain_consume, 0}};
    chain_left = job[0].count;
    suite_parallel(2, chain_run, job, sizeof(job[0]));
}

// ---- scratch, thrash: small blocks of several threads, written very often: they must not share
// cache lines
typedef struct scratch_s {
    char *given; // freed first by the thread, allocated by another
    int rounds, writes;
} scratch_t;

static void *scratch_run(void *arg) {
    scratch_t *s = arg;
    free(s->given);
    for (int i = 0; i < s->rounds; i++) {
        volatile char *p = suite_get(8);
        for (int k = 0; k < s->writes; k++)
            p[k & 7] = (char)(p[k & 7] + k);
        free((void *)p);
    }
    return NULL;
}

static void scratch(int threads, int is_given, int scale) {
    scratch_t s[8];
    for (int i = 0; i < threads; i++)
        s[i] = (scratch_t){is_given ? suite_get(8) : NULL, scale, 6000000 / threads / 2};
    suite_parallel(threads, scratch_run, s, sizeof(s[0]));
}

static void run_scratch_1(int scale) {
    scratch(1, 1, scale);
}
static void run_scratch_2(int scale) {
    scratch(2, 1, scale);
}
static void run_thrash_2(int scale) {
    scratch(2, 0, scale);
}

// ---- handover: trees with cookies, made by one thread, checked and freed by another, for several
// generations
typedef struct node_s {
    struct node_s *left, *right;
    uint64_t cookie;
    size_t bytes;
    char data[];
} node_t;
enum { HAND_SLOTS = 64 };
static node_t *_Atomic hand_slot[HAND_SLOTS];

static node_t *node_make(uint64_t *s, int depth) {
    const size_t extra = (suite_random(s) % 50 == 0 ? 4000 : (size_t)suite_random(s) % 100);
    node_t *n = suite_get(sizeof(node_t) + extra);
    n->bytes = extra;
    n->cookie = (uint64_t)(uintptr_t)n ^ extra ^ 0x5DEECE66Du;
    if (extra > 0)
        n->data[extra - 1] = (char)extra;
    n->left = (depth > 0 ? node_make(s, depth - 1) : NULL);
    n->right = (depth > 0 && suite_random(s) % 8 != 0 ? node_make(s, depth - 1) : NULL);
    return n;
}

static void node_free(node_t *n) {
    if (n == NULL)
        return;
    suite_check(n->cookie == ((uint64_t)(uintptr_t)n ^ n->bytes ^ 0x5DEECE66Du),
                "handover: a block was overwritten");
    suite_check(n->bytes == 0 || n->data[n->bytes - 1] == (char)n->bytes,
                "handover: a block was overwritten");
    node_free(n->left);
    node_free(n->right);
    free(n);
}

static void *hand_run(void *arg) {
    uint64_t s = *(uint64_t *)arg;
    const int rounds = (int)(s >> 32);
    for (int i = 0; i < rounds; i++) {
        node_t *mine = node_make(&s, 5 + (int)(suite_random(&s) % 4));
        node_free(__atomic_exchange_n((node_t **)&hand_slot[suite_random(&s) % HAND_SLOTS], mine,
                                      __ATOMIC_ACQ_REL));
    }
    return NULL;
}

static void run_handover(int scale) {
    for (int generation = 0; generation < 10; generation++) {
        uint64_t arg[4];
        for (int i = 0; i < 4; i++)
            arg[i] = (uint64_t)(scale * 12 / 4) << 32 | (uint64_t)(3 + i + generation * 7);
        suite_parallel(4, hand_run, arg, sizeof(arg[0]));
    }
    for (int i = 0; i < HAND_SLOTS; i++) {
        node_free((node_t *)hand_slot[i]);
        hand_slot[i] = NULL;
    }
}

// ---- sets: each thread replaces blocks of up to 1 KiB in an array of its own
static void *sets_run(void *arg) {
    uint64_t s = *(uint64_t *)arg;
    const int count = (int)(s >> 32);
    static __thread void *slot[1024];
    for (int i = 0; i < count; i++) {
        const size_t k = (size_t)suite_random(&s) % 1024;
        free(slot[k]);
        slot[k] = suite_get(suite_size(&s, 8, 1024));
    }
    for (int k = 0; k < 1024; k++)
        free(slot[k]);
    return NULL;
}

static void run_sets_2(int scale) {
    uint64_t arg[2] = {(uint64_t)(scale * 60000) << 32 | 1, (uint64_t)(scale * 60000) << 32 | 2};
    suite_parallel(2, sets_run, arg, sizeof(arg[0]));
}

// ---- trade: each thread keeps blocks of 16 to 16000 bytes, small ones more often, and replaces
// them in strides; every other round it hands a chain of fresh ones to its neighbour, and frees the
// chains that came (what the public "rptest" is told to do)
enum { TRADE_BLOCKS = 1000, TRADE_STRIDE = 7 };
typedef struct trade_block_s {
    struct trade_block_s *next;
} trade_block_t;
typedef struct trade_s {
    struct trade_s *all;
    int me, threads, rounds;
    uint64_t seed;
    trade_block_t *_Atomic chain; // from another thread
} SUITE_APART trade_t;

static void *trade_get(uint64_t *s) {
    const size_t a = (size_t)suite_random(s) % 15985;
    const size_t b = (size_t)suite_random(s) % 15985;
    return suite_get(16 + (a < b ? a : b));
}

static void trade_free(trade_block_t *chain) {
    while (chain != NULL) {
        trade_block_t *const next = chain->next;
        free(chain);
        chain = next;
    }
}

static void *trade_run(void *arg) {
    trade_t *t = arg;
    void *slot[TRADE_BLOCKS] = {NULL};
    size_t at = 0;
    for (int round = 0; round < t->rounds; round++) {
        for (int i = 0; i < TRADE_BLOCKS / 2; i++) {
            at = (at + TRADE_STRIDE) % TRADE_BLOCKS;
            free(slot[at]);
            slot[at] = NULL;
        }
        trade_block_t *chain = NULL;
        for (int i = 0; round % 2 == 0 && i < TRADE_BLOCKS / 4; i++) {
            trade_block_t *const b = trade_get(&t->seed);
            b->next = chain;
            chain = b;
        }
        trade_t *const to = &t->all[(t->me + 1) % t->threads];
        if (chain != NULL)
            trade_free(__atomic_exchange_n((trade_block_t **)&to->chain, chain, __ATOMIC_ACQ_REL));
        trade_free(__atomic_exchange_n((trade_block_t **)&t->chain, NULL, __ATOMIC_ACQ_REL));
        for (int i = 0; i < TRADE_BLOCKS; i++)
            if (slot[i] == NULL)
                slot[i] = trade_get(&t->seed);
    }
    for (int i = 0; i < TRADE_BLOCKS; i++)
        free(slot[i]);
    return NULL;
}

static void run_trade_2(int scale) {
    trade_t t[2];
    for (int i = 0; i < 2; i++)
        t[i] = (trade_t){t, i, 2, scale * 20, 31415926 + (uint64_t)i, NULL};
    suite_parallel(2, trade_run, t, sizeof(t[0]));
    for (int i = 0; i < 2; i++)
        trade_free((trade_block_t *)t[i].chain);
}

// ---- comers: threads that come, allocate a little, leave some of it to others, and go
static void *comer_run(void *arg) {
    void **left = arg;
    void *p[60];
    for (int i = 0; i < 60; i++)
        p[i] = suite_get(16 + (size_t)(i % 12) * 40);
    for (int i = 1; i < 60; i++)
        free(p[i]);
    *left = p[0];
    return NULL;
}

static void run_comers(int scale) {
    void *left[10] = {NULL};
    for (int round = 0; round < scale * 5; round++) {
        for (int i = 0; i < 10; i++)
            free(left[i]);
        suite_parallel(10, comer_run, left, sizeof(left[0]));
    }
    for (int i = 0; i < 10; i++)
        free(left[i]);
}

const suite_program_t suite_threads[] = {{"server-2", run_server_2},
                                         {"server-8", run_server_8},
                                         {"sleepers-4", run_sleepers_4},
                                         {"exchange-4", run_exchange_4},
                                         {"exchange-sizes", run_exchange_sizes},
                                         {"lives-4", run_lives},
                                         {"chains", run_chains},
                                         {"scratch-1", run_scratch_1},
                                         {"scratch-2", run_scratch_2},
                                         {"thrash-2", run_thrash_2},
                                         {"handover-4", run_handover},
                                         {"sets-2", run_sets_2},
                                         {"trade-2", run_trade_2},
                                         {"comers", run_comers},
                                         {NULL, NULL}};
