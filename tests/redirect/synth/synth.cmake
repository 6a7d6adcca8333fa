# synth_dlls(<out folder> <arch>): makes the synthetic CRTs of that architecture, whatever we are building for, since the
# planner is also tested on Linux. Sets SYNTH_DLLS to their paths.
set(synth_here ${CMAKE_CURRENT_LIST_DIR})
# The last one: see cmake/toolchain-windows.cmake.
set(synth_flags -O1 -ffreestanding -fno-builtin -Wall -Wextra -Werror -I${CMAKE_SOURCE_DIR}/src -D__X86INTRIN_H)
set(synth_x86_64 UCRT_OLD UCRT_MID UCRT_HASH MSVCRT DEBUG)
set(synth_i686 UCRT MSVCR SEH DEBUG)

function(synth_dll out arch name defines def_changes)
    set(cc clang-19 --target=${arch}-w64-windows-gnu)
    if(arch STREQUAL "x86_64")
        set(source ${synth_here}/entries_x64.S)
        set(dll_entry DllMain)
    else()
        set(source ${synth_here}/entries_x86.S)
        set(dll_entry DllMain@12)
    endif()
    set(obj ${out}/${name}.o)
    set(more ${out}/synth_with_memory.o)
    if(defines MATCHES SYNTH_DEBUG)
        list(APPEND more ${synth_here}/debug_heap.c ${synth_here}/debug_reports.c ${out}/synth_with_text.o)
    endif()
    add_custom_command(OUTPUT ${out}/${name}.dll
        COMMAND ${cc} ${defines} -c ${source} -o ${obj}
        COMMAND ${Python3_EXECUTABLE} ${synth_here}/make_def.py llvm-nm-19 ${obj} ${out}/${name}.def ${def_changes}
        COMMAND ${cc} ${synth_flags} -fuse-ld=lld-19 -shared -nostdlib -Wl,--entry=${dll_entry} ${defines}
            ${synth_here}/impl.c ${more} ${obj} ${out}/${name}.def -o ${out}/${name}.dll -lkernel32
        DEPENDS ${source} ${synth_here}/impl.c ${more} ${synth_here}/debug_heap.h ${synth_here}/make_def.py
        COMMENT "Building ${name}.dll" VERBATIM)
    set(SYNTH_DLLS ${SYNTH_DLLS} ${out}/${name}.dll PARENT_SCOPE)
endfunction()

macro(synth_dlls out arch)
    file(MAKE_DIRECTORY ${out})
    set(SYNTH_DLLS "")
    foreach(part memory text)
        set(source ${CMAKE_SOURCE_DIR}/src/base/${part}.c)
        set(obj ${out}/synth_with_${part}.o)
        add_custom_command(OUTPUT ${obj} COMMAND clang-19 --target=${arch}-w64-windows-gnu ${synth_flags} -c ${source} -o ${obj}
            DEPENDS ${source} VERBATIM)
    endforeach()
    foreach(variant ${synth_${arch}})
        string(TOLOWER synth_${variant} lower)
        synth_dll(${out} ${arch} ${lower} -DSYNTH_${variant} "")
    endforeach()
    synth_dll(${out} ${arch} synth_debug_old "-DSYNTH_DEBUG;-DSYNTH_OLD" "")
    # malloc under a nameless ordinal as well, for modules that import by number. lld aligns the export cells only
    # when the length of the file's name and its NUL is a multiple of four.
    if("${arch}" STREQUAL "x86_64")
        synth_dll(${out} ${arch} synth_table "-DSYNTH_UCRT_MID" "+importer_by_ordinal=malloc @77 NONAME")
    else()
        synth_dll(${out} ${arch} synth_table "-DSYNTH_UCRT" "+importer_by_ordinal=malloc @77 NONAME")
    endif()
    if("${arch}" STREQUAL "x86_64")
        foreach(n 1 2 3 4 5 9)
            synth_dll(${out} ${arch} synth_hazard${n} "-DSYNTH_UCRT_MID;-DSYNTH_HAZARD=${n}" "")
        endforeach()
        synth_dll(${out} ${arch} synth_fixed "-DSYNTH_DEBUG;-DSYNTH_HAZARD=10" "")
        synth_dll(${out} ${arch} synth_hazard6 "-DSYNTH_UCRT_MID" "-_msize;+_msize=malloc")
        synth_dll(${out} ${arch} synth_hazard7 "-DSYNTH_UCRT_MID" "-free;+free=NTDLL.RtlFreeHeap")
        # Stubs with _dbg names in a release CRT, folded with other functions: no hazard, if left alone.
        synth_dll(${out} ${arch} synth_stubs "-DSYNTH_UCRT_MID"
            "+_free_dbg=crt_initterm;+_msize_dbg=malloc;+_CrtIsValidHeapPointer=crt_initterm")
        synth_dll(${out} ${arch} synth_hazard8 "-DSYNTH_UCRT_MID" "-_errno;-_initterm;-_get_heap_handle")
    endif()
endmacro()
