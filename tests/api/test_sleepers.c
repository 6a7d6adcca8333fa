// The memory of a thread that sleeps: what another one has freed of its larger blocks comes back
// meanwhile, but for an OS page of each, and it finds them in order when it wakes up. The main
// thread is the one that sleeps, until the other one ends.
#include "api_test.h"
#include "api_thread.h"

enum { BYTES = 100000, COUNT = 400, LIFE = 20000 };

typedef struct job_s {
    uint8_t *blocks[COUNT];
    bool is_main; // of the main heap; others' memory stays, since they may be destroyed meanwhile
} job_t;

static size_t rss(void) {
    size_t bytes = 0;
    mi_process_info(NULL, NULL, NULL, &bytes, NULL, NULL, NULL, NULL);
    return bytes;
}

// So many slow paths that some look at the clock; with a purge delay of 0 nothing has to wait.
static void live_on(void) {
    static void *kept[LIFE];
    for (int i = 0; i < LIFE; i++)
        kept[i] = mi_malloc(1000);
    for (int i = 0; i < LIFE; i++)
        mi_free(kept[i]);
}

static void free_all(void *arg) {
    job_t *const job = arg;
    const size_t before = rss();
    for (int i = 0; i < COUNT; i++)
        mi_free(job->blocks[i]);
    mi_collect(false); // what this thread holds back
    live_on();
    const size_t now = rss(), most = before - COUNT * (BYTES / 4 * 3);
    size_t same = 0;
    for (int i = 0; i < COUNT; i++)
        same += (job->blocks[i][BYTES / 2] == 0x5A);
    if (!job->is_main)
        CHECK_MSG(same == COUNT, "%zu of %d", same, (int)COUNT);
    else if (!MI_DEBUG) // which leaves the memory of free blocks alone
        CHECK_MSG(now <= most, "%zu, %zu before", now, before);
}

static void check_sleeper(mi_heap_t *heap) {
    static job_t job;
    job.is_main = (heap == mi_heap_main());
    for (int again = 0; again < 2; again++) {
        for (int i = 0; i < COUNT; i++) {
            job.blocks[i] = mi_heap_malloc(heap, BYTES);
            memset(job.blocks[i], i, BYTES);
        }
        for (int i = 0; i < COUNT; i++) {
            CHECK(job.blocks[i][0] == (uint8_t)i && job.blocks[i][BYTES - 1] == (uint8_t)i);
            memset(job.blocks[i], 0x5A, BYTES);
        }
        in_thread(free_all, &job);
    }
    // Awake: its blocks are whole, and can be had again.
    for (int i = 0; i < COUNT; i++) {
        job.blocks[i] = mi_heap_malloc(heap, BYTES);
        memset(job.blocks[i], i, BYTES);
    }
    for (int i = 0; i < COUNT; i++) {
        bool is_whole = true;
        for (int k = 0; k < BYTES; k++)
            is_whole &= (job.blocks[i][k] == (uint8_t)i);
        CHECK_MSG(is_whole, "block %d", i);
        mi_free(job.blocks[i]);
    }
}

int main(void) {
    mi_option_set(mi_option_purge_delay, 0);
    check_sleeper(mi_heap_main());
    mi_heap_t *const heap = mi_heap_new();
    check_sleeper(heap);
    mi_heap_delete(heap);
    return test_result();
}
