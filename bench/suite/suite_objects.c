// One thread, small linked things: numbers, sets, trees, an interpreter's objects.
#include "suite.h"

// ---- factor: numbers of a few digits, a new block for each result (as the continued-fraction
// factorers do)
typedef struct number_s {
    unsigned short refs, digits;
    unsigned short d[];
} number_t;

static number_t *number_new(unsigned digits) {
    number_t *n = suite_get(sizeof(number_t) + digits * sizeof(unsigned short));
    n->refs = 1;
    n->digits = (unsigned short)digits;
    return n;
}

static void number_drop(number_t *n) {
    if (--n->refs == 0)
        free(n);
}

static number_t *number_of(unsigned long long v) {
    unsigned short d[4];
    unsigned n = 0;
    for (; v != 0 || n == 0; v >>= 16)
        d[n++] = (unsigned short)v;
    number_t *r = number_new(n);
    memcpy(r->d, d, n * sizeof(d[0]));
    return r;
}

static unsigned long long number_value(const number_t *n) {
    unsigned long long v = 0;
    for (unsigned i = n->digits; i-- > 0;)
        v = v << 16 | n->d[i];
    return v;
}

static number_t *number_mul(const number_t *a, const number_t *b) {
    number_t *r = number_new((unsigned)a->digits + b->digits);
    memset(r->d, 0, r->digits * sizeof(r->d[0]));
    for (unsigned i = 0; i < a->digits; i++) {
        unsigned carry = 0;
        for (unsigned j = 0; j < b->digits; j++) {
            carry += r->d[i + j] + (unsigned)a->d[i] * b->d[j];
            r->d[i + j] = (unsigned short)carry;
            carry >>= 16;
        }
        r->d[i + b->digits] = (unsigned short)carry;
    }
    return r;
}

static number_t *number_mod(const number_t *a, unsigned long m) {
    unsigned long long rest = 0;
    for (unsigned i = a->digits; i-- > 0;)
        rest = (rest << 16 | a->d[i]) % m;
    return number_of(rest);
}

static number_t *rho_step(number_t *x, unsigned long m, const number_t *one) {
    number_t *square = number_mul(x, x);
    number_drop(x);
    number_t *small = number_mod(square, m);
    number_drop(square);
    number_t *sum = number_of(number_value(small) + number_value(one));
    number_drop(small);
    number_t *r = number_mod(sum, m);
    number_drop(sum);
    return r;
}

static unsigned long gcd(unsigned long a, unsigned long b) {
    while (b != 0) {
        const unsigned long t = a % b;
        a = b;
        b = t;
    }
    return a;
}

static void run_factor(int scale) {
    const unsigned long p = 15485863, q = 32452843,
                        m = p * q; // primes; Pollard's rho over heap numbers
    for (int round = 0; round < scale * 3 / 2; round++) {
        number_t *one = number_of(1 + (unsigned)round % 17), *x = number_of(2 + (unsigned)round),
                 *y = number_of(2 + (unsigned)round);
        unsigned long found = 1;
        for (int i = 0; i < 2500 && found == 1; i++) {
            x = rho_step(x, m, one);
            y = rho_step(rho_step(y, m, one), m, one);
            const unsigned long a = (unsigned long)number_value(x),
                                b = (unsigned long)number_value(y);
            found = gcd(a > b ? a - b : b - a, m);
        }
        suite_check(found == 1 || m % found == 0, "factor: not a divisor");
        number_drop(one);
        number_drop(x);
        number_drop(y);
    }
}

// ---- cubes: families of bit sets that are intersected, split and thrown away in groups (a logic
// minimiser)
typedef struct family_s {
    unsigned **set;
    size_t count, room, words;
} family_t;

static void family_add(family_t *f, const unsigned *set) {
    if (f->count == f->room) {
        f->room = f->room * 2 + 4;
        f->set = realloc(f->set, f->room * sizeof(f->set[0]));
        suite_check(f->set != NULL, "no memory");
    }
    unsigned *copy = suite_get(f->words * sizeof(unsigned));
    memcpy(copy, set, f->words * sizeof(unsigned));
    f->set[f->count++] = copy;
}

static void family_free(family_t *f) {
    for (size_t i = 0; i < f->count; i++)
        free(f->set[i]);
    free(f->set);
}

