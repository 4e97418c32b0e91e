#!/usr/bin/env -S bash
# Changes the code in many small ways, and shows the changes that no test notices.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

usage() {
    cat <<'USAGE'
usage: scripts/mutants.sh [--sample N] [--seed NUMBER] [PACKAGE...]

Has mutmut make mutants of a PACKAGE (kernel, engine, store, delivery, worker, foo; without any: of all), runs the
fast tests of that package against each, and prints those that no test notices, then a table with the scores. Mutants of
which tests/mutants/equivalent.txt says why they change nothing do not count as survivors. Nothing in src is touched:
it works on copies in .local/mutants.

  --sample N      try only N of the package's mutants, chosen at random
  --seed NUMBER   choose the same ones as in the run that printed this number

A package takes from ten minutes to an hour: its mutants are tried one by one.
USAGE
}

case "${1:-}" in
    -h | --help) usage && exit 0 ;;
esac

readonly LOCK=tests/mutants/mutmut.requirements.lock TOOL=$PWD/.local/mutmut

scripts/venv.sh
if [ "$(cat "$TOOL/.installed" 2>/dev/null)" != "$(cksum <"$LOCK")" ]; then
    say "installing $LOCK into .local/mutmut ..."
    rm -rf "$TOOL"
    quietly "$(scripts/venv.sh --uv)" pip install --quiet --require-hashes --python "$VENV/bin/python" --target "$TOOL" -r "$LOCK" ||
        die "$LOCK could not be installed."
    cksum <"$LOCK" >"$TOOL/.installed"
fi
export PYTHONPATH=$TOOL PYTHONDONTWRITEBYTECODE=1
exec nice -n 15 "$VENV/bin/python" tests/mutants/run.py "$@"
