// Walks every interleaving of the remote-free protocol (src/core/remote.c, the theft in orphan.c)
// over two pages, two thread heaps, two freeing threads, an owner and a thief, one atomic step at a
// time, and checks: a page is never in two stacks or twice in one, a taken page has blocks to take,
// and when all is quiet and the owners look once more, every freed block has come back. Then each
// broken twin of the protocol must be caught.
//
//   freer 1: keeps a block of page P as a      freer 2: frees one of P, one of Q
//            guest (guest.c), uses it again,
//            keeps it once more, sends it home;
//            frees another of P, ends
//   owner:   collects thread heap A once, then its thread ends (the thief may claim A from then on)
//   thief:   claims A, collects it, gives P to thread heap B, collects A again
#include "test.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = 0, P = 1, Q = 2, PAGES = 3 }; // page numbers; 0 = none
enum { A = 0, B = 1, THEAPS = 2 };          // thread heaps
enum { FREER1, FREER2, OWNER, THIEF, THREADS };
enum { FRAMES = 6 };

typedef enum twin_e {
    RIGHT,
    NO_RECHECK,
    NO_LAST_LOOK,
    NEXT_TOO_LATE,
    PEND_ALWAYS,
    GUEST_STAYS,
    TWINS
} twin_t;

// Where a thread is inside push or collect.
typedef enum pc_e {
    PC_FREE,      // remote: push a block of frame.page
    PC_OWNER_OF,  // t = page->theap
    PC_HEAD,      // head = t->pending
    PC_LINK,      // page->pending_next = head
    PC_CAS,       // t->pending: head -> page
    PC_RECHECK,   // page->theap == t ?
    PC_TAKE,      // list = exchange(t->pending)
    PC_NEXT,      // next = list->pending_next
    PC_CARRY,     // owner = list->theap, push it there
    PC_ADVANCE,   // list = next
    PC_C_TAKE,    // collect: list = exchange(theap->pending)
    PC_C_NEXT,    // next = page->pending_next
    PC_C_OWNER,   // page->theap == theap ?
    PC_C_REMOTE,  // take page->remote
    PC_C_ADVANCE, // page = next
} pc_t;

typedef struct frame_s {
    uint8_t pc, page, t, head, list, next;
} frame_t;

typedef struct thread_s {
    uint8_t task;   // what comes next of its job
    uint8_t depth;  // frames in use
    uint8_t guests; // blocks of P in its guest list
    frame_t frame[FRAMES];
} thread_t;

typedef struct state_s {
    uint8_t remote[PAGES];   // blocks in the remote list
    uint8_t theap[PAGES];    // owner
    uint8_t next[PAGES];     // pending_next
    uint8_t in_stack[PAGES]; // ghost: how many stacks hold it
    uint8_t pending[THEAPS]; // first page
    uint8_t back[PAGES];     // blocks taken back
    uint8_t owner_gone;      // A may be claimed
    thread_t thread[THREADS];
} state_t;

static twin_t twin;
static const char *fault; // what went wrong in the state at hand

static void call(thread_t *th, pc_t pc, uint8_t page, uint8_t t) {
    if (th->depth == FRAMES) {
        fault = "the protocol calls itself too often";
        return;
    }
    frame_t *const f = &th->frame[th->depth++];
    memset(f, 0, sizeof(*f));
    f->pc = (uint8_t)pc;
    f->page = page;
    f->t = t;
}

static void leave(thread_t *th) {
    memset(&th->frame[--th->depth], 0, sizeof(frame_t));
}

// Takes a whole stack; the ghosts leave it.
static uint8_t take_stack(state_t *s, uint8_t t) {
    const uint8_t first = s->pending[t];
    int steps = 0;
    for (uint8_t p = first; p != NONE; p = s->next[p]) {
        s->in_stack[p]--;
        if (++steps > PAGES) {
            fault = "a stack is a ring";
            break;
        }
    }
    s->pending[t] = NONE;
    return first;
}

static void step_free(state_t *s, thread_t *th, frame_t *f) {
    const uint8_t page = f->page;
    const bool was_empty = (s->remote[page]++ == 0); // the CAS, when it succeeds
    if (was_empty || twin == PEND_ALWAYS)
        f->pc = PC_OWNER_OF;
    else
        leave(th);
}

