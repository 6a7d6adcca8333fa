// Whether an image carries its own, statically linked C runtime: no single fact proves it, so each
// piece of evidence has a weight. Pure, any thread.
#ifndef MI_PE_PE_EVIDENCE_H
#define MI_PE_PE_EVIDENCE_H

#include "pe/pe_image.h"

typedef struct mi_pe_evidence_s {
    uint32_t heap_imports;    // of HeapAlloc, HeapFree, HeapReAlloc, HeapSize, GetProcessHeap
    uint32_t startup_imports; // of the functions that a runtime's start-up and streams call
    uint32_t rich_objects;    // compiled and assembled objects, by the Rich header; 0 = no header
    uint32_t rich_tools;      // different tool builds that made them
    uint32_t crt_groups;      // .CRT$X* pieces that only a static runtime brings, by the debug data
    uint32_t strings;         // bits: MI_EVIDENCE_*
    bool has_cookie;          // load configuration with a security cookie: Microsoft's compiler
    uint32_t confidence;      // percent
} mi_pe_evidence_t;

#define MI_EVIDENCE_R6XXX   1u // "R6008" ... of runtimes up to Visual C++ 2013
#define MI_EVIDENCE_LIBRARY 2u // "Microsoft Visual C++ Runtime Library", the title of its messages
#define MI_EVIDENCE_MANAGED 4u // "CorExitProcess", which a runtime's exit looks for
#define MI_EVIDENCE_LOCALE  8u // the UCRT's table of locale functions found at run time

// Reads all sections: linear in the image's size.
void mi_pe_evidence(const mi_pe_t *pe, mi_pe_evidence_t *out);
// In words, for people. Always ends with a NUL.
void mi_pe_evidence_text(const mi_pe_evidence_t *e, char *out, size_t cap);

#endif
