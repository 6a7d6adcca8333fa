# What the Windows products need of a toolchain of the mingw family: clang or gcc, on Windows (MSYS2) or on another
# system (Debian's clang and mingw-w64, MXE). Sets MI_WINDOWS_ARCH (x86_64, i686, aarch64), MI_DLL_ENTRY,
# MI_DLLTOOL_MACHINE and MI_IMPORT_LIBS.
if(NOT MI_WINDOWS_ARCH)
    execute_process(COMMAND ${CMAKE_C_COMPILER} -dumpmachine OUTPUT_VARIABLE machine
        OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    if(machine MATCHES "^(x86_64|amd64)")
        set(MI_WINDOWS_ARCH x86_64)
    elseif(machine MATCHES "^i[3-6]86")
        set(MI_WINDOWS_ARCH i686)
    elseif(machine MATCHES "^(aarch64|arm64)")
        set(MI_WINDOWS_ARCH aarch64)
    else()
        message(FATAL_ERROR "${CMAKE_C_COMPILER} makes programs for ${machine}: only x86_64, i686 and aarch64 are known here")
    endif()
endif()

set(MI_DLL_ENTRY DllMain)
if(MI_WINDOWS_ARCH STREQUAL "i686")
    # GNU ld wants the symbol with its underscore, lld puts it there.
    set(MI_DLL_ENTRY $<IF:$<C_COMPILER_ID:GNU>,_DllMain@12,DllMain@12>)
    set(MI_DLLTOOL_MACHINE i386)
elseif(MI_WINDOWS_ARCH STREQUAL "x86_64")
    set(MI_DLLTOOL_MACHINE i386:x86-64)
else()
    set(MI_DLLTOOL_MACHINE arm64)
endif()
find_program(MI_DLLTOOL NAMES llvm-dlltool-19 ${MI_WINDOWS_ARCH}-w64-mingw32-dlltool llvm-dlltool dlltool REQUIRED
    DOC "makes import libraries")

# mi_import_lib(<library> <DLL> <name> ...): lib<library>.a in the build folder's import-libs.
function(mi_import_lib library dll)
    set(libs ${PROJECT_BINARY_DIR}/import-libs)
    list(JOIN ARGN "\n    " names)
    file(CONFIGURE OUTPUT ${libs}/${library}.def CONTENT "LIBRARY ${dll}\nEXPORTS\n    ${names}\n" @ONLY)
    if(${libs}/${library}.def IS_NEWER_THAN ${libs}/lib${library}.a)
        execute_process(COMMAND ${MI_DLLTOOL} -m ${MI_DLLTOOL_MACHINE} -d ${libs}/${library}.def
            -l ${libs}/lib${library}.a COMMAND_ERROR_IS_FATAL ANY)
    endif()
endfunction()

# Debian has mingw's headers for ARM64, but no import libraries: made from the names in those for x64.
function(mi_import_lib_like_x64 library dll)
    execute_process(COMMAND llvm-nm-19 --defined-only -g /usr/x86_64-w64-mingw32/lib/lib${library}.a
        OUTPUT_VARIABLE symbols ERROR_QUIET COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCHALL "[0-9a-f]+ T [A-Za-z_][A-Za-z0-9_]*\n" names "${symbols}")
    list(TRANSFORM names REPLACE "^[0-9a-f]+ T ([A-Za-z0-9_]+)\n$" "\\1")
    list(SORT names)
    list(REMOVE_DUPLICATES names)
    mi_import_lib(${library} ${dll} ${names})
endfunction()

if(MI_MAKE_IMPORT_LIBS)
    mi_import_lib_like_x64(kernel32 kernel32.dll)
    mi_import_lib_like_x64(ntdll ntdll.dll)
endif()
# The compiler may call these four from any code; mingw's own list of ntdll leaves them to the C runtime.
mi_import_lib(ntdllmem ntdll.dll memcpy memmove memset memcmp)
set(MI_IMPORT_LIBS -L${PROJECT_BINARY_DIR}/import-libs kernel32 ntdll ntdllmem)

# The same sources give the same bytes. lld writes a hash of the contents where the time of linking would stand, so that
# debuggers still tell builds apart, and the name of the PDB without its folder; GNU ld writes no time.
separate_arguments(linker_flags UNIX_COMMAND "${CMAKE_EXE_LINKER_FLAGS}")
execute_process(COMMAND ${CMAKE_C_COMPILER} ${linker_flags} -Wl,--version OUTPUT_VARIABLE linker ERROR_QUIET)
if(linker MATCHES "LLD")
    add_link_options(-Wl,-Xlink=-Brepro -Wl,-Xlink=-pdbaltpath:%_PDB%)
else()
    add_link_options(-Wl,--no-insert-timestamp)
endif()
