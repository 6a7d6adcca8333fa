#include "redirect/report.h"
#include "redirect/allocator.h"
#include "redirect/com.h"
#include "redirect/com_malloc.h"
#include "redirect/settings.h"

#ifndef MI_REDIRECT_VERSION
#    error "the build must define MI_REDIRECT_VERSION"
#endif

mi_report_state_t mi_report_state;

static void write_log(const char *line, size_t bytes) {
    const WCHAR *name = mi_settings()->log;
    if (name[0] == 0)
        return;
    const HANDLE file = CreateFileW(name, FILE_APPEND_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE,
                                    NULL, OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return;
    DWORD written;
    (void)WriteFile(file, line, (DWORD)bytes, &written, NULL);
    CloseHandle(file);
}

static void write_line(bool is_shown, const char *line, size_t bytes) {
    const DWORD error = GetLastError();
    if (is_shown) {
        DWORD written;
        const HANDLE out = GetStdHandle(STD_ERROR_HANDLE);
        if (out != NULL && out != INVALID_HANDLE_VALUE)
            (void)WriteFile(out, line, (DWORD)bytes, &written, NULL);
        OutputDebugStringA(line);
    }
    write_log(line, bytes);
    SetLastError(error);
}

void mi_report(bool is_verbose_only, const char *fmt, ...) {
    const bool is_shown = (!is_verbose_only || mi_settings()->is_verbose);
    if (!is_shown && mi_settings()->log[0] == 0)
        return;
    char line[1000];
    mi_text_t t;
    mi_text_init(&t, line, sizeof(line) - 1); // room for the line end
    mi_text_str(&t, "mimalloc-redirect: ");
    va_list args;
    va_start(args, fmt);
    mi_text_vfmt(&t, fmt, args);
    va_end(args);
    line[t.len++] = '\n';
    line[t.len] = 0;
    write_line(is_shown, line, t.len);
}

static void put_version(mi_text_t *t, const mi_pe_version_t *v) {
    mi_text_fmt(t, "%u.%u.%u.%u", (unsigned)v->part[0], (unsigned)v->part[1], (unsigned)v->part[2],
                (unsigned)v->part[3]);
}

static const char *state_text(const mi_crt_t *crt) {
    if (crt->state == MI_CRT_REDIRECTED)
        return "redirected";
    return crt->state == MI_CRT_UNLOADED ? "unloaded" : "left alone";
}

static void put_reason(mi_text_t *t, const char *before, mi_reason_t reason, const char *at) {
    const mi_reason_row_t *row = mi_reason_row(reason);
    mi_text_fmt(t, "%sreason %d (%s)%s%s: %s %s", before, (int)row->code, row->name,
                at != NULL ? " at " : "", at != NULL ? at : "", row->cause, row->cure);
}

// Before it is tried there is none.
static mi_reason_t guard_reason(void) {
    return mi_report_state.guard == NULL ? MI_REASON_GUARD_OFF : mi_report_state.guard_reason;
}

static void put_rung(mi_text_t *t, const mi_crt_t *crt) {
    const bool is_entry = (crt->rung == MI_RUNG_ENTRY);
    const unsigned count = (is_entry ? crt->patch_count : crt->thunk_count);
    if (is_entry)
        mi_text_fmt(t, ", %u functions by entry patch", count);
    else
        mi_text_fmt(
            t, ", %u functions by tables (%u imports, %u exports; calls inside it stay its own)",
            count, (unsigned)crt->table_imports, (unsigned)crt->table_exports);
    mi_text_fmt(t, ", %s, proof: %u of %u called and found in the allocator%s",
                crt->is_late ? "late" : "early", (unsigned)crt->proof_count, count,
                crt->is_tracked      ? ", debug CRT with its debug heap"
                : crt->plan.is_debug ? ", debug CRT"
                                     : "");
    if (crt->entry_reason != MI_REASON_NONE)
        put_reason(t, "; not at its entries, ", crt->entry_reason, crt->failed_name);
}

static void put_crt(mi_text_t *t, const mi_crt_t *crt) {
    mi_text_str(t, crt->name);
    mi_text_char(t, ' ');
    put_version(t, &crt->version);
    mi_text_fmt(t, " at %p: %s", (void *)crt->base, state_text(crt));
    if (crt->state == MI_CRT_REDIRECTED)
        put_rung(t, crt);
    if (crt->reason != MI_REASON_NONE)
        put_reason(t, ", ", crt->reason, crt->failed_name);
    if (crt->note != MI_REASON_NONE)
        put_reason(t, "; note, ", crt->note, NULL);
    if (crt->state != MI_CRT_REFUSED)
        return;
    if (crt->entry_reason != MI_REASON_NONE && crt->tables_reason != MI_REASON_NONE)
        put_reason(t, "; nor by tables, ", crt->tables_reason, NULL);
    if (crt->keeps_takers)
        mi_text_str(t, "; what takes a block stays redirected, since blocks were handed out");
}

void mi_report_crt(const mi_crt_t *crt) {
    char text[900];
    mi_text_t t;
    mi_text_init(&t, text, sizeof(text));
    put_crt(&t, crt);
    mi_report(true, "%s", text);
}

void mi_report_reason(const char *what, mi_reason_t reason) {
    char text[700];
    mi_text_t t;
    mi_text_init(&t, text, sizeof(text));
    mi_text_str(&t, what);
    put_reason(&t, ": ", reason, NULL);
    mi_report(true, "%s", text);
}

// ---- COM's task memory ----

static const char *com_state_text(const mi_com_state_t *com) {
    if (!mi_settings()->is_com_on)
        return "off";
    return com->phase == MI_COM_REDIRECTED   ? "redirected"
           : com->phase == MI_COM_LEFT_ALONE ? "left alone"
           : com->phase == MI_COM_GONE       ? "unloaded"
                                             : "waiting";
}

// When nothing at all is redirected, that is the reason.
static mi_reason_t com_reason(const mi_com_state_t *com) {
    const bool is_untried = (com->reason == MI_REASON_COM_OFF && mi_settings()->is_com_on);
    return is_untried ? mi_report_state.reason : com->reason;
}

static mi_reason_t com_note(void) {
    return mi_com_malloc_stands_back(MI_COM_SPIED) ? MI_REASON_COM_SPIED : MI_REASON_NONE;
}

static void put_com(mi_text_t *t) {
    const mi_com_state_t *com = mi_com_state();
    mi_text_str(t, "COM memory: ");
    if (com->base != NULL) {
        mi_text_fmt(t, "%s ", com->name);
        put_version(t, &com->version);
        mi_text_fmt(t, " at %p: ", (const void *)com->base);
    }
    mi_text_str(t, com_state_text(com));
    if (com->phase == MI_COM_REDIRECTED)
        mi_text_fmt(t,
                    ", %u functions by entry patch, %s, proof: %u of %u called and found in the "
                    "allocator, %llu calls with blocks of others",
                    (unsigned)com->patch_count, com->is_late ? "late" : "early",
                    (unsigned)com->proof_count, (unsigned)com->patch_count,
                    (unsigned long long)mi_com_malloc_foreign_calls());
    if (com_reason(com) != MI_REASON_NONE)
        put_reason(t, ", ", com_reason(com), com->failed_name);
    if (com_note() != MI_REASON_NONE)
        put_reason(t, "; note, ", com_note(), NULL);
}

void mi_report_com(void) {
    char text[900];
    mi_text_t t;
    mi_text_init(&t, text, sizeof(text));
    put_com(&t);
    mi_report(true, "%s", text);
}

void mi_report_debug_heap_lost(const mi_crt_t *crt) {
    static bool is_said; // loader lock
    char text[480];
    mi_text_t t;
    if (is_said)
        return;
    is_said = true;
    mi_text_init(&t, text, sizeof(text));
    mi_text_fmt(&t, "%s: ", crt->name);
    put_reason(&t, "", MI_REASON_DEBUG_HEAP_LOST, NULL);
    mi_report(false, "%s", text);
}

void mi_report_unknown_pointer(const char *crt_name, const void *p, const char *what) {
    const mi_reason_row_t *row = mi_reason_row(MI_REASON_UNKNOWN_POINTER);
    mi_report(false,
              "%s: pointer %p was %s; reason %d (%s): %s %s It is left alone; further ones are "
              "counted only.",
              crt_name, (void *)(uintptr_t)p, what, (int)row->code, row->name, row->cause,
              row->cure);
}

static void put_number(mi_text_t *t, uint64_t v) {
    mi_text_fmt(t, "%llu", (unsigned long long)v);
}

static void put_allocator_text(mi_text_t *t) {
    if (!mi_allocator_is_bound()) {
        mi_text_str(t, "allocator: none\n");
        return;
    }
    mi_text_fmt(t, "allocator: %s %u.%u.%u, %s\n", mi_alloc.name,
                (unsigned)(mi_alloc.version / 10000), (unsigned)(mi_alloc.version / 100 % 100),
                (unsigned)(mi_alloc.version % 100),
                mi_alloc.table_opt != NULL ? "interface table" : "interface of the original");
}

void mi_report_status_text(mi_text_t *t) {
    mi_text_fmt(t, "mimalloc-redirect %s\n", MI_REDIRECT_VERSION);
    put_allocator_text(t);
    if (mi_report_state.reason != MI_REASON_NONE) {
        const mi_reason_row_t *row = mi_reason_row(mi_report_state.reason);
        mi_text_fmt(t, "reason %d (%s): %s %s\n", (int)row->code, row->name, row->cause, row->cure);
    }
    mi_text_fmt(t, "heap guard: %s, %llu calls answered",
                mi_report_state.guard != NULL ? mi_report_state.guard : "off",
                (unsigned long long)mi_load_relaxed(&mi_report_state.guarded_calls));
    if (guard_reason() != MI_REASON_NONE)
        put_reason(t, "; ", guard_reason(), NULL);
    mi_text_char(t, '\n');
    put_com(t);
    mi_text_char(t, '\n');
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next)) {
        put_crt(t, c);
        mi_text_fmt(
            t,
            "\n  blocks of before: %llu freed, %llu moved, %llu measured; unknown pointers: %llu\n",
            (unsigned long long)mi_load_relaxed(&c->foreign_frees),
            (unsigned long long)mi_load_relaxed(&c->foreign_reallocs),
            (unsigned long long)mi_load_relaxed(&c->foreign_sizes),
            (unsigned long long)mi_load_relaxed(&c->unknown_pointers));
    }
}

