#!/usr/bin/env bash
# Build both programs for another machine, without containers, and run them under its emulator.
#
#   tools/cross.sh TARGET [SET]         SET: minimal, edge (the default) or central
#
#   TARGET                          C compiler and linker       for
#   aarch64-unknown-linux-gnu       gcc-aarch64-linux-gnu       64-bit boards
#   armv7-unknown-linux-gnueabihf   gcc-arm-linux-gnueabihf     32-bit boards, ARMv7
#   riscv64gc-unknown-linux-gnu     gcc-riscv64-linux-gnu       RISC-V
#   aarch64-unknown-linux-musl      zig, static                 64-bit boards, any Linux
#   armv7-unknown-linux-musleabihf  zig, static                 ARMv7, any Linux
#   arm-unknown-linux-musleabihf    zig, static                 ARMv6: Pi Zero, Pi 1. (Debian's armhf
#                                                               C library is ARMv7: no gnu target)
#
# The programs are in dist/TARGET/SET, with GLIBC= in dist/TARGET.GLIBC/SET. Paths of this machine and the
# day are kept out of them, so that the same source gives the same bytes; tools/reproducible.sh shows
# whether it does.
# All six were built as edge and as central and run under an emulator; with GLIBC=2.31, under Debian 11's C library,
# the first as both and the second as edge.
#
# INSTALL=1   what is missing is installed (tools/cross-needs.sh says what it is)
# GLIBC=2.31  the oldest C library to run on, with zig as linker; else 2.36, that of Debian 12
# OPT=s       what runs once is made as small as the release profile has it, as for central. The default for
#             minimal and edge is z: still smaller, and a message that comes alone takes more instructions
#             (docs/decisions.md)
# CHECK=0     the programs are not run
# STRICT_SIZE=1   a daemon over its size (docs/footprint.md) is an error, not a warning
#
# The standard library is built from its source with the programs, for size as they are: rustup's component
# rust-src, or Debian's rustc-web, cargo-web and rust-web-src.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/cross-targets.sh

[ $# -ge 1 ] && [ $# -le 2 ] || { sed -n '2,30p' "$0" >&2; exit 64; }
target=$1 set=${2:-edge}
about "$target"
case $set in
    minimal | edge | central) ;;
    *) echo "no feature set $set; there are minimal, edge and central" >&2; exit 64 ;;
esac
out=${CARGO_TARGET_DIR:-$PWD/target}/cross
programs=dist/$target${GLIBC:+.$GLIBC}/$set

main() {
    tools/cross-needs.sh "$target"
    choose_library
    remap_paths
    choose_features
    "build_by_$(linker)"
    mkdir -p "$programs"
    cp "$out/$target/release/fastportd" "$out/$target/release/fastport" "$programs/"
    tools/source-id.sh >"$programs/source"         # for tools/binary-sizes.sh
    echo "$SOURCE_DATE_EPOCH" >"$programs/date"    # for tools/reproducible.sh
    echo "$programs: fastportd $(stat -c %s "$programs/fastportd") bytes," \
        "fastport $(stat -c %s "$programs/fastport")"
    [ "${CHECK:-1}" = 0 ] || tools/cross-check.sh "$target" "$programs"
}

# The compiler, and how the standard library is built.
choose_library() {
    rustc=$(rustc_with_source) cargo=${CARGO:-cargo}
    if [ "$rustc" = /usr/bin/rustc ]; then cargo=/usr/bin/cargo; fi
    # without what turns addresses into names, of which a stripped program has none
    library=(-Zbuild-std=std,panic_unwind -Zbuild-std-features=panic-unwind,optimize_for_size)
    export RUSTC=$rustc CARGO=$cargo RUSTC_BOOTSTRAP=1
}

