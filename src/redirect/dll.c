// The DLL: when things happen. The order never matters: whichever of the two DLLs comes second
// starts the work.
//
//   first import       our DllMain: all CRTs mapped, none initialised      early
//   later import       our DllMain: some CRTs have already allocated       late for those
//   LoadLibrary        the same, threads running                           late
//   allocator later    mi_allocator_init, called by the allocator          early or late
//   a CRT later        the loader's notification, before its DllMain       early for it
#include "redirect/redirect.h"
#include "redirect/allocator.h"
#include "redirect/com.h"
#include "redirect/crt_foreign.h"
#include "redirect/guard.h"
#include "redirect/install.h"
#include "redirect/module_state.h"
#include "redirect/report.h"
#include "redirect/roll.h"
#include "redirect/rung_tables.h"
#include "redirect/settings.h"
#include "redirect/turn.h"

static mi_crt_t
    process_crt; // answers for pointers that the allocator's own functions get: any heap
static void *notification;
static const uint8_t here; // an address inside this DLL

// Blocks of ours are about: whoever gets one must find out. Loader lock held; may be repeated.
static void settle(void) {
    if (!mi_install_is_engaged() && mi_com_state()->phase != MI_COM_REDIRECTED)
        return;
    // What the allocator keeps must live as long as it does: only when we are pinned.
    if (mi_alloc.table_opt != NULL && mi_alloc.table_opt->set_foreign != NULL)
        mi_alloc.table_opt->set_foreign(&process_crt.ctx);
    mi_guard_install();
}

// As long as no CRT has come, that is why nothing is redirected; afterwards each CRT has its
// reason.
static void note_crts(void) {
    mi_report_state.reason = (mi_crt_first() == NULL ? MI_REASON_NO_CRT : MI_REASON_NONE);
}

// Modules that load from now on get their addresses from the changed export table. Where that could
// not be changed, the modules of before are looked at again whenever another one comes.
static bool needs_sweep(void) {
    for (mi_crt_t *c = mi_crt_first(); c != NULL; c = mi_load_acquire(&c->next))
        if (c->state == MI_CRT_REDIRECTED && c->rung == MI_RUNG_TABLES && c->table_exports == 0)
            return true;
    return false;
}

static void forget_gone(void) {
    mi_install_forget_gone();
    mi_com_forget_gone();
}

static void CALLBACK on_dll(ULONG reason, const mi_nt_dll_event_t *event, void *context) {
    (void)context;
    // When the process ends, detached CRTs go on to be called.
    if (!mi_allocator_is_bound() || event == NULL || RtlDllShutdownInProgress())
        return;
    if (reason == MI_NT_DLL_LOADED) {
        forget_gone();
        mi_install_loaded(event->base, event->base_name);
        note_crts();
        mi_com_loaded(event->base, event->base_name);
        settle();
        if (needs_sweep())
            mi_rung_tables_sweep();
    } else if (reason == MI_NT_DLL_UNLOADED) {
        mi_install_unloaded(event->base);
        mi_com_unloaded(event->base);
    }
}

// A redirect DLL that was initialised before us has already patched, or will: one is enough.
static bool is_second_redirect(void) {
    const mi_nt_module_t *self = mi_modules_of(&here);
    mi_module_exports_t exports;
    for (const mi_nt_module_t *m = mi_roll_next(NULL); m != NULL; m = mi_roll_next(m))
        if (m != self && (m->flags & MI_NT_MODULE_ATTACHED) != 0 &&
            mi_module_exports_open(&exports, m->base) &&
            mi_module_exports_find(&exports, "mi_allocator_init") != NULL &&
            mi_module_exports_find(&exports, "mi_redirect_enable") != NULL)
            return true;
    return false;
}

