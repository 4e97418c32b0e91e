#!/usr/bin/env -S bash
# Makes the pictures of the live page that the README shows, from a real run in a real browser.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

usage() {
    cat <<'USAGE'
usage: scripts/pictures.sh [--help | FOLDER]

Starts a stack of its own as processes, opens the live page in Chromium, sends a request, kills bar in the middle of its
work, starts it again, and writes what was seen into FOLDER (docs/pictures): running.png, bar-dead.png, recovered.png,
and crash.webp, which moves. Takes about half a minute. Needs Chromium: scripts/browser.sh
USAGE
}

case "${1:-}" in
    -h | --help) usage && exit 0 ;;
    -*) bad_usage "unknown argument '$1'" ;;
esac
folder=${1:-docs/pictures}

scripts/venv.sh
say "taking pictures ..."
PYTHONPATH=tests "$VENV/bin/python" -m ui.pictures "$folder"
ls -l "$folder" >&2