# No path of this machine in the programs, and a date that is the source's.
remap_paths() {
    local home=${CARGO_HOME:-$HOME/.cargo} source registry
    source=$("$rustc" --print sysroot)/lib/rustlib/src/rust
    flags=("--remap-path-prefix=$PWD=/fastport" "--remap-path-prefix=$home=/cargo"
        "--remap-path-prefix=$source=/rust")
    for registry in "$home"/registry/src/*; do flags+=("--remap-path-prefix=$registry=/crates"); done
    flags+=(
        # the names that tools/start-order.ld has
        -Csymbol-mangling-version=legacy -Zunstable-options
        # what cannot unwind needs no tables, and what can needs none for its last instructions
        -Cforce-unwind-tables=no
        # a value printed for debugging is its variant's name without its fields
        -Zfmt-debug=shallow
        # of each outlined piece of code the unwinder is told in 32 bytes, so only what saves more
        -Cllvm-args=-outliner-benefit-threshold=64)
    # what is only written at the start ends at a page of 16 KiB, the largest of any board's kernel, not of 64
    [[ $target != aarch64-* ]] || flags+=(-Clink-arg=-Wl,-z,common-page-size=16384)
    # nothing unwinds through C, and nothing walks its frames
    local cflags=(-fno-asynchronous-unwind-tables -fomit-frame-pointer "-ffile-prefix-map=$PWD=/fastport"
        "-ffile-prefix-map=$home=/cargo")
    # what a central instance's store has and a spool has not
    [ "$set" = central ] || cflags+=(-DSQLITE_OMIT_FOREIGN_KEY -DSQLITE_OMIT_AUTOVACUUM)
    export "CFLAGS_$name=${cflags[*]}"
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(source_date)}
    export SOURCE_DATE_EPOCH
}

# systemd is told by its own library where that can be linked.
choose_features() {
    features=$set,sd-notify
    [ -n "$(libsystemd "$target")" ] || return 0
    features=$set,systemd
    local root
    root=$(libsystemd "$target")
    export PKG_CONFIG_ALLOW_CROSS=1 "PKG_CONFIG_SYSROOT_DIR_$name=$root" \
        "PKG_CONFIG_LIBDIR_$name=$root/usr/lib/$triplet/pkgconfig"
    flags+=("-Clink-arg=-Wl,-rpath-link,$root/usr/lib/$triplet:$root/lib/$triplet")
}

build() {
    local rustflags=CARGO_TARGET_${name^^}_RUSTFLAGS opt=${OPT:-z} keep=() package
    [ "$set" != central ] || opt=${OPT:-s}
    # what runs for each message, each row and each handshake stays at s
    for package in tokio bytes libsqlite3-sys ring hmac sha2; do
        keep+=(--config "profile.release.package.$package.opt-level='s'")
    done
    export "$rustflags=${flags[*]}" "CARGO_PROFILE_RELEASE_OPT_LEVEL=$opt"
    "$@" --release --locked --bins --no-default-features --features "$features" "${keep[@]}" \
        --target-dir "$out" "${library[@]}"
}

# lld has a short form for what is relocated at the start (glibc from 2.36 on reads it), and keeps one of
# functions that came out the same; nothing here asks whether two addresses differ.
build_by_gcc() {
    flags+=("-Clink-arg=-B$tools_folder/lld" -Clink-arg=-fuse-ld=lld
        -Clink-arg=-Wl,-z,pack-relative-relocs,--icf=all)
    export "CARGO_TARGET_${name^^}_LINKER=$triplet-gcc" "CC_$name=$triplet-gcc" "AR_$name=$triplet-ar"
    build "$cargo" build --target "$target"
}

build_by_zig() {
    # rustup's musl brings crt1.o and libunwind; built from source there are none, and zig has both
    [[ $target != *musl* ]] || flags+=(-Clink-self-contained=no)
    # a library of another age than the C library that is linked for
    [ -z "${GLIBC:-}" ] || flags+=(-Clink-arg=-Wl,--allow-shlib-undefined)
    PATH=$zig/bin:$PATH build "$zig/bin/cargo-zigbuild" zigbuild --target "$target${GLIBC:+.$GLIBC}"
}

main
