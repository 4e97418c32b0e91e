#!/usr/bin/env -S bash -p
# Changes the code in many small ways, and shows the changes that no test notices.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

[[ "${1:-}" != -h && "${1:-}" != --help ]] || { usage && exit; }
readonly LOCK=tests/mutants/mutmut.requirements.lock TOOL=$PWD/.local/mutmut

scripts/venv.sh
quietly "$(scripts/venv.sh --uv)" pip install --quiet --require-hashes --python "$VENV/bin/python" --target "$TOOL" -r "$LOCK" ||
    die "$LOCK could not be installed."
export PYTHONPATH=$TOOL PYTHONDONTWRITEBYTECODE=1
exec nice -n 15 "$VENV/bin/python" tests/mutants/run.py "$@"
