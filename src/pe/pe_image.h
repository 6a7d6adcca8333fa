// The one PE reader: bytes in, answer out. It serves a module mapped by the loader, a file in
// memory and a fuzzer, allocates nothing, calls no C library, and believes no number it has not
// checked: each answer is a bool or a pointer, false or NULL when the image does not hold what was
// asked for. Every loop is bounded by the size of the image. The bytes belong to the caller and
// must outlive the view; names and pointers that are returned point into them. Pure functions: any
// thread.
#ifndef MI_PE_PE_IMAGE_H
#define MI_PE_PE_IMAGE_H

#include "base/base.h"

#define MI_PE_MACHINE_X86   0x014Cu
#define MI_PE_MACHINE_X64   0x8664u
#define MI_PE_MACHINE_ARM64 0xAA64u
#define MI_PE_MACHINE_ARM   0x01C4u

#define MI_PE_FILE_DLL           0x2000u // file characteristics
#define MI_PE_FILE_LARGE_ADDRESS 0x0020u
#define MI_PE_DLLFLAG_DYNAMIC    0x0040u // DLL characteristics
#define MI_PE_DLLFLAG_INTEGRITY  0x0080u
#define MI_PE_DLLFLAG_APPCONT    0x1000u
#define MI_PE_DLLFLAG_GUARD_CF   0x4000u
#define MI_PE_SECTION_CODE       0x00000020u
#define MI_PE_SECTION_DATA       0x00000040u
#define MI_PE_SECTION_DISCARD    0x02000000u
#define MI_PE_SECTION_EXECUTE    0x20000000u
#define MI_PE_SECTION_READ       0x40000000u
#define MI_PE_SECTION_WRITE      0x80000000u

#define MI_PE_NAME_MAX 4096u // longest symbol or DLL name that is believed, bytes

typedef enum mi_pe_dir_e {
    MI_PE_DIR_EXPORT = 0,
    MI_PE_DIR_IMPORT = 1,
    MI_PE_DIR_RESOURCE = 2,
    MI_PE_DIR_EXCEPTION = 3,
    MI_PE_DIR_SECURITY = 4, // its rva is a file offset
    MI_PE_DIR_BASERELOC = 5,
    MI_PE_DIR_DEBUG = 6,
    MI_PE_DIR_TLS = 9,
    MI_PE_DIR_LOAD_CONFIG = 10,
    MI_PE_DIR_BOUND_IMPORT = 11,
    MI_PE_DIR_IAT = 12,
    MI_PE_DIR_DELAY_IMPORT = 13,
    MI_PE_DIR_CLR = 14,
    MI_PE_DIR_COUNT = 16
} mi_pe_dir_t;

// Why mi_pe_open said no.
typedef enum mi_pe_error_e {
    MI_PE_OK = 0,
    MI_PE_EMPTY,     // no bytes at all
    MI_PE_NOT_PE,    // no MZ, or an MZ with nothing recognisable behind it
    MI_PE_DOS,       // a DOS program
    MI_PE_NE,        // a 16-bit Windows or OS/2 program (NE), or a VxD (LE, LX)
    MI_PE_CUT,       // headers or section contents run past the end of the bytes
    MI_PE_MALFORMED, // headers that contradict themselves
    MI_PE_MACHINE    // neither x86, x64 nor ARM64
} mi_pe_error_t;

typedef struct mi_pe_range_s {
    uint32_t rva;   // first byte (for the security directory: file offset)
    uint32_t bytes; // length
} mi_pe_range_t;

typedef struct mi_pe_section_s {
    char name[9];           // NUL-terminated
    uint32_t index;         // place in the section table
    uint32_t header_offset; // file offset of the 40-byte header
    uint32_t rva;
    uint32_t virtual_bytes;
    uint32_t raw_offset; // as written in the header
    uint32_t raw_bytes;  // in the file; 0 where the header names no place
    uint32_t flags;      // MI_PE_SECTION_*
} mi_pe_section_t;

// A view of an image. Filled by mi_pe_open; the fields are for reading.
typedef struct mi_pe_s {
    const uint8_t *bytes;
    size_t size;         // bytes that may be read
    bool is_mapped;      // laid out by the loader, not as in the file
    bool is_pe64;        // PE32+
    mi_pe_error_t error; // the reason when mi_pe_open returned false
    uint16_t machine;    // MI_PE_MACHINE_*
    uint16_t characteristics;
    uint16_t dll_characteristics;
    uint16_t subsystem;
    uint32_t time_stamp;
    uint32_t nt_offset;       // of "PE\0\0"
    uint32_t optional_offset; // of the optional header
    uint32_t dirs_offset;     // of the data directories
    uint32_t dir_count;       // those that are really there, at most 16
    uint32_t sections_offset; // of the section table
    uint32_t section_count;
    uint32_t entry_rva;
    uint32_t section_align;
    uint32_t file_align;
    uint32_t image_bytes;   // SizeOfImage
    uint32_t header_bytes;  // SizeOfHeaders
    uint32_t checksum;      // as written
    uint32_t symbol_offset; // COFF symbol table, file offset, 0 = none
    uint32_t symbol_count;
    uint64_t image_base;
} mi_pe_t;

