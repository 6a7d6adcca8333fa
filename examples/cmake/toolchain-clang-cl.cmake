# Building for 64-bit Windows in Microsoft's manner, on any system: clang-cl and lld-link, with Microsoft's headers and
# libraries, which the environment variables INCLUDE and LIB name as in a Visual Studio prompt (folders, separated by
# semicolons). On Linux, `xwin` fetches them.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR AMD64)
foreach(name INCLUDE LIB)
    if("$ENV{${name}}" STREQUAL "")
        message(FATAL_ERROR "the environment variable ${name} is not set: it names the folders of Microsoft's SDK")
    endif()
endforeach()
find_program(CMAKE_C_COMPILER NAMES clang-cl clang-cl-19 REQUIRED)
find_program(CMAKE_LINKER NAMES lld-link lld-link-19 REQUIRED)
find_program(CMAKE_AR NAMES llvm-lib llvm-lib-19 REQUIRED)
find_program(CMAKE_RC_COMPILER NAMES llvm-rc llvm-rc-19 REQUIRED)
set(CMAKE_CXX_COMPILER ${CMAKE_C_COMPILER})
set(CMAKE_C_COMPILER_TARGET x86_64-pc-windows-msvc)
set(CMAKE_CXX_COMPILER_TARGET x86_64-pc-windows-msvc)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_MSVC_RUNTIME_LIBRARY MultiThreadedDLL)
set(CMAKE_EXE_LINKER_FLAGS_INIT /manifest:no) # embedding one would ask for Microsoft's mt
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
