#!/usr/bin/env bash
# Make archives for systems without Debian's packages: dist/fastport-VERSION-TARGET.tar.gz
#
#   tools/tarball.sh [TARGET…]      this machine's processor with musl is the default
#
# In it are both programs, linked statically, with units, man pages, completions, documentation and install.sh.
# TARGETs are those of tools/cross.sh with musl, and x86_64-unknown-linux-musl, which needs Debian's musl-tools
# and `rustup target add x86_64-unknown-linux-musl`.
#
# PROGRAMS=DIR   pack the programs that are in there instead of building them; for one TARGET
# VERSION=…      another version than that of Cargo.toml
# DIST=DIR       where to, instead of dist
set -euo pipefail
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
dist=${DIST:-dist}
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}

main() {
    [ $# -gt 0 ] || set -- "$(uname -m)-unknown-linux-musl"
    [ -z "${PROGRAMS:-}" ] || [ $# = 1 ] || { echo "PROGRAMS are for one target" >&2; exit 64; }
    mkdir -p "$dist"
    local target
    for target in "$@"; do
        pack "$target"
    done
}

pack() {
    local target=$1 programs=${PROGRAMS:-} source=unknown
    local name=fastport-$version-$target tree=target/package/tar
    if [ -z "$programs" ]; then
        # before, so that what is changed meanwhile makes it an old one
        source=$(tools/source-id.sh package)
        programs=$(build "$target")
    fi
    STRIP=${STRIP:-$(strip_for "$target")} tools/package-tree.sh "$programs" "$target" "$tree" "$source"
    lay_out "$tree" "target/package/$name"
    check_programs "target/package/$name" "$target"
    # the same source makes the same archive
    tar --create --directory target/package --sort=name --owner=0 --group=0 --numeric-owner \
        --mtime="@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}" \
        "$name" | gzip -9n >"$dist/$name.tar.gz"
    rm -r "target/package/$name"
    case $target in
        "$(uname -m)"-*) ;;                                 # tests/package.rs installs that one, under systemd
        *) [ -n "${PROGRAMS:-}" ] || check_install "$dist/$name.tar.gz" "$target" ;;
    esac
    echo "$dist/$name.tar.gz: $(stat -c %s "$dist/$name.tar.gz") bytes"
}

build() {
    case $1 in
        x86_64-unknown-linux-musl)
            command -v musl-gcc >/dev/null || { echo "needs musl-gcc (Debian: musl-tools)" >&2; exit 69; }
            # for C alone: as a linker it would name an interpreter
            CC_x86_64_unknown_linux_musl=musl-gcc \
                "$cargo" build --release --locked --bins --features central,sd-notify --target "$1" >&2
            echo "${CARGO_TARGET_DIR:-target}/$1/release"
            ;;
        *-musl*)
            tools/cross.sh "$1" central >&2
            echo "dist/$1/central"
            ;;
        *)
            echo "$1 is not static: a target with musl" >&2
            exit 64
            ;;
    esac
}

strip_for() {
    case $1 in
        "$(uname -m)"-*) echo strip ;;
        aarch64-*) echo aarch64-linux-gnu-strip ;;
        arm*-*) echo arm-linux-gnueabihf-strip ;;
    esac
}

lay_out() {
    local tree=$1 to=$2
    rm -rf "$to"
    mkdir -p "$to/bin" "$to/etc" "$to/man" "$to/completions"
    cp "$tree"/usr/bin/* "$to/bin/"
    cp "$tree/etc/fastport/gateway.toml" "$to/etc/"
    # for Dockerfile
    cp packaging/container.toml "$to/etc/"
    mkdir -p "$to/var/lib/fastport"
    cp "$tree"/usr/share/man/man*/* "$to/man/"
    cp "$tree/usr/share/bash-completion/completions/fastport" "$to/completions/fastport.bash"
    cp "$tree/usr/share/zsh/vendor-completions/_fastport" "$tree/usr/share/fish/vendor_completions.d/fastport.fish" \
        "$to/completions/"
    cp -r "$tree/usr/share/doc/fastport" "$to/doc"
    cp -r systemd "$to/"
    cp packaging/install.sh LICENSE-APACHE LICENSE-MIT "$to/"
    chmod 755 "$to/install.sh"
}

# They must need nothing of the system that they come to: they start in a root with nothing else in it.
check_programs() {
    local program
    for program in "$1"/bin/*; do
        readelf -l --wide "$program" | grep -q INTERP || continue
        [ -n "${PROGRAMS:-}" ] || { echo "$program is not linked statically" >&2; exit 1; }
        echo "$program was given, and is not linked statically: for tests only"
        return
    done
    case $2 in "$(uname -m)"-*) ;; *) return ;; esac        # check_install runs the others
    [ "$(id -u)" = 0 ] || { echo "SKIPPED: an empty root needs root"; return; }
    STATE_DIRECTORY=/var/lib/fastport chroot "$1" /bin/fastportd --check --config /etc/container.toml
    chroot "$1" /bin/fastport --version
}

# What its own script installs into an empty root runs there under the emulator, and passes messages on.
check_install() (
    . tools/cross-targets.sh
    about "$2"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    tar xz -C "$work" -f "$1"
    ROOT=$work/root "$work"/fastport-*/install.sh
    tools/cross-check.sh "$2" "$work/root/usr/local/bin"
    [ "$(id -u)" = 0 ] || { echo "SKIPPED: an empty root needs root"; exit 0; }
    cp "$(command -v "$qemu")" "$work/root/"
    STATE_DIRECTORY=/var/lib/fastport chroot "$work/root" "/$qemu" ${cpu:+-cpu "$cpu"} \
        /usr/local/bin/fastportd --check --config /etc/fastport/gateway.toml
)

main "$@"