// Little-endian loads from any alignment.
MI_INLINE uint16_t mi_pe_u16(const void *p) {
    const uint8_t *b = (const uint8_t *)p;
    return (uint16_t)(b[0] | (b[1] << 8));
}

MI_INLINE uint32_t mi_pe_u32(const void *p) {
    const uint8_t *b = (const uint8_t *)p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

MI_INLINE uint64_t mi_pe_u64(const void *p) {
    const uint8_t *b = (const uint8_t *)p;
    return (uint64_t)mi_pe_u32(b) | (uint64_t)mi_pe_u32(b + 4) << 32;
}

// ---- opening and addressing (pe_image.c) ----

// A file read into memory (is_mapped = false) or a loaded module (is_mapped = true, size =
// SizeOfImage or less). false: pe->error says why, and the other fields are not to be used.
bool mi_pe_open(mi_pe_t *pe, const void *bytes, size_t size, bool is_mapped);
// For a module that the loader has accepted: the size is taken from its own headers.
bool mi_pe_open_module(mi_pe_t *pe, const void *base);
// The same without a look at the sections, for whoever only wants its directories: with two hundred
// modules half of the time goes into reading what is not in the cache.
bool mi_pe_glance_module(mi_pe_t *pe, const void *base);
const char *mi_pe_error_text(mi_pe_error_t error);

// The bytes at an RVA, all `bytes` of them present in the view, or NULL. Zero-filled tails of
// sections are present in a mapped view only.
const uint8_t *mi_pe_at(const mi_pe_t *pe, uint32_t rva, size_t bytes);
// How many bytes can be read at the RVA without a break; 0 = none.
size_t mi_pe_room(const mi_pe_t *pe, uint32_t rva);
// A NUL-terminated string of at most MI_PE_NAME_MAX bytes that ends inside the view, or NULL.
const char *mi_pe_string(const mi_pe_t *pe, uint32_t rva);
// The file offset of an RVA whose byte is stored in the file (also answers for a mapped view).
bool mi_pe_rva_to_offset(const mi_pe_t *pe, uint32_t rva, uint32_t *offset);
// An absolute address written in the image (TLS, load config) as an RVA.
bool mi_pe_va_to_rva(const mi_pe_t *pe, uint64_t va, uint32_t *rva);

bool mi_pe_section_at(const mi_pe_t *pe, uint32_t index, mi_pe_section_t *out);
// The section that holds the RVA.
bool mi_pe_section_of(const mi_pe_t *pe, uint32_t rva, mi_pe_section_t *out);
// false when the directory is absent or empty; its contents are not checked yet.
bool mi_pe_directory(const mi_pe_t *pe, mi_pe_dir_t dir, mi_pe_range_t *out);
// The end of the file's last header, section or symbol table: what lies behind it is overlay (file
// view).
size_t mi_pe_end_of_contents(const mi_pe_t *pe);

// ---- exports (pe_image_exports.c) ----

typedef struct mi_pe_exports_s {
    const mi_pe_t *pe;
    mi_pe_range_t range;      // the directory: an export whose RVA lies in it is a forwarder
    uint32_t ordinal_base;    // ordinal of function 0
    uint32_t function_count;  // entries of the address table
    uint32_t name_count;      // entries of the two name tables
    const uint8_t *functions; // function_count RVAs
    const uint8_t *names;     // name_count RVAs
    const uint8_t *ordinals;  // name_count indices
} mi_pe_exports_t;

typedef struct mi_pe_export_s {
    const char *name;      // NULL when it is known by ordinal only
    const char *forwarder; // "DLL.name" or "DLL.#ordinal"; NULL = code or data here
    uint32_t rva;          // 0 for a forwarder
    uint32_t ordinal;
} mi_pe_export_t;

bool mi_pe_exports_open(const mi_pe_t *pe, mi_pe_exports_t *ex); // false = exports nothing
// i < name_count; false = this entry is malformed, go on with the next.
bool mi_pe_export_by_index(const mi_pe_exports_t *ex, uint32_t i, mi_pe_export_t *out);
// Linear, since a malformed table need not be sorted.
bool mi_pe_export_by_name(const mi_pe_exports_t *ex, const char *name, mi_pe_export_t *out);
// By halves, as the system searches: the first name at or behind `from` that is not below the key,
// name_count = none.
uint32_t mi_pe_export_lower(const mi_pe_exports_t *ex, uint32_t from, const char *key);
bool mi_pe_export_begins(const mi_pe_exports_t *ex, uint32_t i, const char *prefix);
// How many functions of the table begin at an RVA.
uint32_t mi_pe_exports_at(const mi_pe_exports_t *ex, uint32_t rva);
// Opens the exports and finds one name.
bool mi_pe_export_find(const mi_pe_t *pe, const char *name, mi_pe_export_t *out);

// ---- imports and delay imports (pe_image_imports.c) ----

typedef struct mi_pe_import_s {
    const char *dll;
    uint32_t descriptor_rva;
    uint32_t lookup_rva; // import lookup table; equals iat_rva when the image has none of its own
    uint32_t iat_rva;    // import address table
    uint32_t time_stamp; // non-zero = bound (normal imports), attributes (delay imports)
    uint32_t forwarder_chain;
    bool is_delay;
} mi_pe_import_t;

typedef struct mi_pe_thunk_s {
    const char *name;      // NULL when imported by ordinal
    uint32_t ordinal;      // when name is NULL
    uint32_t hint;         // when name is not NULL
    uint32_t iat_slot_rva; // where the loader stores the address
} mi_pe_thunk_t;

// The i-th descriptor. false = there is no i-th one, or it is malformed: stop.
bool mi_pe_import_at(const mi_pe_t *pe, uint32_t i, mi_pe_import_t *out);
bool mi_pe_delay_import_at(const mi_pe_t *pe, uint32_t i, mi_pe_import_t *out);
// The i-th thunk of a descriptor. false = the end, or malformed: stop. In a mapped module whose
// import has no lookup table of its own the names are gone, and this is false.
bool mi_pe_thunk_at(const mi_pe_t *pe, const mi_pe_import_t *imp, uint32_t i, mi_pe_thunk_t *out);
uint32_t mi_pe_import_count(const mi_pe_t *pe); // well-formed descriptors

// ---- code extents, load config, CLR, debug, version (pe_image_meta.c) ----

typedef struct mi_pe_extent_s {
    uint32_t begin; // RVA of the first byte
    uint32_t end;   // RVA behind the last
} mi_pe_extent_t;

uint32_t mi_pe_function_count(const mi_pe_t *pe); // entries of .pdata, 0 on x86
// One entry as written (x64: chained ones included; ARM64: length from the packed word or from
// .xdata).
bool mi_pe_function_at(const mi_pe_t *pe, uint32_t i, mi_pe_extent_t *out);
// The contiguous code of the function around an RVA: its entry, joined with neighbours that touch
// it and are chained to the same primary entry. false = no entry covers the RVA (leaf functions
// have none).
bool mi_pe_function_extent(const mi_pe_t *pe, uint32_t rva, mi_pe_extent_t *out);
// The first entry that begins behind the RVA: an upper bound for a function without an entry of its
// own.
bool mi_pe_function_after(const mi_pe_t *pe, uint32_t rva, mi_pe_extent_t *out);

// Do the entries stand in the order of their beginnings, as the system searches them? The two above
// rely on it. Damaged images may have others.
bool mi_pe_functions_are_sorted(const mi_pe_t *pe);

typedef struct mi_pe_load_config_s {
    uint32_t cookie_rva; // 0 = none
    uint32_t chpe_rva;   // hybrid (ARM64EC, ARM64X, CHPE) metadata, 0 = none
} mi_pe_load_config_t;
bool mi_pe_load_config(const mi_pe_t *pe, mi_pe_load_config_t *out);

// Images that are two programs in one: the loader shows another machine, and other tables, to each.
typedef enum mi_pe_hybrid_e {
    MI_PE_HYBRID_NONE,
    MI_PE_HYBRID_CHPE,    // x86 with ARM64 code
    MI_PE_HYBRID_ARM64EC, // x64 whose code is ARM64
    MI_PE_HYBRID_ARM64X   // ARM64 that is also an x64 image, by relocations of its own headers
} mi_pe_hybrid_t;
mi_pe_hybrid_t mi_pe_hybrid(const mi_pe_t *pe);
const char *mi_pe_hybrid_name(mi_pe_hybrid_t kind); // "an ARM64X", to be put before "image"

typedef struct mi_pe_clr_s {
    uint32_t flags;
    bool is_il_only;
} mi_pe_clr_t;
bool mi_pe_clr(const mi_pe_t *pe, mi_pe_clr_t *out); // false = not a .NET image

typedef struct mi_pe_debug_s {
    uint32_t type;         // 2 = CodeView
    uint32_t bytes;        // of the data
    uint32_t rva;          // of the data, 0 = not mapped
    uint32_t raw_offset;   // of the data in the file
    uint32_t entry_offset; // file offset of the 28-byte entry itself
} mi_pe_debug_t;
bool mi_pe_debug_at(const mi_pe_t *pe, uint32_t i, mi_pe_debug_t *out);

#define MI_PE_RESOURCE_VERSION  16u
#define MI_PE_RESOURCE_MANIFEST 24u
// The bytes of a resource; id 0 = the first of this type, any language. false = none, or not all of
// it is there.
bool mi_pe_resource(const mi_pe_t *pe, uint32_t type, uint32_t id, mi_pe_range_t *out);

typedef struct mi_pe_version_s {
    uint16_t part[4]; // 10.0.19041.546
} mi_pe_version_t;
bool mi_pe_file_version(const mi_pe_t *pe, mi_pe_version_t *out);

#endif
