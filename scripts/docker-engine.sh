#!/usr/bin/env -S bash
# Makes a Docker engine with Compose and buildx available on a bare Debian machine, from Debian's own packages.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

usage() {
    cat <<'USAGE'
usage: scripts/docker-engine.sh [--help]

Installs a Docker engine with Compose and buildx from Debian's packages and starts it.
For Debian 12 and 13, as root. Does nothing where an engine and Compose answer already.

On Debian 12, whose own Docker is too old, the packages come from Debian 13: the machine's own package
source is added a second time for that release, with so low a priority that nothing else is taken from it
(/etc/apt/sources.list.d/docker-engine.list, /etc/apt/preferences.d/docker-engine).

Where systemd runs, the engine is its service; elsewhere dockerd runs in the background and writes
to /var/log/dockerd.log. To stop it: kill $(cat /var/run/docker.pid)
USAGE
}

readonly NEWER_SUITE=trixie # the first Debian release with Engine >= 25 and the `docker compose` plugin
readonly ENGINE_LOG=/var/log/dockerd.log
readonly CONTAINERD_CONFIG=/var/run/docker/containerd/containerd.toml

# ── packages ────────────────────────────────────────────────────────────────────────────────────────────────

add_newer_suite() {
    local mirror signed=""
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || die "apt knows no package source for '$(debian_codename) main'; add one to /etc/apt/sources.list.d first."
    if [ -f /usr/share/keyrings/debian-archive-keyring.gpg ]; then
        signed="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
    fi
    echo "deb ${signed}${mirror} ${NEWER_SUITE} main" >/etc/apt/sources.list.d/docker-engine.list
    printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n' "$NEWER_SUITE" >/etc/apt/preferences.d/docker-engine
}

# Installing a service must not start it: this script starts dockerd itself where no systemd runs.
without_service_start() {
    local policy=/usr/sbin/policy-rc.d status=0
    if [ -e "$policy" ] || [ -d /run/systemd/system ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    "$@" || status=$?
    rm -f "$policy"
    return "$status"
}

install_packages() {
    local suite_option="" packages="docker-cli docker-compose docker-buildx"
    # An engine that answers stays as it is, whoever packaged it: only what it lacks comes along.
    engine_answers || packages="docker.io $packages"
    say "installing $packages from Debian's packages ..."
    quietly apt_get update || die "apt-get update failed."
    if [ "$(debian_codename)" = bookworm ]; then
        add_newer_suite
        quietly apt_get update || die "apt-get update failed with the package source of $NEWER_SUITE."
        suite_option="-t $NEWER_SUITE"
    fi
    quietly without_service_start apt_get install --no-install-recommends iptables ||
        die "iptables could not be installed."
    # shellcheck disable=SC2086 # both are lists of words
    quietly without_service_start apt_get install --no-install-recommends $suite_option $packages ||
        die "the packages could not be installed."
}

# ── the daemon ──────────────────────────────────────────────────────────────────────────────────────────────

dockerd_pids() { pgrep -x dockerd | living_pids; }
containerd_pids() { pgrep -f "containerd --config $CONTAINERD_CONFIG" | living_pids; }

# dockerd refuses to start while the number in its pidfile is that of any living process.
remove_dead_pidfiles() {
    [ -n "$(dockerd_pids)" ] || rm -f /var/run/docker.pid
    [ -n "$(containerd_pids)" ] || rm -f /var/run/docker/containerd/containerd.pid
}

end_process() { # PID
    kill "$1" 2>/dev/null || return 0
    wait_until 10 process_gone "$1" || kill -KILL "$1" 2>/dev/null || true
}

# A containerd that outlived its dockerd is normally taken over by the next one; if that did not work, it must go.
end_leftovers() {
    local pid
    for pid in $(dockerd_pids) $(containerd_pids); do
        end_process "$pid"
    done
}

launch_daemon() {
    if [ -d /run/systemd/system ]; then
        systemctl start docker
        return
    fi
    [ -z "$(dockerd_pids)" ] || return 0 # it is starting already
    remove_dead_pidfiles
    setsid dockerd >>"$ENGINE_LOG" 2>&1 </dev/null &
}

start_daemon() {
    say "starting dockerd (log: $ENGINE_LOG) ..."
    launch_daemon
    wait_until 40 engine_answers && return
    say "no answer after 40 s: ending what is left of an earlier engine, and trying once more ..."
    end_leftovers
    launch_daemon
    wait_until 40 engine_answers && return
    tail -n 15 "$ENGINE_LOG" >&2 || true
    die "dockerd does not answer; the last lines of its log are above."
}

# ── main ────────────────────────────────────────────────────────────────────────────────────────────────────

case "${1:-}" in
    "") ;;
    -h | --help) usage && exit 0 ;;
    *) bad_usage "unknown argument '$1'" ;;
esac

if [ -z "$(docker_obstacle)" ]; then
    say "a Docker engine answers already: $(engine_version)"
    exit 0
fi
case "$(debian_codename)" in
    bookworm | trixie) ;;
    *) die "this script knows Debian 12 and 13 only. Install Docker as its manual says, then run scripts/up.sh." ;;
esac
[ "$(id -u)" = 0 ] || die "installing and starting the engine needs root: sudo scripts/docker-engine.sh"

if ! command -v dockerd >/dev/null || ! compose_answers || ! buildx_answers; then
    install_packages
fi
engine_answers || start_daemon
obstacle=$(docker_obstacle)
[ -z "$obstacle" ] || die "the engine was installed, but $obstacle."
say "a Docker engine answers: $(engine_version)"
