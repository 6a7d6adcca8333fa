#include "pe/plan_reason.h"

// clang-format off
const mi_reason_row_t mi_reasons[] = {
    {MI_REASON_NONE, "none", "Nothing is wrong.", "Nothing to do."},
    {MI_REASON_NOT_A_CRT, "not-a-crt", "The module does not export the CRT allocation family.",
     "Nothing to do."},
    {MI_REASON_HYBRID, "hybrid", "The CRT holds code for two kinds of processor (ARM64EC, ARM64X).",
     "Use a program built for ARM64, or link the allocator into the program."},
    {MI_REASON_MALFORMED, "malformed", "The headers or export table of the module contradict themselves.",
     "Replace the file by an undamaged one."},
    {MI_REASON_CORE_MISSING, "core-missing", "malloc, calloc, realloc or free is missing, or is forwarded.",
     "Redirect the CRT that the module forwards to."},
    {MI_REASON_NOT_CODE, "not-code", "The exported address is not in an executable section.",
     "Replace the file; a packer may have changed it."},
    {MI_REASON_UNKNOWN_INSTRUCTION, "unknown-instruction", "The first instructions could not be decoded.",
     "Report the CRT version, so that the decoder can learn it."},
    {MI_REASON_TOO_SHORT, "too-short", "The function ends before there is room for a jump.",
     "Report the CRT version; until then link the allocator into the program."},
    {MI_REASON_OVERLAP, "overlap", "Another function begins inside the bytes that a jump needs.",
     "Report the CRT version; until then link the allocator into the program."},
    {MI_REASON_BRANCH_INTO, "branch-into", "The function jumps back into the bytes that a jump needs.",
     "Report the CRT version; until then link the allocator into the program."},
    {MI_REASON_CALL_IN_RANGE, "call-in-range", "A call in the first bytes could return into the jump.",
     "Report the CRT version; until then link the allocator into the program."},
    {MI_REASON_ALIAS_CONFLICT, "alias-conflict", "Two different functions of the family share one address.",
     "Report the CRT version; until then link the allocator into the program."},
    {MI_REASON_TOO_MANY, "too-many", "The module exports more allocation functions than can be handled.",
     "Report the CRT version."},
    {MI_REASON_ALREADY_HOOKED, "already-hooked", "Another product has already patched the function.",
     "Remove that product from the process, or let it exclude the program."},
    {MI_REASON_NOT_RELOCATABLE, "not-relocatable", "The first instructions cannot be moved to keep the original.",
     "Report the CRT version."},
    {MI_REASON_FORWARDED, "forwarded", "The export is a forwarder; the function is redirected where it lives.",
     "Nothing to do."},
    {MI_REASON_DISABLED, "disabled", "An environment variable disables the redirection.",
     "Unset MIMALLOC_DISABLE_REDIRECT, MIMALLOC_DISABLE_OVERRIDE and MIMALLOC_ENABLE_REDIRECT."},
    {MI_REASON_POLICY_OFF, "policy-off", "The policy MIMALLOC_REDIRECT is off.",
     "Set MIMALLOC_REDIRECT to preferred or required."},
    {MI_REASON_NO_ALLOCATOR, "no-allocator", "No allocator DLL is in the process.",
     "Put mimalloc.dll beside the program; minject check shows what is missing."},
    {MI_REASON_ALLOCATOR_VERSION, "allocator-version", "The allocator DLL speaks another version of the interface.",
     "Use the two DLLs of one release."},
    {MI_REASON_ALLOCATOR_INCOMPLETE, "allocator-incomplete", "The allocator DLL lacks a function that is needed.",
     "Use the two DLLs of one release."},
    {MI_REASON_NO_CRT, "no-crt", "No CRT DLL is in the process: the program has its CRT linked in.",
     "Build the program with the DLL runtime (/MD), or link the allocator into it."},
    {MI_REASON_DEBUG_LEFT_ALONE, "debug-left-alone", "Debug CRTs are left alone by a switch.",
     "Unset MIMALLOC_REDIRECT_DEBUG_CRT."},
    {MI_REASON_SECOND_REDIRECT, "second-redirect", "Another redirect DLL is already at work in the process.",
     "Load only one redirect DLL."},
    {MI_REASON_RUNG_NONE, "rung-none", "MIMALLOC_REDIRECT_RUNG forbids every rung.",
     "Unset MIMALLOC_REDIRECT_RUNG."},
    {MI_REASON_NO_NEAR_MEMORY, "no-near-memory", "No free memory within reach of a jump from the CRT.",
     "Report it with the list of modules and reservations near the CRT."},
    {MI_REASON_PROTECT_FAILED, "protect-failed", "The system refused to make the code writable.",
     "Exclude the program from the security product or policy that forbids it."},
    {MI_REASON_DYNAMIC_CODE, "dynamic-code", "The process forbids new code (arbitrary code guard).",
     "Switch the mitigation off for the program, or link the allocator into it."},
    {MI_REASON_THREADS, "threads", "The other threads of the process could not be stopped.",
     "Load the redirect DLL at process start."},
    {MI_REASON_THREAD_IN_RANGE, "thread-in-range", "A thread stayed inside the bytes to be changed.",
     "Load the redirect DLL at process start."},
    {MI_REASON_WRITE_LOST, "write-lost", "The bytes written to the code did not stay.",
     "Exclude the program from the security product that restores the code."},
    {MI_REASON_PROOF_FAILED, "proof-failed", "After patching, a call did not reach the allocator; all was put back.",
     "Report the CRT version and the function named in the report."},
    {MI_REASON_ROLLBACK_FAILED, "rollback-failed", "The original bytes could not be put back.",
     "End the program and report the CRT version."},
    {MI_REASON_REMOVED, "removed", "The redirection was removed by mi_redirect_disable.",
     "Call mi_redirect_enable."},
    {MI_REASON_UNLOADED, "unloaded", "The CRT has left the process.", "Nothing to do."},
    {MI_REASON_MODULE_OWN_CRT, "module-own-crt", "The module imports no CRT: its allocator is linked into it.",
     "Build the module with the DLL runtime (/MD)."},
    {MI_REASON_MODULE_CRT_LEFT, "module-crt-left", "The CRT that the module imports is not redirected.",
     "See the reason given for that CRT."},
    {MI_REASON_UNKNOWN_POINTER, "unknown-pointer", "A pointer that no heap of the process knows was freed or resized.",
     "Find the caller: it frees a block twice, or one that a CRT linked into a module made."},
    {MI_REASON_GUARD_OFF, "guard-off", "The heap guard is switched off or could not be installed.",
     "Unset MIMALLOC_REDIRECT_HEAP_GUARD, or see the reason given for it."},
    {MI_REASON_DEBUG_HEAP_LOST, "debug-heap-lost",
     "The debug heap of a debug CRT is lost: leak dumps, checks, checkpoints and hooks do not see its blocks.",
     "Use mimalloc-debug.dll (minject inject --postfix=debug), or set MIMALLOC_REDIRECT_DEBUG_CRT=0."},
    {MI_REASON_MODULE_OTHER_MALLOC, "module-other-malloc", "The module takes malloc from a DLL that is no CRT, and not from the allocator.",
     "Build the module without that DLL's malloc, or leave it its own allocator."},
    {MI_REASON_NO_THUNKS, "no-thunks", "More CRTs need import thunks than the redirect DLL has.",
     "Report it with the list of CRTs in the process."},
    {MI_REASON_TABLES_READ_ONLY, "tables-read-only", "An import or export table could not be changed, or did not keep it.",
     "Exclude the program from the security product or policy that forbids it."},
    {MI_REASON_COM_OFF, "com-off", "COM's task memory (CoTaskMemAlloc and its kin) is left alone unless it is asked for.",
     "Set MIMALLOC_REDIRECT_COTASKMEM=1 to redirect it."},
    {MI_REASON_COM_ABSENT, "com-absent", "No module of the process owns CoTaskMemAlloc.",
     "Nothing to do: it is redirected when its DLL (combase.dll or ole32.dll) is loaded."},
    {MI_REASON_COM_NEEDS_GUARD, "com-needs-guard",
     "Without the heap guard, system code that frees task memory with HeapFree would meet blocks it does not know.",
     "Unset MIMALLOC_REDIRECT_HEAP_GUARD, or see the reason given for the heap guard."},
    {MI_REASON_COM_INCOMPLETE, "com-incomplete", "The module owns CoTaskMemAlloc, but lacks another function of the family.",
     "Report the version of the DLL."},
    {MI_REASON_COM_SECOND, "com-second", "Another module's CoTaskMemAlloc is already redirected; one owner is served at a time.",
     "Nothing to do: this module's blocks go on to be its own."},
    {MI_REASON_COM_SPIED, "com-spied", "The program has registered an IMallocSpy: the original functions answer, so that it sees every block.",
     "Nothing to do; after CoRevokeMallocSpy has succeeded, task memory is ours again."},
};
// clang-format on

