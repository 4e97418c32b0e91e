#!/usr/bin/env -S bash -p
# Writes the requirements.lock files, which pin every package to one version, with hashes, for every platform.
# Run it after changing a version in a pyproject.toml. The images, the scripts and CI install from these files.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

upgrade=""
read_arguments 0 "$@"
uv=$(scripts/venv.sh --uv)
exec "$uv" run --quiet --no-project --python '>=3.10' scripts/lock.py "$uv" ${upgrade:+--upgrade}
