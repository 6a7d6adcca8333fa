# cmake --install: headers, libraries, the redirection, minject with its manual page and completion, and what other
# projects find them by: find_package(mimalloc) and pkg-config. The variants have names of their own
# (mimalloc-debug, mimalloc-secure) and can share a prefix with the release build. The prefix may be moved.
include(CMakePackageConfigHelpers)
set(package mimalloc${MI_SUFFIX})
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/${package})

file(GLOB headers ${PROJECT_SOURCE_DIR}/include/*.h)
install(FILES ${headers} TYPE INCLUDE)
install(TARGETS mimalloc mimalloc-static EXPORT ${package})
install(EXPORT ${package} DESTINATION ${package_dir} FILE ${package}-targets.cmake)
if(NOT WIN32)
    install(FILES ${PROJECT_BINARY_DIR}/${package}.o DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/package-config.cmake.in
    ${CMAKE_CURRENT_BINARY_DIR}/${package}-config.cmake INSTALL_DESTINATION ${package_dir}
    PATH_VARS CMAKE_INSTALL_BINDIR CMAKE_INSTALL_LIBDIR NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/${package}-config-version.cmake
    COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${package}-config.cmake
    ${CMAKE_CURRENT_BINARY_DIR}/${package}-config-version.cmake DESTINATION ${package_dir})
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
    set(pc_prefix ${CMAKE_INSTALL_PREFIX})
    set(pc_lib ${CMAKE_INSTALL_FULL_LIBDIR})
    set(pc_include ${CMAKE_INSTALL_FULL_INCLUDEDIR})
else()
    file(RELATIVE_PATH up /p/${CMAKE_INSTALL_LIBDIR}/pkgconfig /p)
    string(REGEX REPLACE "/$" "" pc_prefix "\${pcfiledir}/${up}")
    set(pc_lib "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
    set(pc_include "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/package.pc.in ${CMAKE_CURRENT_BINARY_DIR}/${package}.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${package}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(WIN32)
    install(FILES $<TARGET_FILE:mi_redirect> TYPE BIN)
    install(FILES ${CMAKE_CURRENT_LIST_DIR}/MimallocRedirect.cmake DESTINATION ${package_dir})
endif()
if(MI_SUFFIX OR MI_SANITIZE)
    return() # the tool is the release build's
endif()
install(TARGETS minject RUNTIME)
install(FILES LICENSE README.md README.zh-CN.md CHANGELOG.md TYPE DOC)
# These are made from the tool's own help; every build of it prints the same. A cross-built tool cannot be asked.
if(NOT CMAKE_CROSSCOMPILING)
    set(manual ${PROJECT_BINARY_DIR}/minject.1)
    set(completion ${PROJECT_BINARY_DIR}/minject.bash)
    set(completion_windows ${PROJECT_BINARY_DIR}/minject.ps1)
    add_custom_command(OUTPUT ${manual} COMMAND minject help man > ${manual} DEPENDS minject VERBATIM)
    add_custom_command(OUTPUT ${completion} COMMAND minject completion bash > ${completion} DEPENDS minject VERBATIM)
    add_custom_command(OUTPUT ${completion_windows} COMMAND minject completion powershell > ${completion_windows}
        DEPENDS minject VERBATIM)
    add_custom_target(minject-help ALL DEPENDS ${manual} ${completion} ${completion_windows})
    install(FILES ${manual} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
    install(FILES ${completion} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME minject)
endif()