static void step_push(state_t *s, thread_t *th, frame_t *f) {
    switch (f->pc) {
    case PC_OWNER_OF:
        f->t = s->theap[f->page];
        f->pc = PC_HEAD;
        break;
    case PC_HEAD:
        f->head = s->pending[f->t];
        f->pc = PC_LINK;
        break;
    case PC_LINK:
        if (s->in_stack[f->page] != 0)
            fault = "the link of a page in a stack is overwritten";
        s->next[f->page] = f->head;
        f->pc = PC_CAS;
        break;
    case PC_CAS:
        if (s->pending[f->t] != f->head) {
            f->pc = PC_HEAD;
            break;
        }
        s->pending[f->t] = f->page;
        s->in_stack[f->page]++;
        f->pc = PC_RECHECK;
        break;
    case PC_RECHECK:
        if (s->theap[f->page] == f->t || twin == NO_RECHECK)
            leave(th);
        else
            f->pc = PC_TAKE;
        break;
    case PC_TAKE:
        f->list = take_stack(s, f->t);
        f->pc = PC_NEXT;
        break;
    case PC_NEXT:
        if (f->list == NONE) {
            leave(th);
            break;
        }
        f->next = s->next[f->list];
        f->pc = PC_CARRY;
        break;
    case PC_CARRY:
        f->pc = PC_ADVANCE;
        call(th, PC_HEAD, f->list, s->theap[f->list]);
        break;
    default: // PC_ADVANCE
        f->list = f->next;
        f->pc = PC_NEXT;
        break;
    }
}

static void step_collect(state_t *s, thread_t *th, frame_t *f) {
    switch (f->pc) {
    case PC_C_TAKE:
        f->list = take_stack(s, f->t);
        f->pc = PC_C_NEXT;
        break;
    case PC_C_NEXT:
        if (f->list == NONE) {
            leave(th);
            break;
        }
        f->next = s->next[f->list];
        f->pc = PC_C_OWNER;
        break;
    case PC_C_OWNER:
        f->pc = (s->theap[f->list] == f->t ? PC_C_REMOTE : PC_C_ADVANCE);
        if (f->pc == PC_C_ADVANCE)
            call(th, PC_HEAD, f->list, s->theap[f->list]);
        break;
    case PC_C_REMOTE:
        if (s->remote[f->list] == 0)
            fault = "a page in a stack has nothing to take";
        s->back[f->list] = (uint8_t)(s->back[f->list] + s->remote[f->list]);
        s->remote[f->list] = 0;
        f->pc = PC_C_ADVANCE;
        break;
    default: // PC_C_ADVANCE
        f->list = (twin == NEXT_TOO_LATE ? s->next[f->list] : f->next);
        f->pc = PC_C_NEXT;
        break;
    }
}

// The list is emptied before the blocks go home.
static void flush_guests(thread_t *th) {
    for (uint8_t n = th->guests; n > 0; n--)
        call(th, PC_FREE, P, 0);
    if (twin != GUEST_STAYS)
        th->guests = 0;
}

static bool step_freer(thread_t *th) {
    enum { KEEP, USE, KEEP_AGAIN, FLUSH, FREE, END, DONE };
    if (th->task == DONE)
        return false;
    switch (th->task++) {
    case KEEP:
    case KEEP_AGAIN:
        th->guests++;
        break;
    case USE:
        th->guests--;
        break;
    case FREE:
        call(th, PC_FREE, P, 0);
        break;
    default:
        flush_guests(th);
        break;
    }
    return true;
}

// The next piece of a thread's job. false = it has to wait, or is done.
static bool step_job(state_t *s, int who) {
    thread_t *const th = &s->thread[who];
    static const uint8_t frees[2] = {P, Q};
    if (who == FREER1)
        return step_freer(th);
    if (who == FREER2) {
        if (th->task == 2)
            return false;
        call(th, PC_FREE, frees[th->task++], 0);
        return true;
    }
    if (who == OWNER) {
        if (th->task == 2)
            return false;
        if (th->task++ == 0)
            call(th, PC_C_TAKE, NONE, A);
        else
            s->owner_gone = 1;
        return true;
    }
    if (!s->owner_gone || th->task == 3)
        return false;
    switch (th->task++) {
    case 0:
        call(th, PC_C_TAKE, NONE, A);
        break;
    case 1:
        s->theap[P] = B;
        break;
    default:
        if (twin != NO_LAST_LOOK)
            call(th, PC_C_TAKE, NONE, A);
        break;
    }
    return true;
}