// Splits by a bit, recursively, as a Shannon expansion does.
static size_t family_split(const family_t *f, unsigned bit, unsigned depth) {
    if (f->count <= 2 || depth == 0)
        return f->count;
    family_t half[2] = {{NULL, 0, 0, f->words}, {NULL, 0, 0, f->words}};
    unsigned *mask = suite_get_filled(f->words * sizeof(unsigned));
    for (size_t i = 0; i < f->count; i++) {
        const unsigned side = f->set[i][bit / 32 % f->words] >> (bit % 32) & 1;
        for (size_t w = 0; w < f->words; w++)
            mask[w] = f->set[i][w] ^ (unsigned)(bit * w);
        family_add(&half[side], mask);
        if ((i & 7) == 0)
            family_add(&half[1 - side], f->set[i]);
    }
    free(mask);
    const size_t n =
        family_split(&half[0], bit + 7, depth - 1) + family_split(&half[1], bit + 11, depth - 1);
    family_free(&half[0]);
    family_free(&half[1]);
    return n;
}

static void run_cubes(int scale) {
    uint64_t s = 4711;
    size_t n = 0;
    for (int round = 0; round < scale * 10; round++) {
        family_t f = {NULL, 0, 0, 2 + (size_t)round % 7};
        unsigned set[16];
        for (int i = 0; i < 600; i++) {
            for (size_t w = 0; w < f.words; w++)
                set[w] = (unsigned)suite_random(&s);
            family_add(&f, set);
        }
        n += family_split(&f, 0, 7);
        family_free(&f);
    }
    suite_check(n != 0, "cubes");
}

// ---- bodies: an octree over points, built anew each step, with few allocations and much
// arithmetic between
typedef struct cell_s {
    struct cell_s *child[8];
    double mass, at[3], half;
    int body;
} cell_t;

static cell_t *cell_new(const double at[3], double half) {
    cell_t *c = calloc(1, sizeof(cell_t));
    suite_check(c != NULL, "no memory");
    memcpy(c->at, at, sizeof(c->at));
    c->half = half;
    c->body = -1;
    return c;
}

static void cell_add(cell_t *c, const double (*body)[3], int which, int depth) {
    c->mass += 1;
    if (c->mass == 1 || depth > 20) {
        c->body = which;
        return;
    }
    const int both[2] = {which, c->body};
    const int count = (c->body >= 0 ? 2 : 1);
    c->body = -1;
    for (int i = 0; i < count; i++) {
        const double *b = body[both[i]];
        const int oct = (b[0] > c->at[0]) + 2 * (b[1] > c->at[1]) + 4 * (b[2] > c->at[2]);
        if (c->child[oct] == NULL) {
            double at[3];
            for (int k = 0; k < 3; k++)
                at[k] = c->at[k] + (oct >> k & 1 ? c->half : -c->half) / 2;
            c->child[oct] = cell_new(at, c->half / 2);
        }
        cell_add(c->child[oct], body, both[i], depth + 1);
    }
}

static double cell_force(const cell_t *c, const double *b) {
    double d = 1e-3;
    for (int k = 0; k < 3; k++)
        d += (c->at[k] - b[k]) * (c->at[k] - b[k]);
    if (c->half * c->half < d * 0.5)
        return c->mass / d;
    double f = 0;
    for (int i = 0; i < 8; i++)
        if (c->child[i] != NULL)
            f += cell_force(c->child[i], b);
    return f;
}

static void cell_free(cell_t *c) {
    for (int i = 0; i < 8; i++)
        if (c->child[i] != NULL)
            cell_free(c->child[i]);
    free(c);
}

static void run_bodies(int scale) {
    enum { BODIES = 12000 };
    double(*body)[3] = suite_get(BODIES * sizeof(body[0]));
    uint64_t s = 99;
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++)
            body[i][k] = (double)(suite_random(&s) % 1000000) / 1e6 - 0.5;
    for (int step = 0; step < scale / 2; step++) {
        const double zero[3] = {0, 0, 0};
        cell_t *root = cell_new(zero, 0.5);
        for (int i = 0; i < BODIES; i++)
            cell_add(root, (const double(*)[3])body, i, 0);
        for (int i = 0; i < BODIES; i += 4)
            body[i][0] += cell_force(root, body[i]) * 1e-9;
        cell_free(root);
    }
    free(body);
}

// ---- interp: an interpreter's churn: strings, small objects, tables that grow by rehashing, a
// sweep now and then
typedef struct object_s {
    struct object_s *next_all, *next_slot;
    char *text;
    unsigned hash, mark;
} object_t;

