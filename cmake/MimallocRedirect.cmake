# mimalloc_redirect(target [VARIANT debug|secure] [PARTLY_OK])
#
# After each build of the target (a program or a DLL for Windows): injects it, copies the two DLLs it then needs
# beside it, and fails the build when `minject check` says that it will not be redirected. A verdict of "only
# partly" fails it too, unless PARTLY_OK is given. Works with MSVC, clang and mingw, on Windows and when
# cross-building from Linux; on other systems it does nothing, since there LD_PRELOAD or linking serves.
#
#   MIMALLOC_DIR        folder with mimalloc.dll and its redirect DLL for the target's machine
#   MINJECT_EXECUTABLE  the tool for the building machine; a list is a launcher and its argument
#
#   include(MimallocRedirect)
#   add_executable(game main.c)
#   mimalloc_redirect(game VARIANT secure)
cmake_minimum_required(VERSION 3.17)

if(CMAKE_SCRIPT_MODE_FILE AND MIMALLOC_REDIRECT_FILE)
    # At build time: cmake -P this file. MIMALLOC_REDIRECT_TOOL has its parts separated by | .
    string(REPLACE "|" ";" tool "${MIMALLOC_REDIRECT_TOOL}")
    get_filename_component(folder ${MIMALLOC_REDIRECT_FILE} DIRECTORY)
    get_filename_component(name ${MIMALLOC_REDIRECT_FILE} NAME)
    execute_process(COMMAND ${tool} inject --inplace --no-backup --quiet ${MIMALLOC_REDIRECT_OPTIONS} ${name}
        WORKING_DIRECTORY ${folder} RESULT_VARIABLE code)
    if(NOT code EQUAL 0)
        message(FATAL_ERROR "minject cannot inject ${name} (exit code ${code})")
    endif()
    execute_process(COMMAND ${tool} list ${name} WORKING_DIRECTORY ${folder} OUTPUT_VARIABLE imports)
    string(REGEX MATCHALL "[^ \n]+\\.dll +[0-9]+ [^\n]*<- (redirection|allocator)" rows "${imports}")
    foreach(row IN LISTS rows)
        string(REGEX REPLACE " .*" "" dll "${row}")
        if(NOT EXISTS ${MIMALLOC_REDIRECT_DIR}/${dll})
            message(FATAL_ERROR "${dll}, which ${name} needs now, is not in ${MIMALLOC_REDIRECT_DIR}: "
                "set MIMALLOC_DIR to the folder with the DLLs for this machine")
        endif()
        # By contents: file(COPY) takes files of the same second for the same.
        execute_process(COMMAND ${CMAKE_COMMAND} -E copy_if_different ${MIMALLOC_REDIRECT_DIR}/${dll} ${folder}/${dll}
            RESULT_VARIABLE code)
        if(NOT code EQUAL 0)
            message(FATAL_ERROR "${dll} cannot be copied beside ${name}")
        endif()
    endforeach()
    # Of a DLL the program that will load it is not known; its own imports are judged.
    execute_process(COMMAND ${tool} check ${name} WORKING_DIRECTORY ${folder} OUTPUT_VARIABLE report
        RESULT_VARIABLE code)
    if(NOT code EQUAL 0 AND NOT (code EQUAL 30 AND MIMALLOC_REDIRECT_PARTLY_OK))
        message(FATAL_ERROR "minject check says no:\n${report}")
    endif()
    return()
endif()

function(mimalloc_redirect target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "PARTLY_OK" "VARIANT" "")
    if(arg_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "mimalloc_redirect(${target}): unknown argument ${arg_UNPARSED_ARGUMENTS}")
    endif()
    if(NOT WIN32)
        return()
    endif()
    find_program(MINJECT_EXECUTABLE minject HINTS ${MIMALLOC_DIR} NO_CMAKE_FIND_ROOT_PATH)
    if(NOT MINJECT_EXECUTABLE)
        message(FATAL_ERROR "mimalloc_redirect(${target}): minject was not found; set MINJECT_EXECUTABLE")
    endif()
    set(dir "${MIMALLOC_DIR}")
    if(NOT dir)
        list(GET MINJECT_EXECUTABLE -1 last)
        get_filename_component(dir ${last} DIRECTORY)
    endif()
    if(arg_VARIANT)
        set(options --postfix=${arg_VARIANT})
    endif()
    string(REPLACE ";" "|" tool "${MINJECT_EXECUTABLE}")
    add_custom_command(TARGET ${target} POST_BUILD
        COMMAND ${CMAKE_COMMAND} -DMIMALLOC_REDIRECT_FILE=$<TARGET_FILE:${target}>
            "-DMIMALLOC_REDIRECT_TOOL=${tool}" "-DMIMALLOC_REDIRECT_DIR=${dir}"
            "-DMIMALLOC_REDIRECT_OPTIONS=${options}" "-DMIMALLOC_REDIRECT_PARTLY_OK=${arg_PARTLY_OK}"
            -P ${CMAKE_CURRENT_FUNCTION_LIST_FILE}
        COMMENT "Redirecting malloc of ${target} to mimalloc" VERBATIM)
endfunction()
