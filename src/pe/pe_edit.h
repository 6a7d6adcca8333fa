// The PE editor: puts two DLLs first in an image's import table, and takes them out again byte for
// byte. Pure: a plan is made from the bytes of a file, says how large the result is, and writes it
// into the caller's buffer. It allocates nothing and touches no file. Any thread.
//
// What inject adds is one block, in a new section (or behind the last one, when there is no room
// for another section header):
//
//   +0    undo header: "MINJECT1", lengths, SHA-256 of the original      see pe_edit.c
//   +96   import descriptors: redirect DLL, allocator DLL, then the others in their old order, then
//   zeros
//         lookup and address tables for the two; hint and names; DLL names
//         undo record: the original bytes of every place in the headers that was changed, and the
//         certificate
//
// Where it goes in the file: behind the sections and the symbol table, before any overlay. So
// nothing that the headers point to moves, and an overlay stays at the end of the file, where most
// of its readers (zip, 7-Zip, PyInstaller, scanners) look for it. Readers that recorded an absolute
// offset break, so the tool warns about every overlay. Putting the block behind the overlay would
// break the larger group.
#ifndef MI_PE_PE_EDIT_H
#define MI_PE_PE_EDIT_H

#include "pe/pe_image.h"

#define MI_PE_EDIT_PATCHES 96u
#define MI_PE_SECTION_NAME ".minject"

typedef enum mi_pe_edit_e {
    MI_PE_EDIT_OK = 0,
    MI_PE_EDIT_NOTHING,   // both DLLs are already first and in the right order
    MI_PE_EDIT_SIGNED,    // carries a certificate and allow_signed is false
    MI_PE_EDIT_IL_ONLY,   // .NET without native code: Windows ignores its import table
    MI_PE_EDIT_HYBRID,    // ARM64EC, ARM64X, CHPE
    MI_PE_EDIT_INSTALLER, // would refuse to start afterwards, and allow_installer is false
    MI_PE_EDIT_KERNEL,    // driver, boot program, EFI
    MI_PE_EDIT_ALIGNMENT, // sections aligned to less than a page
    MI_PE_EDIT_NO_ROOM,   // neither a new section nor a longer last one is possible
    MI_PE_EDIT_IMPORTS,   // the import table is malformed
    MI_PE_EDIT_NOT_OURS,  // remove: no undo record
    MI_PE_EDIT_CHANGED    // remove: the file was changed after the injection
} mi_pe_edit_t;

typedef enum mi_pe_role_e {
    MI_PE_ROLE_OTHER,
    MI_PE_ROLE_REDIRECT,
    MI_PE_ROLE_ALLOCATOR
} mi_pe_role_t;

typedef struct mi_pe_inject_options_s {
    const char *redirect_dll;  // as mi_pe_redirect_name gives it
    const char *allocator_dll; // mimalloc.dll or a variant
    bool replace_variant;      // rename another variant that is imported already
    bool allow_signed;         // drop the certificate (it is kept in the undo record)
    bool allow_installer;      // although it checks itself (pe_overlay.h)
} mi_pe_inject_options_t;

// One changed place of the original file.
typedef struct mi_pe_patch_s {
    uint32_t offset;
    uint32_t bytes;
    uint8_t value[40];
} mi_pe_patch_t;

typedef struct mi_pe_inject_s {
    const mi_pe_t *pe;
    mi_pe_inject_options_t options;
    size_t out_bytes;       // size of the result
    uint64_t insert_offset; // end of contents: the inserted bytes begin here
    uint64_t insert_bytes;  // padding, in extend mode a copy of the last section, then the block
    uint64_t cut_offset;    // certificate that is taken out
    uint32_t cut_bytes;
    uint32_t block_at; // offset of the block in the inserted bytes
    uint32_t block_rva;
    uint32_t block_bytes;
    uint32_t old_count; // import descriptors of the original
    uint32_t new_count; // descriptors of ours that are added: 0, 1 or 2
    uint32_t patch_count;
    bool has_redirect; // already imported, moved first
    bool has_allocator;
    bool extends_last; // no room for a section header: the last section is made longer
    bool had_bound;    // bound imports were cleared
    bool had_checksum; // recomputed
    bool has_overlay;  // bytes behind the contents, without the certificate
    mi_pe_patch_t patch[MI_PE_EDIT_PATCHES];
} mi_pe_inject_t;

