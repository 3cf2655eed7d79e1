#!/usr/bin/env bash
# Measure what the programs cost, and write it to docs/footprint.md: their size for each target that can
# be built here, then the daemon's memory, wake-ups and start (benches/footprint).
set -euo pipefail
cd "$(dirname "$0")/.."

page=docs/footprint.md
begin='<!-- tools/footprint.sh writes from here -->'
end='<!-- tools/footprint.sh wrote to here -->'
sizes=$(mktemp)
trap 'rm -f "$sizes" "$sizes.page"' EXIT

grep -qxF "$begin" "$page" && grep -qxF "$end" "$page" || { echo "no marks in $page" >&2; exit 1; }
tools/binary-sizes.sh | tee "$sizes"
awk -v begin="$begin" -v end="$end" -v sizes="$sizes" '
    $0 == end { skip = 0 }
    !skip { print }
    $0 == begin { while ((getline line < sizes) > 0) print line; skip = 1 }
' "$page" >"$sizes.page"
cat "$sizes.page" >"$page"
UPDATE_DOCS=1 "${CARGO:-cargo}" bench --locked --bench footprint
