#include "pe/crt_table.h"
#include "base/text.h"

#define MAKES    MI_CRT_MAKES
#define TAKES    MI_CRT_TAKES
#define INSPECTS MI_CRT_INSPECTS
#define SURVEYS  MI_CRT_SURVEYS

const mi_crt_function_t mi_crt_functions[MI_CRT_FN_COUNT] = {
    [MI_CRT_MALLOC] = {"malloc", MAKES, 1, true, MI_CRT_MALLOC},
    [MI_CRT_CALLOC] = {"calloc", MAKES, 2, true, MI_CRT_CALLOC},
    [MI_CRT_REALLOC] = {"realloc", TAKES, 2, true, MI_CRT_REALLOC},
    [MI_CRT_FREE] = {"free", TAKES, 1, true, MI_CRT_FREE},
    [MI_CRT_MSIZE] = {"_msize", TAKES, 1, false, MI_CRT_MSIZE},
    [MI_CRT_EXPAND] = {"_expand", TAKES, 2, false, MI_CRT_EXPAND},
    [MI_CRT_RECALLOC] = {"_recalloc", TAKES, 3, false, MI_CRT_RECALLOC},
    [MI_CRT_ALIGNED_MALLOC] = {"_aligned_malloc", MAKES, 2, false, MI_CRT_ALIGNED_MALLOC},
    [MI_CRT_ALIGNED_FREE] = {"_aligned_free", TAKES, 1, false, MI_CRT_ALIGNED_FREE},
    [MI_CRT_ALIGNED_REALLOC] = {"_aligned_realloc", TAKES, 3, false, MI_CRT_ALIGNED_REALLOC},
    [MI_CRT_ALIGNED_RECALLOC] = {"_aligned_recalloc", TAKES, 4, false, MI_CRT_ALIGNED_RECALLOC},
    [MI_CRT_ALIGNED_MSIZE] = {"_aligned_msize", TAKES, 3, false, MI_CRT_ALIGNED_MSIZE},
    [MI_CRT_ALIGNED_OFFSET_MALLOC] = {"_aligned_offset_malloc", MAKES, 3, false,
                                      MI_CRT_ALIGNED_OFFSET_MALLOC},
    [MI_CRT_ALIGNED_OFFSET_REALLOC] = {"_aligned_offset_realloc", TAKES, 4, false,
                                       MI_CRT_ALIGNED_OFFSET_REALLOC},
    [MI_CRT_ALIGNED_OFFSET_RECALLOC] = {"_aligned_offset_recalloc", TAKES, 5, false,
                                        MI_CRT_ALIGNED_OFFSET_RECALLOC},
    [MI_CRT_NEW] = {"operator new", MAKES, 1, false, MI_CRT_MALLOC},
    [MI_CRT_NEW_NOTHROW] = {"operator new (nothrow)", MAKES, 1, false, MI_CRT_MALLOC},
    [MI_CRT_DELETE] = {"operator delete", TAKES, 1, false, MI_CRT_FREE},
    [MI_CRT_MALLOC_DBG] = {"_malloc_dbg", MAKES, 4, false, MI_CRT_MALLOC},
    [MI_CRT_CALLOC_DBG] = {"_calloc_dbg", MAKES, 5, false, MI_CRT_CALLOC},
    [MI_CRT_REALLOC_DBG] = {"_realloc_dbg", TAKES, 5, false, MI_CRT_REALLOC},
    [MI_CRT_EXPAND_DBG] = {"_expand_dbg", TAKES, 5, false, MI_CRT_EXPAND},
    [MI_CRT_RECALLOC_DBG] = {"_recalloc_dbg", TAKES, 6, false, MI_CRT_RECALLOC},
    [MI_CRT_ALIGNED_MALLOC_DBG] = {"_aligned_malloc_dbg", MAKES, 4, false, MI_CRT_ALIGNED_MALLOC},
    [MI_CRT_ALIGNED_REALLOC_DBG] = {"_aligned_realloc_dbg", TAKES, 5, false,
                                    MI_CRT_ALIGNED_REALLOC},
    [MI_CRT_ALIGNED_RECALLOC_DBG] = {"_aligned_recalloc_dbg", TAKES, 6, false,
                                     MI_CRT_ALIGNED_RECALLOC},
    [MI_CRT_ALIGNED_OFFSET_MALLOC_DBG] = {"_aligned_offset_malloc_dbg", MAKES, 5, false,
                                          MI_CRT_ALIGNED_OFFSET_MALLOC},
    [MI_CRT_ALIGNED_OFFSET_REALLOC_DBG] = {"_aligned_offset_realloc_dbg", TAKES, 6, false,
                                           MI_CRT_ALIGNED_OFFSET_REALLOC},
    [MI_CRT_NEW_DBG] = {"operator new (debug)", MAKES, 4, false, MI_CRT_MALLOC},
    // These must know our blocks. The rest of the debug heap's functions goes on to tell the truth:
    // see left_alone below.
    [MI_CRT_IS_VALID_HEAP_POINTER] = {"_CrtIsValidHeapPointer", INSPECTS, 1, false,
                                      MI_CRT_IS_VALID_HEAP_POINTER},
    [MI_CRT_IS_MEMORY_BLOCK] = {"_CrtIsMemoryBlock", INSPECTS, 5, false, MI_CRT_IS_MEMORY_BLOCK},
    [MI_CRT_REPORT_BLOCK_TYPE] = {"_CrtReportBlockType", INSPECTS, 1, false,
                                  MI_CRT_REPORT_BLOCK_TYPE},
    [MI_CRT_SET_BLOCK_TYPE] = {"_CrtSetDbgBlockType", INSPECTS, 2, false, MI_CRT_SET_BLOCK_TYPE},
    [MI_CRT_CHECK_MEMORY] = {"_CrtCheckMemory", INSPECTS, 1, false, MI_CRT_CHECK_MEMORY},
    [MI_CRT_DUMP_LEAKS] = {"_CrtDumpMemoryLeaks", INSPECTS, 1, false, MI_CRT_DUMP_LEAKS},
    [MI_CRT_CHECKPOINT] = {"_CrtMemCheckpoint", INSPECTS, 1, false, MI_CRT_CHECKPOINT},
    [MI_CRT_DUMP_SINCE] = {"_CrtMemDumpAllObjectsSince", INSPECTS, 1, false, MI_CRT_DUMP_SINCE},
    [MI_CRT_FOR_ALL_CLIENTS] = {"_CrtDoForAllClientObjects", INSPECTS, 2, false,
                                MI_CRT_FOR_ALL_CLIENTS},
    [MI_CRT_HEAP_CHECK] = {"_heapchk", SURVEYS, 1, false, MI_CRT_HEAP_CHECK},
    [MI_CRT_HEAP_SET] = {"_heapset", SURVEYS, 1, false, MI_CRT_HEAP_CHECK},
    [MI_CRT_HEAP_MIN] = {"_heapmin", SURVEYS, 1, false, MI_CRT_HEAP_MIN},
    [MI_CRT_HEAP_WALK] = {"_heapwalk", SURVEYS, 1, false, MI_CRT_HEAP_WALK},
};

