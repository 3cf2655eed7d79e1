#!/usr/bin/env bash
# Install what building for another machine needs beside Rust; quiet when everything is there.
#
#   tools/cross-needs.sh TARGET [tests]
#
#   the source of the standard library   rustup's component rust-src, else Debian's packages rustc-web,
#                                   cargo-web, rust-web-src, ca-certificates. For tests: the target's, by rustup, does
#   gcc for the target, lld-19      link for glibc
#   zig and cargo-zigbuild          link for musl, and for an older glibc (GLIBC=): PyPI's packages, in
#                                   target/cross-tools, in a venv of Debian's python3-venv
#   libsystemd of the target        for the feature `systemd`: Debian's packages, unpacked in
#                                   target/cross-tools. Debian 12 has none for RISC-V
#   Debian 11's libc and libsystemd run what GLIBC=2.31 made, unpacked in target/cross-tools; where they cannot
#                                   be had, this machine's do
#   qemu-user-static, openssl       run what was built, over TLS, too
#
# Debian packages are installed by root, and by others through sudo when INSTALL=1 is set; else the
# script names them and ends with status 69.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/cross-targets.sh

target=${1:?which target} for=${2:-programs}
about "$target"
zig_version=0.17.1 cargo_zigbuild_version=0.24.1     # those that the programs were built with
lld=/usr/bin/ld.lld-19
missing=()

main() {
    has_library || add_library
    has_library || missing+=(rustc-web cargo-web rust-web-src ca-certificates)
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v "$qemu" >/dev/null || missing+=(qemu-user-static)
    command -v readelf >/dev/null || missing+=(binutils)
    [ "$for" = tests ] || command -v openssl >/dev/null || missing+=(openssl)
    if [ "$(linker)" = gcc ]; then
        command -v "$triplet-gcc" >/dev/null || missing+=("gcc-$triplet")
        [ "$for" = tests ] || [ -x "$lld" ] || missing+=("${lld##*/ld.}")
    elif ! has_zig; then
        command -v python3 >/dev/null || missing+=(python3)
        # Debian splits venv off python3; ensurepip is the part that is left out
        python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    fi
    if [[ $target = *gnu* ]]; then
        # the emulated programs' C library, too
        [ -e "/usr/$triplet/include/stdlib.h" ] || missing+=("libc6-dev-$debian-cross")
        command -v pkg-config >/dev/null || missing+=(pkg-config)
    fi
    install_packages
    mkdir -p "$tools_folder/lld"
    ln -sf "$lld" "$tools_folder/lld/ld.lld"       # the name that gcc asks for
    if [ "$(linker)" = zig ]; then install_zig; fi
    [ "$for" = tests ] || case $target in riscv64*) ;; *gnu*) fetch_libsystemd ;; esac
    [ "${GLIBC:-}" != 2.31 ] || fetch_debian_11 || echo "Debian 11's libraries cannot be had: this machine's run it" >&2
}

zig_mark() { echo "$zig/installed-$zig_version-$cargo_zigbuild_version"; }

has_zig() { [ -e "$(zig_mark)" ]; }

has_library() {
    rustc_with_source >/dev/null || { [ "$for" = tests ] && has_target "$target"; }
}

add_library() {
    command -v rustup >/dev/null || return 0
    # without network, or for a target that rustup does not have, Debian's packages are next
    if [ "$for" = tests ]; then
        timeout 300 rustup target add "$target" >/dev/null 2>&1 || true
    else
        timeout 300 rustup component add rust-src >/dev/null 2>&1 || true
    fi
}

install_packages() {
    [ ${#missing[@]} -gt 0 ] || return 0
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        [ -z "${INSTALL:-}" ] || as_root=(sudo)
        if [ ${#as_root[@]} = 0 ] || ! sudo true 2>/dev/null; then
            echo "missing for $target: ${missing[*]} (names of Debian packages); install them as" \
                "root, or say INSTALL=1" >&2
            exit 69
        fi
    fi
    echo "installing for $target: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

install_zig() {
    ! has_zig || return 0
    echo "installing zig $zig_version and cargo-zigbuild $cargo_zigbuild_version from PyPI into $zig"
    rm -rf "$zig"
    python3 -m venv "$zig"
    "$zig/bin/pip" install --quiet --disable-pip-version-check "ziglang==$zig_version" \
        "cargo-zigbuild==$cargo_zigbuild_version"
    touch "$(zig_mark)"
}

fetch_libsystemd() {
    [ -z "$(libsystemd "$target")" ] || return 0
    unpack libsystemd libsystemd-dev libsystemd0 libcap2 libgcrypt20 libgpg-error0 liblz4-1 liblzma5 libzstd1
}

fetch_debian_11() {
    [ -z "$(debian_11)" ] || return 0
    local list=$tools_folder/debian-11.list
    echo 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bullseye main' >"$list"
    sources=(-o "Dir::Etc::SourceList=$list" -o Dir::Etc::SourceParts=/dev/null)
    unpack debian-11 libc6 libgcc-s1 libsystemd0 libcap2 libgcrypt20 libgpg-error0 liblz4-1 liblzma5 libzstd1
}

# Another architecture's packages into a folder of a name, without making it one of this machine's: apt with lists of
# its own, of the machine's sources or those in `sources`.
sources=()
unpack() {
    local folder=$tools_folder/$1-$debian apt=$tools_folder/apt-$1-$debian package
    shift
    echo "fetching $* for $debian into $folder"
    rm -rf "$apt/packages"
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/packages" "$folder"
    local options=(-qq -o "APT::Architecture=$debian" -o "APT::Architectures=$debian"
        -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt" -o Dir::State::status=/dev/null
        -o Debug::NoLocking=1 -o APT::Sandbox::User=root "${sources[@]}")
    # a list that is being changed at the mirror is left out, and the others serve
    apt-get "${options[@]}" update 2>/dev/null || true
    (cd "$apt/packages" && apt-get "${options[@]}" download "$@") || return
    for package in "$apt"/packages/*.deb; do dpkg-deb -x "$package" "$folder" || return; done
}

main
