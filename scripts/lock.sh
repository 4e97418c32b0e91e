#!/usr/bin/env -S bash
# Writes the requirements.lock files: every package at one version, with hashes, for every platform.
# Run it after changing a version in a pyproject.toml. The images, the scripts and CI install from these files.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

usage() {
    cat <<'HELP'
usage: scripts/lock.sh [--upgrade]

Writes requirements.lock (everything, with the development tools), services/*/requirements.lock and
resonate-server/requirements.lock from the pyproject.toml files, and scripts/uv.requirements.lock and
tests/clients/sdk-0.7.requirements.lock from the .in files beside them. Versions that are locked already stay
as they are unless one of these files asks for another one.

  --upgrade   take the newest versions that the pyproject.toml files allow

Needs uv on the PATH, in .venv, or named by the variable UV.
HELP
}

find_uv() {
    local candidate
    for candidate in "${UV:-uv}" .venv/bin/uv .local/uv/bin/uv; do
        if "$candidate" --version >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "uv not found; install it (pip install uv) or name it: UV=/path/to/uv scripts/lock.sh"
}

# compile FILE [uv arguments...]: own packages are installed from the sources, so they are left out.
compile() {
    local file=$1
    shift
    say "locking $file"
    # shellcheck disable=SC2086 # a list of options
    "$uv" pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-emit-index-url \
        --custom-compile-command scripts/lock.sh $own_packages \
        ${upgrade[@]+"${upgrade[@]}"} --output-file "$file" "$@"
}

upgrade=()
while [ $# -gt 0 ]; do
    case $1 in
        --upgrade) upgrade=(--upgrade) ;;
        -h | --help) usage && exit 0 ;;
        *) bad_usage "unknown argument '$1'" ;;
    esac
    shift
done

uv=$(find_uv)
own_packages="--no-emit-package resonate-server"
for name in worker bench harness $(services); do own_packages="$own_packages --no-emit-package demo-$name"; done

compile requirements.lock pyproject.toml --group dev
for service in $(services); do
    # The root lock is a constraint: an image holds the versions that were tested.
    compile "services/$service/requirements.lock" "services/$service/pyproject.toml" -c requirements.lock
done
compile resonate-server/requirements.lock resonate-server/pyproject.toml -c requirements.lock
compile scripts/uv.requirements.lock scripts/uv.in
compile tests/clients/sdk-0.7.requirements.lock tests/clients/sdk-0.7.in
