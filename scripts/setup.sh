#!/bin/sh
# Installs what the given sections of packages.txt lack: setup.sh build test
# Nothing missing: does nothing, without a network. Root on Debian: apt-get, and says what. Otherwise: one
# sentence that names the missing packages.
# Exit codes: 0 everything is there, 2 wrong use, 3 something is missing and cannot be installed here,
# 4 apt-get failed.
set -eu
list=$(dirname "$0")/packages.txt
if [ $# -eq 0 ]; then
    echo "setup.sh: name at least one section of packages.txt, for example: setup.sh build test" >&2
    exit 2
fi
for section in "$@"; do
    if ! grep -q "^\[$section\]\$" "$list"; then
        echo "setup.sh: packages.txt has no section [$section]" >&2
        exit 2
    fi
done

# Prints "package probe" of each line of the wanted sections, once.
wanted() {
    awk -v sections=" $* " '
        { sub(/#.*/, "") }
        /^\[.*\]/ { on = index(sections, " " substr($1, 2, length($1) - 2) " "); next }
        on && NF && !seen[$1]++ { print $1, ($2 == "" ? "-" : $2) }' "$list"
}

is_there() { # package probe
    case $2 in
    -) ;;
    /*) [ -e "$2" ] && return 0 ;;
    *) command -v "$2" >/dev/null 2>&1 && return 0 ;;
    esac
    command -v dpkg-query >/dev/null 2>&1 &&
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
while read -r package probe; do
    is_there "$package" "$probe" || missing="$missing $package"
done <<LIST
$(wanted "$@")
LIST
missing=${missing# }
[ -z "$missing" ] && exit 0

distribution=$(. /etc/os-release 2>/dev/null && echo "${ID:-unknown}" || echo unknown)
if [ "$distribution" != debian ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "setup.sh: this is not Debian, so please install what these Debian packages contain: $missing" >&2
    exit 3
fi
if [ "$(id -u)" != 0 ]; then
    echo "setup.sh: not root, so nothing can be installed; as root: apt-get install $missing" >&2
    exit 3
fi
echo "setup.sh: installing from Debian: $missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 # a list of words on purpose
if ! { apt-get -q update && apt-get -q install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "setup.sh: apt-get could not install: $missing (is there a network?)" >&2
    exit 4
fi
