# Cross-building for Windows on Linux with clang 19, lld 19 and mingw-w64's headers.
# MI_WINDOWS_ARCH is x86_64, i686 or aarch64. Debian ships no import libraries for aarch64, so those of ntdll
# and kernel32 are made from the names in the x86_64 ones.
set(CMAKE_SYSTEM_NAME Windows)
set(MI_WINDOWS_ARCH x86_64 CACHE STRING "x86_64, i686 or aarch64")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES MI_WINDOWS_ARCH)
set(CMAKE_SYSTEM_PROCESSOR ${MI_WINDOWS_ARCH})
set(triple ${MI_WINDOWS_ARCH}-w64-windows-gnu)
set(CMAKE_C_COMPILER clang-19)
set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_C_COMPILER_TARGET ${triple})
set(CMAKE_CXX_COMPILER_TARGET ${triple})
set(CMAKE_AR llvm-ar-19)
set(CMAKE_RANLIB llvm-ranlib-19)
set(CMAKE_RC_COMPILER llvm-windres-19)
set(CMAKE_RC_FLAGS_INIT "--target=${triple}")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-fuse-ld=lld-19")
set(CMAKE_SHARED_LINKER_FLAGS_INIT "-fuse-ld=lld-19")
set(CMAKE_MODULE_LINKER_FLAGS_INIT "-fuse-ld=lld-19")
set(CMAKE_SHARED_LIBRARY_PREFIX "")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
# Runs llvm-dlltool over a list of names, once, and leaves lib<name>.a in the build folder.
function(mi_import_lib name dll machine names_command)
    set(libs ${CMAKE_BINARY_DIR}/import-libs)
    if(NOT EXISTS ${libs}/lib${name}.a)
        file(MAKE_DIRECTORY ${libs})
        execute_process(
            COMMAND sh -c "{ echo 'LIBRARY ${dll}'; echo EXPORTS; ${names_command}; } > ${libs}/${name}.def \
&& llvm-dlltool-19 -m ${machine} -d ${libs}/${name}.def -l ${libs}/lib${name}.a"
            RESULT_VARIABLE rc)
        if(NOT rc EQUAL 0)
            message(FATAL_ERROR "cannot make the import library of ${dll} for ${machine}")
        endif()
    endif()
endfunction()

set(MI_DLL_ENTRY DllMain)
if(MI_WINDOWS_ARCH STREQUAL "i686")
    set(MI_DLL_ENTRY DllMain@12)
    set(dlltool_machine i386)
elseif(MI_WINDOWS_ARCH STREQUAL "x86_64")
    set(dlltool_machine i386:x86-64)
else()
    set(dlltool_machine arm64)
    set(CMAKE_C_FLAGS_INIT "-isystem /usr/share/mingw-w64/include")
    set(CMAKE_CXX_FLAGS_INIT "-isystem /usr/share/mingw-w64/include")
    set(CMAKE_C_STANDARD_LIBRARIES "" CACHE STRING "" FORCE)
    set(CMAKE_CXX_STANDARD_LIBRARIES "" CACHE STRING "" FORCE)
    foreach(dll kernel32 ntdll)
        mi_import_lib(${dll} ${dll}.dll arm64
            "llvm-nm-19 --defined-only -g /usr/x86_64-w64-mingw32/lib/lib${dll}.a 2>/dev/null \
| sed -n 's/^[0-9a-f]* T \\([A-Za-z_][A-Za-z0-9_]*\\)$/\\1/p' | sort -u")
    endforeach()
endif()
# The compiler may call these four from any code; mingw's own list of ntdll leaves them to the C runtime.
mi_import_lib(ntdllmem ntdll.dll ${dlltool_machine} "printf 'memcpy\\nmemmove\\nmemset\\nmemcmp\\n'")
set(MI_IMPORT_LIBS -L${CMAKE_BINARY_DIR}/import-libs kernel32 ntdll ntdllmem)
