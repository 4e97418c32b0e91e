#!/usr/bin/env -S bash -p
# Makes the pictures of the live page that the README shows, from a real run in a real browser.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

read_arguments 1 "$@"
folder=${words[0]:-docs/pictures}
scripts/venv.sh
say "taking pictures ..."
PYTHONPATH=tests "$VENV/bin/python" -m ui.pictures "$folder"
ls -l "$folder" >&2
