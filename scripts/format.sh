#!/bin/sh
# Formats every C and C++ file of the repository, or with --check only says which ones differ.
# Exit codes: 0 good, 1 with --check: some file differs.
set -eu
cd "$(dirname "$0")/.."
files=$(git ls-files -co --exclude-standard '*.c' '*.h' '*.cpp')
if [ "${1:-}" = --check ]; then
    bad=0
    for file in $files; do
        clang-format-14 --dry-run --Werror "$file" 2>/dev/null || { echo "not formatted: $file"; bad=1; }
    done
    exit "$bad"
fi
# shellcheck disable=SC2086 # a list of words on purpose
exec clang-format-14 -i $files
