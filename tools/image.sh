#!/usr/bin/env bash
# Build the container image that Dockerfile describes, and run it: dist/fastport-VERSION-image.tar
#
#   tools/image.sh              needs root and Debian's buildah; INSTALL=1 installs it
#
# It is made of this processor's archive, dist/fastport-VERSION-TARGET.tar.gz (tools/tarball.sh), which is made unless
# it is there and of the present source. What comes out is for `docker load` and `podman load`. It is then run as
# buildah runs a container (chroot, mounts of its own, the image's user, environment and command), in a network and
# among processes of its own: the daemon runs as the user 7470, a message goes through it, it ends in order, and the
# next container that has its volume still knows what was acknowledged. An engine's own network, limits and seccomp are
# not in this.
#
# ARCHIVE=FILE   another archive, of whatever source
# DIST=DIR       where to, instead of dist
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/until-ready.sh

dist=${DIST:-dist}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
target=$(uname -m)-unknown-linux-musl
archive=${ARCHIVE:-$dist/fastport-$version-$target.tar.gz}
image=fastport:$version

main() {
    check_tools
    [ -n "${ARCHIVE:-}" ] || [ "$(source_of_archive)" = "$(tools/source-id.sh package)" ] || tools/tarball.sh "$target"
    echo "$archive: source $(source_of_archive)"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    build
    # with this script ends what runs in there
    unshare --net --pid --fork --kill-child --mount-proc "$0" --run "$work"
    local to=$dist/fastport-$version-image.tar
    rm -f "$to"
    with_store buildah push --quiet "$image" "docker-archive:$to:$image"
    echo "$to: $(stat -c %s "$to") bytes"
}

check_tools() {
    [ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 77; }
    local missing=()
    command -v buildah >/dev/null || missing+=(buildah)
    command -v ip >/dev/null || missing+=(iproute2)
    [ ${#missing[@]} -gt 0 ] || return 0
    [ -n "${INSTALL:-}" ] || { echo "needs Debian's ${missing[*]}; INSTALL=1 installs them" >&2; exit 69; }
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# An archive from before it had that file has no answer.
source_of_archive() {
    [ ! -e "$archive" ] || tar xzO --wildcards -f "$archive" '*/doc/source' 2>/dev/null || true
}

# Images and containers are kept beside this script's own files, not with the machine's.
with_store() {
    local command=$1
    shift
    "$command" --root "$work/store" --runroot "$work/run" --storage-driver vfs "$@"
}

build() {
    mkdir "$work/context"
    tar xz -C "$work/context" --strip-components=1 -f "$archive"
    # the same archive makes the same image
    with_store buildah bud --quiet --isolation chroot --network host --tag "$image" \
        --timestamp "$(stat -c %Y "$work/context/bin/fastportd")" -f Dockerfile "$work/context" >/dev/null
}

run_it() {
    ip link set lo up
    local container
    container=$(with_store buildah from "$image")
    mkdir "$work/volume"
    # what an engine does to a new volume
    chown 7470:7470 "$work/volume"
    start
    local pid uid
    pid=$(pidof fastportd)
    uid=$(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' "/proc/$pid/status")
    [ "$uid" = 7470 ] || fail "the daemon runs as $uid"
    inside fastport pub image/check 'first run' --keep --counted --wait taken --timeout 30s
    came 'first run'
    stop
    start
    came 'first run'
    stop
    echo "$image: runs as $uid, and keeps in its volume what was acknowledged"
}

fail() {
    echo "$image: $*" >&2
    cat "$work/log" >&2
    exit 1
}

in_container() { with_store buildah run --isolation chroot --volume "$work/volume:/var/lib/fastport" "$container" -- "$@"; }

inside() {
    local program=$1
    shift
    in_container "/usr/bin/$program" --url tcp://127.0.0.1:7470 "$@"
}

came() {
    local said
    said=$(inside fastport sub image/check --raw --count 1 --timeout 30s)
    [ "$said" = "$1" ] || fail "came: $said"
}

# What the image says is to be run.
start() {
    local words
    mapfile -t words < <(with_store buildah inspect --type image --format \
        '{{range .OCIv1.Config.Entrypoint}}{{println .}}{{end}}{{range .OCIv1.Config.Cmd}}{{println .}}{{end}}' "$image" |
        grep .)
    in_container "${words[@]}" >"$work/log" 2>&1 &
    engine=$!
    until_ready "$engine" "$work/log" 30
}

stop() {
    # no other is in this namespace
    kill "$(pidof fastportd)"
    wait "$engine" || fail "the daemon did not end in order: $?"
}

if [ "${1:-}" = --run ]; then
    work=$2
    run_it
else
    main
fi
