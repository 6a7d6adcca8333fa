# Compiler flags that every product target shares, gathered in one interface library, mi_flags.
add_library(mi_flags INTERFACE)
target_include_directories(mi_flags INTERFACE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
target_compile_definitions(mi_flags INTERFACE MI_DEBUG=${MI_DEBUG} MI_SECURE=${MI_SECURE})

if(MSVC)
    target_compile_options(mi_flags INTERFACE /W4 $<$<BOOL:${MI_WERROR}>:/WX> /experimental:c11atomics)
else()
    target_compile_options(mi_flags INTERFACE
        -Wall -Wextra -Wconversion -Wshadow -Wundef $<$<BOOL:${MI_WERROR}>:-Werror>
        $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>
        $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
        -fvisibility=hidden -fno-strict-aliasing)
endif()

if(NOT WIN32)
    # valgrind 3.19 stops at DWARF 5 as clang 19 writes it; the instruction counts need it.
    add_compile_options(-gdwarf-4)
endif()

if(MI_SANITIZE)
    target_compile_options(mi_flags INTERFACE -fsanitize=${MI_SANITIZE} -fno-omit-frame-pointer)
    if(MI_SANITIZE MATCHES "undefined")
        target_compile_options(mi_flags INTERFACE -fno-sanitize-recover=undefined)
    endif()
    target_link_options(mi_flags INTERFACE -fsanitize=${MI_SANITIZE})
endif()

if(WIN32 AND NOT MSVC)
    # The shipped DLLs run before any C runtime exists: no runtime library, no compiler-made TLS, no stack
    # probes (a probe would call into a runtime), and an entry point of their own.
    add_library(mi_freestanding INTERFACE)
    target_link_libraries(mi_freestanding INTERFACE mi_flags)
    target_compile_options(mi_freestanding INTERFACE -ffreestanding -mno-stack-arg-probe
        -fno-stack-protector $<$<C_COMPILER_ID:Clang>:-gcodeview>
        # Every variable is the DLL's own: no cell in between, which the linker could turn into an import
        # (gcc makes such cells on x64 only).
        $<$<C_COMPILER_ID:Clang>:-fno-auto-import>
        $<$<AND:$<C_COMPILER_ID:GNU>,$<EQUAL:${CMAKE_SIZEOF_VOID_P},8>>:-mcmodel=small>
        -fno-builtin-malloc -Wframe-larger-than=3000)
    target_link_options(mi_freestanding INTERFACE -nostdlib -Wl,--entry=${MI_DLL_ENTRY}
        -Wl,--dynamicbase -Wl,--nxcompat -Wl,--no-seh
        # Sections that begin at a page of the file: Wine maps them and need not read them. A quarter of what loading
        # the two DLLs takes, together with the redirect DLL's place (src/redirect/CMakeLists.txt).
        -Wl,--file-alignment,4096)
    # Their own memcpy and its like; a compiler must not make calls of themselves of their loops.
    add_library(mi_memory OBJECT ${PROJECT_SOURCE_DIR}/src/base/memory.c)
    target_link_libraries(mi_memory PRIVATE mi_freestanding)
    target_compile_options(mi_memory PRIVATE -fno-builtin
        $<$<C_COMPILER_ID:GNU>:-fno-tree-loop-distribute-patterns>)
    # On x86 gcc calls its library for 64-bit arithmetic; that part of it needs nothing.
    target_link_libraries(mi_freestanding INTERFACE ${MI_IMPORT_LIBS} $<$<C_COMPILER_ID:GNU>:gcc>)
endif()

# For libraries of sources that other targets compile one by one: to start a compiler for each costs more than to compile
# it. Those with the property SKIP_UNITY_BUILD_INCLUSION stay objects of their own.
function(mi_compile_as_one target)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
    if(NOT MSVC) # a local name may be a variable's of another source
        set_target_properties(${target} PROPERTIES
            UNITY_BUILD_CODE_BEFORE_INCLUDE "#pragma GCC diagnostic ignored \"-Wshadow\"")
    endif()
    if(NOT WIN32)
        target_compile_definitions(${target} PRIVATE _GNU_SOURCE=1) # before the first header
    endif()
endfunction()

# The variants have names of their own; a sanitizer build is a debug build.
set(MI_SUFFIX "")
if(MI_DEBUG)
    set(MI_SUFFIX "-debug")
elseif(MI_SECURE)
    set(MI_SUFFIX "-secure")
endif()
