#!/usr/bin/env -S bash
# Makes .venv hold what requirements.lock says, and the packages of this repository from their sources.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

usage() {
    cat <<'USAGE'
usage: scripts/venv.sh [--python VERSION | --uv | --help]

Makes the virtual environment .venv ready: everything in requirements.lock, checked by its hashes, and the
packages of this repository from their sources. Does nothing where it is ready already; one that was copied or
moved here with the checkout is made anew.

  --python VERSION   makes .local/python-VERSION ready instead: the same with another Python, such as 3.14
  --uv               makes only uv ready, and prints its path

Needs Python 3.12 or newer (from the PATH, ~/.pyenv/versions, Homebrew, or named by the variable PYTHON; where there
is none, uv downloads one). uv itself comes from PyPI into .local/uv if it is not installed.
USAGE
}

readonly OWN_UV=$PWD/.local/uv

# ── Python and uv ───────────────────────────────────────────────────────────────────────────────────────────

is_new_enough() { # PYTHON: it runs (not every file of that name does) and the SDK works with it
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

pythons() { # prints interpreters, the preferred ones first; by the pip of one that is too old uv comes
    local version
    [ -z "${PYTHON:-}" ] || echo "$PYTHON"
    for version in 3.13 3.14 3.12 3; do
        type -ap "python$version" || true
        ls "$HOME/.pyenv/versions/$version".*/bin/python "/opt/homebrew/bin/python$version" "/usr/local/bin/python$version" 2>/dev/null || true
    done
    type -ap python || true
}

find_version() { # VERSION: prints an interpreter of it, or else the version, for uv to get one
    local candidate
    while read -r candidate; do
        if [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$1" ]; then
            echo "$candidate" && return
        fi
    done < <(pythons)
    echo "$1"
}

find_python() { # prints the first that is new enough; where there is none, the version that uv is to download
    local candidate
    while read -r candidate; do
        if is_new_enough "$candidate"; then echo "$candidate" && return; fi
    done < <(pythons)
    say "no Python 3.12 or newer here: uv downloads one (about 30 MB) ..."
    cat .python-version
}

install_uv() { # PYTHON: of any version; by its pip, or in an environment if it has no pip of its own
    local -x PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 # whatever its configuration says
    local pip=("$1" -m pip) where=(--target "$OWN_UV")
    rm -rf "$OWN_UV"
    if ! "${pip[@]}" --version; then
        "$1" -m venv "$OWN_UV" || return 1
        pip=("$OWN_UV/bin/pip") where=()
    fi
    "${pip[@]}" install --quiet --disable-pip-version-check --require-hashes ${where[@]+"${where[@]}"} -r scripts/uv.requirements.lock &&
        "$OWN_UV/bin/uv" --version
}

find_uv() { # prints the path of one that runs
    local candidate said=""
    if uv --version >/dev/null 2>&1; then command -v uv && return; fi
    if "$OWN_UV/bin/uv" --version >/dev/null 2>&1; then echo "$OWN_UV/bin/uv" && return; fi
    say "getting uv from PyPI into .local/uv ..."
    while read -r candidate; do
        if said=$(install_uv "$candidate" 2>&1); then echo "$OWN_UV/bin/uv" && return; fi
    done < <(pythons)
    rm -rf "$OWN_UV"
    [ -z "$said" ] || say "$(tail -n 5 <<<"$said")"
    die "uv could not be installed: needed are PyPI and a Python with pip or venv (Debian: apt-get install python3-venv), or uv on the PATH."
}

# ── the environment ─────────────────────────────────────────────────────────────────────────────────────────

# The certificates that this machine trusts may be more than those built into uv (a proxy that re-signs TLS).
[ ! -f /etc/ssl/certs/ca-certificates.crt ] || export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}
folder=$VENV version=""
case "${1:-}" in
    --uv) find_uv && exit ;;
    --python) need_value "$1" $# && version=$2 folder=$PWD/.local/python-$2 ;;
    *) only_help "$@" ;;
esac

readonly STAMP=$folder/.installed # the folder for which it was made, and what it holds
packages=() folders=() projects=()
for package in worker $(services | sed 's|^|services/|') resonate-server tests/harness bench; do
    packages+=(--editable "$package") folders+=("$package") projects+=("$package/pyproject.toml")
done
wanted="$PWD"$'\n'"$(cat requirements.lock "${projects[@]}" | cksum)"
if [ "$(cat "$STAMP" 2>/dev/null)" = "$wanted" ] && is_new_enough "$folder/bin/python"; then exit; fi

uv=$(find_uv)
if [ "$(head -n 1 "$STAMP" 2>/dev/null)" != "$PWD" ] || ! is_new_enough "$folder/bin/python"; then
    rm -rf "$folder"
    python=$(if [ -n "$version" ]; then find_version "$version"; else find_python; fi)
    quietly "$uv" venv --quiet --python "$python" "$folder" ||
        die "no Python ${version:-3.12 or newer}: install one, or name one by the variable PYTHON."
fi
say "installing requirements.lock into ${folder#"$PWD/"} ($("$folder/bin/python" -V)) ..."
echo "$PWD" >"$STAMP"
export VIRTUAL_ENV=$folder
quietly "$uv" pip sync --quiet --compile-bytecode --require-hashes requirements.lock || die "requirements.lock could not be installed."
quietly "$uv" pip install --quiet --no-deps --no-build-isolation "${packages[@]}" ||
    die "the packages of this repository could not be installed."
# A third of a server's first start otherwise, and of each one where Python may not write beside the sources.
"$folder/bin/python" -m compileall -q -x /tests/ "${folders[@]}" || true
echo "$wanted" >"$STAMP"
