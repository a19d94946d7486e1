#!/usr/bin/env bash
# Gets CPython 3.14 and 3.15 as binaries from Debian's unstable suite, beside the system.
#
#     scripts/pythons.sh PREFIX VERSION...
#
# Nothing of the system is touched and no privileges are needed: apt is given lists, archives and a
# dpkg status of its own below PREFIX, so that it fetches all that an interpreter needs, the C library
# included. The packages are unpacked at PREFIX, and the interpreter, PREFIX/usr/bin/pythonX.Y, is
# told where it is now. CPython's own tests come with it: `make test-cpython` runs them.
#
# A version that cannot be had is said loudly, and the next one is tried; the status says so too.
set -uo pipefail

suite=unstable
tries=3
prefix=$(mkdir -p "${1:?PREFIX}" && cd "$1" && pwd) || exit 1
shift

apt=$prefix/apt
options=(
    -o Dir::Etc::SourceParts=/dev/null
    -o Dir::State="$apt/state"
    -o Dir::State::status="$apt/status"
    -o Dir::Cache="$apt/cache"
    -o APT::Sandbox::User=root   # the user who runs this: the sandbox's cannot write here
    -o Debug::NoLocking=1        # the locks are the system's, and nothing of the system is written
    -o Acquire::Languages=none
)

loud() {
    printf '\n==\n== %s\n==\n\n' "$*" >&2
}

# Writes the machine's own source of Debian's packages, with the suite replaced.
write_sources() {
    rm -f "$apt"/debian.*
    awk -v suite="$suite" 'BEGIN { RS = ""; FS = "\n" }
        /(^|\n)Types:[^\n]*deb/ && /\nURIs:[^\n]*\/debian\/?(\n|$)/ {
            gsub(/(^|\n)#[^\n]*/, ""); sub(/^\n/, "")
            sub(/Types:[^\n]*/, "Types: deb")
            sub(/Suites:[^\n]*/, "Suites: " suite)
            sub(/Components:[^\n]*/, "Components: main")
            print; exit
        }' /dev/null /etc/apt/sources.list.d/*.sources >"$apt/debian.sources" 2>/dev/null
    if [ -s "$apt/debian.sources" ]; then
        options+=(-o Dir::Etc::SourceList="$apt/debian.sources")
        return
    fi
    sed -nE "s#^deb( +\[[^]]*\])? +([^ ]*/debian/?) .*#deb\1 \2 $suite main#p" \
        /dev/null /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null \
        | head -n 1 >"$apt/debian.list"
    options+=(-o Dir::Etc::SourceList="$apt/debian.list")
    [ -s "$apt/debian.list" ]
}

# Whether the interpreter runs and can make an environment with pip in it.
works() {
    "$prefix/usr/bin/python$1" -c 'import ensurepip, hashlib, sqlite3, ssl; ensurepip.version()' \
        >/dev/null 2>&1
}

fetch() {
    local try
    for ((try = 1; try <= tries; try++)); do
        # The archives are those of this version alone: all that is there is unpacked.
        rm -rf "$apt/cache"
        mkdir -p "$apt/cache/archives/partial" "$apt/state/lists/partial"
        : >"$apt/status"
        if { [ -e "$apt/updated" ] || timeout 300 apt-get "${options[@]}" -qq update >&2; } &&
            touch "$apt/updated" &&
            timeout 300 apt-get "${options[@]}" -qq -y -d --no-install-recommends install \
                "python$1-venv" "libpython$1-testsuite" patchelf >/dev/null; then
            return
        fi
        rm -f "$apt/updated"
        echo "== Python $1: try $try of $tries failed" >&2
        sleep $((try * 5))
    done
    return 1
}

unpack() {
    local archive loader libraries patchelf python=$prefix/usr/bin/python$1
    for archive in "$apt"/cache/archives/*.deb; do
        dpkg -x "$archive" "$prefix" || return
    done
    loader=$(echo "$prefix"/usr/lib*/ld-linux*.so.*)
    libraries=$(dirname "$prefix"/usr/lib/*/libc.so.6)
    patchelf=("$loader" --library-path "$libraries" "$prefix/usr/bin/patchelf")
    # RPATH and not RUNPATH, which would not hold for what the extension modules need. In two steps
    # and in this order: patchelf 0.18 breaks the file otherwise.
    "${patchelf[@]}" --force-rpath --set-rpath "$libraries" "$python" &&
        "${patchelf[@]}" --set-interpreter "$loader" "$python" || return
    # ensurepip takes pip from here.
    sed -i "s#'WHEEL_PKG_DIR': '/usr#'WHEEL_PKG_DIR': '$prefix/usr#" \
        "$prefix/usr/lib/python$1"/_sysconfigdata_*.py
}

rm -rf "$apt"
mkdir -p "$apt"
missing=()
for version; do
    works "$version" || missing+=("$version")
done
[ ${#missing[@]} -gt 0 ] || exit 0
for command in apt-get dpkg; do
    if ! command -v $command >/dev/null; then
        loud "No Python ${missing[*]}: this is not Debian, $command is missing. Install them yourself."
        exit 1
    fi
done
if ! write_sources; then
    loud "No Python ${missing[*]}: apt's sources name no Debian archive. Install them yourself."
    exit 1
fi

status=0
for version in "${missing[@]}"; do
    if fetch "$version" && unpack "$version" && works "$version"; then
        "$prefix/usr/bin/python$version" -V
    else
        loud "Python $version could not be had from Debian's $suite suite"
        status=1
    fi
done
rm -rf "$apt"
exit $status
