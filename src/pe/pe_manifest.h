// Manifests of side-by-side assemblies: what a module depends on, and which versions a policy puts
// in place of others. Not an XML reader: tags, attributes and comments are enough. Bytes in, answer
// out, nothing believed unchecked, nothing allocated. Any thread.
#ifndef MI_PE_PE_MANIFEST_H
#define MI_PE_PE_MANIFEST_H

#include "base/base.h"

#define MI_PE_TOKEN_BYTES 128u // longest name that is kept

// An assembly that a manifest depends on; a word that is not there is "".
typedef struct mi_assembly_s {
    char name[MI_PE_TOKEN_BYTES];
    char version[MI_PE_TOKEN_BYTES];
    char machine[MI_PE_TOKEN_BYTES]; // processorArchitecture
    char token[MI_PE_TOKEN_BYTES];   // publicKeyToken
} mi_assembly_t;

typedef struct mi_manifest_s {
    const char *text; // UTF-8
    size_t bytes;
    size_t at;
    bool is_dependent; // inside <dependentAssembly>
} mi_manifest_t;

void mi_manifest_open(mi_manifest_t *m, const void *text, size_t bytes);
// The next assembly that the manifest depends on; false = no more.
bool mi_manifest_next(mi_manifest_t *m, mi_assembly_t *out);

// Manifests may be UTF-16, with a byte order mark or without: those are to be converted first.
bool mi_manifest_is_utf16(const void *text, size_t bytes);
// Writes UTF-8, at most 3 bytes for every 2; returns how many.
size_t mi_manifest_to_utf8(const void *text, size_t bytes, char *out);

// "9.0.30729.1" as one number; false = not four numbers of 16 bits.
bool mi_manifest_version(const char *text, uint64_t *out);
// A policy (of the assembly's publisher, or of the program: program.exe.config): when it names this
// assembly and redirects its version, a->version becomes the new one.
bool mi_manifest_redirect(const void *text, size_t bytes, mi_assembly_t *a);

#endif