typedef struct table_s {
    object_t **slot;
    size_t slots, count;
} table_t;

static void table_grow(table_t *t) {
    const size_t slots = t->slots * 2;
    object_t **slot = calloc(slots, sizeof(slot[0]));
    suite_check(slot != NULL, "no memory");
    for (size_t i = 0; i < t->slots; i++)
        for (object_t *o = t->slot[i], *next; o != NULL; o = next) {
            next = o->next_slot;
            o->next_slot = slot[o->hash % slots];
            slot[o->hash % slots] = o;
        }
    free(t->slot);
    t->slot = slot;
    t->slots = slots;
}

static void table_sweep(table_t *t, uint64_t *s) {
    for (size_t i = 0; i < t->slots; i++)
        for (object_t **link = &t->slot[i]; *link != NULL;) {
            object_t *o = *link;
            if (suite_random(s) % 10 < 7) {
                *link = o->next_slot;
                free(o->text);
                free(o);
                t->count--;
            } else {
                link = &o->next_slot;
            }
        }
}

static void run_interp(int scale) {
    table_t t = {calloc(16, sizeof(object_t *)), 16, 0};
    uint64_t s = 31337;
    for (int i = 0; i < scale * 15000; i++) {
        const uint64_t r = suite_random(&s);
        object_t *o = suite_get(sizeof(object_t));
        const size_t length = 3 + r % 40 + (r >> 8 & 31 ? 0 : r >> 16 & 1023);
        char scratch[64];
        char *number = malloc(24);
        snprintf(number, 24, "%u", (unsigned)r);
        snprintf(scratch, sizeof scratch, "name-%s", number);
        free(number);
        o->text = suite_get(length);
        memset(o->text, scratch[5], length);
        o->hash = (unsigned)(r >> 32);
        o->next_slot = t.slot[o->hash % t.slots];
        t.slot[o->hash % t.slots] = o;
        if (++t.count > t.slots)
            table_grow(&t);
        if (t.count > 60000)
            table_sweep(&t, &s);
    }
    while (t.count > 0)
        table_sweep(&t, &s);
    free(t.slot);
}

// ---- terms: reference-counted expression trees, rewritten until nothing is left (a prover or
// compiler)
typedef struct term_s {
    unsigned refs;
    unsigned short kind, arity;
    struct term_s *part[];
} term_t;

static term_t *term_new(unsigned kind, unsigned arity) {
    term_t *t = suite_get(sizeof(term_t) + arity * sizeof(term_t *));
    t->refs = 1;
    t->kind = (unsigned short)kind;
    t->arity = (unsigned short)arity;
    return t;
}

static term_t *term_keep(term_t *t) {
    t->refs++;
    return t;
}

static void term_drop(term_t *t) {
    if (--t->refs != 0)
        return;
    for (unsigned i = 0; i < t->arity; i++)
        term_drop(t->part[i]);
    free(t);
}

static term_t *term_random(uint64_t *s, int depth) {
    const uint64_t r = suite_random(s);
    term_t *t = term_new((unsigned)(r & 15), depth == 0 ? 0 : 1 + (unsigned)(r >> 8) % 4);
    for (unsigned i = 0; i < t->arity; i++)
        t->part[i] =
            (i > 0 && (r >> (16 + i) & 3) == 0) ? term_keep(t->part[0]) : term_random(s, depth - 1);
    return t;
}

static term_t *term_rewrite(term_t *t, unsigned kind) {
    if (t->arity == 0)
        return term_keep(t);
    if (t->kind == kind) // a rule: a node of this kind becomes its first part, rewritten
        return term_rewrite(t->part[0], kind);
    term_t *r = term_new((t->kind + 1u) & 15, t->arity);
    for (unsigned i = 0; i < t->arity; i++)
        r->part[i] = term_rewrite(t->part[i], kind);
    return r;
}

static void run_terms(int scale) {
    uint64_t s = 271828;
    for (int round = 0; round < scale * 3 / 5; round++) {
        term_t *t = term_random(&s, 11);
        for (unsigned kind = 0; kind < 10; kind++) {
            term_t *r = term_rewrite(t, kind);
            term_drop(t);
            t = r;
        }
        term_drop(t);
    }
}

const suite_program_t suite_objects[] = {{"factor", run_factor}, {"cubes", run_cubes},
                                         {"bodies", run_bodies}, {"interp", run_interp},
                                         {"terms", run_terms},   {NULL, NULL}};
