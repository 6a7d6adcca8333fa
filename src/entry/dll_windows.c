// The allocator DLL's entry point, and how it finds its redirect DLL: one that is loaded already,
// known by its export and not by its name, else the one in our own folder. Runs inside the loader
// lock: loads at most one DLL, waits for nothing. The DLL stays loaded once it was loaded, for its
// blocks may be anywhere.
#include "entry/redirect_entry.h"

#include "base/privilege.h"
#include "base/text.h"
#include "base/variable.h"
#include "core/alloc.h"
#include "diag/message.h"
#include "diag/options.h"
#include "entry/entry.h"
#include "mimalloc.h"
#include "os/os.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <winternl.h>

#define MI_DLL_EXPORT      __declspec(dllexport)
#define EXIT_CODE_REQUIRED 120u    // the redirect DLL uses the same
#define PATH_UNITS         0x8000u // the longest path that there is
#define PATH_UNITS_SHORT   (MAX_PATH + 16u)
#define PATH_PREFIX        4u // of "\\?\", which long ones need

#if MI_ARCH_X86
#    define REDIRECT_NAME "mimalloc-redirect32.dll"
#elif MI_ARCH_ARM64
#    define REDIRECT_NAME "mimalloc-redirect-arm64.dll"
#else
#    define REDIRECT_NAME "mimalloc-redirect.dll"
#endif

typedef bool (*allocator_init_fn)(const char **message);
typedef bool (*is_active_fn)(void *module_address);
typedef void *(__cdecl *crt_malloc_fn)(size_t);
typedef void(__cdecl *crt_free_fn)(void *);

// The compiler marks code that uses floating point with a reference to it; the C runtimes define
// it.
int _fltused = 0x9875;
extern int _fltused;

static HMODULE redirect_module; // NULL = none
static bool redirect_began;     // mi_allocator_init said that it redirects

NTSYSAPI IMAGE_NT_HEADERS *NTAPI RtlImageNtHeader(void *base); // NULL = none that can be read

BOOL WINAPI DllMain(HINSTANCE instance, DWORD reason, LPVOID reserved);
MI_DLL_EXPORT void _mi_redirect_entry(DWORD reason);

// The export of a loaded module as a function pointer of any type.
static FARPROC export_find(HMODULE module, const char *name) {
    const DWORD error = GetLastError();
    FARPROC f = GetProcAddress(module, name);
    SetLastError(error);
    return f;
}

