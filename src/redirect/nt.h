// The few things of ntdll that windows.h does not declare, in one place. Layouts are those that
// every version since Windows 8.1 and Wine share.
#ifndef MI_REDIRECT_NT_H
#define MI_REDIRECT_NT_H

#include "base/base.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

typedef struct mi_nt_string_s {
    USHORT length;   // bytes
    USHORT capacity; // bytes
    WCHAR *text;     // not NUL-terminated
} mi_nt_string_t;

// A module in the loader's list.
typedef struct mi_nt_module_s {
    LIST_ENTRY load_order;
    LIST_ENTRY memory_order;
    LIST_ENTRY init_order;
    uint8_t *base;
    void *entry_point;
    ULONG image_bytes;
    mi_nt_string_t full_name;
    mi_nt_string_t base_name;
    ULONG flags;
} mi_nt_module_t;

#define MI_NT_MODULE_ATTACHED 0x00080000u // its entry point has been called with PROCESS_ATTACH

typedef struct mi_nt_loader_s {
    ULONG bytes;
    BOOLEAN is_ready;
    void *handle;
    LIST_ENTRY load_order; // of mi_nt_module_t
} mi_nt_loader_t;

typedef struct mi_nt_peb_s {
    uint8_t head[4];
    void *mutant;
    uint8_t *image_base;
    mi_nt_loader_t *loader;
} mi_nt_peb_t;

typedef struct mi_nt_dll_event_s {
    ULONG flags;
    const mi_nt_string_t *full_name;
    const mi_nt_string_t *base_name;
    uint8_t *base;
    ULONG image_bytes;
} mi_nt_dll_event_t;

typedef void(CALLBACK *mi_nt_dll_callback_t)(ULONG reason, const mi_nt_dll_event_t *event,
                                             void *context);

enum { MI_NT_DLL_LOADED = 1, MI_NT_DLL_UNLOADED = 2 };
// ThreadAmILastThread, a ULONG: has the process no other thread that runs or may come to run?
enum { MI_NT_THREAD_IS_LAST = 12 };

NTSYSAPI mi_nt_peb_t *NTAPI RtlGetCurrentPeb(void);
NTSYSAPI void *NTAPI RtlImageNtHeader(void *base); // NULL = no headers, or they cannot be read
NTSYSAPI LONG NTAPI LdrRegisterDllNotification(ULONG flags, mi_nt_dll_callback_t callback,
                                               void *context, void **cookie);
NTSYSAPI LONG NTAPI LdrUnregisterDllNotification(void *cookie);
NTSYSAPI LONG NTAPI LdrLockLoaderLock(ULONG flags, ULONG *result, ULONG_PTR *cookie);
NTSYSAPI LONG NTAPI LdrUnlockLoaderLock(ULONG flags, ULONG_PTR cookie);
NTSYSAPI LONG NTAPI LdrAddRefDll(ULONG flags, void *module);
NTSYSAPI LONG NTAPI NtGetNextThread(HANDLE process, HANDLE thread, ACCESS_MASK access,
                                    ULONG attributes, ULONG flags, HANDLE *next);
NTSYSAPI LONG NTAPI NtQueryInformationThread(HANDLE thread, int what, void *buf, ULONG bytes,
                                             ULONG *needed);
NTSYSAPI BOOLEAN NTAPI RtlDllShutdownInProgress(void);

#endif
