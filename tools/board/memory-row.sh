#!/usr/bin/env bash
# Write into docs/footprint.md how much memory the daemon had in the run that docs/board-test.md shows.
#
#   tools/board/memory-row.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

run=docs/board-test.md page=docs/footprint.md
begin='<!-- tools/board-test.sh writes from here -->'
end='<!-- tools/board-test.sh wrote to here -->'

fail() { echo "$*" >&2; exit 1; }

grep -qxF "$begin" "$page" && grep -qxF "$end" "$page" || fail "no marks in $page"
# as board.py says it
figures=$(sed -nE 's/^ *[0-9.]+ ([0-9]+) of at most ([0-9]+) KiB of PSS$/\1 \2/p' "$run" | sort -n | tail -n 1)
[ -n "$figures" ] || fail "no figure of memory in $run"
read -r most limit <<<"$figures"
# runs from before they named it have none
source=$(sed -nE 's/^ *[0-9.]+ package .*, source ([0-9a-f]+)-[0-9a-f]+$/\1/p' "$run" | head -n 1)

rows="| an arm64 board under systemd, with an uplink over TLS ([board-test.md](board-test.md)) | |
|---|--:|
| memory (PSS), the most that was seen, of at most $limit KiB | $most KiB |"
[ -z "$source" ] || rows+=$'\n'"| source | \`${source:0:8}\` |"
written=$(awk -v begin="$begin" -v end="$end" -v rows="$rows" '
    $0 == end { skip = 0 }
    !skip { print }
    $0 == begin { print rows; skip = 1 }
' "$page")
echo "$written" >"$page"