// Does a module name this export? By halves, as the system searches; but GetProcAddress first looks
// for the module in its list, which for two hundred of them takes as long as all else here. false
// also when its headers cannot be believed.
static bool export_is_named(HMODULE module, const char *name) {
    const uint8_t *base = (const uint8_t *)module;
    const IMAGE_NT_HEADERS *nt = RtlImageNtHeader(module);
    if (nt == NULL || nt->OptionalHeader.NumberOfRvaAndSizes == 0)
        return false;
    const DWORD bytes = nt->OptionalHeader.SizeOfImage;
    const DWORD at = nt->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_EXPORT].VirtualAddress;
    if (at == 0 || at > bytes - sizeof(IMAGE_EXPORT_DIRECTORY))
        return false;
    const IMAGE_EXPORT_DIRECTORY *dir = (const IMAGE_EXPORT_DIRECTORY *)(base + at);
    DWORD low = 0, high = dir->NumberOfNames;
    if (dir->AddressOfNames > bytes || high > (bytes - dir->AddressOfNames) / sizeof(DWORD))
        return false;
    while (low < high) {
        const DWORD mid = low + (high - low) / 2;
        DWORD text;
        int order = 1;
        memcpy(&text, base + dir->AddressOfNames + (size_t)mid * sizeof(text), sizeof(text));
        for (DWORD i = 0; text < bytes && i < bytes - text; i++) {
            order = (int)base[text + i] - (int)(uint8_t)name[i];
            if (order != 0 || name[i] == 0)
                break;
        }
        if (order == 0)
            return true;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

// A loaded module that exports mi_allocator_init. The loader lock is held, so the list stands
// still.
static HMODULE redirect_find_loaded(HMODULE own) {
    const PEB *peb = NtCurrentTeb()->ProcessEnvironmentBlock;
    const LIST_ENTRY *head = &peb->Ldr->InMemoryOrderModuleList;
    for (const LIST_ENTRY *e = head->Flink; e != head; e = e->Flink) {
        const LDR_DATA_TABLE_ENTRY *entry =
            CONTAINING_RECORD(e, LDR_DATA_TABLE_ENTRY, InMemoryOrderLinks);
        HMODULE module = (HMODULE)entry->DllBase;
        if (module != NULL && module != own && export_is_named(module, "mi_allocator_init") &&
            export_find(module, "mi_allocator_init") != NULL)
            return module;
    }
    return NULL;
}

// Our folder with the redirect DLL's name, or NULL: too long for the buffer. Its first units are
// for the prefix.
static WCHAR *redirect_path(HMODULE own, WCHAR *buffer, size_t buffer_units) {
    static const char name[] = REDIRECT_NAME;
    WCHAR *path = buffer + PATH_PREFIX;
    const size_t units = buffer_units - PATH_PREFIX;
    const DWORD n = GetModuleFileNameW(own, path, (DWORD)units);
    if (n == 0 || n + sizeof(name) >= units)
        return NULL;
    size_t end = n;
    while (end > 0 && path[end - 1] != '\\' && path[end - 1] != '/')
        end--;
    for (size_t i = 0; i < sizeof(name); i++)
        path[end + i] = (WCHAR)name[i];
    if (end + sizeof(name) <= MAX_PATH || path[1] != ':')
        return path;
    static const char prefix[] = "\\\\?\\";
    for (size_t i = 0; i < PATH_PREFIX; i++)
        buffer[i] = (WCHAR)prefix[i];
    return buffer;
}

static void redirect_missing(const WCHAR *path, DWORD error) {
    char text[800];
    mi_text_t t;
    mi_text_init(&t, text, sizeof(text));
    // The end of a long path says more than its beginning, and the reason must fit behind it.
    const size_t units = (size_t)lstrlenW(path), shown = (units > 240 ? 240 : units);
    mi_text_str(&t, units > shown ? "..." : "");
    mi_text_utf16(&t, (const uint16_t *)path + (units - shown), shown);
    const char *why = "it could not be loaded";
    const char *cure = "see its error number";
    if (error == ERROR_MOD_NOT_FOUND || error == ERROR_FILE_NOT_FOUND ||
        error == ERROR_PATH_NOT_FOUND) {
        why = "it is not there";
        cure =
            "put it beside the allocator's DLL, or set MIMALLOC_DISABLE_REDIRECT=1 to do without";
    } else if (error == ERROR_BAD_EXE_FORMAT || error == ERROR_EXE_MACHINE_TYPE_MISMATCH) {
        why = "it is no DLL for this processor architecture";
        cure = "replace it by the one that was built with the allocator's DLL";
    }
    mi_message_fmt(NULL, NULL,
                   "mimalloc: warning: malloc is not redirected: %s: %s (error %lu); %s.\n", text,
                   why, (unsigned long)error, cure);
}

// A variable of the redirection, which is no option of the allocator. Whether the environment may
// be trusted is asked when there is something to trust, since it takes four calls of the system.
static bool variable(const char *name, char *text, size_t cap) {
    return mi_variable_read(name, text, cap) && mi_environment_is_trusted();
}

static bool switch_is(const char *name, bool wanted) {
    char text[32];
    return variable(name, text, sizeof(text)) && mi_variable_is_off(text) != wanted;
}

// The policy where no redirect DLL is there to read it: the environment's, else the one that the
// program exports; "" = none.
static const char *policy(char *buf, size_t cap) {
    if (variable("REDIRECT", buf, cap))
        return buf;
    const char *own =
        (const char *)(void *)export_find(GetModuleHandleW(NULL), "mimalloc_redirect_policy");
    return own != NULL ? own : "";
}

static bool redirect_is_unwanted(void) {
    char text[32];
    return switch_is("DISABLE_REDIRECT", true) || switch_is("DISABLE_OVERRIDE", true) ||
           switch_is("ENABLE_REDIRECT", false) || mi_variable_is_off(policy(text, sizeof(text)));
}

// Without a partner: the policy "required" means better no program than one that runs unredirected.
static void redirect_policy_apply(void) {
    char text[32];
    if (!mi_str_eq_nocase(policy(text, sizeof(text)), "required"))
        return;
    mi_message_fmt(
        NULL, NULL,
        "mimalloc: error: MIMALLOC_REDIRECT=required: the program ends with exit code %u.\n",
        EXIT_CODE_REQUIRED);
    TerminateProcess(GetCurrentProcess(), EXIT_CODE_REQUIRED);
}

static HMODULE redirect_load_from(const WCHAR *path) {
    HMODULE module = LoadLibraryExW(path, NULL, LOAD_WITH_ALTERED_SEARCH_PATH);
    if (module == NULL) {
        redirect_missing(path, GetLastError());
        return NULL;
    }
    if (export_find(module, "mi_allocator_init") == NULL) {
        mi_message_fmt(NULL, NULL,
                       "mimalloc: warning: malloc is not redirected: %s beside the allocator's DLL "
                       "is another DLL of that name; replace it.\n",
                       REDIRECT_NAME);
        return NULL;
    }
    return module;
}

static HMODULE redirect_load(HMODULE own) {
    WCHAR short_buffer[PATH_UNITS_SHORT];
    WCHAR *buffer = NULL;
    const WCHAR *path = redirect_path(own, short_buffer, PATH_UNITS_SHORT);
    HMODULE module = NULL;
    if (path == NULL) {
        // For this moment only; too much for a stack.
        buffer = (WCHAR *)VirtualAlloc(NULL, PATH_UNITS * sizeof(WCHAR), MEM_RESERVE | MEM_COMMIT,
                                       PAGE_READWRITE);
        path = (buffer == NULL ? NULL : redirect_path(own, buffer, PATH_UNITS));
    }
    if (path != NULL)
        module = redirect_load_from(path);
    else
        mi_message_fmt(NULL, NULL, "mimalloc: warning: malloc is not redirected: %s.\n",
                       buffer == NULL ? "there is no memory for the path of the allocator's DLL"
                                      : "the path of the allocator's DLL is too long");
    if (buffer != NULL)
        (void)VirtualFree(buffer, 0, MEM_RELEASE);
    return module;
}

// Prints the report of the redirect DLL, which may be longer than one message.
static void report_print(const char *message) {
    if (message == NULL || *message == 0 || mi_option_value(mi_option_verbose) <= 0)
        return;
    mi_message_text(NULL, NULL, message);
    if (message[mi_str_len(message) - 1] != '\n')
        mi_message_text(NULL, NULL, "\n");
}

void mi_redirect_begin(void *own_base) {
    HMODULE own = own_base;
    redirect_module = redirect_find_loaded(own);
    if (redirect_module == NULL && !redirect_is_unwanted())
        redirect_module = redirect_load(own);
    if (redirect_module == NULL) {
        redirect_policy_apply();
        return;
    }
    allocator_init_fn init =
        (allocator_init_fn)(void *)export_find(redirect_module, "mi_allocator_init");
    const char *message = NULL;
    redirect_began = init(&message);
    report_print(message);
}

// The answer of behaviour for a redirect DLL that cannot give it: what the loaded UCRT's malloc
// returns.
static bool ucrt_is_ours(void) {
    HMODULE ucrt = GetModuleHandleW(L"ucrtbase.dll");
    if (ucrt == NULL)
        return false;
    crt_malloc_fn crt_malloc = (crt_malloc_fn)(void *)export_find(ucrt, "malloc");
    crt_free_fn crt_free = (crt_free_fn)(void *)export_find(ucrt, "free");
    if (crt_malloc == NULL || crt_free == NULL)
        return false;
    void *p = crt_malloc(1);
    const bool is_ours = mi_core_contains(p);
    crt_free(p);
    return is_ours;
}

bool mi_redirect_is_active_for(void *module_base) {
    if (redirect_module == NULL)
        return false;
    is_active_fn is_active =
        (is_active_fn)(void *)export_find(redirect_module, "mi_redirect_is_active");
    if (is_active == NULL)
        return ucrt_is_ours();
    // Of two allocators in a process the redirect DLL serves one, and tells it so.
    return mi_redirect_foreign() != NULL && is_active(module_base);
}

// Called by an original redirect DLL, for a process possibly before our own DllMain. Of a thread's
// end that one tells us as well; what was allocated after our DllMain heard of it, is found when
// the next thread begins (core/life.c).
void _mi_redirect_entry(DWORD reason) {
    if (reason == DLL_PROCESS_ATTACH)
        mi_entry_init();
}

BOOL WINAPI DllMain(HINSTANCE instance, DWORD reason, LPVOID reserved) {
    if (reason == DLL_PROCESS_ATTACH) {
        HMODULE pinned;
        GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
                           (LPCWSTR)(void *)instance, &pinned);
        mi_entry_init();
        mi_redirect_begin(instance);
    } else if (reason == DLL_THREAD_DETACH) {
        mi_core_thread_done();
    } else if (reason == DLL_PROCESS_DETACH) {
        mi_entry_exit();
    }
    (void)reserved;
    return TRUE;
}
