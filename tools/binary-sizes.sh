#!/usr/bin/env bash
# Print, as a table, how large the programs are, by target and feature set, built with the release
# profile and stripped. A target is built where the machine has the standard library for it (rustup's,
# or Debian's source of it: apt-get install rustc-web cargo-web rust-web-src) and the C cross compiler
# (gcc-aarch64-linux-gnu and so on); else its row says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${CARGO_TARGET_DIR:-$PWD/target}/footprint
cargo=${CARGO:-cargo}
host=$(rustc -vV | sed -n 's/^host: //p')

# target, C compiler
targets=(
    "x86_64-unknown-linux-gnu x86_64-linux-gnu-gcc"
    "aarch64-unknown-linux-gnu aarch64-linux-gnu-gcc"
    "armv7-unknown-linux-gnueabihf arm-linux-gnueabihf-gcc"
    "riscv64gc-unknown-linux-gnu riscv64-linux-gnu-gcc"
    "x86_64-unknown-linux-musl musl-gcc"
)
features=("" systemd)

has_std() { [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ]; }
has_debian_source() {
    [ -x /usr/bin/rustc ] && [ -f "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ]
}

# Builds both programs; $1 target, $2 compiler, $3 features. Prints why not.
build() {
    local target=$1 compiler=$2 features=$3 name
    command -v "$compiler" >/dev/null || { echo "no $compiler here"; return 1; }
    if [ "$features" = systemd ] && [ "$target" != "$host" ]; then
        echo "libsystemd is looked for on this machine only"
        return 1
    fi
    name=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_LINKER
    local flags=(build --release --locked --bins --quiet --target "$target" --target-dir "$out"
        --features "$features")
    if has_std "$target"; then
        env "$name=$compiler" "CC_${target//-/_}=$compiler" "$cargo" "${flags[@]}" >&2
    elif has_debian_source; then
        env "$name=$compiler" "CC_${target//-/_}=$compiler" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
            /usr/bin/cargo "${flags[@]}" -Zbuild-std=std,panic_unwind >&2
    else
        echo "no standard library for it here"
        return 1
    fi || { echo "does not build here"; return 1; }
}

size() { stat -c %s "$1" | sed -E ':a; s/([0-9])([0-9]{3})($| )/\1 \2\3/; ta'; }

echo "| target | features | \`fastportd\`, bytes | \`fastport\`, bytes |"
echo "|---|---|--:|--:|"
for row in "${targets[@]}"; do
    read -r target compiler <<<"$row"
    for set in "${features[@]}"; do
        if why=$(build "$target" "$compiler" "$set"); then
            folder=$out/$target/release
            echo "| \`$target\` | ${set:-default} | $(size "$folder/fastportd") | $(size "$folder/fastport") |"
        else
            echo "| \`$target\` | ${set:-default} | not built: $why | |"
        fi
    done
done
