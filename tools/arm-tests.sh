#!/usr/bin/env bash
# Run the tests of the packages that every frame goes through on ARM, 64 and 32 bits, under an emulator
# (qemu-user): 32 bits catch what 64 hide.
#
#   tools/arm-tests.sh [TARGET...]
#
# Needs what tools/cross-needs.sh installs; as root, or with INSTALL=1. Where that cannot be had they
# are skipped, and the script says so; with FASTPORT_NO_SKIP it fails. Property tests try fewer cases here, as what
# they look for with many they look for on this machine; PROPTEST_CASES=256 for more.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/cross-targets.sh

packages=(fastport-wire fastport-core fastport-seal fastport-pack)
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf)

run() {
    local target=$1 rustc=rustc cargo=${CARGO:-cargo} library=()
    # macros and build scripts are there already
    local out=${CARGO_TARGET_DIR:-$PWD/target}
    about "$target"
    if ! tools/cross-needs.sh "$target" tests; then
        echo "SKIPPED: tests on $target. The line above names what is missing."
        if [ -n "${FASTPORT_NO_SKIP:-}" ]; then exit 1; fi
        return
    fi
    if ! has_target "$target"; then
        rustc=$(rustc_with_source) library=(-Zbuild-std=std,panic_unwind,test) out=$out/arm-tests
        if [ "$rustc" = /usr/bin/rustc ]; then cargo=/usr/bin/cargo; fi
        export RUSTC_BOOTSTRAP=1
    fi
    local variable=CARGO_TARGET_${name^^} selected=()
    local package
    for package in "${packages[@]}"; do selected+=(--package "$package"); done
    env RUSTC="$rustc" "${variable}_LINKER=$triplet-gcc" PROPTEST_CASES="${PROPTEST_CASES:-16}" \
        "${variable}_RUNNER=env ${cpu:+QEMU_CPU=$cpu} $qemu -L /usr/$triplet" \
        "$cargo" test --locked "${selected[@]}" --features fastport-wire/std --lib --tests \
        --target "$target" --target-dir "$out" "${library[@]}"
}

for target in "${targets[@]}"; do run "$target"; done
