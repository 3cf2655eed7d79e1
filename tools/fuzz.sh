#!/usr/bin/env bash
# Run targets of fuzz/, each for some seconds: tools/fuzz.sh [SECONDS=60 [TARGET...]]; without a name all.
# Needs a nightly toolchain, for the sanitizer; builds cargo-fuzz into target/tools where it is not
# installed. Inputs found here are kept in fuzz/target/corpus; fuzz/corpus holds the seeds and is only read.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
version=0.13.2
export PATH=$PATH:$PWD/target/tools/bin

if ! [ -f fuzz/Cargo.toml ]; then
    echo "SKIPPED: fuzz. There is no fuzz/Cargo.toml yet."
    exit 0
fi
if ! rustc +nightly -V >/dev/null 2>&1; then
    echo "fuzzing needs a nightly toolchain: rustup toolchain install nightly --profile minimal" >&2
    exit 69
fi
if ! command -v cargo-fuzz >/dev/null; then
    echo "cargo-fuzz is not installed: building $version into target/tools"
    CARGO_TARGET_DIR=$PWD/target/tools/build cargo install cargo-fuzz --version "$version" \
        --locked --debug --quiet --root "$PWD/target/tools"
    rm -rf target/tools/build
fi

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
[ ${#targets[@]} -gt 0 ] || { echo "fuzz/ has no targets" >&2; exit 1; }
for target in "${targets[@]}"; do
    found=fuzz/target/corpus/$target
    mkdir -p "$found" fuzz/target/log
    corpora=("$found")
    [ ! -d "fuzz/corpus/$target" ] || corpora+=("fuzz/corpus/$target")
    log=fuzz/target/log/$target
    echo "== $target, $seconds s, log in $log"
    if ! cargo +nightly fuzz run "$target" "${corpora[@]}" -- \
        -max_total_time="$seconds" -print_final_stats=1 >"$log" 2>&1
    then
        tail -60 "$log"
        echo "== $target: FAILED"
        exit 1
    fi
    grep '^stat::' "$log"
done
