// The exit codes: one table, from which the help text, the manual and the tests work. 0 means done,
// or nothing to do. The codes are part of the interface and are never renumbered.
#ifndef MI_MINJECT_EXIT_CODES_H
#define MI_MINJECT_EXIT_CODES_H

#define MINJECT_EXIT_CODES(X)                                                                      \
    X(OK, 0, "done, or nothing to do")                                                             \
    X(INTERNAL, 1, "a fault of the tool itself, or no memory")                                     \
    X(USAGE, 2, "wrong options or arguments")                                                      \
    X(NOT_FOUND, 3, "the file does not exist")                                                     \
    X(UNREADABLE, 4, "the file cannot be read")                                                    \
    X(UNWRITABLE, 5, "the result cannot be written")                                               \
    X(READ_ONLY, 6, "the file to be changed in place is read-only")                                \
    X(DIRECTORY, 7, "a folder was given instead of a file")                                        \
    X(EMPTY, 8, "the file is empty")                                                               \
    X(NOT_PE, 9, "not a Windows program or DLL")                                                   \
    X(OLD_FORMAT, 10, "a DOS or 16-bit program")                                                   \
    X(CUT, 11, "the file is cut off")                                                              \
    X(MALFORMED, 12, "the headers or the import table contradict themselves")                      \
    X(MACHINE, 13, "built for a processor other than x86, x64 or ARM64")                           \
    X(SIGNED, 14, "signed, and --force was not given")                                             \
    X(IL_ONLY, 15, ".NET without native code")                                                     \
    X(HYBRID, 16, "ARM64EC or ARM64X")                                                             \
    X(KERNEL, 17, "a driver or boot program")                                                      \
    X(NO_ROOM, 18, "no place for the new import table")                                            \
    X(EXISTS, 19, "the output exists, and --force was not given")                                  \
    X(NOT_INJECTED, 20, "remove: the file was not injected by minject")                            \
    X(CHANGED, 21, "remove: the file was changed after the injection")                             \
    X(NO_RUNNER, 22, "run: the program cannot be started here")                                    \
    X(INSTALLER, 23, "an installer that checks its own file, and --force was not given")           \
    X(SAME_FILE, 24, "the output is the input itself")                                             \
    X(IN_USE, 25, "another program has the file open")                                             \
    X(CHECK_PARTLY, 30, "check: redirected, but not everything")                                   \
    X(CHECK_NOT, 31, "check: will not be redirected")                                              \
    X(CHECK_DIFFERS, 32, "check --live: what happened differs from the prediction")

typedef enum minject_exit_e {
#define X(name, code, text) EXIT_##name = code,
    MINJECT_EXIT_CODES(X)
#undef X
} minject_exit_t;

#endif
