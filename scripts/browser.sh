#!/usr/bin/env -S bash
# Makes Debian's Chromium available, in which the tests look at the live page and from which its pictures come.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

usage() {
    cat <<'USAGE'
usage: scripts/browser.sh [--help]

Installs Chromium and a few fonts from Debian's packages, as root. Does nothing where Chromium runs already.
tests/ui and scripts/pictures.sh need it; they take another one by its path: CHROMIUM=/opt/chromium
USAGE
}

readonly FONTS="fonts-dejavu-core fonts-liberation" # what a page says without a font of its own

chromium_version() { chromium --version --no-sandbox 2>/dev/null; }

install_chromium() {
    [ -f /etc/debian_version ] || die "this script knows Debian only. Install Chromium as your system does, and name it: CHROMIUM=PATH"
    [ "$(id -u)" = 0 ] || die "installing packages needs root: sudo scripts/browser.sh"
    say "installing chromium from Debian's packages ..."
    quietly apt_get update || die "apt-get update failed."
    # shellcheck disable=SC2086 # a list of packages
    quietly apt_get install --no-install-recommends chromium $FONTS || die "chromium could not be installed."
}

case "${1:-}" in
    "") ;;
    -h | --help) usage && exit 0 ;;
    *) bad_usage "unknown argument '$1'" ;;
esac

if [ -z "$(chromium_version)" ]; then
    install_chromium
fi
version=$(chromium_version) || die "chromium was installed, but does not run."
say "there is a browser: $version"