static void json_key(mi_text_t *t, const char *key) {
    mi_text_json(t, key);
    mi_text_char(t, ':');
}

static void json_reason(mi_text_t *t, const char *key, mi_reason_t reason) {
    const mi_reason_row_t *row = mi_reason_row(reason);
    json_key(t, key);
    mi_text_fmt(t, "{\"code\":%d,\"name\":", (int)row->code);
    mi_text_json(t, row->name);
    mi_text_str(t, ",\"cause\":");
    mi_text_json(t, row->cause);
    mi_text_str(t, ",\"cure\":");
    mi_text_json(t, row->cure);
    mi_text_char(t, '}');
}

static void json_count(mi_text_t *t, const char *key, uint64_t value) {
    mi_text_char(t, ',');
    json_key(t, key);
    put_number(t, value);
}

static void json_crt(mi_text_t *t, const mi_crt_t *c) {
    mi_text_str(t, "{\"file\":");
    mi_text_json(t, c->name);
    mi_text_str(t, ",\"version\":\"");
    put_version(t, &c->version);
    mi_text_str(t, "\",\"state\":");
    mi_text_json(t, state_text(c));
    mi_text_fmt(t, ",\"late\":%s,\"debug\":%s,\"rung\":\"%s\",\"takers_kept\":%s,",
                c->is_late ? "true" : "false", c->plan.is_debug ? "true" : "false",
                mi_rung_text(c->rung), c->keeps_takers ? "true" : "false");
    mi_text_fmt(t, "\"debug_heap\":%s,", c->is_tracked ? "true" : "false");
    json_reason(t, "reason", c->reason);
    mi_text_char(t, ',');
    json_reason(t, "note", c->note);
    json_count(t, "entry_reason", (uint64_t)c->entry_reason);
    json_count(t, "tables_reason", (uint64_t)c->tables_reason);
    json_count(t, "table_imports", c->table_imports);
    json_count(t, "table_exports", c->table_exports);
    json_count(t, "functions", c->rung == MI_RUNG_TABLES ? c->thunk_count : c->patch_count);
    json_count(t, "straight", c->rung == MI_RUNG_ENTRY ? c->straight_count : 0);
    json_count(t, "proven", c->proof_count);
    json_count(t, "foreign_frees", mi_load_relaxed(&c->foreign_frees));
    json_count(t, "foreign_reallocs", mi_load_relaxed(&c->foreign_reallocs));
    json_count(t, "foreign_sizes", mi_load_relaxed(&c->foreign_sizes));
    json_count(t, "unknown_pointers", mi_load_relaxed(&c->unknown_pointers));
    mi_text_char(t, '}');
}

