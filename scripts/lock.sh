#!/usr/bin/env -S bash
# Writes the requirements.lock files: every package at one version, with hashes, for every platform.
# Run it after changing a version in a pyproject.toml. The images, the scripts and CI install from these files.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

flags="--quiet --universal --python-version 3.12 --generate-hashes --no-emit-index-url --custom-compile-command scripts/lock.sh"
upgrade=""
read_arguments 0 "$@"
flags+=${upgrade:+ --upgrade}

# Own packages are installed from the sources.
for package in demo-worker $(services | sed 's/^/demo-/') resonate-server demo-bench demo-harness; do
    flags="$flags --no-emit-package $package"
done
uv=$(scripts/venv.sh --uv)

compile() { # FILE [UV_ARGUMENTS...]
    say "locking $1"
    # shellcheck disable=SC2086 # a list of options
    "$uv" pip compile $flags --output-file "$@"
}

compile requirements.lock pyproject.toml --group dev
for folder in $(services | sed 's|^|services/|') resonate-server; do
    # The root lock is a constraint: an image holds the versions that were tested.
    compile "$folder/requirements.lock" "$folder/pyproject.toml" --all-extras -c requirements.lock
done
compile scripts/uv.requirements.lock scripts/uv.in
for version in 0.7.4 0.8.0; do
    compile "tests/clients/sdk-$version.requirements.lock" "tests/clients/sdk-$version.in"
done
compile tests/mutants/mutmut.requirements.lock tests/mutants/mutmut.in -c requirements.lock
compile tests/own/applications.requirements.lock tests/own/applications.in -c requirements.lock
