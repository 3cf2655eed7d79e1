#!/usr/bin/env bash
# Print, as rows of a table, how large the programs are, stripped: target, feature set, the daemon, the tool,
# and which state of the sources they are of (tools/source-id.sh). They are those that `make cross` left in
# dist, whatever state that is; with `host` those for this machine, too, which are built.
#
#   tools/binary-sizes.sh [host]
set -euo pipefail
cd "$(dirname "$0")/.."

main() {
    [ "${1:-}" != host ] || rows_of_this_machine
    local folder
    for folder in dist/*/{minimal,edge,central}; do
        [ ! -e "$folder/source" ] ||
            row "$(basename "$(dirname "$folder")")" "$(basename "$folder")" "$folder" "$(cat "$folder/source")"
    done
}

rows_of_this_machine() {
    local out=${CARGO_TARGET_DIR:-$PWD/target}/footprint host set
    host=$(rustc -vV | sed -n 's/^host: //p')
    for set in minimal edge central; do
        "${CARGO:-cargo}" build --release --locked --bins --quiet --target-dir "$out" \
            --no-default-features --features "$set" >&2
        row "$host" "$set" "$out/release" "$(tools/source-id.sh)"
    done
}

row() { echo "| \`$1\` | $2 | $(size "$3/fastportd") | $(size "$3/fastport") | \`${4:0:8}\` |"; }

size() { stat -c %s "$1" | sed -E ':a; s/([0-9])([0-9]{3})($| )/\1 \2\3/; ta'; }

main "$@"