const size_t mi_reason_count = sizeof(mi_reasons) / sizeof(mi_reasons[0]);

const mi_reason_row_t *mi_reason_row(mi_reason_t code) {
    static const mi_reason_row_t unknown = {MI_REASON_NONE, "unknown", "Unknown reason.",
                                            "Report it."};
    for (size_t i = 0; i < mi_reason_count; i++)
        if (mi_reasons[i].code == code)
            return &mi_reasons[i];
    return &unknown;
}

bool mi_reason_has_next_rung(mi_reason_t code) {
    static const uint8_t barred_at_entry[] = {
        MI_REASON_HYBRID,          MI_REASON_UNKNOWN_INSTRUCTION, MI_REASON_TOO_SHORT,
        MI_REASON_OVERLAP,         MI_REASON_BRANCH_INTO,         MI_REASON_CALL_IN_RANGE,
        MI_REASON_ALREADY_HOOKED,  MI_REASON_NOT_RELOCATABLE,     MI_REASON_NO_NEAR_MEMORY,
        MI_REASON_PROTECT_FAILED,  MI_REASON_DYNAMIC_CODE,        MI_REASON_THREADS,
        MI_REASON_THREAD_IN_RANGE, MI_REASON_WRITE_LOST,          MI_REASON_PROOF_FAILED};
    for (size_t i = 0; i < sizeof(barred_at_entry); i++)
        if (barred_at_entry[i] == code)
            return true;
    return false;
}
