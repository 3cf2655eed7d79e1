#!/usr/bin/env bash
# Make Debian packages: dist/fastport_VERSION_ARCHITECTURE.deb
#
#   tools/deb.sh [TARGET…]      this machine's own target is the default
#
#   target                          Debian calls it
#   x86_64-unknown-linux-gnu        amd64
#   aarch64-unknown-linux-gnu       arm64
#   armv7-unknown-linux-gnueabihf   armhf
#   riscv64gc-unknown-linux-gnu     riscv64
#
# For other machines than this the programs are built by tools/cross.sh. The package's metadata are in
# Cargo.toml ([package.metadata.deb]); cargo-deb, which reads them, is built once into target/tools.
#
# GLIBC=2.31     for Debian 11 and Raspberry Pi OS 11, which 12 upgrades: dist/fastport_VERSION~deb11_ARCHITECTURE.deb;
#                for other machines than this
# PROGRAMS=DIR   pack the programs that are in there instead of building them; for one TARGET
# VERSION=…      another version than that of Cargo.toml
# DIST=DIR       where to, instead of dist
# FAST=1         a larger package in less time, for tests
# INSTALL=1      install what is missing: for this machine's own package libsystemd-dev and pkg-config; and lintian,
#                without which packages are made, and not checked
set -euo pipefail
cd "$(dirname "$0")/.."

cargo_deb=3.8.0
cargo=${CARGO:-cargo}
dist=${DIST:-dist}
host=$(rustc -vV | sed -n 's/^host: //p')
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}
compression=(--compress-system)
[ -z "${FAST:-}" ] || compression=(--compress-type gz --compress-system --fast)
tree=target/package/deb             # named in Cargo.toml
variant=()
case ${GLIBC:-} in
    '') ;;
    2.31) version+=~deb11 variant=(--variant debian-11) ;;
    *) echo "packages are for glibc 2.36 and, with GLIBC=2.31, for Debian 11" >&2; exit 64 ;;
esac

main() {
    [ $# -gt 0 ] || set -- "$host"
    [ -z "${PROGRAMS:-}" ] || [ $# = 1 ] || { echo "PROGRAMS are for one target" >&2; exit 64; }
    check_tools "$@"
    # the package's times are the source's, so that the same source makes the same package
    export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
    mkdir -p "$dist"
    local target
    for target in "$@"; do
        pack "$target"
    done
}

check_tools() {
    local missing=() wanted=()
    command -v lintian >/dev/null || wanted=(lintian)
    # other targets' needs are tools/cross-needs.sh's
    if [ -z "${PROGRAMS:-}" ] && [[ " $* " = *" $host "* ]]; then
        command -v pkg-config >/dev/null || missing+=(pkg-config)
        pkg-config --exists libsystemd 2>/dev/null || missing+=(libsystemd-dev)
    fi
    if [ -n "${INSTALL:-}" ] && [ $((${#missing[@]} + ${#wanted[@]})) -gt 0 ]; then
        local as_root=()
        [ "$(id -u)" = 0 ] || as_root=(sudo)
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" "${wanted[@]}" >/dev/null
    elif [ ${#missing[@]} -gt 0 ]; then
        echo "needs Debian's ${missing[*]}; INSTALL=1 installs them" >&2
        exit 69
    fi
    # a debug build without its compressors (--compress-system) is made in half the time, and is quick enough
    target/tools/bin/cargo-deb --version 2>/dev/null | grep -qx "cargo-deb $cargo_deb" ||
        CARGO_PROFILE_DEV_DEBUG=0 "$cargo" install --quiet --locked --debug --no-default-features --root target/tools \
            --target-dir target/tools/build --version "$cargo_deb" cargo-deb
    rm -rf target/tools/build
}

pack() {
    local target=$1 architecture programs=${PROGRAMS:-} source=unknown
    architecture=$(architecture_of "$target")
    [ -z "${GLIBC:-}" ] || [ "$target" != "$host" ] || { echo "GLIBC is for other machines than this" >&2; exit 64; }
    if [ -z "$programs" ]; then
        # before, so that what is changed meanwhile makes it an old one
        source=$(tools/source-id.sh package)
        programs=$(build "$target")
    fi
    # one at a time: Cargo.toml names the folder
    mkdir -p target/package
    exec 8>target/package/lock
    flock -w 600 8 || { echo "another tools/deb.sh is at work in target/package" >&2; exit 75; }
    STRIP=$(strip_for "$target") tools/package-tree.sh "$programs" "$target" "$tree" "$source"
    check_needs "$tree"
    write_changelog >"$tree/usr/share/doc/fastport/changelog"
    local deb=$dist/fastport_${version}_$architecture.deb
    rm -f "$deb"
    target/tools/bin/cargo-deb --quiet --no-build --no-strip --no-dbgsym --locked "${compression[@]}" \
        "${variant[@]}" --package fastport --target "$target" --deb-version "$version" --output "$deb"
    exec 8>&-
    check "$deb"
    # tests/package.rs installs that of this machine, under systemd
    [ "$target" = "$host" ] || [ -n "${PROGRAMS:-}" ] || run "$deb" "$target"
    echo "$deb: $(stat -c %s "$deb") bytes"
}

architecture_of() {
    case $1 in
        x86_64-*-linux-gnu) echo amd64 ;;
        aarch64-*-linux-gnu) echo arm64 ;;
        armv7-*-linux-gnueabihf) echo armhf ;;
        riscv64gc-*-linux-gnu) echo riscv64 ;;
        *) echo "no Debian architecture for $1; tools/deb.sh lists the targets" >&2; exit 64 ;;
    esac
}

# Builds the programs; prints the folder that they are in.
build() {
    if [ "$1" = "$host" ]; then
        "$cargo" build --release --locked --bins --features central,systemd >&2
        echo "${CARGO_TARGET_DIR:-target}/release"
    else
        tools/cross.sh "$1" central >&2
        echo "dist/$1${GLIBC:+.$GLIBC}/central"
    fi
}

strip_for() {
    case $1 in
        "$host") echo strip ;;
        aarch64-*) echo aarch64-linux-gnu-strip ;;
        armv7-*) echo arm-linux-gnueabihf-strip ;;
        riscv64gc-*) echo riscv64-linux-gnu-strip ;;
    esac
}

