#!/usr/bin/env bash
# Runs every check and every test that this machine can run.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

usage() {
    cat <<'USAGE'
usage: scripts/test.sh [--help | PYTEST-ARGUMENTS...]

Makes .venv ready, then runs ruff, mypy and pytest. Arguments go to pytest: scripts/test.sh tests/stack -k bar

The tests of the stack as containers need a Docker engine; where none answers they are skipped, unless
REQUIRE_DOCKER=1 is set: then that is a failure.
USAGE
}

case "${1:-}" in
    -h | --help) usage && exit 0 ;;
esac

scripts/venv.sh
export PATH=$VENV/bin:$PATH VIRTUAL_ENV=$VENV

obstacle=$(docker_obstacle)
if [ -n "$obstacle" ] && [ "${REQUIRE_DOCKER:-}" = 1 ]; then
    die "REQUIRE_DOCKER=1, but $obstacle. On bare Debian, as root, scripts/docker-engine.sh installs and starts one."
fi

say "ruff ..."
ruff check
ruff format --check
say "mypy ..."
mypy
if [ -n "$obstacle" ]; then
    say "*** The tests of the stack as containers are SKIPPED: $obstacle. ***"
fi
say "pytest ..."
exec python -m pytest "$@"
