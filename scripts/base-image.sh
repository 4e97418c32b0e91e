#!/usr/bin/env -S bash -p
# Prints the name of the base image to build on, after making sure that the Docker engine has it.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

readonly STAND_IN_IMAGE=durable-rpc-demo/python:3.13-$NEWER_DEBIAN # never named as if it were the official one
readonly POSTGRES_STAND_IN=durable-rpc-demo/postgres:17
readonly PULL_SECONDS=120

have_image() { docker image inspect "$1" >/dev/null 2>&1; }

pull() { # IMAGE
    say "pulling $1 ..."
    quietly within "$PULL_SECONDS" docker pull --quiet "$1" && have_image "$1"
}

# The Debian mirror and the CA certificates are those of this machine: where a proxy re-signs TLS, builds work as well.
make_stand_in() (
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 1
    command -v debootstrap >/dev/null || install_from_debian debootstrap || exit 1
    say "making $STAND_IN_IMAGE from Debian's packages (half a minute, once) ..."
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    quietly debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv \
        "$NEWER_DEBIAN" "$root" "$(debian_mirror)" || exit 1
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    tar -C "$root" -c . | docker import \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8' \
        --change 'CMD ["python3"]' - "$STAND_IN_IMAGE" >&2
)

postgres=""
read_arguments 0 "$@"
if [ -n "$postgres" ]; then
    image=${POSTGRES_IMAGE:-$(sed -n 's/.*POSTGRES_IMAGE:-\([^}]*\)}.*/\1/p' compose.postgres.yml)}
    have_image "$image" || { ! have_image "$POSTGRES_STAND_IN" && pull "$image"; } || image=$POSTGRES_STAND_IN
    have_image "$image" || quietly docker build --target postgres --build-arg PYTHON_IMAGE="$PYTHON_IMAGE" --tag "$image" . ||
        die "no PostgreSQL image: it can be neither pulled nor built. Set POSTGRES_IMAGE to one you have."
    echo "$image"
elif [ -n "${PYTHON_IMAGE:-}" ]; then
    have_image "$PYTHON_IMAGE" || pull "$PYTHON_IMAGE" || die "cannot get the image that PYTHON_IMAGE names."
    echo "$PYTHON_IMAGE"
elif have_image "$OFFICIAL_IMAGE" || { ! have_image "$STAND_IN_IMAGE" && pull "$OFFICIAL_IMAGE"; }; then
    echo "$OFFICIAL_IMAGE"
elif have_image "$STAND_IN_IMAGE" || make_stand_in; then
    echo "$STAND_IN_IMAGE"
else
    die "no base image: $OFFICIAL_IMAGE cannot be pulled, and building a stand-in needs Debian, root and debootstrap. Set PYTHON_IMAGE to an image you have."
fi