# The package says what it depends on in Cargo.toml; the programs must need no more.
check_needs() {
    local program needs most=${GLIBC:-2.36}
    for program in "$1"/usr/bin/*; do
        needs=$(readelf -dV --wide "$program" |
            sed -nE 's/GLIBC_ABI_DT_RELR/GLIBC_2.36/; s/.*\(NEEDED\).*\[(.*)\]/\1/p; s/.*Name: (GLIBC_[0-9.]+).*/\1/p' |
            sort -uV)
        while read -r need; do
            case $need in
                GLIBC_*)
                    [ "$(printf '%s\n' "${need#GLIBC_}" "$most" | sort -V | tail -n 1)" = "$most" ] && continue ;;
                libc.so.6 | libm.so.6 | libgcc_s.so.1 | libsystemd.so.0 | ld-linux*) continue ;;
                # parts of libc6, and until 2.34 libraries of their own
                libpthread.so.0 | libdl.so.2 | librt.so.1 | libutil.so.1) continue ;;
            esac
            echo "$program needs $need, and the package does not say so: [package.metadata.deb] depends" >&2
            exit 1
        done <<<"$needs"
    done
}

write_changelog() {
    printf 'fastport (%s) unstable; urgency=medium\n\n' "$version"
    printf '  * What changed is in CHANGELOG.md of the source.\n\n'
    printf ' -- The fastPort developers <developers@fastport.example.org>  %s\n' "$(date -R -u -d "@$SOURCE_DATE_EPOCH")"
}

check() {
    command -v lintian >/dev/null || { echo "SKIPPED: lintian is not installed, $1 is not checked"; return; }
    local said
    said=$(lintian --allow-root --fail-on error --tag-display-limit 0 "$1" 2>&1) || { echo "$said" >&2; exit 1; }
    [ -z "$said" ] || echo "$said"
}

# What is in the package passes messages on, under the emulator.
run() (
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    dpkg-deb -x "$1" "$work"
    tools/cross-check.sh "$2" "$work/usr/bin"
)

main "$@"
