#!/usr/bin/env -S bash
# Runs every check and every test that this machine can run.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

usage() {
    cat <<'USAGE'
usage: scripts/test.sh [--help | PYTEST-ARGUMENTS...]

Makes .venv ready, then runs ruff, mypy, the tests of the page's modules (where node is there) and pytest.
Arguments go to pytest: scripts/test.sh tests/stack -k bar

The tests of the stack as containers need a Docker engine; where none answers they are skipped, unless
REQUIRE_DOCKER=1 is set: then that is a failure. In the same way the tests of the page in a browser need Chromium, and
REQUIRE_BROWSER=1 demands it.
USAGE
}

case "${1:-}" in
    -h | --help) usage && exit 0 ;;
esac

browser_there() { command -v "${CHROMIUM:-chromium}" >/dev/null || command -v chromium-browser >/dev/null; }

# Modules of which no package.json says that they are such are read as modules from then on.
node_there() {
    node -e 'const [major, minor] = process.versions.node.split("."); process.exit(major > 20 || (major == 20 && minor >= 19) ? 0 : 1)' 2>/dev/null
}

scripts/venv.sh
export PATH=$VENV/bin:$PATH VIRTUAL_ENV=$VENV

obstacle=$(docker_obstacle)
if [ -n "$obstacle" ] && [ "${REQUIRE_DOCKER:-}" = 1 ]; then
    die "REQUIRE_DOCKER=1, but $obstacle. On bare Debian, as root, scripts/docker-engine.sh installs and starts one."
fi
if ! browser_there && [ "${REQUIRE_BROWSER:-}" = 1 ]; then
    die "REQUIRE_BROWSER=1, but there is no Chromium. On Debian, as root, scripts/browser.sh installs it."
fi

say "ruff ..."
ruff check
ruff format --check
say "mypy ..."
mypy
if [ -n "$obstacle" ]; then
    say "*** The tests of the stack as containers are SKIPPED: $obstacle. ***"
fi
if ! browser_there; then
    say "*** The tests of the page in a browser are SKIPPED: there is no Chromium; scripts/browser.sh installs it. ***"
fi
if node_there; then
    say "node --test ..."
    quietly node --test resonate-server/tests/ui_js/*.test.mjs
else
    say "*** The tests of the page's modules are SKIPPED: there is no node, or one before 20.19. ***"
fi
say "pytest ..."
exec python -m pytest "$@"
