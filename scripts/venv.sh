#!/usr/bin/env -S bash -p
# Installs into .venv what requirements.lock says, and the packages of this repository from their sources.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

readonly OWN_UV=$PWD/.local/uv

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
    for candidate in uv "$OWN_UV/bin/uv"; do
        if "$candidate" --version >/dev/null 2>&1; then command -v "$candidate" && return; fi
    done
    say "getting uv from PyPI into .local/uv ..."
    while read -r candidate; do
        if said=$(install_uv "$candidate" 2>&1); then echo "$OWN_UV/bin/uv" && return; fi
    done < <(${PYTHON:+echo "$PYTHON"}; type -ap python3 python3.13 python3.14 python3.12 python || true)
    rm -rf "$OWN_UV"
    ${said:+say "$(tail -n 5 <<<"$said")"}
    die "could not install uv: it takes PyPI and a Python with pip or venv (Debian: apt-get install python3-venv), or uv on the PATH."
}

find_python() { # prints the preferred one, or the version that uv is to download
    local wanted
    if [ -n "${PYTHON:-}" ]; then
        "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 12))' && echo "$PYTHON" && return
        die "PYTHON is $PYTHON, which is not Python 3.12 or newer."
    fi
    for wanted in 3.13 '>=3.12'; do
        "$uv" python find --system --no-python-downloads "$wanted" 2>/dev/null && return
    done
    say "found no Python 3.12 or newer; uv downloads one (about 30 MB) ..."
    cat .python-version
}

# This machine may trust more certificates than those built into uv (a proxy that re-signs TLS).
[ ! -f /etc/ssl/certs/ca-certificates.crt ] || export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}
# Where there may be a Python that is not on the PATH.
for folder in "${HOME:-}"/.pyenv/versions/3.*/bin /opt/homebrew/bin /usr/local/bin; do PATH=$PATH:$folder; done
# uv needs a cache, which cannot be at home for a user without one.
{ [ -d "${HOME:-/}" ] && [ -w "${HOME:-/}" ]; } || export UV_CACHE_DIR=${UV_CACHE_DIR:-$PWD/.local/uv-cache}
python="" uv=""
read_arguments 0 "$@"
alone .local/venv.lock "installs this environment" || true
if [ -n "$uv" ]; then find_uv && exit; fi
folder=$VENV
[ -z "$python" ] || folder=$PWD/.local/python-$python

readonly STAMP=$folder/.installed # the folder that it was made for, and its contents
packages=()
for package in worker $(services | sed 's|^|services/|') resonate-server tests/harness bench; do
    [ ! -d "$package" ] || packages+=("$package") # a copy may do without tests
done
wanted="$PWD"$'\n'"$(cat requirements.lock "${packages[@]/%//pyproject.toml}" | cksum)"
runs() { "$folder/bin/python" -IS -c '' >/dev/null 2>&1; }
if [ "$(cat "$STAMP" 2>/dev/null)" = "$wanted" ] && runs; then exit; fi

uv=$(find_uv)
if [ "$(head -n 1 "$STAMP" 2>/dev/null)" != "$PWD" ] || ! runs; then
    rm -rf "$folder"
    python=${python:-$(find_python)}
    quietly "$uv" venv --quiet --python "$python" "$folder" ||
        die "could not make the environment $folder with $python; see above. To use another Python (3.12 or newer), set PYTHON to its path."
fi
say "installing requirements.lock into ${folder#"$PWD/"} ($("$folder/bin/python" -V)) ..."
rm -f "$STAMP" # what stays unfinished is made anew: on a full disk, Python before 3.13.1 leaves halves of .pyc files, which nothing but their use reveals
export VIRTUAL_ENV=$folder
quietly "$uv" pip sync --quiet --compile-bytecode --require-hashes requirements.lock || die "requirements.lock could not be installed."
quietly "$uv" pip install --quiet --no-deps --no-build-isolation "${packages[@]/#/--editable=}" ||
    die "the packages of this repository could not be installed."
"$folder/bin/python" -m compileall -q -f -x /tests/ "${packages[@]}" || true # if Python may not cache it, compiling takes a third of a server's start
{ head -c 1000000 /dev/zero >"$STAMP" && echo "$wanted" >"$STAMP"; } 2>/dev/null || { rm -f "$STAMP" && die "the disk is full."; }