static void install_once_bound(void) {
    // An original half sets its state here; ours needs no call. What it does, we do not know.
    if (mi_alloc.entry != NULL) {
        mi_alloc.entry(DLL_PROCESS_ATTACH);
        mi_roll_call();
    }
    mi_report(true, "version %s; allocator %s %u.%u.%u, %s", MI_REDIRECT_VERSION, mi_alloc.name,
              (unsigned)(mi_alloc.version / 10000), (unsigned)(mi_alloc.version / 100 % 100),
              (unsigned)(mi_alloc.version % 100),
              mi_alloc.table_opt != NULL ? "interface 1" : "interface of the original");
    process_crt.ctx =
        (mi_crt_ctx_t){mi_foreign_no_memory, mi_foreign_free, mi_foreign_realloc, mi_foreign_msize};
    memcpy(process_crt.name, "the process", 12);
    mi_turn_open();
    mi_guard_prepare(&process_crt.ctx);
    mi_com_prepare(&process_crt.ctx);
    mi_install_all();
    mi_com_install_all();
    settle();
}

// Starts the work if it can be started now. Loader lock held.
static void try_install(void) {
    static bool is_installed;
    if (is_installed)
        return;
    mi_report_state.reason = mi_settings()->off;
    if (mi_report_state.reason == MI_REASON_NONE)
        mi_roll_call();
    if (mi_report_state.reason == MI_REASON_NONE && is_second_redirect())
        mi_report_state.reason = MI_REASON_SECOND_REDIRECT;
    if (mi_report_state.reason == MI_REASON_NONE)
        mi_report_state.reason = mi_allocator_bind();
    if (mi_report_state.reason != MI_REASON_NONE)
        return;
    is_installed = true;
    if (notification == NULL)
        (void)LdrRegisterDllNotification(0, on_dll, NULL, &notification);
    install_once_bound();
    note_crts();
}

// Why the program is not redirected, as one line that stays valid.
static const char *failure_line(void) {
    static char line[512];
    mi_reason_t reason = mi_report_state.reason;
    for (mi_crt_t *c = mi_crt_first(); c != NULL && reason == MI_REASON_NONE;
         c = mi_load_acquire(&c->next))
        reason = c->reason;
    // Every CRT is redirected, and the program uses none of them.
    if (reason == MI_REASON_NONE && mi_modules_next(NULL) != NULL)
        reason = mi_module_state(mi_modules_next(NULL)).reason;
    const mi_reason_row_t *row = mi_reason_row(reason);
    mi_text_t t;
    mi_text_init(&t, line, sizeof(line));
    mi_text_fmt(&t, "not redirected, reason %d (%s): %s %s\n", (int)row->code, row->name,
                row->cause, row->cure);
    return line;
}

static bool is_program_active(void) {
    const mi_nt_module_t *exe = mi_modules_next(NULL);
    return exe != NULL && mi_module_state(exe).is_active;
}

// "required": better no program than one that runs unredirected.
static void enforce_policy(void) {
    if (mi_settings()->policy != MI_POLICY_REQUIRED || is_program_active())
        return;
    mi_report(false, "%s", failure_line());
    mi_report(false, "the policy is \"required\": the program ends with exit code %d",
              MI_REDIRECT_EXIT_REQUIRED);
    TerminateProcess(GetCurrentProcess(), MI_REDIRECT_EXIT_REQUIRED);
}

// A process may hold two allocators; one has the redirection. Is the caller the other one?
static bool is_left_out(const void *caller) {
    const mi_nt_module_t *m = mi_modules_of(caller);
    return mi_allocator_is_bound() && m != NULL && m->base != mi_alloc.module &&
           mi_module_export(m->base, "mi_is_in_heap_region") != NULL;
}

bool mi_allocator_init(const char **message) {
    const mi_modules_lock_t lock = mi_modules_lock();
    try_install();
    const bool is_other = is_left_out(__builtin_return_address(0));
    const bool is_active = mi_install_is_active() && !is_other;
    if (is_other)
        mi_report(true, "another allocator has come; the redirection stays with %s", mi_alloc.name);
    if (message != NULL)
        *message = (is_active || is_other ? NULL : failure_line());
    enforce_policy();
    mi_modules_unlock(lock);
    return is_active;
}

void mi_allocator_done(void) {
}

void mi_redirect_enable(void) {
    const mi_modules_lock_t lock = mi_modules_lock();
    forget_gone();
    mi_install_pause(false);
    mi_com_pause(false);
    try_install(); // what it finds does not begin switched off
    mi_modules_unlock(lock);
}

