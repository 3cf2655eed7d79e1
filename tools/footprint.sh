#!/usr/bin/env bash
# Measure what the programs cost, and write it to docs/footprint.md: their sizes, then the daemon's memory,
# wake-ups and start (benches/footprint).
#
#   tools/footprint.sh [sizes]      sizes: only those of what `make cross` has built
#
# A size that cannot be measured now, as nothing is built for that target, stays as it stands there; each
# row says which state of the sources it is of. With STRICT_SIZE=1 a size over its limit is an error, after all is written.
set -euo pipefail
cd "$(dirname "$0")/.."

page=docs/footprint.md
begin='<!-- tools/footprint.sh writes from here -->'
end='<!-- tools/footprint.sh wrote to here -->'
sizes=$(mktemp)
trap 'rm -f "$sizes" "$sizes".*' EXIT

main() {
    grep -qxF "$begin" "$page" && grep -qxF "$end" "$page" || { echo "no marks in $page" >&2; exit 1; }
    local host=host
    [ "${1:-}" != sizes ] || host=''
    tools/binary-sizes.sh $host >"$sizes.new"
    table | tee "$sizes"
    awk -v begin="$begin" -v end="$end" -v sizes="$sizes" '
        $0 == end { skip = 0 }
        !skip { print }
        $0 == begin { while ((getline line < sizes) > 0) print line; skip = 1 }
    ' "$page" >"$sizes.page"
    cat "$sizes.page" >"$page"
    [ -z "$host" ] || UPDATE_DOCS=1 "${CARGO:-cargo}" bench --locked --bench footprint
    check_sizes
}

check_sizes() {
    local folder
    for folder in dist/*/{minimal,edge}; do
        [ ! -e "$folder/source" ] || echo "$folder"
    done | xargs -r tools/check-size.sh
}

# The page's rows and the new ones, which replace those of the same target and set.
table() {
    echo "| target | feature set | \`fastportd\`, bytes | \`fastport\`, bytes | source |"
    echo "|---|---|--:|--:|---|"
    sed -n "\|^$begin\$|,\|^$end\$|p" "$page" | grep '^| `' | cat - "$sizes.new" | awk -F '|' '
        { row[$2, $3] = $0; set[$3]; if (!($2 in target)) { target[$2]; order[++targets] = $2 } }
        END {
            sets = split(" minimal , edge , central ", each, ",")
            for (i = 1; i <= targets; i++) for (j = 1; j <= sets; j++)
                if ((order[i], each[j]) in row) print row[order[i], each[j]]
        }'
    echo
    echo "\`source\` is the state of the sources as \`tools/source-id.sh\` prints it; it was" \
        "\`$(tools/source-id.sh | cut -c1-8)\` when this was written."
}

main "$@"
