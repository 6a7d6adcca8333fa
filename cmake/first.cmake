# mi_link_first(target list): the linker lays out first what the file lists, behind the tables that the loader reads, and
# all of that is one stretch of the file. The kernel maps a file by 64 KiB at a page fault: a small process then has no more
# of the library than that. GNU ld only, whose own script says all the rest; another linker keeps the order of the sources.
#
#   before   | tables | . . | code 64 KiB of 88 | . . | constants |      after   | tables, constants, code |
#
# The secure build keeps what is read only from being executable, as the linker does by default.
function(mi_link_first target list)
    set(flags -shared -Wl,-z,now)
    if(NOT MI_SECURE)
        list(APPEND flags -Wl,-z,noseparate-code)
    endif()
    separate_arguments(chosen NATIVE_COMMAND "${CMAKE_C_FLAGS} ${CMAKE_SHARED_LINKER_FLAGS}")
    execute_process(COMMAND ${CMAKE_C_COMPILER} ${chosen} ${flags} -Wl,--verbose -o ${CMAKE_CURRENT_BINARY_DIR}/nothing.so
        OUTPUT_VARIABLE script ERROR_QUIET)
    file(REMOVE ${CMAKE_CURRENT_BINARY_DIR}/nothing.so)
    string(REGEX REPLACE "^.*using internal linker script:\n=+\n(.*)\n=====.*$" "\\1" own "${script}")
    string(REGEX MATCH "\n  \\.text +:[ \n]*{" code "${own}")
    string(REGEX MATCH "\n  \\.rela?\\.dyn +:" tables "${own}")
    if(NOT script MATCHES "^GNU ld" OR own STREQUAL script OR NOT code OR NOT tables)
        message(STATUS "The linker has no script of GNU ld's kind: small processes will map more of ${target}")
        return()
    endif()

    set(functions "*crtbegin*.o(.text)")
    set(constants)
    file(STRINGS ${list} lines REGEX "^[^#]")
    foreach(line IN LISTS lines)
        if(line MATCHES "^(.+): CONSTANTS$")
            list(APPEND constants "*${CMAKE_MATCH_1}.c*(.rodata.cst* .rodata.str*)")
            continue()
        endif()
        separate_arguments(names UNIX_COMMAND "${line}")
        foreach(name IN LISTS names)
            list(APPEND functions "*(.text.${name} .text.${name}.*)")
            list(APPEND constants "*(.rodata.${name})")
        endforeach()
    endforeach()
    list(JOIN functions "\n    " functions)
    list(JOIN constants "\n    " constants)
    string(REPLACE "${code}" "${code}\n    ${functions}" own "${own}")
    string(REPLACE "${tables}" "\n  .rodata.first : {\n    ${constants}\n  }${tables}" own "${own}")
    set(file ${CMAKE_CURRENT_BINARY_DIR}/first.ld)
    file(CONFIGURE OUTPUT ${file} CONTENT "${own}" @ONLY)
    target_link_options(${target} PRIVATE ${flags} -Wl,-T,${file})
    set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${file})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${list})
endfunction()
