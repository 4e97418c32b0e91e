#!/usr/bin/env -S bash
# Makes .venv hold what requirements.lock says, and the packages of this repository from their sources.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

usage() {
    cat <<'USAGE'
usage: scripts/venv.sh [--python VERSION | --sdk-0.7 | --help]

Makes the virtual environment .venv ready: everything in requirements.lock, checked by its hashes, and the
packages of this repository from their sources. Does nothing where it is ready already; one that was copied or
moved here with the checkout is made anew.

  --python VERSION   makes .local/python-VERSION ready instead: the same with another Python, such as 3.14
  --sdk-0.7          makes .local/sdk-0.7 ready instead: the SDK one minor version older, for tests/clients, in an
                     environment of its own

Needs Python 3.12 or newer (from the PATH, ~/.pyenv/versions, Homebrew, or named by the variable PYTHON; where there
is none, uv downloads one). uv itself comes from PyPI into .local/uv if it is not installed.
USAGE
}

readonly OWN_PACKAGES="worker services/foo services/bar services/baz resonate-server tests/harness bench"
readonly OWN_UV=$PWD/.local/uv
readonly STAMP=$VENV/.installed
readonly OLD_SDK=$PWD/.local/sdk-0.7
readonly OLD_SDK_LOCK=tests/clients/sdk-0.7.requirements.lock

# ── what is there ───────────────────────────────────────────────────────────────────────────────────────────

wanted_state() { # changes whenever something must be installed anew; its first line is the folder for which it was
    local package files=requirements.lock
    for package in $OWN_PACKAGES; do files="$files $package/pyproject.toml"; done
    echo "$PWD"
    # shellcheck disable=SC2086 # a list of files
    cat $files | cksum
}

is_foreign_venv() { [ -f "$STAMP" ] && [ "$(head -n 1 "$STAMP")" != "$PWD" ]; }

is_ready() {
    [ "$(cat "$STAMP" 2>/dev/null)" = "$(wanted_state)" ] && is_new_enough "$VENV/bin/python"
}

