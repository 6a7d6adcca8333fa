#!/bin/sh
# Configures the given presets and builds what is shipped, without the tests:
#   build.sh linux-release windows-x64-release
# Exit codes: 0 good, 1 a build failed, 2 wrong use.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { echo "build.sh: name at least one preset of CMakePresets.json" >&2; exit 2; }
for preset in "$@"; do
    log=build/$preset-build.log
    mkdir -p build
    if cmake --preset "$preset" >"$log" 2>&1 &&
        cmake --build "build/$preset" --target src/all tools/minject/all >>"$log" 2>&1; then
        echo "built build/$preset"
    else
        tail -n 40 "$log" >&2
        echo "build.sh: $preset does not build; the whole log is $log" >&2
        exit 1
    fi
done
