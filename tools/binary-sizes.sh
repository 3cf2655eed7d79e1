#!/usr/bin/env bash
# Print, as a table, how large the programs are, by target and feature set, stripped. For this machine they
# are built; for others it is what `make cross TARGET=… SET=…` left in dist, if that is of this source.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${CARGO_TARGET_DIR:-$PWD/target}/footprint
host=$(rustc -vV | sed -n 's/^host: //p')
sets=(minimal edge central)
targets=(
    aarch64-unknown-linux-gnu
    armv7-unknown-linux-gnueabihf
    riscv64gc-unknown-linux-gnu
    aarch64-unknown-linux-musl
    armv7-unknown-linux-musleabihf
    arm-unknown-linux-musleabihf
)

size() { stat -c %s "$1" | sed -E ':a; s/([0-9])([0-9]{3})($| )/\1 \2\3/; ta'; }

row() { echo "| \`$1\` | $2 | $(size "$3/fastportd") | $(size "$3/fastport") |"; }

echo "| target | feature set | \`fastportd\`, bytes | \`fastport\`, bytes |"
echo "|---|---|--:|--:|"
for set in "${sets[@]}"; do
    "${CARGO:-cargo}" build --release --locked --bins --quiet --target-dir "$out" --no-default-features \
        --features "$set" >&2
    row "$host" "$set" "$out/release"
done
for target in "${targets[@]}"; do
    for set in "${sets[@]}"; do
        folder=dist/$target/$set
        [ -e "$folder/fastport" ] || continue
        if [ "$(cat "$folder/source")" = "$(tools/source-id.sh)" ]; then
            row "$target" "$set" "$folder"
        else
            echo "| \`$target\` | $set | not built of this source | |"
        fi
    done
done
