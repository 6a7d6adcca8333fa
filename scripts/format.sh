#!/bin/sh
# Formats every C and C++ file of the repository, or with --check only says which ones differ.
# Exit codes: 0 good, 1 with --check: some file differs.
# shellcheck disable=SC2086 # lists of words on purpose
set -eu
cd "$(dirname "$0")/.."
files=$(git ls-files -co --exclude-standard '*.c' '*.h' '*.cpp')
if [ "${1:-}" = --check ]; then
    # One call: to start the program takes longer than most files do.
    said=$(clang-format-14 --dry-run --Werror $files 2>&1) && exit 0
    echo "$said" | sed -nE 's/^([^ ]*):[0-9]+:[0-9]+: error: code should be clang-formatted.*/not formatted: \1/p; /not found/p' |
        sort -u
    exit 1
fi
exec clang-format-14 -i $files