void mi_redirect_disable(void) {
    const mi_modules_lock_t lock = mi_modules_lock();
    forget_gone();
    mi_install_pause(true);
    mi_com_pause(true);
    mi_modules_unlock(lock);
}

void mi_redirect_enable_term(void) {
}

bool mi_redirect_is_active(void *module_address) {
    const mi_modules_lock_t lock = mi_modules_lock();
    forget_gone();
    mi_rung_tables_sweep();
    const mi_nt_module_t *m =
        (module_address == NULL ? mi_modules_next(NULL) : mi_modules_of(module_address));
    const bool is_active = (m != NULL && mi_module_state(m).is_active);
    mi_modules_unlock(lock);
    return is_active;
}

static void put_modules_json(mi_text_t *t) {
    bool is_first = true;
    mi_text_str(t, ",\"modules\":[");
    for (const mi_nt_module_t *m = mi_modules_next(NULL); m != NULL; m = mi_modules_next(m)) {
        char name[128];
        const mi_module_state_t s = mi_module_state(m);
        mi_module_name(&m->base_name, name, sizeof(name));
        mi_text_str(t, is_first ? "{\"file\":" : ",{\"file\":");
        mi_text_json(t, name);
        mi_text_fmt(t, ",\"redirected\":%s,\"called\":%s,\"reason\":%d,\"crt\":",
                    s.is_active ? "true" : "false", s.is_called ? "true" : "false", (int)s.reason);
        if (s.crt != NULL)
            mi_text_json(t, s.crt);
        else
            mi_text_str(t, "null");
        mi_text_char(t, '}');
        is_first = false;
    }
    mi_text_str(t, "]}");
}

static void put_status(mi_text_t *t, int format) {
    if (format == MI_REDIRECT_TEXT) {
        mi_report_status_text(t);
    } else {
        mi_report_status_json(t);
        t->len--; // its closing brace
        put_modules_json(t);
    }
}

// The whole text, in memory that the caller gives back, as long as it comes out: a process may have
// a thousand modules. NULL = no memory.
static char *status_text(int format, size_t *needed) {
    for (size_t room = 64 * 1024; room <= 256 * MI_MiB; room *= 4) {
        mi_text_t t;
        char *whole = (char *)VirtualAlloc(NULL, room, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
        if (whole == NULL)
            return NULL;
        mi_text_init(&t, whole, room);
        put_status(&t, format);
        *needed = t.len + 1;
        if (!t.is_cut)
            return whole;
        (void)VirtualFree(whole, 0, MEM_RELEASE);
    }
    return NULL;
}

size_t mi_redirect_status(char *buf, size_t cap, int format) {
    size_t needed = 0;
    if (format != MI_REDIRECT_TEXT && format != MI_REDIRECT_JSON)
        return 0;
    const mi_modules_lock_t lock = mi_modules_lock();
    forget_gone();
    mi_rung_tables_sweep();
    char *whole = status_text(format, &needed);
    if (whole == NULL)
        needed = 0;
    if (whole != NULL && buf != NULL && cap > 0) {
        const size_t part = (needed <= cap ? needed : cap);
        memcpy(buf, whole, part);
        buf[part - 1] = 0;
    }
    if (whole != NULL)
        (void)VirtualFree(whole, 0, MEM_RELEASE);
    mi_modules_unlock(lock);
    return needed;
}

static void on_process_detach(bool is_process_ending) {
    // At the end of the process nothing is done that could wait. FreeLibrary reaches this point
    // only when nothing is patched, since patching pins us.
    if (is_process_ending)
        return;
    if (notification != NULL)
        (void)LdrUnregisterDllNotification(notification);
    mi_crt_release_all();
    mi_turn_close();
}

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
    (void)self;
    if (reason == DLL_PROCESS_ATTACH)
        try_install();
    else if (reason == DLL_PROCESS_DETACH)
        on_process_detach(reserved != NULL);
    else if (mi_allocator_is_bound() && mi_alloc.entry != NULL)
        mi_alloc.entry(reason); // an original half has no thread notification of its own
    return TRUE;
}
