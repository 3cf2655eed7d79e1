#!/usr/bin/env bash
# Prove that fastport-wire and fastport-seal need neither std nor alloc, and fastport-core and fastport-pack no std, by
# building them for a microcontroller that has none (Cortex-M4F). With INSTALL=1 what is missing is installed by apt-get.
#
# core and alloc for the target come from the first of these that is there:
#   1. the toolchain's own target        rustup target add thumbv7em-none-eabihf (tried by itself)
#   2. the toolchain's library source    rustup component add rust-src
#   3. Debian's toolchain with source    apt-get install rustc-web cargo-web rust-web-src
# With none of them the proof is skipped, and the script says so.
set -euo pipefail
cd "$(dirname "$0")/.."

target=thumbv7em-none-eabihf
out=${CARGO_TARGET_DIR:-$PWD/target}                # what runs on this machine is there already
debian=(rustc-web cargo-web rust-web-src)

has_target() { [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; }
has_source() { [ -f "$("$1" --print sysroot)/lib/rustlib/src/rust/library/core/Cargo.toml" ]; }

main() {
    # BUILD_STD=1 leaves out the first way, so that the others can be tried where all are there
    if [ -z "${BUILD_STD:-}" ]; then
        if ! has_target && command -v rustup >/dev/null; then
            timeout 120 rustup target add "$target" >/dev/null 2>&1 || true   # then the next way
        fi
        if has_target; then by_target; return; fi
    fi
    if has_source rustc; then by_source rustc cargo; return; fi
    if ! debian_has_source && [ -n "${INSTALL:-}" ] && [ "$(id -u)" = 0 ]; then
        echo "installing for the proof: ${debian[*]}"
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${debian[@]}"; } \
            >/dev/null || true                                                # then it is skipped
    fi
    if debian_has_source; then by_source /usr/bin/rustc /usr/bin/cargo; return; fi
    echo "SKIPPED: no_std. No core library for $target here; one of these brings it:"
    echo "         rustup target add $target"
    echo "         rustup component add rust-src"
    echo "         apt-get install ${debian[*]}"
}

debian_has_source() { [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && has_source /usr/bin/rustc; }

# The target has alloc too. A program that links alloc anywhere must have an allocator, and this one
# has none: so wire and seal must link, and core, which does use alloc, must be refused, or the proof is worth
# nothing.
by_target() {
    for package in fastport-wire fastport-seal fastport-core fastport-pack; do
        CARGO_TARGET_THUMBV7EM_NONE_EABIHF_RUSTFLAGS=-Dwarnings cargo build --quiet --locked \
            --package "$package" --target "$target" --target-dir "$out"
    done
    for library in fastport_wire fastport_seal; do
        link_without_allocator "$library" || { echo "$library does not link without alloc" >&2; exit 1; }
    done
    local refusal
    if refusal=$(link_without_allocator fastport_core 2>&1) ||
        [[ $refusal != *"no global memory allocator found"* ]]; then
        printf 'the proof is void: fastport-core was not refused for its allocations\n%s\n' "$refusal" >&2
        exit 1
    fi
    echo "no_std: fastport-wire and fastport-seal link for $target without alloc, fastport-core builds without std"
}

link_without_allocator() {
    local built=$out/$target/debug
    printf '%s\n' '#![no_std]' "extern crate $1 as _;" '#[panic_handler]' \
        'fn halt(_: &core::panic::PanicInfo<'"'"'_>) -> ! { loop {} }' |
        rustc - --edition 2024 --crate-type staticlib --crate-name "links_$1" --target "$target" \
            -C panic=abort --extern "$1=$built/lib$1.rlib" -L "dependency=$built/deps" \
            -L "dependency=$out/debug/deps" \
            -o "$built/liblinks_$1.a"
}

# Only the named libraries exist: an `extern crate alloc` in wire does not compile.
by_source() {
    local rustc=$1 cargo=$2
    for package in wire:core seal:core core:core,alloc pack:core,alloc; do
        RUSTC=$rustc RUSTC_BOOTSTRAP=1 "$cargo" build --quiet --locked --package "fastport-${package%%:*}" \
            --target "$target" --target-dir "$out/no-std-source" "-Zbuild-std=${package#*:}"
    done
    echo "no_std: fastport-wire and fastport-seal build for $target on core alone, fastport-core on core and alloc" \
        "($("$rustc" -V))"
}

main
