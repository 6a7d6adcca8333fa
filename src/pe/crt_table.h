// The one table of what gets redirected: every exported name of the CRT allocation family, which
// function it is, and how that function is shaped. The hook engine, its proof, the offline planner,
// the tests and the documentation all work from it; nobody else lists CRT functions. Constant data:
// any thread.
#ifndef MI_PE_CRT_TABLE_H
#define MI_PE_CRT_TABLE_H

#include "base/base.h"

// The functions, each with one replacement. Names with more arguments than these (_free_dbg and
// _msize_dbg add the block type, operator delete file and line, _aligned_offset_recalloc_dbg file
// and line) are redirected to the same replacement, which does not look at the rest.
typedef enum mi_crt_fn_e {
    MI_CRT_MALLOC,                  // (size)
    MI_CRT_CALLOC,                  // (count, size)
    MI_CRT_REALLOC,                 // (p, size)
    MI_CRT_FREE,                    // (p)
    MI_CRT_MSIZE,                   // (p)
    MI_CRT_EXPAND,                  // (p, size)
    MI_CRT_RECALLOC,                // (p, count, size)
    MI_CRT_ALIGNED_MALLOC,          // (size, align)
    MI_CRT_ALIGNED_FREE,            // (p)
    MI_CRT_ALIGNED_REALLOC,         // (p, size, align)
    MI_CRT_ALIGNED_RECALLOC,        // (p, count, size, align)
    MI_CRT_ALIGNED_MSIZE,           // (p, align, offset)
    MI_CRT_ALIGNED_OFFSET_MALLOC,   // (size, align, offset)
    MI_CRT_ALIGNED_OFFSET_REALLOC,  // (p, size, align, offset)
    MI_CRT_ALIGNED_OFFSET_RECALLOC, // (p, count, size, align, offset)
    MI_CRT_NEW,                     // (size), throws
    MI_CRT_NEW_NOTHROW,             // (size)
    MI_CRT_DELETE,                  // (p)
    // The _dbg forms: their type, file and line is what a debug CRT remembers of a block.
    MI_CRT_MALLOC_DBG,                 // (size, type, file, line)
    MI_CRT_CALLOC_DBG,                 // (count, size, type, file, line)
    MI_CRT_REALLOC_DBG,                // (p, size, type, file, line)
    MI_CRT_EXPAND_DBG,                 // (p, size, type, file, line)
    MI_CRT_RECALLOC_DBG,               // (p, count, size, type, file, line)
    MI_CRT_ALIGNED_MALLOC_DBG,         // (size, align, file, line)
    MI_CRT_ALIGNED_REALLOC_DBG,        // (p, size, align, file, line)
    MI_CRT_ALIGNED_RECALLOC_DBG,       // (p, count, size, align, file, line)
    MI_CRT_ALIGNED_OFFSET_MALLOC_DBG,  // (size, align, offset, file, line)
    MI_CRT_ALIGNED_OFFSET_REALLOC_DBG, // (p, size, align, offset, file, line)
    MI_CRT_NEW_DBG,                    // (size, type, file, line), throws
    // What debug CRTs are asked about their blocks. Those without arguments are given one that
    // nobody looks at, since the context stands behind the arguments.
    MI_CRT_IS_VALID_HEAP_POINTER, // (p)
    MI_CRT_IS_MEMORY_BLOCK,       // (p, size, &request, &file, &line)
    MI_CRT_REPORT_BLOCK_TYPE,     // (p)
    MI_CRT_SET_BLOCK_TYPE,        // (p, type)
    MI_CRT_CHECK_MEMORY,          // ()
    MI_CRT_DUMP_LEAKS,            // ()
    MI_CRT_CHECKPOINT,            // (state)
    MI_CRT_DUMP_SINCE,            // (state)
    MI_CRT_FOR_ALL_CLIENTS,       // (function, argument)
    // What every CRT is asked about its whole heap.
    MI_CRT_HEAP_CHECK, // ()
    MI_CRT_HEAP_SET,   // (fill)
    MI_CRT_HEAP_MIN,   // ()
    MI_CRT_HEAP_WALK,  // (entry)
    MI_CRT_FN_COUNT
} mi_crt_fn_t;

typedef enum mi_crt_kind_e {
    MI_CRT_MAKES, // returns a new block and takes none
    MI_CRT_TAKES, // is given a block: must know whose it is
    // Asks about blocks; where it cannot be patched, it is left alone.
    MI_CRT_INSPECTS, // in debug CRTs only
    MI_CRT_SURVEYS   // in every CRT
} mi_crt_kind_t;

// The order in which functions are redirected and proven: a block of ours must not be in the world
// before everything that may be given one knows it.
typedef enum mi_crt_stage_e {
    MI_CRT_STAGE_TAKES,   // never returns a new block
    MI_CRT_STAGE_RESIZES, // is given a block and may return a new one
    MI_CRT_STAGE_MAKES,
    MI_CRT_STAGE_COUNT
} mi_crt_stage_t;

typedef struct mi_crt_function_s {
    const char *name; // the public name
    mi_crt_kind_t kind;
    uint8_t args;        // arguments that the replacement takes
    bool is_core;        // a CRT without it is not redirected at all
    mi_crt_fn_t same_as; // what may share its code: itself, or the function that replaces both
} mi_crt_function_t;

typedef enum mi_crt_name_flag_e {
    MI_CRT_PUBLIC = 0,
    MI_CRT_BASE = 1,     // below the debug heap: left alone in a debug CRT
    MI_CRT_PRIVATE = 2,  // the _o_ names, used by system DLLs
    MI_CRT_INTERNAL = 4, // the _crt names, blocks inside the CRT
    MI_CRT_DEBUG = 8,    // the _dbg names, and what only debug CRTs do differently
    MI_CRT_OPERATOR = 16
} mi_crt_name_flag_t;

typedef struct mi_crt_name_s {
    const char *name; // as exported
    uint8_t fn;       // mi_crt_fn_t
    uint8_t flags;    // mi_crt_name_flag_t
} mi_crt_name_t;

extern const mi_crt_function_t mi_crt_functions[MI_CRT_FN_COUNT];
extern const mi_crt_name_t mi_crt_names[];
extern const size_t mi_crt_name_count;

mi_crt_stage_t mi_crt_stage_of(mi_crt_fn_t fn);

// A CRT may be redirected without it.
MI_INLINE bool mi_crt_is_optional(mi_crt_fn_t fn) {
    return mi_crt_functions[fn].kind == MI_CRT_INSPECTS ||
           mi_crt_functions[fn].kind == MI_CRT_SURVEYS;
}

// The row of a name, or NULL.
const mi_crt_name_t *mi_crt_name_find(const char *name);

// Names that look like allocation and that are left alone on purpose, with the reason: they call
// one of the functions above, or they own no memory of the caller's. NULL = not such a name. For
// the completeness test.
const char *mi_crt_name_left_alone(const char *name);

#endif