const mi_crt_name_t mi_crt_names[] = {
    {"malloc", MI_CRT_MALLOC, MI_CRT_PUBLIC},
    {"calloc", MI_CRT_CALLOC, MI_CRT_PUBLIC},
    {"realloc", MI_CRT_REALLOC, MI_CRT_PUBLIC},
    {"free", MI_CRT_FREE, MI_CRT_PUBLIC},
    {"_msize", MI_CRT_MSIZE, MI_CRT_PUBLIC},
    {"_expand", MI_CRT_EXPAND, MI_CRT_PUBLIC},
    {"_recalloc", MI_CRT_RECALLOC, MI_CRT_PUBLIC},
    {"_aligned_malloc", MI_CRT_ALIGNED_MALLOC, MI_CRT_PUBLIC},
    {"_aligned_free", MI_CRT_ALIGNED_FREE, MI_CRT_PUBLIC},
    {"_aligned_realloc", MI_CRT_ALIGNED_REALLOC, MI_CRT_PUBLIC},
    {"_aligned_recalloc", MI_CRT_ALIGNED_RECALLOC, MI_CRT_PUBLIC},
    {"_aligned_msize", MI_CRT_ALIGNED_MSIZE, MI_CRT_PUBLIC},
    {"_aligned_offset_malloc", MI_CRT_ALIGNED_OFFSET_MALLOC, MI_CRT_PUBLIC},
    {"_aligned_offset_realloc", MI_CRT_ALIGNED_OFFSET_REALLOC, MI_CRT_PUBLIC},
    {"_aligned_offset_recalloc", MI_CRT_ALIGNED_OFFSET_RECALLOC, MI_CRT_PUBLIC},
    {"_malloc_base", MI_CRT_MALLOC, MI_CRT_BASE},
    {"_calloc_base", MI_CRT_CALLOC, MI_CRT_BASE},
    {"_realloc_base", MI_CRT_REALLOC, MI_CRT_BASE},
    {"_free_base", MI_CRT_FREE, MI_CRT_BASE},
    {"_msize_base", MI_CRT_MSIZE, MI_CRT_BASE},
    {"_expand_base", MI_CRT_EXPAND, MI_CRT_BASE},
    {"_recalloc_base", MI_CRT_RECALLOC, MI_CRT_BASE},
    {"_o_malloc", MI_CRT_MALLOC, MI_CRT_PRIVATE},
    {"_o_calloc", MI_CRT_CALLOC, MI_CRT_PRIVATE},
    {"_o_realloc", MI_CRT_REALLOC, MI_CRT_PRIVATE},
    {"_o_free", MI_CRT_FREE, MI_CRT_PRIVATE},
    {"_o__msize", MI_CRT_MSIZE, MI_CRT_PRIVATE},
    {"_o__expand", MI_CRT_EXPAND, MI_CRT_PRIVATE},
    {"_o__recalloc", MI_CRT_RECALLOC, MI_CRT_PRIVATE},
    {"_o__aligned_malloc", MI_CRT_ALIGNED_MALLOC, MI_CRT_PRIVATE},
    {"_o__aligned_free", MI_CRT_ALIGNED_FREE, MI_CRT_PRIVATE},
    {"_o__aligned_realloc", MI_CRT_ALIGNED_REALLOC, MI_CRT_PRIVATE},
    {"_o__aligned_recalloc", MI_CRT_ALIGNED_RECALLOC, MI_CRT_PRIVATE},
    {"_o__aligned_msize", MI_CRT_ALIGNED_MSIZE, MI_CRT_PRIVATE},
    {"_o__aligned_offset_malloc", MI_CRT_ALIGNED_OFFSET_MALLOC, MI_CRT_PRIVATE},
    {"_o__aligned_offset_realloc", MI_CRT_ALIGNED_OFFSET_REALLOC, MI_CRT_PRIVATE},
    {"_o__aligned_offset_recalloc", MI_CRT_ALIGNED_OFFSET_RECALLOC, MI_CRT_PRIVATE},
    {"_o__malloc_base", MI_CRT_MALLOC, MI_CRT_PRIVATE | MI_CRT_BASE},
    {"_o__calloc_base", MI_CRT_CALLOC, MI_CRT_PRIVATE | MI_CRT_BASE},
    {"_o__realloc_base", MI_CRT_REALLOC, MI_CRT_PRIVATE | MI_CRT_BASE},
    {"_o__free_base", MI_CRT_FREE, MI_CRT_PRIVATE | MI_CRT_BASE},
    {"_malloc_crt", MI_CRT_MALLOC, MI_CRT_INTERNAL},
    {"_calloc_crt", MI_CRT_CALLOC, MI_CRT_INTERNAL},
    {"_realloc_crt", MI_CRT_REALLOC, MI_CRT_INTERNAL},
    {"_recalloc_crt", MI_CRT_RECALLOC, MI_CRT_INTERNAL},
    {"_malloc_dbg", MI_CRT_MALLOC_DBG, MI_CRT_DEBUG},
    {"_calloc_dbg", MI_CRT_CALLOC_DBG, MI_CRT_DEBUG},
    {"_realloc_dbg", MI_CRT_REALLOC_DBG, MI_CRT_DEBUG},
    {"_free_dbg", MI_CRT_FREE, MI_CRT_DEBUG},
    {"_msize_dbg", MI_CRT_MSIZE, MI_CRT_DEBUG},
    {"_expand_dbg", MI_CRT_EXPAND_DBG, MI_CRT_DEBUG},
    {"_recalloc_dbg", MI_CRT_RECALLOC_DBG, MI_CRT_DEBUG},
    {"_aligned_malloc_dbg", MI_CRT_ALIGNED_MALLOC_DBG, MI_CRT_DEBUG},
    {"_aligned_free_dbg", MI_CRT_ALIGNED_FREE, MI_CRT_DEBUG},
    {"_aligned_realloc_dbg", MI_CRT_ALIGNED_REALLOC_DBG, MI_CRT_DEBUG},
    {"_aligned_recalloc_dbg", MI_CRT_ALIGNED_RECALLOC_DBG, MI_CRT_DEBUG},
    {"_aligned_msize_dbg", MI_CRT_ALIGNED_MSIZE, MI_CRT_DEBUG},
    {"_aligned_offset_malloc_dbg", MI_CRT_ALIGNED_OFFSET_MALLOC_DBG, MI_CRT_DEBUG},
    {"_aligned_offset_realloc_dbg", MI_CRT_ALIGNED_OFFSET_REALLOC_DBG, MI_CRT_DEBUG},
    {"_aligned_offset_recalloc_dbg", MI_CRT_ALIGNED_OFFSET_RECALLOC, MI_CRT_DEBUG},
    {"_CrtIsValidHeapPointer", MI_CRT_IS_VALID_HEAP_POINTER, MI_CRT_DEBUG},
    {"_CrtIsMemoryBlock", MI_CRT_IS_MEMORY_BLOCK, MI_CRT_DEBUG},
    {"_CrtReportBlockType", MI_CRT_REPORT_BLOCK_TYPE, MI_CRT_DEBUG},
    {"_CrtSetDbgBlockType", MI_CRT_SET_BLOCK_TYPE, MI_CRT_DEBUG},
    {"_CrtCheckMemory", MI_CRT_CHECK_MEMORY, MI_CRT_DEBUG},
    {"_CrtDumpMemoryLeaks", MI_CRT_DUMP_LEAKS, MI_CRT_DEBUG},
    {"_CrtMemCheckpoint", MI_CRT_CHECKPOINT, MI_CRT_DEBUG},
    {"_CrtMemDumpAllObjectsSince", MI_CRT_DUMP_SINCE, MI_CRT_DEBUG},
    {"_CrtDoForAllClientObjects", MI_CRT_FOR_ALL_CLIENTS, MI_CRT_DEBUG},
    {"?\?2@YAPEAX_K@Z", MI_CRT_NEW, MI_CRT_OPERATOR},
    {"?\?2@YAPEAX_KAEBUnothrow_t@std@@@Z", MI_CRT_NEW_NOTHROW, MI_CRT_OPERATOR},
    {"?\?2@YAPEAX_KHPEBDH@Z", MI_CRT_NEW_DBG, MI_CRT_OPERATOR | MI_CRT_DEBUG},
    {"?\?_U@YAPEAX_K@Z", MI_CRT_NEW, MI_CRT_OPERATOR},
    {"?\?_U@YAPEAX_KAEBUnothrow_t@std@@@Z", MI_CRT_NEW_NOTHROW, MI_CRT_OPERATOR},
    {"?\?_U@YAPEAX_KHPEBDH@Z", MI_CRT_NEW_DBG, MI_CRT_OPERATOR | MI_CRT_DEBUG},
    {"?\?3@YAXPEAX@Z", MI_CRT_DELETE, MI_CRT_OPERATOR},
    {"?\?3@YAXPEAXAEBUnothrow_t@std@@@Z", MI_CRT_DELETE, MI_CRT_OPERATOR},
    {"?\?3@YAXPEAX_K@Z", MI_CRT_DELETE, MI_CRT_OPERATOR},
    {"?\?3@YAXPEAXHPEBDH@Z", MI_CRT_DELETE, MI_CRT_OPERATOR | MI_CRT_DEBUG},
    {"?\?_V@YAXPEAX@Z", MI_CRT_DELETE, MI_CRT_OPERATOR},
    {"?\?_V@YAXPEAXAEBUnothrow_t@std@@@Z", MI_CRT_DELETE, MI_CRT_OPERATOR},
    {"?\?_V@YAXPEAX_K@Z", MI_CRT_DELETE, MI_CRT_OPERATOR},
    {"?\?_V@YAXPEAXHPEBDH@Z", MI_CRT_DELETE, MI_CRT_OPERATOR | MI_CRT_DEBUG},
    {"?\?2@YAPAXI@Z", MI_CRT_NEW, MI_CRT_OPERATOR},
    {"?\?2@YAPAXIABUnothrow_t@std@@@Z", MI_CRT_NEW_NOTHROW, MI_CRT_OPERATOR},
    {"?\?2@YAPAXIHPBDH@Z", MI_CRT_NEW_DBG, MI_CRT_OPERATOR | MI_CRT_DEBUG},
    {"?\?_U@YAPAXI@Z", MI_CRT_NEW, MI_CRT_OPERATOR},
    {"?\?_U@YAPAXIABUnothrow_t@std@@@Z", MI_CRT_NEW_NOTHROW, MI_CRT_OPERATOR},
    {"?\?_U@YAPAXIHPBDH@Z", MI_CRT_NEW_DBG, MI_CRT_OPERATOR | MI_CRT_DEBUG},
    {"?\?3@YAXPAX@Z", MI_CRT_DELETE, MI_CRT_OPERATOR},
    {"?\?3@YAXPAXABUnothrow_t@std@@@Z", MI_CRT_DELETE, MI_CRT_OPERATOR},
    {"?\?3@YAXPAXI@Z", MI_CRT_DELETE, MI_CRT_OPERATOR},
    {"?\?3@YAXPAXHPBDH@Z", MI_CRT_DELETE, MI_CRT_OPERATOR | MI_CRT_DEBUG},
    {"?\?_V@YAXPAX@Z", MI_CRT_DELETE, MI_CRT_OPERATOR},
    {"?\?_V@YAXPAXABUnothrow_t@std@@@Z", MI_CRT_DELETE, MI_CRT_OPERATOR},
    {"?\?_V@YAXPAXI@Z", MI_CRT_DELETE, MI_CRT_OPERATOR},
    {"?\?_V@YAXPAXHPBDH@Z", MI_CRT_DELETE, MI_CRT_OPERATOR | MI_CRT_DEBUG},
    // Last, so that of two names at one address the other one comes first.
    {"_heapchk", MI_CRT_HEAP_CHECK, MI_CRT_PUBLIC},
    {"_heapset", MI_CRT_HEAP_SET, MI_CRT_PUBLIC},
    {"_heapmin", MI_CRT_HEAP_MIN, MI_CRT_PUBLIC},
    {"_heapwalk", MI_CRT_HEAP_WALK, MI_CRT_PUBLIC},
    {"_o__heapchk", MI_CRT_HEAP_CHECK, MI_CRT_PRIVATE},
    {"_o__heapmin", MI_CRT_HEAP_MIN, MI_CRT_PRIVATE},
    {"_o__heapwalk", MI_CRT_HEAP_WALK, MI_CRT_PRIVATE},
};

