#!/bin/sh
# Everything that reads the sources without running them. Exit code 1 when any part complains.
set -u
cd "$(dirname "$0")/.."
bad=0
run() {
    echo "lint: $*"
    "$@" || bad=1
}
run scripts/format.sh --check
run python3 scripts/check_house.py --compile
run cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --enable=warning,portability \
    --suppress=missingIncludeSystem --suppress=preprocessorErrorDirective --suppress=shiftNegativeLHS \
    -j "$(nproc)" -D__x86_64__ -D__GNUC__=4 -D__clang__ -I src -I include src tools
exit "$bad"
