#!/usr/bin/env -S bash -p
# Installs Debian's headless Chromium, with which the tests look at the live page, and from which its pictures come.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

read_arguments 0 "$@"
if ! chromium-headless-shell --version >/dev/null 2>&1; then
    [ -f /etc/debian_version ] || die "this script supports only Debian. Install Chromium with your system's package manager, and set CHROMIUM to its path."
    [ "$(id -u)" = 0 ] || die "installing packages needs root: sudo scripts/browser.sh"
    # The fonts are for pages that bring none of their own.
    install_from_debian chromium-headless-shell fonts-dejavu-core fonts-liberation || die "chromium could not be installed."
fi
version=$(chromium-headless-shell --version 2>/dev/null) || die "chromium was installed, but does not run."
say "Chromium is installed: $version"
