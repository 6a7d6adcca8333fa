// The questions about all blocks, and the reports.
#include "debug_heap.h"

#include "base/text.h"

static report_hook_t report_hook;
static int report_modes[3] = {2, 2, 2}; // _CRTDBG_MODE_DEBUG
static HANDLE report_files[3];

API int _CrtDbgReport(int type, const char *file, int line, const char *module, const char *format,
                      ...);
API int _CrtDbgReport(int type, const char *file, int line, const char *module, const char *format,
                      ...) {
    synth_called();
    char text[1024];
    mi_text_t t;
    va_list args;
    int result = 0;
    DWORD written;
    (void)module;
    if (type < 0 || type > 2)
        return -1;
    mi_text_init(&t, text, sizeof(text));
    if (file != NULL)
        mi_text_fmt(&t, "%s(%d) : ", file, line);
    va_start(args, format);
    mi_text_vfmt(&t, format, args);
    va_end(args);
    if (report_hook != NULL && report_hook(type, text, &result))
        return result;
    if ((report_modes[type] & 1) != 0 && report_files[type] != NULL)
        WriteFile(report_files[type], text, (DWORD)t.len, &written, NULL);
    if ((report_modes[type] & 2) != 0)
        OutputDebugStringA(text);
    return 0;
}

API report_hook_t _CrtSetReportHook(report_hook_t hook);
API report_hook_t _CrtSetReportHook(report_hook_t hook) {
    const report_hook_t before = report_hook;
    report_hook = hook;
    return before;
}

API int _CrtSetReportMode(int type, int mode);
API int _CrtSetReportMode(int type, int mode) {
    const int before = report_modes[type];
    if (mode != -1)
        report_modes[type] = mode;
    return before;
}

API HANDLE _CrtSetReportFile(int type, HANDLE file);
API HANDLE _CrtSetReportFile(int type, HANDLE file) {
    const HANDLE before = report_files[type];
    report_files[type] = file;
    return before;
}

static int is_dumped(const head_t *h) {
    const int type = h->type & 0xFFFF;
    return type == NORMAL_BLOCK || type == CLIENT_BLOCK ||
           (type == CRT_BLOCK && (synth_flags() & CHECK_CRT) != 0);
}

API void _CrtMemDumpAllObjectsSince(const mem_state_t *state);
API void _CrtMemDumpAllObjectsSince(const mem_state_t *state) {
    const head_t *stop = (state != NULL ? state->newest : NULL);
    _CrtDbgReport(0, NULL, 0, NULL, "%s", "Dumping objects ->\n");
    for (head_t *h = synth_newest(); h != NULL && h != stop; h = h->next)
        if (is_dumped(h))
            _CrtDbgReport(0, NULL, 0, NULL, "{%ld} original block at %p, %zu bytes long.\n",
                          h->request, synth_block_of(h), h->size);
    _CrtDbgReport(0, NULL, 0, NULL, "%s", "Object dump complete.\n");
}

API void _CrtMemCheckpoint(mem_state_t *state);
API void _CrtMemCheckpoint(mem_state_t *state) {
    if (state == NULL)
        return;
    *state = *synth_totals();
    state->newest = synth_newest();
}

API int _CrtMemDifference(mem_state_t *diff, const mem_state_t *old_state,
                          const mem_state_t *new_state);
API int _CrtMemDifference(mem_state_t *diff, const mem_state_t *old_state,
                          const mem_state_t *new_state) {
    int is_different = 0;
    for (int i = 0; i < BLOCK_TYPES; i++) {
        diff->counts[i] = new_state->counts[i] - old_state->counts[i];
        diff->sizes[i] = new_state->sizes[i] - old_state->sizes[i];
        if ((diff->sizes[i] != 0 || diff->counts[i] != 0) && i != FREE_BLOCK && i != IGNORE_BLOCK &&
            (i != CRT_BLOCK || (synth_flags() & CHECK_CRT) != 0))
            is_different = 1;
    }
    diff->high = new_state->high - old_state->high;
    diff->total = new_state->total - old_state->total;
    diff->newest = NULL;
    return is_different;
}

API void _CrtMemDumpStatistics(const mem_state_t *state);
API void _CrtMemDumpStatistics(const mem_state_t *state) {
    static const char *const names[BLOCK_TYPES] = {"Free", "Normal", "CRT", "Ignore", "Client"};
    for (int i = 0; i < BLOCK_TYPES; i++)
        _CrtDbgReport(0, NULL, 0, NULL, "%zu bytes in %zu %s Blocks.\n", state->sizes[i],
                      state->counts[i], names[i]);
    _CrtDbgReport(0, NULL, 0, NULL, "Largest number used: %zu bytes.\n", state->high);
    _CrtDbgReport(0, NULL, 0, NULL, "Total allocations: %zu bytes.\n", state->total);
}

API __attribute__((noinline)) int _CrtDumpMemoryLeaks(void);
API __attribute__((noinline)) int _CrtDumpMemoryLeaks(void) {
    mem_state_t state;
    _CrtMemCheckpoint(&state);
    if (state.counts[NORMAL_BLOCK] == 0 && state.counts[CLIENT_BLOCK] == 0 &&
        ((synth_flags() & CHECK_CRT) == 0 || state.counts[CRT_BLOCK] == 0))
        return 0;
    _CrtDbgReport(0, NULL, 0, NULL, "%s", "Detected memory leaks!\n");
    _CrtMemDumpAllObjectsSince(NULL);
    return 1;
}

API __attribute__((noinline)) int _CrtCheckMemory(void);
API __attribute__((noinline)) int _CrtCheckMemory(void) {
    int is_good = 1;
    if ((synth_flags() & ALLOC_MEM) == 0)
        return 1;
    for (head_t *h = synth_newest(); h != NULL; h = h->next)
        is_good &= synth_is_intact(h);
    return is_good;
}

API int _CrtIsMemoryBlock(const void *p, unsigned size, long *request, char **file, int *line);
API int _CrtIsMemoryBlock(const void *p, unsigned size, long *request, char **file, int *line) {
    for (head_t *h = synth_newest(); h != NULL; h = h->next)
        if (synth_block_of(h) == p && h->size == size) {
            if (request != NULL)
                *request = h->request;
            if (file != NULL)
                *file = h->file;
            if (line != NULL)
                *line = h->line;
            return 1;
        }
    return 0;
}

API int _CrtIsValidPointer(const void *p, unsigned size, int is_write);
API int _CrtIsValidPointer(const void *p, unsigned size, int is_write) {
    (void)size;
    (void)is_write;
    return p != NULL;
}

API int _CrtReportBlockType(const void *p);
API int _CrtReportBlockType(const void *p) {
    for (head_t *h = synth_newest(); h != NULL; h = h->next)
        if (synth_block_of(h) == p)
            return h->type;
    return -1;
}

API void _CrtSetDbgBlockType(void *p, int type);
API void _CrtSetDbgBlockType(void *p, int type) {
    for (head_t *h = synth_newest(); h != NULL; h = h->next)
        if (synth_block_of(h) == p)
            h->type = type;
}

API void _CrtDoForAllClientObjects(void (*each)(void *p, void *arg), void *arg);
API void _CrtDoForAllClientObjects(void (*each)(void *p, void *arg), void *arg) {
    for (head_t *h = synth_newest(), *next; h != NULL; h = next) {
        next = h->next;
        if ((h->type & 0xFFFF) == CLIENT_BLOCK)
            each(synth_block_of(h), arg);
    }
}
