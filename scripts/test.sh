#!/usr/bin/env -S bash -p
# Runs the checks and the tests, in one of three sizes.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

readonly UNITS="resonate-server/tests/unit tests/unit_chaos tests/unit_foo tests/unit_worker tests/test_documents.py
    --ignore=tests/unit_worker/test_changed_code.py"

size=usual
case "${1:-}" in
    --quick | --all) size=${1#--} && shift ;;
    -h | --help) usage && exit 0 ;;
esac
environment=$VENV
if [ "$size" = quick ] && [ "${1:-}" = --python ]; then
    [ $# -ge 2 ] || bad_usage "$1 needs a value"
    environment=$PWD/.local/python-$2
    scripts/venv.sh --python "$2"
    shift 2
fi

# From that version on, node recognises modules without a package.json that declares them.
node_there() {
    node -e 'const [major, minor] = process.versions.node.split("."); process.exit(major > 20 || (major == 20 && minor >= 19) ? 0 : 1)' 2>/dev/null
}

scripts/venv.sh
export PATH=$VENV/bin:$PATH VIRTUAL_ENV=$VENV

unset PYTHONDONTWRITEBYTECODE # otherwise each of pytest's processes would compile all tests, every time
cores=$(getconf _NPROCESSORS_ONLN) # most tests mostly wait: two processes per core keep it busy with units, three with the others

run_pytest() { # MARKS ARGUMENTS...: pytest's status 5 means that there was no test
    local status=0
    say "pytest${1:+ -m \"$1\"} ..."
    python -m pytest --durations=15 -n "$((cores * 3))" -m "$1" "${@:2}" || status=$?
    [ "$status" -lt 2 ] || [ "$status" = 5 ] || exit "$status"
    [ "$status" = 5 ] || results="$results $status"
}

say "ruff ..."
ruff check; ruff format --check
say "mypy ..."
mypy &
types=$!
if [ "$size" = quick ]; then
    status=0
    # shellcheck disable=SC2086 # a list
    "$environment/bin/python" -m pytest --durations=15 -n "$((cores * 2))" -m "not long and not browser" -k "not postgres" $UNITS "$@" || status=$?
    wait "$types" || die "mypy found errors; see above."
    exit "$status"
fi

[ -d .pytest_cache ] || python -m pytest --collect-only --quiet &>/dev/null || true # compiles the tests, once for all processes

skipped() { # WHAT WHY [1 if it is required]
    [ "${3:-}" != 1 ] || die "the tests of $1 are required, but $2."
    say "*** The tests of $1 are SKIPPED: $2. ***"
}

obstacle=$(docker_obstacle)
[ -z "$obstacle" ] || skipped "the stack as containers" "$obstacle (on bare Debian, as root, scripts/docker-engine.sh installs an engine)" "${REQUIRE_DOCKER:-}"
[ -n "$(type -P "${CHROMIUM:-chromium-headless-shell}" chromium chromium-browser)" ] || skipped "the page in a browser" "there is no Chromium; on Debian, as root, scripts/browser.sh installs it" "${REQUIRE_BROWSER:-}"
for tool in npm go cargo; do
    command -v "$tool" >/dev/null || skipped "the SDK that needs $tool" "it is not installed"
done
if node_there; then
    say "node --test ..."
    quietly node --test resonate-server/tests/ui_js/*.test.mjs
else
    skipped "the page's modules" "node 20.19 or newer is not installed"
fi

wait "$types" || die "mypy found errors; see above."

# A browser aborts what it loads when Docker adds a network beside it. Where we may not give it a network namespace of its own,
# its tests must not run beside those of containers.
parts=("")
[ -n "$obstacle" ] || unshare --net true 2>/dev/null || parts=("not browser" browser)
results=""
for marks in "${parts[@]}"; do
    [ "$size" = all ] || marks="${marks:+$marks and }not long"
    run_pytest "$marks" "$@"
done
[ -n "$results" ] || die "no test was selected; long tests run only with --all."
[ "${results//[ 0]/}" = "" ]