is_new_enough() { # PYTHON: it runs (not every file of that name does) and the SDK works with it
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

pythons() { # prints interpreters that may be new enough, the preferred ones first
    local version name
    [ -z "${PYTHON:-}" ] || echo "$PYTHON"
    for version in 3.13 3.14 3.12; do
        type -ap "python$version" || true
        for name in "$HOME/.pyenv/versions/$version".*/bin/python \
            "/opt/homebrew/bin/python$version" "/usr/local/bin/python$version"; do
            [ ! -x "$name" ] || echo "$name"
        done
    done
    type -ap python3 python || true
    for name in "$HOME"/.pyenv/versions/*/bin/python; do # too old, but by their pip uv comes
        [ ! -x "$name" ] || echo "$name"
    done
}

find_version() { # VERSION: prints an interpreter of it, or else the version, for uv to get one
    local candidate
    while read -r candidate; do
        if "$candidate" -c "import sys; sys.exit(sys.version_info[:2] != tuple(map(int, '$1'.split('.'))))" >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done < <(pythons)
    echo "$1"
}

find_python() { # prints the first that is new enough
    local candidate
    while read -r candidate; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done < <(pythons)
    return 1
}

# ── uv ──────────────────────────────────────────────────────────────────────────────────────────────────────

install_uv_with() { # PYTHON: of any version; by its pip, or in an environment if it has no pip of its own
    local -x PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 # whatever its configuration says
    if "$1" -m pip --version >/dev/null 2>&1; then
        "$1" -m pip install --quiet --disable-pip-version-check --require-hashes --target "$OWN_UV" \
            -r scripts/uv.requirements.lock
    else
        "$1" -m venv "$OWN_UV" &&
            "$OWN_UV/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
                -r scripts/uv.requirements.lock
    fi
}

install_uv() {
    local candidate log
    log=$(mktemp)
    say "getting uv from PyPI into .local/uv ..."
    while read -r candidate; do
        rm -rf "$OWN_UV"
        if install_uv_with "$candidate" >"$log" 2>&1 && "$OWN_UV/bin/uv" --version >/dev/null 2>&1; then
            rm -f "$log"
            return
        fi
    done < <(pythons)
    [ ! -s "$log" ] || say "$(tail -n 5 "$log")"
    rm -rf "$log" "$OWN_UV"
    die "uv could not be installed: needed are PyPI and a Python with pip or venv (Debian: apt-get install python3-venv), or uv on the PATH."
}

find_uv() { # prints the path of a uv that runs
    if uv --version >/dev/null 2>&1; then
        command -v uv
        return
    fi
    "$OWN_UV/bin/uv" --version >/dev/null 2>&1 || install_uv
    echo "$OWN_UV/bin/uv"
}

# ── installing ──────────────────────────────────────────────────────────────────────────────────────────────

create_venv() { # UV FOLDER
    local python
    if ! python=$(find_python); then
        python=$(cat .python-version)
        say "no Python 3.12 or newer here: uv downloads one (about 30 MB) ..."
    fi
    rm -rf "$2"
    quietly "$1" venv --quiet --python "$python" "$2" ||
        die "no Python 3.12 or newer: install one, or name one by the variable PYTHON."
}

install_packages() { # UV FOLDER
    local package editables=""
    for package in $OWN_PACKAGES; do editables="$editables --editable $package"; done
    export VIRTUAL_ENV=$2
    quietly "$1" pip sync --quiet --compile-bytecode --require-hashes requirements.lock || die "requirements.lock could not be installed."
    # shellcheck disable=SC2086 # a list of options
    quietly "$1" pip install --quiet --no-deps --no-build-isolation $editables ||
        die "the packages of this repository could not be installed."
}

prepare_venv() {
    is_ready && return
    local uv
    uv=$(find_uv)
    { ! is_foreign_venv && is_new_enough "$VENV/bin/python"; } || create_venv "$uv" "$VENV"
    say "installing requirements.lock into .venv ($("$VENV/bin/python" -V)) ..."
    rm -f "$STAMP"
    install_packages "$uv" "$VENV"
    wanted_state >"$STAMP"
}

prepare_python() { # VERSION
    local uv folder=$PWD/.local/python-$1
    [ "$(cat "$folder/.installed" 2>/dev/null)" = "$(wanted_state)" ] && is_new_enough "$folder/bin/python" && return
    uv=$(find_uv)
    say "installing requirements.lock into .local/python-$1 ..."
    quietly "$uv" venv --quiet --clear --python "$(find_version "$1")" "$folder" || die "there is no Python $1, and uv could not get one."
    install_packages "$uv" "$folder"
    wanted_state >"$folder/.installed"
}

prepare_old_sdk() {
    local uv
    [ "$(cat "$OLD_SDK/.installed" 2>/dev/null)" = "$(cksum <"$OLD_SDK_LOCK")" ] && is_new_enough "$OLD_SDK/bin/python" && return
    uv=$(find_uv)
    say "installing $OLD_SDK_LOCK into .local/sdk-0.7 ..."
    create_venv "$uv" "$OLD_SDK"
    quietly "$uv" pip sync --quiet --compile-bytecode --require-hashes --python "$OLD_SDK/bin/python" "$OLD_SDK_LOCK" ||
        die "$OLD_SDK_LOCK could not be installed."
    cksum <"$OLD_SDK_LOCK" >"$OLD_SDK/.installed"
}

prepare=prepare_venv
case "${1:-}" in
    "") ;;
    --python) need_value "$1" $# && prepare="prepare_python $2" ;;
    --sdk-0.7) prepare=prepare_old_sdk ;;
    -h | --help) usage && exit 0 ;;
    *) bad_usage "unknown argument '$1'" ;;
esac

# The certificates that this machine trusts may be more than those built into uv (a proxy that re-signs TLS).
[ ! -f /etc/ssl/certs/ca-certificates.crt ] || export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}
$prepare