typedef struct mi_pe_undo_s {
    uint32_t block_rva;
    uint32_t block_bytes;
    uint64_t original_bytes;
    uint8_t sha256[32]; // of the original file
    uint64_t insert_offset;
    uint64_t insert_bytes;
    uint64_t cut_offset;
    uint32_t cut_bytes;
    uint32_t patch_count;
    const uint8_t *patches; // the record's patch list, then the certificate
    size_t patches_room;
} mi_pe_undo_t;

// mimalloc-redirect.dll, mimalloc-redirect32.dll or mimalloc-redirect-arm64.dll.
const char *mi_pe_redirect_name(uint16_t machine);
// Whether a DLL name is one of the two halves (any variant).
mi_pe_role_t mi_pe_role_of(const char *dll);
const char *mi_pe_machine_name(uint16_t machine);

// Plans an injection; pe is a file view. On MI_PE_EDIT_OK, plan->out_bytes is the size of the
// result.
mi_pe_edit_t mi_pe_inject_plan(mi_pe_inject_t *plan, const mi_pe_t *pe,
                               const mi_pe_inject_options_t *options);
// The result need not be whole in memory. First the block, plan->block_bytes bytes, from the
// SHA-256 of the original; then any window of the result, from the plan and the block. When
// plan->had_checksum, the sum of all windows in order (each but the last of an even length) is
// given to mi_pe_inject_set_checksum, and windows that are read afterwards hold it.
void mi_pe_inject_block(const mi_pe_inject_t *plan, const uint8_t sha256[32], uint8_t *block);
void mi_pe_inject_read(const mi_pe_inject_t *plan, const uint8_t *block, uint64_t at, uint8_t *out,
                       size_t bytes);
uint64_t mi_pe_checksum_add(uint64_t sum, const uint8_t *bytes, size_t count);
void mi_pe_inject_set_checksum(mi_pe_inject_t *plan, uint64_t sum);
// All of that at once: writes plan->out_bytes bytes.
void mi_pe_inject_write(mi_pe_inject_t *plan, uint8_t *out);

// Whether a written result reads back as intended. false = the original is so contradictory
// (directories that lie in each other) that the changes met; the result must not be used.
bool mi_pe_inject_is_sound(const mi_pe_inject_t *plan, const uint8_t *out);

// The same for a module that is mapped in a suspended process (pe is a mapped view of its bytes):
// no file, no undo record. On MI_PE_EDIT_OK, plan->block_bytes bytes are to be placed at any RVA
// from the image's end up to 2 GiB, in readable and writable memory.
mi_pe_edit_t mi_pe_memory_plan(mi_pe_inject_t *plan, const mi_pe_t *pe,
                               const mi_pe_inject_options_t *options);
// Writes the block for this RVA; *imports is what the import directory must say then.
void mi_pe_memory_write(mi_pe_inject_t *plan, uint32_t block_rva, uint8_t *block,
                        mi_pe_range_t *imports);

// Finds and checks the undo record of an injected file; undo->original_bytes is the size of the
// result.
mi_pe_edit_t mi_pe_undo_find(mi_pe_undo_t *undo, const mi_pe_t *pe);
// A window of the original file, and whether a SHA-256 of all of it is the recorded one: only then
// was it the original.
void mi_pe_undo_read(const mi_pe_undo_t *undo, const mi_pe_t *pe, uint64_t at, uint8_t *out,
                     size_t bytes);
bool mi_pe_undo_is(const mi_pe_undo_t *undo, const uint8_t sha256[32]);
// Both at once: writes the original; MI_PE_EDIT_CHANGED when its SHA-256 is not the recorded one.
mi_pe_edit_t mi_pe_undo_write(const mi_pe_undo_t *undo, const mi_pe_t *pe, uint8_t *out);

#endif