static bool step(state_t *s, int who) {
    thread_t *const th = &s->thread[who];
    if (th->depth == 0)
        return step_job(s, who);
    frame_t *const f = &th->frame[th->depth - 1];
    if (f->pc == PC_FREE)
        step_free(s, th, f);
    else if (f->pc < PC_C_TAKE)
        step_push(s, th, f);
    else
        step_collect(s, th, f);
    return true;
}

static void look(state_t *s, uint8_t t) {
    thread_t *const th = &s->thread[OWNER];
    call(th, PC_C_TAKE, NONE, t);
    while (th->depth > 0 && fault == NULL)
        (void)step(s, OWNER);
}

// All threads are done. P belongs to B now, and B alone must find its blocks: A may lie in the pool
// of recycled thread heaps, where nobody looks.
static void check_end(state_t s) {
    look(&s, B);
    if (fault == NULL && s.back[P] != 3)
        fault = "not every block of the stolen page came back, once";
    look(&s, A);
    if (fault == NULL && s.back[Q] != 1)
        fault = "a block of the other page never came back";
}

// ---- The walk: every reachable state once ------------------------------------------------------
#define SEEN_LOG2 23
static uint64_t *seen; // hashes of the states; 0 = free
static state_t *stack;
static size_t stack_count, stack_cap;

static uint64_t hash_of(const state_t *s) {
    const uint8_t *const bytes = (const uint8_t *)s;
    uint64_t h = 0xCBF29CE484222325ull;
    for (size_t i = 0; i < sizeof(*s); i++)
        h = (h ^ bytes[i]) * 0x100000001B3ull;
    h = (h ^ (h >> 29)) * 0xBF58476D1CE4E5B9ull;
    return h | 1;
}

static bool is_new(const state_t *s) {
    const uint64_t h = hash_of(s);
    for (size_t i = (size_t)(h >> 20);; i++) {
        uint64_t *const cell = &seen[i & (((size_t)1 << SEEN_LOG2) - 1)];
        if (*cell == h)
            return false;
        if (*cell == 0) {
            *cell = h;
            return true;
        }
    }
}

static void push_state(const state_t *s) {
    if (stack_count == stack_cap) {
        stack_cap = stack_cap * 2 + 1024;
        stack = realloc(stack, stack_cap * sizeof(*stack));
    }
    stack[stack_count++] = *s;
}

// Returns the number of states; fault says what was found, NULL = nothing.
static size_t walk(twin_t which) {
    state_t start;
    size_t states = 0;
    twin = which;
    fault = NULL;
    memset(&start, 0, sizeof(start));
    memset(seen, 0, sizeof(*seen) << SEEN_LOG2);
    stack_count = 0;
    (void)is_new(&start);
    push_state(&start);
    while (stack_count > 0 && fault == NULL) {
        const state_t s = stack[--stack_count];
        bool moved = false;
        states++;
        for (int who = 0; who < THREADS && fault == NULL; who++) {
            state_t t = s;
            if (!step(&t, who))
                continue;
            moved = true;
            if (fault == NULL && is_new(&t))
                push_state(&t);
        }
        if (!moved)
            check_end(s);
        if (states > (size_t)1 << (SEEN_LOG2 - 1))
            fault = "too many states";
    }
    return states;
}

int main(void) {
    static const char *const names[TWINS] = {"the protocol",
                                             "twin: no look after the push",
                                             "twin: no last look after the theft",
                                             "twin: the link is read after the list is emptied",
                                             "twin: every free pushes the page",
                                             "twin: guests that went home stay in the list"};
    seen = malloc(sizeof(*seen) << SEEN_LOG2);
    for (int which = RIGHT; which < TWINS; which++) {
        const size_t states = walk((twin_t)which);
        printf("%s: %zu states, %s\n", names[which], states, fault != NULL ? fault : "no fault");
        CHECK_MSG((fault == NULL) == (which == RIGHT), "%s", names[which]);
        CHECK(which != RIGHT || states > 1000);
    }
    free(seen);
    free(stack);
    return test_result();
}
