#!/usr/bin/env -S bash -p
# Makes a Docker engine with Compose and buildx available on a bare Debian machine, from Debian's own packages.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

readonly ENGINE_LOG=/var/log/dockerd.log
readonly NO_START=/usr/sbin/policy-rc.d
readonly START_SECONDS=80

add_newer_suite() {
    local mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg signed=""
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || die "apt knows no package source for '$(debian_codename) main'; add one to /etc/apt/sources.list.d first."
    [ ! -f "$keyring" ] || signed="[signed-by=$keyring] "
    echo "deb ${signed}${mirror} ${NEWER_DEBIAN} main" >/etc/apt/sources.list.d/docker-engine.list
    printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n' "$NEWER_DEBIAN" >/etc/apt/preferences.d/docker-engine
}

install_packages() {
    local packages="docker-cli docker-compose docker-buildx"
    # An engine that answers stays as it is, whoever packaged it: only what it lacks is added.
    [ -z "$(engine_obstacle)" ] || packages="docker.io $packages"
    install_from_debian iptables || die "iptables could not be installed."
    [ "$(debian_codename)" != bookworm ] || { add_newer_suite && packages="-t $NEWER_DEBIAN $packages"; }
    if [ ! -d /run/systemd/system ] && [ ! -e "$NO_START" ]; then # this script starts dockerd itself
        trap 'rm -f "$NO_START"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$NO_START" && chmod +x "$NO_START"
    fi
    # shellcheck disable=SC2086 # a list of words
    install_from_debian $packages || die "the packages could not be installed."
}

living() { pgrep --runstates D,R,S "$@" >/dev/null; } # PATTERN: zombies do not count

start_daemon() {
    say "starting dockerd (log: $ENGINE_LOG) ..."
    if [ -d /run/systemd/system ]; then
        systemctl start docker
    elif ! living -x dockerd; then # else it is starting already
        # It refuses to start if its pidfile names any living process. A running containerd is taken over.
        rm -f /var/run/docker.pid
        living -f "containerd --config /var/run/docker" || rm -f /var/run/docker/containerd/containerd.pid
        setsid dockerd >>"$ENGINE_LOG" 2>&1 </dev/null &
    fi
    wait_until "$START_SECONDS" engine_version && return
    tail -n 15 "$ENGINE_LOG" >&2 || true
    die "dockerd does not answer after $START_SECONDS s; the last lines of its log are above."
}

read_arguments 0 "$@"
if [ -z "$(docker_obstacle)" ]; then
    say "a Docker engine is already running: $(engine_version)"
    exit
fi
[[ "$(debian_codename)" =~ ^(bookworm|$NEWER_DEBIAN)$ ]] ||
    die "this script supports only Debian 12 and 13. Install Docker as its manual describes, then run scripts/up.sh."
[ "$(id -u)" = 0 ] || die "installing and starting the engine needs root: sudo scripts/docker-engine.sh"
if ! command -v dockerd >/dev/null || ! docker compose version >/dev/null 2>&1 || ! docker buildx version >/dev/null 2>&1; then
    install_packages
fi
[ -z "$(engine_obstacle)" ] || start_daemon
obstacle=$(docker_obstacle)
[ -z "$obstacle" ] || die "the engine was installed, but $obstacle."
say "a Docker engine is running: $(engine_version)"
