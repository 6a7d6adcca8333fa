// What decides which file a DLL's name means, besides folders and manifests: API sets; and the
// words in a version resource. Bytes in, answer out, like pe_image.h: nothing is believed
// unchecked, nothing allocated. Any thread.
#ifndef MI_PE_PE_NAMES_H
#define MI_PE_PE_NAMES_H

#include "pe/pe_image.h"

// The schema of a system: the section .apiset of its apisetschema.dll (version 6, Windows 10 and
// later, also Wine's).
typedef struct mi_api_sets_s {
    const uint8_t *bytes;
    uint32_t size;
    uint32_t count;   // entries
    uint32_t entries; // offset of the first
} mi_api_sets_t;

bool mi_api_sets_open(mi_api_sets_t *sets, const mi_pe_t *schema);
// The DLL behind "api-ms-win-core-file-l1-1-0.dll"; the last number of the version does not count.
// false = the system has no such set. host may become "": it has the name, but nothing behind it.
bool mi_api_sets_find(const mi_api_sets_t *sets, const char *name, char *host, size_t cap);
// Whether a name is one of a set at all.
bool mi_api_set_is(const char *name);

// The value of a word (ASCII, as the value is) in the version resource: "ProductName".
bool mi_pe_version_word(const mi_pe_t *pe, const char *key, char *out, size_t cap);

#endif