const size_t mi_crt_name_count = sizeof(mi_crt_names) / sizeof(mi_crt_names[0]);

mi_crt_stage_t mi_crt_stage_of(mi_crt_fn_t fn) {
    switch (mi_crt_functions[fn].same_as) {
    case MI_CRT_REALLOC:
    case MI_CRT_RECALLOC:
    case MI_CRT_ALIGNED_REALLOC:
    case MI_CRT_ALIGNED_RECALLOC:
    case MI_CRT_ALIGNED_OFFSET_REALLOC:
    case MI_CRT_ALIGNED_OFFSET_RECALLOC:
        return MI_CRT_STAGE_RESIZES;
    default:
        return mi_crt_functions[fn].kind == MI_CRT_MAKES ? MI_CRT_STAGE_MAKES : MI_CRT_STAGE_TAKES;
    }
}

const mi_crt_name_t *mi_crt_name_find(const char *name) {
    for (size_t i = 0; i < mi_crt_name_count; i++)
        if (mi_str_eq(mi_crt_names[i].name, name))
            return &mi_crt_names[i];
    return NULL;
}

// Prefixes, with an optional _o_ before them.
static const struct {
    const char *prefix;
    const char *why;
} left_alone[] = {
    {"_heapadd", "gives memory to a CRT of long ago; every newer one refuses"},
    {"_heapused", "a counter of long ago; every newer one refuses"},
    {"_get_heap_handle", "names the CRT's own heap, which goes on to exist"},
    {"_callnewh", "the new-handler belongs to the CRT; we call it"},
    {"_set_malloc_crt_max_wait", "a delay of the CRT's own retry loop"},
    {"_set_new_", "the new-handler belongs to the CRT; we call it"},
    {"_query_new_", "the new-handler belongs to the CRT; we call it"},
    {"?_set_new_", "the new-handler belongs to the CRT; we call it"},
    {"?_query_new_", "the new-handler belongs to the CRT; we call it"},
    {"?set_new_handler", "the new-handler belongs to the CRT; we call it"},
    {"?_callnewh", "the new-handler belongs to the CRT; we call it"},
    {"_free_locale", "ends in free"},
    {"__free_locale", "ends in free"},
    {"_freea", "looks for its own mark below the block and ends in free"},
    {"_get_sbh_threshold", "the small-block heap no longer exists"},
    {"_set_sbh_threshold", "the small-block heap no longer exists"},
    {"?Alloc@Concurrency@@", "a pool of its own with its own Free"},
    {"?Free@Concurrency@@", "takes only what Concurrency::Alloc made"},
    {"_CrtIsValidPointer", "asks the system about an address range"},
    {"_CrtSetAllocHook", "keeps the program's hook; we ask for it and call it"},
    {"_CrtGetAllocHook", "keeps the program's hook; we ask for it and call it"},
    {"_CrtSetBreakAlloc", "keeps the number to stop at; we read it where the CRT keeps it"},
    {"_CrtSetDumpClient", "keeps the program's dump function; we ask for it and call it"},
    {"_CrtGetDumpClient", "keeps the program's dump function; we ask for it and call it"},
    {"_CrtSetDbgFlag", "keeps the flags; we read them where the CRT keeps them"},
    {"_CrtSetCheckCount", "keeps how often to check; we ask for it"},
    {"_CrtGetCheckCount", "keeps how often to check; we ask for it"},
    {"_CrtMemDifference", "subtracts two states, which hold our blocks"},
    {"_CrtMemDumpStatistics", "prints a state, which holds our blocks"},
    {"_CrtSetDebugFillThreshold", "is about buffers of the _s functions, not about blocks"},
    {"_CrtGetDebugFillThreshold", "is about buffers of the _s functions, not about blocks"},
    {"__p__crtDbgFlag", "where the flags are"},
    {"__p__crtBreakAlloc", "where the number to stop at is"},
    {"_malloc_options", "data"},
    {"_strdup", "ends in malloc"},
    {"strdup", "ends in malloc"},
    {"_wcsdup", "ends in malloc"},
    {"wcsdup", "ends in malloc"},
    {"_mbsdup", "ends in malloc"},
    {"_scalloc", "ends in calloc"},
};

const char *mi_crt_name_left_alone(const char *name) {
    if (mi_str_starts(name, "_o_"))
        name += 3;
    for (size_t i = 0; i < sizeof(left_alone) / sizeof(left_alone[0]); i++)
        if (mi_str_starts(name, left_alone[i].prefix))
            return left_alone[i].why;
    return NULL;
}