static void json_com(mi_text_t *t) {
    const mi_com_state_t *com = mi_com_state();
    mi_text_str(t, ",\"com_memory\":{\"state\":");
    mi_text_json(t, com_state_text(com));
    mi_text_str(t, ",\"file\":");
    mi_text_json(t, com->base != NULL ? com->name : "");
    mi_text_str(t, ",\"version\":\"");
    put_version(t, &com->version);
    mi_text_fmt(t, "\",\"late\":%s,", com->is_late ? "true" : "false");
    json_reason(t, "reason", com_reason(com));
    mi_text_char(t, ',');
    json_reason(t, "note", com_note());
    json_count(t, "functions", com->patch_count);
    json_count(t, "proven", com->proof_count);
    json_count(t, "foreign_calls", mi_com_malloc_foreign_calls());
    mi_text_char(t, '}');
}

void mi_report_status_json(mi_text_t *t) {
    mi_text_fmt(t, "{\"redirect\":\"%s\",\"allocator\":", MI_REDIRECT_VERSION);
    if (mi_allocator_is_bound())
        mi_text_json(t, mi_alloc.name);
    else
        mi_text_str(t, "null");
    json_count(t, "allocator_version", mi_alloc.version);
    mi_text_fmt(t, ",\"original_interface\":%s,",
                mi_allocator_is_bound() && mi_alloc.table_opt == NULL ? "true" : "false");
    json_reason(t, "reason", mi_report_state.reason);
    mi_text_str(t, ",\"heap_guard\":");
    mi_text_json(t, mi_report_state.guard != NULL ? mi_report_state.guard : "off");
    json_count(t, "guard_reason", (uint64_t)guard_reason());
    json_count(t, "guarded_calls", mi_load_relaxed(&mi_report_state.guarded_calls));
    json_com(t);
    mi_text_str(t, ",\"crts\":[");
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next)) {
        if (c != mi_crt_first())
            mi_text_char(t, ',');
        json_crt(t, c);
    }
    mi_text_str(t, "]}");
}
